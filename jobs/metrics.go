package jobs

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/topk-charts/topk"
)

// The outcomes of a run.
const (
	succeeded = string(topk.JobSucceeded)
	failed    = string(topk.JobFailed)
	skipped   = "skipped"   // it was still running
	elsewhere = "elsewhere" // another process ran it
)

type metrics struct {
	runs     *prometheus.CounterVec
	duration *prometheus.HistogramVec
	success  *prometheus.GaugeVec
	last     *prometheus.GaugeVec
	lastTook *prometheus.GaugeVec
	lastRows *prometheus.GaugeVec

	ledgerFailures, lost prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) metrics {
	auto := promauto.With(registry)
	return metrics{
		runs: auto.NewCounterVec(prometheus.CounterOpts{
			Name: "topk_job_runs_total",
			Help: "Runs of scheduled jobs, by outcome: succeeded, failed, skipped because the last run was still under way, or elsewhere because another process ran it.",
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
		last: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "topk_job_last_run_timestamp_seconds",
			Help: "When the last run of the job in this process ended, well or not; 0 when there was none.",
		}, []string{"job"}),
		lastTook: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "topk_job_last_run_seconds", Help: "How long that run took.",
		}, []string{"job"}),
		lastRows: auto.NewGaugeVec(prometheus.GaugeOpts{
			Name: "topk_job_last_run_rows", Help: "What that run wrote, sent or repaired.",
		}, []string{"job"}),
		ledgerFailures: auto.NewCounter(prometheus.CounterOpts{
			Name: "topk_job_ledger_failures_total", Help: "Times that runs of jobs could not be written down, or requests for them not read.",
		}),
		lost: auto.NewCounter(prometheus.CounterOpts{
			Name: "topk_job_runs_unrecorded_total", Help: "States of runs that were never written down, since ClickHouse was away for too long.",
		}),
	}
}

// begin makes a job's series exist before its first run, so that alerts on
// their growth see that run.
func (m metrics) begin(job string) {
	for _, outcome := range []string{succeeded, failed, skipped, elsewhere} {
		m.runs.WithLabelValues(job, outcome)
	}
	m.duration.WithLabelValues(job)
	for _, gauge := range []*prometheus.GaugeVec{m.success, m.last, m.lastTook, m.lastRows} {
		gauge.WithLabelValues(job)
	}
}

// ended counts a run that succeeded or failed.
func (m metrics) ended(run topk.JobRun) {
	at := float64(run.EndedAt.UnixMilli()) / 1000
	took := run.Took().Seconds()
	m.runs.WithLabelValues(run.Job, string(run.State)).Inc()
	m.duration.WithLabelValues(run.Job).Observe(took)
	m.last.WithLabelValues(run.Job).Set(at)
	m.lastTook.WithLabelValues(run.Job).Set(took)
	m.lastRows.WithLabelValues(run.Job).Set(float64(run.Rows))
	if run.State == topk.JobSucceeded {
		m.success.WithLabelValues(run.Job).Set(at)
	}
}
