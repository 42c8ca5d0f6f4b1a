package queries_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
)

// unevenChain is a chain whose rollups are at different places of the log: what
// was counted by day, what by hour, and what lies beyond, in sources that have
// moved unevenly.
func unevenChain(t testing.TB, seed int) *chain {
	t.Helper()
	c := newChain(t)
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	plays := randomPlays(seed, 12_000)
	part := func(from, to int, srcs ...uint32) {
		for i, src := range srcs {
			n := (to - from) / len(srcs)
			c.append(src, plays[from+i*n:from+(i+1)*n]...)
		}
	}
	part(0, 6000, 0, 1, 2)
	c.exec("SYSTEM START VIEW rollup_day_fill")
	c.fill("rollup_day")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	part(6000, 8000, 1)
	part(8000, 9000, 2, 7) // a source the day rollup does not know
	c.exec("SYSTEM START VIEW rollup_hour_fill")
	c.fill("rollup_hour")
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	part(9000, 12_000, 0, 1, 9) // and one that no rollup knows
	return c
}

// A question is a chart that may be asked for.
type question struct {
	filter topk.Filter
	window topk.Window
}

// ask asks n questions, several at once: first of every dimension alone and
// every pair of two, each in another window; then random ones.
func (c *chain) ask(n int, compare func(question)) {
	c.Helper()
	term := func(dim topk.Dimension) *rapid.Generator[topk.Term] {
		return rapid.Custom(oracle.Term).Filter(func(t topk.Term) bool { return t.Dim == dim })
	}
	window := rapid.Custom(func(t *rapid.T) topk.Window { return oracle.Window(t, now) })
	var kinds []topk.Filter
	for i, one := range topk.Dimensions() {
		kinds = append(kinds, topk.NewFilter(term(one).Example(i)))
		for j, other := range topk.Dimensions()[i:] {
			kinds = append(kinds, topk.NewFilter(term(one).Example(i+j), term(other).Example(100+i+j)))
		}
	}
	questions := make(chan question)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for q := range questions {
				compare(q)
			}
		})
	}
	filter := rapid.Custom(oracle.Filter)
	for i := range n {
		q := question{filter: filter.Example(i), window: window.Example(i)}
		if i < len(kinds) {
			q.filter = kinds[i]
		}
		questions <- q
	}
	close(questions)
	workers.Wait()
}

// Charts of random windows and every kind of filter equal the brute-force count.
func TestChartEqualsTheCountOfPlays(t *testing.T) {
	c := unevenChain(t, 1)
	c.ask(400, func(q question) { c.compare(q.filter, q.window) })
}

// So do charts by listeners, and pages put together, whatever their length.
func TestListenersAndPagesEqualTheCountOfPlays(t *testing.T) {
	c := unevenChain(t, 1)
	var asked atomic.Int64
	c.ask(150, func(q question) {
		span, size := q.window.At(now, topk.DefaultCalendar()), 1+int(asked.Add(1))%5
		for name, chart := range map[string]struct {
			ask   func(context.Context, topk.ChartQuery) (topk.Chart, error)
			count func(topk.Filter, topk.Span, int) ([]topk.Entry, uint64)
		}{
			"plays":     {c.db.Chart, c.oracle.Chart},
			"listeners": {c.db.Listeners, c.oracle.Listeners},
		} {
			want, total := chart.count(q.filter, span, topk.MaxK)
			var got []topk.Entry
			query := topk.ChartQuery{Filter: q.filter, Window: q.window, K: size, Now: now}
			for {
				page, err := chart.ask(c.Context(), query)
				if err != nil {
					t.Errorf("%s %s by %s: %v", q.filter, q.window, name, err)
					return
				}
				if page.TotalPlays != total {
					t.Errorf("%s %s by %s beyond %v: %d plays in all, want %d", q.filter, q.window, name, query.After, page.TotalPlays, total)
				}
				if got = append(got, page.Entries...); len(page.Entries) == 0 || len(got) > len(want) {
					break
				}
				query.After = &got[len(got)-1]
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s %s by %s, pages of %d:\n got %v\nwant %v", q.filter, q.window, name, size, got, want)
			}
		}
	})
}

// A page begins beyond what is asked for, also where there is no such entry any
// more, and its ranks count the songs that are ahead.
func TestPageBeyondAnEntryThatIsGone(t *testing.T) {
	c := unevenChain(t, 1)
	all, _ := c.oracle.Chart(topk.Filter{}, topk.Last7d.At(now, topk.DefaultCalendar()), topk.MaxK)
	third := all[2]
	for _, after := range []topk.Entry{
		{Plays: third.Plays, SongID: third.SongID}, {Plays: third.Plays, SongID: third.SongID + "\x00"}, {Plays: third.Plays + 1, SongID: ""},
		{Plays: third.Plays, SongID: ""}, {Plays: 1 << 60, SongID: "z"}, {Plays: 0, SongID: ""},
	} {
		first := slices.IndexFunc(all, func(e topk.Entry) bool { return topk.CompareEntries(after, e) < 0 })
		want := all[:0]
		if first >= 0 {
			want = all[first:]
		}
		got, err := c.db.Chart(t.Context(), topk.ChartQuery{Window: topk.Last7d, K: topk.MaxK, After: &after, Now: now})
		if err != nil || !slices.Equal(got.Entries, want) {
			t.Errorf("beyond %v: %v\n got %v\nwant %v", after, err, got.Entries, want)
		}
	}
}

