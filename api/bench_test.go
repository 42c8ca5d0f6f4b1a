package api_test

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
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
	b.Run("unlimited", func(b *testing.B) { benchmarkTop(b, hotChart(b, api.Limits{})) })
	b.Run("limited", func(b *testing.B) { benchmarkTop(b, hotChart(b, plenty)) })
}

// BenchmarkServedTop is the same with net/http and a connection around it,
// beside a handler that does nothing but write the same body.
func BenchmarkServedTop(b *testing.B) {
	w := &body{header: http.Header{}}
	hotChart(b, api.Limits{}).ServeHTTP(w, hotRequest(b))
	b.Run("bare", func(b *testing.B) {
		benchmarkServed(b, http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.Header()["Content-Type"] = w.header["Content-Type"]
			out.Header()["Content-Length"] = w.header["Content-Length"]
			_, _ = out.Write(w.text)
		}))
	})
	b.Run("unlimited", func(b *testing.B) { benchmarkServed(b, hotChart(b, api.Limits{})) })
	b.Run("limited", func(b *testing.B) { benchmarkServed(b, hotChart(b, plenty)) })
}

// plenty is a limit that is counted and never reached.
var plenty = api.Limits{Rate: 1_000_000, RateBurst: 1_000_000_000}

func benchmarkTop(b *testing.B, handler http.Handler) {
	request := hotRequest(b)
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

// benchmarkServed asks as cheaply as can be, so that the server is what costs.
func benchmarkServed(b *testing.B, handler http.Handler) {
	server := httptest.NewServer(handler)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := []byte("GET " + hotPath + " HTTP/1.1\r\nHost: charts.example\r\n\r\n")
	answer := make([]byte, 16<<10)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		for n := 0; !bytes.HasSuffix(answer[:n], []byte("}\n")); {
			read, err := conn.Read(answer[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += read
		}
	}
}

const hotPath = "/v1/top?dim=region:IN&window=24h&k=10"

func hotRequest(b *testing.B) *http.Request {
	request, err := http.NewRequest(http.MethodGet, hotPath, nil)
	if err != nil {
		b.Fatal(err)
	}
	request.RemoteAddr = "192.0.2.1:1234"
	return request
}

// A body is a response that is kept.
type body struct {
	header http.Header
	text   []byte
}

func (b *body) Header() http.Header { return b.header }

func (b *body) WriteHeader(int) {}

func (b *body) Write(p []byte) (int, error) {
	b.text = append(b.text, p...)
	return len(p), nil
}

// hotChart is the API with a chart in Redis.
func hotChart(b *testing.B, limits api.Limits) http.Handler {
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
	handler, err := api.New(api.Config{
		Queries: &truth{}, Snapshots: store, Clock: s.clock, Registry: prometheus.NewRegistry(), Limits: limits,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(handler.Close)
	return handler
}
