package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// The sources of a chart.
const (
	fromSnapshot   = "snapshot"   // Redis, or this process's copy of it
	fromClosed     = "closed"     // as it was written down when its period was over
	fromClickHouse = "clickhouse" // computed for this request
	fromLastKnown  = "last-known" // what Redis last had, while nothing else answers
)

// A resolvedChart is what there is to answer a request with: a chart that holds
// at least the places asked for, or all there are, and what is known beside.
type resolvedChart struct {
	topk.Chart
	source string
	stale  bool
	more   bool // places may follow the last entry

	// key and version name what the chart says, for what is made of it to be kept.
	// A version of 0 is for a chart of this moment only.
	key     string
	version uint64

	previous snapshot.Previous // of a moving chart: what it is compared with, if that is not too old
	before   *topk.Chart       // of a fixed one: the chart it is compared with, its first MaxK places; nil for none
	errors   []uint64          // of estimates: how far each may be off
	revision int               // of a closed chart
	careers  []topk.Career     // of a closed chart's entries
}

// resolve finds the chart, from the best source there is: a copy in this
// process, Redis, ClickHouse, and what Redis last had; and that of a period as
// it was written down, or computed. The error is a topk.ErrUnavailable when
// none of them has it now, a topk.ErrInvalid or a problem when there is no such
// chart. The chart may be shared and must not be changed.
func (a *chartAPI) resolve(ctx context.Context, req *chartRequest) (chart resolvedChart, err error) {
	switch {
	case req.period != "":
		chart, err = a.ofPeriod(ctx, req)
	case req.window.Fixed():
		chart, err = a.between(ctx, req, req.window)
	default:
		chart, err = a.moving(ctx, req)
	}
	switch {
	case err != nil && problemOf(err).status >= http.StatusInternalServerError:
		a.metrics.fromNowhere.Inc()
	case err != nil: // there is no such chart, or nobody waits for it any more
	case chart.source == fromSnapshot:
		a.metrics.fromSnapshot.Inc()
	case chart.source == fromClosed:
		a.metrics.fromClosed.Inc()
	case chart.source == fromClickHouse:
		a.metrics.fromClickHouse.Inc()
	case chart.source == fromLastKnown:
		a.metrics.fromLastKnown.Inc()
	}
	return chart, err
}

// moving finds the chart of a named window.
func (a *chartAPI) moving(ctx context.Context, req *chartRequest) (resolvedChart, error) {
	if req.rankBy != byPlays || req.approx {
		return a.compute(ctx, req, req.counted(), a.limits.RequestTime)
	}
	snap, err := a.snapshots.Get(ctx, req.filter, req.window)
	// Only for what a snapshot could answer. One that is kept on demand is
	// wanted again with each request, or it would be given up.
	wanted := req.kept() && req.k <= topk.SnapshotSize && (!req.filter.Eager() || errors.Is(err, topk.ErrNotFound))
	if err == nil && req.kept() && req.fits(snap.Chart) {
		if wanted {
			a.snapshots.Want(req.filter, req.window)
		}
		current := a.snapshot(req, snap, fromSnapshot)
		if current.stale {
			if chart, ok := a.computeInstead(ctx, req); ok {
				chart.previous = snap.Previous
				return chart, nil
			}
		}
		return current, nil
	}
	if err != nil && !errors.Is(err, topk.ErrNotFound) {
		a.log.DebugContext(ctx, "no snapshot", requestIDOf(ctx), "error", err)
	}
	chart, err := a.elsewhere(ctx, req)
	if wanted && !errors.Is(err, topk.ErrInvalid) {
		a.snapshots.Want(req.filter, req.window)
	}
	return chart, err
}

// snapshot is what a snapshot has to say.
func (a *chartAPI) snapshot(req *chartRequest, snap snapshot.Snapshot, source string) resolvedChart {
	chart := resolvedChart{
		Chart: snap.Chart, source: source, stale: source == fromLastKnown || a.isStale(snap.Chart),
		more: len(snap.Entries) == topk.SnapshotSize, previous: snap.Previous,
	}
	if source == fromSnapshot {
		chart.key, chart.version = req.key, snap.Version
	}
	return chart
}

// computeInstead computes a chart in place of a snapshot that stands still, as
// when the refresher is away, and reports whether it did. When ClickHouse is
// away too, one request a second tries it, and the others do not wait.
func (a *chartAPI) computeInstead(ctx context.Context, req *chartRequest) (resolvedChart, bool) {
	now := a.clock().UnixNano()
	if at := a.retryAt.Load(); at != 0 && (now < at || !a.retryAt.CompareAndSwap(at, now+int64(retryAfter))) {
		return resolvedChart{}, false
	}
	chart, err := a.compute(ctx, req, req.window, a.limits.InsteadOfStale)
	if ctx.Err() != nil { // the client has left: that says nothing of ClickHouse
		return resolvedChart{}, false
	}
	if err != nil {
		a.log.DebugContext(ctx, "serving a chart that stands still", requestIDOf(ctx), "error", err)
		a.retryAt.Store(a.clock().Add(retryAfter).UnixNano())
		return resolvedChart{}, false
	}
	a.retryAt.Store(0)
	return chart, true
}

