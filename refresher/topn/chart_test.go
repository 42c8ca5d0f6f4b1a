package topn

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// shuffledSongs interns n songs so that the order of interning says nothing of
// the order of ids.
func shuffledSongs(t testing.TB, n int, rng *rand.Rand) *Songs {
	t.Helper()
	songs := NewSongs(n)
	for _, i := range rng.Perm(n) {
		if _, err := songs.Intern(fmt.Sprintf("song-%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	return songs
}

// window is the oracle: every play that a window holds, counted by brute force.
type window struct {
	songs *Songs
	plays []Song // in the order of their arrival
}

func (w *window) counts() []Count {
	bySong := map[Song]uint64{}
	for _, song := range w.plays {
		bySong[song]++
	}
	all := make([]Count, 0, len(bySong))
	for song, plays := range bySong {
		all = append(all, Count{song, plays})
	}
	slices.SortFunc(all, w.songs.Compare)
	return all
}

func (w *window) leave(i int) Song {
	song := w.plays[i]
	w.plays = slices.Delete(w.plays, i, i+1)
	return song
}

// rebase fills the chart from the oracle in one of the forms that a rebase may
// have.
func (w *window) rebase(c *Chart, form int, rng *rand.Rand) {
	all := w.counts()
	floor, rows := Count{}, all
	if limit := c.limits.Complete; len(all) > limit {
		switch form {
		case 0: // one row more than is kept: the floor
			floor, rows = all[limit], all[:limit]
		case 1: // all that have more plays
			floor = Count{AnySong, all[limit].Plays}
			rows = slices.DeleteFunc(slices.Clone(all), func(c Count) bool { return c.Plays <= floor.Plays })
		case 2: // everything, as a cold start does
		}
	}
	rows = slices.Clone(rows)
	rng.Shuffle(len(rows), func(i, j int) { rows[i], rows[j] = rows[j], rows[i] })
	c.Reset(floor, uint64(len(w.plays)))
	for _, row := range rows {
		c.Put(row.Song, row.Plays)
	}
}

// checkInvariant compares every bound with the truth, whether or not it
// matters to the first N now.
func checkInvariant(t *rapid.T, c *Chart, truth []Count) {
	candidates, pending := map[Song]uint64{}, map[Song]uint64{}
	for _, e := range c.candidates.entries() {
		candidates[e.song()] = e.plays()
	}
	for _, e := range c.pending.entries() {
		pending[e.song()] = e.plays()
		if e.plays() > c.peak {
			t.Fatalf("song %d has %d pending, above the peak %d", e.song(), e.plays(), c.peak)
		}
	}
	if len(candidates) > c.limits.Complete+c.limits.Complete/4+1 || len(pending) > c.limits.Pending {
		t.Fatalf("%d candidates, %d pending: above the limits %+v", len(candidates), len(pending), c.limits)
	}
	for _, count := range truth {
		if plays, is := candidates[count.Song]; is {
			if plays != count.Plays {
				t.Fatalf("candidate %d has %d plays, want %d", count.Song, plays, count.Plays)
			}
			delete(candidates, count.Song)
			continue
		}
		waiting := pending[count.Song]
		over := count.Plays > waiting && c.above(pack(count.Song, count.Plays-waiting), c.floor)
		if over {
			t.Fatalf("%q has %d plays, %d pending: above the floor %+v", c.songs.ID(count.Song), count.Plays, waiting, c.floor)
		}
	}
	if len(candidates) > 0 {
		t.Fatalf("candidates without plays: %v", candidates)
	}
	for i := 1; i < len(c.head); i++ {
		if c.songs.compare(c.head[i-1], c.head[i]) >= 0 {
			t.Fatalf("head is out of order at %d: %v", i, counts(c.head))
		}
	}
	if len(c.head) > 0 {
		inHead := map[Song]bool{}
		for _, e := range c.head {
			inHead[e.song()] = true
		}
		for _, e := range c.candidates.entries() {
			if !inHead[e.song()] && c.songs.compare(e, c.head[len(c.head)-1]) < 0 {
				t.Fatalf("candidate %v is outside head %v", e.count(), counts(c.head))
			}
		}
	}
}

// What a chart vouches for equals brute force, whatever enters and leaves, in
// whatever order, and its bounds hold at every moment.
func TestChartEqualsBruteForce(t *testing.T) {
	var incomplete, kept int // settles of charts that are not complete, not just rebased; without a rebase
	rapid.Check(t, func(t *rapid.T) {
		limits := Limits{N: rapid.IntRange(1, 4).Draw(t, "n"), Pending: rapid.IntRange(1, 7).Draw(t, "pending")}
		limits.Candidates = limits.N + rapid.IntRange(0, 2).Draw(t, "more candidates")
		limits.Complete = limits.Candidates + rapid.IntRange(0, 5).Draw(t, "complete")
		// One draw seeds the many choices that need not shrink one by one.
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		const distinct = 30
		songs := NewSongs(distinct)
		for _, i := range rng.Perm(distinct) {
			if _, err := songs.Intern(fmt.Sprintf("song-%d", i)); err != nil {
				t.Fatal(err)
			}
		}
		w := &window{songs: songs}
		c := NewChart(songs, limits)

		// Steeper popularity makes steadier charts, 1 makes flat ones.
		steep := rapid.IntRange(1, 5).Draw(t, "steepness")
		song := func() Song {
			u := 1.0
			for range steep {
				u *= rng.Float64()
			}
			return Song(u * distinct)
		}
		enter := func(song Song) {
			w.plays = append(w.plays, song)
			c.Add(song)
		}
		settle := func(t *rapid.T) {
			rebased := c.loaded
			ok := c.Settle()
			if !rebased && !c.complete() {
				incomplete++
				if ok {
					kept++
				}
			}
			if !ok {
				// Only the first row left out says enough about any ties.
				w.rebase(c, 0, rng)
				if !c.Settle() {
					t.Fatalf("not settled right after a rebase: %+v", c.Stats())
				}
			}
			truth := w.counts()
			want := truth[:min(len(truth), limits.N)]
			if got := c.Top(); !slices.Equal(got, want) {
				t.Fatalf("top is %v, want %v; %+v", got, want, c.Stats())
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"plays": func(t *rapid.T) {
				for range rapid.IntRange(1, 60).Draw(t, "plays") {
					enter(song())
				}
			},
			"burst": func(t *rapid.T) {
				one := Song(rapid.IntRange(0, distinct-1).Draw(t, "song"))
				for range rapid.IntRange(1, 8).Draw(t, "plays") {
					enter(one)
				}
			},
			"every song": func(*rapid.T) {
				for i := range distinct {
					enter(Song(i))
				}
			},
			"oldest leave": func(t *rapid.T) {
				for range min(len(w.plays), rapid.IntRange(1, 40).Draw(t, "plays")) {
					c.Expire(w.leave(0))
				}
			},
			"some leave": func(t *rapid.T) { // late plays are not in order
				for range min(len(w.plays), rapid.IntRange(1, 10).Draw(t, "plays")) {
					c.Expire(w.leave(rng.IntN(len(w.plays))))
				}
			},
			"most leave": func(t *rapid.T) {
				for len(w.plays) > 12 {
					c.Expire(w.leave(0))
				}
			},
			"all of a song leave": func(t *rapid.T) {
				one := song()
				for i := len(w.plays) - 1; i >= 0; i-- {
					if w.plays[i] == one {
						c.Expire(w.leave(i))
					}
				}
			},
			"enter and leave": func(t *rapid.T) {
				for range rapid.IntRange(1, 30).Draw(t, "plays") {
					enter(song())
					if len(w.plays) > 1 {
						c.Expire(w.leave(0))
					}
				}
			},
			"rebase": func(t *rapid.T) {
				w.rebase(c, rapid.IntRange(0, 2).Draw(t, "form"), rng)
				// As a rebase that is being caught up with.
				for range rapid.IntRange(0, 3).Draw(t, "plays before it settles") {
					enter(song())
				}
				for range min(len(w.plays), rapid.IntRange(0, 6).Draw(t, "leave before it settles")) {
					c.Expire(w.leave(rng.IntN(len(w.plays))))
				}
			},
			"settle":       settle,
			"settle again": settle, // as likely as two of the others
			"": func(t *rapid.T) {
				if c.Total() != uint64(len(w.plays)) {
					t.Fatalf("total %d, want %d", c.Total(), len(w.plays))
				}
				checkInvariant(t, c, w.counts())
			},
		})
	})
	t.Logf("%d of %d charts that were not complete settled without a rebase", kept, incomplete)
	if kept < incomplete/20 || kept > incomplete*19/20 {
		t.Errorf("%d of %d charts that were not complete settled without a rebase: both ways must be exercised", kept, incomplete)
	}
}

// Steady traffic is what a chart is made for: it stays exact with few rebases.
func TestChartIsRarelyRebased(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	songs := shuffledSongs(t, 5000, rng)
	c := NewChart(songs, Limits{N: 20, Candidates: 40, Complete: 400, Pending: 200})
	zipf := rand.NewZipf(rng, 1.1, 5, 4999)
	w := &window{songs: songs}
	rebases, settles := 0, 0
	for i := range 60_000 {
		song := Song(zipf.Uint64())
		w.plays = append(w.plays, song)
		c.Add(song)
		if len(w.plays) > 20_000 {
			c.Expire(w.plays[0])
			w.plays = w.plays[1:]
		}
		if i%100 != 0 {
			continue
		}
		settles++
		if !c.Settle() {
			rebases++
			w.rebase(c, 0, rng)
			if !c.Settle() {
				t.Fatalf("not settled after a rebase: %+v", c.Stats())
			}
		}
		if i > 0 && i%2000 == 0 {
			if got, want := c.Top(), w.counts()[:20]; !slices.Equal(got, want) {
				t.Fatalf("after %d plays top is %v, want %v", i, got, want)
			}
		}
	}
	t.Logf("%d rebases in %d settles; %+v", rebases, settles, c.Stats())
	if rebases > settles/50 {
		t.Errorf("%d rebases in %d settles", rebases, settles)
	}
	if c.Stats().Complete {
		t.Error("the chart was complete: no bound was needed")
	}
}

// A chart that is wrong says so until it is rebased.
func TestChartRefusesAnExpiryOfNothing(t *testing.T) {
	songs := shuffledSongs(t, 2, rand.New(rand.NewPCG(1, 1)))
	c := NewChart(songs, DefaultLimits())
	c.Add(0)
	if !c.Settle() {
		t.Fatal("one play does not settle")
	}
	c.Expire(1)
	if c.Settle() || c.Stats().Inconsistent != 1 {
		t.Errorf("a play expired that was never added: %+v", c.Stats())
	}
	c.Reset(Count{}, 1)
	c.Put(0, 1)
	if !c.Settle() || !slices.Equal(c.Top(), []Count{{0, 1}}) {
		t.Errorf("rebased: %v, %+v", c.Top(), c.Stats())
	}
	c.Expire(0)
	if !c.Settle() || len(c.Top()) != 0 || c.Total() != 0 {
		t.Errorf("emptied: %v, %+v", c.Top(), c.Stats())
	}
	c.Expire(0)
	if c.Settle() {
		t.Error("a play expired from an empty chart")
	}
}

// All songs tied, far more of them than are kept: only ids decide, and one
// floor row is enough to know.
func TestChartOfTies(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	songs := shuffledSongs(t, 100, rng)
	w := &window{songs: songs}
	for song := range 100 {
		w.plays = append(w.plays, Song(song))
	}
	for form := range 3 {
		if form == 1 {
			continue // does not say how ties are decided
		}
		c := NewChart(songs, Limits{N: 3, Candidates: 4, Complete: 8, Pending: 6})
		w.rebase(c, form, rng)
		if !c.Settle() || !slices.Equal(c.Top(), w.counts()[:3]) {
			t.Errorf("form %d: top is %v, want %v", form, c.Top(), w.counts()[:3])
		}
	}
}

func TestTableEqualsMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var table table
		want := map[Song]uint64{}
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		ops := rapid.IntRange(0, 2000).Draw(t, "ops")
		songs := rapid.Uint64Range(1, 300).Draw(t, "songs")
		for i := range ops {
			song := Song(rng.Uint64N(songs))
			// It fills up and empties again.
			switch adds := rng.IntN(4) < 3; adds == (i < ops/2) {
			case true:
				want[song]++
				if got := table.add(song); got != want[song] {
					t.Fatalf("add gives %d, want %d", got, want[song])
				}
			case false:
				plays, found := table.remove(song)
				if found != (want[song] > 0) {
					t.Fatalf("remove found %v, want %d plays", found, want[song])
				}
				if found {
					want[song]--
				}
				if want[song] == 0 {
					delete(want, song)
				}
				if plays != want[song] {
					t.Fatalf("remove leaves %d, want %d", plays, want[song])
				}
			}
			if table.n != len(want) {
				t.Fatalf("%d entries, want %d", table.n, len(want))
			}
		}
		got := map[Song]uint64{}
		for _, e := range table.entries() {
			got[e.song()] = e.plays()
		}
		if !maps.Equal(got, want) {
			t.Fatalf("entries %v, want %v", got, want)
		}
	})
}

// A table gives back its memory, and wastes little of it while it grows.
func TestTableMemory(t *testing.T) {
	var table table
	const n = 100_000
	var perEntry float64
	for song := range Song(n) {
		table.add(song * 31)
		perEntry += float64(table.bytes()) / float64(table.n)
	}
	if mean := perEntry / n; mean > 11.5 {
		t.Errorf("%.1f bytes an entry on average", mean)
	}
	for song := range Song(n) {
		table.remove(song * 31)
	}
	if table.bytes() > 8*leastSlots {
		t.Errorf("%d bytes when empty", table.bytes())
	}
}
