package snapshot_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

var (
	global = topk.NewFilter()
	india  = topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"})
	noon   = time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC)
)

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// open gives a store that asks Redis every time, unless opts say otherwise.
func open(t testing.TB, url string, opts snapshot.Options) *snapshot.Store {
	t.Helper()
	if opts.Clock == nil {
		opts.Clock = (&clock{now: noon}).Now
	}
	if opts.CopyFor == 0 {
		opts.CopyFor = -1
	}
	store, err := snapshot.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// A writer publishes charts as differences from what it wrote last, and whole
// when Redis turns out to be behind.
type writer struct {
	*snapshot.Publisher
	wrote map[string]topk.Chart // by TopKey
}

func publisher(t testing.TB, store *snapshot.Store, opts snapshot.PublisherOptions) *writer {
	t.Helper()
	return &writer{store.NewPublisher(opts), map[string]topk.Chart{}}
}

// put publishes charts and tells how many members were sent of each. Of one
// chart only the first difference has a base.
func (w *writer) put(ctx context.Context, charts ...topk.Chart) (changed []int, errs []error) {
	changes := make([]snapshot.Change, len(charts))
	for i, c := range charts {
		changes[i] = snapshot.Whole(c)
		if before, ok := w.wrote[snapshot.TopKey(c.Filter, c.Window)]; ok {
			changes[i] = difference(before, c)
		}
	}
	changed, errs = make([]int, len(charts)), make([]error, len(charts))
	for i, out := range w.Publish(ctx, changes) {
		if errors.Is(out.Err, snapshot.ErrBehind) {
			changes[i] = snapshot.Whole(charts[i])
			out = w.Publish(ctx, changes[i:i+1])[0]
		}
		if errs[i] = out.Err; out.Err == nil {
			changed[i] = len(changes[i].Removed) + len(changes[i].Set)
			kept := charts[i]
			kept.Entries = slices.Clone(kept.Entries)
			w.wrote[snapshot.TopKey(kept.Filter, kept.Window)] = kept
		}
	}
	return changed, errs
}

// difference gives the change from a published chart to another of at most
// topk.SnapshotSize entries.
func difference(before, after topk.Chart) snapshot.Change {
	c := snapshot.Whole(after)
	c.Base, c.Set = uint64(before.AsOf.UnixMilli()), nil
	gone := map[string]uint64{}
	for _, e := range before.Entries {
		gone[e.SongID] = e.Plays
	}
	for _, e := range after.Entries {
		if plays, ok := gone[e.SongID]; !ok || plays != e.Plays {
			c.Set = append(c.Set, e)
		}
		delete(gone, e.SongID)
	}
	c.Removed = slices.Collect(maps.Keys(gone))
	return c
}

// chart makes a chart of the plays, as of so many milliseconds after noon.
func chart(f topk.Filter, version int, plays map[string]uint64) topk.Chart {
	asOf := noon.Add(time.Duration(version) * time.Millisecond)
	c := topk.Chart{
		Filter:    f,
		Window:    topk.Last24h,
		AsOf:      asOf,
		Span:      topk.Last24h.At(asOf, topk.DefaultCalendar()),
		Entries:   []topk.Entry{},
		Watermark: topk.Watermark{0: uint64(version), 1<<16 + 3: math.MaxUint64},
	}
	for id, n := range plays {
		c.TotalPlays += n
		c.Entries = append(c.Entries, topk.Entry{SongID: id, Plays: n})
	}
	topk.RankEntries(c.Entries)
	return c
}

func put(t testing.TB, p *writer, c topk.Chart) (changed int) {
	t.Helper()
	sent, errs := p.put(t.Context(), c)
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	return sent[0]
}

func wantChart(t testing.TB, store *snapshot.Store, want topk.Chart) {
	t.Helper()
	got, err := store.Get(t.Context(), want.Filter, want.Window)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Chart, want) {
		t.Fatalf("got  %+v\nwant %+v", got.Chart, want)
	}
	if got.Version != uint64(want.AsOf.UnixMilli()) {
		t.Fatalf("version %d, want %d", got.Version, want.AsOf.UnixMilli())
	}
}

func wantGetError(t testing.TB, store *snapshot.Store, f topk.Filter, want error) {
	t.Helper()
	if got, err := store.Get(t.Context(), f, topk.Last24h); !errors.Is(err, want) {
		t.Fatalf("got %+v, %v; want the error %v", got, err, want)
	}
}

