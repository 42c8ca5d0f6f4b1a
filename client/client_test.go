package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/client"
	"github.com/topk-charts/topk/snapshot"
)

func TestMain(m *testing.M) {
	// The Redis client waits for a second after it has found no server, and is
	// not to be told to stop.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

var noon = time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC)

// songs are played, each once more than the next.
type songs struct {
	api.Queries

	mu    sync.Mutex
	count int
	err   error
}

func (s *songs) set(count int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count, s.err = count, err
}

func (s *songs) Chart(_ context.Context, q topk.ChartQuery) (topk.Chart, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	chart := topk.Chart{Filter: q.Filter, Window: q.Window, AsOf: q.Now, Span: q.Window.At(q.Now, topk.DefaultCalendar())}
	for i := range s.count {
		entry := topk.Entry{SongID: fmt.Sprintf("song-%03d", i), Plays: uint64(s.count - i)}
		chart.TotalPlays += entry.Plays
		if q.After == nil || topk.CompareEntries(*q.After, entry) < 0 {
			chart.Entries = append(chart.Entries, entry)
		}
	}
	topk.RankEntries(chart.Entries)
	chart.Entries = chart.Entries[:min(q.K, len(chart.Entries))]
	return chart, s.err
}

func (*songs) Songs(_ context.Context, ids []string) (map[string]topk.Song, error) {
	found := map[string]topk.Song{}
	for _, id := range ids {
		found[id] = topk.Song{SongID: id, Title: strings.ToUpper(id)}
	}
	return found, nil
}

func (*songs) SongPlays(_ context.Context, id string, windows []topk.Window, _ time.Time) ([]uint64, error) {
	return make([]uint64, len(windows)), nil
}

