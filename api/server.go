package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// Queries is what the API asks of ClickHouse; *queries.DB answers it.
type Queries interface {
	Chart(ctx context.Context, q topk.ChartQuery) (topk.Chart, error)
	Listeners(ctx context.Context, q topk.ChartQuery) (topk.Chart, error)
	Approx(ctx context.Context, q topk.ChartQuery) (topk.ApproxChart, error)
	Compare(ctx context.Context, q topk.ComparisonQuery) (topk.Comparison, error)
	Closed
	Values(ctx context.Context, dim topk.Dimension) ([]string, error)
	Artist(ctx context.Context, artistID string) (topk.Artist, error)
	Songs(ctx context.Context, ids []string) (map[string]topk.Song, error)
	UpsertSongs(ctx context.Context, songs []topk.Song) error
	SongPlays(ctx context.Context, songID string, windows []topk.Window, now time.Time) ([]uint64, error)
	SongHistory(ctx context.Context, q topk.HistoryQuery) ([]topk.HistoryPoint, error)
}

// Closed is what there is of closed charts. A revision of 0 is the latest one, a
// zero date too.
type Closed interface {
	Closed(ctx context.Context, f topk.Filter, p topk.Period, date time.Time, revision int) (topk.ClosedChart, error)
	ClosedDates(ctx context.Context, f topk.Filter, p topk.Period, before time.Time, k int) ([]topk.ClosedDate, error)
	SongPlaces(ctx context.Context, songID string, p topk.Period, date time.Time) ([]topk.ChartPlace, error)
	SongRanks(ctx context.Context, songID string, f topk.Filter, p topk.Period, span topk.Span) ([]topk.ChartPlace, error)
}

// A Check reports whether a server behind the API answers, before ctx ends.
type Check func(ctx context.Context) error

// Config is what a Server is made of.
type Config struct {
	Queries   Queries
	Snapshots *snapshot.Store
	Ingest    *Ingest          // nil for none
	Events    Events           // nil for none, and no answer to where an event is
	Rejects   Rejects          // nil for none, and no list of rejected messages
	Jobs      Jobs             // nil for none, and no list of jobs
	Page      http.Handler     // answers at / and /assets/; nil for none
	Checks    map[string]Check // of /readyz, by the name of what they reach
	Clock     topk.Clock
	Calendar  topk.Calendar        // where weeks begin
	Registry  *prometheus.Registry // where metrics are kept and served from
	Log       *slog.Logger         // nil for none
	Limits    Limits               // zero fields take their default
}

func (c Config) validate() error {
	var errs []error
	if c.Queries == nil || c.Snapshots == nil {
		errs = append(errs, errors.New("queries and snapshots are required"))
	}
	if c.Clock == nil || c.Registry == nil {
		errs = append(errs, errors.New("a clock and a registry are required"))
	}
	return errors.Join(errs...)
}

