package api_test

import (
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/internal/embedded/redis"
	"github.com/topk-charts/topk/snapshot"
)

// A sink is a response that nobody receives, as cheap as can be.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) { s.status = status }

func (s *sink) Write(p []byte) (int, error) {
	s.bytes += len(p)
	return len(p), nil
}

// BenchmarkTop is what the API adds to net/http for a hot chart of 10 songs:
// every middleware, the look-up of the snapshot, and the ready body.
func BenchmarkTop(b *testing.B) {
	server, err := redis.Start(b.Context(), redis.Config{Dir: b.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Close(b.Context()) })
	s := &service{now: serviceStart}
	store, err := snapshot.Open(b.Context(), server.URL(), snapshot.Options{Clock: s.clock})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(store.Close)
	writer := store.NewPublisher(snapshot.PublisherOptions{})
	india := topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"})
	if err := writer.Put(b.Context(), playsChart(india, topk.Last24h, serviceStart, playsOf(200))); err != nil {
		b.Fatal(err)
	}
	handler, err := api.New(api.Config{Queries: &truth{}, Snapshots: store, Clock: s.clock, Registry: prometheus.NewRegistry()})
	if err != nil {
		b.Fatal(err)
	}
	request, err := http.NewRequest(http.MethodGet, "/v1/top?dim=region:IN&window=24h&k=10", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := &sink{header: http.Header{}}
			handler.ServeHTTP(w, request)
			if w.bytes == 0 {
				b.Fatal("no body")
			}
		}
	})
}
