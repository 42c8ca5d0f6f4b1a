package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
)

func TestMovementOfSnapshots(t *testing.T) {
	midnight, hour, friday := day("2025-11-24"), serviceStart, day("2025-11-21")
	moved := []string{"d 2 up", "c 1 down", "b 3 same", "a <nil> new"}
	unknown := []string{"d <nil> <nil>", "c <nil> <nil>", "b <nil> <nil>", "a <nil> <nil>"}
	for _, c := range []struct {
		window   topk.Window
		previous time.Time
		boundary time.Time // zero when the previous chart is too old, or not before the boundary
	}{
		{topk.Last24h, midnight.Add(-time.Millisecond), midnight},
		{topk.Last24h, midnight, midnight},
		{topk.Last24h, midnight.Add(time.Millisecond), time.Time{}},
		{topk.Last24h, midnight.Add(-24*time.Hour + time.Millisecond), midnight},
		{topk.Last24h, midnight.Add(-24 * time.Hour), time.Time{}},
		{topk.AllTime, midnight.Add(-time.Second), midnight},
		{topk.Today, midnight.Add(-time.Second), midnight},
		{topk.LastHour, hour.Add(-time.Second), hour},
		{topk.LastHour, hour.Add(-61 * time.Minute), time.Time{}},
		{topk.ThisWeek, friday.Add(-time.Second), friday},
		{topk.ThisWeek, midnight.Add(-time.Second), time.Time{}},
		{topk.ThisWeek, friday.Add(-8 * 24 * time.Hour), time.Time{}},
	} {
		s := newService(t)
		s.publishWith(c.window, map[string]uint64{"a": 1, "b": 2, "c": 3, "d": 4}, c.previous, "c", "d", "b", "gone")
		got, want, at := s.top("?window="+c.window.String()), moved, any(c.boundary.Format("2006-01-02T15:04:05.000Z"))
		if c.boundary.IsZero() {
			want, at = unknown, nil
		}
		if got.Source != "snapshot" || !slices.Equal(moves(got), want) || value(got.ComparedTo) != at {
			t.Errorf("%s, %s: %q against %v, want %q against %v", c.window, c.previous, moves(got), value(got.ComparedTo), want, at)
		}
	}
}

// The previous chart of a snapshot serves whatever the chart comes from, and
// knows nothing of what was beyond its last place.
func TestMovementFromElsewhere(t *testing.T) {
	s, l := newLedger(t, func(c *api.Config) { c.Limits.InsteadOfStale = time.Minute })
	plays := map[string]uint64{}
	for i := range 210 {
		song := fmt.Sprintf("%03d", i)
		plays[song] = uint64(210 - i)
		l.play(serviceStart.Add(-time.Minute), song, 210-i)
	}
	var before []string
	for i := range 200 {
		before = append(before, fmt.Sprintf("%03d", (i+1)%201)) // 001 … 200: 000 is new
	}
	s.publishWith(topk.Last24h, plays, day("2025-11-24").Add(-time.Second), before...)
	check := func(query, source string) {
		t.Helper()
		got := s.top("?" + query)
		told := moves(got)
		want := map[int]string{0: "000 <nil> new", 1: "001 1 down", 199: "199 199 down", 200: "200 200 down", 201: "201 <nil> <nil>"}
		for i, want := range want {
			if i < len(told) && told[i] != want {
				t.Errorf("%s: %q, want %q", query, told[i], want)
			}
		}
		if got.Source != source || value(got.ComparedTo) != "2025-11-24T00:00:00.000Z" {
			t.Errorf("%s: from %s, against %v", query, got.Source, value(got.ComparedTo))
		}
	}
	check("k=200", "snapshot")
	check("k=210", "clickhouse")
	s.advance(11 * time.Second)
	check("k=5", "clickhouse") // in place of the stale one
	s.killRedis()
	s.advance(time.Second)
	check("k=5", "clickhouse")
	check("k=210", "clickhouse")
	l.set(func() { l.err = errAway })
	check("k=200", "last-known")
	l.set(func() { l.err = nil })

	s.advance(12 * time.Hour) // another day, of whose beginning nobody knows
	if got := s.top("?k=1"); value(got.ComparedTo) != nil || got.Items[0].Movement != nil {
		t.Errorf("%+v", got)
	}
	if got := s.top("?k=1&rankBy=listeners"); value(got.ComparedTo) != nil || got.Items[0].Movement != nil {
		t.Errorf("%+v", got)
	}
}

func TestCompareWithTheWindowBefore(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-22"), "b", 3)
	l.play(day("2025-11-22"), "a", 2)
	l.play(day("2025-11-23"), "a", 4)
	l.play(day("2025-11-23"), "b", 1)
	const query = "?from=2025-11-23T00:00:00Z&to=2025-11-24T00:00:00Z"
	plain := s.top(query)
	if want := []string{"a <nil> <nil>", "b <nil> <nil>"}; !slices.Equal(moves(plain), want) || plain.ComparedTo != nil || len(l.questions()) != 1 {
		t.Errorf("%+v", plain)
	}
	for _, by := range []string{"", "&rankBy=plays", "&rankBy=listeners"} {
		got := s.top(query + "&compare=previous" + by)
		if want := []string{"a 2 up", "b 1 down"}; !slices.Equal(moves(got), want) || value(got.ComparedTo) != "2025-11-23T00:00:00.000Z" {
			t.Errorf("%+v", got)
		}
	}
	first := s.top(query + "&compare=previous&k=1")
	if got := s.top(query + "&compare=previous&k=1&cursor=" + first.NextCursor); !slices.Equal(moves(got), []string{"b 1 down"}) {
		t.Errorf("%+v", got)
	}
	l.set(func() { l.err = errAway })
	s.problem(s.get("/v1/top"+query+"&compare=previous"), http.StatusServiceUnavailable)
}

