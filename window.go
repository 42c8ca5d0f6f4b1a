package topk

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A Clock tells the time. Logic takes one; only main hands in time.Now.
type Clock func() time.Time

// A Span is a half-open interval of event time, [Start, End), in UTC and whole
// milliseconds.
type Span struct{ Start, End time.Time }

// Contains reports whether t lies in the span.
func (s Span) Contains(t time.Time) bool { return !t.Before(s.Start) && t.Before(s.End) }

// Earlier is the earlier of two instants, a when they are the same.
func Earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Later is the later of two instants, a when they are the same.
func Later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A Window is a rule that gives a Span at any instant: rolling (the last 24
// hours), to date (this week so far), everything, or a fixed interval.
// Windows are comparable. The zero Window is invalid.
type Window struct {
	name     string        // "24h", "today"; "" for a fixed interval
	length   time.Duration // of a rolling window
	from, to int64         // of a fixed interval, epoch ms
}

// The named windows. A rolling window of length L at instant t is
// [floor_minute(t) - L, t]; the ones to date start at midnight UTC.
var (
	LastHour   = Window{name: "1h", length: time.Hour}
	Last24h    = Window{name: "24h", length: 24 * time.Hour}
	Last7d     = Window{name: "7d", length: 7 * 24 * time.Hour}
	Last30d    = Window{name: "30d", length: 30 * 24 * time.Hour}
	AllTime    = Window{name: "all"}
	Today      = Window{name: "today"}
	ThisWeek   = Window{name: "this-week"}
	namedOrder = []Window{LastHour, Last24h, Last7d, Last30d, AllTime, Today, ThisWeek}
)

// Windows lists the named windows.
func Windows() []Window { return slices.Clone(namedOrder) }

// ParseWindow reads a named window: 1h, 24h, 7d, 30d, all, today, this-week.
func ParseWindow(s string) (Window, error) {
	for _, w := range namedOrder {
		if w.name == s {
			return w, nil
		}
	}
	return Window{}, invalid(fmt.Sprintf("unknown window %q; use 1h, 24h, 7d, 30d, all, today or this-week, or from and to", s))
}

// Between is the fixed window [from, to), in whole milliseconds.
func Between(from, to time.Time) (Window, error) {
	w := Window{from: from.UnixMilli(), to: to.UnixMilli()}
	if w.from < 0 || w.to > maxMillis {
		return Window{}, invalid("from and to must lie between 1970 and 2106")
	}
	if w.from >= w.to {
		return Window{}, invalid("from must be before to")
	}
	return w, nil
}

// maxMillis is the last instant of ClickHouse's DateTime, in which the rollups
// keep their hours and days.
const maxMillis = math.MaxUint32 * 1000

// Fixed reports whether the window is the same at every instant.
func (w Window) Fixed() bool { return w.name == "" }

// String gives the window's name, or "from/to" in RFC 3339 for a fixed one.
func (w Window) String() string {
	if !w.Fixed() {
		return w.name
	}
	const layout = "2006-01-02T15:04:05.000Z"
	return time.UnixMilli(w.from).UTC().Format(layout) + "/" + time.UnixMilli(w.to).UTC().Format(layout)
}

// A Calendar decides where weeks begin.
type Calendar struct{ WeekStart time.Weekday }

// DefaultCalendar begins weeks on Friday, as the industry's charts do.
func DefaultCalendar() Calendar { return Calendar{WeekStart: time.Friday} }

// At gives the window's span at instant now. The end of a window that moves
// is now itself, included: with now in whole milliseconds, End is now + 1 ms.
func (w Window) At(now time.Time, cal Calendar) Span {
	now = now.UTC().Truncate(time.Millisecond)
	end := now.Add(time.Millisecond)
	midnight := now.Truncate(24 * time.Hour)
	switch {
	case w.Fixed():
		return Span{time.UnixMilli(w.from).UTC(), time.UnixMilli(w.to).UTC()}
	case w == AllTime:
		return Span{time.UnixMilli(0).UTC(), end}
	case w == Today:
		return Span{midnight, end}
	case w == ThisWeek:
		days := (int(now.Weekday()) - int(cal.WeekStart) + 7) % 7
		return Span{midnight.AddDate(0, 0, -days), end}
	default:
		return Span{now.Truncate(time.Minute).Add(-w.length), end}
	}
}

// Boundary is the instant at which the period in which t lies began: ranks on
// the window's chart are compared with those on the chart as it stood then. A
// period is an hour for the last hour, a week for this week, and a UTC day else.
func (w Window) Boundary(t time.Time, cal Calendar) time.Time {
	switch w {
	case LastHour:
		return t.UTC().Truncate(time.Hour)
	case ThisWeek:
		return w.At(t, cal).Start
	default:
		return t.UTC().Truncate(24 * time.Hour)
	}
}