// retryAfter is how long ClickHouse is left alone for charts that a snapshot can
// answer, after it did not.
const retryAfter = time.Second

// elsewhere finds what Redis cannot give now.
func (a *chartAPI) elsewhere(ctx context.Context, req *chartRequest) (resolvedChart, error) {
	chart, err := a.compute(ctx, req, req.counted(), a.limits.RequestTime)
	last, known := a.snapshots.Last(req.filter, req.window)
	switch {
	case err == nil:
		chart.previous = last.Previous
	case errors.Is(err, topk.ErrInvalid), errors.Is(err, context.Canceled):
	case known && req.kept() && req.fits(last.Chart):
		a.log.DebugContext(ctx, "serving the last known chart", requestIDOf(ctx), "error", err)
		return a.snapshot(req, last, fromLastKnown), nil
	case known && errors.Is(err, topk.ErrUnavailable):
		err = &problem{
			status:     http.StatusServiceUnavailable,
			detail:     fmt.Sprintf("only the first %d places can be given now; ask for so many, or try again", topk.SnapshotSize),
			retryAfter: time.Second,
			cause:      err,
		}
	}
	return chart, err
}

// between computes the chart of a fixed window, and that of the window before
// when the two are to be compared.
func (a *chartAPI) between(ctx context.Context, req *chartRequest, window topk.Window) (chart resolvedChart, err error) {
	if !req.compare && req.period == "" {
		return a.compute(ctx, req, window, a.limits.RequestTime)
	}
	earlier, err := windowBefore(window)
	if err != nil {
		return a.compute(ctx, req, window, a.limits.RequestTime) // of a period at the beginning of time
	}
	first := *req
	first.k, first.after = topk.MaxK, nil
	var before resolvedChart
	both, within := errgroup.WithContext(ctx)
	both.Go(func() (err error) { chart, err = a.compute(within, req, window, a.limits.RequestTime); return err })
	both.Go(func() (err error) { before, err = a.compute(within, &first, earlier, a.limits.RequestTime); return err })
	err = both.Wait()
	chart.before = &before.Chart
	return chart, err
}

// isStale reports whether a chart that should move has stood still too long.
func (a *chartAPI) isStale(chart topk.Chart) bool {
	return !chart.Window.Fixed() && a.clock().Sub(chart.AsOf) > a.limits.StaleAfter
}

// compute asks ClickHouse, once for all who want the same chart at the same
// time. How many entries it gives hardly changes what a chart costs, so who
// wants 10 shares with who wants 50.
func (a *chartAPI) compute(ctx context.Context, req *chartRequest, window topk.Window, limit time.Duration) (resolvedChart, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	query := topk.ChartQuery{Filter: req.filter, Window: window, K: topk.SnapshotSize}
	if req.k > query.K {
		query.K = topk.MaxK
	}
	by := req.rankBy
	if req.approx {
		by = "estimate"
	}
	key := fmt.Sprintf("%s by %s, %d", snapshot.TopKey(query.Filter, query.Window), by, query.K)
	if req.after != nil {
		query.After = &req.after.last
		key = fmt.Sprintf("%s after %d %s", key, query.After.Plays, query.After.SongID)
	}
	computed, err := single(ctx, a, key, func(ctx context.Context) (found topk.ApproxChart, err error) {
		query := query
		query.Now = a.clock()
		switch {
		case req.approx:
			return a.queries.Approx(ctx, query)
		case req.rankBy == byListeners:
			found.Chart, err = a.queries.Listeners(ctx, query)
		default:
			found.Chart, err = a.queries.Chart(ctx, query)
		}
		return found, err
	})
	if err != nil {
		return resolvedChart{}, fmt.Errorf("chart %s: %w", key, err)
	}
	return resolvedChart{
		Chart: computed.Chart, errors: computed.Errors, source: fromClickHouse, stale: a.isStale(computed.Chart),
		more: !req.approx && len(computed.Entries) == query.K,
	}, nil
}

// single puts a question to ClickHouse through the gate, once for all who ask
// the same at the same time.
func single[T any](ctx context.Context, a *chartAPI, key string, ask func(context.Context) (T, error)) (T, error) {
	return shared(ctx, &a.computing, key, func(ctx context.Context) (found T, err error) {
		err = a.gate.pass(ctx, func(ctx context.Context) error {
			found, err = ask(ctx)
			return err
		})
		return found, err
	})
}

