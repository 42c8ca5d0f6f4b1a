// Package refresher keeps the snapshots in Redis exact and fresh. It counts
// every chart once, follows the log of plays from there, and publishes what
// changes.
//
//	log ──follow──▶ a board per window ──publish──▶ Redis
//	 └──counts of charts in doubt──▲
//
// One goroutine reads the log, and hands each piece of it to the keepers: one
// goroutine per window, which owns the board with the window's charts. A keeper
// that is slow holds the reader up, so memory is bounded.
package refresher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher/board"
	"github.com/topk-charts/topk/refresher/topn"
	"github.com/topk-charts/topk/snapshot"
)

// Config is what a Refresher works with. DB, Snapshots, Calendar, Clock, Log and
// Registry are required; the rest has defaults.
type Config struct {
	DB        *queries.DB
	Snapshots *snapshot.Publisher
	Calendar  topk.Calendar
	Clock     topk.Clock
	Log       *slog.Logger
	Registry  prometheus.Registerer

	// Tick is how often the log is read. Default 250 ms.
	Tick time.Duration
	// MaxSongs bounds the songs that are known: those of the catalog and those
	// that were played. Default 2^26, the most there can be.
	MaxSongs int
	// MaxValues bounds the regions, segments and devices that have charts of
	// their own; what comes later is left to SQL. Default 20,000.
	MaxValues int
	// MaxAsked bounds the charts per window that are kept because somebody asks
	// for them. Default 1,000.
	MaxAsked int
	// IdleAfter is how long such a chart is kept after it was last asked for.
	// Default 10 minutes.
	IdleAfter time.Duration
	// CountShare is how much of one ClickHouse statement, run for ever, all
	// counts of single charts may use. Default 0.25.
	CountShare float64
	// AuditEvery is how often one chart, in turn, is counted anew to prove that
	// it is right. Default 10 s.
	AuditEvery time.Duration
	// Timeout bounds one statement; the cold start's may take ten times as long.
	// Default 30 s.
	Timeout time.Duration
}

func (c Config) withDefaults() Config {
	orElse(&c.Tick, 250*time.Millisecond)
	orElse(&c.MaxSongs, 1<<26)
	orElse(&c.MaxValues, 20_000)
	orElse(&c.MaxAsked, 1000)
	orElse(&c.IdleAfter, 10*time.Minute)
	orElse(&c.CountShare, 0.25)
	orElse(&c.AuditEvery, 10*time.Second)
	orElse(&c.Timeout, 30*time.Second)
	return c
}

