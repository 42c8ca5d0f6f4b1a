package queries

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

// counts tells how often a plan counts a play of an instant: of the rollups it
// knows but the hour and the day.
func (p plan) counts(ts time.Time) (n int) {
	between := func(ts, from, to time.Time) int {
		switch {
		case !ts.Before(from) && ts.Before(to):
			return 1
		case !ts.Before(to) && ts.Before(from):
			return -1
		}
		return 0
	}
	hour, midnight := ts.Truncate(time.Hour), ts.Truncate(day)
	return between(ts, p.from, p.hourFrom) + between(hour, p.hourFrom, p.dayFrom) + between(midnight, p.dayFrom, p.dayTo) +
		between(hour, p.dayTo, p.hourTo) + between(ts, p.hourTo, p.to)
}

// rawTime is how much of what has happened a plan counts play by play.
func (p plan) rawTime(now time.Time) time.Duration {
	length := func(a, b time.Time) time.Duration {
		if b.Before(a) {
			a, b = b, a
		}
		return topk.Earlier(b, now).Sub(topk.Earlier(a, now))
	}
	return length(p.from, p.hourFrom) + length(p.hourTo, p.to)
}

// Every plan counts every instant of its span once, and no other; and looks at
// as few plays one by one as bounds on whole hours allow.
func TestPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := time.Date(2025, 11, 18, 0, 0, 0, 0, time.UTC)
		instant := func(name string) time.Time {
			at := base.Add(time.Duration(rapid.Int64Range(0, 4*24*60).Draw(t, name+", minutes")) * time.Minute)
			return at.Add(time.Duration(rapid.SampledFrom([]int64{-1, 0, 0, 1, 30_000}).Draw(t, name+", ms")) * time.Millisecond)
		}
		s := topk.Span{Start: instant("from"), End: instant("to")}
		if !s.Start.Before(s.End) {
			s = topk.Span{Start: s.End, End: s.Start.Add(time.Millisecond)}
		}
		now := instant("now")
		p, inner, raw := planOf(s, now), innerPlan(s), rawPlan(s)
		if best := min(inner.rawTime(now), raw.rawTime(now)); p.rawTime(now) > best {
			t.Errorf("of %v the plan counts %s play by play; %s would do", s, p.rawTime(now), best)
		}
		for name, p := range map[string]plan{"plan": p, "inner plan": inner, "raw plan": raw} {
			if p.dayFrom.Before(p.hourFrom) || p.dayTo.Before(p.dayFrom) || p.hourTo.Before(p.dayTo) {
				t.Fatalf("%s of %v: bounds out of order: %v", name, s, p)
			}
			for _, at := range []time.Time{s.Start, s.End, p.hourFrom, p.dayFrom, p.dayTo, p.hourTo, now, instant("play")} {
				for _, ts := range []time.Time{at.Add(-time.Millisecond), at, at.Add(time.Millisecond), at.Truncate(time.Hour)} {
					want := 0
					if s.Contains(ts) {
						want = 1
					}
					if got := p.counts(ts); got != want {
						t.Fatalf("%s of %v: a play of %s counts %d times, not %d: %v", name, s, ts, got, want, p)
					}
				}
			}
		}
		if inner.from.After(inner.hourFrom) || inner.hourTo.After(inner.to) {
			t.Errorf("the inner plan of %v takes something off: %v", s, inner)
		}
	})
}

// Of an hour that is under way, what has happened is all there is: nothing of it
// is counted play by play.
func TestPlanOfTheHourUnderWay(t *testing.T) {
	now := time.Date(2025, 11, 18, 7, 40, 0, 0, time.UTC)
	for w, want := range map[topk.Window]time.Duration{
		topk.Last24h: 20 * time.Minute, // from 8 on, less what is missing
		topk.Today:   0,
		topk.AllTime: 0,
	} {
		p := planOf(w.At(now, topk.DefaultCalendar()), now)
		if got := p.rawTime(now); got != want {
			t.Errorf("%s: %s are counted play by play, not %s", w, got, want)
		}
	}
}
