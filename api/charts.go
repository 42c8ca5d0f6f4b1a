package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

const defaultK = 10

// The sources of a chart.
const (
	fromSnapshot   = "snapshot"   // Redis, or this process's copy of it
	fromClickHouse = "clickhouse" // computed for this request
	fromLastKnown  = "last-known" // what Redis last had, while nothing else answers
)

// A chartAPI answers GET /v1/top.
type chartAPI struct {
	queries   Queries
	snapshots *snapshot.Store
	gate      *gate
	catalog   *catalog
	clock     topk.Clock
	limits    Limits
	log       *slog.Logger
	metrics   apiMetrics

	requests  *otter.Cache[string, chartRequest] // by query string
	computing singleflight.Group
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
	requests, err := otter.New(&otter.Options[string, chartRequest]{MaximumSize: maxRememberedQueries})
	if err != nil {
		return nil, fmt.Errorf("chart requests: %w", err)
	}
	promauto.With(cfg.Registry).NewCounterFunc(prometheus.CounterOpts{
		Name: "topk_api_wants_dropped_total",
		Help: "Times that the refresher was not told of a chart that is wanted: Redis was away, or too much was wanted at once.",
	}, func() float64 { return float64(cfg.Snapshots.WantsDropped()) })
	return &chartAPI{
		queries: cfg.Queries, snapshots: cfg.Snapshots, gate: gate, catalog: catalog, clock: cfg.Clock,
		limits: cfg.Limits, log: cfg.Log, metrics: metrics, requests: requests, ready: ready,
	}, nil
}

// A chartRequest is what one asks of GET /v1/top.
type chartRequest struct {
	filter topk.Filter
	window topk.Window
	k      int
	key    string // snapshot.TopKey
}

// parseChartRequest is strict: a parameter that is misspelt or given twice would
// otherwise give the wrong chart without a word.
func parseChartRequest(rawQuery string) (chartRequest, error) {
	q := parseQuery(rawQuery, topParameters)
	req := chartRequest{window: q.window(), k: defaultK}
	var err error
	if dim, given := q.values["dim"]; given {
		if req.filter, err = topk.ParseFilter(dim); err != nil {
			q.refuse("dim", err)
		}
	}
	if k, given := q.values["k"]; given {
		if req.k, err = strconv.Atoi(k); err != nil || req.k < 1 || req.k > topk.MaxK {
			q.refuse("k", fmt.Errorf("must be a whole number from 1 to %d", topk.MaxK))
		}
	}
	if len(q.problems) > 0 {
		return chartRequest{}, badParameters(q.problems)
	}
	req.key = snapshot.TopKey(req.filter, req.window)
	return req, nil
}

// window reads the window, which is either named or has two ends.
func (q *query) window() (w topk.Window) {
	name, named := q.values["window"]
	_, hasFrom := q.values["from"]
	_, hasTo := q.values["to"]
	var err error
	switch {
	case named && (hasFrom || hasTo):
		q.refuse("window", errors.New("must not be given with from and to"))
	case named:
		if w, err = topk.ParseWindow(name); err != nil {
			q.refuse("window", err)
		}
	case !hasFrom && !hasTo:
		return topk.Last24h
	case !hasFrom:
		q.refuse("from", errors.New("is required with to"))
	case !hasTo:
		q.refuse("to", errors.New("is required with from"))
	default:
		from, fromOK := q.instant("from")
		to, toOK := q.instant("to")
		if !fromOK || !toOK {
			return w
		}
		if w, err = topk.Between(from, to); err != nil {
			q.refuse("from", err)
		}
	}
	return w
}

// instant reads integer epoch milliseconds or an RFC 3339 time.
func (q *query) instant(name string) (t time.Time, ok bool) {
	text := q.values[name]
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), true
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.refuse(name, errors.New("must be integer epoch milliseconds or an RFC 3339 time, in which + is written %2B"))
	}
	return t.UTC(), err == nil
}

