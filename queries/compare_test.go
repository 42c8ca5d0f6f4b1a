package queries_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
)

// bruteComparison ranks by looking at every play.
func bruteComparison(o *oracle.Oracle, q topk.ComparisonQuery) (topk.Comparison, error) {
	window, reference, err := q.Sides(topk.DefaultCalendar())
	if err != nil {
		return topk.Comparison{}, err
	}
	want := topk.Comparison{
		Filter: q.Filter, Window: q.Window, AsOf: q.Now, Span: window.Span, ReferenceFilter: reference.Filter, ReferenceSpan: reference.Span,
	}
	entries, total := o.Chart(window.Filter, window.Span, math.MaxInt)
	expected, referenceTotal := o.Chart(reference.Filter, reference.Span, math.MaxInt)
	want.TotalPlays, want.ReferencePlays = total, referenceTotal
	for _, e := range entries {
		rise := topk.Rise{SongID: e.SongID, Plays: e.Plays}
		for _, r := range expected {
			if r.SongID == e.SongID {
				rise.ReferencePlays = r.Plays
				rise.Expected = float64(r.Plays) / float64(referenceTotal) * float64(total)
			}
		}
		rise.Score = (float64(e.Plays) - float64(rise.Expected)) / math.Sqrt(float64(rise.Expected)+1)
		want.Items = append(want.Items, rise)
	}
	slices.SortFunc(want.Items, func(a, b topk.Rise) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.SongID, a.SongID))
	})
	want.Items = want.Items[:min(q.K, len(want.Items))]
	for i := range want.Items {
		want.Items[i].Rank = i + 1
	}
	return want, nil
}

// Comparisons equal the brute-force ones to the last bit, whatever the filter,
// the window and the reference, with the rollups at different places of the log.
func TestCompareEqualsTheCountOfPlays(t *testing.T) {
	c := unevenChain(t, 21)
	ask := rapid.Custom(func(t *rapid.T) topk.ComparisonQuery {
		q := topk.ComparisonQuery{
			Filter:    oracle.Filter(t),
			Window:    rapid.SampledFrom([]topk.Window{topk.LastHour, topk.Last24h, topk.Last7d}).Draw(t, "window"),
			Reference: rapid.SampledFrom([]topk.Reference{topk.Baseline, topk.Everywhere}).Draw(t, "reference"),
			K:         rapid.SampledFrom([]int{1, 2, topk.MaxK}).Draw(t, "k"),
			Now:       now,
		}
		if q.Reference == topk.Everywhere { // of any window, as long as there is a place to compare
			q.Window = oracle.Window(t, now)
			q.Filter = topk.NewFilter(append(q.Filter.Terms(), topk.Term{Dim: topk.DimRegion, Value: "IN"})...)
		}
		return q
	})
	questions := make(chan topk.ComparisonQuery)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for q := range questions {
				got, err := c.db.Compare(c.Context(), q)
				if err != nil {
					t.Errorf("%+v: %v", q, err)
					continue
				}
				want, err := bruteComparison(c.oracle, q)
				if err != nil {
					t.Error(err)
				}
				want.Watermark = got.Watermark
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s %s %s %d:\n got %+v\nwant %+v", q.Filter, q.Window, q.Reference, q.K, got, want)
				}
			}
		})
	}
	for i := range 150 {
		questions <- ask.Example(i)
	}
	close(questions)
	workers.Wait()
}

