package api

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// apiMetrics are what the query side tells of itself.
type apiMetrics struct {
	duration *prometheus.HistogramVec
	querying prometheus.Gauge

	fromSnapshot, fromClosed, fromClickHouse, fromLastKnown, fromNowhere prometheus.Counter
	catalogHits, catalogMisses, catalogQueries                           prometheus.Counter
}

func newAPIMetrics(registry prometheus.Registerer) apiMetrics {
	factory := promauto.With(registry)
	lookups := factory.NewCounterVec(prometheus.CounterOpts{
		Name: "topk_api_metadata_lookups_total",
		Help: "Songs whose metadata was looked up, by whether this process had it (hit) or not (miss).",
	}, []string{"result"})
	sources := factory.NewCounterVec(prometheus.CounterOpts{
		Name: "topk_api_chart_source_total",
		Help: "Charts served, by where they came from: snapshot, closed, clickhouse, last-known, or none when they could not be.",
	}, []string{"source"})
	return apiMetrics{
		duration: factory.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "topk_api_request_duration_seconds",
			Help:    "From a request's headers to its answer, by route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "code"}),
		fromSnapshot:   sources.WithLabelValues(fromSnapshot),
		fromClosed:     sources.WithLabelValues(fromClosed),
		fromClickHouse: sources.WithLabelValues(fromClickHouse),
		fromLastKnown:  sources.WithLabelValues(fromLastKnown),
		fromNowhere:    sources.WithLabelValues("none"),
		querying: factory.NewGauge(prometheus.GaugeOpts{
			Name: "topk_api_clickhouse_queries_in_flight",
			Help: "Statements that this process is running in ClickHouse.",
		}),
		catalogHits:   lookups.WithLabelValues("hit"),
		catalogMisses: lookups.WithLabelValues("miss"),
		catalogQueries: factory.NewCounter(prometheus.CounterOpts{
			Name: "topk_api_metadata_queries_total",
			Help: "Statements that looked up metadata.",
		}),
	}
}

// metricsHandler serves the registry. It does not compress: compress does.
func metricsHandler(registry *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		Registry:            registry,
		DisableCompression:  true,
		MaxRequestsInFlight: 4,
	})
}
