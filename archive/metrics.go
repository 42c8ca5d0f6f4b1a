package archive

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	until, lag                     prometheus.Gauge
	hours, revisions, plays, bytes prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) metrics {
	auto := promauto.With(registry)
	counter := func(name, help string) prometheus.Counter {
		return auto.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return auto.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	return metrics{
		until:     gauge("topk_archive_until_timestamp_seconds", "The hours of the log before that are in the archive; 0 when that is not known."),
		lag:       gauge("topk_archive_lag_seconds", "How long ago that was when the archive was last looked at: an hour or two are normal."),
		hours:     counter("topk_archive_hours_total", "Hours of the log that were archived, also anew."),
		revisions: counter("topk_archive_revisions_total", "Hours that were archived anew, because the log had other plays in them."),
		plays:     counter("topk_archive_plays_total", "Plays in those hours."),
		bytes:     counter("topk_archive_bytes_total", "Bytes that were written to the archive."),
	}
}

func (m metrics) observe(r Report, now time.Time) {
	m.hours.Add(float64(r.Hours))
	m.revisions.Add(float64(r.Revisions))
	m.plays.Add(float64(r.Plays))
	m.bytes.Add(float64(r.Bytes))
	if !r.Until.IsZero() {
		m.until.Set(float64(r.Until.Unix()))
		m.lag.Set(now.Sub(r.Until).Seconds())
	}
}
