package jobs

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The outcomes of a run.
const (
	succeeded = "succeeded"
	failed    = "failed"
	skipped   = "skipped" // it was still running
)

type metrics struct {
	runs     *prometheus.CounterVec
	duration *prometheus.HistogramVec
	success  *prometheus.GaugeVec
}

func newMetrics(registry prometheus.Registerer) metrics {
	auto := promauto.With(registry)
	return metrics{
		runs: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "topk_job_runs_total",
			Help: "Runs of scheduled jobs, by outcome: succeeded, failed, or skipped because the last run was still under way.",
		}, []string{"job", "outcome"}),
		duration: auto.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "topk_job_duration_seconds",
			Help:    "How long runs of scheduled jobs took.",
			Buckets: prometheus.ExponentialBuckets(0.01, 3, 12),
		}, []string{"job"}),
		success: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "topk_job_last_success_timestamp_seconds",
			Help: "When the scheduled job last succeeded; 0 when it has not since this process started.",
		}, []string{"job"}),
	}
}

// begin makes a job's series exist before its first run, so that alerts on
// their growth see that run.
func (m metrics) begin(job string) {
	for _, outcome := range []string{succeeded, failed, skipped} {
		m.runs.WithLabelValues(job, outcome)
	}
	m.duration.WithLabelValues(job)
	m.success.WithLabelValues(job)
}
