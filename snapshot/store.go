package snapshot

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/rueidis"
	"golang.org/x/sync/singleflight"

	"github.com/topk-charts/topk"
)

// Options of a Store. Only Clock has no default.
type Options struct {
	Clock topk.Clock
	// CopyFor is how long an answer of Redis is given again without asking, so
	// that a hot chart costs Redis 1/CopyFor reads a second. Default 100 ms;
	// negative asks every time.
	CopyFor time.Duration
	// MaxCopies bounds the charts of which this process keeps the last answer;
	// one takes about 12 KB. Default 4096.
	MaxCopies int
	// ReadTimeout bounds one read. Default 250 ms.
	ReadTimeout time.Duration
	// WriteTimeout bounds one batch of writes. Default 2 s.
	WriteTimeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.CopyFor == 0 {
		o.CopyFor = 100 * time.Millisecond
	}
	if o.MaxCopies == 0 {
		o.MaxCopies = 4096
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = 250 * time.Millisecond
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 2 * time.Second
	}
	return o
}

// awayFor is how long an unanswered read is taken for granted: meanwhile a
// chart fails at once instead of after ReadTimeout.
const awayFor = time.Second

//go:embed read.lua
var readSource string

var readScript = rueidis.NewLuaScriptReadOnly(readSource)

// readArgs are those of the read script, for a reader that knows the previous
// songs of a version, or none.
func readArgs(previousVersion string) []string {
	return append([]string{strconv.Itoa(topk.SnapshotSize), previousVersion}, metaFields...)
}

// A Store reads snapshots and says which ones are wanted. It is safe for
// concurrent use.
type Store struct {
	opts    Options
	redis   rueidis.ClientOption
	copies  *otter.Cache[string, *answer] // by TopKey
	reading singleflight.Group            // by TopKey
	demand  *demand

	connecting singleflight.Group
	mu         sync.RWMutex
	client     rueidis.Client // nil until Redis answered once
	closed     bool
}

// An answer is what Redis said of one chart, and when.
type answer struct {
	at      time.Time
	err     error       // nil when Redis had the chart
	last    *Snapshot   // the chart as Redis last had it; nil when it never did
	retried atomic.Bool // one reader has gone to ask again, after awayFor
}

// Open prepares to read from the Redis at url, such as
// redis://user:password@host:6379/3 or rediss:// for TLS; more nodes of a
// cluster are added by ?addr=host:port.
//
// A Redis that is away is no error, since an API node serves without it: it is
// connected to as soon as it answers. Ping tells.
func Open(ctx context.Context, url string, opts Options) (*Store, error) {
	if opts.Clock == nil {
		return nil, errors.New("snapshot: a clock is needed")
	}
	redis, err := rueidis.ParseURL(url)
	if err != nil {
		// Not err itself: net/url quotes the whole URL, password included.
		return nil, fmt.Errorf("snapshot: the Redis URL must look like redis://host:6379/0: %w", topk.ErrInvalid)
	}
	opts = opts.withDefaults()
	redis.DisableCache = true // answers are copied here, and tracking costs Redis memory
	redis.RetryDelay = retryOnce
	if redis.Dialer.Timeout == 0 {
		redis.Dialer.Timeout = opts.WriteTimeout
	}
	copies, err := otter.New(&otter.Options[string, *answer]{MaximumSize: opts.MaxCopies})
	if err != nil {
		return nil, fmt.Errorf("snapshot: copies: %w", err)
	}
	demand, err := newDemand()
	if err != nil {
		return nil, fmt.Errorf("snapshot: demand: %w", err)
	}
	s := &Store{opts: opts, redis: redis, copies: copies, demand: demand}
	if _, err := s.connect(ctx); ctx.Err() != nil {
		return nil, fmt.Errorf("snapshot: connect: %w", err)
	}
	telling, stop := context.WithCancel(context.WithoutCancel(ctx))
	demand.stop = stop
	go s.tellDemand(telling)
	return s, nil
}

// retryOnce repeats a read at once when its connection turned out to be dead,
// as after a restart of Redis. A second failure means that Redis is away: then
// the caller has better things to do than to wait.
func retryOnce(attempts int, _ rueidis.Completed, _ error) time.Duration {
	if attempts == 1 {
		return 0
	}
	return -1
}

// Close drops the connections, and what was still to be said of demand.
func (s *Store) Close() {
	s.demand.stop()
	s.mu.Lock()
	s.closed = true
	client := s.client
	s.mu.Unlock()
	if client != nil {
		client.Close()
	}
	<-s.demand.told
}

