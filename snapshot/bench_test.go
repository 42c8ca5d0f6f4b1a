package snapshot_test

import (
	"context"
	"fmt"
	"strings"
	"syscall"
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

// BenchmarkPublish publishes batches of changes of 1,000 charts of 200 entries,
// as a refresher does each tick, and tells what one change costs: the time that
// passes, the CPU of both sides, and what is allocated here.
func BenchmarkPublish(b *testing.B) {
	const charts = 1000
	for _, bench := range []struct {
		name    string
		changed int
	}{{"affirmed", 0}, {"changed=6", 6}, {"whole", topk.SnapshotSize}} {
		b.Run(bench.name, func(b *testing.B) {
			srv := startServer(b)
			p := open(b, srv.url(), snapshot.Options{}).NewPublisher(snapshot.PublisherOptions{})
			watermark := topk.Watermark{}
			for src := range uint32(12) {
				watermark[src] = 1_234_567_890
			}
			changes := make([]snapshot.Change, charts)
			for i := range changes {
				changes[i] = snapshot.Whole(full(playlist(fmt.Sprint(i))))
			}
			publish := func() {
				for _, out := range p.Publish(b.Context(), changes) {
					if out.Err != nil {
						b.Fatal(out.Err)
					}
				}
			}
			publish()
			before, beforeHere := cpuTime(b, srv), cpuTimeHere(b)
			b.ReportAllocs()
			for b.Loop() {
				shared := snapshot.EncodeWatermark(watermark)
				for i := range changes {
					c := &changes[i]
					c.Base, c.AsOf, c.Watermark = c.Version(), c.AsOf.Add(time.Second), shared
					c.Set = c.Set[:bench.changed]
					for j := range c.Set {
						c.Set[j].Plays++
					}
					if bench.changed == c.Size {
						c.Base = 0
					}
				}
				publish()
			}
			n := float64(b.N * charts)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/change")
			b.ReportMetric(float64(cpuTimeHere(b)-beforeHere)/n, "go-ns/change")
			b.ReportMetric(float64(cpuTime(b, srv)-before)/n, "redis-ns/change")
		})
	}
}

// cpuTimeHere is how long this process has been computing.
func cpuTimeHere(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// cpuTime is how long the server has been computing.
func cpuTime(b *testing.B, srv *server) time.Duration {
	b.Helper()
	var total time.Duration
	for line := range strings.Lines(srv.do(b, "INFO", "cpu")) {
		name, seconds, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_user" && name != "used_cpu_sys" {
			continue
		}
		used, err := time.ParseDuration(seconds + "s")
		if err != nil {
			b.Fatal(err)
		}
		total += used
	}
	return total
}

func BenchmarkGet(b *testing.B) {
	for name, copyFor := range map[string]time.Duration{"redis": -1, "copy": time.Hour} {
		b.Run(name, func(b *testing.B) {
			store := open(b, startServer(b).url(), snapshot.Options{CopyFor: copyFor})
			change := snapshot.Whole(full(india))
			change.Previous = &snapshot.Previous{AsOf: noon}
			for _, e := range change.Set {
				change.Previous.SongIDs = append(change.Previous.SongIDs, e.SongID)
			}
			p := store.NewPublisher(snapshot.PublisherOptions{})
			if out := p.Publish(b.Context(), []snapshot.Change{change}); out[0].Err != nil {
				b.Fatal(out[0].Err)
			}
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
