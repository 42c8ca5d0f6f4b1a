package topk

import (
	"fmt"
	"time"
)

// A Period is the stretch of the calendar that a closed chart covers.
type Period string

// The periods, in UTC. Where weeks begin is the Calendar's.
const (
	Daily  Period = "day"
	Weekly Period = "week"
)

// Periods lists the periods.
func Periods() []Period { return []Period{Daily, Weekly} }

// ParsePeriod reads day or week.
func ParsePeriod(s string) (Period, error) {
	switch p := Period(s); p {
	case Daily, Weekly:
		return p, nil
	}
	return "", invalid(fmt.Sprintf("unknown period %q; use day or week", s))
}

// Containing is the span of the period in which t lies.
func (p Period) Containing(t time.Time, cal Calendar) Span {
	start := t.UTC().Truncate(24 * time.Hour)
	if p == Weekly {
		start = start.AddDate(0, 0, -((int(start.Weekday()) - int(cal.WeekStart) + 7) % 7))
	}
	return Span{start, start.AddDate(0, 0, p.days())}
}

// Before is the span of the period right before the one of s.
func (p Period) Before(s Span) Span { return Span{s.Start.AddDate(0, 0, -p.days()), s.Start} }

// After is the span of the period right after the one of s.
func (p Period) After(s Span) Span { return Span{s.End, s.End.AddDate(0, 0, p.days())} }

func (p Period) days() int {
	if p == Weekly {
		return 7
	}
	return 1
}
