package loader

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tablelock"
	"github.com/topk-charts/topk/queries"
)

// closing is the lock of whoever closes charts.
const closing = "closing"

// publishTimeout bounds the one statement that is not given up.
const publishTimeout = time.Minute

// A period that is over is looked at again when it is twice as old as at the
// last look, but not more often than hourly and not less often than daily: most
// of what comes late comes soon, and revisions stay few.
const (
	soonestLook = time.Hour
	latestLook  = 24 * time.Hour
)

// CloserConfig is what a Closer works with. All of it is required, but for
// Progress and MaxDates.
type CloserConfig struct {
	ClickHouseURL string
	DB            *queries.DB // the same database
	Calendar      topk.Calendar
	// Lateness is how long after its end a period is closed.
	Lateness time.Duration
	// Horizon is for how long after its end a period is closed again when plays
	// or corrections have changed it.
	Horizon time.Duration
	// MaxDates bounds how many dates one Run closes; the rest is for the next.
	// 0 is no bound.
	MaxDates int
	Clock    topk.Clock
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Progress is told what is being done, and how many of the dates are behind
	// it. It comes before each statement.
	Progress func(doing string, done, total int64)
}

// A Closer writes down the charts of days and weeks that are over, and again,
// as another revision, those that plays or corrections have changed since.
//
// It may be killed at any moment: what it was about to write appears by one
// statement per date, and whatever is missing the next run notices.
type Closer struct {
	CloserConfig
	lock    *sql.DB
	metrics closeMetrics
}

// OpenCloser prepares to close charts and registers the metrics.
func OpenCloser(cfg CloserConfig) (*Closer, error) {
	options, err := clickhouse.ParseDSN(cfg.ClickHouseURL)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int64, int64) {}
	}
	return &Closer{CloserConfig: cfg, lock: clickhouse.OpenDB(options), metrics: newCloseMetrics(cfg.Registry)}, nil
}

// Close releases the connections.
func (c *Closer) Close() error { return c.lock.Close() }

// Closed is what a run has done.
type Closed struct {
	Dates     int    // periods whose charts were counted
	Charts    uint64 // closed for the first time
	Revisions uint64 // of charts that had been closed before
	More      bool   // MaxDates was reached, and there may be more to do
}

// Run closes what is due, the oldest first: every period that is over and never
// was closed, back to the first day with plays; every one within the horizon of
// which something has changed; and those whose movement may be another, since an
// earlier one has got new revisions. It does nothing while another process is
// closing.
func (c *Closer) Run(ctx context.Context) (Closed, error) {
	lock, err := tablelock.Try(ctx, c.lock, closing)
	if err != nil {
		return Closed{}, err
	}
	if lock == nil {
		c.Log.DebugContext(ctx, "another process is closing charts")
		return Closed{}, nil
	}
	return c.under(lock, topk.Periods(), func(w *walk, d *date) (bool, error) { return w.due(d) })
}

// Once is Run, unless another process is closing: then it waits for that.
func (c *Closer) Once(ctx context.Context) (Closed, error) {
	lock, err := tablelock.Take(ctx, c.lock, closing)
	if err != nil {
		return Closed{}, err
	}
	return c.under(lock, topk.Periods(), func(w *walk, d *date) (bool, error) { return w.due(d) })
}

// CloseBetween closes every period of the kinds that has a part in the days from
// and to, and is over, whether anything seems to have changed or not, and then
// those later ones whose movement may be another.
func (c *Closer) CloseBetween(ctx context.Context, kinds []topk.Period, from, to time.Time) (Closed, error) {
	lock, err := tablelock.Take(ctx, c.lock, closing)
	if err != nil {
		return Closed{}, err
	}
	return c.under(lock, kinds, func(w *walk, d *date) (bool, error) {
		asked := d.span.End.After(from) && !d.span.Start.After(to)
		return asked || d.known() && w.stale(d), nil
	})
}

func (c *Closer) under(lock *tablelock.Lock, kinds []topk.Period, due func(*walk, *date) (bool, error)) (_ Closed, err error) {
	defer func() { err = errors.Join(err, lock.Release()) }()
	w := &walk{Closer: c, ctx: lock.Context(), held: lock, now: c.Clock().UTC()}
	if w.first, err = c.DB.FirstDay(w.ctx); err != nil {
		return w.closed, fmt.Errorf("close charts: %w", err)
	}
	if w.runs, err = c.DB.CloseRuns(w.ctx); err != nil {
		return w.closed, fmt.Errorf("close charts: %w", err)
	}
	for _, r := range w.runs {
		w.last = topk.Later(w.last, r.ClosedAt)
	}
	for _, kind := range kinds {
		if err := w.run(kind, due); err != nil {
			return w.closed, fmt.Errorf("close charts: %w", err)
		}
	}
	return w.closed, nil
}

