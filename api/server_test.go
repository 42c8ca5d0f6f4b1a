package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/internal/embedded/redis"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/snapshot"
)

var _ api.Queries = (*queries.DB)(nil)

var (
	serviceStart = time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC)
	worldwide    = topk.NewFilter()
	errAway      = fmt.Errorf("%w: connection refused by db.internal:9000", topk.ErrUnavailable)
)

// A truth answers for ClickHouse.
type truth struct {
	api.Queries // panics on what a test does not expect to be asked

	mu     sync.Mutex
	err    error             // what every call fails with
	plays  map[string]uint64 // of every chart and window
	songs  map[string]topk.Song
	charts []string // every Chart call: filter window k
	lookup [][]string
	hold   chan struct{} // Chart waits for it, when there is one, or for its context
}

func (q *truth) set(change func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change()
}

func (q *truth) Chart(ctx context.Context, query topk.ChartQuery) (topk.Chart, error) {
	q.mu.Lock()
	q.charts = append(q.charts, fmt.Sprint(query.Filter, " ", query.Window, " ", query.K))
	hold, err := q.hold, q.err
	chart := playsChart(query.Filter, query.Window, query.Now, q.plays)
	q.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return topk.Chart{}, ctx.Err()
		}
	}
	chart.Entries = chart.Entries[:min(query.K, len(chart.Entries))]
	return chart, err
}

func (q *truth) Songs(_ context.Context, ids []string) (map[string]topk.Song, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lookup = append(q.lookup, ids)
	found := map[string]topk.Song{}
	for _, id := range ids {
		if song, ok := q.songs[id]; ok {
			found[id] = song
		}
	}
	return found, q.err
}

func (q *truth) UpsertSongs(_ context.Context, songs []topk.Song) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		for _, song := range songs {
			q.songs[song.SongID] = song
		}
	}
	return q.err
}

func (q *truth) SongPlays(_ context.Context, songID string, windows []topk.Window, _ time.Time) ([]uint64, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	counts := make([]uint64, len(windows))
	for i := range counts {
		counts[i] = q.plays[songID] * uint64(i+1)
	}
	return counts, q.err
}

func (q *truth) chartCalls() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.charts)
}

func (q *truth) lookups() [][]string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.lookup)
}

func playsChart(f topk.Filter, w topk.Window, asOf time.Time, plays map[string]uint64) topk.Chart {
	c := topk.Chart{Filter: f, Window: w, AsOf: asOf, Span: w.At(asOf, topk.DefaultCalendar())}
	for id, n := range plays {
		c.TotalPlays += n
		c.Entries = append(c.Entries, topk.Entry{SongID: id, Plays: n})
	}
	topk.RankEntries(c.Entries)
	return c
}

// playsOf gives n songs with different plays.
func playsOf(n int) map[string]uint64 {
	plays := map[string]uint64{}
	for i := range n {
		plays[fmt.Sprintf("song-%04d", i)] = uint64(10_000 - i)
	}
	return plays
}

// A service is the API behind a real server, with a real Redis.
type service struct {
	*testing.T
	truth    *truth
	redis    *redis.Server
	store    *snapshot.Store
	writer   *snapshot.Publisher
	registry *prometheus.Registry
	url      string

	mu  sync.Mutex
	now time.Time
}

func newService(t *testing.T, change ...func(*api.Config)) *service {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	s := &service{
		T:        t,
		truth:    &truth{plays: map[string]uint64{}, songs: map[string]topk.Song{}},
		registry: prometheus.NewRegistry(),
		now:      serviceStart,
	}
	var err error
	if s.redis, err = redis.Start(t.Context(), redis.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.killRedis)
	if s.store, err = snapshot.Open(t.Context(), s.redis.URL(), snapshot.Options{Clock: s.clock}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.store.Close)
	s.writer = s.store.NewPublisher(snapshot.PublisherOptions{})
	cfg := api.Config{Queries: s.truth, Snapshots: s.store, Clock: s.clock, Calendar: topk.DefaultCalendar(), Registry: s.registry}
	for _, f := range change {
		f(&cfg)
	}
	handler, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	s.url = server.URL
	return s
}