// Limits bound what the API takes, keeps and waits for.
type Limits struct {
	RequestTime time.Duration // of a request that needs ClickHouse. Default 10 s

	StaleAfter time.Duration // a moving chart older than this is called stale. Default 10 s
	// InsteadOfStale is how long ClickHouse may take for a chart of which there is
	// a snapshot that is stale. Default 1 s.
	InsteadOfStale time.Duration

	ChartQuery  time.Duration // one chart computed by ClickHouse. Default 5 s
	ChartQueue  time.Duration // its wait for one of ChartQueries. Default 250 ms
	ChartSlots  int           // charts that ClickHouse computes at once. Default 8
	ReadyBytes  int           // encoded charts kept in memory. Default 64 MiB
	ReadyFor    time.Duration // how long one is given while its chart stays the same. Default 1 s
	UploadBytes int64         // one upload of songs. Default 16 MiB
	UploadTime  time.Duration // for its body to arrive, and again for its writing. Default 30 s
	UploadSlots int           // uploads at once. Default 4

	ClosedCharts int           // closed charts kept in memory; one takes about 30 KB. Default 1024
	ClosedFor    time.Duration // how long the latest revision is given without asking again. Default 10 s
	TrendFor     time.Duration // how long a comparison is given without asking again. Default 5 s
	ListFor      time.Duration // the same of the list of charts. Default 1 min

	CatalogQuery      time.Duration // one look-up of metadata. Default 500 ms
	CatalogSlots      int           // look-ups at once. Default 4
	CatalogSongs      int           // songs kept in memory. Default 100,000
	CatalogFor        time.Duration // how long one is given without asking again. Default 1 min
	CatalogUnknownFor time.Duration // the same of an id that the catalog does not know. Default 5 s

	AdminTime  time.Duration // of a request of an operator, and of its statements. Default 30 s
	AdminQueue time.Duration // its wait for one of AdminSlots. Default 2 s
	AdminSlots int           // of them at once. Default 4

	Streams         int           // open at once. Default 4096
	StreamFeeds     int           // different charts in them. Default 256
	StreamPoll      time.Duration // between two looks at a snapshot. Default 250 ms
	StreamCompute   time.Duration // between two charts computed for a stream. Default 3 s
	StreamHeartbeat time.Duration // between two comments. Default 15 s
	StreamWrite     time.Duration // for a client to take what it is sent. Default 10 s

	Rate           int            // query requests a second from one address. Default 0, for no limit
	RateBurst      int            // of them at once. Default 5 times as many
	RateClients    int            // addresses that are told apart. Default 65,536
	TrustedProxies []netip.Prefix // whose word on the client's address is taken. Default none

	CheckTime time.Duration // of all checks together. Default 1 s
	Origins   []string      // pages that may call the API. Default every one
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.RequestTime, 10*time.Second)
	orDefault(&l.StaleAfter, 10*time.Second)
	orDefault(&l.InsteadOfStale, time.Second)
	orDefault(&l.ChartQuery, 5*time.Second)
	orDefault(&l.ChartQueue, 250*time.Millisecond)
	orDefault(&l.ChartSlots, 8)
	orDefault(&l.ReadyBytes, 64<<20)
	orDefault(&l.ReadyFor, time.Second)
	orDefault(&l.UploadBytes, 16<<20)
	orDefault(&l.UploadTime, 30*time.Second)
	orDefault(&l.UploadSlots, 4)
	orDefault(&l.ClosedCharts, 1024)
	orDefault(&l.ClosedFor, 10*time.Second)
	orDefault(&l.TrendFor, 5*time.Second)
	orDefault(&l.ListFor, time.Minute)
	orDefault(&l.CatalogQuery, 500*time.Millisecond)
	orDefault(&l.CatalogSlots, 4)
	orDefault(&l.CatalogSongs, 100_000)
	orDefault(&l.CatalogFor, time.Minute)
	orDefault(&l.CatalogUnknownFor, 5*time.Second)
	orDefault(&l.AdminTime, 30*time.Second)
	orDefault(&l.AdminQueue, 2*time.Second)
	orDefault(&l.AdminSlots, 4)
	orDefault(&l.Streams, 4096)
	orDefault(&l.StreamFeeds, 256)
	orDefault(&l.StreamPoll, 250*time.Millisecond)
	orDefault(&l.StreamCompute, 3*time.Second)
	orDefault(&l.StreamHeartbeat, 15*time.Second)
	orDefault(&l.StreamWrite, 10*time.Second)
	orDefault(&l.RateBurst, 5*l.Rate)
	orDefault(&l.RateClients, 1<<16)
	orDefault(&l.CheckTime, time.Second)
	if len(l.Origins) == 0 {
		l.Origins = []string{"*"}
	}
	return l
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// A Server is the HTTP API: ingest, charts, songs, operations and probes.
type Server struct {
	handler http.Handler
	clock   topk.Clock
	log     *slog.Logger
	metrics apiMetrics
	streams *streams
}

// New makes the API. Whoever serves it sets the server's own timeouts for
// headers, and for the connections of clients that stopped reading, and calls
// Close in the end.
func New(cfg Config) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{clock: cfg.Clock, log: cfg.Log, metrics: newAPIMetrics(cfg.Registry)}
	router, err := s.routes(cfg)
	if err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.handler = router
	return s, nil
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends the streams, which last until their clients leave otherwise. All
// other requests are answered as before. It is for http.Server's
// RegisterOnShutdown, and may be called again.
func (s *Server) Close() { s.streams.close() }