// A walk goes once over the dates of each period, the oldest first.
type walk struct {
	*Closer
	ctx    context.Context
	held   *tablelock.Lock
	now    time.Time // when it began
	first  time.Time // day with plays; zero when there are none
	runs   []queries.CloseRun
	last   time.Time // the latest instant any run has used
	began  time.Time // the latest of the earlier dates'
	inputs *queries.CloseInputs
	closed Closed
}

// A date is one period's, and how far closing it has come.
type date struct {
	period topk.Period
	span   topk.Span
	began  time.Time        // zero: never
	done   queries.CloseRun // of the last run; zero: none
}

func (d *date) known() bool { return !d.done.ClosedAt.IsZero() || !d.began.IsZero() }

func (w *walk) run(kind topk.Period, due func(*walk, *date) (bool, error)) error {
	dates := w.dates(kind)
	w.began = time.Time{}
	for i, d := range dates {
		do, err := due(w, d)
		if err != nil {
			return err
		}
		if do && w.MaxDates > 0 && w.closed.Dates == w.MaxDates {
			w.closed.More = true
			return nil
		}
		if do {
			if err := w.close(d, int64(i), int64(len(dates))); err != nil {
				return err
			}
		}
		w.began = topk.Later(w.began, d.began)
		if !d.done.ClosedAt.IsZero() {
			w.metrics.until.WithLabelValues(string(kind)).Set(float64(d.span.End.Unix()))
		}
	}
	return nil
}

// dates gives every date of the period that is over, from the first day with
// plays or the first date ever closed on.
func (w *walk) dates(kind topk.Period) []*date {
	first := w.first
	known := map[time.Time]*date{}
	for _, r := range w.runs {
		if r.Period != kind {
			continue
		}
		start := r.Date.UTC()
		if first.IsZero() || start.Before(first) {
			first = start
		}
		d := known[start]
		if d == nil {
			d = &date{}
			known[start] = d
		}
		switch r.Step {
		case queries.CloseBegan:
			d.began = r.ClosedAt
		case queries.CloseDone:
			d.done = r
		}
	}
	if first.IsZero() {
		return nil
	}
	var dates []*date
	for span := kind.Containing(first, w.Calendar); !w.now.Before(span.End.Add(w.Lateness)); span = kind.After(span) {
		d := known[span.Start]
		if d == nil {
			d = &date{}
		}
		d.period, d.span = kind, span
		dates = append(dates, d)
	}
	return dates
}

// stale tells whether the date was left by a run that was killed, or its
// movement may be another by now.
func (w *walk) stale(d *date) bool {
	return d.began.After(d.done.ClosedAt) || w.began.After(d.done.ClosedAt)
}

// due tells whether the date is to be closed. A look that finds nothing changed
// is written down, too.
func (w *walk) due(d *date) (bool, error) {
	if !d.known() || w.stale(d) {
		return true, nil
	}
	looked := d.done.ClosedAt
	pause := min(max(looked.Sub(d.span.End), soonestLook), latestLook)
	if !looked.Before(d.span.End.Add(w.Horizon)) || w.now.Before(looked.Add(pause)) {
		return false, nil
	}
	now := w.instant()
	inputs, err := w.readInputs()
	if err != nil {
		return false, err
	}
	plays, err := w.plays(d)
	if err != nil || plays != d.done.Plays || inputs != d.done.Inputs {
		return err == nil, err
	}
	d.done.ClosedAt, d.done.Revisions = now, 0
	return false, w.DB.SaveCloseRun(w.ctx, d.done)
}

// plays counts the plays of the date.
func (w *walk) plays(d *date) (uint64, error) {
	window, err := topk.Between(d.span.Start, d.span.End)
	if err != nil {
		return 0, err
	}
	chart, err := w.DB.Chart(w.ctx, topk.ChartQuery{Window: window, K: 1, Now: w.now})
	return chart.TotalPlays, err
}

// readInputs reads them once for all dates: those that change meanwhile are
// noticed by the next run.
func (w *walk) readInputs() (queries.CloseInputs, error) {
	if w.inputs == nil {
		inputs, err := w.DB.CloseInputs(w.ctx)
		if err != nil {
			return queries.CloseInputs{}, err
		}
		w.inputs = &inputs
	}
	return *w.inputs, nil
}

// instant is the time, but later than any that was used: the clocks of machines
// differ, and the order of revisions and runs must not.
func (w *walk) instant() time.Time {
	now := w.Clock().UTC().Truncate(time.Millisecond)
	if !now.After(w.last) {
		now = w.last.Add(time.Millisecond)
	}
	w.last = now
	return now
}

