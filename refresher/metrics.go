package refresher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/topk-charts/topk"
)

type metrics struct {
	duration  *prometheus.HistogramVec
	freshness *prometheus.HistogramVec
	charts    *prometheus.GaugeVec
	changed   *prometheus.CounterVec
	failures  *prometheus.CounterVec
	refreshed *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) metrics {
	auto := promauto.With(registry)
	labels := []string{"dimension", "window"}
	return metrics{
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "topk_refresher_refresh_seconds",
			Help:    "From the instant charts are computed for until they are in Redis.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}, labels),
		freshness: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "topk_freshness_seconds",
			Help:    "The longest that a play in the log waited until the charts in Redis counted it, per refresh.",
			Buckets: []float64{0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60},
		}, labels),
		charts: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "topk_refresher_charts",
			Help: "Charts published by the last refresh.",
		}, labels),
		changed: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "topk_refresher_changed_entries_total",
			Help: "Entries of charts that were written to or removed from Redis.",
		}, labels),
		failures: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "topk_refresher_failures_total",
			Help: "Refreshes that failed and are tried again.",
		}, labels),
		refreshed: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "topk_refresher_last_success_timestamp_seconds",
			Help: "When the charts were last refreshed; now minus this is their age.",
		}, labels),
	}
}

func (m metrics) observe(dim topk.Dimension, w topk.Window, took time.Duration, charts, changed int, now time.Time) {
	labels := []string{string(dim), w.String()}
	m.duration.WithLabelValues(labels...).Observe(took.Seconds())
	m.charts.WithLabelValues(labels...).Set(float64(charts))
	m.changed.WithLabelValues(labels...).Add(float64(changed))
	m.refreshed.WithLabelValues(labels...).Set(float64(now.UnixMilli()) / 1000)
}
