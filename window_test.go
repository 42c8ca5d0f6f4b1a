package topk_test

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWindowAt(t *testing.T) {
	// 2025-11-24 is a Monday, 2025-11-28 a Friday.
	tests := []struct {
		window, now, start, end string
	}{
		// A rolling window starts at the minute's floor less its length, and includes now.
		{"1h", "2025-11-24T16:00:00Z", "2025-11-24T15:00:00Z", "2025-11-24T16:00:00.001Z"},
		{"1h", "2025-11-24T15:59:59.999Z", "2025-11-24T14:59:00Z", "2025-11-24T16:00:00Z"},
		{"1h", "2025-11-24T16:00:59.999Z", "2025-11-24T15:00:00Z", "2025-11-24T16:01:00Z"},
		{"1h", "2025-11-24T16:00:30.123456789Z", "2025-11-24T15:00:00Z", "2025-11-24T16:00:30.124Z"},
		{"1h", "2025-11-24T21:30:30+05:30", "2025-11-24T15:00:00Z", "2025-11-24T16:00:30.001Z"},
		{"24h", "2025-11-24T16:07:30Z", "2025-11-23T16:07:00Z", "2025-11-24T16:07:30.001Z"},
		{"7d", "2025-11-24T16:07:30Z", "2025-11-17T16:07:00Z", "2025-11-24T16:07:30.001Z"},
		{"30d", "2025-03-01T00:00:00Z", "2025-01-30T00:00:00Z", "2025-03-01T00:00:00.001Z"},
		{"all", "2025-11-24T16:07:30Z", "1970-01-01T00:00:00Z", "2025-11-24T16:07:30.001Z"},
		// Today starts at midnight UTC, wherever now was written.
		{"today", "2025-11-24T00:00:00Z", "2025-11-24T00:00:00Z", "2025-11-24T00:00:00.001Z"},
		{"today", "2025-11-24T23:59:59.999Z", "2025-11-24T00:00:00Z", "2025-11-25T00:00:00Z"},
		{"today", "2025-11-25T01:30:00+05:30", "2025-11-24T00:00:00Z", "2025-11-24T20:00:00.001Z"},
		{"today", "2024-02-29T12:00:00Z", "2024-02-29T00:00:00Z", "2024-02-29T12:00:00.001Z"},
		// Weeks run from Friday to Thursday.
		{"this-week", "2025-11-27T23:59:59.999Z", "2025-11-21T00:00:00Z", "2025-11-28T00:00:00Z"},
		{"this-week", "2025-11-28T00:00:00Z", "2025-11-28T00:00:00Z", "2025-11-28T00:00:00.001Z"},
		{"this-week", "2025-11-24T16:00:00Z", "2025-11-21T00:00:00Z", "2025-11-24T16:00:00.001Z"},
		{"this-week", "2026-01-01T00:00:00Z", "2025-12-26T00:00:00Z", "2026-01-01T00:00:00.001Z"},
	}
	for _, tt := range tests {
		w, err := topk.ParseWindow(tt.window)
		if err != nil {
			t.Fatal(err)
		}
		got := w.At(at(t, tt.now), topk.DefaultCalendar())
		if !got.Start.Equal(at(t, tt.start)) || !got.End.Equal(at(t, tt.end)) {
			t.Errorf("%s at %s = [%v, %v), want [%s, %s)", tt.window, tt.now, got.Start, got.End, tt.start, tt.end)
		}
	}
}

func TestWeekStartIsConfigurable(t *testing.T) {
	monday := topk.Calendar{WeekStart: time.Monday}
	for now, start := range map[string]string{
		"2025-11-24T00:00:00Z":     "2025-11-24T00:00:00Z",
		"2025-11-23T23:59:59.999Z": "2025-11-17T00:00:00Z",
		"2025-11-28T12:00:00Z":     "2025-11-24T00:00:00Z",
	} {
		if got := topk.ThisWeek.At(at(t, now), monday).Start; !got.Equal(at(t, start)) {
			t.Errorf("the week of %s starts at %v, want %s", now, got, start)
		}
	}
}