// With a counter for each song, estimates are the counts.
func TestApproxOfFewSongsIsExact(t *testing.T) {
	c := unevenChain(t, 1)
	c.ask(100, func(q question) {
		got := c.approx(q, 4)
		if want, _ := c.oracle.Chart(q.filter, got.Span, 4); !slices.Equal(got.Entries, want) {
			t.Errorf("%s %s:\n got %v\nwant %v", q.filter, q.window, got.Entries, want)
		}
	})
	_, err := c.db.Approx(t.Context(), topk.ChartQuery{Window: topk.AllTime, K: 10, After: &topk.Entry{Plays: 1}, Now: now})
	if !errors.Is(err, topk.ErrInvalid) {
		t.Errorf("a page of an approximate chart: %v, want it refused", err)
	}
}

// With many more songs than counters, an estimate is never below the count, and
// not further above it than it says.
func TestApproxBoundsItsError(t *testing.T) {
	c := newChain(t)
	songs := make([]topk.Song, 3000)
	for i := range songs {
		songs[i] = topk.Song{SongID: fmt.Sprint("song", i), ArtistID: fmt.Sprint("a", i%3), Genres: [][]string{{"pop"}, {"rock"}, {"pop", "rock"}}[i%3]}
		c.oracle.SetSong(songs[i])
	}
	if err := c.db.UpsertSongs(t.Context(), songs); err != nil {
		t.Fatal(err)
	}
	c.exec("SYSTEM RELOAD DICTIONARY song_catalog")
	plays, rng := randomPlays(5, 20_000), rand.New(rand.NewPCG(5, 5))
	for i := range plays {
		plays[i].SongID = songs[int(math.Pow(float64(len(songs)), rng.Float64()))-1].SongID
	}
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.append(0, plays[:8000]...)
	c.fill("rollup_day")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	c.append(1, plays[8000:14_000]...)
	c.exec("SYSTEM START VIEW rollup_hour_fill")
	c.fill("rollup_hour")
	c.append(2, plays[14_000:]...)
	var wrong atomic.Int64
	for _, counters := range []int{20, 100} {
		c.db.Counters(counters)
		c.ask(60, func(q question) {
			for _, e := range c.approx(q, 20).Errors {
				if e > 0 {
					wrong.Add(1)
				}
			}
		})
	}
	if wrong.Load() == 0 {
		t.Error("no estimate had an error: the bounds are not tested")
	}
}

// approx asks for an approximate chart of k entries and holds it against the
// count.
func (c *chain) approx(q question, k int) topk.ApproxChart {
	c.Helper()
	got, err := c.db.Approx(c.Context(), topk.ChartQuery{Filter: q.filter, Window: q.window, K: k, Now: now})
	if err != nil {
		c.Errorf("%s %s: %v", q.filter, q.window, err)
		return got
	}
	all, total := c.oracle.Chart(q.filter, got.Span, math.MaxInt)
	if got.TotalPlays != total || len(got.Entries) != min(k, len(all)) || len(got.Errors) != len(got.Entries) {
		c.Errorf("%s %s: %d entries with %d errors of %d plays, want %d of %d", q.filter, q.window,
			len(got.Entries), len(got.Errors), got.TotalPlays, min(k, len(all)), total)
		return got
	}
	truth := map[string]uint64{}
	for _, e := range all {
		truth[e.SongID] = e.Plays
	}
	for i, e := range got.Entries {
		if plays := truth[e.SongID]; plays > e.Plays || plays+got.Errors[i] < e.Plays {
			c.Errorf("%s %s: %v is at most %d too high, but the count is %d", q.filter, q.window, e, got.Errors[i], plays)
		}
		if e.Rank != i+1 || i > 0 && topk.CompareEntries(got.Entries[i-1], e) >= 0 {
			c.Errorf("%s %s: %v is not in its place", q.filter, q.window, e)
		}
	}
	return got
}

// compare asks for a chart and counts it.
func (c *chain) compare(f topk.Filter, w topk.Window) { c.compareAt(f, w, now) }

func (c *chain) compareAt(f topk.Filter, w topk.Window, now time.Time) {
	c.Helper()
	got, err := c.db.Chart(c.Context(), topk.ChartQuery{Filter: f, Window: w, K: topk.MaxK, Now: now})
	if err != nil {
		c.Errorf("%s %s: %v", f, w, err)
		return
	}
	entries, total := c.oracle.Chart(f, w.At(now, topk.DefaultCalendar()), topk.MaxK)
	if !slices.Equal(got.Entries, entries) || got.TotalPlays != total {
		c.Errorf("%s %s at %s:\n got %d plays %v\nwant %d plays %v", f, w, now, got.TotalPlays, got.Entries, total, entries)
	}
}

