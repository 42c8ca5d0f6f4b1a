package queries_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
)

// Charts of random windows and filters equal the brute-force count, while the
// rollups are at different places of the log: what was counted by day, what by
// hour, and what lies beyond, in sources that have moved unevenly.
func TestChartEqualsTheCountOfPlays(t *testing.T) {
	c := newChain(t)
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	plays := randomPlays(1, 12_000)
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

	type question struct {
		filter topk.Filter
		window topk.Window
	}
	ask := rapid.Custom(func(t *rapid.T) question { return question{oracle.Filter(t), oracle.Window(t, now)} })
	questions := make(chan question)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for q := range questions {
				c.compare(q.filter, q.window)
			}
		})
	}
	for i := range 1000 {
		questions <- ask.Example(i)
	}
	close(questions)
	workers.Wait()
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