// Both sides are of one prefix of the log, the one that is named, while plays
// stream in and the rollups are being filled.
func TestCompareIsOfOnePrefixUnderConstantFills(t *testing.T) {
	c := newChain(t)
	const srcs = 2
	plays := map[uint32][]topk.Play{}
	for src := range uint32(srcs) {
		plays[src] = randomPlays(30+int(src), 3000)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	writers.Go(func() {
		rng := rand.New(rand.NewPCG(1, 2))
		for ctx.Err() == nil {
			src := uint32(rng.IntN(srcs))
			from := int(c.next[src])
			c.append(src, plays[src][from:min(from+10, len(plays[src]))]...)
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
	for asked := range 30 {
		q := topk.ComparisonQuery{Window: topk.Last24h, Reference: topk.Baseline, K: topk.MaxK, Now: now}
		if asked%2 == 1 {
			q.Filter, q.Reference = topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"}), topk.Everywhere
		}
		got, err := c.db.Compare(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		prefix := oracle.New()
		for src, next := range got.Watermark {
			for _, p := range plays[src][:next] {
				prefix.Add(p, nil)
			}
		}
		want, err := bruteComparison(prefix, q)
		if err != nil {
			t.Fatal(err)
		}
		want.Watermark = got.Watermark
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s at %v:\n got %+v\nwant %+v", q.Reference, got.Watermark, got, want)
		}
	}
	cancel()
	writers.Wait()
}

// Songs that are not played say how much the reference has, and nothing else.
func TestCompareOfAnEmptyWindow(t *testing.T) {
	c := newChain(t)
	plays := randomPlays(5, 100)
	for i := range plays {
		plays[i].Timestamp = now.Add(-20 * time.Hour)
	}
	c.append(0, plays...)
	got, err := c.db.Compare(t.Context(), topk.ComparisonQuery{Window: topk.LastHour, Reference: topk.Baseline, K: 10, Now: now})
	if err != nil || len(got.Items) != 0 || got.TotalPlays != 0 || got.ReferencePlays != 100 {
		t.Errorf("%+v, %v", got, err)
	}
	// Nothing can be expected of a reference without plays.
	later := now.Add(-20 * time.Hour)
	got, err = c.db.Compare(t.Context(), topk.ComparisonQuery{Window: topk.LastHour, Reference: topk.Baseline, K: 1, Now: later})
	if err != nil || len(got.Items) != 1 || got.ReferencePlays != 0 || got.Items[0].Expected != 0 || got.Items[0].Score != float64(got.Items[0].Plays) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCompareRefusesWhatHasNoReference(t *testing.T) {
	c := newChain(t)
	pop := topk.NewFilter(topk.Term{Dim: topk.DimGenre, Value: "pop"})
	for _, q := range []topk.ComparisonQuery{
		{Window: topk.Last30d, Reference: topk.Baseline},
		{Window: topk.Last24h, Reference: topk.Everywhere},
		{Window: topk.Last24h, Reference: topk.Everywhere, Filter: pop},
		{Window: topk.Last24h, Reference: "mars"},
	} {
		if _, err := c.db.Compare(t.Context(), q); !errors.Is(err, topk.ErrInvalid) {
			t.Errorf("%s %s %s: %v", q.Filter, q.Window, q.Reference, err)
		}
	}
}

// BenchmarkQuestions puts the questions that are not about one chart to the days
// that fullLog describes.
func BenchmarkQuestions(b *testing.B) {
	c := fullLog(b)
	at := time.Now()
	country, city := topk.Term{Dim: topk.DimRegion, Value: "C0"}, topk.Term{Dim: topk.DimRegion, Value: "C1/1"}
	mobile, premium := topk.Term{Dim: topk.DimDevice, Value: "mobile"}, topk.Term{Dim: topk.DimSegment, Value: "premium"}
	run := func(name string, ask func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for name, f := range map[string]topk.Filter{
		"global": {}, "country": topk.NewFilter(country), "city": topk.NewFilter(city), "segment": topk.NewFilter(premium), "joined": topk.NewFilter(country, mobile),
	} {
		for _, w := range []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d} {
			for _, reference := range []topk.Reference{topk.Baseline, topk.Everywhere} {
				if q := (topk.ComparisonQuery{Filter: f, Window: w, Reference: reference, K: topk.SnapshotSize, Now: at}); name != "global" || reference == topk.Baseline {
					run(fmt.Sprintf("compare %s %s %s", name, w, reference), func() error {
						_, err := c.db.Compare(b.Context(), q)
						return err
					})
				}
			}
		}
		for _, g := range []topk.Grain{topk.HourGrain, topk.DayGrain} {
			end := g.Containing(at, topk.DefaultCalendar()).End
			q := topk.HistoryQuery{SongID: "song0000001", Filter: f, Grain: g, Span: topk.Span{Start: end.Add(-30 * 24 * time.Hour), End: end}, Now: at}
			run(fmt.Sprintf("history %s by %s", name, g), func() error {
				_, err := c.db.SongHistory(b.Context(), q)
				return err
			})
		}
	}
	for _, dim := range []topk.Dimension{topk.DimRegion, topk.DimGenre, topk.DimSegment, topk.DimDevice} {
		run("values "+string(dim), func() error {
			_, err := c.db.Values(b.Context(), dim)
			return err
		})
	}
}
