package refresher

import (
	"context"
	"time"

	"github.com/topk-charts/topk"
)

const (
	// demandEvery is how often Redis is asked which charts are wanted.
	demandEvery = time.Second
	// demandOverlap is by how much the clocks of API nodes may be behind.
	demandOverlap = 15 * time.Second
)

// followDemand tells the keepers which charts are asked for.
func (r *Refresher) followDemand(ctx context.Context, keepers []*keeper) error {
	for {
		pause(ctx, demandEvery)
		if ctx.Err() != nil {
			return nil
		}
		wanted, err := r.Snapshots.Wanted(ctx, r.Clock().Add(-demandOverlap))
		if err != nil && ctx.Err() == nil {
			r.metrics.failures.WithLabelValues("demand").Inc()
			r.Log.DebugContext(ctx, "Redis does not say which charts are asked for", "error", err)
			continue
		}
		byWindow := map[topk.Window][]topk.Filter{}
		for _, key := range wanted {
			byWindow[key.Window] = append(byWindow[key.Window], key.Filter)
		}
		for _, k := range keepers {
			filters := byWindow[k.board.Window()]
			if len(filters) == 0 {
				continue
			}
			select {
			case <-ctx.Done():
				return nil
			case k.asked <- filters:
			}
		}
	}
}
