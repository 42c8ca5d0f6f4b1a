package api

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/topk-charts/topk"
)

// A gate bounds what this process asks of ClickHouse at once, so that a rush of
// requests that Redis cannot answer slows down those requests and not
// ClickHouse.
type gate struct {
	slots   *semaphore.Weighted
	queue   time.Duration // how long a statement may wait for a slot
	limit   time.Duration // and then run
	running prometheus.Gauge
}

func newGate(slots int, queue, limit time.Duration, running prometheus.Gauge) *gate {
	return &gate{slots: semaphore.NewWeighted(int64(slots)), queue: queue, limit: limit, running: running}
}

// pass runs ask when there is a slot for it. The error is a topk.ErrUnavailable
// when there was none in time.
func (g *gate) pass(ctx context.Context, ask func(context.Context) error) error {
	waiting, stop := context.WithTimeout(ctx, g.queue)
	err := g.slots.Acquire(waiting, 1)
	stop()
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("%w: too many statements are running", topk.ErrUnavailable)
	}
	defer g.slots.Release(1)
	g.running.Inc()
	defer g.running.Dec()

	ctx, cancel := context.WithTimeout(ctx, g.limit)
	defer cancel()
	return ask(ctx)
}

// shared asks once for all who want the same at the same time, by the key. It
// outlives the one who happened to ask first; each waits as long as its own ctx.
func shared[T any](ctx context.Context, asking *singleflight.Group, key string, ask func(context.Context) (T, error)) (none T, err error) {
	detached := context.WithoutCancel(ctx)
	answered := asking.DoChan(key, func() (any, error) { return ask(detached) })
	select {
	case <-ctx.Done():
		return none, ctx.Err()
	case answer := <-answered:
		if answer.Err != nil {
			return none, answer.Err
		}
		return answer.Val.(T), nil
	}
}
