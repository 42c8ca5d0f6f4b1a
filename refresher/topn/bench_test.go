package topn

import (
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// benchSongs interns n songs with ids as long as real ones.
func benchSongs(b *testing.B, n int) *Songs {
	b.Helper()
	songs := NewSongs(n)
	rng := rand.New(rand.NewPCG(1, 2))
	for range n {
		if _, err := songs.Intern(fmt.Sprintf("%016x%06x", rng.Uint64(), rng.Uint32N(1<<24))); err != nil {
			b.Fatal(err)
		}
	}
	return songs
}

// timeCPU reports the CPU time of an operation, with the garbage collector's
// share: what counts on a machine that does other things, too.
func timeCPU(b *testing.B) {
	b.Helper()
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	start := used()
	b.Cleanup(func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") })
}

// popular draws n songs out of all, song 0 being the most popular: the k-th has
// a share of about 1/k.
func popular(rng *rand.Rand, songs, n int) []Song {
	draws := make([]Song, n)
	for i := range draws {
		draws[i] = Song(math.Pow(float64(songs), rng.Float64())) - 1
	}
	return draws
}

// country is a chart of a day of a large country: not complete. It gives the
// plays that its window holds, the oldest first.
func country(b *testing.B, songs *Songs, plays int) (*Chart, []Song) {
	b.Helper()
	rng := rand.New(rand.NewPCG(3, 4))
	w := &window{songs: songs, plays: popular(rng, songs.Len(), plays)}
	c := NewChart(songs, DefaultLimits())
	w.rebase(c, 0, rng)
	if !c.Settle() {
		b.Fatalf("not settled: %+v", c.Stats())
	}
	return c, w.plays
}

// An update is an Add or an Expire. The chart is settled 100 times a window.
func BenchmarkUpdate(b *testing.B) {
	songs := benchSongs(b, 1_000_000)
	rng := rand.New(rand.NewPCG(5, 6))
	for _, size := range []struct {
		name  string
		plays int
	}{{"city of 10k plays", 10_000}, {"country of 2M plays", 2_000_000}} {
		b.Run(size.name, func(b *testing.B) {
			c, plays := country(b, songs, size.plays)
			arriving := popular(rng, songs.Len(), size.plays)
			i, rebases := 0, 0
			timeCPU(b)
			timeCPU(b)
			for b.Loop() {
				at := i / 2 % len(plays)
				if i%2 == 0 {
					c.Add(arriving[at])
				} else {
					c.Expire(plays[at])
					plays[at] = arriving[at]
				}
				if i++; i%(len(plays)/100) == 0 && !c.Settle() {
					rebases++
					b.StopTimer()
					(&window{songs: songs, plays: plays}).rebase(c, 0, rng)
					c.Settle()
					b.StartTimer()
				}
			}
			s := c.Stats()
			b.ReportMetric(float64(rebases), "rebases")
			b.ReportMetric(float64(s.Bytes)/float64(s.Candidates+s.Pending), "B/entry")
		})
	}
}

// Many charts take turns, as they do in the refresher: each is cold.
func BenchmarkUpdateOfManyCharts(b *testing.B) {
	songs := benchSongs(b, 1_000_000)
	rng := rand.New(rand.NewPCG(5, 6))
	charts := make([]*Chart, 4000)
	draws := popular(rng, songs.Len(), 1<<20)
	for i := range charts {
		charts[i] = NewChart(songs, DefaultLimits())
		for range 3000 {
			charts[i].Add(draws[rng.IntN(len(draws))])
		}
		charts[i].Settle()
	}
	order := make([]uint16, 1<<16)
	for i := range order {
		order[i] = uint16(rng.IntN(len(charts)))
	}
	var held [4000]int // 1 + the last song added to each
	i := 0
	timeCPU(b)
	for b.Loop() {
		at := order[i%len(order)]
		if held[at] == 0 {
			song := draws[i%len(draws)]
			held[at] = 1 + int(song)
			charts[at].Add(song)
		} else {
			charts[at].Expire(Song(held[at] - 1))
			held[at] = 0
		}
		i++
	}
	bytes, entries := 0, 0
	for _, c := range charts {
		s := c.Stats()
		bytes, entries = bytes+s.Bytes, entries+s.Candidates+s.Pending
	}
	b.ReportMetric(float64(bytes)/float64(entries), "B/entry")
}

// What publishing costs besides the updates: k of them, then Settle and Top.
func BenchmarkSettleAndTop(b *testing.B) {
	songs := benchSongs(b, 1_000_000)
	rng := rand.New(rand.NewPCG(5, 6))
	c, _ := country(b, songs, 2_000_000)
	arriving := popular(rng, songs.Len(), 1<<16)
	for _, k := range []int{0, 1, 10} {
		b.Run(fmt.Sprintf("after %d adds", k), func(b *testing.B) {
			i := 0
			timeCPU(b)
			timeCPU(b)
			for b.Loop() {
				for range k {
					c.Add(arriving[i%len(arriving)])
					i++
				}
				if !c.Settle() {
					b.Fatal("not settled")
				}
				c.Top()
				for j := i - k; j < i; j++ {
					c.Expire(arriving[j%len(arriving)])
				}
			}
		})
	}
}

// The minute in which many of the first songs fall at once.
func BenchmarkSettleAnew(b *testing.B) {
	songs := benchSongs(b, 1_000_000)
	c, _ := country(b, songs, 2_000_000)
	b.ReportMetric(float64(c.Stats().Candidates), "candidates")
	timeCPU(b)
	for b.Loop() {
		c.head = c.head[:0]
		if !c.Settle() {
			b.Fatal("not settled")
		}
	}
}

func BenchmarkRankingOfDense(b *testing.B) {
	const n = 1_000_000
	songs := benchSongs(b, n)
	var d Dense
	for _, song := range popular(rand.New(rand.NewPCG(5, 6)), n, 10*n) {
		d.Add(song)
	}
	r := NewRanking(songs, 200)
	timeCPU(b)
	for b.Loop() {
		r.Reset()
		for song, plays := range d.All() {
			r.Offer(song, plays)
		}
		r.Sorted()
	}
}

func BenchmarkDiff(b *testing.B) {
	songs := benchSongs(b, 1_000_000)
	c, _ := country(b, songs, 2_000_000)
	before := c.Top()
	c.Add(before[150].Song)
	for _, changed := range []string{"one", "all"} {
		b.Run(changed, func(b *testing.B) {
			var p Published
			p.Set(before)
			after := c.Top()
			if changed == "all" {
				for i := range after {
					after[i].Plays++
				}
			}
			timeCPU(b)
			timeCPU(b)
			for b.Loop() {
				p.Diff(after)
			}
		})
	}
}

func BenchmarkIntern(b *testing.B) {
	songs := benchSongs(b, 1_000_000)
	draws := popular(rand.New(rand.NewPCG(5, 6)), songs.Len(), 1<<16)
	ids := make([]string, len(draws))
	for i, song := range draws {
		ids[i] = songs.ID(song)
	}
	i := 0
	timeCPU(b)
	for b.Loop() {
		if _, err := songs.Intern(ids[i%len(ids)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
