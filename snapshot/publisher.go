package snapshot

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/redis/rueidis"

	"github.com/topk-charts/topk"
)

// ErrStale says that Redis already holds the chart in a version at least as new
// as the one that was to be published. Nothing was written.
//
// It is also what the second of two equal publications gets, such as one that
// is repeated because the answer to the first was lost.
var ErrStale = errors.New("a version as new is already published")

// maxPlays is the first count that a ZSET cannot hold exactly: its scores are
// doubles.
const maxPlays = 1 << 53

// PublisherOptions of a Publisher; every one has a default.
type PublisherOptions struct {
	// TTL is how long a chart stays without being published again: how long an
	// outage of ClickHouse may last until there is nothing to serve. Its AsOf
	// tells readers how old it is. Default 6 hours.
	TTL time.Duration
	// Batch is how many charts go to Redis in one pipeline. Default 128, which
	// is at most 2 MB.
	Batch int
	// MaxCharts bounds the charts of which the publisher remembers what it
	// wrote, about 8 KB each; the others are written in full each time.
	// Default 30,000.
	MaxCharts int
}

func (o PublisherOptions) withDefaults() PublisherOptions {
	if o.TTL == 0 {
		o.TTL = 6 * time.Hour
	}
	if o.Batch == 0 {
		o.Batch = 128
	}
	if o.MaxCharts == 0 {
		o.MaxCharts = 30_000
	}
	return o
}

// A Publisher writes snapshots. It is safe for concurrent use, and several may
// write the same charts: the newest version wins.
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
// Counts are absolute and only changed members are sent: the publisher
// remembers what it last wrote, and names that version as the base of the
// difference. When Redis holds anything else, after a flush, a fail-over to a
// replica that lagged, or the write of another publisher, it refuses the
// difference and the chart is sent in full.
type Publisher struct {
	store *Store
	opts  PublisherOptions
	id    string
	wrote *otter.Cache[string, written] // by TopKey
}

// written is what Redis was last known to take from this publisher.
type written struct {
	version uint64
	entries []topk.Entry
}

//go:embed write.lua
var writeSource string

// writeHash is what EVALSHA takes for the script. (The client has its own way of
// running one script many times, but that first loads it into every node each
// time, and fails when one replica of a cluster is away.)
var writeHash = fmt.Sprintf("%x", sha1.Sum([]byte(writeSource)))

// NewPublisher makes a publisher that writes through the store's connections.
func (s *Store) NewPublisher(opts PublisherOptions) (*Publisher, error) {
	opts = opts.withDefaults()
	wrote, err := otter.New(&otter.Options[string, written]{MaximumSize: opts.MaxCharts})
	if err != nil {
		return nil, fmt.Errorf("snapshot: publisher: %w", err)
	}
	return &Publisher{store: s, opts: opts, id: rand.Text(), wrote: wrote}, nil
}

// An Outcome is what became of one chart.
type Outcome struct {
	// Changed is how many members of the ZSET were sent, set and removed.
	Changed int
	// Err is nil when the chart was written, ErrStale when Redis holds a newer
	// version, a topk.ErrInvalid when it cannot be written ever, and a
	// topk.ErrUnavailable when it is not known whether it was written: publish
	// the next version.
	Err error
}

// Put publishes the first topk.SnapshotSize entries of one chart.
func (p *Publisher) Put(ctx context.Context, chart topk.Chart) (changed int, err error) {
	out := p.PutMany(ctx, []topk.Chart{chart})[0]
	return out.Changed, out.Err
}

