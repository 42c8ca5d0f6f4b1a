package loader_test

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

// When a date is looked at: once it is over and late plays had their time, then
// when it is twice as old, not more often than hourly nor less often than daily,
// and no more once a look came after the horizon. (What is closed then is tested
// where the questions are, in queries.)
func TestCloseLooksWhenItIsTime(t *testing.T) {
	env := embeddedtest.New(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(migrations.Up(t.Context(), env.DSN, migrations.Wiring{Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules()}))
	must(env.ClickHouse.Exec(t.Context(), `INSERT INTO rollup_day (dim, val, songId, ts, plays, week)
		VALUES ('global', '', 's1', '2026-01-06 00:00:00', 3, '2026-01-05')`))
	db, err := queries.Open(env.DSN, topk.DefaultCalendar())
	must(err)
	defer func() { must(db.Close()) }()
	end := time.Date(2026, 1, 7, 0, 0, 0, 0, time.UTC)
	now := end
	registry := prometheus.NewRegistry()
	closer, err := loader.OpenCloser(loader.CloserConfig{
		ClickHouseURL: env.DSN, DB: db, Calendar: topk.DefaultCalendar(), Lateness: 10 * time.Minute, Horizon: 8 * 24 * time.Hour,
		Clock: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), Registry: registry,
	})
	must(err)
	defer func() { must(closer.Close()) }()

	// look runs the job so long after the end, and tells whether the day was looked at.
	look := func(after time.Duration) bool {
		t.Helper()
		now = end.Add(after)
		if _, err := closer.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		runs, err := db.CloseRuns(t.Context())
		must(err)
		return slices.ContainsFunc(runs, func(r queries.CloseRun) bool {
			return r.Period == topk.Daily && r.Date.Equal(end.AddDate(0, 0, -1)) && r.Step == queries.CloseDone && !r.ClosedAt.Before(now)
		})
	}
	looks := 0
	for next := 10 * time.Minute; looks == 0 || next < 9*24*time.Hour; looks++ {
		if look(next - time.Second) {
			t.Errorf("looked before %s", next)
		}
		next += time.Second // other dates are looked at in the same run, and no two at the same instant
		if !look(next) {
			t.Errorf("did not look after %s", next)
		}
		if next > 8*24*time.Hour {
			break
		}
		next += min(max(next, time.Hour), 24*time.Hour)
	}
	if looks < 10 || looks > 15 {
		t.Errorf("%d looks", looks)
	}
	if look(20 * 24 * time.Hour) {
		t.Error("looked again, long after the horizon")
	}
	must(testutil.GatherAndCompare(registry, strings.NewReader(`
		# HELP topk_closed_charts_total Closed charts that were written, by revision: the first of its date, or a later one.
		# TYPE topk_closed_charts_total counter
		topk_closed_charts_total{period="day",revision="first"} 1
		topk_closed_charts_total{period="day",revision="later"} 0
		topk_closed_charts_total{period="week",revision="first"} 1
		topk_closed_charts_total{period="week",revision="later"} 0
		# HELP topk_closed_until_timestamp_seconds The end of the latest period whose charts are closed.
		# TYPE topk_closed_until_timestamp_seconds gauge
		topk_closed_until_timestamp_seconds{period="day"} 1.7693856e+09
		topk_closed_until_timestamp_seconds{period="week"} 1.7691264e+09
	`), "topk_closed_charts_total", "topk_closed_until_timestamp_seconds"))
}