// killRedis ends Redis without letting it finish anything.
func (s *service) killRedis() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	_ = s.redis.Close(now) // says that it had to be killed
}

func (s *service) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *service) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

// publish makes the snapshot of a chart as of now.
func (s *service) publish(f topk.Filter, w topk.Window, plays map[string]uint64) {
	s.Helper()
	if err := s.writer.Put(s.Context(), playsChart(f, w, s.clock(), plays)); err != nil {
		s.Fatal(err)
	}
}

// A reply is a response that has been read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func (s *service) do(method, path, body string, headers ...string) reply {
	s.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, s.url+path, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if req.Header.Get("Accept-Encoding") == "" {
		req.Header.Set("Accept-Encoding", "identity") // else the client packs and unpacks by itself
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, text}
}

func (s *service) get(path string, headers ...string) reply {
	s.Helper()
	return s.do(http.MethodGet, path, "", headers...)
}

// into reads an answer of status 200.
func (s *service) into(r reply, answer any) {
	s.Helper()
	if r.status != http.StatusOK || r.header.Get("Content-Type") != "application/json" {
		s.Fatalf("%d %s: %s", r.status, r.header.Get("Content-Type"), r.body)
	}
	if err := json.Unmarshal(r.body, answer); err != nil {
		s.Fatalf("%v: %s", err, r.body)
	}
}

func (s *service) top(query string) (answer answer.Chart) {
	s.Helper()
	s.into(s.get("/v1/top"+query), &answer)
	return answer
}

// problem reads an answer that must be a problem of the status.
func (s *service) problem(r reply, status int) (p huma.ErrorModel) {
	s.Helper()
	if r.status != status || r.header.Get("Content-Type") != "application/problem+json" {
		s.Fatalf("%d %s: %s; want a problem of status %d", r.status, r.header.Get("Content-Type"), r.body, status)
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		s.Fatalf("%v: %s", err, r.body)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		s.Fatalf("incomplete problem: %s", r.body)
	}
	if strings.Contains(string(r.body), "db.internal") {
		s.Fatalf("the problem names a host of ours: %s", r.body)
	}
	return p
}

func locations(p huma.ErrorModel) []string {
	at := make([]string, len(p.Errors))
	for i, e := range p.Errors {
		at[i] = e.Location
	}
	return at
}

// metric gives the value of the metric with the labels, name then value; of a
// histogram, how many it counted.
func (s *service) metric(name string, labels ...string) float64 {
	s.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if hasLabels(m, labels) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

func hasLabels(m *dto.Metric, labels []string) bool {
	have := map[string]string{}
	for _, l := range m.GetLabel() {
		have[l.GetName()] = l.GetValue()
	}
	for i := 0; i < len(labels); i += 2 {
		if have[labels[i]] != labels[i+1] {
			return false
		}
	}
	return true
}

func (s *service) eventually(what string, condition func() bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("not within 30 s: %s", what)
		}
	}
}

func TestServerRequestIDs(t *testing.T) {
	s := newService(t)
	if got := s.get("/healthz", "X-Request-Id", "trace.1:a_B-2").header.Get("X-Request-Id"); got != "trace.1:a_B-2" {
		t.Errorf("the client's id became %q", got)
	}
	given := map[string]bool{}
	for _, bad := range []string{"", "a b", "é", strings.Repeat("x", 65), `"`} {
		got := s.get("/nowhere", "X-Request-Id", bad).header.Get("X-Request-Id")
		if got == "" || got == bad || given[got] {
			t.Errorf("%q became %q", bad, got)
		}
		given[got] = true
	}
}

