package jobs_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk/jobs"
)

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct{ spec, after, next string }{
		{"30 4 * * *", "2026-01-10T05:00:00Z", "2026-01-11T04:30:00Z"},
		{"TZ=Europe/Berlin 30 4 * * *", "2026-01-10T05:00:00Z", "2026-01-11T03:30:00Z"},
		{"CRON_TZ=Europe/Berlin 30 4 * * *", "2026-07-10T05:00:00Z", "2026-07-11T02:30:00Z"},
		{"TZ=Asia/Kolkata @daily", "2026-01-10T00:00:00Z", "2026-01-10T18:30:00Z"},
		// What a leap ahead leaves out is not due that day; what a leap back
		// repeats is due twice.
		{"TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"},
		{"TZ=Europe/Berlin 30 3 * * *", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"},
		{"TZ=Europe/Berlin 30 2 * * *", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
		{"TZ=Europe/Berlin 30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
		// Multiples, wherever one begins.
		{"@every 5m", "2026-01-10T05:03:17Z", "2026-01-10T05:05:00Z"},
		{"TZ=Asia/Kolkata @every 1h", "2026-01-10T05:00:00Z", "2026-01-10T06:00:00Z"},
		{"@hourly", "2026-01-10T05:03:17Z", "2026-01-10T06:00:00Z"},
	} {
		schedule, err := jobs.ParseSpec(c.spec)
		if err != nil {
			t.Error(err)
			continue
		}
		// In whatever zone one asks.
		for _, zone := range []*time.Location{time.UTC, time.FixedZone("", 7200)} {
			if got := schedule.Next(instant(t, c.after).In(zone)).UTC().Format(time.RFC3339); got != c.next {
				t.Errorf("%s after %s: %s, want %s", c.spec, c.after, got, c.next)
			}
		}
	}
	for _, spec := range []string{"", "TZ=Europe/Berlin", "TZ=Europe/Berlin ", "TZ=Middle/Earth 30 4 * * *", "30 4 * *", "@every soon", "@fortnightly"} {
		if _, err := jobs.ParseSpec(spec); err == nil || !strings.Contains(err.Error(), spec) {
			t.Errorf("%q: %v", spec, err)
		}
	}
	for spec, want := range map[string]string{
		"30 4 * * *": "TZ=Europe/Berlin 30 4 * * *", "@daily": "TZ=Europe/Berlin @daily",
		"TZ=UTC @daily": "TZ=UTC @daily", "@every 5m": "@every 5m",
	} {
		if got := jobs.InZone(spec, "Europe/Berlin"); got != want {
			t.Errorf("%s in Berlin: %s, want %s", spec, got, want)
		}
	}
	if got := jobs.InZone("@daily", "UTC"); got != "@daily" {
		t.Errorf("@daily in UTC: %s", got)
	}
}

// The last due time is what asking for each in turn gives.
func TestLastDue(t *testing.T) {
	specs := []string{"@every 10s", "@every 7m", "*/5 * * * *", "* 3 * * *", "@hourly", "TZ=Europe/Berlin 30 2 * * *",
		"TZ=America/New_York 0 */6 * * 1", "0 0 1 * *", "0 0 30 2 *"}
	rapid.Check(t, func(t *rapid.T) {
		spec := rapid.SampledFrom(specs).Draw(t, "spec")
		schedule, err := jobs.ParseSpec(spec)
		if err != nil {
			t.Fatal(err)
		}
		until := time.Unix(rapid.Int64Range(1_770_000_000, 1_800_000_000).Draw(t, "until"), 0).UTC()
		span := rapid.SampledFrom([]int64{1, 60, 3600, 86400, 40 * 86400}).Draw(t, "span")
		if spec == "@every 10s" {
			span = min(span, 86400)
		}
		after := until.Add(-time.Duration(rapid.Int64Range(0, span).Draw(t, "ago")) * time.Second)
		var want time.Time
		for next := schedule.Next(after); !next.IsZero() && !next.After(until); next = schedule.Next(next) {
			want = next
		}
		if got := jobs.LastDue(schedule, after, until); !got.Equal(want) {
			t.Fatalf("%s from %s until %s: %s, want %s", spec, after, until, got, want)
		}
	})
}

// What is no schedule is refused; what is one has times.
func FuzzParseSpec(f *testing.F) {
	for _, seed := range []string{"30 4 * * *", "TZ=Europe/Berlin @daily", "CRON_TZ=", "TZ=UTC", "@every 1ns", "@every -5m", "*/0 * * * *"} {
		f.Add(seed)
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, spec string) {
		schedule, err := jobs.ParseSpec(spec)
		if err != nil {
			return
		}
		if next := schedule.Next(from); !next.IsZero() && !next.After(from) {
			t.Errorf("%q: %s comes after %s", spec, next, from)
		}
	})
}