func TestSpanIsHalfOpen(t *testing.T) {
	w, err := topk.Between(at(t, "2025-11-24T00:00:00Z"), at(t, "2025-11-25T00:00:00Z"))
	if err != nil {
		t.Fatal(err)
	}
	span := w.At(testNow, topk.DefaultCalendar())
	for s, want := range map[string]bool{
		"2025-11-23T23:59:59.999Z": false,
		"2025-11-24T00:00:00Z":     true,
		"2025-11-24T23:59:59.999Z": true,
		"2025-11-25T00:00:00Z":     false,
	} {
		if span.Contains(at(t, s)) != want {
			t.Errorf("Contains(%s) = %v", s, !want)
		}
	}
}

func TestBetween(t *testing.T) {
	const outside = "from and to must lie between 1970 and 2106"
	tests := []struct {
		from, to string
		want     string // its String, or its error
		ok       bool
	}{
		{"2025-11-24T00:00:00Z", "2025-11-25T00:00:00Z", "2025-11-24T00:00:00.000Z/2025-11-25T00:00:00.000Z", true},
		{"2025-11-24T05:30:00+05:30", "2025-11-24T00:00:00.001Z", "2025-11-24T00:00:00.000Z/2025-11-24T00:00:00.001Z", true},
		{"2025-11-24T00:00:00.0009Z", "2025-11-24T00:00:00.0019Z", "2025-11-24T00:00:00.000Z/2025-11-24T00:00:00.001Z", true},
		{"1970-01-01T00:00:00Z", "2106-02-07T06:28:15Z", "1970-01-01T00:00:00.000Z/2106-02-07T06:28:15.000Z", true},
		{"2025-11-24T00:00:00Z", "2025-11-24T00:00:00Z", "from must be before to", false},
		{"2025-11-24T00:00:00.0001Z", "2025-11-24T00:00:00.0009Z", "from must be before to", false},
		{"2025-11-25T00:00:00Z", "2025-11-24T00:00:00Z", "from must be before to", false},
		{"1969-12-31T23:59:59.999Z", "2025-11-24T00:00:00Z", outside, false},
		{"2025-11-24T00:00:00Z", "2106-02-07T06:28:15.001Z", outside, false},
	}
	for _, tt := range tests {
		w, err := topk.Between(at(t, tt.from), at(t, tt.to))
		if !tt.ok {
			if err == nil || err.Error() != tt.want || !errors.Is(err, topk.ErrInvalid) {
				t.Errorf("Between(%s, %s): %v, want %s", tt.from, tt.to, err, tt.want)
			}
			continue
		}
		if err != nil || !w.Fixed() || w.String() != tt.want {
			t.Errorf("Between(%s, %s) = %s, %v; want %s", tt.from, tt.to, w, err, tt.want)
		}
		// A fixed window does not move, and the calendar has no say in it.
		if w.At(testNow, topk.DefaultCalendar()) != w.At(testNow.AddDate(1, 0, 0), topk.Calendar{}) {
			t.Errorf("%s moves", w)
		}
	}
}

func TestParseWindow(t *testing.T) {
	for name, want := range map[string]topk.Window{
		"1h": topk.LastHour, "24h": topk.Last24h, "7d": topk.Last7d, "30d": topk.Last30d,
		"all": topk.AllTime, "today": topk.Today, "this-week": topk.ThisWeek,
	} {
		if w, err := topk.ParseWindow(name); err != nil || w != want || w.String() != name || w.Fixed() {
			t.Errorf("ParseWindow(%s) = %v, %v", name, w, err)
		}
	}
	for _, name := range []string{"", "1H", " 1h", "2h", "1d", "week", "ALL", "2025-11-24T00:00:00.000Z/2025-11-25T00:00:00.000Z"} {
		if w, err := topk.ParseWindow(name); !errors.Is(err, topk.ErrInvalid) || w != (topk.Window{}) {
			t.Errorf("ParseWindow(%q) = %v, %v", name, w, err)
		}
	}
}

