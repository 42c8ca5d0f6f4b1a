package loader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/check"
)

// ErrDiffers says that what is stored or served is not what it must be.
var ErrDiffers = errors.New("not everything is exact")

// A Reconciler checks that everything is exact, again and again, repairs what it
// can, and tells Prometheus.
type Reconciler struct {
	checker *check.Checker
	opts    check.Options
	clock   topk.Clock
	log     *slog.Logger
	metrics reconcileMetrics
}

// NewReconciler makes a reconciler and registers its metrics.
func NewReconciler(checker *check.Checker, opts check.Options, clock topk.Clock, log *slog.Logger, registry prometheus.Registerer) *Reconciler {
	return &Reconciler{checker: checker, opts: opts, clock: clock, log: log, metrics: newReconcileMetrics(registry)}
}

// Run checks once. The error is nil when everything was checked and is exact, if
// only after a repair; an ErrDiffers when something is not.
func (r *Reconciler) Run(ctx context.Context) (check.Report, error) {
	report, err := r.checker.Run(ctx, r.opts)
	r.metrics.observe(report, err, r.clock())
	for _, d := range report.Differences {
		r.log.ErrorContext(ctx, "difference", "check", d.Check, "where", d.Where, "what", d.What)
	}
	if !report.Exact() {
		err = errors.Join(fmt.Errorf("%w: %d differences", ErrDiffers, len(report.Differences)), err)
	}
	return report, err
}

type reconcileMetrics struct {
	runs                                *prometheus.CounterVec
	lastRun                             prometheus.Gauge
	differences                         *prometheus.GaugeVec
	chartsCompared, chartsWrong         prometheus.Counter
	errorRate                           prometheus.Gauge
	lost, unknown, eventsTwice, offsets prometheus.Gauge
	kafkaLag                            *prometheus.GaugeVec
	rollupPlays, rollupSeconds          *prometheus.GaugeVec
	repairs                             *prometheus.CounterVec
}

// The outcomes of a check.
const (
	outcomeExact      = "exact"
	outcomeDiffers    = "differs"
	outcomeIncomplete = "incomplete"
)

func newReconcileMetrics(registry prometheus.Registerer) reconcileMetrics {
	auto := promauto.With(registry)
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return auto.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{label})
	}
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	m := reconcileMetrics{
		runs: auto.NewCounterVec(prometheus.CounterOpts{Name: "topk_check_runs_total",
			Help: "Checks, by outcome: exact, differs, or incomplete because a server could not be asked."}, []string{"outcome"}),
		lastRun:        gauge("topk_check_last_run_timestamp_seconds", "When the last check ended."),
		differences:    gauges("topk_check_differences", "Differences that the last check found and did not repair.", "check"),
		chartsCompared: counter("topk_check_charts_compared_total", "Served charts that were counted anew from the log."),
		chartsWrong:    counter("topk_check_charts_wrong_total", "Served charts that were not what the log says."),
		errorRate:      gauge("topk_check_chart_error_ratio", "The Top-K error rate: wrong charts among those compared by the last check."),
		lost:           gauge("topk_check_messages_lost", "Messages of Kafka that ClickHouse has read and that are in no table."),
		unknown:        gauge("topk_check_messages_unknown", "Offsets that are in no table, of which Kafka does not say any more what they were."),
		eventsTwice:    gauge("topk_check_events_twice", "Events that are in the log twice."),
		offsets:        gauge("topk_check_offsets_twice", "Messages that are in the log twice."),
		kafkaLag:       gauges("topk_kafka_lag_messages", "Messages of the partition that ClickHouse has not committed yet.", "partition"),
		rollupPlays:    gauges("topk_rollup_lag_plays", "Plays of the log that the rollup has not counted yet. (Queries count them from the log.)", "rollup"),
		rollupSeconds:  gauges("topk_rollup_lag_seconds", "For how long the oldest of them has waited.", "rollup"),
		repairs: auto.NewCounterVec(prometheus.CounterOpts{Name: "topk_check_repairs_total",
			Help: "Partitions of the rollup that differed from the log and were rebuilt."}, []string{"rollup"}),
	}
	for _, outcome := range []string{outcomeExact, outcomeDiffers, outcomeIncomplete} {
		m.runs.WithLabelValues(outcome)
	}
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		m.repairs.WithLabelValues(rollup)
	}
	return m
}

// observe takes over what a check found; what it could not ask about stays as
// it was.
func (m reconcileMetrics) observe(report check.Report, err error, now time.Time) {
	outcome := outcomeExact
	switch {
	case !report.Exact():
		outcome = outcomeDiffers
	case err != nil:
		outcome = outcomeIncomplete
	}
	m.runs.WithLabelValues(outcome).Inc()
	m.lastRun.Set(float64(now.UnixMilli()) / 1000)
	m.differences.Reset()
	for _, d := range report.Differences {
		m.differences.WithLabelValues(d.Check).Inc()
	}
	if charts := report.Charts; charts.Compared > 0 {
		m.chartsCompared.Add(float64(charts.Compared))
		m.chartsWrong.Add(float64(charts.Wrong))
		m.errorRate.Set(float64(charts.Wrong) / float64(charts.Compared))
	}
	if partitions := report.Kafka.Partitions; len(partitions) > 0 {
		unknown := uint64(0)
		for _, p := range partitions {
			m.kafkaLag.WithLabelValues(strconv.Itoa(int(p.Partition))).Set(float64(p.Lag))
			unknown += p.Unknown
		}
		m.lost.Set(float64(report.Kafka.Lost()))
		m.unknown.Set(float64(unknown))
	}
	m.eventsTwice.Set(float64(report.Log.EventsTwice))
	m.offsets.Set(float64(report.Log.OffsetsTwice))
	for _, rollup := range report.Rollups {
		m.rollupPlays.WithLabelValues(rollup.Name).Set(float64(rollup.Behind))
		m.rollupSeconds.WithLabelValues(rollup.Name).Set(time.Duration(rollup.BehindFor).Seconds())
	}
	for _, repair := range report.Repairs {
		m.repairs.WithLabelValues(repair.Rollup).Inc()
	}
}
