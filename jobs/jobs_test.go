package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/jobs"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func newRunner(t *testing.T, all ...jobs.Job) (*jobs.Runner, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	runner, err := jobs.New(jobs.Config{Jobs: all, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Registry: registry})
	if err != nil {
		t.Fatal(err)
	}
	return runner, registry
}

// during runs the runner for so long of the bubble's time.
func during(t *testing.T, d time.Duration, runner *jobs.Runner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := runner.Run(ctx); err != nil {
		t.Error(err)
	}
}

// outcomes are what the metrics say of a job: "succeeded failed skipped".
func outcomes(t *testing.T, registry *prometheus.Registry, job string) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]float64{}
	for _, family := range families {
		if family.GetName() != "topk_job_runs_total" {
			continue
		}
		for _, m := range family.GetMetric() { // labels are sorted: job, outcome
			if m.GetLabel()[0].GetValue() == job {
				count[m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return fmt.Sprint(count["succeeded"], count["failed"], count["skipped"])
}

func TestJobsRunOnTheirSchedules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fast, hourly []time.Time
		runner, registry := newRunner(t,
			jobs.Job{Name: "fast", Spec: "@every 10s", Timeout: time.Minute, Run: func(context.Context, *jobs.Report) error {
				fast = append(fast, time.Now().UTC())
				return nil
			}},
			jobs.Job{Name: "hourly", Spec: "30 * * * *", Timeout: time.Minute, Run: func(context.Context, *jobs.Report) error {
				hourly = append(hourly, time.Now().UTC())
				return errors.New("no luck")
			}})
		during(t, 2*time.Hour+time.Second, runner)
		if len(fast) != 720 || fast[1].Sub(fast[0]) != 10*time.Second {
			t.Errorf("every 10 s for two hours: ran %d times", len(fast))
		}
		if len(hourly) != 2 || hourly[0].Minute() != 30 {
			t.Errorf("at half past: ran at %v", hourly)
		}
		if got := outcomes(t, registry, "fast"); got != "720 0 0" {
			t.Errorf("fast: %s", got)
		}
		if got := outcomes(t, registry, "hourly"); got != "0 2 0" {
			t.Errorf("hourly: %s", got)
		}
	})
}

// A job that is due while it runs is skipped, ends at its deadline, and is
// waited for when the runner ends.
func TestJobsDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most, ended := 0, 0, 0
		runner, registry := newRunner(t, jobs.Job{Name: "slow", Spec: "@every 1m", Timeout: 150 * time.Second,
			Run: func(ctx context.Context, _ *jobs.Report) error {
				running++
				most = max(most, running)
				<-ctx.Done()
				time.Sleep(time.Second) // to clean up
				running--
				ended++
				return ctx.Err()
			}})
		during(t, 10*time.Minute+30*time.Second, runner)
		// It runs at 1, 4, 7 and 10 min; the last run ends with the runner,
		// which is no failure.
		if most != 1 || ended != 4 || running != 0 {
			t.Errorf("at most %d at once, %d ended, %d left running", most, ended, running)
		}
		if got := outcomes(t, registry, "slow"); got != "0 3 6" {
			t.Errorf("succeeded, failed, skipped: %s", got)
		}
	})
}

// A run begins at random within the jitter after it is due, and never later than
// half the time until it is due again.
func TestJitterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct{ jitter, bound time.Duration }{{0, 0}, {3 * time.Second, 3 * time.Second}, {time.Hour, 5 * time.Second}} {
			late := map[time.Duration]bool{}
			latest := time.Duration(0)
			runner, _ := newRunner(t, jobs.Job{Name: "j", Spec: "@every 10s", Timeout: time.Minute, Jitter: c.jitter,
				Run: func(context.Context, *jobs.Report) error {
					after := time.Since(time.Now().Truncate(10 * time.Second))
					late[after], latest = true, max(latest, after)
					return nil
				}})
			during(t, time.Hour, runner)
			if latest > c.bound || c.bound > 0 && (len(late) < 100 || latest < c.bound/2) {
				t.Errorf("a jitter of %s: %d different, up to %s", c.jitter, len(late), latest)
			}
		}
	})
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		release := make(chan struct{})
		runner, registry := newRunner(t,
			jobs.Job{Name: "good", Spec: "@daily", Timeout: time.Second, Run: func(context.Context, *jobs.Report) error { return nil }},
			jobs.Job{Name: "bad", Spec: "@daily", Timeout: time.Second, Run: func(context.Context, *jobs.Report) error { return broken }},
			jobs.Job{Name: "long", Spec: "@daily", Timeout: time.Hour, Run: func(context.Context, *jobs.Report) error { <-release; return nil }})
		if err := runner.Once(t.Context(), "good"); err != nil {
			t.Error(err)
		}
		if err := runner.Once(t.Context(), "bad"); !errors.Is(err, broken) {
			t.Errorf("a failing job: %v", err)
		}
		if err := runner.Once(t.Context(), "none"); !errors.Is(err, topk.ErrNotFound) {
			t.Errorf("an unknown job: %v", err)
		}
		first := make(chan error)
		go func() { first <- runner.Once(t.Context(), "long") }()
		synctest.Wait()
		if err := runner.Once(t.Context(), "long"); !errors.Is(err, jobs.ErrRunning) {
			t.Errorf("a running job: %v", err)
		}
		close(release)
		if err := <-first; err != nil {
			t.Error(err)
		}
		want := fmt.Sprintf(`
			# HELP topk_job_last_success_timestamp_seconds When the scheduled job last succeeded; 0 when it has not since this process started.
			# TYPE topk_job_last_success_timestamp_seconds gauge
			topk_job_last_success_timestamp_seconds{job="bad"} 0
			topk_job_last_success_timestamp_seconds{job="good"} %[1]v
			topk_job_last_success_timestamp_seconds{job="long"} %[1]v
			`, float64(time.Now().Unix()))
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "topk_job_last_success_timestamp_seconds"); err != nil {
			t.Error(err)
		}
	})
}

func TestNewNamesEveryMistake(t *testing.T) {
	run := func(context.Context, *jobs.Report) error { return nil }
	_, err := jobs.New(jobs.Config{Clock: time.Now, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Jobs: []jobs.Job{
		{Name: "a", Spec: "every five minutes", Timeout: time.Second, Run: run},
		{Name: "b", Spec: "@daily", Run: run},
		{Name: "c", Spec: "@daily", Timeout: time.Second, Run: run},
		{Name: "c", Spec: "@daily", Timeout: time.Second, Run: run},
		{Name: "d", Spec: "@daily", Timeout: time.Second, Run: run, Jitter: -1},
		{Name: "E-f", Spec: "@daily", Timeout: time.Second, Run: run},
	}})
	for _, want := range []string{`job a: schedule "every five minutes"`, `job "b": a name of a-z`, "job c: there are two", "job d: its jitter", `job "E-f": a name`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
