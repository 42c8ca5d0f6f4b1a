package api_test

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

// The tests' now is a Monday. The last day that is over is Sunday, and the last
// week is that from Friday 14 to Thursday 20.
func day(date string) time.Time {
	t, err := time.Parse(time.DateOnly, date)
	if err != nil {
		panic(err)
	}
	return t
}

func value[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// moves tells of each item its song, previous rank and movement.
func moves(c answer.Chart) (told []string) {
	for _, i := range c.Items {
		told = append(told, fmt.Sprint(i.SongID, " ", value(i.PreviousRank), " ", value(i.Movement)))
	}
	return told
}

func TestClosedChart(t *testing.T) {
	s, l := newLedger(t)
	l.songs["a"] = topk.Song{SongID: "a", Title: "A"}
	l.play(day("2025-11-22"), "b", 3)
	l.play(day("2025-11-22"), "a", 2)
	l.play(day("2025-11-23"), "a", 4)
	l.play(day("2025-11-23"), "b", 1)
	l.play(day("2025-11-23"), "c", 2)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart.Add(-time.Hour))

	r := s.get("/v1/top?period=day&k=2")
	const want = `{"dim":"global","window":"2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z","period":"day","date":"2025-11-23","revision":1,` +
		`"asOf":"2025-11-24T11:00:00.000Z","windowStart":"2025-11-23T00:00:00.000Z","windowEnd":"2025-11-24T00:00:00.000Z",` +
		`"source":"closed","stale":false,"mode":"exact","rankBy":"plays","totalPlays":7,"comparedTo":"2025-11-23T00:00:00.000Z","items":[` +
		`{"rank":1,"songId":"a","score":4,"previousRank":2,"movement":"up","peakRank":1,"peakDate":"2025-11-23","periodsOnChart":2,"streak":2,` +
		`"metadata":{"title":"A","artist":"","artistId":"","genres":[],"durationMs":0}},` +
		`{"rank":2,"songId":"c","score":2,"previousRank":null,"movement":"new","peakRank":2,"peakDate":"2025-11-23","periodsOnChart":1,"streak":1,"metadata":null}],"nextCursor":"`
	if !strings.HasPrefix(string(r.body), want) {
		t.Errorf("got  %s\nwant %s", r.body, want)
	}
	var chart answer.Chart
	s.into(r, &chart)
	if got := s.top("?period=day&k=2&cursor=" + chart.NextCursor); got.Source != "closed" || got.NextCursor != "" ||
		!slices.Equal(moves(got), []string{"b 1 down"}) || got.Items[0].Rank != 3 || got.Items[0].Streak != 2 {
		t.Errorf("%+v", got)
	}
	if got := l.questions(); !slices.Equal(got, []string{"closed global day 2025-11-23 0"}) {
		t.Errorf("asked %q", got) // the revision that the cursor names is known by then
	}
	if n := s.metric("topk_api_chart_source_total", "source", "closed"); n != 2 {
		t.Errorf("%v closed charts are counted", n)
	}
}

func TestClosedChartRevisions(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-20"), "a", 1)
	l.close(t, topk.Weekly, day("2025-11-20"), serviceStart.Add(-2*time.Hour))
	first := s.top("?period=week&k=5")
	if first.Date != "2025-11-14" || first.Revision != 1 || first.WindowEnd != "2025-11-21T00:00:00.000Z" {
		t.Errorf("%+v", first)
	}
	l.play(day("2025-11-20"), "b", 2) // late
	l.close(t, topk.Weekly, day("2025-11-20"), serviceStart.Add(-time.Hour))
	l.questions()
	for query, want := range map[string]string{
		"?period=week": "1 a", // for a while
		"?period=week&date=2025-11-14&revision=1": "1 a",
		"?period=week&date=2025-11-20&revision=2": "2 b",
		"?period=week&date=2025-11-17":            "1 a",
	} {
		if got := s.top(query); fmt.Sprint(got.Revision, " ", got.Items[0].SongID) != want || got.Source != "closed" {
			t.Errorf("%s: %+v", query, got)
		}
	}
	if got := l.questions(); !slices.Equal(got, []string{"closed global week 2025-11-14 2"}) {
		t.Errorf("asked %q", got)
	}
	s.advance(10 * time.Second)
	if got := s.top("?period=week"); got.Revision != 2 {
		t.Errorf("%+v", got)
	}
	for _, query := range []string{
		"?period=week&date=2025-11-14&revision=3", "?period=day&date=2025-11-14&revision=1", "?period=week&date=2025-11-14&revision=1&dim=artist:x",
	} {
		if p := s.problem(s.get("/v1/top"+query), http.StatusNotFound); !strings.Contains(p.Detail, "revision") {
			t.Errorf("%s: %s", query, p.Detail)
		}
	}
}

