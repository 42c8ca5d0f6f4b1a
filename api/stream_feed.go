package api

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

// A chartSource answers a request with the best chart there is now.
type chartSource func(ctx context.Context, req *chartRequest) (answer.Chart, error)

// A feedKey names the chart of a feed.
type feedKey struct {
	chart string // snapshot.TopKey
	k     int
}

// A feed follows one chart for all who stream it. It holds the chart, and the
// last changes; its followers hold no more than the version they have, so that
// memory grows with the charts that are streamed and not with the clients.
//
// A version's id is a hash of the chart. So it means the same in every process
// and after a restart, and whoever comes back with it need not be told again
// what is still so.
type feed struct {
	key  feedKey
	req  *chartRequest
	stop context.CancelFunc

	// Of streams.mu.
	followers int
	idleSince time.Time // when the last follower left

	mu     sync.Mutex
	news   chan struct{} // closed, and another one, with every version
	err    error         // why there will never be a version
	id     string        // of the newest version; empty before the first
	chart  answer.Chart
	whole  []byte // the chart as an event
	recent []feedChange
	kept   int // bytes of recent
}

// A feedChange is the event that makes the version before into the next one.
type feedChange struct {
	before string // id
	event  []byte
}

// Bounds of the changes that a feed keeps. Who misses more gets the whole chart.
const (
	feedChanges     = 32
	feedChangeBytes = 512 << 10
)

// feedLinger is how long a feed goes on without followers, so that a client
// that lost its connection is told what changed meanwhile.
const feedLinger = 10 * time.Second

// publish makes the chart the newest version, unless it is that already.
func (f *feed) publish(chart answer.Chart) {
	text := encode(chart)
	id := fmt.Sprintf("%016x", xxhash.Sum64(text))
	f.mu.Lock()
	defer f.mu.Unlock()
	if id == f.id {
		return
	}
	if f.id != "" {
		f.keep(feedChange{f.id, event(changeEvent, id, encode(f.chart.ChangeTo(chart)))})
	}
	f.id, f.chart, f.whole = id, chart, event(chartEvent, id, text)
	f.wake()
}

func (f *feed) keep(change feedChange) {
	f.recent = append(f.recent, change)
	f.kept += len(change.event)
	for len(f.recent) > feedChanges || f.kept > feedChangeBytes {
		f.kept -= len(f.recent[0].event)
		f.recent[0] = feedChange{} // or the array would hold on to it
		f.recent = f.recent[1:]
	}
}

func (f *feed) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
	f.wake()
}

func (f *feed) wake() {
	close(f.news)
	f.news = make(chan struct{})
}

// started waits for the first version.
func (f *feed) started(ctx context.Context) error {
	for {
		f.mu.Lock()
		id, err, news := f.id, f.err, f.news
		f.mu.Unlock()
		if id != "" || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-news:
		}
	}
}

// feedNews are what a follower has not seen yet.
type feedNews struct {
	events [][]byte // none, the changes since, or the whole chart when those are not known any more
	whole  bool
	newest string          // the version that the events lead to
	more   <-chan struct{} // closed when there is a newer one
}

// since gives the news for a follower that has the version id.
func (f *feed) since(id string) feedNews {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := feedNews{newest: f.id, more: f.news}
	if id == f.id {
		return news
	}
	for i := len(f.recent) - 1; i >= 0; i-- {
		if f.recent[i].before != id {
			continue
		}
		for _, change := range f.recent[i:] {
			news.events = append(news.events, change.event)
		}
		return news
	}
	news.events, news.whole = [][]byte{f.whole}, true
	return news
}

// event writes a server-sent event. The data is one line, with its end.
func event(name, id string, data []byte) []byte {
	return fmt.Appendf(nil, "event: %s\nid: %s\ndata: %s\n", name, id, data)
}

// streams are the feeds with those who follow them.
type streams struct {
	source   chartSource
	limits   Limits
	clock    topk.Clock
	calendar topk.Calendar
	metrics  streamMetrics

	ctx     context.Context // ends with close
	cancel  context.CancelFunc
	running sync.WaitGroup // of the feeds

	mu    sync.Mutex
	feeds map[feedKey]*feed
	open  int
}

type streamMetrics struct {
	open, feeds     prometheus.Gauge
	charts, changes prometheus.Counter
	slow, refused   prometheus.Counter
}

