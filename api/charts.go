package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/singleflight"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/snapshot"
)

const topPath = "/v1/top"

// A chartAPI answers GET /v1/top, and finds charts for the calls that tell of
// them in another way: see resolve and chart.
type chartAPI struct {
	queries   Queries
	snapshots *snapshot.Store
	gate      *gate
	catalog   *catalog
	clock     topk.Clock
	calendar  topk.Calendar
	limits    Limits
	log       *slog.Logger
	metrics   apiMetrics

	requests  *otter.Cache[string, *chartRequest] // by query string
	computing singleflight.Group
	closed    *otter.Cache[closedKey, closedEntry]
	ready     *otter.Cache[readyKey, *readyChart]
	retryAt   atomic.Int64 // see computeInstead; Unix nanoseconds, 0 while ClickHouse answers
}

func newChartAPI(cfg Config, gate *gate, catalog *catalog, metrics apiMetrics) (*chartAPI, error) {
	ready, err := otter.New(&otter.Options[readyKey, *readyChart]{
		MaximumWeight: uint64(cfg.Limits.ReadyBytes),
		Weigher:       func(key readyKey, c *readyChart) uint32 { return uint32(len(key.chart) + len(c.body) + readyOverhead) },
	})
	if err != nil {
		return nil, fmt.Errorf("ready charts: %w", err)
	}
	requests, err := otter.New(&otter.Options[string, *chartRequest]{MaximumSize: maxRememberedQueries})
	if err != nil {
		return nil, fmt.Errorf("chart requests: %w", err)
	}
	closed, err := otter.New(&otter.Options[closedKey, closedEntry]{MaximumSize: cfg.Limits.ClosedCharts})
	if err != nil {
		return nil, fmt.Errorf("closed charts: %w", err)
	}
	promauto.With(cfg.Registry).NewCounterFunc(prometheus.CounterOpts{
		Name: "topk_api_wants_dropped_total",
		Help: "Times that the refresher was not told of a chart that is wanted: Redis was away, or too much was wanted at once.",
	}, func() float64 { return float64(cfg.Snapshots.WantsDropped()) })
	return &chartAPI{
		queries: cfg.Queries, snapshots: cfg.Snapshots, gate: gate, catalog: catalog, clock: cfg.Clock, calendar: cfg.Calendar,
		limits: cfg.Limits, log: cfg.Log, metrics: metrics, requests: requests, closed: closed, ready: ready,
	}, nil
}

// request is parseChartRequest, remembered: the same few charts are asked for
// again and again.
func (a *chartAPI) request(rawQuery string) (*chartRequest, error) {
	if req, ok := a.requests.GetIfPresent(rawQuery); ok {
		return req, nil
	}
	req, err := parseChartRequest(rawQuery, a.calendar)
	if err == nil && len(rawQuery) <= maxRememberedQuery {
		a.requests.Set(strings.Clone(rawQuery), req)
	}
	return req, err
}

// Bounds of the remembered queries.
const (
	maxRememberedQuery   = 256 // bytes
	maxRememberedQueries = 4096
)

