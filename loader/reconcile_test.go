package loader_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/snapshot"
)

// What a check finds is told to the caller and to Prometheus.
func TestReconcile(t *testing.T) {
	env := embeddedtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(migrations.Up(ctx, env.DSN, migrations.Wiring{Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules()}))
	store, err := snapshot.Open(ctx, env.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1, ReadTimeout: 30 * time.Second})
	must(err)
	defer store.Close()
	checker, err := check.Open(check.Config{
		ClickHouseURL: env.DSN, KafkaBrokers: env.Brokers, Snapshots: store, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	must(err)
	defer func() { must(checker.Close()) }()
	registry := prometheus.NewRegistry()
	reconciler := loader.NewReconciler(checker, check.Options{Days: 2, Charts: 10, Repair: true}, time.Now, slog.New(slog.DiscardHandler), registry)
	says := func(want string, metrics ...string) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), metrics...); err != nil {
			t.Error(err)
		}
	}
	outcomes := func(exact, differs string) {
		t.Helper()
		says(`
			# HELP topk_check_runs_total Checks, by outcome: exact, differs, or incomplete because a server could not be asked.
			# TYPE topk_check_runs_total counter
			topk_check_runs_total{outcome="differs"} `+differs+`
			topk_check_runs_total{outcome="exact"} `+exact+`
			topk_check_runs_total{outcome="incomplete"} 0
		`, "topk_check_runs_total")
	}

	_, err = reconciler.Run(ctx)
	must(err)
	outcomes("1", "0")

	// One chart as it must be, and one of a play that nobody sent.
	publisher := store.NewPublisher(snapshot.PublisherOptions{})
	now := time.Now()
	right := topk.Chart{Window: topk.LastHour, AsOf: now, Span: topk.LastHour.At(now, topk.DefaultCalendar()), Watermark: topk.Watermark{}}
	wrong := right
	wrong.Filter = topk.NewFilter(topk.Term{Dim: topk.DimDevice, Value: "mobile"})
	wrong.Entries, wrong.TotalPlays = []topk.Entry{{Rank: 1, SongID: "s1", Plays: 1}}, 1
	for _, c := range []topk.Chart{right, wrong} {
		must(publisher.Put(ctx, c))
	}
	if _, err := reconciler.Run(ctx); !errors.Is(err, loader.ErrDiffers) {
		t.Errorf("a wrong chart: %v", err)
	}
	outcomes("1", "1")
	says(`
		# HELP topk_check_chart_error_ratio The Top-K error rate: wrong charts among those compared by the last check.
		# TYPE topk_check_chart_error_ratio gauge
		topk_check_chart_error_ratio 0.5
		# HELP topk_check_charts_compared_total Served charts that were counted anew from the log.
		# TYPE topk_check_charts_compared_total counter
		topk_check_charts_compared_total 2
		# HELP topk_check_charts_wrong_total Served charts that were not what the log says.
		# TYPE topk_check_charts_wrong_total counter
		topk_check_charts_wrong_total 1
		# HELP topk_check_differences Differences that the last check found and did not repair.
		# TYPE topk_check_differences gauge
		topk_check_differences{check="served charts"} 1
	`, "topk_check_chart_error_ratio", "topk_check_charts_compared_total", "topk_check_charts_wrong_total", "topk_check_differences")
}
