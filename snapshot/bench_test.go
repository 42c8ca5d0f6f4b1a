package snapshot_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// full gives a chart of topk.SnapshotSize songs.
func full(f topk.Filter) topk.Chart {
	plays := map[string]uint64{}
	for i := range uint64(topk.SnapshotSize) {
		plays[fmt.Sprintf("song-%04d", i)] = 1_000_000 - 100*i
	}
	return chart(f, 1, plays)
}

// tick makes the next version, in which three songs were played.
func tick(c *topk.Chart, n int) {
	c.AsOf = c.AsOf.Add(time.Millisecond)
	for i := range 3 {
		c.Entries[(n+67*i)%len(c.Entries)].Plays++
	}
	topk.RankEntries(c.Entries)
}

func BenchmarkPut(b *testing.B) {
	b.Run("changes", func(b *testing.B) {
		store := open(b, startServer(b).url(), snapshot.Options{})
		p, c := publisher(b, store, snapshot.PublisherOptions{}), full(global)
		for n := 0; b.Loop(); n++ {
			tick(&c, n)
			put(b, p, c)
		}
	})
	b.Run("full", func(b *testing.B) {
		store := open(b, startServer(b).url(), snapshot.Options{})
		c := full(global)
		for n := 0; b.Loop(); n++ {
			tick(&c, n)
			put(b, publisher(b, store, snapshot.PublisherOptions{}), c) // which remembers nothing
		}
	})
}

func BenchmarkPutMany(b *testing.B) {
	const charts = 128
	store := open(b, startServer(b).url(), snapshot.Options{})
	p := publisher(b, store, snapshot.PublisherOptions{})
	all := make([]topk.Chart, charts)
	for i := range all {
		all[i] = full(topk.NewFilter(topk.Term{Dim: topk.DimPlaylist, Value: fmt.Sprint(i)}))
	}
	for n := 0; b.Loop(); n++ {
		for i := range all {
			tick(&all[i], n)
		}
		for _, out := range p.PutMany(b.Context(), all) {
			if out.Err != nil {
				b.Fatal(out.Err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*charts), "ns/chart")
}

func BenchmarkGet(b *testing.B) {
	for name, copyFor := range map[string]time.Duration{"redis": -1, "copy": time.Hour} {
		b.Run(name, func(b *testing.B) {
			store := open(b, startServer(b).url(), snapshot.Options{CopyFor: copyFor})
			put(b, publisher(b, store, snapshot.PublisherOptions{}), full(india))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := store.Get(context.Background(), india, topk.Last24h); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
