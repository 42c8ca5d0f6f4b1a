package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/tmaxmax/go-sse"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/snapshot"
)

// A streaming is the API with charts that the test sets, behind a real server.
type streaming struct {
	testing.TB
	api *Server
	url string

	mu    sync.Mutex
	now   time.Time
	chart answer.Chart
	err   error
	asked []string
}

func newStreaming(t testing.TB, limits Limits) *streaming {
	t.Helper()
	s := &streaming{TB: t, now: time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC), chart: answer.Chart{Source: fromSnapshot, Items: []answer.Item{}}}
	store, err := snapshot.Open(t.Context(), "redis://127.0.0.1:1", snapshot.Options{Clock: s.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	leaks := goleak.IgnoreCurrent() // the client of a Redis that is away still waits
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	orDefault(&limits.StreamPoll, time.Millisecond)
	orDefault(&limits.StreamCompute, time.Millisecond)
	s.api, err = New(Config{Queries: twoSongs{}, Snapshots: store, Clock: s.clock, Registry: prometheus.NewRegistry(), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	s.api.streams.source = s.source
	server := httptest.NewServer(s.api)
	t.Cleanup(func() {
		s.api.Close()
		server.Close()
	})
	s.url = server.URL
	return s
}

func (s *streaming) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *streaming) source(ctx context.Context, req *chartRequest) (answer.Chart, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprint(req.key, " ", req.k))
	return s.chart, s.err
}

func (s *streaming) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// play makes a chart of the songs in this order, and n as its total.
func (s *streaming) play(n uint64, songs ...string) answer.Chart {
	chart := answer.Chart{Dim: "global", Window: "24h", Source: fromSnapshot, TotalPlays: n, Items: []answer.Item{}, NextCursor: "n"}
	for i, id := range songs {
		chart.Items = append(chart.Items, answer.Item{Rank: i + 1, SongID: id, Score: uint64(1000 - i)})
	}
	s.set(func() { s.chart = chart })
	chart.NextCursor = "" // streams have none
	return chart
}

// A follower reads a stream.
type follower struct {
	testing.TB
	response *http.Response
	next     func() (sse.Event, error, bool)
	leave    func()
	has      string
	chart    answer.Chart
}

func (s *streaming) follow(query string, headers ...string) *follower {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+streamPath+query, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		s.Fatal(err)
	}
	f := &follower{TB: s.TB, response: res}
	events := sse.Read(res.Body, &sse.ReadConfig{MaxEventSize: 1 << 20})
	lines := make(chan sse.Event)
	failed := make(chan error, 1)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(lines)
		for event, err := range events {
			if err != nil {
				failed <- err
				return
			}
			select {
			case lines <- event:
			case <-ctx.Done():
				return
			}
		}
	})
	f.next = func() (sse.Event, error, bool) {
		select {
		case event, open := <-lines:
			if !open {
				select {
				case err := <-failed:
					return sse.Event{}, err, false
				default:
				}
			}
			return event, nil, open
		case <-time.After(30 * time.Second):
			return sse.Event{}, errors.New("no event within 30 s"), false
		}
	}
	f.leave = func() {
		cancel()
		res.Body.Close()
		reading.Wait()
	}
	s.Cleanup(f.leave)
	return f
}

// read takes the next event and applies it.
func (f *follower) read() sse.Event {
	f.Helper()
	event, err, ok := f.next()
	if err != nil || !ok {
		f.Fatalf("the stream ended: %v", err)
	}
	f.has = event.LastEventID
	f.chart = applied(f, f.chart, event)
	return event
}

// until reads events until the chart is the wanted one.
func (f *follower) until(want answer.Chart) {
	f.Helper()
	for !reflect.DeepEqual(f.chart, want) {
		f.read()
	}
}

type failer interface {
	Helper()
	Fatal(...any)
}

