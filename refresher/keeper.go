package refresher

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/board"
	"github.com/topk-charts/topk/snapshot"
)

// A keeper moves one board along the log and publishes its charts. Everything
// that touches the board runs in its goroutine.
type keeper struct {
	*Refresher
	board  *board.Board
	values *board.Values
	budget *budget
	began  time.Time // of the cold start

	batches chan board.Batch
	counted chan counted
	asked   chan []topk.Filter
	look    chan func(*board.Board)

	live    bool
	audited time.Time // when a chart was last proved
	tidied  time.Time // when idle charts were last dropped
	redisAt time.Time // when Redis is tried again
}

// Bounds of what waits for a keeper.
const (
	maxBatches = 8
	maxCounted = 8
)

func newKeeper(r *Refresher, b *board.Board, values *board.Values, budget *budget, began time.Time) *keeper {
	return &keeper{
		Refresher: r, board: b, values: values, budget: budget, began: began,
		batches: make(chan board.Batch, maxBatches), counted: make(chan counted, maxCounted),
		asked: make(chan []topk.Filter), look: make(chan func(*board.Board)),
		audited: b.AsOf(),
	}
}

// run keeps the board until ctx ends. Counts run in the group.
func (k *keeper) run(ctx context.Context, group *errgroup.Group) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case batch := <-k.batches:
			if err := k.advance(ctx, batch); err != nil {
				return err
			}
			k.startCounts(ctx, group)
			if len(k.batches) == 0 { // else the next one is newer
				k.publish(ctx)
			}
		case c := <-k.counted:
			c.tell(k.board)
		case filters := <-k.asked:
			for _, f := range filters {
				if dropped := k.board.Ask(f, k.board.AsOf()); dropped != nil {
					k.remove(ctx, []*board.Chart{dropped})
				}
			}
		case look := <-k.look:
			look(k.board)
		}
	}
}

const (
	// expireAtOnce is how much event time leaves a window in one step, which
	// bounds the plays in memory after an outage.
	expireAtOnce = 5 * time.Minute
	// maxExpire is how much may leave until it is cheaper to count anew.
	maxExpire = time.Hour
)

// errFarBehind: the board stood still for so long that it is quicker to start
// anew.
var errFarBehind = errors.New("the charts are far behind")

// advance moves the board over one piece of the log. While ClickHouse does not
// answer it waits: without the plays that leave, nothing that came would count
// right.
func (k *keeper) advance(ctx context.Context, batch board.Batch) error {
	start := k.Clock()
	for {
		span, ok := k.board.Leaving(batch.AsOf)
		if !ok {
			break
		}
		if span.End.Sub(span.Start) > maxExpire {
			return errFarBehind
		}
		if end := span.Start.Add(expireAtOnce); end.Before(span.End) {
			span.End = end
		}
		plays, err := k.leaving(ctx, span, k.board.Next(), k.values)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, topk.ErrUnavailable):
			k.metrics.failures.WithLabelValues("expire").Inc()
			k.Log.WarnContext(ctx, "the plays that leave a window cannot be read; trying again", "window", k.window(), "error", err)
			pause(ctx, retryAfter)
			continue
		case err != nil:
			return err
		}
		k.board.Expire(span, plays)
		k.metrics.expired.WithLabelValues(k.window()).Add(float64(len(plays)))
	}
	k.board.Advance(batch)
	k.metrics.advance.WithLabelValues(k.window()).Observe(k.Clock().Sub(start).Seconds())
	if !k.live && !k.board.Loading() {
		k.live = true
		took := k.Clock().Sub(k.began)
		k.metrics.coldStart.WithLabelValues(k.window()).Set(took.Seconds())
		k.Log.InfoContext(ctx, "charts are being kept", "window", k.window(), "after", took)
	}
	audits, wrong := k.board.Audited()
	k.metrics.audits.Add(float64(audits))
	for _, f := range wrong {
		k.metrics.wrong.Inc()
		k.Log.ErrorContext(ctx, "a chart was not what a count of it gives; it is now", "chart", f.String(), "window", k.window())
	}
	return nil
}

func (k *keeper) window() string { return k.board.Window().String() }

// publish sends what is due to Redis.
func (k *keeper) publish(ctx context.Context) {
	if k.Clock().Before(k.redisAt) {
		return
	}
	if asOf := k.board.AsOf(); asOf.Sub(k.tidied) > k.IdleAfter/10 {
		k.tidied = asOf
		k.remove(ctx, k.board.Idle(asOf))
		k.metrics.measure(k.board)
	}
	due := k.board.Due()
	if len(due) == 0 {
		return
	}
	changes := make([]snapshot.Change, len(due))
	watermark := snapshot.EncodeWatermark(k.board.Next())
	for i := range due {
		changes[i] = k.change(&due[i], watermark)
	}
	outcomes := k.Snapshots.Publish(ctx, changes)
	now := k.Clock()
	var failed error
	for i := range due {
		p := &due[i]
		switch err := outcomes[i].Err; {
		case err == nil:
			k.metrics.published(p, k.window(), now)
			k.board.Published(p)
		case errors.Is(err, snapshot.ErrBehind):
			k.board.Refused(p)
		case errors.Is(err, snapshot.ErrStale): // another refresher was faster
			k.board.Overtaken(p)
		default:
			failed = err
			k.metrics.failures.WithLabelValues("publish").Inc()
		}
	}
	if failed != nil && ctx.Err() == nil {
		k.redisAt = now.Add(retryAfter)
		k.Log.WarnContext(ctx, "charts were not published; trying again", "window", k.window(), "error", failed)
	}
}

// change is a publication as Redis takes it.
func (k *keeper) change(p *board.Publication, watermark *snapshot.Watermark) snapshot.Change {
	c := snapshot.Change{
		Filter: p.Chart.Filter, Window: k.board.Window(), AsOf: p.AsOf, Span: k.board.Span(), TotalPlays: p.Total,
		Watermark: watermark, Size: p.Size, Base: p.Base,
	}
	for _, song := range p.Removed {
		c.Removed = append(c.Removed, k.songs.ID(song))
	}
	for _, e := range p.Set {
		c.Set = append(c.Set, topk.Entry{SongID: k.songs.ID(e.Song), Plays: e.Plays})
	}
	if !p.RanksAt.IsZero() {
		c.Previous = &snapshot.Previous{AsOf: p.RanksAt}
		for _, song := range p.Ranks {
			c.Previous.SongIDs = append(c.Previous.SongIDs, k.songs.ID(song))
		}
	}
	return c
}

// remove takes charts that are not kept any more out of Redis, where they would
// only grow old.
func (k *keeper) remove(ctx context.Context, charts []*board.Chart) {
	var keys []snapshot.Key
	for _, c := range charts {
		keys = append(keys, snapshot.Key{Filter: c.Filter, Window: k.board.Window()})
	}
	if len(keys) == 0 {
		return
	}
	if err := k.Snapshots.Remove(ctx, keys); err != nil && ctx.Err() == nil {
		k.metrics.failures.WithLabelValues("remove").Inc()
		k.Log.WarnContext(ctx, "charts that are not kept any more stay in Redis until they expire", "charts", len(keys), "error", err)
	}
}