func TestServerNoSuchRoute(t *testing.T) {
	s := newService(t)
	for _, path := range []string{"/", "/v1", "/v1/top/", "/v1/songs/a/b", "/assets/x.js", "/favicon.ico"} {
		s.problem(s.get(path), http.StatusNotFound)
	}
	if n := s.metric("topk_api_request_duration_seconds", "code", "404", "route", "none"); n == 0 {
		t.Error("unknown paths are not counted as one route")
	}
}

func TestServerOtherMethods(t *testing.T) {
	s := newService(t)
	for path, allow := range map[string]string{
		"/v1/top":     "GET, HEAD",
		"/v1/songs":   "POST",
		"/v1/songs/a": "GET, HEAD",
		"/healthz":    "GET, HEAD",
	} {
		r := s.do(http.MethodDelete, path, "")
		s.problem(r, http.StatusMethodNotAllowed)
		if got := r.header.Get("Allow"); got != allow {
			t.Errorf("%s allows %q, want %q", path, got, allow)
		}
	}
}

func TestServerHead(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(3))
	for _, path := range []string{"/v1/top", "/healthz", "/readyz", "/metrics", "/openapi.json"} {
		get, head := s.get(path), s.do(http.MethodHead, path, "")
		if head.status != http.StatusOK || len(head.body) != 0 {
			t.Errorf("HEAD %s: %d, %d bytes", path, head.status, len(head.body))
		}
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control"} {
			if got, want := head.header.Get(name), get.header.Get(name); got != want {
				t.Errorf("HEAD %s: %s is %q, of GET %q", path, name, got, want)
			}
		}
	}
}

func TestServerCompression(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(100))
	plain := s.get("/v1/top?k=100")
	for encoding, unpack := range map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"zstd": func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) },
	} {
		packed := s.get("/v1/top?k=100", "Accept-Encoding", encoding)
		if got := packed.header.Get("Content-Encoding"); got != encoding || len(packed.body) >= len(plain.body) {
			t.Fatalf("%s: Content-Encoding %q, %d of %d bytes", encoding, got, len(packed.body), len(plain.body))
		}
		if !strings.Contains(strings.Join(packed.header.Values("Vary"), ","), "Accept-Encoding") {
			t.Errorf("%s: varies by %q", encoding, packed.header.Values("Vary"))
		}
		reader, err := unpack(strings.NewReader(string(packed.body)))
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(reader); err != nil || string(body) != string(plain.body) {
			t.Errorf("%s: %v, %d bytes, want %d", encoding, err, len(body), len(plain.body))
		}
		if again := s.get("/v1/top?k=100", "Accept-Encoding", encoding, "If-None-Match", packed.header.Get("ETag")); again.status != http.StatusNotModified {
			t.Errorf("%s: again %d", encoding, again.status)
		}
	}
	if small := s.get("/v1/top?k=1", "Accept-Encoding", "gzip"); small.header.Get("Content-Encoding") != "" {
		t.Error("a small answer was compressed")
	}
}

func TestServerCORS(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, nil)
	r := s.get("/v1/top", "Origin", "https://charts.example")
	if r.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(strings.ToLower(r.header.Get("Access-Control-Expose-Headers")), "etag") {
		t.Errorf("%v", r.header)
	}
	preflight := s.do(http.MethodOptions, "/v1/events/play", "", "Origin", "https://charts.example",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "content-type")
	if preflight.status >= 300 || !strings.Contains(preflight.header.Get("Access-Control-Allow-Methods"), "POST") {
		t.Errorf("%d %v", preflight.status, preflight.header)
	}

	closed := newService(t, func(c *api.Config) { c.Limits.Origins = []string{"https://charts.example"} })
	if got := closed.get("/healthz", "Origin", "https://other.example").header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("another origin is let in by %q", got)
	}
}