func applied(t failer, chart answer.Chart, event sse.Event) answer.Chart {
	t.Helper()
	var err error
	switch event.Type {
	case "chart":
		chart = answer.Chart{}
		err = json.Unmarshal([]byte(event.Data), &chart)
	case "change":
		var change answer.ChartChange
		err = json.Unmarshal([]byte(event.Data), &change)
		chart = chart.Apply(change)
	default:
		err = fmt.Errorf("unknown event %q", event.Type)
	}
	if err != nil || event.LastEventID == "" {
		t.Fatal(event, err)
	}
	return chart
}

func (s *streaming) eventually(what string, holds func() bool) {
	s.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.Fatalf("not within 30 s: %s", what)
		}
	}
}

// Whatever happens to the chart, and whenever a follower looks, leaves and comes
// back, what it has been told amounts to the chart.
func TestFeedTellsAllFollowersTheChart(t *testing.T) {
	songs := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g"})
	rapid.Check(t, func(t *rapid.T) {
		f := &feed{news: make(chan struct{})}
		type reader struct {
			has   string
			chart answer.Chart
		}
		readers := make([]reader, rapid.IntRange(1, 4).Draw(t, "followers"))
		var current answer.Chart
		wholes, changes := 0, 0
		versions := rapid.IntRange(1, 3*feedChanges).Draw(t, "versions")
		for version := range versions {
			order := rapid.SliceOfNDistinct(songs, 0, 7, rapid.ID[string]).Draw(t, "songs")
			current = answer.Chart{Dim: "global", TotalPlays: uint64(version), Stale: rapid.Bool().Draw(t, "stale"), Items: []answer.Item{}}
			for i, id := range order {
				item := answer.Item{Rank: i + 1, SongID: id, Score: rapid.Uint64Range(1, 3).Draw(t, "score")}
				if rapid.Bool().Draw(t, "known") {
					item.Metadata = &answer.Metadata{Title: id, Genres: []string{}}
				}
				if previous := rapid.IntRange(0, 3).Draw(t, "previous"); previous > 0 {
					item.PreviousRank = &previous
				}
				current.Items = append(current.Items, item)
			}
			f.publish(current)
			if f.kept > feedChangeBytes || len(f.recent) > feedChanges {
				t.Fatalf("%d changes of %d bytes are kept", len(f.recent), f.kept)
			}
			for i := range readers {
				r := &readers[i]
				switch rapid.SampledFrom([]string{"lags", "reads", "reads", "forgets"}).Draw(t, "follower") {
				case "lags":
					continue
				case "forgets":
					*r = reader{}
				}
				news := f.since(r.has)
				for event, err := range sse.Read(bytes.NewReader(slices.Concat(news.events...)), nil) {
					if err != nil {
						t.Fatal(err)
					}
					if event.Type == "chart" {
						wholes++
					} else {
						changes++
					}
					r.has, r.chart = event.LastEventID, applied(t, r.chart, event)
				}
				if r.has != f.id || r.has != news.newest || !reflect.DeepEqual(r.chart, current) {
					t.Fatalf("a follower has %s %+v, and the chart is %s %+v", r.has, r.chart, f.id, current)
				}
				if again := f.since(r.has); len(again.events) > 0 {
					t.Fatalf("told again: %q", again.events)
				}
			}
		}
	})
}