func movingWindows() []topk.Window {
	return []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d, topk.Last30d, topk.AllTime, topk.Today, topk.ThisWeek}
}

func TestMovingWindowInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			w     = rapid.SampledFrom(movingWindows()).Draw(t, "window")
			cal   = topk.Calendar{WeekStart: time.Weekday(rapid.IntRange(0, 6).Draw(t, "week start"))}
			now   = time.UnixMilli(rapid.Int64Range(1e12, 2e12).Draw(t, "now"))
			later = now.Add(time.Duration(rapid.Int64Range(0, 1e13).Draw(t, "passed")))
			span  = w.At(now, cal)
		)
		if !span.Contains(now) || span.Contains(now.Add(time.Millisecond)) {
			t.Fatalf("%s at %v is %v: now is not its last instant", w, now, span)
		}
		if span.Start.Location() != time.UTC || span.End.Location() != time.UTC {
			t.Fatalf("%v is not in UTC", span)
		}
		if span.Start != span.Start.Truncate(time.Minute) {
			t.Fatalf("%s at %v starts within a minute: %v", w, now, span.Start)
		}
		if next := w.At(later, cal); next.Start.Before(span.Start) || next.End.Before(span.End) {
			t.Fatalf("%s moves back: %v at %v, %v at %v", w, span, now, next, later)
		}
		switch w {
		case topk.Today:
			if span.Start.Hour() != 0 || now.Sub(span.Start) >= 24*time.Hour {
				t.Fatalf("today at %v starts at %v", now, span.Start)
			}
		case topk.ThisWeek:
			if span.Start.Weekday() != cal.WeekStart || now.Sub(span.Start) >= 7*24*time.Hour {
				t.Fatalf("the week of %v starts at %v, a %v", now, span.Start, span.Start.Weekday())
			}
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	for _, w := range movingWindows() {
		f.Add(w.String())
	}
	f.Add("")
	f.Add("2h")
	f.Fuzz(func(t *testing.T, s string) {
		w, err := topk.ParseWindow(s)
		if err != nil {
			if w != (topk.Window{}) || !errors.Is(err, topk.ErrInvalid) {
				t.Fatalf("%q gives %v, %v", s, w, err)
			}
			return
		}
		if w.String() != s || w.Fixed() {
			t.Fatalf("%q is written %q", s, w)
		}
		if !w.At(testNow, topk.DefaultCalendar()).Contains(testNow) {
			t.Fatalf("%q does not contain now", s)
		}
	})
}

func TestBoundary(t *testing.T) {
	monday := time.Date(2025, 11, 24, 12, 34, 56, 789e6, time.UTC)
	midnight := time.Date(2025, 11, 24, 0, 0, 0, 0, time.UTC)
	for w, want := range map[topk.Window]time.Time{
		topk.LastHour: time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC),
		topk.ThisWeek: time.Date(2025, 11, 21, 0, 0, 0, 0, time.UTC),
		topk.Today:    midnight,
		topk.Last24h:  midnight,
		topk.Last7d:   midnight,
		topk.Last30d:  midnight,
		topk.AllTime:  midnight,
	} {
		for _, at := range []time.Time{monday, monday.In(time.FixedZone("", 19800))} {
			if got := w.Boundary(at, topk.DefaultCalendar()); !got.Equal(want) {
				t.Errorf("%s at %s: %s, want %s", w, at, got, want)
			}
		}
		if got := w.Boundary(want, topk.DefaultCalendar()); !got.Equal(want) {
			t.Errorf("%s at its boundary: %s", w, got)
		}
	}
}
