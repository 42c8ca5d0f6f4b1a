package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/singleflight"

	"github.com/topk-charts/topk"
)

// A memory gives an answer of ClickHouse again for a while. What is asked by
// several at the same time is asked once, and the last answer serves, and says
// that it is stale, while there is no newer one to be had.
type memory[V any] struct {
	gate     *gate
	clock    topk.Clock
	fresh    time.Duration // how long an answer is given without asking again
	patience time.Duration // how long one waits for a new answer when there is an old one

	answers *otter.Cache[string, remembered[V]]
	asking  singleflight.Group

	fromMemory, fromClickHouse, fromLastKnown, fromNowhere prometheus.Counter
}

type remembered[V any] struct {
	value V
	until time.Time // past it the value is stale
}

// memoryBytes bounds each memory, rememberedOverhead is about what an answer
// takes in it beside what weigh says.
const (
	memoryBytes        = 32 << 20
	rememberedOverhead = 256
)

// newMemorySources counts where the answers of all memories come from.
func newMemorySources(registry prometheus.Registerer) *prometheus.CounterVec {
	return promauto.With(registry).NewCounterVec(prometheus.CounterOpts{
		Name: "topk_api_answer_source_total",
		Help: "Answers of a call that are remembered for a while, by where they came from: memory, clickhouse, last-known, or none when there was none.",
	}, []string{"call", "source"})
}

// newMemory remembers answers of a call for the time that they are fresh, and as
// the last known ones for as long as there is room; weigh says how many bytes
// one takes.
func newMemory[V any](call string, sources *prometheus.CounterVec, gate *gate, cfg Config, fresh time.Duration, weigh func(V) int) (*memory[V], error) {
	answers, err := otter.New(&otter.Options[string, remembered[V]]{
		MaximumWeight: memoryBytes,
		Weigher: func(key string, r remembered[V]) uint32 {
			return uint32(len(key) + weigh(r.value) + rememberedOverhead)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("memory of %s: %w", call, err)
	}
	return &memory[V]{
		gate: gate, clock: cfg.Clock, fresh: fresh, patience: cfg.Limits.InsteadOfStale, answers: answers,
		fromMemory:     sources.WithLabelValues(call, "memory"),
		fromClickHouse: sources.WithLabelValues(call, fromClickHouse),
		fromLastKnown:  sources.WithLabelValues(call, fromLastKnown),
		fromNowhere:    sources.WithLabelValues(call, "none"),
	}, nil
}

// get gives what is remembered of the key while it is fresh, or else asks.
func (m *memory[V]) get(ctx context.Context, key string, ask func(context.Context) (V, error)) (value V, stale bool, err error) {
	last, known := m.answers.GetIfPresent(key)
	if known && m.clock().Before(last.until) {
		m.fromMemory.Inc()
		return last.value, false, nil
	}
	waiting := ctx
	if known {
		patient, cancel := context.WithTimeout(ctx, m.patience)
		defer cancel()
		waiting = patient
	}
	value, err = m.ask(waiting, key, ask)
	switch {
	case err == nil:
		m.fromClickHouse.Inc()
		return value, false, nil
	case known && ctx.Err() == nil && (errors.Is(err, topk.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)):
		m.fromLastKnown.Inc()
		return last.value, true, nil
	}
	m.fromNowhere.Inc()
	return value, false, err
}

func (m *memory[V]) ask(ctx context.Context, key string, ask func(context.Context) (V, error)) (V, error) {
	return shared(ctx, &m.asking, key, func(ctx context.Context) (value V, err error) {
		err = m.gate.pass(ctx, func(ctx context.Context) error {
			value, err = ask(ctx)
			return err
		})
		if err == nil {
			m.answers.Set(key, remembered[V]{value, m.clock().Add(m.fresh)})
		}
		return value, err
	})
}