func orElse[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// A Refresher publishes snapshots. Several may run at once: Redis keeps the
// newest version of each chart.
type Refresher struct {
	Config
	songs   *topn.Songs
	catalog *board.Catalog
	metrics metrics
	inspect chan inspection
}

// New makes a refresher and registers its metrics.
func New(cfg Config) *Refresher {
	cfg = cfg.withDefaults()
	return &Refresher{
		Config: cfg, songs: topn.NewSongs(cfg.MaxSongs), catalog: board.NewCatalog(),
		metrics: newMetrics(cfg.Registry), inspect: make(chan inspection),
	}
}

// retryAfter is the pause after something failed.
const retryAfter = time.Second

// Run refreshes until ctx ends. A server that is away is waited for: readers see
// the age of what they are served.
func (r *Refresher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := r.follow(ctx)
		switch {
		case ctx.Err() != nil:
		case errors.Is(err, queries.ErrRewritten):
			r.metrics.restarts.WithLabelValues("rewritten").Inc()
			r.Log.WarnContext(ctx, "the history of plays was rewritten; every chart is counted anew")
		case errors.Is(err, errFarBehind):
			r.metrics.restarts.WithLabelValues("behind").Inc()
			r.Log.WarnContext(ctx, "the log could not be read for long; every chart is counted anew")
		default:
			r.metrics.restarts.WithLabelValues("failed").Inc()
			r.Log.WarnContext(ctx, "charts are not being refreshed; trying again", "error", err)
			pause(ctx, retryAfter)
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// follow counts all charts, and then follows the log for as long as history is
// not rewritten.
func (r *Refresher) follow(ctx context.Context) error {
	began := r.Clock()
	if err := r.readCatalog(ctx, 0); err != nil {
		return err
	}
	values := board.NewValues(r.MaxValues)
	boards, pos, err := r.start(ctx, values)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	budget := newBudget(r.CountShare)
	keepers := make([]*keeper, len(boards))
	for i, b := range boards {
		keepers[i] = newKeeper(r, b, values, budget, began)
		group.Go(func() error { return keepers[i].run(ctx, group) })
	}
	group.Go(func() error { return r.read(ctx, pos, boards[0].AsOf(), values, keepers) })
	group.Go(func() error { return r.followCatalog(ctx, began) })
	group.Go(func() error { return r.followDemand(ctx, keepers) })
	group.Go(func() error { return r.answerInspections(ctx, keepers) })
	return group.Wait()
}

// start counts every eager chart of every window, by one statement per
// dimension. The boards are then at the position, or will have passed it.
func (r *Refresher) start(ctx context.Context, values *board.Values) ([]*board.Board, queries.LogPosition, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*r.Timeout)
	defer cancel()
	asOf := r.Clock().UTC().Truncate(time.Millisecond)
	cfg := board.Config{
		Calendar: r.Calendar, Songs: r.songs, Values: values, Catalog: r.catalog, Limits: topn.DefaultLimits(),
		MaxAsked: r.MaxAsked, IdleAfter: r.IdleAfter,
	}
	var boards []*board.Board
	for _, w := range topk.Windows() {
		b := board.New(cfg, w)
		b.Load(asOf)
		boards = append(boards, b)
	}
	dims := []topk.Dimension{topk.DimRegion, topk.DimGlobal, topk.DimSegment, topk.DimDevice}
	positions := make([]queries.LogPosition, len(dims))
	group, counting := errgroup.WithContext(ctx)
	group.SetLimit(startAtOnce)
	for i, dim := range dims {
		group.Go(func() (err error) {
			loader := &loader{songs: r.songs, boards: boards, dim: dim}
			if positions[i], err = r.DB.Counts(counting, dim, topk.Windows(), asOf, loader); err != nil {
				return err
			}
			return loader.done(positions[i].Next)
		})
	}
	if err := group.Wait(); err != nil {
		return nil, queries.LogPosition{}, fmt.Errorf("cold start: %w", err)
	}
	pos, err := earliest(positions)
	if err != nil {
		return nil, queries.LogPosition{}, err
	}
	early, err := r.leaving(ctx, topk.Span{Start: asOf.Add(time.Millisecond), End: asOf.Add(queries.MaxAhead)}, pos.Next, values)
	if err != nil {
		return nil, queries.LogPosition{}, err
	}
	for _, b := range boards {
		b.Start(pos.Next, early)
	}
	return boards, pos, nil
}

// startAtOnce is how many dimensions are counted side by side: while one is
// being read, the next is counted.
const startAtOnce = 2

// earliest gives the position from which on every one of the positions misses
// nothing.
func earliest(positions []queries.LogPosition) (queries.LogPosition, error) {
	first := queries.LogPosition{Next: topk.Watermark{}, Heads: topk.Watermark{}, Rewrites: positions[0].Rewrites}
	for src := range positions[0].Next {
		first.Next[src], first.Heads[src] = positions[0].Next[src], positions[0].Heads[src]
		for _, p := range positions {
			first.Next[src], first.Heads[src] = min(first.Next[src], p.Next[src]), min(first.Heads[src], p.Heads[src])
		}
	}
	for _, p := range positions {
		if p.Rewrites != first.Rewrites {
			return first, queries.ErrRewritten
		}
	}
	return first, nil
}

// A loader hands the counts of one dimension to the boards.
type loader struct {
	songs   *topn.Songs
	boards  []*board.Board
	dim     topk.Dimension
	loaders []*board.Loader
	err     error // the first
}

func (l *loader) Begin() {
	l.loaders = nil
	for _, b := range l.boards {
		l.loaders = append(l.loaders, b.Loader(l.dim))
	}
}

func (l *loader) Floor(val string, floors, totals []uint64) {
	// Also where it has no plays: Redis may still have the chart of when it had.
	for i, into := range l.loaders {
		into.Value(val, floors[i], totals[i])
	}
}

func (l *loader) Row(val, songID string, plays []uint64) {
	song, err := l.songs.Intern(songID)
	if err != nil {
		l.err = err
		return
	}
	for i, into := range l.loaders {
		if plays[i] > 0 {
			into.Row(val, song, plays[i])
		}
	}
}

func (l *loader) done(below topk.Watermark) error {
	for _, into := range l.loaders {
		into.Done(below)
	}
	return l.err
}