// What is not written down is computed, with movement.
func TestPeriodsThatAreComputed(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-22"), "b", 3)
	l.play(day("2025-11-22"), "a", 2)
	l.play(day("2025-11-23"), "a", 4)
	l.play(day("2025-11-23"), "b", 1)
	l.play(day("2025-11-23"), "c", 2)
	for _, c := range []struct{ query, by string }{
		{"period=day", "plays"}, {"period=day&date=2025-11-23&dim=artist:x", "plays"}, {"period=day&rankBy=listeners", "listeners"},
	} {
		l.questions()
		got := s.top("?" + c.query)
		if got.Source != "clickhouse" || got.Period != "day" || got.Date != "2025-11-23" || got.Revision != 0 || got.RankBy != c.by ||
			value(got.ComparedTo) != "2025-11-23T00:00:00.000Z" || got.Items[0].PeakRank != 0 {
			t.Errorf("%s: %+v", c.query, got)
		}
		if want := []string{"a 2 up", "c <nil> new", "b 1 down"}; !slices.Equal(moves(got), want) {
			t.Errorf("%s: %q, want %q", c.query, moves(got), want)
		}
		asked := slices.DeleteFunc(l.questions(), func(q string) bool { return strings.HasPrefix(q, "closed") })
		slices.Sort(asked)
		if len(asked) != 2 || !strings.HasSuffix(asked[0], "2025-11-22T00:00:00.000Z/2025-11-23T00:00:00.000Z 1000") ||
			!strings.HasSuffix(asked[1], "2025-11-23T00:00:00.000Z/2025-11-24T00:00:00.000Z 200") || !strings.HasPrefix(asked[0], c.by) {
			t.Errorf("%s: asked %q", c.query, asked)
		}
	}

	// Of more places than are written down too.
	for i := range 300 {
		l.play(day("2025-11-20"), fmt.Sprintf("song-%03d", i), 1)
	}
	l.close(t, topk.Daily, day("2025-11-20"), serviceStart)
	for query, source := range map[string]string{"k=200": "closed", "k=201": "clickhouse"} {
		if got := s.top("?period=day&date=2025-11-20&" + query); got.Source != source || fmt.Sprint("k=", len(got.Items)) != query {
			t.Errorf("%s: %d items from %s", query, len(got.Items), got.Source)
		}
	}
	p := s.problem(s.get("/v1/top?period=day&date=2025-11-20&revision=1&k=201"), http.StatusBadRequest)
	if got := locations(p); !reflect.DeepEqual(got, []string{"query.k", "query.revision"}) {
		t.Errorf("%v", got)
	}
	if got := s.top("?period=day&date=2025-11-20&revision=1&k=200"); got.NextCursor != "" {
		t.Error("a revision goes on beyond its last place")
	}
}

func TestPeriodsThatAreNotOver(t *testing.T) {
	s, _ := newLedger(t)
	for query, want := range map[string][]string{
		"period=day&date=2025-11-24":  {"ends at 2025-11-25T00:00:00.000Z", "window=today", "date=2025-11-23"},
		"period=day&date=2025-11-25":  {"ends at 2025-11-26T00:00:00.000Z", "date=2025-11-23"},
		"period=week&date=2025-11-24": {"week of 2025-11-21 ends at 2025-11-28T00:00:00.000Z", "window=this-week", "date=2025-11-14"},
		"period=week&date=2031-01-01": {"date=2025-11-14"},
	} {
		p := s.problem(s.get("/v1/top?"+query), http.StatusNotFound)
		for _, part := range want {
			if !strings.Contains(p.Detail, part) {
				t.Errorf("%s: %q does not say %q", query, p.Detail, part)
			}
		}
	}
	s.advance(12 * time.Hour)
	if got := s.top("?period=day&date=2025-11-24"); got.Date != "2025-11-24" {
		t.Errorf("%+v", got) // it is over now
	}
	if n := s.metric("topk_api_chart_source_total", "source", "none"); n != 0 {
		t.Errorf("%v charts could not be served", n)
	}
}

// A closed chart that is known outlasts ClickHouse, and says when it may not be
// the latest.
func TestClosedChartsWhileClickHouseIsAway(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-23"), "a", 1)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	s.top("?period=day")
	l.set(func() { l.err = errAway })
	for range 2 {
		if got := s.top("?period=day"); got.Stale || got.Source != "closed" {
			t.Errorf("%+v", got)
		}
		if got := s.top("?period=day&date=2025-11-23&revision=1"); got.Stale || got.Source != "closed" {
			t.Errorf("%+v", got)
		}
	}
	s.advance(10 * time.Second)
	r := s.get("/v1/top?period=day")
	var got answer.Chart
	s.into(r, &got)
	if !got.Stale || got.Source != "closed" || r.header.Get("Cache-Control") != "no-store" || r.header.Get("ETag") != "" {
		t.Errorf("%+v %v", got, r.header)
	}
	if got := s.top("?period=day&date=2025-11-23&revision=1"); got.Stale {
		t.Errorf("%+v", got) // it is for ever
	}
	l.questions()
	for range 5 {
		s.top("?period=day")
	}
	if asked := l.questions(); len(asked) != 0 {
		t.Errorf("asked %q within a second, while ClickHouse is away", asked)
	}
	for _, query := range []string{"period=day&date=2025-11-22", "period=day&k=1000&rankBy=listeners", "period=day&dim=artist:x"} {
		if r := s.get("/v1/top?" + query); r.header.Get("Retry-After") == "" {
			s.problem(r, http.StatusServiceUnavailable)
			t.Errorf("%s: no Retry-After", query)
		}
	}
}

// And ClickHouse's return is noticed.
func TestClosedChartsWhenClickHouseIsBack(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-23"), "a", 1)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	s.top("?period=day")
	l.set(func() { l.err = errAway })
	s.advance(10 * time.Second)
	s.top("?period=day")
	l.set(func() { l.err = nil })
	l.play(day("2025-11-23"), "b", 2)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	s.advance(time.Second)
	if got := s.top("?period=day"); got.Stale || got.Revision != 2 {
		t.Errorf("%+v", got)
	}
}

func TestWeeksBeginWhereTheCalendarSays(t *testing.T) {
	s, _ := newLedger(t, func(c *api.Config) { c.Calendar = topk.Calendar{WeekStart: time.Monday} })
	if got := s.top("?period=week"); got.Date != "2025-11-17" {
		t.Errorf("%+v", got)
	}
}
