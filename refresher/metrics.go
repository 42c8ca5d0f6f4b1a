package refresher

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/board"
)

type metrics struct {
	reads     prometheus.Histogram
	arrivals  prometheus.Counter
	expired   *prometheus.CounterVec
	advance   *prometheus.HistogramVec
	coldStart *prometheus.GaugeVec
	restarts  *prometheus.CounterVec
	failures  *prometheus.CounterVec

	charts   *prometheus.GaugeVec
	entries  *prometheus.GaugeVec
	bytes    *prometheus.GaugeVec
	suspects *prometheus.GaugeVec

	rebases    *prometheus.HistogramVec
	rebaseFail *prometheus.CounterVec
	audits     prometheus.Counter
	wrong      prometheus.Counter

	freshness *prometheus.HistogramVec
	changed   *prometheus.CounterVec
	sent      *prometheus.CounterVec
	refreshed *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) metrics {
	auto := promauto.With(registry)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return auto.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	seconds := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return auto.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	work := prometheus.ExponentialBuckets(0.001, 2, 15)
	return metrics{
		reads: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "topk_refresher_read_seconds", Help: "Reading the next piece of the log.", Buckets: work,
		}),
		arrivals:  auto.NewCounter(prometheus.CounterOpts{Name: "topk_refresher_arrivals_total", Help: "Plays read from the log."}),
		expired:   counter("topk_refresher_expired_total", "Plays that left a window.", "window"),
		advance:   seconds("topk_refresher_tick_seconds", "Moving a window's charts over one piece of the log.", work, "window"),
		coldStart: gauge("topk_refresher_cold_start_seconds", "How long the last cold start took until a window's charts were kept.", "window"),
		restarts:  counter("topk_refresher_restarts_total", "Times all charts were counted anew.", "reason"),
		failures:  counter("topk_refresher_failures_total", "Steps that failed and are tried again.", "step"),

		charts:   gauge("topk_refresher_charts", "Charts that are kept.", "window"),
		entries:  gauge("topk_refresher_entries", "Counts that are kept, of charts with a part of their songs only.", "window"),
		bytes:    gauge("topk_refresher_bytes", "Memory of a window's charts.", "window"),
		suspects: gauge("topk_refresher_suspects", "Charts in doubt, which are not published until they were counted.", "window"),

		rebases: seconds("topk_refresher_rebase_seconds", "Counts of single charts by ClickHouse; why is doubt or audit.",
			work, "dimension", "window", "why"),
		rebaseFail: counter("topk_refresher_rebase_failures_total", "Counts of single charts that failed and are tried again.", "dimension", "window"),
		audits:     auto.NewCounter(prometheus.CounterOpts{Name: "topk_refresher_audits_total", Help: "Charts held against a count of them."}),
		wrong: auto.NewCounter(prometheus.CounterOpts{
			Name: "topk_refresher_wrong_charts_total", Help: "Charts that an audit found to be wrong, and put right. Must be 0.",
		}),

		freshness: seconds("topk_freshness_seconds", "The longest that a play in the log waited until the charts in Redis counted it, per publication.",
			[]float64{0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 10, 30, 60}, "dimension", "window"),
		changed:   counter("topk_refresher_changed_entries_total", "Entries of charts that were written to or removed from Redis.", "dimension", "window"),
		sent:      counter("topk_refresher_published_total", "Charts that were published, changed or not.", "dimension", "window"),
		refreshed: gauge("topk_refresher_last_success_timestamp_seconds", "When charts of the window were last published.", "window"),
	}
}

// dimension is that of a chart's first term; of several terms it is "joined",
// and cities are told from countries.
func dimension(f topk.Filter) string {
	switch terms := f.Terms(); {
	case len(terms) > 1:
		return "joined"
	case terms[0].City():
		return "city"
	default:
		return string(terms[0].Dim)
	}
}

func (m metrics) published(p *board.Publication, window string, now time.Time) {
	dim := dimension(p.Chart.Filter)
	m.sent.WithLabelValues(dim, window).Inc()
	m.refreshed.WithLabelValues(window).Set(float64(now.UnixMilli()) / 1000)
	if changed := len(p.Removed) + len(p.Set); changed > 0 {
		m.changed.WithLabelValues(dim, window).Add(float64(changed))
	}
	if !p.Since.IsZero() {
		m.freshness.WithLabelValues(dim, window).Observe(now.Sub(p.Since).Seconds())
	}
}

func (m metrics) counted(c board.Count, took time.Duration, err error) {
	dim, window := dimension(c.Filter), c.Window.String()
	if err != nil {
		m.rebaseFail.WithLabelValues(dim, window).Inc()
		return
	}
	why := "doubt"
	if c.Audit {
		why = "audit"
	}
	m.rebases.WithLabelValues(dim, window, why).Observe(took.Seconds())
}

func (m metrics) measure(b *board.Board) {
	window, size := b.Window().String(), b.Size()
	m.charts.WithLabelValues(window).Set(float64(size.Charts))
	m.entries.WithLabelValues(window).Set(float64(size.Entries))
	m.bytes.WithLabelValues(window).Set(float64(size.Bytes))
	m.suspects.WithLabelValues(window).Set(float64(size.Suspects))
}