// PutMany publishes charts in pipelines of bounded size and tells what became
// of each. Every chart is published atomically; the charts together are not.
func (p *Publisher) PutMany(ctx context.Context, charts []topk.Chart) []Outcome {
	outcomes := make([]Outcome, len(charts))
	puts := make([]*put, 0, min(p.opts.Batch, len(charts)))
	for start := 0; start < len(charts); start += p.opts.Batch {
		puts = puts[:0]
		for i := start; i < min(start+p.opts.Batch, len(charts)); i++ {
			next, err := p.prepare(charts[i], &outcomes[i])
			if err != nil {
				outcomes[i].Err = err
				continue
			}
			puts = append(puts, next)
		}
		if err := p.write(ctx, puts); err != nil {
			// Redis is away: the charts not yet sent would only wait for it.
			for i := start + p.opts.Batch; i < len(charts); i++ {
				outcomes[i].Err = err
			}
			break
		}
	}
	return outcomes
}

// A put is one chart on its way.
type put struct {
	top, meta string
	version   uint64
	fields    []string     // of the HASH
	entries   []topk.Entry // all of them
	base      written      // against which to send the difference; version 0 for none
	unknown   bool         // Redis does not know the script by its hash
	outcome   *Outcome
	done      bool
}

func (p *Publisher) prepare(chart topk.Chart, outcome *Outcome) (*put, error) {
	top := TopKey(chart.Filter, chart.Window)
	if chart.AsOf.UnixMilli() <= 0 {
		return nil, fmt.Errorf("snapshot %s: as of %s: %w", top, chart.AsOf, topk.ErrInvalid)
	}
	entries := chart.Entries[:min(len(chart.Entries), topk.SnapshotSize)]
	for _, e := range entries {
		if e.Plays >= maxPlays {
			return nil, fmt.Errorf("snapshot %s: %d plays of %q: %w", top, e.Plays, e.SongID, topk.ErrInvalid)
		}
	}
	version := uint64(chart.AsOf.UnixMilli())
	watermark, err := encodeWatermark(chart.Watermark)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: watermark: %w", top, err)
	}
	base, _ := p.wrote.GetIfPresent(top)
	return &put{
		top:     top,
		meta:    MetaKey(chart.Filter, chart.Window),
		version: version,
		fields: []string{
			"version", strconv.FormatUint(version, 10),
			"asOf", strconv.FormatInt(chart.AsOf.UnixMilli(), 10),
			"windowStart", strconv.FormatInt(chart.Span.Start.UnixMilli(), 10),
			"windowEnd", strconv.FormatInt(chart.Span.End.UnixMilli(), 10),
			"totalPlays", strconv.FormatUint(chart.TotalPlays, 10),
			"watermark", watermark,
			"size", strconv.Itoa(len(entries)),
			"writer", p.id,
		},
		entries: entries,
		base:    base,
		outcome: outcome,
	}, nil
}

// write sends the puts until each is settled. The error is that of Redis when
// it answered none of them.
func (p *Publisher) write(ctx context.Context, puts []*put) error {
	ctx, cancel := context.WithTimeout(ctx, p.store.opts.WriteTimeout)
	defer cancel()
	client, err := p.store.connect(ctx)
	if err != nil {
		for _, next := range puts {
			next.outcome.Err = err
		}
		return err
	}
	// A round settles a put, or it goes once more in another form: with the
	// script instead of its hash, or in full. So there are at most three.
	for pending := puts; len(pending) > 0; {
		commands := make(rueidis.Commands, len(pending))
		for i, next := range pending {
			commands[i] = p.command(client, next)
		}
		for i, result := range client.DoMulti(ctx, commands...) {
			p.settle(pending[i], result)
		}
		pending = slices.DeleteFunc(slices.Clone(pending), func(next *put) bool { return next.done })
	}
	for _, next := range puts {
		if err = next.outcome.Err; !errors.Is(err, topk.ErrUnavailable) {
			return nil
		}
	}
	return err
}

