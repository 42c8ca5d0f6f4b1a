package queries_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

var (
	storedDims = []topk.Dimension{topk.DimGlobal, topk.DimRegion, topk.DimSegment, topk.DimDevice}
	allWindows = []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d, topk.Last30d, topk.AllTime, topk.Today, topk.ThisWeek}
)

// counted is what Counts gave, by value.
type counted struct {
	testing.TB
	values map[string]*value
}

type value struct {
	floors, totals []uint64
	songs          map[string][]uint64
}

func (c *counted) Begin() { c.values = map[string]*value{} }

func (c *counted) of(val string) *value {
	if c.values[val] == nil {
		c.values[val] = &value{songs: map[string][]uint64{}}
	}
	return c.values[val]
}

func (c *counted) Row(val, songID string, plays []uint64) {
	v := c.of(val)
	if v.songs[songID] != nil {
		c.Errorf("row of %q %q twice", val, songID)
	}
	v.songs[songID] = slices.Clone(plays)
}

func (c *counted) Floor(val string, floors, totals []uint64) {
	v := c.of(val)
	if v.totals != nil {
		c.Errorf("floor of %q twice", val)
	}
	v.floors, v.totals = slices.Clone(floors), slices.Clone(totals)
}

// compareCounts asks for the counts of a dimension and finds them to be those of
// the oracle. It tells how many songs were left out.
func (c *chain) compareCounts(dim topk.Dimension, windows []topk.Window, now time.Time) (leftOut int) {
	c.Helper()
	got := &counted{TB: c.TB}
	if _, err := c.db.Counts(c.Context(), dim, windows, now, got); err != nil {
		c.Fatal(err)
	}
	want := map[string]*value{}
	for _, val := range c.values(dim) {
		v := &value{totals: make([]uint64, len(windows)), songs: map[string][]uint64{}}
		for i, w := range windows {
			var entries []topk.Entry
			entries, v.totals[i] = c.oracle.Chart(topk.NewFilter(topk.Term{Dim: dim, Value: val}), w.At(now, topk.DefaultCalendar()), 1<<30)
			for _, e := range entries {
				if v.songs[e.SongID] == nil {
					v.songs[e.SongID] = make([]uint64, len(windows))
				}
				v.songs[e.SongID][i] = e.Plays
			}
		}
		if len(v.songs) > 0 {
			want[val] = v
		}
	}
	if names := slices.Sorted(maps.Keys(got.values)); !slices.Equal(names, slices.Sorted(maps.Keys(want))) {
		c.Errorf("%s at %s: values %q, want those of %v", dim, now, names, want)
	}
	for val, v := range want {
		g := got.values[val]
		if g == nil {
			continue
		}
		if !slices.Equal(g.totals, v.totals) {
			c.Errorf("%s %q at %s: totals %v, want %v", dim, val, now, g.totals, v.totals)
		}
		for song, plays := range v.songs {
			if given := g.songs[song]; given != nil {
				if !slices.Equal(given, plays) {
					c.Errorf("%s %q %q at %s: plays %v, want %v", dim, val, song, now, given, plays)
				}
				continue
			}
			leftOut++
			for i := range plays {
				if plays[i] > g.floors[i] {
					c.Errorf("%s %q at %s: %q has %v plays and was left out by floors %v", dim, val, now, song, plays, g.floors)
				}
			}
		}
		for song := range g.songs {
			if v.songs[song] == nil {
				c.Errorf("%s %q at %s: %q has no plays", dim, val, now, song)
			}
		}
	}
	return leftOut
}

// values are those that the oracle's plays have in a dimension.
func (c *chain) values(dim topk.Dimension) []string {
	all := map[string]bool{}
	for _, p := range c.oracle.Plays() {
		switch dim {
		case topk.DimGlobal:
			all[""] = true
		case topk.DimRegion:
			all[p.Region.Country], all[p.Region.String()] = true, true
		case topk.DimDevice:
			all[p.Device] = true
		case topk.DimSegment:
			for _, s := range c.users[p.UserID] {
				all[s] = true
			}
		}
	}
	if dim != topk.DimGlobal {
		delete(all, "")
	}
	return slices.Collect(maps.Keys(all))
}

