package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

// facts is a truth that knows more than charts.
type facts struct {
	*truth
	rises   []topk.Rise
	ranks   []topk.ChartPlace
	dates   []topk.ClosedDate
	values  map[topk.Dimension][]string
	artists map[string]topk.Artist
	asked   []string // every question, in words
}

func newFacts(t *testing.T, change ...func(*api.Config)) (*service, *facts) {
	t.Helper()
	var f *facts
	s := newService(t, append([]func(*api.Config){func(c *api.Config) {
		f = &facts{truth: c.Queries.(*truth)}
		c.Queries = f
	}}, change...)...)
	return s, f
}

// ask notes a question, and waits while everything is held.
func (f *facts) ask(ctx context.Context, format string, args ...any) error {
	f.mu.Lock()
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	hold, err := f.hold, f.err
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// questions gives those since it was last called.
func (f *facts) questions() (asked []string) {
	f.set(func() { asked, f.asked = f.asked, nil })
	return asked
}

func (f *facts) Compare(ctx context.Context, q topk.ComparisonQuery) (topk.Comparison, error) {
	window, reference, err := q.Sides(topk.DefaultCalendar())
	if err != nil {
		return topk.Comparison{}, err
	}
	return topk.Comparison{
		Filter: q.Filter, Window: q.Window, AsOf: q.Now, Span: window.Span, ReferenceFilter: reference.Filter, ReferenceSpan: reference.Span,
		TotalPlays: 30, ReferencePlays: 100, Items: f.rises,
	}, f.ask(ctx, "compare %s %s %s %d", q.Filter, q.Window, q.Reference, q.K)
}

var twoRises = []topk.Rise{
	{Rank: 1, SongID: "b", Plays: 20, ReferencePlays: 10, Expected: 3, Score: 8.5},
	{Rank: 2, SongID: "a", Plays: 10, ReferencePlays: 90, Expected: 27, Score: -3.25},
}

func TestTrending(t *testing.T) {
	s, f := newFacts(t)
	f.rises = twoRises
	s.truth.songs["b"] = topk.Song{SongID: "b", Title: "B", ArtistID: "x", Artist: "X", Genres: []string{"pop"}, DurationMS: 1000}
	r := s.get("/v1/trending")
	const want = `{"dim":"global","window":"24h","reference":"baseline","asOf":"2025-11-24T12:00:00.000Z",` +
		`"windowStart":"2025-11-23T12:00:00.000Z","windowEnd":"2025-11-24T12:00:00.001Z","stale":false,"referenceDim":"global",` +
		`"referenceStart":"2025-11-16T12:00:00.000Z","referenceEnd":"2025-11-23T12:00:00.000Z","totalPlays":30,"referencePlays":100,"items":[` +
		`{"rank":1,"songId":"b","score":8.5,"plays":20,"expected":3,"referencePlays":10,"metadata":{"title":"B","artist":"X","artistId":"x","genres":["pop"],"durationMs":1000}},` +
		`{"rank":2,"songId":"a","score":-3.25,"plays":10,"expected":27,"referencePlays":90,"metadata":null}]}` + "\n"
	if r.status != http.StatusOK || string(r.body) != want || r.header.Get("Cache-Control") != "max-age=5" {
		t.Errorf("%d %v\n%s\nwant %s", r.status, r.header, r.body, want)
	}
	if head := s.do(http.MethodHead, "/v1/trending", ""); head.status != http.StatusOK || len(head.body) != 0 || head.header.Get("Cache-Control") != "max-age=5" {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
	for query, want := range map[string]string{
		"window=1h&k=1":                            "compare global 1h baseline 200",
		"window=7d&k=201":                          "compare global 7d baseline 1000",
		"dim=genre:pop&k=50":                       "compare genre:pop 24h baseline 200",
		"dim=region:IN,genre:pop&overindex=global": "compare genre:pop,region:IN 24h global 200",
	} {
		f.questions()
		var got answer.Trend
		s.into(s.get("/v1/trending?"+query), &got)
		if asked := f.questions(); len(asked) != 1 || asked[0] != want {
			t.Errorf("%s: %v, want %s", query, asked, want)
		}
		if over := strings.Contains(query, "overindex"); over && (got.ReferenceDim != "genre:pop" || got.ReferenceStart != got.WindowStart || got.Reference != "global") {
			t.Errorf("%+v", got)
		}
		if want := 2; strings.HasSuffix(query, "k=1") == (len(got.Items) == want) {
			t.Errorf("%s: %d items", query, len(got.Items))
		}
	}
}

func TestTrendingBadParameters(t *testing.T) {
	s, f := newFacts(t)
	for query, want := range map[string][]string{
		"window=30d":                        {"query.window"},
		"window=all":                        {"query.window"},
		"k=0":                               {"query.k"},
		"k=1001":                            {"query.k"},
		"k=1&k=1":                           {"query.k"},
		"dim=planet:mars":                   {"query.dim"},
		"overindex=region":                  {"query.overindex"},
		"overindex=global":                  {"query.overindex"},
		"overindex=global&dim=genre:pop":    {"query.overindex"},
		"from=1&to=2":                       {"query.from", "query.to"},
		"dim=x&window=y&k=z&overindex=&a=b": {"query.a", "query.dim", "query.k", "query.window", "query.overindex"},
	} {
		if got := locations(s.problem(s.get("/v1/trending?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if asked := f.questions(); len(asked) != 0 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
}

// However many ask the same, ClickHouse is asked once, and then not again for a
// while.
func TestTrendingIsComparedOnce(t *testing.T) {
	s, f := newFacts(t)
	f.rises = twoRises
	hold := make(chan struct{})
	f.set(func() { f.hold = hold })
	var clients sync.WaitGroup
	for i := range 20 {
		clients.Go(func() {
			if r := s.get(fmt.Sprint("/v1/trending?k=", i+1)); r.status != http.StatusOK {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	s.eventually("it is being compared", func() bool { return s.metric("topk_api_clickhouse_queries_in_flight") == 1 })
	close(hold)
	clients.Wait()
	s.advance(4 * time.Second)
	s.get("/v1/trending")
	if asked := f.questions(); len(asked) != 1 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
	s.advance(time.Second)
	s.get("/v1/trending")
	if asked := f.questions(); len(asked) != 1 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
	if n := s.metric("topk_api_answer_source_total", "call", "trending", "source", "memory"); n == 0 {
		t.Error("no answer is counted as remembered")
	}
}

// While ClickHouse is away, or slow, what was known last is told, and that it is
// old.
func TestTrendingWithoutClickHouse(t *testing.T) {
	s, f := newFacts(t, func(c *api.Config) { c.Limits.InsteadOfStale = 10 * time.Millisecond })
	f.rises = twoRises
	f.set(func() { f.err = errAway })
	r := s.get("/v1/trending")
	s.problem(r, http.StatusServiceUnavailable)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	trend := func(stale bool, asOf time.Time) {
		t.Helper()
		var got answer.Trend
		r := s.get("/v1/trending")
		s.into(r, &got)
		cached := map[bool]string{true: "no-store", false: "max-age=5"}[stale]
		if got.Stale != stale || got.AsOf != asOf.Format("2006-01-02T15:04:05.000Z") || len(got.Items) != 2 || r.header.Get("Cache-Control") != cached {
			t.Errorf("%v %+v, want stale %t of %s", r.header, got, stale, asOf)
		}
	}
	f.set(func() { f.err = nil })
	trend(false, serviceStart)
	s.advance(time.Minute)
	f.set(func() { f.err = errAway })
	trend(true, serviceStart)
	s.problem(s.get("/v1/trending?window=1h"), http.StatusServiceUnavailable) // of which nothing is known

	hold := make(chan struct{})
	f.set(func() { f.err, f.hold = nil, hold })
	trend(true, serviceStart)
	close(hold)
	f.set(func() { f.hold = nil })
	s.eventually("what came late is remembered", func() bool {
		var got answer.Trend
		s.into(s.get("/v1/trending"), &got)
		return !got.Stale
	})
	trend(false, serviceStart.Add(time.Minute))
}
