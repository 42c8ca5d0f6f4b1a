package topk_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

func filterOf(t *testing.T, text string) topk.Filter {
	t.Helper()
	f, err := topk.ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// The baseline is right before the window, everyone's plays are in it.
func TestComparisonSides(t *testing.T) {
	now := time.Date(2025, 11, 24, 16, 7, 30, 0, time.UTC)
	const layout = "01-02T15:04:05.000"
	for _, test := range []struct {
		filter, window string
		reference      topk.Reference
		want, from, to string // of the reference; "" when there is none
	}{
		{"region:IN", "1h", topk.Baseline, "region:IN", "11-23T15:07:00.000", "11-24T15:07:00.000"},
		{"global", "24h", topk.Baseline, "global", "11-16T16:07:00.000", "11-23T16:07:00.000"},
		{"genre:pop", "7d", topk.Baseline, "genre:pop", "10-20T16:07:00.000", "11-17T16:07:00.000"},
		{"global", "30d", topk.Baseline, "", "", ""},
		{"global", "today", topk.Baseline, "", "", ""},
		{"region:IN", "1h", topk.Everywhere, "global", "11-24T15:07:00.000", "11-24T16:07:30.001"},
		{"region:IN,genre:pop,device:tv", "30d", topk.Everywhere, "genre:pop", "10-25T16:07:00.000", "11-24T16:07:30.001"},
		{"artist:x,playlist:p", "today", topk.Everywhere, "artist:x", "11-24T00:00:00.000", "11-24T16:07:30.001"},
		{"genre:pop,artist:x", "1h", topk.Everywhere, "", "", ""},
		{"global", "1h", topk.Everywhere, "", "", ""},
		{"global", "1h", "mars", "", "", ""},
	} {
		w, err := topk.ParseWindow(test.window)
		if err != nil {
			t.Fatal(err)
		}
		q := topk.ComparisonQuery{Filter: filterOf(t, test.filter), Window: w, Reference: test.reference, Now: now}
		window, reference, err := q.Sides(topk.DefaultCalendar())
		if test.want == "" {
			if !errors.Is(err, topk.ErrInvalid) {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if err != nil || window.Filter.String() != q.Filter.String() || window.Span != w.At(now, topk.DefaultCalendar()) {
			t.Errorf("%+v: %+v, %v", test, window, err)
		}
		if reference.Filter.String() != test.want || reference.Span.Start.Format(layout) != test.from || reference.Span.End.Format(layout) != test.to {
			t.Errorf("%+v: %+v", test, reference)
		}
	}
}

// Steps follow each other without gaps, each instant lies in its own, and days
// and weeks are those of closed charts.
func TestGrainSteps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := rapid.SampledFrom([]topk.Grain{topk.HourGrain, topk.DayGrain, topk.WeekGrain}).Draw(t, "grain")
		cal := topk.Calendar{WeekStart: time.Weekday(rapid.IntRange(0, 6).Draw(t, "week start"))}
		at := time.UnixMilli(rapid.Int64Range(0, 4e12).Draw(t, "at")).UTC()
		step := g.Containing(at, cal)
		if !step.Contains(at) || step.End.Sub(step.Start) != g.Length() {
			t.Fatalf("%s of %s is %+v", g, at, step)
		}
		if next := g.Containing(step.End, cal); next.Start != step.End {
			t.Fatalf("after %+v comes %+v", step, next)
		}
		if p, closes := g.Period(); closes == (g == topk.HourGrain) || closes && p.Containing(at, cal) != step {
			t.Fatalf("%s closes %t as %s", g, closes, p)
		}
	})
}
