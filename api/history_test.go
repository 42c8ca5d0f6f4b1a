package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

func (f *facts) SongHistory(ctx context.Context, q topk.HistoryQuery) (points []topk.HistoryPoint, err error) {
	for start := q.Span.Start; start.Before(q.Span.End); start = start.Add(q.Grain.Length()) {
		points = append(points, topk.HistoryPoint{Span: topk.Span{Start: start, End: start.Add(q.Grain.Length())}, Plays: f.plays[q.SongID]})
	}
	return points, f.ask(ctx, "history %s %s %s %s %s", q.SongID, q.Filter, q.Grain, q.Span.Start.Format(time.RFC3339), q.Span.End.Format(time.RFC3339))
}

func (f *facts) SongRanks(ctx context.Context, id string, filter topk.Filter, p topk.Period, span topk.Span) (in []topk.ChartPlace, err error) {
	for _, place := range f.ranks {
		if span.Contains(place.Date) {
			in = append(in, place)
		}
	}
	return in, f.ask(ctx, "ranks %s %s %s %s", id, filter, p, span.Start.Format(time.DateOnly))
}

func (f *facts) ClosedDates(ctx context.Context, filter topk.Filter, p topk.Period, before time.Time, k int) ([]topk.ClosedDate, error) {
	return f.dates[:min(k, len(f.dates))], f.ask(ctx, "dates %s %s %s %d", filter, p, before.Format(time.DateOnly), k)
}

func (f *facts) SongPlaces(ctx context.Context, id string, p topk.Period, date time.Time) ([]topk.ChartPlace, error) {
	return slices.DeleteFunc(slices.Clone(f.ranks), func(r topk.ChartPlace) bool { return !r.Date.Equal(date) }),
		f.ask(ctx, "places %s %s %s", id, p, date.Format(time.DateOnly))
}

func date(day int) time.Time { return time.Date(2025, 11, day, 0, 0, 0, 0, time.UTC) }

func TestSongHistory(t *testing.T) {
	s, f := newFacts(t)
	s.truth.plays["a"] = 7
	s.truth.songs["a"] = topk.Song{SongID: "a", Title: "A"}
	f.ranks = []topk.ChartPlace{{Date: date(22), Rank: 3}, {Date: date(23), Rank: 1}}
	r := s.get("/v1/songs/a/history?from=2025-11-22T00:00:00Z&dim=region:IN")
	point := func(start, end int, rank string, complete bool) string {
		return fmt.Sprintf(`{"start":"2025-11-%dT00:00:00.000Z","end":"2025-11-%dT00:00:00.000Z","plays":7,"rank":%s,"complete":%t}`, start, end, rank, complete)
	}
	want := `{"songId":"a","dim":"region:IN","grain":"day","asOf":"2025-11-24T12:00:00.000Z",` +
		`"metadata":{"title":"A","artist":"","artistId":"","genres":[],"durationMs":0},"points":[` +
		point(22, 23, "3", true) + "," + point(23, 24, "1", true) + "," + point(24, 25, "null", false) + "]}\n"
	if r.status != http.StatusOK || string(r.body) != want || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %v\n%s\nwant %s", r.status, r.header, r.body, want)
	}
}