// All charts of a dimension at once are the charts asked one by one.
func TestChartsEqualTheCountOfPlays(t *testing.T) {
	c := newChain(t)
	plays := randomPlays(2, 6000)
	c.append(0, plays[:3000]...)
	c.fill("rollup_hour")
	c.fill("rollup_day")
	c.append(1, plays[3000:]...)
	for _, dim := range []topk.Dimension{topk.DimGlobal, topk.DimRegion, topk.DimGenre, topk.DimSegment, topk.DimDevice} {
		for _, w := range []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d, topk.Last30d, topk.AllTime, topk.Today, topk.ThisWeek} {
			t.Run(fmt.Sprint(dim, " ", w), func(t *testing.T) {
				charts, _, err := c.db.Charts(t.Context(), dim, w, now)
				if err != nil {
					t.Fatal(err)
				}
				if len(charts) == 0 {
					t.Error("no charts")
				}
				for _, got := range charts {
					entries, total := c.oracle.Chart(got.Filter, got.Span, topk.SnapshotSize)
					if !slices.Equal(got.Entries, entries) || got.TotalPlays != total {
						t.Errorf("%s:\n got %d plays %v\nwant %d plays %v", got.Filter, got.TotalPlays, got.Entries, total, entries)
					}
				}
			})
		}
	}
}

// A chart is that of one prefix of the log, the one it names, while plays
// stream in and the rollups are being filled.
func TestChartIsOfOnePrefixUnderConstantFills(t *testing.T) {
	c := newChain(t)
	const srcs = 3
	plays := map[uint32][]topk.Play{}
	for src := range uint32(srcs) {
		plays[src] = randomPlays(10+int(src), 4000)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	writers.Go(func() {
		defer cancel()
		rng := rand.New(rand.NewPCG(1, 2))
		for range 40 * srcs {
			src := uint32(rng.IntN(srcs))
			from := int(c.next[src])
			c.append(src, plays[src][from:min(from+100, len(plays[src]))]...)
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
	window := rapid.Custom(func(t *rapid.T) topk.Window { return oracle.Window(t, now) })
	asked := 0
	for ; ctx.Err() == nil; asked++ {
		got, err := c.db.Chart(t.Context(), topk.ChartQuery{Window: window.Example(asked), K: topk.MaxK, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		prefix := oracle.New()
		for src, next := range got.Watermark {
			for _, p := range plays[src][:next] {
				prefix.Add(p, nil)
			}
		}
		entries, total := prefix.Chart(topk.Filter{}, got.Span, topk.MaxK)
		if !slices.Equal(got.Entries, entries) || got.TotalPlays != total {
			t.Errorf("%s at %v:\n got %d plays %v\nwant %d plays %v", got.Window, got.Watermark, got.TotalPlays, got.Entries, total, entries)
		}
	}
	writers.Wait()
	t.Logf("%d charts compared", asked)
	if asked < 20 {
		t.Errorf("only %d charts were compared", asked)
	}
}

// Beyond the log's retention a window that needs single plays is refused, with
// what to ask instead.
func TestChartRefusesWhatTheLogNoLongerKeeps(t *testing.T) {
	c := newChain(t)
	c.append(0, randomPlays(3, 10)...)
	c.fill("rollup_day")
	later := now.Add(200 * 24 * time.Hour)
	oddly, err := topk.Between(now.Add(-time.Minute), now)
	if err != nil {
		t.Fatal(err)
	}
	wholeDays, err := topk.Between(now.Add(-48*time.Hour).Truncate(24*time.Hour), now.Truncate(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	joined := topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"}, topk.Term{Dim: topk.DimDevice, Value: "mobile"})
	if _, err := c.db.Listeners(t.Context(), topk.ChartQuery{Window: wholeDays, K: 10, Now: later}); !errors.Is(err, topk.ErrInvalid) || !strings.Contains(err.Error(), "listeners") {
		t.Errorf("listeners of days that the log does not keep: %v, want them refused", err)
	}
	for _, test := range []struct {
		filter  topk.Filter
		window  topk.Window
		refused bool
	}{
		{topk.Filter{}, oddly, true},
		{topk.Filter{}, wholeDays, false},
		{joined, wholeDays, true},
		{joined, topk.AllTime, true},
		{joined, topk.Last24h, false},
		{topk.Filter{}, topk.AllTime, false},
	} {
		_, err := c.db.Chart(t.Context(), topk.ChartQuery{Filter: test.filter, Window: test.window, K: 10, Now: later})
		if refused := errors.Is(err, topk.ErrInvalid); refused != test.refused {
			t.Errorf("%s %s: %v, want refused %t", test.filter, test.window, err, test.refused)
		}
	}
}
