package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

func TestTopOfASnapshot(t *testing.T) {
	s := newService(t)
	india := topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"}, topk.Term{Dim: topk.DimGenre, Value: "pop"})
	s.truth.songs["b"] = topk.Song{SongID: "b", Title: "B <side>", ArtistID: "x", Artist: "X", Genres: []string{"pop", "rock"}, DurationMS: 1000}
	s.truth.songs["é"] = topk.Song{SongID: "é", Title: "É", ArtistID: "y", Artist: "Y"}
	s.publish(india, topk.LastHour, map[string]uint64{"a": 1, "b": 2, "é": 2, "c": 2})
	s.advance(5 * time.Second)

	r := s.get("/v1/top?dim=region:IN,genre:pop&window=1h&k=3")
	const want = `{"dim":"genre:pop,region:IN","window":"1h","asOf":"2025-11-24T12:00:00.000Z",` +
		`"windowStart":"2025-11-24T11:00:00.000Z","windowEnd":"2025-11-24T12:00:00.001Z",` +
		`"source":"snapshot","stale":false,"mode":"exact","rankBy":"plays","totalPlays":7,"comparedTo":null,"items":[` +
		`{"rank":1,"songId":"é","score":2,"previousRank":null,"movement":null,"metadata":{"title":"É","artist":"Y","artistId":"y","genres":[],"durationMs":0}},` +
		`{"rank":2,"songId":"c","score":2,"previousRank":null,"movement":null,"metadata":null},` +
		`{"rank":3,"songId":"b","score":2,"previousRank":null,"movement":null,"metadata":{"title":"B <side>","artist":"X","artistId":"x","genres":["pop","rock"],"durationMs":1000}}],"nextCursor":"ATr7eztHBZxQAAABmrWFP4AAAAGatbwuAQIDAGI"}` + "\n"
	if got := string(r.body); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := r.header.Get("Cache-Control"); got != "max-age=1, stale-while-revalidate=5" {
		t.Errorf("Cache-Control %q", got)
	}
	if calls := s.truth.chartCalls(); len(calls) != 0 {
		t.Errorf("ClickHouse computed %v", calls)
	}
}

func TestTopDefaults(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(30))
	got := s.top("")
	if got.Dim != "global" || got.Window != "24h" || len(got.Items) != 10 || got.Source != "snapshot" {
		t.Errorf("%+v", got)
	}
}