// newAPI is the real one, over songs and without Redis.
func newAPI(t testing.TB, played *songs, limits api.Limits) *api.Server {
	t.Helper()
	clock := func() time.Time { return noon }
	store, err := snapshot.Open(context.Background(), "redis://127.0.0.1:1", snapshot.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	server, err := api.New(api.Config{
		Queries: played, Snapshots: store, Clock: clock, Calendar: topk.DefaultCalendar(), Registry: prometheus.NewRegistry(), Limits: limits,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// serve makes a client of the handler.
func serve(t testing.TB, handler http.Handler, options ...client.Option) *client.Client {
	t.Helper()
	server := httptest.NewServer(handler)
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	c, err := client.New(server.URL+"/", append([]client.Option{client.WithHTTPClient(&http.Client{Transport: transport})}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTop(t *testing.T) {
	c := serve(t, newAPI(t, &songs{count: 25}, api.Limits{}))
	chart, err := c.Top(t.Context(), client.TopRequest{Dim: "region:IN", Window: "7d", K: 3})
	if err != nil {
		t.Fatal(err)
	}
	if chart.Dim != "region:IN" || chart.Window != "7d" || len(chart.Items) != 3 || chart.Items[2].SongID != "song-002" ||
		chart.Items[2].Metadata.Title != "SONG-002" || chart.TotalPlays != 325 {
		t.Errorf("%+v", chart)
	}
	chart, err = c.Top(t.Context(), client.TopRequest{From: noon.Add(-time.Hour), To: noon})
	if err != nil || chart.WindowStart != "2025-11-24T11:00:00.000Z" || chart.WindowEnd != "2025-11-24T12:00:00.000Z" {
		t.Errorf("%+v %v", chart, err)
	}
}

func TestTopPages(t *testing.T) {
	c := serve(t, newAPI(t, &songs{count: 25}, api.Limits{}))
	var pages []int
	var ids []string
	for page, err := range c.TopPages(t.Context(), client.TopRequest{K: 10}) {
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, len(page.Items))
		for _, item := range page.Items {
			if ids = append(ids, item.SongID); item.Rank != len(ids) {
				t.Errorf("%+v is place %d", item, len(ids))
			}
		}
	}
	if !slices.Equal(pages, []int{10, 10, 5}) || ids[24] != "song-024" {
		t.Errorf("pages of %v: %v", pages, ids)
	}
	for _, err := range c.TopPages(t.Context(), client.TopRequest{K: -1}) {
		if err == nil {
			t.Error("a bad request has pages")
		}
	}
}

func TestProblems(t *testing.T) {
	played := &songs{}
	c := serve(t, newAPI(t, played, api.Limits{Rate: 1, RateBurst: 3}), client.WithRetryFor(0), client.WithHeader("X-Request-Id", "r-1"))
	_, err := c.Top(t.Context(), client.TopRequest{Window: "2h", K: 5000})
	var problem *client.Problem
	if !errors.As(err, &problem) || problem.Status != http.StatusBadRequest || problem.Title != "Bad Request" || problem.Detail == "" ||
		len(problem.Errors) != 2 || problem.Errors[0].Location != "query.k" && problem.Errors[1].Location != "query.k" || problem.RequestID != "r-1" || problem.RetryAfter != 0 {
		t.Errorf("%+v", problem)
	}
	for _, part := range []string{"400 Bad Request", "query.k must be", "r-1"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not tell %q", err, part)
		}
	}
	_, err = c.Song(t.Context(), "a/b")
	if err != nil {
		t.Error(err)
	}
	played.set(0, fmt.Errorf("%w: away", topk.ErrUnavailable))
	if _, err = c.Top(t.Context(), client.TopRequest{}); !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || problem.RetryAfter != time.Second || !problem.Temporary() {
		t.Errorf("%+v", err)
	}
	if _, err = c.Top(t.Context(), client.TopRequest{}); !errors.As(err, &problem) || problem.Status != http.StatusTooManyRequests || problem.RetryAfter == 0 || !problem.Temporary() {
		t.Errorf("%+v", err)
	}
}

// What did not come from the API is told as far as it can be understood.
func TestAnswersOfOthers(t *testing.T) {
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("dim") {
		case "gateway":
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>nginx</html>")
		case "junk":
			w.Header().Set("Content-Type", "application/problem+json; charset=utf-8")
			w.WriteHeader(http.StatusTeapot)
			fmt.Fprint(w, "{")
		case "text":
			fmt.Fprint(w, "hello")
		case "long":
			_, _ = io.CopyN(w, zeros{}, 17<<20)
		}
	}), client.WithRetryFor(0))
	var problem *client.Problem
	if _, err := c.Top(t.Context(), client.TopRequest{Dim: "gateway"}); !errors.As(err, &problem) || problem.Status != 502 || problem.Title != "Bad Gateway" || problem.Temporary() {
		t.Errorf("%v", err)
	}
	if _, err := c.Top(t.Context(), client.TopRequest{Dim: "junk"}); !errors.As(err, &problem) || problem.Status != 418 {
		t.Errorf("%v", err)
	}
	for _, dim := range []string{"text", "long"} {
		if _, err := c.Top(t.Context(), client.TopRequest{Dim: dim}); err == nil || errors.As(err, &problem) {
			t.Errorf("%s: %v", dim, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestRetries(t *testing.T) {
	var asked int
	var mu sync.Mutex
	answers := func(status int, retryAfter string, good int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			asked++
			refuse := asked != good
			mu.Unlock()
			if refuse {
				w.Header().Set("Retry-After", retryAfter)
				w.WriteHeader(status)
				return
			}
			fmt.Fprint(w, `{"dim":"global","accepted":0}`)
		})
	}
	for name, c := range map[string]struct {
		handler  http.Handler
		retryFor time.Duration
		ask      func(*client.Client) error
		asked    int
		good     bool
	}{
		"until there is an answer": {answers(503, "", 3), time.Minute, top, 3, true},
		"as the API asks":          {answers(429, "1", 2), time.Minute, top, 2, true},
		"not longer than allowed":  {answers(503, "30", 2), 10 * time.Second, top, 1, false},
		"not at all":               {answers(503, "", 2), 0, top, 1, false},
		"not what is broken":       {answers(500, "", 2), time.Minute, top, 1, false},
		"not plays": {answers(503, "", 2), time.Minute, func(c *client.Client) error {
			_, err := c.SendPlays(t.Context(), nil)
			return err
		}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked = 0
			err := c.ask(serve(t, c.handler, client.WithRetryFor(c.retryFor)))
			if asked != c.asked || (err == nil) != c.good {
				t.Errorf("asked %d times: %v", asked, err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "30")
		w.WriteHeader(http.StatusServiceUnavailable)
		cancel()
	}), client.WithRetryFor(time.Hour))
	if _, err := waiting.Top(ctx, client.TopRequest{}); err == nil {
		t.Error("an answer out of nothing")
	}
}

func top(c *client.Client) error {
	_, err := c.Top(context.Background(), client.TopRequest{})
	return err
}

// Every call asks what the document of the API has, in its words.
func TestCallsAreThoseOfTheAPI(t *testing.T) {
	var asked *http.Request
	var body []byte
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r
		body, _ = io.ReadAll(r.Body)
		fmt.Fprint(w, "{}")
	}), client.WithHeader("Authorization", "Bearer x"))
	document := documented(t)
	from, to := noon.Add(-time.Hour), noon
	play := topk.Play{EventID: "e", UserID: "u", SongID: "s", ArtistID: "a", Timestamp: noon}
	for _, call := range []struct {
		path, asks string
		do         func(context.Context) error
	}{
		{"/v1/top", "/v1/top?compare=previous&cursor=c&date=2025-11-24&dim=region%3AIN&from=1763982000000&k=7&mode=exact&period=day&rankBy=plays&revision=2&to=1763985600000&window=1h",
			func(ctx context.Context) error {
				_, err := c.Top(ctx, client.TopRequest{Dim: "region:IN", Window: "1h", From: from, To: to, Period: "day", Date: "2025-11-24",
					Revision: 2, K: 7, Cursor: "c", RankBy: "plays", Mode: "exact", Compare: "previous"})
				return err
			}},
		{"/v1/trending", "/v1/trending?dim=region%3AIN&k=7&overindex=global&window=1h", func(ctx context.Context) error {
			_, err := c.Trending(ctx, client.TrendingRequest{Dim: "region:IN", Window: "1h", K: 7, Overindex: "global"})
			return err
		}},
		{"/v1/songs/{songId}", "/v1/songs/a%2Fb%3F", func(ctx context.Context) error {
			_, err := c.Song(ctx, "a/b?")
			return err
		}},
		{"/v1/songs/{songId}/history", "/v1/songs/s/history?dim=region%3AIN&from=1763982000000&grain=hour&to=1763985600000", func(ctx context.Context) error {
			_, err := c.SongHistory(ctx, "s", client.SongHistoryRequest{Dim: "region:IN", Grain: "hour", From: from, To: to})
			return err
		}},
		{"/v1/songs/{songId}/charts", "/v1/songs/s/charts?date=2025-11-24&period=week", func(ctx context.Context) error {
			_, err := c.SongCharts(ctx, "s", client.SongChartsRequest{Period: "week", Date: "2025-11-24"})
			return err
		}},
		{"/v1/artists/{artistId}", "/v1/artists/a?dim=region%3AIN&k=7&window=1h", func(ctx context.Context) error {
			_, err := c.Artist(ctx, "a", client.ArtistRequest{Dim: "region:IN", Window: "1h", K: 7})
			return err
		}},
		{"/v1/charts", "/v1/charts?cursor=c&dimension=region&k=7&startsWith=IN%2F", func(ctx context.Context) error {
			_, err := c.Charts(ctx, client.ChartsRequest{Dimension: "region", StartsWith: "IN/", K: 7, Cursor: "c"})
			return err
		}},
		{"/v1/charts/dates", "/v1/charts/dates?before=2025-11-24&dim=region%3AIN&k=7&period=week", func(ctx context.Context) error {
			_, err := c.ClosedDates(ctx, client.ClosedDatesRequest{Dim: "region:IN", Period: "week", Before: "2025-11-24", K: 7})
			return err
		}},
		{"/v1/events/play", "/v1/events/play", func(ctx context.Context) error {
			_, err := c.SendPlay(ctx, play)
			return err
		}},
		{"/v1/events/plays", "/v1/events/plays", func(ctx context.Context) error {
			_, err := c.SendPlays(ctx, []topk.Play{play, play})
			return err
		}},
	} {
		if err := call.do(t.Context()); err != nil {
			t.Errorf("%s: %v", call.path, err)
		}
		if asked.RequestURI != call.asks || asked.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("asks %s, want %s", asked.RequestURI, call.asks)
		}
		if asked.Method == http.MethodPost {
			if text, _ := play.MarshalJSON(); !strings.Contains(string(body), string(text)) {
				t.Errorf("%s: sends %s", call.path, body)
			}
			continue
		}
		var names []string
		for name := range asked.URL.Query() {
			names = append(names, name)
		}
		slices.Sort(names)
		known := slices.DeleteFunc(slices.Clone(document[call.path]), func(name string) bool { return name == "format" }) // the client reads JSON
		if document[call.path] == nil || !slices.Equal(names, known) {
			t.Errorf("%s has the parameters %v, of %v", call.path, names, known)
		}
	}
}