// ofPeriod finds the chart of a day or week that is over.
func (a *chartAPI) ofPeriod(ctx context.Context, req *chartRequest) (resolvedChart, error) {
	span, err := req.span(a.clock(), a.calendar)
	if err != nil {
		return resolvedChart{}, err
	}
	if req.filter.Eager() && req.rankBy == byPlays {
		chart, found, err := a.writtenDown(ctx, req, span)
		if found || err != nil {
			return chart, err
		}
	}
	if req.revision != 0 {
		return resolvedChart{}, &problem{
			status: http.StatusNotFound,
			detail: fmt.Sprintf("there is no revision %d of the chart of the %s of %s; without revision it is the latest, or computed",
				req.revision, req.period, span.Start.Format(time.DateOnly)),
		}
	}
	window, err := topk.Between(span.Start, span.End)
	if err != nil {
		return resolvedChart{}, err
	}
	return a.between(ctx, req, window)
}

// writtenDown finds the closed chart, if it has what is asked for.
func (a *chartAPI) writtenDown(ctx context.Context, req *chartRequest, span topk.Span) (chart resolvedChart, found bool, err error) {
	revision := req.revision
	if req.after != nil {
		revision = req.after.revision
	}
	if req.after != nil && revision == 0 { // the page before was computed, so this one is
		return chart, false, nil
	}
	closed, current, err := a.closedChart(ctx, closedKey{req.filter.String(), req.period, span.Start.Unix(), revision}, req.filter)
	switch {
	case errors.Is(err, topk.ErrNotFound):
		return chart, false, nil
	case err != nil:
		return chart, false, err
	case !req.fits(closed.Chart) && req.revision != 0:
		q := query{}
		few := fmt.Errorf("a closed chart has %d places; more are only computed, without revision", topk.SnapshotSize)
		q.refuse("k", few)
		q.refuse("revision", few)
		return chart, false, badParameters(q.problems)
	case !req.fits(closed.Chart):
		return chart, false, nil
	}
	offset := min(req.offset(), len(closed.Entries))
	chart = resolvedChart{
		Chart: closed.Chart, source: fromClosed, stale: !current,
		more: len(closed.Entries) == topk.SnapshotSize && req.revision == 0, revision: closed.Revision,
	}
	chart.Entries, chart.careers = closed.Entries[offset:], closed.Careers[offset:]
	if current {
		chart.version = uint64(closed.Revision)
		chart.key = fmt.Sprintf("closed:{%s}:%s:%s:%d:%t", req.filter, req.period, span.Start.Format(time.DateOnly), offset, req.revision != 0)
	}
	return chart, true, nil
}

// A closedKey names a closed chart.
type closedKey struct {
	filter   string
	period   topk.Period
	date     int64 // Unix seconds
	revision int   // 0 for the latest
}

// A closedEntry is a closed chart, or that there is none.
type closedEntry struct {
	chart    *topk.ClosedChart // nil for none
	until    time.Time         // past it the entry serves only while ClickHouse is away; zero for ever
	outdated bool              // ClickHouse could not be asked for a later revision
}

// closedChart gives the closed chart, from memory if it was asked for before. A
// revision never changes, and which one is the latest is asked again now and
// then; current is false when it could not be. The error is a topk.ErrNotFound
// when there is no such chart.
func (a *chartAPI) closedChart(ctx context.Context, key closedKey, filter topk.Filter) (chart *topk.ClosedChart, current bool, err error) {
	held, ok := a.closed.GetIfPresent(key)
	if ok && (held.until.IsZero() || a.clock().Before(held.until)) {
		return held.give()
	}
	limit := a.limits.RequestTime
	if held.chart != nil {
		limit = a.limits.InsteadOfStale
	}
	date := time.Unix(key.date, 0).UTC()
	name := fmt.Sprintf("closed chart %s %s %s revision %d", key.filter, key.period, date.Format(time.DateOnly), key.revision)
	asking, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := single(asking, a, name, func(ctx context.Context) (topk.ClosedChart, error) {
		return a.queries.Closed(ctx, filter, key.period, date, key.revision)
	})
	entry := closedEntry{until: a.clock().Add(a.limits.ClosedFor)}
	switch {
	case err == nil:
		entry.chart = &found
		revision := key
		revision.revision = found.Revision
		a.closed.Set(revision, closedEntry{chart: &found})
		if key == revision {
			return &found, true, nil
		}
	case errors.Is(err, topk.ErrNotFound):
	case held.chart != nil && ctx.Err() == nil:
		a.log.DebugContext(ctx, "serving the closed chart last known", requestIDOf(ctx), "error", err)
		entry = closedEntry{chart: held.chart, until: a.clock().Add(retryAfter), outdated: true}
	default:
		return nil, false, fmt.Errorf("%s: %w", name, err)
	}
	a.closed.Set(key, entry)
	return entry.give()
}

func (e closedEntry) give() (chart *topk.ClosedChart, current bool, err error) {
	if e.chart == nil {
		return nil, false, topk.ErrNotFound
	}
	return e.chart, !e.outdated, nil
}

// requestIDOf is the name of the request that is answered under ctx.
func requestIDOf(ctx context.Context) slog.Attr { return slog.String("requestId", topk.RequestID(ctx)) }