func TestStreamSendsTheChartAndItsChanges(t *testing.T) {
	s := newStreaming(t, Limits{})
	s.play(1, "a", "b", "c")
	f := s.follow("?dim=region:IN&window=1h&k=3")
	for name, want := range map[string]string{
		"Content-Type": streamType, "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Encoding": "",
	} {
		if got := f.response.Header.Get(name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	if event := f.read(); event.Type != "chart" || len(f.chart.Items) != 3 || f.chart.NextCursor != "" {
		t.Errorf("first %+v", event)
	}
	want := s.play(2, "b", "a", "d")
	event := f.read()
	var change answer.ChartChange
	if err := json.Unmarshal([]byte(event.Data), &change); err != nil {
		t.Fatal(err)
	}
	if event.Type != "change" || len(change.Changed) != 3 || !slices.Equal(change.Removed, []string{"c"}) || !reflect.DeepEqual(f.chart, want) {
		t.Errorf("then %+v", event)
	}
	f.until(s.play(3, "b", "a", "d"))
	s.set(func() {
		if !slices.Contains(s.asked, "top:{region:IN}:1h 3") {
			t.Errorf("asked for %v", s.asked)
		}
	})
	s.eventually("both changes are counted", func() bool { return testutil.ToFloat64(s.api.streams.metrics.changes) == 2 })
}

func TestStreamResumes(t *testing.T) {
	s := newStreaming(t, Limits{})
	first := s.play(1, "a", "b")
	f := s.follow("")
	f.until(first)
	at := f.has
	f.leave()

	// Nothing is told twice: the next event is a change.
	again := s.follow("", lastEventIDHeader, at)
	again.chart = first
	s.eventually("both are seen", func() bool { return testutil.ToFloat64(s.api.streams.metrics.open) == 1 })
	second := s.play(2, "b", "a")
	if event := again.read(); event.Type != "change" || !reflect.DeepEqual(again.chart, second) {
		t.Errorf("after a pause %+v", event)
	}
	third := s.play(3, "b")
	again.until(third)

	// All changes since are told.
	late := s.follow("", lastEventIDHeader, at)
	late.chart = first
	for range 2 {
		if event := late.read(); event.Type != "change" {
			t.Errorf("late %+v", event)
		}
	}
	if !reflect.DeepEqual(late.chart, third) {
		t.Errorf("late %+v", late.chart)
	}

	for n := range uint64(feedChanges) {
		again.until(s.play(10+n, "b"))
	}
	for name, id := range map[string]string{"too late": at, "of something else": "0123", "of nothing": ""} {
		if event := s.follow("", lastEventIDHeader, id).read(); event.Type != "chart" {
			t.Errorf("%s: %+v", name, event)
		}
	}
}

func TestStreamBeats(t *testing.T) {
	s := newStreaming(t, Limits{StreamHeartbeat: time.Millisecond})
	f, err := http.Get(s.url + streamPath)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Body.Close()
	beats := 0
	lines := bufio.NewScanner(f.Body)
	if lines.Scan(); lines.Text() != "retry: 2000" {
		t.Errorf("begins with %q", lines.Text())
	}
	for beats < 3 && lines.Scan() {
		if strings.HasPrefix(lines.Text(), ":") {
			beats++
		}
	}
	if beats < 3 {
		t.Errorf("%d beats, then %v", beats, lines.Err())
	}
	http.DefaultClient.CloseIdleConnections()
}

// A client that does not read is cut off. The others do not notice, and nothing
// is kept for it.
func TestStreamDropsWhoDoesNotRead(t *testing.T) {
	s := newStreaming(t, Limits{StreamWrite: 50 * time.Millisecond})
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("%s-%04d", strings.Repeat("song", 20), i)
	}
	s.play(0, many...)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET "+streamPath+" HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reading := s.follow("")
	dropped := s.api.streams.metrics.slow
	for n := uint64(1); testutil.ToFloat64(dropped) == 0; n++ {
		slices.Reverse(many) // every place changes
		reading.until(s.play(n, many...))
	}
	s.eventually("only the reader is left", func() bool { return testutil.ToFloat64(s.api.streams.metrics.open) == 1 })
	reading.until(s.play(1, "a"))
}

func TestStreamEndsWithTheServer(t *testing.T) {
	s := newStreaming(t, Limits{})
	f := s.follow("")
	f.read()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s.api}
	server.RegisterOnShutdown(s.api.Close)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	other := &streaming{TB: t, url: "http://" + listener.Addr().String()}
	g := other.follow("")
	g.read()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	for _, f := range []*follower{f, g} {
		if _, err, open := f.next(); err != nil || open {
			t.Errorf("%v %v", err, open)
		}
	}
	refused(t, s.url+streamPath, http.StatusServiceUnavailable)
}