func newStreams(cfg Config, source chartSource) *streams {
	factory := promauto.With(cfg.Registry)
	sent := factory.NewCounterVec(prometheus.CounterOpts{
		Name: "topk_api_stream_events_total",
		Help: "Events sent to clients that stream a chart: whole charts, and changes.",
	}, []string{"event"})
	s := &streams{
		source: source, limits: cfg.Limits, clock: cfg.Clock, calendar: cfg.Calendar, feeds: map[feedKey]*feed{},
		metrics: streamMetrics{
			open: factory.NewGauge(prometheus.GaugeOpts{
				Name: "topk_api_streams_open",
				Help: "Clients that stream a chart.",
			}),
			feeds: factory.NewGauge(prometheus.GaugeOpts{
				Name: "topk_api_stream_feeds",
				Help: "Charts that are followed for them.",
			}),
			charts:  sent.WithLabelValues(chartEvent),
			changes: sent.WithLabelValues(changeEvent),
			slow: factory.NewCounter(prometheus.CounterOpts{
				Name: "topk_api_streams_dropped_total",
				Help: "Streams that were cut because the client did not read in time.",
			}),
			refused: factory.NewCounter(prometheus.CounterOpts{
				Name: "topk_api_streams_refused_total",
				Help: "Streams that were refused because there were too many, or too many charts in them.",
			}),
		},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// close ends all streams, and waits for the feeds.
func (s *streams) close() {
	s.mu.Lock()
	s.cancel() // under the lock: a feed is either waited for or not begun
	s.mu.Unlock()
	s.running.Wait()
}

// join gives the feed of the request's chart, to leave in the end.
func (s *streams) join(req *chartRequest) (*feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, fmt.Errorf("%w: the server stops", topk.ErrUnavailable)
	}
	if s.open >= s.limits.Streams {
		return nil, s.refuse("too many streams are open")
	}
	key := feedKey{req.key, req.k}
	f, ok := s.feeds[key]
	if !ok {
		if len(s.feeds) >= s.limits.StreamFeeds && !s.dropIdle() {
			return nil, s.refuse("too many different charts are streamed")
		}
		f = s.begin(key, req)
	}
	f.followers++
	s.open++
	s.metrics.open.Inc()
	return f, nil
}

func (s *streams) refuse(why string) error {
	s.metrics.refused.Inc()
	return &problem{
		status: http.StatusServiceUnavailable, detail: why + "; try again later, or ask " + topPath + " now and then",
		retryAfter: 5 * time.Second,
	}
}

func (s *streams) leave(f *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.followers--
	f.idleSince = s.clock()
	s.open--
	s.metrics.open.Dec()
}

// begin starts a feed. s.mu is held, as for end.
func (s *streams) begin(key feedKey, req *chartRequest) *feed {
	ctx, stop := context.WithCancel(s.ctx)
	f := &feed{key: key, req: req, stop: stop, news: make(chan struct{})}
	s.feeds[key] = f
	s.metrics.feeds.Inc()
	s.running.Go(func() { s.follow(ctx, f) })
	return f
}

func (s *streams) end(f *feed) {
	f.stop()
	if s.feeds[f.key] == f {
		delete(s.feeds, f.key)
		s.metrics.feeds.Dec()
	}
}

// dropIdle makes room by the feed that nobody has followed for longest.
func (s *streams) dropIdle() bool {
	var oldest *feed
	for _, f := range s.feeds {
		if f.followers == 0 && (oldest == nil || f.idleSince.Before(oldest.idleSince)) {
			oldest = f
		}
	}
	if oldest == nil {
		return false
	}
	s.end(oldest)
	return true
}

// follow keeps a feed at the newest version while somebody wants it.
func (s *streams) follow(ctx context.Context, f *feed) {
	defer func() {
		s.mu.Lock()
		s.end(f)
		s.mu.Unlock()
	}()
	for wait := time.NewTimer(0); ; {
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		if s.endIdle(f) {
			return
		}
		next, err := s.refresh(ctx, f)
		if err != nil {
			s.mu.Lock()
			s.end(f) // first: who is told of the error may come again
			s.mu.Unlock()
			f.fail(err)
			return
		}
		wait.Reset(next)
	}
}

func (s *streams) endIdle(f *feed) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.followers > 0 || s.clock().Sub(f.idleSince) < feedLinger {
		return false
	}
	s.end(f)
	return true
}

// refresh asks for the chart and says when to ask again: soon for a snapshot,
// which costs next to nothing. A chart that cannot be had any more is stale.
func (s *streams) refresh(ctx context.Context, f *feed) (next time.Duration, err error) {
	asking, cancel := context.WithTimeout(ctx, s.limits.RequestTime)
	defer cancel()
	chart, err := s.source(asking, f.req)
	switch {
	case err == nil:
		chart.NextCursor = "" // it changes all the time, and is of no use once it did
		f.publish(chart)
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case f.id == "": // nobody else writes it
		return 0, err
	default:
		last := f.chart
		last.Stale = true
		f.publish(last)
	}
	if err == nil && chart.Source == fromSnapshot {
		return s.limits.StreamPoll, nil
	}
	return s.limits.StreamCompute, nil
}
