package topn

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func TestSongs(t *testing.T) {
	songs := NewSongs(3)
	a, errA := songs.Intern("a")
	b, errB := songs.Intern("b")
	again, errAgain := songs.Intern(strings.Clone("a"))
	if err := errors.Join(errA, errB, errAgain); err != nil {
		t.Fatal(err)
	}
	if a == b || again != a || songs.ID(a) != "a" || songs.ID(b) != "b" || songs.Len() != 2 {
		t.Errorf("songs %d, %d, %d: %q and %q of %d", a, b, again, songs.ID(a), songs.ID(b), songs.Len())
	}
	if _, err := songs.Intern("c"); err != nil {
		t.Error(err)
	}
	if _, err := songs.Intern("d"); !errors.Is(err, ErrFull) {
		t.Errorf("the fourth of three gives error %v", err)
	}
	if again, err := songs.Intern("b"); err != nil || again != b {
		t.Errorf("a known song when full: %d, %v", again, err)
	}
}

// Many intern the same ids at once and read them while others are added.
func TestSongsConcurrently(t *testing.T) {
	const n = 3 * chunkSongs / 2 // more than one chunk
	songs := NewSongs(n)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 0))
			for _, i := range rng.Perm(n) {
				id := fmt.Sprint(i)
				song, err := songs.Intern(id)
				if err != nil || songs.ID(song) != id {
					t.Errorf("%q is %q, error %v", id, songs.ID(song), err)
					return
				}
			}
		})
	}
	wg.Wait()
	if songs.Len() != n {
		t.Errorf("%d songs, want %d", songs.Len(), n)
	}
}

func TestCompareIsChartOrder(t *testing.T) {
	songs := NewSongs(10)
	intern := func(id string) Song {
		song, err := songs.Intern(id)
		if err != nil {
			t.Fatal(err)
		}
		return song
	}
	// In bytes, not as a person would sort: Z < a < é.
	want := []Count{{intern("x"), 9}, {intern("é"), 5}, {intern("a"), 5}, {intern("Z"), 5}, {intern("10"), 5}, {intern(""), 5}, {intern("zz"), 1}}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, songs.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("sorted %v, want %v", got, want)
	}
	if songs.Compare(want[0], want[0]) != 0 {
		t.Error("a count differs from itself")
	}
}

func TestRankingEqualsSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		songs := NewSongs(300)
		for _, i := range rng.Perm(300) {
			if _, err := songs.Intern(fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		r := NewRanking(songs, rapid.IntRange(1, 60).Draw(t, "n"))
		for range 2 {
			var all []Count
			r.Reset()
			most := rapid.Uint64Range(1, 1000).Draw(t, "most plays") // few means ties
			for song := range Song(rapid.IntRange(0, 300).Draw(t, "songs")) {
				plays := rng.Uint64N(most + 1)
				r.Offer(song, plays)
				if plays > 0 {
					all = append(all, Count{song, plays})
				}
			}
			slices.SortFunc(all, songs.Compare)
			if got, want := r.Sorted(), all[:min(len(all), r.n)]; !slices.Equal(got, want) {
				t.Fatalf("ranking %v, want %v", got, want)
			}
		}
	})
}

func TestDense(t *testing.T) {
	var d Dense
	d.Add(5)
	d.Add(5)
	d.Add(2)
	d.Put(100, 1<<40)
	d.Put(100, 7)
	d.Expire(2)
	if d.Count(5) != 2 || d.Count(2) != 0 || d.Count(100) != 7 || d.Count(1_000_000) != 0 || d.Total() != 9 {
		t.Errorf("counts %d, %d, %d of %d", d.Count(5), d.Count(2), d.Count(100), d.Total())
	}
	var all []Count
	for song, plays := range d.All() {
		all = append(all, Count{song, plays})
	}
	if want := []Count{{5, 2}, {100, 7}}; !slices.Equal(all, want) {
		t.Errorf("all %v, want %v", all, want)
	}
	d.Expire(2)
	d.Expire(1_000_000)
	if d.Inconsistent() != 2 || d.Total() != 9 {
		t.Errorf("%d inconsistent, total %d", d.Inconsistent(), d.Total())
	}
}

// What Diff says, applied to what was published, gives the new chart, and
// nothing is said that need not be.
func TestDiffLeadsToTheNewChart(t *testing.T) {
	chart := func(rng *rand.Rand, n int) []Count {
		var top []Count
		for song := range Song(20) {
			top = append(top, Count{song, 1 + rng.Uint64N(6)})
		}
		rng.Shuffle(len(top), func(i, j int) { top[i], top[j] = top[j], top[i] })
		top = top[:n]
		slices.SortFunc(top, func(a, b Count) int { return int(b.Plays) - int(a.Plays) })
		return top
	}
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var p Published
		members := map[Song]uint64{}
		for range 5 {
			top := chart(rng, rapid.IntRange(0, 15).Draw(t, "n"))
			if rapid.Bool().Draw(t, "lost") {
				p.Forget()
				clear(members)
			}
			removed, set := p.Diff(top)
			for _, song := range removed {
				if _, there := members[song]; !there {
					t.Fatalf("removed %d, which is not there", song)
				}
				delete(members, song)
			}
			for _, c := range set {
				if members[c.Song] == c.Plays {
					t.Fatalf("set %v, which is so already", c)
				}
				members[c.Song] = c.Plays
			}
			if len(members) != len(top) {
				t.Fatalf("members %v, want %v", members, top)
			}
			for _, c := range top {
				if members[c.Song] != c.Plays {
					t.Fatalf("members %v, want %v", members, top)
				}
			}
			p.Set(top)
			if removed, set := p.Diff(top); !p.Known() || len(removed)+len(set) != 0 {
				t.Fatalf("published, yet removed %v, set %v", removed, set)
			}
		}
	})
}