func (s *Server) routes(cfg Config) (chi.Router, error) {
	limits := cfg.Limits
	compress, err := compress()
	if err != nil {
		return nil, err
	}
	catalog, err := newCatalog(cfg.Queries,
		newGate(limits.CatalogSlots, limits.CatalogQuery, limits.CatalogQuery, s.metrics.querying),
		cfg.Clock, limits, s.metrics)
	if err != nil {
		return nil, err
	}
	charts := newGate(limits.ChartSlots, limits.ChartQueue, limits.ChartQuery, s.metrics.querying)
	chartAPI, err := newChartAPI(cfg, charts, catalog, s.metrics)
	if err != nil {
		return nil, err
	}
	s.streams = newStreams(cfg, chartAPI.chart)
	songAPI := newSongAPI(cfg, charts, catalog)
	historyAPI := newHistoryAPI(cfg, charts, catalog)
	sources := newMemorySources(cfg.Registry)
	trendAPI, err := newTrendAPI(cfg, charts, catalog, sources)
	if err != nil {
		return nil, err
	}
	chartListAPI, err := newChartListAPI(cfg, charts, sources)
	if err != nil {
		return nil, err
	}
	artistAPI, err := newArtistAPI(cfg, charts, chartAPI, sources)
	if err != nil {
		return nil, err
	}
	limitRate, err := limitRate(cfg)
	if err != nil {
		return nil, err
	}
	document, err := documentHandler(describe(cfg))
	if err != nil {
		return nil, err
	}

	docs, err := newDocs()
	if err != nil {
		return nil, err
	}

	r := chi.NewRouter()
	r.Use(identify, s.observe, s.recoverPanics, shareWith(limits.Origins), compress, middleware.GetHead)
	r.NotFound(s.handle(noRoute))
	r.MethodNotAllowed(s.handle(otherMethod))

	asked := r.With(limitRate)
	asked.Get(topPath, s.handle(chartAPI.top))
	asked.Get(streamPath, s.handle(s.streams.stream))
	timed := asked.With(limitTime(limits.RequestTime))
	timed.Get(trendingPath, s.handle(trendAPI.trending))
	timed.Get(songPath, s.handle(songAPI.song))
	timed.Get(historyPath, s.handle(historyAPI.history))
	timed.Get(songChartsPath, s.handle(historyAPI.charts))
	timed.Get(artistPath, s.handle(artistAPI.artist))
	timed.Get(chartsPath, s.handle(chartListAPI.charts))
	timed.Get(datesPath, s.handle(chartListAPI.dates))
	r.Post(songsPath, s.handle(songAPI.upsert))
	if cfg.Ingest != nil {
		cfg.Ingest.Routes(r)
	}
	// One gate of their own: they may take long, and charts must not wait for them.
	admin := newGate(limits.AdminSlots, limits.AdminQueue, limits.AdminTime, s.metrics.querying)
	if cfg.Events != nil {
		r.With(limitTime(limits.AdminTime)).Get(eventPath, s.handle((&eventAPI{cfg.Events, admin}).find))
	}
	if cfg.Rejects != nil {
		r.With(limitTime(limits.AdminTime)).Get(rejectedPath, s.handle((&rejectedAPI{cfg.Rejects, admin}).list))
	}
	if cfg.Jobs != nil {
		jobs := &jobsAPI{cfg.Jobs, admin}
		r.With(limitTime(limits.AdminTime)).Get(jobsPath, s.handle(jobs.list))
		r.With(limitTime(limits.AdminTime)).Post(jobPath, s.handle(jobs.ask))
	}
	r.Get(healthPath, s.handle(healthy))
	r.Get(readyPath, s.handle(readiness(cfg.Checks, limits.CheckTime, s.log)))
	r.Method(http.MethodGet, metricsPath, metricsHandler(cfg.Registry))
	r.Get(documentPath, document)
	docs.routes(r)
	if cfg.Page != nil {
		r.Method(http.MethodGet, "/", cfg.Page)
		r.Method(http.MethodGet, "/assets/*", cfg.Page)
	}
	return r, nil
}

func noRoute(_ http.ResponseWriter, r *http.Request) error {
	return &problem{status: http.StatusNotFound, detail: "there is nothing at " + r.URL.Path + "; see " + documentPath}
}

// otherMethod answers a known path with an unknown method, and says which are
// known.
func otherMethod(w http.ResponseWriter, r *http.Request) error {
	path := r.URL.Path
	if r.URL.RawPath != "" {
		path = r.URL.RawPath
	}
	routes := chi.RouteContext(r.Context()).Routes
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if !routes.Match(chi.NewRouteContext(), method, path) {
			continue
		}
		allowed = append(allowed, method)
		if method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &problem{
		status: http.StatusMethodNotAllowed,
		detail: r.Method + " does not go with " + r.URL.Path + ", only " + strings.Join(allowed, " and "),
	}
}
