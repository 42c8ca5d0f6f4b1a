package snapshot

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/topk-charts/topk"
)

// ErrStale says that Redis already holds the chart in a version at least as new
// as the one that was to be published. Nothing was written.
//
// It is also what the second of two equal publications gets, such as one that
// is repeated because the answer to the first was lost.
var ErrStale = errors.New("a version as new is already published")

// ErrBehind says that Redis does not hold the base of a difference as this
// publisher wrote it: it was flushed, failed over to a replica that lagged, lost
// one of the chart's keys, or another publisher wrote the chart. Nothing was
// written: send the whole chart.
var ErrBehind = errors.New("the base of the difference is not what Redis holds")

// maxPlays is the first count that a ZSET cannot hold exactly: its scores are
// doubles.
const maxPlays = 1 << 53

// ttlParts is how many times within its TTL a chart's expiry is put off, at
// most, by differences. Doing it with each of them would be a third of their
// cost.
const ttlParts = 12

// PublisherOptions of a Publisher; every one has a default.
type PublisherOptions struct {
	// TTL is how long a chart stays without being published again, less at most
	// a twelfth: how long an outage of ClickHouse may last until there is nothing
	// to serve. Its AsOf tells readers how old it is. Default 6 hours.
	TTL time.Duration
	// Batch is how many charts go to Redis in one pipeline. Default 128, which
	// is at most 2 MB.
	Batch int
}

func (o PublisherOptions) withDefaults() PublisherOptions {
	if o.TTL == 0 {
		o.TTL = 6 * time.Hour
	}
	if o.Batch == 0 {
		o.Batch = 128
	}
	return o
}

// A Publisher writes snapshots. It is safe for concurrent use, and several may
// write the same charts: the newest version wins. It remembers nothing about
// the charts.
//
// The version of a chart is its AsOf in milliseconds. Redis takes only a
// version greater than the one it holds, in the same step as it is written, so
// a writer that lost its lease, or a write that was delayed on its way, cannot
// turn a chart back. AsOf serves because it is what makes a chart newer for its
// readers, every writer can order it without asking anyone (watermarks are
// vectors, and two of them need not be ordered), and it survives restarts of
// the writer and flushes of Redis, which a counter kept in either would not.
// The price is that clocks of writers must not disagree by more than the charts
// may stand still when one takes over from another.
//
// Counts are absolute, and a change may hold only the members that differ from
// an earlier version, its base. Redis applies it only onto that version, and
// only when this publisher wrote it: two publishers may write different charts
// of one version.
type Publisher struct {
	store *Store
	opts  PublisherOptions
	id    string
}

//go:embed write.lua
var writeSource string

//go:embed remove.lua
var removeSource string

var (
	writeScript  = newScript(writeSource)
	removeScript = newScript(removeSource)
)

// A script is known to Redis by its hash, once it has seen its text. (The client
// has its own way of running one script many times, but that first loads it into
// every node each time, and fails when one replica of a cluster is away.)
type script struct{ source, hash string }

func newScript(source string) script {
	return script{source, fmt.Sprintf("%x", sha1.Sum([]byte(source)))}
}

// NewPublisher makes a publisher that writes through the store's connections.
func (s *Store) NewPublisher(opts PublisherOptions) *Publisher {
	return &Publisher{store: s, opts: opts.withDefaults(), id: rand.Text()}
}

// A Change is one publication of a chart.
type Change struct {
	Filter     topk.Filter
	Window     topk.Window
	AsOf       time.Time // makes the version
	Span       topk.Span
	TotalPlays uint64
	Watermark  *Watermark // may be shared by any number of changes

	// Size is how many entries the chart has after the change, at most
	// topk.SnapshotSize. A chart whose members do not come to as many is not
	// served, and refuses the next difference.
	Size int
	// Base is the version against which Removed and Set were taken, as
	// Change.Version of it gives; 0 when Set is the whole chart.
	Base    uint64
	Removed []string     // songs that left the chart
	Set     []topk.Entry // new or with other plays, in any order; ranks are not looked at

	Previous *Previous // nil to leave the one that Redis holds
}

// Version is what the change makes of the chart, and so the Base of the next.
func (c *Change) Version() uint64 { return uint64(c.AsOf.UnixMilli()) }

// Whole gives the publication of the first topk.SnapshotSize entries of a chart.
func Whole(chart topk.Chart) Change {
	entries := chart.Entries[:min(len(chart.Entries), topk.SnapshotSize)]
	return Change{
		Filter: chart.Filter, Window: chart.Window, AsOf: chart.AsOf, Span: chart.Span, TotalPlays: chart.TotalPlays,
		Watermark: EncodeWatermark(chart.Watermark), Size: len(entries), Set: entries,
	}
}