// The ends are widened to whole steps, and the last is at most that of now,
// Monday 2025-11-24 12:00. Weeks begin on Fridays.
func TestSongHistorySpans(t *testing.T) {
	s, f := newFacts(t)
	s.truth.plays["a"] = 1
	for query, want := range map[string]string{
		"":                                  "a global day 2025-10-26T00:00:00Z 2025-11-25T00:00:00Z",
		"grain=hour":                        "a global hour 2025-10-26T12:00:00Z 2025-11-24T13:00:00Z",
		"grain=week":                        "a global week 2025-10-24T00:00:00Z 2025-11-28T00:00:00Z",
		"from=2025-11-22T23:59:59.999Z":     "a global day 2025-11-22T00:00:00Z 2025-11-25T00:00:00Z",
		"to=2025-11-22T00:00:00Z":           "a global day 2025-10-24T00:00:00Z 2025-11-22T00:00:00Z",
		"to=2025-11-22T00:00:00.001Z":       "a global day 2025-10-24T00:00:00Z 2025-11-23T00:00:00Z",
		"from=2025-11-24T13:00:00Z&to=9e18": "",
		"from=2025-11-24T13:00:00Z&to=9000000000000000000":                    "a global day 2025-11-24T00:00:00Z 2025-11-25T00:00:00Z",
		"grain=week&from=2025-11-20T00:00:00Z&to=2025-11-21T00:00:00Z":        "a global week 2025-11-14T00:00:00Z 2025-11-21T00:00:00Z",
		"grain=hour&from=2025-11-20T10:30:00Z&to=2025-11-20T10:31:00Z":        "a global hour 2025-11-20T10:00:00Z 2025-11-20T11:00:00Z",
		"grain=hour&from=2025-10-13T21:00:00Z&dim=artist:x":                   "a artist:x hour 2025-10-13T21:00:00Z 2025-11-24T13:00:00Z",
		"grain=day&from=1763769600000&to=1763856000000&dim=genre:a%2Cgenre:b": "a genre:a,genre:b day 2025-11-22T00:00:00Z 2025-11-23T00:00:00Z",
	} {
		f.questions()
		r := s.get("/v1/songs/a/history?" + query)
		if want == "" {
			s.problem(r, http.StatusBadRequest)
			continue
		}
		asked := f.questions()
		if r.status != http.StatusOK || len(asked) == 0 || asked[0] != "history "+want {
			t.Errorf("%s: %d %v, want %s", query, r.status, asked, want)
		}
		ranked := !strings.Contains(want, " hour ") && !strings.Contains(want, ",")
		if got := len(asked) == 2 && strings.HasPrefix(asked[1], "ranks "); got != ranked {
			t.Errorf("%s: %v, want ranks %t", query, asked, ranked)
		}
	}
}

