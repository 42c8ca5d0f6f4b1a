package api_test

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

func (f *facts) Values(ctx context.Context, dim topk.Dimension) ([]string, error) {
	return f.values[dim], f.ask(ctx, "values %s", dim)
}

// names pages through the list, and gives it as a whole.
func (s *service) names(query url.Values) (names []string) {
	s.Helper()
	for pages := 0; ; pages++ {
		var got answer.Charts
		s.into(s.get("/v1/charts?"+query.Encode()), &got)
		for _, item := range got.Items {
			names = append(names, item.Dim)
			if f, err := topk.ParseFilter(item.Dim); err != nil || f.Terms()[0] != (topk.Term{Dim: topk.Dimension(item.Dimension), Value: item.Value}) {
				s.Errorf("%+v: %v", item, err)
			}
		}
		if got.NextCursor == "" {
			return names
		}
		if len(got.Items) == 0 || pages > 100 {
			s.Fatalf("%v: page %d is %+v", query, pages, got)
		}
		query.Set("cursor", got.NextCursor)
	}
}

func TestCharts(t *testing.T) {
	s, f := newFacts(t)
	f.values = map[topk.Dimension][]string{
		topk.DimDevice: {"desktop", "mobile"}, topk.DimGenre: {"a,b", "a-b", "a.b", "pop"}, topk.DimRegion: {"IN", "IN/Mumbai", "US", "US/Washington, D.C."}, topk.DimSegment: {"premium"},
	}
	all := []string{
		"device:desktop", "device:mobile", "genre:a%2Cb", "genre:a-b", "genre:a.b", "genre:pop", "global",
		"region:IN", "region:IN/Mumbai", "region:US", "region:US/Washington%2C D.C.", "segment:premium",
	}
	for _, k := range []string{"1", "2", "3", "5", "11", "12", "13", "1000"} {
		if got := s.names(url.Values{"k": {k}}); !slices.Equal(got, all) {
			t.Errorf("by %s: %q", k, got)
		}
	}
	for query, want := range map[string][]string{
		"dimension=region":                     all[7:11],
		"dimension=global":                     {"global"},
		"dimension=region&startsWith=US/W&k=1": {"region:US/Washington%2C D.C."},
		"startsWith=":                          all,
		"startsWith=p&k=1":                     {"genre:pop", "segment:premium"},
		"startsWith=a,":                        {"genre:a%2Cb"},
		"startsWith=none":                      nil,
		"dimension=segment&cursor=" + api.ChartsCursor("global"): {"segment:premium"},
		"dimension=device&cursor=" + api.ChartsCursor("global"):  nil,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		if got := s.names(values); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if asked := f.questions(); len(asked) != 4 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
}

func TestChartsBadParameters(t *testing.T) {
	s, f := newFacts(t)
	for query, want := range map[string][]string{
		"dimension=playlist":                     {"query.dimension"},
		"dimension=artist":                       {"query.dimension"},
		"dimension=planet":                       {"query.dimension"},
		"k=0":                                    {"query.k"},
		"k=1001":                                 {"query.k"},
		"startsWith=" + strings.Repeat("x", 129): {"query.startsWith"},
		"cursor=":                                {"query.cursor"},
		"cursor=x":                               {"query.cursor"},
		"cursor=" + api.ChartsCursor("planet:x"): {"query.cursor"},
		"cursor=" + api.ChartsCursor("album:x"):  {"query.cursor"},
		"cursor=" + api.ChartsCursor("global,region:IN"): {"query.cursor"},
		"dim=global&k=1&k=2":                             {"query.dim", "query.k"},
	} {
		p := s.problem(s.get("/v1/charts?"+query), http.StatusBadRequest)
		if got := locations(p); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
		if query == "dimension=playlist" && !strings.Contains(p.Errors[0].Message, "dim=playlist:ID") {
			t.Errorf("it does not say what to ask instead: %s", p.Errors[0].Message)
		}
	}
	if asked := f.questions(); len(asked) != 0 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
}

// The list is asked for once a minute, and the last one serves while ClickHouse
// is away.
func TestChartsAreRemembered(t *testing.T) {
	s, f := newFacts(t)
	f.set(func() { f.err = errAway })
	s.problem(s.get("/v1/charts"), http.StatusServiceUnavailable)
	if got := s.names(url.Values{"dimension": {"global"}}); !slices.Equal(got, []string{"global"}) {
		t.Errorf("%q", got)
	}
	f.set(func() {
		f.err, f.values = nil, map[topk.Dimension][]string{topk.DimRegion: {"IN"}}
	})
	regions := func(stale bool, want ...string) {
		t.Helper()
		var got answer.Charts
		s.into(s.get("/v1/charts?dimension=region"), &got)
		var names []string
		for _, item := range got.Items {
			names = append(names, item.Value)
		}
		if !slices.Equal(names, want) || got.Stale != stale {
			t.Errorf("%+v, want %v, stale %t", got, want, stale)
		}
	}
	regions(false, "IN")
	f.set(func() { f.values = map[topk.Dimension][]string{topk.DimRegion: {"IN", "US"}} })
	s.advance(59 * time.Second)
	regions(false, "IN")
	f.set(func() { f.err = errAway })
	s.advance(time.Second)
	regions(true, "IN")
	f.set(func() { f.err = nil })
	regions(false, "IN", "US")
}

func TestChartDates(t *testing.T) {
	s, f := newFacts(t)
	f.dates = []topk.ClosedDate{
		{Date: date(14), Span: topk.Span{Start: date(14), End: date(21)}, Revision: 2, ClosedAt: serviceStart, TotalPlays: 9},
		{Date: date(7), Span: topk.Span{Start: date(7), End: date(14)}, Revision: 1, ClosedAt: serviceStart, TotalPlays: 8},
	}
	r := s.get("/v1/charts/dates?dim=region:IN&period=week&k=1&before=2025-11-21")
	const want = `{"dim":"region:IN","period":"week","dates":[{"date":"2025-11-14","windowStart":"2025-11-14T00:00:00.000Z",` +
		`"windowEnd":"2025-11-21T00:00:00.000Z","revision":2,"closedAt":"2025-11-24T12:00:00.000Z","totalPlays":9}]}` + "\n"
	if r.status != http.StatusOK || string(r.body) != want {
		t.Errorf("%d\n%s\nwant %s", r.status, r.body, want)
	}
	if asked := f.questions(); !slices.Equal(asked, []string{"dates region:IN week 2025-11-21 1"}) {
		t.Errorf("%v", asked)
	}
	var got answer.ClosedDates
	s.into(s.get("/v1/charts/dates"), &got)
	if asked := f.questions(); !slices.Equal(asked, []string{"dates global day 0001-01-01 30"}) || len(got.Dates) != 2 {
		t.Errorf("%v %+v", asked, got)
	}
	f.set(func() { f.dates = nil })
	if r := s.get("/v1/charts/dates"); !strings.Contains(string(r.body), `"dates":[]`) {
		t.Errorf("%s", r.body)
	}
	for query, want := range map[string][]string{
		"dim=playlist:x":                {"query.dim"},
		"dim=region:IN,genre:pop":       {"query.dim"},
		"dim=x":                         {"query.dim"},
		"period=hour":                   {"query.period"},
		"k=0":                           {"query.k"},
		"before=yesterday":              {"query.before"},
		"before=2025-11-21T00:00:00Z":   {"query.before"},
		"cursor=x":                      {"query.cursor"},
		"before=2025-1-1&dim=album:a,b": {"query.dim", "query.before"},
	} {
		p := s.problem(s.get("/v1/charts/dates?"+query), http.StatusBadRequest)
		if got := locations(p); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
		if query == "dim=playlist:x" && !strings.Contains(p.Errors[0].Message, "/v1/top?dim=…&period=day&date=…") {
			t.Errorf("it does not say what to ask instead: %s", p.Errors[0].Message)
		}
	}
	f.set(func() { f.err = errAway })
	s.problem(s.get("/v1/charts/dates"), http.StatusServiceUnavailable)
}

// A cursor, however odd, is refused or names one chart of the list.
func FuzzChartsCursor(f *testing.F) {
	for _, seed := range []string{"", "x", api.ChartsCursor("global"), api.ChartsCursor("region:US/Washington%2C D.C."), api.ChartsCursor("genre:a,genre:b")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		dim, err := api.ParseChartsCursor(text)
		if err != nil {
			return
		}
		if filter, err := topk.ParseFilter(dim); err != nil || !filter.Eager() || filter.String() != dim || api.ChartsCursor(dim) != text {
			t.Errorf("%q is of %q: %v", text, dim, err)
		}
	})
}