// check gives a topk.ErrInvalid for what Redis cannot hold, or not as a chart.
func (c *Change) check() error {
	switch {
	case c.AsOf.UnixMilli() <= 0:
		return fmt.Errorf("as of %s: %w", c.AsOf, topk.ErrInvalid)
	case c.Watermark == nil:
		return fmt.Errorf("no watermark: %w", topk.ErrInvalid)
	case c.Size > topk.SnapshotSize || len(c.Set) > c.Size || len(c.Removed) > topk.SnapshotSize:
		return fmt.Errorf("%d entries, %d set, %d removed: %w", c.Size, len(c.Set), len(c.Removed), topk.ErrInvalid)
	case c.Base == 0 && (len(c.Set) != c.Size || len(c.Removed) > 0):
		return fmt.Errorf("%d of %d entries, %d removed, but no base: %w", len(c.Set), c.Size, len(c.Removed), topk.ErrInvalid)
	}
	for i := range c.Set {
		if e := &c.Set[i]; e.Plays >= maxPlays {
			return fmt.Errorf("%d plays of %q: %w", e.Plays, e.SongID, topk.ErrInvalid)
		}
	}
	return nil
}

// An Outcome is what became of one change.
type Outcome struct {
	// Err is nil when the change was written; ErrBehind when Redis does not hold
	// its base; ErrStale when Redis holds a version as new; a topk.ErrInvalid when
	// it cannot be written ever; and a topk.ErrUnavailable when it is not known
	// whether it was written: publish the next version, of which Redis will tell
	// whether it holds the base.
	Err error
}

// Put publishes the first topk.SnapshotSize entries of a chart, all of them. The
// error is that of an Outcome.
func (p *Publisher) Put(ctx context.Context, chart topk.Chart) error {
	return p.Publish(ctx, []Change{Whole(chart)})[0].Err
}

// Publish publishes changes in pipelines of bounded size and tells what became
// of each. Every change is atomic; together they are not. Those of one chart are
// taken in their order.
func (p *Publisher) Publish(ctx context.Context, changes []Change) []Outcome {
	outcomes := make([]Outcome, len(changes))
	for start := 0; start < len(changes); start += p.opts.Batch {
		end := min(start+p.opts.Batch, len(changes))
		if err := p.write(ctx, changes[start:end], outcomes[start:end]); err != nil {
			// Redis is away: the changes not yet sent would only wait for it.
			for i := end; i < len(changes); i++ {
				outcomes[i].Err = err
			}
			break
		}
	}
	return outcomes
}

// write sends the changes and fills in their outcomes. The error is that of
// Redis when it answered none of them.
func (p *Publisher) write(ctx context.Context, changes []Change, outcomes []Outcome) error {
	calls := make([]call, 0, len(changes))
	indexes := make([]int, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		key := keySuffix(c.Filter, c.Window)
		if err := c.check(); err != nil {
			outcomes[i].Err = fmt.Errorf("snapshot %s: %w", key, err)
			continue
		}
		calls = append(calls, call{top: topPrefix + key, meta: metaPrefix + key, args: p.arguments(c)})
		indexes = append(indexes, i)
	}
	err := p.store.run(ctx, writeScript, calls)
	for n, i := range indexes {
		outcomes[i].Err = calls[n].outcome()
	}
	return err
}

// arguments are those of the write script.
func (p *Publisher) arguments(c *Change) []string {
	base, ttl, previousAsOf, previous := "", "", "", ""
	if c.Base != 0 {
		base = strconv.FormatUint(c.Base, 10)
	}
	if p.renewsTTL(c) {
		ttl = strconv.FormatInt(p.opts.TTL.Milliseconds(), 10)
	}
	if c.Previous != nil {
		previousAsOf, previous = c.Previous.encode()
	}
	args := make([]string, 0, 12+len(c.Removed)+2*len(c.Set))
	args = append(args,
		strconv.FormatUint(c.Version(), 10),
		p.id,
		base,
		ttl,
		strconv.Itoa(c.Size),
		strconv.FormatInt(c.Span.Start.UnixMilli(), 10),
		strconv.FormatInt(c.Span.End.UnixMilli(), 10),
		strconv.FormatUint(c.TotalPlays, 10),
		c.Watermark.text,
		previousAsOf,
		previous,
		strconv.Itoa(len(c.Removed)),
	)
	args = append(args, c.Removed...)
	for i := range c.Set {
		args = append(args, strconv.FormatUint(c.Set[i].Plays, 10), c.Set[i].SongID)
	}
	return args
}

