// Package events finds out what has become of one event: whether Kafka has it,
// ClickHouse has read it, and it counts.
package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/semaphore"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

// Config is what a Finder is made of.
type Config struct {
	Queries *queries.DB
	Brokers []string
	Topic   string
	Group   string       // of ClickHouse's consumer in the first epoch, as in migrations.Wiring
	Limits  Limits       // zero fields take their default
	Log     *slog.Logger // nil for none
	Options []kgo.Opt    // TLS, SASL, …
}

// Limits bound what one Find takes.
type Limits struct {
	ClickHouse time.Duration // for its statements. Default 3 s
	Day        time.Duration // for them, when a day is searched. Default 20 s
	Kafka      time.Duration // to say what is unread. Default 2 s
	Search     time.Duration // through the unread messages. Default 3 s
	Messages   int           // of them. Default 1,000,000
	Bytes      int           // of them. Default 256 MiB
	Searches   int           // at once in this process. Default 2
	Listed     int           // messages of one kind in an answer. Default 100
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.ClickHouse, 3*time.Second)
	orDefault(&l.Day, 20*time.Second)
	orDefault(&l.Kafka, 2*time.Second)
	orDefault(&l.Search, 3*time.Second)
	orDefault(&l.Messages, 1_000_000)
	orDefault(&l.Bytes, 256<<20)
	orDefault(&l.Searches, 2)
	orDefault(&l.Listed, 100)
	return l
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// A Finder finds events. It is safe for concurrent use.
type Finder struct {
	db        *queries.DB
	brokers   []string
	topic     string
	group     string
	limits    Limits
	options   []kgo.Opt
	client    *kgo.Client
	admin     *kadm.Client
	searching *semaphore.Weighted
	reading   atomic.Pointer[queries.Epoch] // what ClickHouse last said to read
	log       *slog.Logger
}

// New makes a Finder. It does not wait for Kafka or ClickHouse to be there.
func New(cfg Config) (*Finder, error) {
	if cfg.Queries == nil || len(cfg.Brokers) == 0 || cfg.Topic == "" || cfg.Group == "" {
		return nil, errors.New("events: queries, Kafka brokers, a topic and a group are required")
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cfg.Brokers...), kgo.ClientID("topk-events")}, cfg.Options...)...)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	limits := cfg.Limits.withDefaults()
	return &Finder{
		db: cfg.Queries, brokers: cfg.Brokers, topic: cfg.Topic, group: cfg.Group, limits: limits, options: cfg.Options,
		client: client, admin: kadm.NewClient(client), searching: semaphore.NewWeighted(int64(limits.Searches)),
		log: cfg.Log,
	}, nil
}

// Close releases the connections to Kafka.
func (f *Finder) Close() { f.client.Close() }

// Find tells all that is known of an event: of the last 48 hours of plays, of
// the last 14 days of repeats and rejects, and of what ClickHouse has not read
// yet; with day (in UTC) also of the plays that came in then. What cannot be
// looked at is no error but one of the trace's Gaps.
func (f *Finder) Find(ctx context.Context, eventID string, day *time.Time) (topk.EventTrace, error) {
	for {
		before, err := f.askEpochs(ctx)
		if err != nil && !errors.Is(err, topk.ErrUnavailable) {
			return topk.EventTrace{}, err
		}
		trace, err := f.find(ctx, eventID, day, before)
		if err != nil || before == nil {
			return trace, err
		}
		// Offsets are of one topic. When another took its place meanwhile, the
		// offsets of the one may have been looked up in the other.
		if after, err := f.askEpochs(ctx); err != nil || slices.Equal(before, after) {
			return trace, nil
		}
	}
}

// askEpochs asks ClickHouse for the topics that it read; there is at least one.
func (f *Finder) askEpochs(ctx context.Context) ([]queries.Epoch, error) {
	ctx, cancel := context.WithTimeout(ctx, f.limits.ClickHouse)
	defer cancel()
	epochs, err := f.db.Epochs(ctx)
	switch {
	case err != nil:
		return nil, err
	case len(epochs) == 0:
		return nil, fmt.Errorf("%w: ClickHouse does not read from Kafka yet: run topk migrate", topk.ErrUnavailable)
	}
	f.reading.Store(&epochs[len(epochs)-1])
	return epochs, nil
}