func TestSongHistoryBadParameters(t *testing.T) {
	s, f := newFacts(t)
	for query, want := range map[string][]string{
		"grain=month":               {"query.grain"},
		"window=1h":                 {"query.window"},
		"from=2025-11-25T00:00:00Z": {"query.from"},
		"from=2025-11-25T00:00:00Z&to=9000000000000": {"query.from"},
		"from=2&to=2":                          {"query.from"},
		"from=-1":                              {"query.from"},
		"grain=week&from=0&to=1":               {"query.from"}, // it began in 1969
		"from=0":                               {"query.from"}, // more than 1000 days
		"grain=hour&from=2025-10-13T20:00:00Z": {"query.from"},
		"from=x&to=y&dim=z&grain=w&a=b":        {"query.a", "query.dim", "query.grain", "query.to", "query.from"},
	} {
		if got := locations(s.problem(s.get("/v1/songs/a/history?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if asked := f.questions(); len(asked) != 0 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
}

// A song that neither was played nor is in the catalog does not exist, whatever
// is asked of it.
func TestSongHistoryOfUnknownSongs(t *testing.T) {
	s, f := newFacts(t)
	f.dates = []topk.ClosedDate{{Date: date(23)}}
	s.truth.songs["known"] = topk.Song{SongID: "known", Title: "Known"}
	for _, call := range []string{"history", "charts"} {
		s.problem(s.get("/v1/songs/none/"+call), http.StatusNotFound)
		s.problem(s.get("/v1/songs/"+strings.Repeat("x", 65)+"/"+call), http.StatusNotFound)
		s.problem(s.get("/v1/songs/%ff/"+call), http.StatusNotFound)
		if r := s.get("/v1/songs/known/" + call); r.status != http.StatusOK {
			t.Errorf("%s: %d %s", call, r.status, r.body)
		}
		s.truth.set(func() { s.truth.plays = map[string]uint64{"a/b": 1} })
		if r := s.get("/v1/songs/a%2Fb/" + call); r.status != http.StatusOK || !strings.Contains(string(r.body), `{"songId":"a/b",`) {
			t.Errorf("%s: %d %s", call, r.status, r.body)
		}
		s.truth.set(func() { s.truth.err = errAway })
		r := s.get("/v1/songs/known/" + call)
		s.problem(r, http.StatusServiceUnavailable)
		if r.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		s.truth.set(func() { s.truth.err = nil })
	}
}

func TestSongCharts(t *testing.T) {
	s, f := newFacts(t)
	s.truth.songs["a"] = topk.Song{SongID: "a", Title: "A"}
	india, pop := topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"}), topk.NewFilter(topk.Term{Dim: topk.DimGenre, Value: "pop"})
	career := topk.Career{PreviousRank: 4, Peak: 1, PeakDate: date(7), Periods: 3, Streak: 2, Movement: topk.Up}
	f.ranks = []topk.ChartPlace{
		{Filter: topk.Filter{}, Date: date(14), Revision: 1, Rank: 9, Plays: 5, Career: topk.Career{Peak: 9, PeakDate: date(14), Periods: 1, Streak: 1, Movement: topk.New}},
		{Filter: india, Date: date(14), Revision: 2, Rank: 2, Plays: 3, Career: career},
		{Filter: pop, Date: date(14), Revision: 1, Rank: 2, Plays: 3, Career: career},
		{Filter: pop, Date: date(7), Rank: 1},
	}
	r := s.get("/v1/songs/a/charts?period=week&date=2025-11-20")
	const career2 = `"rank":2,"plays":3,"previousRank":4,"movement":"up","peakRank":1,"peakDate":"2025-11-07","periodsOnChart":3,"streak":2}`
	const want = `{"songId":"a","period":"week","date":"2025-11-14","metadata":{"title":"A","artist":"","artistId":"","genres":[],"durationMs":0},"charts":[` +
		`{"dim":"genre:pop","revision":1,` + career2 + `,{"dim":"region:IN","revision":2,` + career2 +
		`,{"dim":"global","revision":1,"rank":9,"plays":5,"previousRank":null,"movement":"new","peakRank":9,"peakDate":"2025-11-14","periodsOnChart":1,"streak":1}]}` + "\n"
	if r.status != http.StatusOK || string(r.body) != want {
		t.Errorf("%d\n%s\nwant %s", r.status, r.body, want)
	}

	for query, want := range map[string][]string{
		"date=2025-11-20":             {"places a day 2025-11-20"},
		"period=day":                  {"dates global day 0001-01-01 1", "places a day 2025-11-23"},
		"period=week&date=2025-11-21": {"places a week 2025-11-21"},
		"period=week":                 {"dates global week 0001-01-01 1", "places a week 2025-11-23"},
	} {
		f.set(func() { f.dates = []topk.ClosedDate{{Date: date(23)}} })
		f.questions()
		var got answer.SongCharts
		s.into(s.get("/v1/songs/a/charts?"+query), &got)
		if asked := f.questions(); !reflect.DeepEqual(asked, want) {
			t.Errorf("%s: %v, want %v", query, asked, want)
		}
	}
	f.set(func() { f.dates = nil })
	if r := s.get("/v1/songs/a/charts"); r.status != http.StatusOK || !strings.Contains(string(r.body), `"charts":[]`) || strings.Contains(string(r.body), `"date"`) {
		t.Errorf("nothing is closed: %d %s", r.status, r.body)
	}
	for query, want := range map[string][]string{
		"period=month": {"query.period"}, "date=2025-11-31": {"query.date"}, "date=1969-12-31": {"query.date"}, "date=9999-01-01": {"query.date"},
		"date=": {"query.date"}, "k=1": {"query.k"}, "date=2025-11-20&date=2025-11-21": {"query.date"},
	} {
		if got := locations(s.problem(s.get("/v1/songs/a/charts?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
}