// renewsTTL reports whether a change puts the expiry off: when it may create a key, and
// when it is the first of its chart in a part of the TTL. The base tells: it was
// written by this publisher, and Redis still holds it.
func (p *Publisher) renewsTTL(c *Change) bool {
	part := max(1, uint64(p.opts.TTL.Milliseconds())/ttlParts)
	return c.Base == 0 || len(c.Set) == c.Size && c.Size > 0 || c.Base/part != c.Version()/part
}

// Remove takes charts away that are not kept any more. One that another
// publisher has written since stays. The error is a topk.ErrUnavailable when it
// is not known whether all are gone; to repeat it does no harm.
func (p *Publisher) Remove(ctx context.Context, keys []Key) error {
	for start := 0; start < len(keys); start += p.opts.Batch {
		batch := keys[start:min(start+p.opts.Batch, len(keys))]
		calls := make([]call, len(batch))
		for i, k := range batch {
			calls[i] = call{top: TopKey(k.Filter, k.Window), meta: MetaKey(k.Filter, k.Window), args: []string{p.id}}
		}
		if err := p.store.run(ctx, removeScript, calls); err != nil {
			return err
		}
		for i := range calls {
			if err := calls[i].err; err != nil {
				return fmt.Errorf("snapshot %s: remove: %w", calls[i].top, err)
			}
		}
	}
	return nil
}

// A call of a script for one chart, and what Redis said.
type call struct {
	top, meta string
	args      []string
	verdict   string
	err       error
}

// outcome reads what Redis said of a publication.
func (c *call) outcome() error {
	switch {
	case c.err != nil:
		return fmt.Errorf("snapshot %s: %w", c.top, c.err)
	case c.verdict == "written":
		return nil
	case c.verdict == "behind":
		return fmt.Errorf("snapshot %s: %w", c.top, ErrBehind)
	case c.verdict == "stale":
		return fmt.Errorf("snapshot %s: version %s: %w", c.top, c.args[0], ErrStale)
	default:
		return fmt.Errorf("snapshot %s: unexpected answer %q", c.top, c.verdict)
	}
}

// run makes the calls in one pipeline, and those that found a Redis without the
// script once more with its text. The error is that of Redis when it answered
// none of them.
func (s *Store) run(ctx context.Context, script script, calls []call) error {
	ctx, cancel := context.WithTimeout(ctx, s.opts.WriteTimeout)
	defer cancel()
	client, err := s.connect(ctx)
	if err != nil {
		for i := range calls {
			calls[i].err = err
		}
		return err
	}
	pending := make([]*call, len(calls))
	for i := range calls {
		pending[i] = &calls[i]
	}
	for known := true; len(pending) > 0; known = false {
		commands := make(rueidis.Commands, len(pending))
		for i, c := range pending {
			if known {
				commands[i] = client.B().Evalsha().Sha1(script.hash).Numkeys(2).Key(c.top, c.meta).Arg(c.args...).Build()
			} else {
				commands[i] = client.B().Eval().Script(script.source).Numkeys(2).Key(c.top, c.meta).Arg(c.args...).Build()
			}
		}
		var unknown []*call
		for i, result := range client.DoMulti(ctx, commands...) {
			c := pending[i]
			if c.verdict, err = result.ToString(); err == nil {
				continue
			}
			if reply, ok := rueidis.IsRedisErr(err); ok && reply.IsNoScript() && known {
				unknown = append(unknown, c)
			} else {
				c.err = unavailable(err)
			}
		}
		pending = unknown
	}
	for i := range calls {
		if err = calls[i].err; err == nil {
			return nil
		}
	}
	return err
}

// A Watermark is a topk.Watermark as Redis holds it.
type Watermark struct{ text string }

// EncodeWatermark encodes a watermark, once for all the charts it belongs to.
func EncodeWatermark(w topk.Watermark) *Watermark {
	if w == nil {
		w = topk.Watermark{}
	}
	text, err := json.Marshal(w)
	if err != nil {
		panic(err) // integers have no way to fail
	}
	return &Watermark{string(text)}
}

func decodeWatermark(text string) (topk.Watermark, error) {
	w := topk.Watermark{}
	err := json.Unmarshal([]byte(text), &w)
	return w, err
}

// Previous is a chart as it stood at the last boundary, from which movement is
// told. The zero Previous is none.
type Previous struct {
	AsOf    time.Time
	SongIDs []string // in chart order: the first has rank 1
}

// encode gives the HASH's previousAsOf and previous. JSON takes only UTF-8, which
// accepted ids are.
func (p *Previous) encode() (asOf, songIDs string) {
	ids := p.SongIDs
	if ids == nil {
		ids = []string{}
	}
	text, err := json.Marshal(ids)
	if err != nil {
		panic(err) // strings have no way to fail
	}
	return strconv.FormatInt(p.AsOf.UnixMilli(), 10), string(text)
}