// top answers GET /v1/top with the best source there is.
func (a *chartAPI) top(w http.ResponseWriter, r *http.Request) error {
	req, err := a.request(r.URL.RawQuery)
	if err != nil {
		return err
	}
	format := req.format
	if format == nil {
		header := w.Header()
		header["Vary"] = append(header["Vary"], "Accept")
		if format, err = negotiate(r.Header["Accept"]); err != nil {
			return err
		}
	}
	chart, err := a.resolve(topk.WithRequestID(r.Context(), w.Header().Get(requestIDHeader)), req)
	if err != nil {
		return err
	}
	ready := a.prepare(r.Context(), req, &chart, format)
	header := w.Header()
	header["Cache-Control"] = ready.lifetime
	if ready.next != nil {
		header["Link"] = ready.next
	}
	if ready.etag != nil {
		header["Etag"] = ready.etag
		if have := r.Header["If-None-Match"]; len(have) > 0 && matches(have, ready.etag[0]) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	header["Content-Type"] = format.contentType
	header["Content-Length"] = ready.length
	_, _ = w.Write(ready.body) // fails when the client has left, who needs no answer
	return nil
}

// chart is the answer to a request, for calls that hold a chart among others.
func (a *chartAPI) chart(ctx context.Context, req *chartRequest) (answer.Chart, error) {
	chart, err := a.resolve(ctx, req)
	if err != nil {
		return answer.Chart{}, err
	}
	told, _ := a.answer(ctx, req, &chart)
	return told, nil
}

// A readyKey names an encoded chart.
type readyKey struct {
	chart  string // resolvedChart.key
	k      int
	format *chartFormat
}

// A readyChart is a chart in the form in which it is sent. Encoding costs
// several times what sending does, and a hot chart is asked for many times
// between two versions.
type readyChart struct {
	version uint64
	stale   bool
	edition uint64 // of the catalog
	until   time.Time
	body    []byte
	// Headers; they are shared and must not be changed. etag and next are nil for
	// none.
	etag, length, lifetime, next []string
}

// readyOverhead is about what a readyChart takes beside its body and key.
const readyOverhead = 512

// How long answers may be given again, by their kind.
var (
	snapshotLifetime  = []string{"max-age=1, stale-while-revalidate=5"}
	immutableLifetime = []string{"public, max-age=31536000, immutable"}
	settledLifetime   = []string{"max-age=60"}
	noLifetime        = []string{"no-store"}
)

// settledAfter is when a stretch of time gets no plays any more, as good as
// always: the gateway takes those of the last 7 days, unless it is told
// otherwise.
const settledAfter = 8 * 24 * time.Hour

// prepare encodes a chart, unless that was done before with the same outcome.
func (a *chartAPI) prepare(ctx context.Context, req *chartRequest, chart *resolvedChart, format *chartFormat) *readyChart {
	key := readyKey{chart.key, req.k, format}
	edition, now := a.catalog.edition.Load(), a.clock()
	if chart.version != 0 {
		ready, ok := a.ready.GetIfPresent(key)
		if ok && ready.version == chart.version && ready.stale == chart.stale && ready.edition == edition && now.Before(ready.until) {
			return ready
		}
	}
	told, titled := a.answer(ctx, req, chart)
	body := format.encode(&told)
	ready := &readyChart{
		version: chart.version, stale: chart.stale, edition: edition, until: now.Add(a.limits.ReadyFor),
		body: body, length: []string{strconv.Itoa(len(body))}, lifetime: lifetime(req, chart, titled, now),
	}
	if told.NextCursor != "" && format != jsonFormat { // which has it in the body
		ready.next = []string{"<" + topPath + "?" + req.next(told.NextCursor, format) + `>; rel="next"`}
	}
	if chart.version != 0 {
		ready.etag = []string{etagOf(chart.version, body)}
		a.ready.Set(key, ready)
	}
	return ready
}

// lifetime says for how long the answer may be given again by caches. titled
// tells whether the catalog could be asked for every song.
func lifetime(req *chartRequest, chart *resolvedChart, titled bool, now time.Time) []string {
	switch {
	case chart.source == fromSnapshot:
		return snapshotLifetime
	case chart.source == fromClosed && req.revision != 0 && titled:
		return immutableLifetime
	case chart.source == fromClosed && chart.version != 0,
		chart.source == fromClickHouse && chart.Window.Fixed() && now.Sub(chart.Span.End) > settledAfter:
		return settledLifetime
	}
	return noLifetime
}

// etagOf is the chart's version, and a hash of what is sent: songs may be
// corrected and a chart may grow stale within one version. It is weak because
// the body may be compressed on its way.
func etagOf(version uint64, body []byte) string {
	return fmt.Sprintf(`W/"%d-%08x"`, version, uint32(xxhash.Sum64(body)))
}

// matches reports whether the If-None-Match headers name the ETag, compared
// weakly as RFC 9110 asks.
func matches(headers []string, etag string) bool {
	etag = strings.TrimPrefix(etag, "W/")
	for tag := range strings.SplitSeq(strings.Join(headers, ","), ",") {
		tag = strings.TrimSpace(tag)
		if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
			return true
		}
	}
	return false
}
