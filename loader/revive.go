package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/migrations"
)

// How long ClickHouse may read nothing although there is something to read: longer
// than a group takes to agree after a broker is back. Each time that a new client
// reads nothing either, twice as long: what waits may be no message (the mark of a
// transaction) or not to be had.
const (
	revivePatience    = 30 * time.Second
	maxRevivePatience = 10 * time.Minute
)

// A Reviver looks after ClickHouse's consumer.
//
// The Kafka client inside ClickHouse can end for good when its broker does: a
// static member that rejoins at the wrong moment is taken for its own double,
// which the client calls fatal. ClickHouse goes on asking the dead client for
// messages, for ever. So a consumer that stands still gets a new client.
type Reviver struct {
	clickhouse string // URL
	admin      *kadm.Client
	clock      topk.Clock
	log        *slog.Logger
	revived    prometheus.Counter

	read     uint64    // messages, when the consumer last moved
	moved    time.Time // zero: not known
	patience time.Duration
}

// NewReviver makes a reviver of the consumer in the database of the URL, and
// registers its metrics.
func NewReviver(clickhouse string, admin *kadm.Client, clock topk.Clock, log *slog.Logger, registry prometheus.Registerer) *Reviver {
	return &Reviver{clickhouse: clickhouse, admin: admin, clock: clock, log: log, patience: revivePatience,
		revived: promauto.With(registry).NewCounter(prometheus.CounterOpts{
			Name: "topk_consumer_revived_total", Help: "Times that ClickHouse's consumer stood still and was given a new Kafka client.",
		})}
}

// Run looks once, and tells whether it gave the consumer a new client. It must not
// run twice at the same time.
func (r *Reviver) Run(ctx context.Context) (revived bool, err error) {
	waiting, read, err := r.look(ctx)
	now := r.clock()
	switch {
	case err != nil: // a server is away: nothing can be said of the consumer
		r.moved = time.Time{}
		return false, err
	case waiting == 0, r.moved.IsZero(), read != r.read:
		if read > 0 && read != r.read {
			r.patience = revivePatience
		}
		r.read, r.moved = read, now
		return false, nil
	case now.Sub(r.moved) < r.patience:
		return false, nil
	}
	r.moved, r.patience = time.Time{}, min(2*r.patience, maxRevivePatience)
	if err := migrations.Revive(ctx, r.clickhouse); err != nil {
		return false, fmt.Errorf("revive the consumer: %w", err)
	}
	r.revived.Inc()
	r.log.WarnContext(ctx, "ClickHouse's consumer stood still and has a new Kafka client", "waiting", waiting)
	return true, nil
}

// look tells how many messages wait in Kafka, by what is committed, and how many
// the consumer has read since it was made.
func (r *Reviver) look(ctx context.Context) (waiting int64, read uint64, err error) {
	consumer, err := migrations.ConsumerOf(ctx, r.clickhouse)
	if errors.Is(err, migrations.ErrDetached) {
		return 1, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	ends, err := r.admin.ListEndOffsets(ctx, consumer.Topic)
	if err != nil {
		return 0, 0, fmt.Errorf("end of topic %s: %w", consumer.Topic, err)
	}
	committed, err := r.admin.FetchOffsetsForTopics(ctx, consumer.Group, consumer.Topic)
	if err != nil {
		return 0, 0, fmt.Errorf("offsets of group %s: %w", consumer.Group, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		at, _ := committed.Lookup(end.Topic, end.Partition)
		waiting += max(0, end.Offset-max(0, at.At))
	})
	return waiting, consumer.Read, errors.Join(ends.Error(), committed.Error())
}