func TestTopIsStrict(t *testing.T) {
	s := newService(t)
	for query, want := range map[string][]string{
		"k=0":                                   {"query.k"},
		"k=1001":                                {"query.k"},
		"k=":                                    {"query.k"},
		"k=1.5":                                 {"query.k"},
		"k=ten":                                 {"query.k"},
		"k=1&k=2":                               {"query.k"},
		"window=2h":                             {"query.window"},
		"window=":                               {"query.window"},
		"dim=country:IN":                        {"query.dim"},
		"dim=":                                  {"query.dim"},
		"dim=region:XX":                         {"query.dim"},
		"dim=global&dim=region:IN":              {"query.dim"},
		"limit=10":                              {"query.limit"},
		"K=10&Dim=global":                       {"query.Dim", "query.K"},
		"If-None-Match=x":                       {"query.If-None-Match"},
		"from=1":                                {"query.to"},
		"to=1":                                  {"query.from"},
		"from=1&to=2&window=1h":                 {"query.window", "query.from", "query.window", "query.to"},
		"from=2&to=1":                           {"query.from"},
		"from=1&to=1":                           {"query.from"},
		"from=-5&to=1":                          {"query.from"},
		"from=1&to=9223372036854775807":         {"query.from"},
		"from=yesterday&to=now":                 {"query.from", "query.to"},
		"from=2025-11-24&to=2025-11-25":         {"query.from", "query.to"},
		"from=2025-11-24T00:00:00Z&to=x":        {"query.to"},
		"dim=x&window=y&k=z&a=b":                {"query.a", "query.window", "query.dim", "query.k"},
		"k=%zz":                                 {"query"},
		"period=month":                          {"query.period"},
		"period=":                               {"query.period"},
		"period=day&window=1h":                  {"query.period", "query.window"},
		"period=day&from=1&to=2":                {"query.period", "query.from", "query.period", "query.to"},
		"period=day&date=21-11-2025":            {"query.date"},
		"period=day&date=2025-02-30":            {"query.date"},
		"period=day&date=1969-12-31":            {"query.date"},
		"period=week&date=1970-01-01":           {"query.date"}, // its week began in 1969
		"period=day&date=2107-01-01":            {"query.date"},
		"date=2025-11-21":                       {"query.period"},
		"date=2025-11-21&window=24h":            {"query.period"},
		"revision=1":                            {"query.period", "query.date"},
		"period=day&revision=1":                 {"query.date"},
		"period=day&date=2025-11-21&revision=0": {"query.revision"},
		"period=day&date=2025-11-21&revision=2147483648":            {"query.revision"},
		"period=day&date=2025-11-21&revision=x":                     {"query.revision"},
		"period=day&date=2025-11-21&revision=1&rankBy=listeners":    {"query.revision", "query.rankBy"},
		"period=day&date=2025-11-21&revision=1&dim=global&rankBy=x": {"query.rankBy"},
		"rankBy=":                         {"query.rankBy"},
		"rankBy=songs":                    {"query.rankBy"},
		"mode=fast":                       {"query.mode"},
		"mode=approx&rankBy=listeners":    {"query.mode", "query.rankBy"},
		"mode=approx&cursor=x":            {"query.mode", "query.cursor"},
		"mode=approx&period=day":          {"query.mode", "query.period"},
		"mode=approx&compare=previous":    {"query.mode", "query.compare"},
		"compare=previous":                {"query.from"},
		"compare=next&from=1&to=2":        {"query.compare"},
		"compare=&from=1&to=2":            {"query.compare"},
		"compare=previous&window=24h":     {"query.compare", "query.window"},
		"compare=previous&period=day":     {"query.compare", "query.period"},
		"compare=previous&from=1&to=3":    {"query.compare"}, // before 1970
		"format=xml":                      {"query.format"},
		"format=":                         {"query.format"},
		"format=JSON":                     {"query.format"},
		"cursor=":                         {"query.cursor"},
		"cursor=AAAA":                     {"query.cursor"},
		"cursor=!":                        {"query.cursor"},
		"cursor=x&format=csv&format=json": {"query.format"},
		"k=1;k=2":                         {"query"},
	} {
		if got := locations(s.problem(s.get("/v1/top?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	if calls := s.truth.chartCalls(); len(calls) != 0 {
		t.Errorf("ClickHouse computed %v", calls)
	}
}

func TestTopBetween(t *testing.T) {
	s := newService(t)
	s.truth.plays = map[string]uint64{"a": 3}
	for _, query := range []string{
		"?from=1763942400000&to=1763946000123",
		"?from=2025-11-24T00:00:00Z&to=2025-11-24T01:00:00.123Z",
		"?from=" + url.QueryEscape("2025-11-24T05:30:00+05:30") + "&to=1763946000123",
	} {
		got := s.top(query)
		if got.Source != "clickhouse" || got.Stale || got.Window != "2025-11-24T00:00:00.000Z/2025-11-24T01:00:00.123Z" ||
			got.WindowStart != "2025-11-24T00:00:00.000Z" || got.WindowEnd != "2025-11-24T01:00:00.123Z" || len(got.Items) != 1 {
			t.Errorf("%s: %+v", query, got)
		}
	}
	if r := s.get("/v1/top?from=1763942400000&to=1763946000123"); r.header.Get("ETag") != "" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", r.header)
	}
}

func TestTopThatNobodyPlayed(t *testing.T) {
	s := newService(t)
	if r := s.get("/v1/top?dim=playlist:none"); r.status != 200 || !strings.Contains(string(r.body), `"items":[]`) || !strings.Contains(string(r.body), `"source":"clickhouse"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	s.publish(worldwide, topk.Last24h, nil)
	if r := s.get("/v1/top"); r.status != 200 || !strings.Contains(string(r.body), `"items":[]`) || !strings.Contains(string(r.body), `"source":"snapshot"`) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// Redis and ClickHouse fail one after the other, and come back.
func TestTopFallsBack(t *testing.T) {
	s := newService(t)
	s.truth.plays = map[string]uint64{"a": 9}
	s.publish(worldwide, topk.Last24h, map[string]uint64{"a": 5})
	want := func(query, source string, stale bool, score uint64) {
		t.Helper()
		got := s.top(query)
		if got.Source != source || got.Stale != stale || len(got.Items) != 1 || got.Items[0].Score != score {
			t.Errorf("%+v; want %s, stale %t, %d plays", got, source, stale, score)
		}
	}
	want("", "snapshot", false, 5)
	s.truth.set(func() { s.truth.err = errAway })
	want("", "snapshot", false, 5) // which needs no ClickHouse
	s.truth.set(func() { s.truth.err = nil })

	s.killRedis()
	s.advance(time.Second)
	want("", "clickhouse", false, 9)
	s.truth.set(func() { s.truth.err = errAway })
	want("", "last-known", true, 5)
	r := s.get("/v1/top")
	if r.header.Get("ETag") != "" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("last known, but %v", r.header)
	}

	unknown := s.get("/v1/top?dim=region:IN")
	s.problem(unknown, http.StatusServiceUnavailable)
	if unknown.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.truth.set(func() { s.truth.err = nil })
	want("", "clickhouse", false, 9)

	for source, n := range map[string]float64{"snapshot": 2, "clickhouse": 2, "last-known": 2, "none": 1} {
		if got := s.metric("topk_api_chart_source_total", "source", source); got != n {
			t.Errorf("%v charts from %s, want %v", got, source, n)
		}
	}
}

// A failure of ours that is no outage is answered as such.
func TestTopThatFails(t *testing.T) {
	s := newService(t)
	s.truth.err = errors.New("syntax error at db.internal")
	s.problem(s.get("/v1/top"), http.StatusInternalServerError)
	s.truth.set(func() { s.truth.err = topk.FieldErrors{{Message: "too many terms"}} })
	if p := s.problem(s.get("/v1/top"), http.StatusBadRequest); p.Detail != "too many terms" {
		t.Errorf("%+v", p)
	}
}

// Only a snapshot with less than all its places taken has the whole chart.
func TestTopBeyondTheSnapshot(t *testing.T) {
	s := newService(t)
	s.truth.plays = playsOf(500)
	s.publish(worldwide, topk.Last24h, playsOf(500))
	s.publish(worldwide, topk.LastHour, playsOf(topk.SnapshotSize-1))
	for _, c := range []struct {
		query, source string
		items         int
	}{
		{"?k=200", "snapshot", 200},
		{"?k=201", "clickhouse", 201},
		{"?k=1000", "clickhouse", 500},
		{"?k=1000&window=1h", "snapshot", 199},
	} {
		if got := s.top(c.query); got.Source != c.source || len(got.Items) != c.items {
			t.Errorf("%s: %s, %d items", c.query, got.Source, len(got.Items))
		}
	}
	s.truth.set(func() { s.truth.err = errAway })
	if p := s.problem(s.get("/v1/top?k=201"), http.StatusServiceUnavailable); !strings.Contains(p.Detail, "200") {
		t.Errorf("%+v", p)
	}
}

func TestTopGrowsStale(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(1))
	s.advance(10 * time.Second)
	fresh := s.get("/v1/top")
	if got := s.top(""); got.Stale {
		t.Errorf("%+v", got)
	}
	s.advance(time.Millisecond)
	// The refresher is away: ClickHouse knows better.
	s.truth.set(func() { s.truth.plays = playsOf(3) })
	if got := s.top(""); got.Stale || got.Source != "clickhouse" || len(got.Items) != 3 {
		t.Errorf("%+v", got)
	}
	s.truth.set(func() { s.truth.err = errAway })
	asked := len(s.truth.chartCalls())
	for range 5 { // of which one asks
		if got := s.top(""); !got.Stale || got.Source != "snapshot" || len(got.Items) != 1 {
			t.Errorf("%+v", got)
		}
	}
	if again := len(s.truth.chartCalls()) - asked; again != 1 {
		t.Errorf("asked ClickHouse %d times within a second, while it is away", again)
	}
	// The version is the same, but who has the fresh one must be told.
	if r := s.get("/v1/top", "If-None-Match", fresh.header.Get("ETag")); r.status != http.StatusOK {
		t.Errorf("%d", r.status)
	}
}

func TestTopETag(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(5))
	first := s.get("/v1/top")
	tag := first.header.Get("ETag")
	if want := fmt.Sprintf(`W/"%d-`, serviceStart.UnixMilli()); !strings.HasPrefix(tag, want) {
		t.Fatalf("ETag %s does not begin with the version, %s", tag, want)
	}
	for _, have := range []string{tag, strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
		r := s.get("/v1/top", "If-None-Match", have)
		if r.status != http.StatusNotModified || len(r.body) != 0 || r.header.Get("ETag") != tag || r.header.Get("Cache-Control") == "" {
			t.Errorf("%s: %d %v", have, r.status, r.header)
		}
	}
	for _, have := range []string{`"x"`, `W/"` + strconv.FormatInt(serviceStart.UnixMilli(), 10) + `"`, "x"} {
		if r := s.get("/v1/top", "If-None-Match", have); r.status != http.StatusOK {
			t.Errorf("%s: %d", have, r.status)
		}
	}
	if other := s.get("/v1/top?k=3").header.Get("ETag"); other == tag {
		t.Error("charts of different lengths have one ETag")
	}
	s.advance(time.Second)
	s.publish(worldwide, topk.Last24h, playsOf(6))
	if r := s.get("/v1/top", "If-None-Match", tag); r.status != http.StatusOK || r.header.Get("ETag") == tag {
		t.Errorf("a new version: %d %s", r.status, r.header.Get("ETag"))
	}
}

// Everybody who wants a chart that is being computed waits for that one.
func TestTopIsComputedOnceForAll(t *testing.T) {
	s := newService(t)
	s.truth.hold, s.truth.plays = make(chan struct{}), playsOf(300)
	const clients = 20
	var asking sync.WaitGroup
	for i := range clients {
		asking.Go(func() {
			if got := s.top("?dim=artist:a&k=" + strconv.Itoa(i+1)); len(got.Items) != i+1 {
				t.Errorf("%d items, want %d", len(got.Items), i+1)
			}
		})
	}
	s.eventually("all wait", func() bool { return waitingIn("api.shared[") == clients })
	s.truth.set(func() { close(s.truth.hold); s.truth.hold = nil })
	asking.Wait()
	s.top("?dim=artist:a&k=201")
	if got, want := s.truth.chartCalls(), []string{"artist:a 24h 200", "artist:a 24h 1000"}; !slices.Equal(got, want) {
		t.Errorf("computed %v, want %v", got, want)
	}
}

// waitingIn counts the goroutines that are in a select of the function.
func waitingIn(function string) (n int) {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for goroutine := range strings.SplitSeq(string(stacks), "\n\n") {
		lines := strings.SplitN(goroutine, "\n", 3)
		if len(lines) == 3 && strings.Contains(lines[0], "[select") && strings.Contains(lines[1], function) {
			n++
		}
	}
	return n
}

// One who leaves does not take the chart away from the others.
func TestTopOutlivesItsFirstClient(t *testing.T) {
	s := newService(t)
	s.truth.hold, s.truth.plays = make(chan struct{}), playsOf(1)
	leaving, leave := context.WithCancel(context.Background())
	left := make(chan struct{})
	go func() {
		defer close(left)
		req, _ := http.NewRequestWithContext(leaving, http.MethodGet, s.url+"/v1/top", nil)
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			t.Error("answered")
		}
	}()
	s.eventually("the first one asks", func() bool { return len(s.truth.chartCalls()) == 1 })
	got := make(chan answer.Chart)
	go func() { got <- s.top("") }()
	s.eventually("both wait", func() bool { return waitingIn("api.shared[") == 2 })
	leave()
	<-left
	s.eventually("the first one is given up", func() bool {
		return s.metric("topk_api_request_duration_seconds", "code", "499") == 1
	})
	s.truth.set(func() { close(s.truth.hold); s.truth.hold = nil })
	if answer := <-got; len(answer.Items) != 1 || len(s.truth.chartCalls()) != 1 {
		t.Errorf("%+v, computed %v", answer, s.truth.chartCalls())
	}
}

func TestTopWithClickHouseBusy(t *testing.T) {
	s := newService(t, func(c *api.Config) {
		c.Limits.ChartSlots, c.Limits.ChartQueue = 1, time.Millisecond
	})
	hold := make(chan struct{})
	s.truth.hold = hold
	first := make(chan reply)
	go func() { first <- s.get("/v1/top?dim=artist:a") }()
	s.eventually("the first one runs", func() bool { return s.metric("topk_api_clickhouse_queries_in_flight") == 1 })
	r := s.get("/v1/top?dim=artist:b")
	s.problem(r, http.StatusServiceUnavailable)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(hold)
	if r := <-first; r.status != http.StatusOK {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestTopThatTakesTooLong(t *testing.T) {
	for name, change := range map[string]func(*api.Config){
		"statement": func(c *api.Config) { c.Limits.ChartQuery = time.Millisecond },
		"request": func(c *api.Config) {
			c.Limits.RequestTime, c.Limits.ChartQuery = 50*time.Millisecond, 100*time.Millisecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, change)
			s.truth.hold = make(chan struct{})
			s.problem(s.get("/v1/top"), http.StatusServiceUnavailable)
			s.eventually("the statement ends", func() bool { return s.metric("topk_api_clickhouse_queries_in_flight") == 0 })
		})
	}
}

func title(answer answer.Chart, i int) string {
	if answer.Items[i].Metadata == nil {
		return ""
	}
	return answer.Items[i].Metadata.Title
}

func TestMetadataIsAskedForOnce(t *testing.T) {
	s := newService(t)
	s.truth.songs["song-0000"] = topk.Song{SongID: "song-0000", Title: "Zero"}
	s.publish(worldwide, topk.Last24h, playsOf(5))
	s.publish(worldwide, topk.LastHour, playsOf(6))
	for range 3 {
		if got := s.top("?k=5"); title(got, 0) != "Zero" || title(got, 1) != "" {
			t.Fatalf("%+v", got)
		}
	}
	s.top("?k=6&window=1h") // one song more
	want := [][]string{{"song-0000", "song-0001", "song-0002", "song-0003", "song-0004"}, {"song-0005"}}
	if got := s.truth.lookups(); !reflect.DeepEqual(got, want) {
		t.Errorf("looked up %v, want %v", got, want)
	}

	// What is not known is asked for again sooner than what is.
	s.advance(5 * time.Second)
	s.top("?k=5")
	if got := s.truth.lookups(); !slices.Equal(got[len(got)-1], want[0][1:]) {
		t.Errorf("looked up %v", got)
	}
	s.truth.set(func() { s.truth.songs["song-0000"] = topk.Song{Title: "Nought"} })
	s.advance(time.Minute)
	s.publish(worldwide, topk.Last24h, playsOf(5))
	if got := s.top("?k=5"); title(got, 0) != "Nought" {
		t.Errorf("%+v", got)
	}
}

func TestMetadataWhileClickHouseIsAway(t *testing.T) {
	s := newService(t)
	s.truth.songs["song-0000"] = topk.Song{Title: "Zero"}
	s.truth.songs["song-0001"] = topk.Song{Title: "One"}
	s.publish(worldwide, topk.Last24h, playsOf(1))
	s.publish(worldwide, topk.LastHour, playsOf(2))
	s.top("")
	s.truth.set(func() { s.truth.err = errAway })
	s.advance(2 * time.Minute)
	got := s.top("?window=1h")
	if title(got, 0) != "Zero" { // remembered, if not for certain
		t.Errorf("%+v", got)
	}
	if title(got, 1) != "" {
		t.Errorf("%+v", got)
	}
	asked := len(s.truth.lookups())
	for range 5 {
		s.top("?window=1h&k=1")
		s.top("?window=1h&k=2")
	}
	if again := len(s.truth.lookups()); again != asked {
		t.Errorf("asked %d times more within a second", again-asked)
	}
	s.truth.set(func() { s.truth.err = nil })
	s.advance(time.Second)
	s.publish(worldwide, topk.LastHour, playsOf(2))
	if got := s.top("?window=1h"); title(got, 1) != "One" {
		t.Errorf("%+v", got)
	}
}
