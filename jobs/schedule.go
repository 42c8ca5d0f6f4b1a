package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a container may have none

	"github.com/robfig/cron/v3"
)

// ParseSpec reads a schedule: five cron fields, @every DURATION, or one of
// @hourly, @daily, @weekly, @monthly; in UTC, unless it begins with the name of
// another time zone, as in "TZ=Europe/Berlin 30 4 * * *". The error says what is
// wrong with it.
//
// Every process finds the same times in it: those of @every DURATION are its
// multiples, wherever a process began.
func ParseSpec(spec string) (cron.Schedule, error) {
	zoned := spec
	if !hasZone(spec) {
		zoned = "TZ=UTC " + spec
	}
	if !strings.Contains(strings.TrimSpace(zoned), " ") { // which cron does not expect
		return nil, fmt.Errorf("schedule %q: %w", spec, errors.New("there is nothing after the time zone"))
	}
	schedule, err := cron.ParseStandard(zoned)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", spec, err)
	}
	if every, ok := schedule.(cron.ConstantDelaySchedule); ok {
		return multiples{every.Delay}, nil
	}
	return schedule, nil
}

// InZone gives the schedule in a time zone, unless it names one itself or does
// not depend on it.
func InZone(spec, zone string) string {
	if hasZone(spec) || strings.HasPrefix(spec, "@every ") || zone == "UTC" {
		return spec
	}
	return "TZ=" + zone + " " + spec
}

func hasZone(spec string) bool {
	return strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=")
}

// multiples are all multiples of a duration.
type multiples struct{ of time.Duration }

func (m multiples) Next(t time.Time) time.Time { return t.Truncate(m.of).Add(m.of) }

// lastDue is the last time of the schedule after one instant and not after
// another; zero when there is none.
func lastDue(s cron.Schedule, after, until time.Time) time.Time {
	// A schedule tells only the next time. The steps back grow, so that it is
	// asked a few times for a year of minutes as for a day of months.
	for back := time.Minute; ; back *= 4 {
		from := until.Add(-back)
		if from.Before(after) {
			from = after
		}
		var last time.Time
		for t := s.Next(from); !t.IsZero() && !t.After(until); t = s.Next(t) {
			last = t
		}
		if !last.IsZero() || !from.After(after) {
			return last
		}
	}
}