// Ping reports whether Redis answers.
func (s *Store) Ping(ctx context.Context) error {
	client, err := s.connect(ctx)
	if err != nil {
		return err
	}
	if err := client.Do(ctx, client.B().Ping().Build()).Error(); err != nil {
		return unavailable(err)
	}
	return nil
}

// Get gives the chart as Redis has it, or had it at most CopyFor ago. The error
// is a topk.ErrNotFound when Redis does not have it and a topk.ErrUnavailable
// when Redis does not answer in time.
func (s *Store) Get(ctx context.Context, f topk.Filter, w topk.Window) (Snapshot, error) {
	key := TopKey(f, w)
	held, ok := s.copies.GetIfPresent(key)
	if ok && s.stands(held) {
		return held.give()
	}
	// The read is shared, so it must outlive the caller that happened to start it.
	detached := context.WithoutCancel(ctx)
	reading := s.reading.DoChan(key, func() (any, error) {
		return s.ask(detached, key, f, w), nil
	})
	select {
	case <-ctx.Done():
		return Snapshot{}, ctx.Err()
	case result := <-reading:
		return result.Val.(*answer).give()
	}
}

// Last gives the chart as Redis last had it, however long ago, if this process
// still remembers. It asks nobody.
func (s *Store) Last(f topk.Filter, w topk.Window) (Snapshot, bool) {
	held, ok := s.copies.GetIfPresent(TopKey(f, w))
	if !ok || held.last == nil {
		return Snapshot{}, false
	}
	return *held.last, true
}

func (a *answer) give() (Snapshot, error) {
	if a.err != nil {
		return Snapshot{}, a.err
	}
	return *a.last, nil
}

// stands reports whether the answer may be given once more. While Redis is away
// one reader per awayFor tries it and waits; the others fail at once.
func (s *Store) stands(a *answer) bool {
	age := s.opts.Clock().Sub(a.at)
	if !errors.Is(a.err, topk.ErrUnavailable) {
		return age < s.opts.CopyFor
	}
	return age < awayFor || !a.retried.CompareAndSwap(false, true)
}

// ask reads the chart from Redis and keeps the answer.
func (s *Store) ask(ctx context.Context, key string, f topk.Filter, w topk.Window) *answer {
	ctx, cancel := context.WithTimeout(ctx, s.opts.ReadTimeout)
	defer cancel()
	a := &answer{at: s.opts.Clock()}
	if held, ok := s.copies.GetIfPresent(key); ok {
		a.last = held.last
	}
	snap, err := s.read(ctx, f, w, a.last)
	if err == nil {
		a.last = &snap
	} else {
		a.err = fmt.Errorf("snapshot %s: %w", key, err)
	}
	s.copies.Set(key, a)
	return a
}

// read reads the chart; known is what it was before, or nil.
func (s *Store) read(ctx context.Context, f topk.Filter, w topk.Window, known *Snapshot) (Snapshot, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return Snapshot{}, err
	}
	previousVersion := ""
	if known != nil {
		previousVersion = known.previousVersion
	}
	reply, err := readScript.Exec(ctx, client, []string{TopKey(f, w), MetaKey(f, w)}, readArgs(previousVersion)).ToArray()
	if err != nil {
		return Snapshot{}, unavailable(err)
	}
	return decode(f, w, reply, known)
}

// connect gives the client, after the first connection if there was none yet.
func (s *Store) connect(ctx context.Context) (rueidis.Client, error) {
	s.mu.RLock()
	client, closed := s.client, s.closed
	s.mu.RUnlock()
	if closed {
		return nil, unavailable(rueidis.ErrClosing)
	}
	if client != nil {
		return client, nil
	}
	select {
	case <-ctx.Done():
		return nil, unavailable(ctx.Err())
	case result := <-s.connecting.DoChan("", func() (any, error) { return s.dial() }):
		if result.Err != nil {
			return nil, unavailable(result.Err)
		}
		return result.Val.(rueidis.Client), nil
	}
}

func (s *Store) dial() (rueidis.Client, error) {
	client, err := rueidis.NewClient(s.redis)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		client.Close()
		return nil, rueidis.ErrClosing
	case s.client != nil: // another dial was faster
		client.Close()
	default:
		s.client = client
	}
	return s.client, nil
}

// unavailable is a topk.ErrUnavailable that keeps what Redis or the network
// said.
func unavailable(err error) error {
	return fmt.Errorf("redis: %w: %w", topk.ErrUnavailable, err)
}