// refused expects a problem of the status.
func refused(t *testing.T, url string, status int) http.Header {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: %d %s: %s %v, want a problem of %d", url, res.StatusCode, res.Header.Get("Content-Type"), text, err, status)
	}
	if (res.Header.Get("Retry-After") != "") != (status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests) {
		t.Errorf("%s: Retry-After %q", url, res.Header.Get("Retry-After"))
	}
	return res.Header
}

func TestStreamsAreBounded(t *testing.T) {
	s := newStreaming(t, Limits{Streams: 3, StreamFeeds: 2})
	a, b, c := s.follow("?k=1"), s.follow("?k=2"), s.follow("?k=1")
	for _, f := range []*follower{a, b, c} {
		f.read()
	}
	refused(t, s.url+streamPath+"?k=1", http.StatusServiceUnavailable)
	c.leave()
	s.eventually("one has left", func() bool { return testutil.ToFloat64(s.api.streams.metrics.open) == 2 })
	refused(t, s.url+streamPath+"?k=3", http.StatusServiceUnavailable)
	if n := testutil.ToFloat64(s.api.streams.metrics.refused); n != 2 {
		t.Errorf("%v refused", n)
	}
	// What nobody follows any more makes room at once, and ends by itself later.
	a.leave()
	s.eventually("another has left", func() bool { return testutil.ToFloat64(s.api.streams.metrics.open) == 1 })
	s.follow("?k=3").read()
	b.leave()
	s.eventually("a third has left", func() bool { return testutil.ToFloat64(s.api.streams.metrics.open) == 1 })
	if n := testutil.ToFloat64(s.api.streams.metrics.feeds); n != 2 {
		t.Errorf("%v feeds", n)
	}
	s.set(func() { s.now = s.now.Add(feedLinger) })
	s.eventually("one feed is left", func() bool { return testutil.ToFloat64(s.api.streams.metrics.feeds) == 1 })
}

func TestStreamWithoutASource(t *testing.T) {
	s := newStreaming(t, Limits{})
	s.set(func() { s.err = fmt.Errorf("%w: all are away", topk.ErrUnavailable) })
	refused(t, s.url+streamPath, http.StatusServiceUnavailable)
	s.set(func() { s.err = topk.ErrInvalid })
	refused(t, s.url+streamPath, http.StatusBadRequest)
	s.set(func() { s.err = nil })
	fresh := s.play(1, "a")
	f := s.follow("")
	f.until(fresh)
	s.set(func() { s.err = errors.New("away again") })
	stale := fresh
	stale.Stale = true
	f.until(stale)
	s.set(func() { s.err = nil })
	f.until(fresh)
	f.until(s.play(2, "b"))
}

func TestStreamParameters(t *testing.T) {
	s := newStreaming(t, Limits{})
	for _, query := range []string{
		"?from=1&to=2", "?period=day", "?window=", "?window=1d", "?k=0", "?k=1&k=2", "?dim=nowhere", "?x=y", "?cursor=x",
	} {
		refused(t, s.url+streamPath+query, http.StatusBadRequest)
	}
	res, err := http.Head(s.url + streamPath)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != streamType {
		t.Errorf("HEAD: %d %v", res.StatusCode, res.Header)
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestStreamIsNoLatency(t *testing.T) {
	s := newStreaming(t, Limits{})
	f := s.follow("", "Accept-Encoding", "gzip, zstd")
	f.read()
	if got := f.response.Header.Get("Content-Encoding"); got != "" {
		t.Errorf("packed by %s", got)
	}
	f.leave()
	s.eventually("it has left", func() bool { return testutil.ToFloat64(s.api.streams.metrics.open) == 0 })
	refused(t, s.url+streamPath+"?k=0", http.StatusBadRequest)
	s.eventually("the refusal is counted", func() bool { return testutil.CollectAndCount(s.api.metrics.duration) > 0 })
	if n := testutil.CollectAndCount(s.api.metrics.duration); n != 1 {
		t.Errorf("%d kinds of answers are measured", n)
	}
}