func TestServerPage(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page of ", r.URL.Path) })
	s := newService(t, func(c *api.Config) { c.Page = page })
	for _, path := range []string{"/", "/assets/app.js"} {
		if r := s.get(path); string(r.body) != "page of "+path {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	s.problem(s.get("/other"), http.StatusNotFound)
}

// A panic is the failure of one request: answered, logged with its stack, and
// not told to the client.
func TestServerPanics(t *testing.T) {
	var log strings.Builder
	var mu sync.Mutex
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			panic("secret cause")
		}
		fmt.Fprint(w, strings.Repeat("half an answer ", 1000))
		panic("too late")
	})
	s := newService(t, func(c *api.Config) {
		c.Page = page
		c.Log = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return log.Write(p)
		}), nil))
	})
	r := s.get("/", "X-Request-Id", "the-one")
	s.problem(r, http.StatusInternalServerError)
	if strings.Contains(string(r.body), "secret") {
		t.Errorf("the cause is told: %s", r.body)
	}
	resp, err := http.Get(s.url + "/assets/x")
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil {
		t.Error("half an answer looked whole")
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"secret cause", "the-one", "server_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not name %s: %s", want, &log)
		}
	}
	if n := s.metric("topk_api_request_duration_seconds", "code", "500", "route", "/"); n != 1 {
		t.Errorf("%v panics are counted", n)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestServerAccessLog(t *testing.T) {
	lines := make(chan string, 10)
	s := newService(t, func(c *api.Config) {
		c.Log = slog.New(slog.NewJSONHandler(writerFunc(func(p []byte) (int, error) {
			lines <- string(p)
			return len(p), nil
		}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	s.get("/healthz?x=1", "X-Request-Id", "req-1")
	var line struct {
		Msg, RequestID, Method, URI, Route string
		Status, Bytes                      int
	}
	if err := json.Unmarshal([]byte(<-lines), &line); err != nil {
		t.Fatal(err)
	}
	line.Bytes = 0
	want := line
	want.Msg, want.RequestID, want.Method, want.URI, want.Route, want.Status = "request", "req-1", "GET", "/healthz?x=1", "/healthz", 200
	if line != want {
		t.Errorf("%+v", line)
	}
}

func TestServerReadiness(t *testing.T) {
	var mu sync.Mutex
	failing := map[string]error{}
	check := func(name string) api.Check {
		return func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			return failing[name]
		}
	}
	s := newService(t, func(c *api.Config) {
		c.Checks = map[string]api.Check{
			"clickhouse": check("clickhouse"), "redis": check("redis"),
			"kafka": func(ctx context.Context) error {
				if err := check("kafka")(ctx); !errors.Is(err, context.DeadlineExceeded) {
					return err
				}
				<-ctx.Done() // it never answers
				return ctx.Err()
			},
		}
		c.Limits.CheckTime = 20 * time.Millisecond
	})
	s.into(s.get("/readyz"), &api.HealthAnswer{})
	mu.Lock()
	failing["redis"], failing["kafka"] = errAway, context.DeadlineExceeded
	mu.Unlock()
	r := s.get("/readyz")
	if got, want := locations(s.problem(r, http.StatusServiceUnavailable)), []string{"kafka", "redis"}; !reflect.DeepEqual(got, want) {
		t.Errorf("not ready: %v, want %v", got, want)
	}
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	s.into(s.get("/healthz"), &api.HealthAnswer{})
}

func TestServerMetrics(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(3))
	s.top("")
	s.top("?k=2")
	s.get("/v1/top?k=0")
	text := string(s.get("/metrics").body)
	for _, want := range []string{
		`topk_api_request_duration_seconds_count{code="200",route="/v1/top"} 2`,
		`topk_api_request_duration_seconds_count{code="400",route="/v1/top"} 1`,
		`topk_api_chart_source_total{source="snapshot"} 2`,
		`topk_api_metadata_lookups_total{result="miss"} 3`,
		`topk_api_metadata_lookups_total{result="hit"} 2`,
		`topk_api_clickhouse_queries_in_flight 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("not there: %s", want)
		}
	}
}

func TestNewServerRefusesBadConfigs(t *testing.T) {
	if _, err := api.New(api.Config{}); err == nil {
		t.Error("made of nothing")
	}
}
