package queries

import (
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// A plan splits a span of event time among the grains, so that every instant
// is counted by exactly one of them and as few rows as possible are read:
//
//	from ──raw──▶ hourFrom ──hours──▶ dayFrom ──days──▶ dayTo ──hours──▶ hourTo ──raw──▶ to
//
// The bounds never decrease from left to right. Where a span holds no whole
// hour or day, the grain's bounds meet and it reads nothing.
type plan struct {
	from, hourFrom, dayFrom, dayTo, hourTo, to time.Time
}

const day = 24 * time.Hour

func planOf(s topk.Span) plan {
	p := plan{from: s.Start, to: s.End}
	p.hourFrom, p.hourTo = ceil(s.Start, time.Hour), s.End.Truncate(time.Hour)
	if !p.hourFrom.Before(p.hourTo) {
		p.hourFrom, p.dayFrom, p.dayTo, p.hourTo = p.to, p.to, p.to, p.to
		return p
	}
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

// rawPlan counts the whole span from the log.
func rawPlan(s topk.Span) plan { return plan{s.Start, s.End, s.End, s.End, s.End, s.End} }

// oldestRaw is the oldest instant that is counted from the log, if there is any.
func (p plan) oldestRaw() (oldest time.Time, raw bool) {
	switch {
	case p.from.Before(p.hourFrom):
		return p.from, true
	case p.hourTo.Before(p.to):
		return p.hourTo, true
	}
	return time.Time{}, false
}

// args binds the plan's bounds.
func (p plan) args() []any { return p.argsOf("") }

// argsOf binds the bounds of one of several plans of a statement.
func (p plan) argsOf(suffix string) []any {
	return []any{
		sqlfile.Instant("from"+suffix, p.from), sqlfile.Instant("hourFrom"+suffix, p.hourFrom), sqlfile.Instant("dayFrom"+suffix, p.dayFrom),
		sqlfile.Instant("dayTo"+suffix, p.dayTo), sqlfile.Instant("hourTo"+suffix, p.hourTo), sqlfile.Instant("to"+suffix, p.to),
		sqlfile.Instant("atFrom"+suffix, p.atFrom()),
	}
}

// atFrom bounds from below when a play of the raw edges can have come in.
func (p plan) atFrom() time.Time {
	if oldest, raw := p.oldestRaw(); raw && oldest.Unix() > int64(MaxAhead.Seconds()) {
		return oldest.Add(-MaxAhead)
	}
	return time.UnixMilli(0)
}