// Each kind of chart is computed once for all who ask for it at the same time,
// and none in place of another.
func TestEveryKindIsComputedOnceForAll(t *testing.T) {
	s, l := newLedger(t, func(c *api.Config) {
		c.Limits.ChartSlots, c.Limits.ChartQueue, c.Limits.ChartQuery = 16, time.Minute, time.Minute
	})
	for i := range 30 {
		l.play(serviceStart.Add(-36*time.Hour), fmt.Sprintf("%02d", i), i+1)
	}
	const between = "from=2025-11-23T00:00:00Z&to=2025-11-24T00:00:00Z"
	cursor := s.top("?k=10&" + between).NextCursor
	l.questions()
	l.hold = make(chan struct{})
	queries := []string{
		between, between + "&rankBy=listeners", between + "&mode=approx", between + "&k=300", between + "&cursor=" + cursor,
		between + "&compare=previous", "period=day", "window=7d", "window=7d&rankBy=listeners", "window=7d&dim=artist:x",
	}
	var asking sync.WaitGroup
	for _, query := range queries {
		for k := range 3 {
			asking.Go(func() {
				own := query
				if !strings.Contains(query, "k=") {
					own = fmt.Sprintf("%s&k=%d", query, k+1)
				}
				s.get("/v1/top?" + own).ok(t)
			})
		}
	}
	// compare shares the chart of the day with the plain one.
	want := []string{
		"closed global day 2025-11-23 0",
		"estimates global 2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z 200",
		"listeners global 2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z 200",
		"listeners global 7d 200",
		"plays artist:x 7d 200",
		"plays global 2025-11-22T00:00:00.000Z/2025-11-23T00:00:00.000Z 1000",
		"plays global 2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z 1000",
		"plays global 2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z 200",
		"plays global 2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z 200", // after the cursor
		"plays global 7d 200",
	}
	// Those that compare wait for two charts each, and those of the period for the
	// closed one.
	s.eventually("all wait", func() (all bool) {
		l.set(func() { all = len(l.asked) >= len(want) })
		return all && waitingIn("api.shared[") == 3*len(queries)+3
	})
	asked := l.questions()
	l.set(func() { close(l.hold); l.hold = nil })
	asking.Wait()
	slices.Sort(asked)
	if !slices.Equal(asked, want) {
		t.Errorf("asked\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

func TestListenersAndEstimates(t *testing.T) {
	s, l := newLedger(t)
	for range 3 {
		l.play(serviceStart, "a", 1) // by one user
	}
	l.play(serviceStart, "b", 2)
	s.publish(worldwide, topk.Last24h, map[string]uint64{"other": 1})
	for query, want := range map[string]string{
		"":                             "a 3 <nil>, b 2 <nil>, exact plays 5",
		"&rankBy=listeners":            "b 2 <nil>, a 1 <nil>, exact listeners 5",
		"&mode=approx":                 "a 3 0, b 2 1, approx plays 5",
		"&mode=exact&rankBy=plays":     "a 3 <nil>, b 2 <nil>, exact plays 5",
		"&mode=approx&rankBy=plays":    "a 3 0, b 2 1, approx plays 5",
		"&mode=approx&k=1":             "a 3 0, approx plays 5",
		"&mode=exact&rankBy=listeners": "b 2 <nil>, a 1 <nil>, exact listeners 5",
	} {
		for _, window := range []string{"?window=7d", "?from=2025-11-24T00:00:00Z&to=2025-11-25T00:00:00Z"} {
			got, told := s.top(window+query), ""
			for _, i := range got.Items {
				told += fmt.Sprint(i.SongID, " ", i.Score, " ", value(i.Error), ", ")
			}
			if told += fmt.Sprint(got.Mode, " ", got.RankBy, " ", got.TotalPlays); told != want || got.Source != "clickhouse" {
				t.Errorf("%s%s: %s, want %s", window, query, told, want)
			}
			if (got.NextCursor != "") != (len(got.Items) == 1 && got.Mode == "exact") {
				t.Errorf("%s%s: cursor %q", window, query, got.NextCursor)
			}
		}
	}
	if got := s.top("?rankBy=listeners"); got.Source != "clickhouse" || got.Items[0].SongID != "b" {
		t.Errorf("%+v", got) // snapshots are by plays
	}
	l.set(func() { l.err = errAway })
	for _, query := range []string{"rankBy=listeners", "mode=approx"} {
		s.problem(s.get("/v1/top?"+query), http.StatusServiceUnavailable) // and not the snapshot
	}
}
