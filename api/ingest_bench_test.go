package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
)

// BenchmarkIngestBatch is one connection's worth of batches against a broker
// that keeps nothing, so that the time is the gateway's and its client's.
func BenchmarkIngestBatch(b *testing.B) {
	for _, n := range []int{1, 100, 1000, 10_000} {
		for _, form := range []string{"array", "lines", "zstd"} {
			b.Run(fmt.Sprintf("plays=%d/%s", n, form), func(b *testing.B) { benchmarkIngest(b, n, form) })
		}
	}
}

func benchmarkIngest(b *testing.B, n int, form string) {
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, ingestTopic), kfake.BlackholeProduce())
	if err != nil {
		b.Fatal(err)
	}
	defer broker.Close()
	publisher, err := api.NewPublisher(api.PublisherConfig{Brokers: broker.ListenAddrs(), Topic: ingestTopic})
	if err != nil {
		b.Fatal(err)
	}
	defer publisher.Close()
	ingest, err := api.NewIngest(api.IngestConfig{
		Publisher: publisher, Rules: topk.DefaultRules(), Pepper: []byte(ingestPepper), Clock: func() time.Time { return ingestNow },
	})
	if err != nil {
		b.Fatal(err)
	}
	router := chi.NewRouter()
	ingest.Routes(router)

	items := make([]string, n)
	for i := range items {
		items[i] = event(fmt.Sprintf("0f8c6f0e-6f2b-4b0e-9d5e-%012d", i), "userId", strconv.Quote(fmt.Sprintf("u%d", i)),
			"songId", strconv.Quote(fmt.Sprintf("s%d", i%997)), "region", `"IN/Mumbai"`, "deviceType", `"mobile"`,
			"context", `"playlist:37i9dQZF1DXcBWIGoYBM5M"`, "duration", "213")
	}
	body, header := array(items...), http.Header{"Content-Type": {"application/json"}}
	switch form {
	case "lines":
		body = bytes.ReplaceAll(body[1:len(body)-1], []byte("},{"), []byte("}\n{"))
		header.Set("Content-Type", "application/x-ndjson")
	case "zstd":
		body = zstded(b, body)
		header.Set("Content-Encoding", "zstd")
	}
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodPost, manyPlays, bytes.NewReader(body))
		r.Header = header
		w := httptest.NewRecorder()
		router.ServeHTTP(w, r)
		if w.Code != http.StatusAccepted {
			b.Fatal(w.Code, w.Body)
		}
	}
	perPlay := float64(b.Elapsed().Nanoseconds()) / float64(b.N*n)
	b.ReportMetric(perPlay, "ns/play")
}
