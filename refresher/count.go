package refresher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/board"
	"github.com/topk-charts/topk/refresher/topn"
)

// A budget bounds what counts of single charts cost ClickHouse: how many run at
// once, and how much time they take together.
type budget struct {
	slots *semaphore.Weighted
	time  *rate.Limiter // of milliseconds of statements
}

const (
	// countsAtOnce is how many charts are counted side by side.
	countsAtOnce = 2
	// countsSaved is how much time of statements may be saved up for a moment
	// in which many charts are in doubt.
	countsSaved = 20 * time.Second
)

func newBudget(share float64) *budget {
	return &budget{
		slots: semaphore.NewWeighted(countsAtOnce),
		time:  rate.NewLimiter(rate.Limit(share*1000), int(countsSaved.Milliseconds())),
	}
}

// take reports whether one more count may begin; it is ended by spend.
func (b *budget) take(now time.Time) bool {
	return b.time.TokensAt(now) > 0 && b.slots.TryAcquire(1)
}

// spend ends a count that took so long. What is over the budget is owed.
func (b *budget) spend(now time.Time, took time.Duration) {
	b.time.ReserveN(now, int(min(took, countsSaved).Milliseconds()))
	b.slots.Release(1)
}

// startCounts has charts in doubt counted, and now and then proves one, as far
// as the budget goes.
func (k *keeper) startCounts(ctx context.Context, group *errgroup.Group) {
	for k.budget.take(k.Clock()) {
		asOf := k.board.AsOf()
		// The keepers take turns.
		audit := asOf.Sub(k.audited) >= k.AuditEvery*time.Duration(len(topk.Windows()))
		count, ok := k.board.NextCount(audit)
		if !ok {
			k.budget.spend(k.Clock(), 0)
			return
		}
		if count.Audit {
			k.audited = asOf
		}
		group.Go(func() error {
			c := k.count(ctx, k.budget, count)
			select {
			case <-ctx.Done():
			case k.counted <- c:
			}
			return nil
		})
	}
}

// counted is what became of a count.
type counted struct {
	board.Count
	result board.Result
	err    error
}

func (c counted) tell(b *board.Board) {
	switch {
	case c.err == nil:
		b.Counted(c.Count, c.result)
	case errors.Is(c.err, topk.ErrInvalid): // SQL cannot count it, now or later
		b.Forget(c.Count)
	default:
		b.Uncounted(c.Count)
	}
}

// count counts one chart: its first entries, one more than a chart keeps.
func (r *Refresher) count(ctx context.Context, budget *budget, count board.Count) counted {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	start := r.Clock()
	done := counted{Count: count}
	done.result, done.err = r.result(ctx, count)
	now := r.Clock()
	budget.spend(now, now.Sub(start))
	r.metrics.counted(count, now.Sub(start), done.err)
	if done.err != nil {
		r.Log.DebugContext(ctx, "a chart was not counted", "chart", count.Filter.String(), "window", count.Window.String(), "error", done.err)
	}
	return done
}

func (r *Refresher) result(ctx context.Context, count board.Count) (board.Result, error) {
	most := topn.DefaultLimits().Complete
	chart, err := r.DB.Chart(ctx, topk.ChartQuery{Filter: count.Filter, Window: count.Window, K: most + 1, Now: count.AsOf})
	if err != nil {
		return board.Result{}, err
	}
	result := board.Result{Total: chart.TotalPlays, Rest: len(chart.Entries) > most, Below: chart.Watermark}
	for _, e := range chart.Entries {
		song, err := r.songs.Intern(e.SongID)
		if err != nil {
			return board.Result{}, fmt.Errorf("count of %s: %w", count.Filter, err)
		}
		result.Rows = append(result.Rows, topn.Count{Song: song, Plays: e.Plays})
	}
	return result, nil
}