// find looks in ClickHouse, unless it is known not to answer (no epochs), and
// then in what it has not read.
//
// The order matters. ClickHouse commits an offset when its tables have the
// message: so what is below the offsets that are asked for first is in the
// tables that are asked next, and all else is searched for last.
func (f *Finder) find(ctx context.Context, eventID string, day *time.Time, epochs []queries.Epoch) (topk.EventTrace, error) {
	reading := f.reading.Load()
	if len(epochs) > 0 {
		reading = &epochs[len(epochs)-1]
	}
	u, kafkaErr := f.unreadOf(ctx, reading)
	t := topk.EventTrace{EventID: eventID}
	var stored *inClickHouse
	if len(epochs) > 0 {
		var err error
		if stored, err = f.ask(ctx, eventID, day, nil); err != nil && !errors.Is(err, topk.ErrUnavailable) {
			return t, err
		}
	}
	var searchErr error
	if kafkaErr == nil && (stored == nil || len(stored.plays) == 0) {
		if t.Unread, searchErr = f.search(ctx, eventID, u); len(t.Unread) > 0 && stored != nil {
			// Read meanwhile, perhaps, or in the log since before a kill that left
			// their offsets uncommitted.
			var err error
			if stored, err = f.ask(ctx, eventID, day, t.Unread); err != nil && !errors.Is(err, topk.ErrUnavailable) {
				return t, err
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return t, err
	}
	switch {
	case stored != nil && len(stored.plays) > 0: // so nothing needed to be searched, or it is found
	case errors.Is(searchErr, errBound):
		t.Gaps = append(t.Gaps, "ClickHouse has more messages to read than could be searched: it lags behind")
	case kafkaErr != nil, searchErr != nil:
		f.log.WarnContext(ctx, "unread messages cannot be searched", "error", errors.Join(kafkaErr, searchErr))
		t.Gaps = append(t.Gaps, "Kafka does not answer, so what ClickHouse has not read yet could not be searched")
	}
	if stored == nil {
		t.Gaps = append(t.Gaps, "ClickHouse does not answer, so it cannot be said whether the event was counted or rejected before")
	} else {
		f.tell(&t, stored, epochs)
	}
	judge(&t)
	return t, nil
}

// inClickHouse is what ClickHouse has of an event.
type inClickHouse struct {
	owner      *topk.Position
	plays      []topk.StoredPlay
	repeats    []topk.Repeat
	rejections []topk.Rejected
}

// ask looks up the event, and whether the log has it at the unread positions.
func (f *Finder) ask(ctx context.Context, eventID string, day *time.Time, unread []topk.Arrival) (*inClickHouse, error) {
	limit := f.limits.ClickHouse
	if day != nil {
		limit = f.limits.Day
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var c inClickHouse
	var err error
	if c.owner, err = f.db.EventOwner(ctx, eventID); err != nil {
		return nil, err
	}
	if c.repeats, err = f.db.Repeats(ctx, eventID, f.limits.Listed+1); err != nil {
		return nil, err
	}
	if c.rejections, err = f.db.Rejections(ctx, eventID, f.limits.Listed+1); err != nil {
		return nil, err
	}
	// The log last, as it is right about repeats.
	var positions []topk.Position
	if c.owner != nil {
		positions = append(positions, *c.owner)
	}
	for _, r := range c.repeats {
		positions = append(positions, r.Position, r.Owner)
	}
	for _, a := range unread {
		positions = append(positions, a.Position)
	}
	if c.plays, err = f.db.PlaysAt(ctx, eventID, positions); err != nil {
		return nil, err
	}
	if day != nil {
		onDay, err := f.db.PlaysOn(ctx, eventID, *day)
		if err != nil {
			return nil, err
		}
		c.plays = append(c.plays, onDay...)
	}
	return &c, nil
}

// tell takes over what ClickHouse has.
func (f *Finder) tell(t *topk.EventTrace, c *inClickHouse, epochs []queries.Epoch) {
	topics := make(map[uint16]string, len(epochs))
	for _, e := range epochs {
		topics[e.Number] = e.Topic
	}
	name := func(p topk.Position) topk.Position {
		p.Topic = topics[p.Epoch()]
		return p
	}
	type place struct {
		source uint32
		offset uint64
	}
	known := map[place]bool{}
	// isNew reports whether the position is met for the first time.
	isNew := func(p topk.Position) bool {
		at := place{p.Source, p.Offset}
		defer func() { known[at] = true }()
		return !known[at]
	}

	slices.SortStableFunc(c.plays, func(a, b topk.StoredPlay) int { return a.At.Compare(b.At) })
	for _, p := range c.plays {
		if !isNew(p.Position) { // also of its day
			continue
		}
		p.Position = name(p.Position)
		if t.Play == nil {
			t.Play = &p
		} else {
			t.CountedAgain = append(t.CountedAgain, p.Arrival)
		}
	}
	if c.owner != nil && !known[place{c.owner.Source, c.owner.Offset}] {
		orphan := name(*c.owner)
		t.Orphan = &orphan
	}
	for _, r := range c.repeats[:min(len(c.repeats), f.limits.Listed)] {
		if isNew(r.Position) {
			t.Repeats = append(t.Repeats, topk.Arrival{Position: name(r.Position), At: r.At})
		}
	}
	for _, r := range c.rejections[:min(len(c.rejections), f.limits.Listed)] {
		isNew(r.Position)
		t.Rejections = append(t.Rejections, r)
	}
	t.Unread = slices.DeleteFunc(t.Unread, func(a topk.Arrival) bool { return !isNew(a.Position) })
	if len(c.repeats) > f.limits.Listed {
		t.Gaps = append(t.Gaps, fmt.Sprintf("there are more repeats than the first %d", f.limits.Listed))
	}
	if len(c.rejections) > f.limits.Listed {
		t.Gaps = append(t.Gaps, fmt.Sprintf("there are more rejections than the last %d", f.limits.Listed))
	}
	if len(t.Unread) > f.limits.Listed {
		t.Unread = t.Unread[:f.limits.Listed]
		t.Gaps = append(t.Gaps, fmt.Sprintf("there are more unread messages of it than the first %d", f.limits.Listed))
	}
}

// judge says what the parts of a trace amount to.
func judge(t *topk.EventTrace) {
	switch {
	case t.Play != nil && t.Play.Counted:
		t.State, t.Where = topk.EventCounted, t.Play.Arrival
	case t.Play != nil:
		t.State, t.Where = topk.EventStored, t.Play.Arrival
	case len(t.Unread) > 0:
		t.State, t.Where = topk.EventAccepted, t.Unread[0]
	case len(t.Rejections) > 0:
		t.State, t.Where = topk.EventRejected, t.Rejections[0].Arrival
	}
}