// Counts of all dimensions and windows are the brute-force ones, while the
// rollups are at different places of the log, at instants on boundaries and off
// them, of sources that no rollup knows, with songs left out and without.
func TestCountsEqualTheCountOfPlays(t *testing.T) {
	c := newChain(t)
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	fill := func(rollup string) {
		c.exec("SYSTEM START VIEW " + rollup + "_fill")
		c.fill(rollup)
		c.exec("SYSTEM STOP VIEW " + rollup + "_fill")
	}
	plays := randomPlays(21, 6000)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range plays {
		if i%3 > 0 { // many songs of few plays, and later than any play may be
			plays[i].SongID = fmt.Sprint("rare ", rng.IntN(700))
			plays[i].Timestamp = plays[i].Timestamp.Add(-time.Duration(rng.IntN(30*24*60)) * time.Minute)
		}
	}
	c.append(0, plays[:1000]...)
	c.append(1, plays[1000:2000]...)
	fill("rollup_day")
	c.append(1, plays[2000:3000]...)
	c.append(7, plays[3000:3500]...) // a source the day rollup does not know
	fill("rollup_hour")
	c.append(0, plays[3500:5000]...)
	c.append(9, plays[5000:]...) // and one that no rollup knows

	midnight := now.Truncate(24 * time.Hour)
	for _, instant := range []time.Time{
		now, now.Truncate(time.Hour), now.Add(-30 * time.Hour),
		midnight, midnight.Add(-time.Millisecond), midnight.Add(30 * time.Second), midnight.Add(61 * time.Minute),
	} {
		for _, dim := range storedDims {
			c.compareCounts(dim, allWindows, instant)
		}
	}
	for _, thin := range []struct{ many, kept, sample int }{{20, 10, 1}, {50, 8, 4}, {0, 0, 1}} {
		c.db.Thin(thin.many, thin.kept, thin.sample)
		for _, dim := range storedDims {
			if leftOut := c.compareCounts(dim, allWindows, now); leftOut > 0 != (dim != topk.DimGlobal) {
				t.Errorf("%s %v: %d songs were left out", dim, thin, leftOut)
			}
		}
	}
	// Of windows chosen freely, one that has ended among them.
	fixed, err := topk.Between(midnight.Add(-50*time.Hour-time.Second), midnight.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c.compareCounts(topk.DimRegion, []topk.Window{fixed, topk.LastHour}, now)
}

// follower keeps what Arrivals gave.
type follower struct {
	*chain
	pos   queries.LogPosition
	plays map[uint32][]queries.Play
}

func (c *chain) follow() *follower { return &follower{chain: c, plays: map[uint32][]queries.Play{}} }

// poll reads once.
func (f *follower) poll(limit int) (more bool, err error) {
	next, more, err := f.db.Arrivals(f.Context(), f.pos, limit, func(p queries.Play) error {
		if p.Koff < f.pos.Next[p.Src] {
			f.Errorf("source %d: offset %d again", p.Src, p.Koff)
		}
		if read := f.plays[p.Src]; len(read) > 0 && read[len(read)-1].Koff >= p.Koff {
			f.Errorf("source %d: offset %d after %d", p.Src, p.Koff, read[len(read)-1].Koff)
		}
		f.plays[p.Src] = append(f.plays[p.Src], p)
		return nil
	})
	if err == nil {
		for src, read := range f.plays {
			if last := read[len(read)-1].Koff; last >= next.Next[src] {
				f.Errorf("source %d: offset %d lies beyond the position %d", src, last, next.Next[src])
			}
		}
		f.pos = next
	}
	return more, err
}

// catchUp reads until there is no more.
func (f *follower) catchUp(limit int) (polls int) {
	f.Helper()
	for more := true; more; polls++ {
		var err error
		if more, err = f.poll(limit); err != nil {
			f.Fatal(err)
		}
	}
	return polls
}

// A follower reads each play once and in order, of sources it has never heard
// of, over gaps in the offsets however wide, and passes what does not count.
func TestArrivals(t *testing.T) {
	c := newChain(t)
	f := c.follow()
	f.catchUp(100)
	plays := randomPlays(31, 3000)
	c.append(0, plays[:1000]...)
	c.append(3, plays[1000:1010]...)
	if polls := f.catchUp(100); polls != 10 {
		t.Errorf("%d polls, want 10", polls)
	}
	c.next[0] += 1_000_000 // a gap
	c.append(0, plays[1010:1500]...)
	c.next[8] = 5_000_000 // a source that begins late
	c.append(8, plays[1500:1600]...)
	if polls := f.catchUp(100); polls > 6 {
		t.Errorf("%d polls", polls)
	}
	c.exec(`INSERT INTO plays (src, koff, at, ts, counted) SELECT 4, number * 1000, now64(3), now64(3), false FROM numbers(100)`)
	if f.catchUp(2000); f.pos.Next[4] != 99_001 || len(f.plays[4]) > 0 {
		t.Errorf("plays that do not count: position %d, %d plays", f.pos.Next[4], len(f.plays[4]))
	}
	if want := (topk.Watermark{0: 1_001_490, 3: 10, 4: 99_001, 8: 5_000_100}); !maps.Equal(f.pos.Next, want) || !maps.Equal(f.pos.Heads, want) {
		t.Errorf("position %v, want %v", f.pos, want)
	}
	f.match(0, slices.Concat(plays[:1000], plays[1010:1500]))
	f.match(3, plays[1000:1010])
	f.match(8, plays[1500:1600])
}

// match finds the plays of a source to be those that were put there.
func (f *follower) match(src uint32, want []topk.Play) {
	f.Helper()
	if len(f.plays[src]) != len(want) {
		f.Errorf("source %d: %d plays, want %d", src, len(f.plays[src]), len(want))
		return
	}
	for i, p := range want {
		got := f.plays[src][i]
		expected := queries.Play{
			Src: src, Koff: got.Koff, TS: p.Timestamp.UnixMilli(), SongID: p.SongID, Country: p.Region.Country, Region: p.Region.String(),
			Device: p.Device, Segments: f.users[p.UserID], ContextKind: p.Context.Kind, ContextID: p.Context.ID,
		}
		if fmt.Sprint(got) != fmt.Sprint(expected) {
			f.Errorf("source %d: play %d is %+v, want %+v", src, i, got, expected)
			return
		}
	}
}

// While plays stream into several sources, a follower that goes on from Counts
// has, together with these, each play once at every moment.
func TestFollowerGoesOnFromCounts(t *testing.T) {
	c := newChain(t)
	const srcs = 3
	plays := map[uint32][]topk.Play{}
	for src := range uint32(srcs) {
		plays[src] = randomPlays(40+int(src), 3000)
		for i := range plays[src] {
			plays[src][i].Timestamp = now.Add(-time.Minute)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for src := range uint32(srcs) {
		c.next[src] = 0
	}
	writers.Go(func() {
		defer cancel()
		for i := range 30 * srcs {
			src := uint32(i % srcs)
			from := int(c.next[src])
			c.append(src, plays[src][from:from+100]...)
		}
	})
	writers.Go(func() {
		for ctx.Err() == nil {
			for _, rollup := range []string{"rollup_hour", "rollup_day"} {
				c.exec("SYSTEM REFRESH VIEW " + rollup + "_fill")
				c.exec("SYSTEM WAIT VIEW " + rollup + "_fill")
			}
		}
	})
	rounds := 0
	for last := false; !last; rounds++ {
		last = ctx.Err() != nil
		got := &counted{TB: t}
		var err error
		f := c.follow()
		f.pos, err = c.db.Counts(t.Context(), topk.DimGlobal, allWindows, now, got)
		if err != nil {
			t.Fatal(err)
		}
		base := maps.Clone(f.pos.Next)
		for range 3 {
			var read, want uint64
			if _, err := f.poll(250); err != nil {
				t.Fatal(err)
			}
			for src, next := range f.pos.Next {
				want += next
				read += uint64(len(f.plays[src]))
				if uint64(len(f.plays[src])) != next-base[src] {
					t.Errorf("source %d: %d plays from %d to %d", src, len(f.plays[src]), base[src], next)
				}
			}
			if v := got.values[""]; v != nil {
				read += v.totals[1]
			}
			if read != want {
				t.Errorf("%d plays at %v, want %d", read, f.pos.Next, want)
			}
		}
	}
	writers.Wait()
	t.Logf("%d rounds", rounds)
}

// Plays of a span of event time, below a position.
func TestLeaving(t *testing.T) {
	c := newChain(t)
	plays := randomPlays(51, 2000)
	c.append(0, plays[:1000]...)
	c.append(1, plays[1000:]...)
	below := topk.Watermark{0: 700, 1: 300}
	for _, span := range []topk.Span{
		{Start: now.Add(-25 * time.Hour), End: now.Add(-24 * time.Hour)},
		{Start: now.Add(time.Millisecond), End: now.Add(time.Hour)},
		{Start: time.UnixMilli(0), End: now.Add(time.Hour)},
	} {
		want, got := map[string]int{}, map[string]int{}
		for _, p := range slices.Concat(plays[:700], plays[1000:1300]) {
			if span.Contains(p.Timestamp) {
				want[p.SongID]++
			}
		}
		if err := c.db.Leaving(t.Context(), span, below, func(p queries.Play) error {
			got[p.SongID]++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !maps.Equal(got, want) || len(want) == 0 {
			t.Errorf("from %s to %s: %v, want %v", span.Start, span.End, got, want)
		}
	}
}

// A follower learns when the log is not the one it has read.
func TestArrivalsNoticeARewrite(t *testing.T) {
	c := newChain(t)
	c.append(0, randomPlays(61, 100)...)
	c.append(5, randomPlays(62, 100)...)
	c.fill("rollup_day")
	c.fill("rollup_hour")
	ctx := t.Context()
	anew := func() *follower {
		f := c.follow()
		var err error
		if f.pos, err = c.db.Counts(ctx, topk.DimGlobal, allWindows, now, &counted{TB: t}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.poll(1000); err != nil {
			t.Fatal(err)
		}
		return f
	}
	rewritten := func(f *follower) {
		t.Helper()
		if _, err := f.poll(1000); !errors.Is(err, queries.ErrRewritten) {
			t.Errorf("got %v, want ErrRewritten", err)
		}
	}
	f := anew()
	c.exec("INSERT INTO rewrites (reason) VALUES ('a test')")
	rewritten(f)
	f = anew()
	c.exec("ALTER TABLE plays DELETE WHERE src = 5 SETTINGS mutations_sync = 2")
	rewritten(f)
	// As if it was long ago that the source had its last play.
	c.exec("ALTER TABLE rollup_day UPDATE wmAt = now64(3) - INTERVAL 100 DAY WHERE val = '5' SETTINGS mutations_sync = 2")
	c.exec("ALTER TABLE rollup_hour UPDATE wmAt = now64(3) - INTERVAL 100 DAY WHERE val = '5' SETTINGS mutations_sync = 2")
	if more, err := f.poll(1000); err != nil || more || f.pos.Heads[5] != 0 || f.pos.Next[5] != 100 {
		t.Errorf("a source that expired: %v, %v", f.pos, err)
	}
	f = anew()
	if f.pos.Next[5] != 100 {
		t.Errorf("a source that expired: %v", f.pos)
	}
	c.exec("ALTER TABLE plays DELETE WHERE src = 0 AND koff >= 90 SETTINGS mutations_sync = 2")
	rewritten(f)
}

func TestCatalog(t *testing.T) {
	c := newChain(t)
	read := func(within time.Duration) map[string]topk.Song {
		songs := map[string]topk.Song{}
		if err := c.db.Catalog(t.Context(), within, func(s topk.Song) error {
			songs[s.SongID] = s
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return songs
	}
	all := read(0)
	if len(all) == 0 {
		t.Fatal("no songs")
	}
	c.exec("INSERT INTO songs SELECT * REPLACE (now64(3) - INTERVAL 1 HOUR AS updatedAt, 'old' AS songId) FROM songs LIMIT 1")
	changed := topk.Song{SongID: "s1", Title: "Another", ArtistID: "a9", Artist: "A", Genres: []string{"jazz"}, DurationMS: 1}
	if err := c.db.UpsertSongs(t.Context(), []topk.Song{changed}); err != nil {
		t.Fatal(err)
	}
	recent := read(59 * time.Minute)
	if _, old := recent["old"]; old || fmt.Sprint(recent["s1"]) != fmt.Sprint(changed) {
		t.Errorf("within the hour: %v", recent)
	}
	if len(read(0)) != len(all)+1 {
		t.Error("not all songs were read")
	}
}
