package snapshot

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/topk-charts/topk"
)

const (
	wantedKey = "wanted"
	// maxWanted is how many charts Redis remembers as wanted, the latest ones.
	maxWanted = 10_000
	// wantedFor is how long it remembers any when nobody wants one more.
	wantedFor = time.Hour
	// wantEvery is how often a process says of one chart that it is wanted.
	wantEvery = 10 * time.Second
	// maxWantedBytes is the longest filter and window that is remembered, which
	// bounds the memory here and in Redis. Longer filters are answered by SQL.
	maxWantedBytes = 512
	// wantBatch is how many charts go to Redis at once, and wantQueue how many
	// wait for that.
	wantBatch = 256
	wantQueue = 1024
)

// demand is what was asked for and Redis is yet to be told.
type demand struct {
	said    *otter.Cache[string, time.Time] // by keySuffix; when it was last put into the queue
	queue   chan wish
	dropped atomic.Uint64

	stop context.CancelFunc // of tellDemand
	told chan struct{}      // closed once it has ended
}

// A wish is for a chart, at an instant.
type wish struct {
	key string // keySuffix
	at  time.Time
}

func newDemand() (*demand, error) {
	said, err := otter.New(&otter.Options[string, time.Time]{MaximumSize: maxWanted})
	if err != nil {
		return nil, err
	}
	return &demand{said: said, queue: make(chan wish, wantQueue), told: make(chan struct{})}, nil
}

// Want says that somebody asks for a chart that is kept on demand. It neither
// waits nor fails: Redis is told in the background, of one chart once in 10
// seconds, and not at all while it is away; WantsDropped counts those. Fixed
// windows are not kept and not wanted.
func (s *Store) Want(f topk.Filter, w topk.Window) {
	if w.Fixed() {
		return
	}
	key, now := keySuffix(f, w), s.opts.Clock()
	if at, said := s.demand.said.GetIfPresent(key); said && now.Sub(at) < wantEvery {
		return
	}
	if len(key) > maxWantedBytes {
		s.demand.dropped.Add(1)
		return
	}
	s.demand.said.Set(key, now)
	select {
	case s.demand.queue <- wish{key, now}:
	default:
		s.demand.dropped.Add(1)
	}
}

// WantsDropped is how many times Redis was not told that a chart is wanted: it
// was away, or more was wanted than it could be told.
func (s *Store) WantsDropped() uint64 { return s.demand.dropped.Load() }

// tellDemand tells Redis what is wanted, until ctx ends. What comes in while Redis
// is being told makes the next batch.
func (s *Store) tellDemand(ctx context.Context) {
	defer close(s.demand.told)
	batch := make([]wish, 0, wantBatch)
	for {
		select {
		case <-ctx.Done():
			return
		case first := <-s.demand.queue:
			batch = append(batch[:0], first)
		}
		for more := true; more && len(batch) < wantBatch; {
			select {
			case next := <-s.demand.queue:
				batch = append(batch, next)
			default:
				more = false
			}
		}
		if err := s.tell(ctx, batch); err != nil {
			s.demand.dropped.Add(uint64(len(batch)))
		}
	}
}

// tell adds the wishes to those in Redis.
func (s *Store) tell(ctx context.Context, wishes []wish) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.WriteTimeout)
	defer cancel()
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	// GT: of two processes, the one that comes last need not be the later one.
	add := client.B().Zadd().Key(wantedKey).Gt().ScoreMember()
	for _, w := range wishes {
		add = add.ScoreMember(float64(w.at.UnixMilli()), w.key)
	}
	var failed []error
	for _, result := range client.DoMulti(ctx,
		add.Build(),
		client.B().Zremrangebyrank().Key(wantedKey).Start(0).Stop(-maxWanted-1).Build(),
		client.B().Pexpire().Key(wantedKey).Milliseconds(wantedFor.Milliseconds()).Build(),
	) {
		failed = append(failed, result.Error())
	}
	return errors.Join(failed...)
}

// Wanted gives the charts that were asked for since then, the latest first, at
// most 10,000. What is not a chart is dropped, here and in Redis.
func (p *Publisher) Wanted(ctx context.Context, since time.Time) ([]Key, error) {
	ctx, cancel := context.WithTimeout(ctx, p.store.opts.WriteTimeout)
	defer cancel()
	client, err := p.store.connect(ctx)
	if err != nil {
		return nil, err
	}
	members, err := client.Do(ctx, client.B().Zrange().Key(wantedKey).
		Min("+inf").Max(strconv.FormatInt(since.UnixMilli(), 10)).Byscore().Rev().Limit(0, maxWanted).Build()).AsStrSlice()
	if err != nil {
		return nil, unavailable(err)
	}
	keys := make([]Key, 0, len(members))
	var malformed []string
	for _, member := range members {
		if key, err := parseKey(member); err == nil {
			keys = append(keys, key)
		} else {
			malformed = append(malformed, member)
		}
	}
	if len(malformed) > 0 {
		// If this fails, the next one to ask removes them.
		_ = client.Do(ctx, client.B().Zrem().Key(wantedKey).Member(malformed...).Build()).Error()
	}
	return keys, nil
}
