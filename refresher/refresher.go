// Package refresher keeps the snapshots in Redis fresh: on a cadence per window
// it computes every eager chart from ClickHouse and publishes what changed.
//
// This is its first form: each tick computes the charts anew, by one statement
// per dimension and window.
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
	"github.com/topk-charts/topk/snapshot"
)

// A Cadence is how often the charts of a window are refreshed.
type Cadence struct {
	Window topk.Window
	Every  time.Duration
}

// Cadences are the windows that have snapshots: the shorter the window, the
// more a second matters to it. All stay well below the 5 s of staleness that
// users are promised.
func Cadences() []Cadence {
	return []Cadence{
		{topk.LastHour, 500 * time.Millisecond},
		{topk.Last24h, time.Second},
		{topk.Last7d, 2 * time.Second},
		{topk.AllTime, 2 * time.Second},
	}
}

// EagerDimensions have a snapshot of every value that has plays.
func EagerDimensions() []topk.Dimension {
	return []topk.Dimension{topk.DimGlobal, topk.DimRegion, topk.DimGenre, topk.DimSegment, topk.DimDevice}
}

// Config is what a Refresher works with; all of it is required.
type Config struct {
	DB        *queries.DB
	Snapshots *snapshot.Publisher
	Cadences  []Cadence
	Clock     topk.Clock
	Log       *slog.Logger
	Registry  prometheus.Registerer
	Timeout   time.Duration // of one statement and its publication
}

// A Refresher publishes snapshots. Several may run at once: Redis keeps the
// newest version of each chart.
type Refresher struct {
	Config
	metrics metrics
}

// New makes a refresher and registers its metrics.
func New(cfg Config) *Refresher {
	return &Refresher{Config: cfg, metrics: newMetrics(cfg.Registry)}
}

// Run refreshes until ctx ends. A server that is away is waited for: readers
// see the age of what they are served.
func (r *Refresher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range r.Cadences {
		group.Go(func() error {
			r.refreshWindow(ctx, c)
			return nil
		})
	}
	return group.Wait()
}

// refreshWindow refreshes one window's charts on its cadence, one dimension
// after the other.
func (r *Refresher) refreshWindow(ctx context.Context, c Cadence) {
	ticks := time.NewTicker(c.Every)
	defer ticks.Stop()
	published := map[topk.Dimension]charts{}
	read := map[topk.Dimension]time.Time{} // when the published charts were computed
	for {
		for _, dim := range EagerDimensions() {
			start := r.Clock()
			now, err := r.refresh(ctx, dim, c.Window, start, published[dim])
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				r.metrics.failures.WithLabelValues(string(dim), c.Window.String()).Inc()
				r.Log.WarnContext(ctx, "charts not refreshed; trying again", "dimension", dim, "window", c.Window.String(), "error", err)
				continue
			}
			if last, again := read[dim]; again {
				r.metrics.freshness.WithLabelValues(string(dim), c.Window.String()).Observe(r.Clock().Sub(last).Seconds())
			}
			published[dim], read[dim] = now, start
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// charts are filters by their canonical form.
type charts map[string]topk.Filter

// refresh computes all charts of one dimension and window as of start and
// publishes them. Those
// that were published before and have no plays any more become empty.
func (r *Refresher) refresh(ctx context.Context, dim topk.Dimension, w topk.Window, start time.Time, before charts) (charts, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	current, blank, err := r.DB.Charts(ctx, dim, w, start)
	if err != nil {
		return nil, err
	}
	after := make(charts, len(current))
	for _, c := range current {
		after[c.Filter.String()] = c.Filter
	}
	for name, filter := range before {
		if _, still := after[name]; !still {
			gone := blank
			gone.Filter = filter
			current = append(current, gone)
		}
	}

	var failed []error
	changed := 0
	changes := make([]snapshot.Change, len(current))
	for i, c := range current {
		changes[i] = snapshot.Whole(c)
	}
	for i, outcome := range r.Snapshots.Publish(ctx, changes) {
		// Stale: another refresher was faster.
		if outcome.Err != nil && !errors.Is(outcome.Err, snapshot.ErrStale) {
			failed = append(failed, outcome.Err)
		}
		changed += len(changes[i].Set)
	}
	if len(failed) > 0 {
		return nil, fmt.Errorf("publish: %d of %d charts failed, the first: %w", len(failed), len(current), failed[0])
	}
	r.metrics.observe(dim, w, r.Clock().Sub(start), len(current), changed, r.Clock())
	return after, nil
}