// close counts all charts of the date and writes what is new.
func (w *walk) close(d *date, behind, total int64) error {
	start := w.Clock()
	name := fmt.Sprintf("%s %s", d.period, d.span.Start.Format(time.DateOnly))
	var err error
	do := func(what string, statement func() error) {
		if err == nil {
			w.Progress(name+": "+what, behind, total)
			err = statement()
		}
	}
	var inputs queries.CloseInputs
	var counted queries.Counted
	var first, again uint64
	c := queries.Closing{Period: d.period, Span: d.span}
	do("begin", func() (err error) {
		c.ClosedAt = w.instant()
		if inputs, err = w.readInputs(); err != nil {
			return err
		}
		// Before it is used: a statement of a run that is killed may go on, and must
		// not add to what the next one writes.
		return w.DB.SaveCloseRun(w.ctx, queries.CloseRun{Period: d.period, Date: d.span.Start, Step: queries.CloseCounting, ClosedAt: c.ClosedAt})
	})
	do("begin", func() error { return w.DB.ForgetCounts(w.ctx) })
	for _, dim := range queries.ClosedDimensions() {
		do("count "+string(dim), func() error { return w.DB.CountCharts(w.ctx, c, dim) })
	}
	do("entries", func() (err error) {
		if counted, err = w.DB.Counted(w.ctx, c); err != nil {
			return err
		}
		return w.DB.WriteEntries(w.ctx, c)
	})
	do("changes", func() (err error) { first, again, err = w.DB.Changes(w.ctx, c); return err })
	run := queries.CloseRun{
		Period: d.period, Date: d.span.Start, Step: queries.CloseDone, ClosedAt: c.ClosedAt,
		Plays: counted.Plays, Inputs: inputs, Charts: counted.Charts, Revisions: first + again,
	}
	if err == nil && first+again > 0 {
		began := run
		began.Step = queries.CloseBegan
		do("began", func() error { return w.DB.SaveCloseRun(w.ctx, began) })
		do("charts", func() error {
			if err := w.held.StillHeld(w.ctx); err != nil {
				return err
			}
			// It must not go on in ClickHouse when the lock is given back.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(w.ctx), publishTimeout)
			defer cancel()
			return w.DB.PublishCharts(ctx, c, counted)
		})
		d.began = c.ClosedAt
	}
	do("done", func() error {
		if err := w.held.StillHeld(w.ctx); err != nil {
			return err
		}
		return w.DB.SaveCloseRun(w.ctx, run)
	})
	do("clean up", func() error { return w.DB.ForgetCounts(w.ctx) })
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	d.done = run
	w.closed.Dates++
	w.closed.Charts += first
	w.closed.Revisions += again
	took := w.Clock().Sub(start)
	w.metrics.observe(d.period, first, again, took)
	w.Log.InfoContext(w.ctx, "charts closed", "period", d.period, "date", d.span.Start.Format(time.DateOnly),
		"charts", counted.Charts, "new", first, "revised", again, "took", took)
	return nil
}

type closeMetrics struct {
	charts *prometheus.CounterVec
	until  *prometheus.GaugeVec
	took   *prometheus.HistogramVec
}

func newCloseMetrics(registry prometheus.Registerer) closeMetrics {
	auto := promauto.With(registry)
	m := closeMetrics{
		charts: auto.NewCounterVec(prometheus.CounterOpts{Name: "topk_closed_charts_total",
			Help: "Closed charts that were written, by revision: the first of its date, or a later one."}, []string{"period", "revision"}),
		until: auto.NewGaugeVec(prometheus.GaugeOpts{Name: "topk_closed_until_timestamp_seconds",
			Help: "The end of the latest period whose charts are closed."}, []string{"period"}),
		took: auto.NewHistogramVec(prometheus.HistogramOpts{Name: "topk_close_duration_seconds",
			Help: "How long closing all charts of one date took.", Buckets: prometheus.ExponentialBuckets(0.1, 3, 9)}, []string{"period"}),
	}
	for _, p := range topk.Periods() {
		for _, revision := range []string{firstRevision, laterRevision} {
			m.charts.WithLabelValues(string(p), revision)
		}
	}
	return m
}

// Which revision of a chart was written.
const (
	firstRevision = "first"
	laterRevision = "later"
)

func (m closeMetrics) observe(p topk.Period, first, again uint64, took time.Duration) {
	m.charts.WithLabelValues(string(p), firstRevision).Add(float64(first))
	m.charts.WithLabelValues(string(p), laterRevision).Add(float64(again))
	m.took.WithLabelValues(string(p)).Observe(took.Seconds())
}