// The keys and fields are a contract with other readers of Redis.
func TestContract(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	c := chart(india, 5, map[string]uint64{"a": 1, "b": 7})
	c.Watermark = topk.Watermark{2: 20, 1: 10}
	put(t, publisher(t, store, snapshot.PublisherOptions{}), c)

	for song, plays := range map[string]string{"a": "1", "b": "7"} {
		if got := redis.do(t, "ZSCORE", "top:{region:IN}:24h", song); got != plays {
			t.Errorf("%s has the score %s, want %s", song, got, plays)
		}
	}
	for field, want := range map[string]string{
		"version":     "1763985600005",
		"asOf":        "1763985600005",
		"windowStart": "1763899200000",
		"windowEnd":   "1763985600006",
		"totalPlays":  "8",
		"watermark":   `{"1":10,"2":20}`,
	} {
		if got := redis.do(t, "HGET", "meta:{region:IN}:24h", field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	if top, meta := redis.do(t, "PEXPIRETIME", "top:{region:IN}:24h"), redis.do(t, "PEXPIRETIME", "meta:{region:IN}:24h"); top != meta {
		t.Errorf("the keys expire at different times, %s and %s", top, meta)
	}
}

func TestRoundTrip(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{})
	ties := map[string]uint64{
		"a": 3, "b": 3, "B": 3, "aa": 3, "é": 3, "z": 3, "日本": 3, "日": 3, "😀": 3, "￿": 3, " ": 3, `"}:\`: 3, "\xff\xfe": 3, "none": 0,
	}
	big := map[string]uint64{"least": 1<<53 - 2, "most": 1<<53 - 1}
	for i, plays := range []map[string]uint64{ties, nil, big, {"a": 1}, nil, ties} {
		c := chart(india, i+1, plays)
		put(t, p, c)
		wantChart(t, store, c)
	}

	total := chart(india, 9, big)
	total.TotalPlays = math.MaxUint64
	put(t, p, total)
	wantChart(t, store, total)
}

func TestFixedAndAwkwardFilters(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{})
	fixed, err := topk.Between(noon, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range []topk.Filter{
		global,
		topk.NewFilter(topk.Term{Dim: topk.DimPlaylist, Value: "}{,%"}),
		topk.NewFilter(topk.Term{Dim: topk.DimGenre, Value: "pop"}, topk.Term{Dim: topk.DimRegion, Value: "IN/Mumbai"}),
	} {
		for j, w := range []topk.Window{topk.LastHour, topk.AllTime, fixed} {
			c := chart(f, 10*i+j+1, map[string]uint64{f.String(): uint64(i), w.String(): uint64(j)})
			c.Window = w
			put(t, p, c)
			wantChart(t, store, c)
		}
	}
}

func TestOnlyTheFirstEntriesArePublished(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	plays := map[string]uint64{}
	for i := range uint64(topk.SnapshotSize + 50) {
		plays[fmt.Sprint("song", i)] = i
	}
	c := chart(global, 1, plays)
	put(t, publisher(t, store, snapshot.PublisherOptions{}), c)
	c.Entries = c.Entries[:topk.SnapshotSize]
	wantChart(t, store, c)
}

func TestWhatCannotBePublished(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{})
	tooMany := chart(global, 1, map[string]uint64{"a": 1 << 53})
	timeless := chart(global, 1, nil)
	timeless.AsOf = time.Time{}
	good := chart(india, 1, map[string]uint64{"a": 1})
	changes := []snapshot.Change{snapshot.Whole(tooMany), snapshot.Whole(good), snapshot.Whole(timeless)}
	for _, spoil := range []func(*snapshot.Change){
		func(c *snapshot.Change) { c.Watermark = nil },
		func(c *snapshot.Change) { c.Size = 2 },
		func(c *snapshot.Change) { c.Removed = []string{"b"} },
		func(c *snapshot.Change) { c.Base, c.Size = 1, topk.SnapshotSize+1 },
		func(c *snapshot.Change) { c.Base, c.Size = 1, 0 },
		func(c *snapshot.Change) { c.Base, c.Removed = 1, make([]string, topk.SnapshotSize+1) },
	} {
		c := snapshot.Whole(chart(global, 1, map[string]uint64{"a": 1}))
		spoil(&c)
		changes = append(changes, c)
	}
	for i, out := range p.Publish(t.Context(), changes) {
		if i == 1 && out.Err != nil || i != 1 && !errors.Is(out.Err, topk.ErrInvalid) {
			t.Errorf("change %d: %v", i, out.Err)
		}
	}
	wantChart(t, store, good)
	wantGetError(t, store, global, topk.ErrNotFound)
}

func TestOnlyChangesAreSent(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{})
	for i, step := range []struct {
		plays map[string]uint64
		want  int
	}{
		{map[string]uint64{"a": 1, "b": 2, "c": 3}, 3},
		{map[string]uint64{"a": 1, "b": 2, "c": 3}, 0},
		{map[string]uint64{"a": 9, "b": 2, "c": 3}, 1},         // a climbs over the others
		{map[string]uint64{"a": 9, "b": 2, "d": 3}, 2},         // d for c
		{map[string]uint64{"a": 9}, 2},                         // two leave
		{map[string]uint64{}, 1},                               // the last one leaves
		{map[string]uint64{}, 0},                               // still empty
		{map[string]uint64{"a": 1, "b": 1, "c": 1, "d": 1}, 4}, //
		{map[string]uint64{"a": 4, "b": 3, "c": 2, "d": 1}, 3}, // turned around
	} {
		c := chart(global, i+1, step.plays)
		if got := put(t, p, c); got != step.want {
			t.Errorf("step %d: %d members sent, want %d", i, got, step.want)
		}
		wantChart(t, store, c)
	}
}

func TestStaleVersionsAreRefused(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	mine := publisher(t, store, snapshot.PublisherOptions{})
	other := publisher(t, store, snapshot.PublisherOptions{})
	held := chart(global, 10, map[string]uint64{"a": 1})
	put(t, mine, held)
	for _, p := range []*writer{mine, other} {
		for _, version := range []int{9, 10} {
			c := chart(global, version, map[string]uint64{"b": 2})
			if _, errs := p.put(t.Context(), c); !errors.Is(errs[0], snapshot.ErrStale) {
				t.Errorf("version %d: %v", version, errs[0])
			}
			if err := p.Put(t.Context(), c); !errors.Is(err, snapshot.ErrStale) {
				t.Errorf("version %d, whole: %v", version, err)
			}
		}
	}
	wantChart(t, store, held)
	next := chart(global, 11, map[string]uint64{"a": 2})
	if changed := put(t, mine, next); changed != 1 {
		t.Errorf("after refusals %d members sent, want 1", changed)
	}
	wantChart(t, store, next)
}

// Whatever happens to Redis between two publications, the second one leaves
// exactly its chart.
func TestPublishingHeals(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, *server, *snapshot.Store){
		"flushed":         func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "FLUSHALL") },
		"scripts flushed": func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "SCRIPT", "FLUSH") },
		"entries evicted": func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "DEL", "top:{global}:24h") },
		"meta evicted":    func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "DEL", "meta:{global}:24h") },
		"entry removed":   func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "ZREM", "top:{global}:24h", "a") },
		"older replica": func(t *testing.T, s *server, _ *snapshot.Store) {
			s.do(t, "HSET", "meta:{global}:24h", "version", strconv.FormatInt(noon.UnixMilli(), 10))
			s.do(t, "ZADD", "top:{global}:24h", "77", "a")
		},
		"another writer": func(t *testing.T, _ *server, store *snapshot.Store) {
			put(t, publisher(t, store, snapshot.PublisherOptions{}), chart(global, 2, map[string]uint64{"x": 1, "y": 2}))
		},
		// Of the same version, which only the writer's name tells apart.
		"flushed, another writer": func(t *testing.T, s *server, store *snapshot.Store) {
			s.do(t, "FLUSHALL")
			put(t, publisher(t, store, snapshot.PublisherOptions{}), chart(global, 1, map[string]uint64{"x": 1, "y": 2}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			redis := startServer(t)
			store := open(t, redis.url(), snapshot.Options{})
			p := publisher(t, store, snapshot.PublisherOptions{})
			put(t, p, chart(global, 1, map[string]uint64{"a": 1, "b": 2}))
			harm(t, redis, store)
			for version := 3; version < 6; version++ {
				c := chart(global, version, map[string]uint64{"a": 1, "b": uint64(version)})
				put(t, p, c)
				wantChart(t, store, c)
			}
		})
	}
}

// After a flush Redis takes any version, also from a writer whose clock was put
// back; the differences that follow must not name the version it forgot.
func TestClockPutBackAndFlushed(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{})
	put(t, p, chart(global, 100, map[string]uint64{"a": 1, "b": 2}))
	redis.do(t, "FLUSHALL")
	put(t, p, chart(global, 10, map[string]uint64{"a": 1, "b": 2}))
	if changed := put(t, p, chart(global, 11, map[string]uint64{"a": 1, "b": 3})); changed != 1 {
		t.Errorf("%d members sent, want 1", changed)
	}
}

// A ZSET that was evicted alone must not be served as an empty chart.
func TestHalfAChartIsNoChart(t *testing.T) {
	for _, key := range []string{"top:{global}:24h", "meta:{global}:24h"} {
		redis := startServer(t)
		store := open(t, redis.url(), snapshot.Options{})
		put(t, publisher(t, store, snapshot.PublisherOptions{}), chart(global, 1, map[string]uint64{"a": 1}))
		redis.do(t, "DEL", key)
		wantGetError(t, store, global, topk.ErrNotFound)
	}
}

func TestForeignMeta(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	redis.do(t, "HSET", "meta:{global}:24h", "version", "one", "size", "0")
	if _, err := store.Get(t.Context(), global, topk.Last24h); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("got %v", err)
	}
	redis.do(t, "DEL", "meta:{global}:24h")
	redis.do(t, "SET", "meta:{global}:24h", "text")
	if _, err := store.Get(t.Context(), global, topk.Last24h); err == nil {
		t.Error("a string was read as a chart")
	}
}

func TestChartsExpire(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{TTL: 20 * time.Millisecond})
	put(t, p, chart(global, 1, map[string]uint64{"a": 1}))
	eventually(t, "the chart expires", func() bool {
		_, err := store.Get(t.Context(), global, topk.Last24h)
		return errors.Is(err, topk.ErrNotFound)
	})
}

func TestPublishInBatches(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := publisher(t, store, snapshot.PublisherOptions{Batch: 7})
	for version := 1; version <= 3; version++ {
		var charts []topk.Chart
		for i := range 50 {
			f := playlist(fmt.Sprint(i))
			charts = append(charts, chart(f, version, map[string]uint64{"a": uint64(i), "b": uint64(version)}))
		}
		if _, errs := p.put(t.Context(), charts...); errors.Join(errs...) != nil {
			t.Fatal(errors.Join(errs...))
		}
		for _, c := range charts {
			wantChart(t, store, c)
		}
	}
	if out := p.Publish(t.Context(), nil); len(out) != 0 {
		t.Errorf("no changes gave %v", out)
	}
}

// The same chart several times in one call: each version is taken in turn, and
// may be the base of the next.
func TestPublishOneChartTwice(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	p := store.NewPublisher(snapshot.PublisherOptions{})
	first, second, third := chart(global, 1, map[string]uint64{"a": 1, "b": 1}),
		chart(global, 2, map[string]uint64{"a": 2, "c": 1}), chart(global, 3, map[string]uint64{"d": 1})
	for range 2 { // at first Redis does not know the script
		for i, out := range p.Publish(t.Context(), []snapshot.Change{
			snapshot.Whole(first), difference(first, second), difference(second, third),
		}) {
			if out.Err != nil {
				t.Fatalf("change %d: %v", i, out.Err)
			}
		}
		wantChart(t, store, third)
		redis.do(t, "FLUSHALL")
	}
}

func TestKillAndRestart(t *testing.T) {
	redis := startServer(t)
	now := &clock{now: noon}
	store := open(t, redis.url(), snapshot.Options{Clock: now.Now})
	p := publisher(t, store, snapshot.PublisherOptions{Batch: 1})
	before := chart(global, 1, map[string]uint64{"a": 1, "b": 2})
	put(t, p, before)
	wantChart(t, store, before)

	redis.kill()
	wantGetError(t, store, global, topk.ErrUnavailable)
	wantGetError(t, store, india, topk.ErrUnavailable)
	if err := store.Ping(t.Context()); !errors.Is(err, topk.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	_, errs := p.put(t.Context(), chart(global, 2, nil), chart(india, 2, nil))
	for i, err := range errs {
		if !errors.Is(err, topk.ErrUnavailable) {
			t.Errorf("chart %d: %v", i, err)
		}
	}
	if last, ok := store.Last(global, topk.Last24h); !ok || !reflect.DeepEqual(last.Chart, before) {
		t.Errorf("last known: %+v, %t", last, ok)
	}
	if last, ok := store.Last(india, topk.Last24h); ok {
		t.Errorf("never known, but %+v", last)
	}

	redis.start(t)
	after := chart(global, 3, map[string]uint64{"a": 1, "b": 3})
	eventually(t, "the publisher is back", func() bool {
		err := p.Put(t.Context(), after)
		return err == nil || errors.Is(err, snapshot.ErrStale)
	})
	wantGetError(t, store, global, topk.ErrUnavailable) // not asked again yet
	now.advance(time.Second)
	eventually(t, "the reader is back", func() bool {
		_, err := store.Get(t.Context(), global, topk.Last24h)
		now.advance(time.Second)
		return err == nil
	})
	wantChart(t, store, after)
}

func TestOpenWithoutRedis(t *testing.T) {
	redis := startServer(t)
	redis.kill()
	now := &clock{now: noon}
	store := open(t, redis.url(), snapshot.Options{Clock: now.Now})
	wantGetError(t, store, global, topk.ErrUnavailable)
	redis.start(t)
	if err := store.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	now.advance(time.Second)
	wantGetError(t, store, global, topk.ErrNotFound)

	store.Close()
	if err := store.Ping(t.Context()); !errors.Is(err, topk.ErrUnavailable) {
		t.Errorf("ping after close: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, url := range []string{"", "http://redis:1", "redis://u:s3cret@host:port", "redis://u:s3cret@host/x"} {
		_, err := snapshot.Open(t.Context(), url, snapshot.Options{Clock: time.Now})
		if !errors.Is(err, topk.ErrInvalid) || strings.Contains(fmt.Sprint(err), "s3cret") {
			t.Errorf("%q: %v", url, err)
		}
	}
	if _, err := snapshot.Open(t.Context(), "redis://127.0.0.1:1", snapshot.Options{}); err == nil {
		t.Error("opened without a clock")
	}
}

// Callers that go away get their own error, and do not disturb the read that
// they share with others.
func TestGetGivesUpWithItsCaller(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	put(t, publisher(t, store, snapshot.PublisherOptions{}), chart(global, 1, nil))
	gone, leave := context.WithCancel(t.Context())
	leave()
	for range 100 {
		if _, err := store.Get(gone, global, topk.Last24h); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	wantChart(t, store, chart(global, 1, nil))
}

func TestCopies(t *testing.T) {
	redis := startServer(t)
	now := &clock{now: noon}
	store := open(t, redis.url(), snapshot.Options{Clock: now.Now, CopyFor: 100 * time.Millisecond})
	p := publisher(t, store, snapshot.PublisherOptions{})
	first, second := chart(global, 1, map[string]uint64{"a": 1}), chart(global, 2, map[string]uint64{"a": 2})
	wantGetError(t, store, global, topk.ErrNotFound)
	put(t, p, first)
	wantGetError(t, store, global, topk.ErrNotFound) // that too is an answer
	now.advance(100 * time.Millisecond)
	wantChart(t, store, first)
	put(t, p, second)
	now.advance(99 * time.Millisecond)
	wantChart(t, store, first)
	now.advance(time.Millisecond)
	wantChart(t, store, second)
}

// However many ask for a hot chart, Redis is asked once per CopyFor.
func TestHotChartCostsOneRead(t *testing.T) {
	redis := startServer(t)
	now := &clock{now: noon}
	store := open(t, redis.url(), snapshot.Options{Clock: now.Now, CopyFor: 100 * time.Millisecond})
	c := chart(global, 1, map[string]uint64{"a": 1})
	put(t, publisher(t, store, snapshot.PublisherOptions{}), c)
	const rounds = 5
	for range rounds {
		var readers sync.WaitGroup
		for range 50 {
			readers.Go(func() {
				if _, err := store.Get(context.Background(), global, topk.Last24h); err != nil {
					t.Error(err)
				}
			})
		}
		readers.Wait()
		now.advance(100 * time.Millisecond)
	}
	// One more for the script that Redis did not know by its hash.
	if stats := redis.do(t, "INFO", "commandstats"); !strings.Contains(stats, fmt.Sprintf("cmdstat_evalsha_ro:calls=%d,", rounds)) {
		t.Errorf("reads: %s", stats)
	}
}

func TestCopiesAreBounded(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{MaxCopies: 10})
	p := publisher(t, store, snapshot.PublisherOptions{})
	filters := make([]topk.Filter, 200)
	for i := range filters {
		filters[i] = playlist(fmt.Sprint(i))
		c := chart(filters[i], 1, map[string]uint64{"a": 1})
		put(t, p, c)
		wantChart(t, store, c)
	}
	eventually(t, "only 10 copies are left", func() bool {
		kept := 0
		for _, f := range filters {
			if _, ok := store.Last(f, topk.Last24h); ok {
				kept++
			}
		}
		return kept <= 10
	})
}

// versioned gives a chart whose every part follows from its version, so that a
// reader can tell when parts of two versions are mixed.
func versioned(version int) topk.Chart {
	plays := map[string]uint64{}
	for i := range version % 40 {
		plays[fmt.Sprint("song", (version*7+i*3)%101)] = uint64(version*31+i*17) % 1000
	}
	return chart(global, version, plays)
}

func TestReadersNeverSeeTwoVersionsMixed(t *testing.T) {
	redis := startServer(t)
	const writers, readers, writes = 3, 3, 400
	var versions struct {
		sync.Mutex
		next int
	}
	var writing, reading sync.WaitGroup
	for range writers {
		store := open(t, redis.url(), snapshot.Options{})
		p := publisher(t, store, snapshot.PublisherOptions{})
		writing.Go(func() {
			for range writes {
				versions.Lock()
				versions.next++
				c := versioned(versions.next)
				versions.Unlock()
				if _, errs := p.put(context.Background(), c); errs[0] != nil && !errors.Is(errs[0], snapshot.ErrStale) {
					t.Errorf("put: %v", errs[0])
				}
			}
		})
	}
	writing.Go(func() {
		for range 20 {
			redis.do(t, "FLUSHALL")
		}
	})
	written := make(chan struct{})
	for range readers {
		store := open(t, redis.url(), snapshot.Options{})
		reading.Go(func() {
			for {
				select {
				case <-written:
					return
				default:
				}
				got, err := store.Get(context.Background(), global, topk.Last24h)
				if errors.Is(err, topk.ErrNotFound) {
					continue
				}
				if err != nil {
					t.Errorf("get: %v", err)
					return
				}
				if want := versioned(int(got.AsOf.Sub(noon).Milliseconds())); !reflect.DeepEqual(got.Chart, want) {
					t.Errorf("mixed:\ngot  %+v\nwant %+v", got.Chart, want)
					return
				}
			}
		})
	}
	writing.Wait()
	close(written)
	reading.Wait()
}

// Any sequence of charts, published as differences by writers that take turns
// while Redis loses things, reads back as the chart that was published last.
func TestDifferencesAddUp(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	songs := []string{"a", "b", "aa", "é", "日本", "😀", "x y", "\xff", "z", "Z", "0", "10"}
	rapid.Check(t, func(rt *rapid.T) {
		redis.do(t, "FLUSHALL")
		writers := []*writer{
			publisher(t, store, snapshot.PublisherOptions{}),
			publisher(t, store, snapshot.PublisherOptions{}),
		}
		plays := map[string]uint64{}
		version := 0
		rt.Repeat(map[string]func(*rapid.T){
			"count": func(rt *rapid.T) {
				plays[rapid.SampledFrom(songs).Draw(rt, "song")] += rapid.Uint64Range(0, 3).Draw(rt, "plays")
			},
			"expire": func(rt *rapid.T) { delete(plays, rapid.SampledFrom(songs).Draw(rt, "song")) },
			"empty":  func(*rapid.T) { clear(plays) },
			"flush":  func(*rapid.T) { redis.do(t, "FLUSHALL") },
			"evict": func(rt *rapid.T) {
				redis.do(t, "DEL", rapid.SampledFrom([]string{"top:{global}:24h", "meta:{global}:24h"}).Draw(rt, "key"))
			},
			"remove": func(rt *rapid.T) {
				keys := []snapshot.Key{{Filter: global, Window: topk.Last24h}}
				if err := rapid.SampledFrom(writers).Draw(rt, "writer").Remove(context.Background(), keys); err != nil {
					rt.Fatal(err)
				}
			},
			"publish": func(rt *rapid.T) {
				version += rapid.IntRange(1, 3).Draw(rt, "step")
				c := chart(global, version, maps.Clone(plays))
				writer := rapid.SampledFrom(writers).Draw(rt, "writer")
				if _, errs := writer.put(context.Background(), c); errs[0] != nil {
					rt.Fatal(errs[0])
				}
				got, err := store.Get(context.Background(), global, topk.Last24h)
				if err != nil {
					rt.Fatal(err)
				}
				if !reflect.DeepEqual(got.Chart, c) || !slices.IsSortedFunc(got.Entries, topk.CompareEntries) {
					rt.Fatalf("got  %+v\nwant %+v", got.Chart, c)
				}
			},
		})
	})
}