// documented gives the query parameters of every path that can be asked,
// sorted.
func documented(t *testing.T) map[string][]string {
	w := httptest.NewRecorder()
	newAPI(t, &songs{}, api.Limits{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	var document struct {
		Paths map[string]struct {
			Get *struct {
				Parameters []struct{ Name, In string }
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
		t.Fatal(err)
	}
	parameters := map[string][]string{}
	for path, item := range document.Paths {
		if item.Get == nil {
			continue
		}
		names := []string{}
		for _, p := range item.Get.Parameters {
			if p.In == "query" {
				names = append(names, p.Name)
			}
		}
		slices.Sort(names)
		parameters[path] = names
	}
	return parameters
}

func TestNewRefusesOtherURLs(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:8080", "ftp://host", "http://", "http://host?x=y", "http://host#x", "http://a b"} {
		if _, err := client.New(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// A stream goes on over the end of connections, and over answers of others in
// between, with what it has.
func TestStream(t *testing.T) {
	played := &songs{count: 3}
	server := newAPI(t, played, api.Limits{StreamPoll: time.Millisecond, StreamCompute: time.Millisecond})
	var mu sync.Mutex
	var has []string
	var cut context.CancelFunc
	c := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		mu.Lock()
		has, cut = append(has, r.Header.Get("Last-Event-ID")), cancel
		refuse := len(has) == 2
		mu.Unlock()
		if refuse { // as while the API is restarted
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		server.ServeHTTP(w, r.WithContext(ctx))
	}))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var last answer.Chart
	for chart, err := range c.Stream(ctx, client.StreamRequest{Dim: "region:IN", Window: "1h", K: 5}) {
		if err != nil {
			t.Fatal(err)
		}
		last = chart
		switch chart.TotalPlays {
		case 6:
			played.set(4, nil)
		case 10:
			mu.Lock()
			cut()
			mu.Unlock()
			played.set(5, nil)
		case 15:
			played.set(6, nil)
		case 21:
			stop()
		}
	}
	mu.Lock()
	if len(has) != 3 || has[0] != "" || has[1] == "" || has[2] != has[1] {
		t.Errorf("connected with %q", has)
	}
	mu.Unlock()
	whole, err := c.Top(t.Context(), client.TopRequest{Dim: "region:IN", Window: "1h", K: 5})
	whole.NextCursor = "" // which streams do without
	if err != nil || !reflect.DeepEqual(last, whole) {
		t.Errorf("%v: the stream has\n%+v, and the chart is\n%+v", err, last, whole)
	}
}

func TestStreamEnds(t *testing.T) {
	c := serve(t, newAPI(t, &songs{count: 3}, api.Limits{}))
	told := 0
	for _, err := range c.Stream(t.Context(), client.StreamRequest{K: -1}) {
		var problem *client.Problem
		if told++; !errors.As(err, &problem) || problem.Status != http.StatusBadRequest {
			t.Errorf("%v", err)
		}
	}
	for chart, err := range c.Stream(t.Context(), client.StreamRequest{}) {
		if told++; err != nil || len(chart.Items) != 3 {
			t.Errorf("%+v %v", chart, err)
		}
		break
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for range c.Stream(ended, client.StreamRequest{}) {
		told++
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
}
