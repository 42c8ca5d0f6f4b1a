package queries_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/topk-charts/topk"
)

// Plays right on, before and after every boundary there is, asked for at instants
// that are boundaries themselves: midnight, the turn of a week and of a year, a
// leap day, and the nights on which clocks change where people live, which UTC
// knows nothing of.
func TestBoundaries(t *testing.T) {
	c := newChain(t)
	instants := map[string]time.Time{
		"midnight":             time.Date(2025, 11, 18, 0, 0, 0, 0, time.UTC),
		"the turn of the week": time.Date(2025, 11, 21, 0, 0, 0, 0, time.UTC), // to a Friday
		"the turn of the hour": time.Date(2025, 11, 12, 15, 0, 0, 0, time.UTC),
		"a minute":             time.Date(2025, 11, 5, 15, 42, 0, 0, time.UTC),
		"the turn of the year": time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC),
		"the leap day's end":   time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC), // a Friday
		"clocks go forward":    time.Date(2025, 3, 30, 1, 0, 0, 0, time.UTC),
		"clocks go back":       time.Date(2025, 10, 26, 1, 0, 0, 0, time.UTC),
	}
	windows := []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d, topk.Last30d, topk.AllTime, topk.Today, topk.ThisWeek}
	const tick = time.Millisecond
	var plays []topk.Play
	for name, instant := range instants {
		edges := []time.Time{instant, instant.Truncate(time.Hour), instant.Truncate(24 * time.Hour), instant.Add(5 * time.Minute)}
		for _, w := range windows {
			for _, now := range []time.Time{instant.Add(-tick), instant} {
				span := w.At(now, topk.DefaultCalendar())
				edges = append(edges, span.Start, span.End)
			}
		}
		for _, edge := range edges {
			for _, beside := range []time.Duration{-tick, 0, tick} {
				ts := edge.Add(beside)
				if ts.UnixMilli() < 0 {
					continue
				}
				plays = append(plays, topk.Play{
					EventID: fmt.Sprintf("%s %d", name, len(plays)), UserID: "u1", SongID: fmt.Sprint("s", len(plays)%3), ArtistID: "a1",
					Timestamp: ts, Region: topk.Region{Country: "IN"},
				})
			}
		}
	}
	compare := func() {
		t.Helper()
		for _, instant := range instants {
			for _, now := range []time.Time{instant.Add(-tick), instant, instant.Add(time.Minute)} {
				for _, w := range windows {
					c.compareAt(topk.Filter{}, w, now)
					c.compareAt(topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"}), w, now)
				}
			}
		}
	}
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	c.append(0, plays...)
	compare()
	c.exec("SYSTEM START VIEW rollup_hour_fill")
	c.exec("SYSTEM START VIEW rollup_day_fill")
	c.fill("rollup_hour")
	c.fill("rollup_day")
	compare()
}