// settle reads the script's answer to a put, which is then done, or to be sent
// again in another form.
func (p *Publisher) settle(next *put, result rueidis.RedisResult) {
	verdict, err := result.ToString()
	if reply, ok := rueidis.IsRedisErr(err); ok && reply.IsNoScript() && !next.unknown {
		next.unknown = true
		return
	}
	switch {
	case err != nil:
		// It may have been written all the same. What is remembered stays true
		// of its version, and Redis compares that.
		next.outcome.Err = fmt.Errorf("snapshot %s: %w", next.top, unavailable(err))
	case verdict == "behind" && next.base.version != 0:
		// Forgotten, because after a flush Redis takes versions older than it.
		p.wrote.Invalidate(next.top)
		next.base = written{}
		return
	case verdict == "stale":
		next.outcome.Err = fmt.Errorf("snapshot %s: version %d: %w", next.top, next.version, ErrStale)
	case verdict == "written":
		p.remember(next)
	default:
		next.outcome.Err = fmt.Errorf("snapshot %s: unexpected answer %q", next.top, verdict)
	}
	if next.outcome.Err != nil {
		next.outcome.Changed = 0
	}
	next.done = true
}

// remember keeps what was written, unless a later version was written in the
// meantime. The entries are copied: they belong to the caller.
func (p *Publisher) remember(next *put) {
	p.wrote.Compute(next.top, func(old written, found bool) (written, otter.ComputeOp) {
		if found && old.version > next.version {
			return old, otter.CancelOp
		}
		return written{version: next.version, entries: slices.Clone(next.entries)}, otter.WriteOp
	})
}

// command makes the call of the script, with as few members as will do.
func (p *Publisher) command(client rueidis.Client, next *put) rueidis.Completed {
	base := ""
	if next.base.version != 0 {
		base = strconv.FormatUint(next.base.version, 10)
	}
	removed, set := difference(next.base.entries, next.entries)
	next.outcome.Changed = len(removed) + len(set)

	args := make([]string, 0, 6+len(next.fields)+len(removed)+2*len(set))
	args = append(args,
		strconv.FormatUint(next.version, 10),
		p.id,
		base,
		strconv.FormatInt(p.opts.TTL.Milliseconds(), 10),
		strconv.Itoa(len(next.fields)),
		strconv.Itoa(len(removed)),
	)
	args = append(args, next.fields...)
	args = append(args, removed...)
	for _, e := range set {
		args = append(args, strconv.FormatUint(e.Plays, 10), e.SongID)
	}
	if next.unknown {
		return client.B().Eval().Script(writeSource).Numkeys(2).Key(next.top, next.meta).Arg(args...).Build()
	}
	return client.B().Evalsha().Sha1(writeHash).Numkeys(2).Key(next.top, next.meta).Arg(args...).Build()
}

// difference gives the songs that left and the entries that are new or whose
// plays changed. From one version to the next most entries keep their place, so
// places are compared first and only the rest is looked up.
func difference(before, after []topk.Entry) (removed []string, set []topk.Entry) {
	gone := make(map[string]uint64)
	var moved []topk.Entry
	for i := range max(len(before), len(after)) {
		switch {
		case i >= len(after):
			gone[before[i].SongID] = before[i].Plays
		case i >= len(before):
			moved = append(moved, after[i])
		case before[i].SongID != after[i].SongID:
			gone[before[i].SongID] = before[i].Plays
			moved = append(moved, after[i])
		case before[i].Plays != after[i].Plays:
			set = append(set, after[i])
		}
	}
	for _, e := range moved {
		plays, found := gone[e.SongID]
		if !found || plays != e.Plays {
			set = append(set, e)
		}
		delete(gone, e.SongID)
	}
	for id := range gone {
		removed = append(removed, id)
	}
	return removed, set
}

func encodeWatermark(w topk.Watermark) (string, error) {
	if w == nil {
		w = topk.Watermark{}
	}
	text, err := json.Marshal(w)
	return string(text), err
}

func decodeWatermark(text string) (topk.Watermark, error) {
	w := topk.Watermark{}
	err := json.Unmarshal([]byte(text), &w)
	return w, err
}
