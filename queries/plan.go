package queries

import (
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// A plan splits a span of event time among the grains, so that as few rows as
// possible are read:
//
//	from ──raw──▶ hourFrom ──hours──▶ dayFrom ──days──▶ dayTo ──hours──▶ hourTo ──raw──▶ to
//
// What lies between two bounds counts, and counts negatively where the second
// is the earlier one. Wherever the inner bounds are, the sum is then the span: an
// hour may hold more than the span does, and what is too much is taken off it
// again. hourFrom <= dayFrom <= dayTo <= hourTo; where a span holds no whole hour
// or day, the grain's bounds meet and it reads nothing.
type plan struct {
	from, hourFrom, dayFrom, dayTo, hourTo, to time.Time
}

const day = 24 * time.Hour

var epoch = time.Unix(0, 0).UTC()

// planOf puts the bounds of the hours where, by now, the least has happened
// between them and the span's own: of an hour that is under way, that is its end.
func planOf(s topk.Span, now time.Time) plan {
	happened := func(from, to time.Time) time.Duration { return topk.Earlier(to, now).Sub(topk.Earlier(from, now)) }
	nearest := func(t time.Time) time.Time {
		down, up := t.Truncate(time.Hour), ceil(t, time.Hour)
		if happened(down, t) <= happened(t, up) {
			return down
		}
		return up
	}
	from, to := nearest(s.Start), nearest(s.End)
	raw := happened(topk.Earlier(s.Start, from), topk.Later(s.Start, from)) + happened(topk.Earlier(s.End, to), topk.Later(s.End, to))
	if !from.Before(to) || raw >= happened(s.Start, s.End) {
		return innerPlan(s)
	}
	return withDays(plan{from: s.Start, hourFrom: from, hourTo: to, to: s.End})
}

// innerPlan takes nothing off: it is of the hours that lie wholly in the span.
func innerPlan(s topk.Span) plan {
	p := plan{from: s.Start, hourFrom: ceil(s.Start, time.Hour), hourTo: s.End.Truncate(time.Hour), to: s.End}
	if !p.hourFrom.Before(p.hourTo) {
		return rawPlan(s)
	}
	return withDays(p)
}

// rawPlan counts the whole span from the log.
func rawPlan(s topk.Span) plan { return plan{s.Start, s.End, s.End, s.End, s.End, s.End} }

func withDays(p plan) plan {
	p.dayFrom, p.dayTo = ceil(p.hourFrom, day), p.hourTo.Truncate(day)
	if !p.dayFrom.Before(p.dayTo) {
		p.dayFrom, p.dayTo = p.hourTo, p.hourTo
	}
	return p
}

// ceil is the first whole multiple of d since 1970 that is not before t.
func ceil(t time.Time, d time.Duration) time.Time {
	if down := t.Truncate(d); down.Before(t) {
		return down.Add(d)
	}
	return t
}

// grains are those of which a plan reads something, as statements choose their
// clauses by them.
type grains struct{ Days, Hours, Edges bool }

func (p plan) grains() grains {
	_, days := p.oldestDay()
	_, hours := p.oldestHour()
	_, edges := p.oldestRaw()
	return grains{days, hours, edges}
}

func (g grains) or(other grains) grains {
	return grains{g.Days || other.Days, g.Hours || other.Hours, g.Edges || other.Edges}
}

// Grains lists what is read. What the rollups have not counted yet is their
// tail.
func (g grains) Grains() (names []string) {
	for _, grain := range []struct {
		name string
		read bool
	}{{"days", g.Days}, {"hours", g.Hours}, {"tail", g.Days || g.Hours}, {"edges", g.Edges}} {
		if grain.read {
			names = append(names, grain.name)
		}
	}
	return names
}

// oldestRaw is the oldest instant that is counted from the log, if there is any.
func (p plan) oldestRaw() (oldest time.Time, raw bool) {
	switch {
	case !p.from.Equal(p.hourFrom):
		return topk.Earlier(p.from, p.hourFrom), true
	case !p.hourTo.Equal(p.to):
		return topk.Earlier(p.hourTo, p.to), true
	}
	return time.Time{}, false
}

// oldestHour is the oldest hour that is counted by the hour, if there is any.
func (p plan) oldestHour() (oldest time.Time, hours bool) {
	switch {
	case p.hourFrom.Before(p.dayFrom):
		return p.hourFrom, true
	case p.dayTo.Before(p.hourTo):
		return p.dayTo, true
	}
	return time.Time{}, false
}

// oldestDay is the oldest day that is counted by the day, if there is any.
func (p plan) oldestDay() (oldest time.Time, days bool) {
	return p.dayFrom, p.dayFrom.Before(p.dayTo)
}

// args binds the plan's bounds.
func (p plan) args() []any { return p.argsOf("") }

// argsOf binds the bounds of one of several plans of a statement.
func (p plan) argsOf(suffix string) []any {
	week := topk.Weekly.Containing(cameAfter(p.oldestDay()), topk.Calendar{WeekStart: time.Monday}).Start
	return []any{
		sqlfile.Instant("from"+suffix, p.from), sqlfile.Instant("hourFrom"+suffix, p.hourFrom), sqlfile.Instant("dayFrom"+suffix, p.dayFrom),
		sqlfile.Instant("dayTo"+suffix, p.dayTo), sqlfile.Instant("hourTo"+suffix, p.hourTo), sqlfile.Instant("to"+suffix, p.to),
		sqlfile.Instant("atFrom"+suffix, cameAfter(p.oldestRaw())),
		date("insertedFrom"+suffix, cameAfter(p.oldestHour())), date("weekFrom"+suffix, week),
	}
}

// date binds a day as a Date parameter; there are none before 1970.
func date(name string, t time.Time) any {
	return clickhouse.Named(name, topk.Later(t, epoch).Format(time.DateOnly))
}

// cameAfter bounds from below when plays that happened at an instant or later
// can have come in: some clocks are ahead.
func cameAfter(oldest time.Time, there bool) time.Time {
	if !there {
		return epoch
	}
	return topk.Later(oldest.Add(-MaxAhead), epoch).UTC()
}