// request is parseChartRequest, remembered: the same few charts are asked for
// again and again.
func (a *chartAPI) request(rawQuery string) (chartRequest, error) {
	if req, ok := a.requests.GetIfPresent(rawQuery); ok {
		return req, nil
	}
	req, err := parseChartRequest(rawQuery)
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

// top answers with the best source there is: Redis, then ClickHouse, then what
// Redis last had.
func (a *chartAPI) top(w http.ResponseWriter, r *http.Request) error {
	req, err := a.request(r.URL.RawQuery)
	if err != nil {
		return err
	}
	wanted := false
	if !req.window.Fixed() {
		snap, err := a.snapshots.Get(r.Context(), req.filter, req.window)
		// Only for what a snapshot could answer. One that is kept on demand is
		// wanted again with each request, or it would be given up.
		wanted = req.k <= topk.SnapshotSize && (!req.filter.Eager() || errors.Is(err, topk.ErrNotFound))
		if err == nil && req.fits(snap.Chart) {
			if wanted {
				a.snapshots.Want(req.filter, req.window)
			}
			if !a.isStale(snap.Chart) || !a.computeInstead(w, r, req) {
				a.metrics.fromSnapshot.Inc()
				a.writeReady(w, r, req, snap)
			}
			return nil
		}
		if err != nil && !errors.Is(err, topk.ErrNotFound) {
			a.log.DebugContext(r.Context(), "no snapshot", requestID(w), "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.RequestTime)
	defer cancel()
	err = a.topElsewhere(ctx, w, req)
	if wanted && !errors.Is(err, topk.ErrInvalid) {
		a.snapshots.Want(req.filter, req.window)
	}
	return err
}

// computeInstead answers with a computed chart in place of a snapshot that
// stands still, as when the refresher is away, and reports whether it did. When
// ClickHouse is away too, one request a second tries it, and the others do not
// wait.
func (a *chartAPI) computeInstead(w http.ResponseWriter, r *http.Request, req chartRequest) bool {
	now := a.clock().UnixNano()
	if at := a.retryAt.Load(); at != 0 && (now < at || !a.retryAt.CompareAndSwap(at, now+int64(retryAfter))) {
		return false
	}
	ctx, cancel := context.WithTimeout(r.Context(), a.limits.InsteadOfStale)
	defer cancel()
	chart, err := a.compute(ctx, req)
	if r.Context().Err() != nil { // the client has left: that says nothing of ClickHouse
		return false
	}
	if err != nil {
		a.log.DebugContext(ctx, "serving a chart that stands still", requestID(w), "error", err)
		a.retryAt.Store(a.clock().Add(retryAfter).UnixNano())
		return false
	}
	a.retryAt.Store(0)
	a.metrics.fromClickHouse.Inc()
	a.writeOnce(ctx, w, req, chart, fromClickHouse)
	return true
}

// retryAfter is how long ClickHouse is left alone for charts that a snapshot can
// answer, after it did not.
const retryAfter = time.Second

// topElsewhere answers what Redis cannot.
func (a *chartAPI) topElsewhere(ctx context.Context, w http.ResponseWriter, req chartRequest) error {
	chart, err := a.compute(ctx, req)
	if err == nil {
		a.metrics.fromClickHouse.Inc()
		a.writeOnce(ctx, w, req, chart, fromClickHouse)
		return nil
	}
	if errors.Is(err, topk.ErrInvalid) || errors.Is(err, context.Canceled) {
		return err
	}
	last, known := a.snapshots.Last(req.filter, req.window)
	switch {
	case known && req.fits(last.Chart):
		a.log.DebugContext(ctx, "serving the last known chart", requestID(w), "error", err)
		a.metrics.fromLastKnown.Inc()
		a.writeOnce(ctx, w, req, last.Chart, fromLastKnown)
		return nil
	case known && errors.Is(err, topk.ErrUnavailable):
		err = &problem{
			status:     http.StatusServiceUnavailable,
			detail:     fmt.Sprintf("only the first %d places can be given now; ask for so many, or try again", topk.SnapshotSize),
			retryAfter: time.Second,
			cause:      err,
		}
	}
	a.metrics.fromNowhere.Inc()
	return err
}

// fits reports whether the chart holds all that is asked for: enough entries,
// or all there are.
func (req chartRequest) fits(snapshot topk.Chart) bool {
	return req.k <= topk.SnapshotSize || len(snapshot.Entries) < topk.SnapshotSize
}

// compute asks ClickHouse, once for all who want the same chart at the same
// time. How many entries it gives hardly changes what a chart costs, so who
// wants 10 shares with who wants 50.
func (a *chartAPI) compute(ctx context.Context, req chartRequest) (topk.Chart, error) {
	k := topk.SnapshotSize
	if req.k > k {
		k = topk.MaxK
	}
	detached := context.WithoutCancel(ctx)
	key := req.key + " " + strconv.Itoa(k)
	computing := a.computing.DoChan(key, func() (any, error) {
		var chart topk.Chart
		err := a.gate.pass(detached, func(ctx context.Context) (err error) {
			chart, err = a.queries.Chart(ctx, topk.ChartQuery{Filter: req.filter, Window: req.window, K: k, Now: a.clock()})
			return err
		})
		return chart, err
	})
	select {
	case <-ctx.Done():
		return topk.Chart{}, ctx.Err()
	case result := <-computing:
		if result.Err != nil {
			return topk.Chart{}, fmt.Errorf("chart %s: %w", key, result.Err)
		}
		return result.Val.(topk.Chart), nil
	}
}

// A readyKey names an encoded chart.
type readyKey struct {
	chart string // snapshot.TopKey
	k     int
}

// A readyChart is a snapshot in the form in which it is sent. Encoding costs
// several times what sending does, and a hot chart is asked for many times
// between two versions.
type readyChart struct {
	version uint64
	stale   bool
	edition uint64 // of the catalog
	until   time.Time
	body    []byte
	etag    []string // headers; they are shared and must not be changed
	length  []string
}

// readyOverhead is about what a readyChart takes beside its body and key.
const readyOverhead = 512

var (
	jsonType         = []string{"application/json"}
	snapshotLifetime = []string{"max-age=1, stale-while-revalidate=5"}
)

// writeReady answers with a snapshot, encoded before if possible.
func (a *chartAPI) writeReady(w http.ResponseWriter, r *http.Request, req chartRequest, snap snapshot.Snapshot) {
	ready := a.prepare(r.Context(), req, snap)
	header := w.Header()
	header["Cache-Control"] = snapshotLifetime
	header["Etag"] = ready.etag
	if have := r.Header["If-None-Match"]; len(have) > 0 && matches(have, ready.etag[0]) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	header["Content-Type"] = jsonType
	header["Content-Length"] = ready.length
	_, _ = w.Write(ready.body) // fails when the client has left, who needs no answer
}

// prepare encodes a snapshot, unless that was done before with the same outcome.
func (a *chartAPI) prepare(ctx context.Context, req chartRequest, snap snapshot.Snapshot) *readyChart {
	key := readyKey{req.key, req.k}
	stale, edition, now := a.isStale(snap.Chart), a.catalog.edition.Load(), a.clock()
	ready, ok := a.ready.GetIfPresent(key)
	if ok && ready.version == snap.Version && ready.stale == stale && ready.edition == edition && now.Before(ready.until) {
		return ready
	}
	body := encode(a.answer(ctx, req, snap.Chart, fromSnapshot, stale))
	ready = &readyChart{
		version: snap.Version, stale: stale, edition: edition, until: now.Add(a.limits.ReadyFor),
		body: body, etag: []string{etagOf(snap.Version, body)}, length: []string{strconv.Itoa(len(body))},
	}
	a.ready.Set(key, ready)
	return ready
}

// writeOnce answers with a chart that is no snapshot of now: it has no version,
// and is not to be kept by caches.
func (a *chartAPI) writeOnce(ctx context.Context, w http.ResponseWriter, req chartRequest, chart topk.Chart, source string) {
	stale := source == fromLastKnown || a.isStale(chart)
	body := encode(a.answer(ctx, req, chart, source, stale))
	w.Header().Set("Cache-Control", "no-store")
	w.Header()["Content-Type"] = jsonType
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body) // fails when the client has left, who needs no answer
}

// isStale reports whether a chart that should move has stood still too long.
func (a *chartAPI) isStale(chart topk.Chart) bool {
	return !chart.Window.Fixed() && a.clock().Sub(chart.AsOf) > a.limits.StaleAfter
}

// etagOf is the snapshot's version, and a hash of what is sent: songs may be
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

// encode gives the JSON text. The values are ours and have no way to fail.
func encode(answer any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		panic(err)
	}
	return text.Bytes()
}

func newMetadata(song topk.Song) *answer.Metadata {
	m := &answer.Metadata{
		Title: song.Title, Artist: song.Artist, ArtistID: song.ArtistID, Genres: song.Genres, DurationMS: song.DurationMS,
	}
	if m.Genres == nil {
		m.Genres = []string{}
	}
	return m
}

// answer puts the first k entries of a chart and their metadata together.
func (a *chartAPI) answer(ctx context.Context, req chartRequest, chart topk.Chart, source string, stale bool) answer.Chart {
	entries := chart.Entries[:min(req.k, len(chart.Entries))]
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.SongID
	}
	songs, err := a.catalog.find(ctx, ids)
	if err != nil {
		// A chart without titles is better than none.
		a.log.DebugContext(ctx, "songs without metadata", "chart", req.key, "error", err)
	}
	items := make([]answer.Item, len(entries))
	for i, e := range entries {
		items[i] = answer.Item{Rank: e.Rank, SongID: e.SongID, Score: e.Plays}
		if song, known := songs[e.SongID]; known {
			items[i].Metadata = newMetadata(song)
		}
	}
	return answer.Chart{
		Dim:         req.filter.String(),
		Window:      req.window.String(),
		AsOf:        instant(chart.AsOf),
		WindowStart: instant(chart.Span.Start),
		WindowEnd:   instant(chart.Span.End),
		Source:      source,
		Stale:       stale,
		Mode:        "exact",
		RankBy:      "plays",
		TotalPlays:  chart.TotalPlays,
		Items:       items,
	}
}

// instant writes a time as the API does: RFC 3339, in UTC, with milliseconds.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }
