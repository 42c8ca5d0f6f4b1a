package jobs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/jobs"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

// A deployment is a database where runners meet.
type deployment struct {
	*testing.T
	env    *embeddedtest.Env
	db     *queries.DB
	ledger *jobs.Ledger
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	env := embeddedtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, env.DSN, migrations.Wiring{Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules()}); err != nil {
		t.Fatal(err)
	}
	d := &deployment{T: t, env: env}
	d.db, d.ledger = openLedger(t, env.DSN)
	return d
}

func openLedger(t *testing.T, dsn string) (*queries.DB, *jobs.Ledger) {
	t.Helper()
	db, err := queries.Open(dsn, topk.DefaultCalendar())
	if err != nil {
		t.Fatal(err)
	}
	ledger, err := jobs.OpenLedger(dsn, db, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ledger.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return db, ledger
}

// A replica is one of the runners.
type replica struct {
	*jobs.Runner
	registry *prometheus.Registry
}

func newReplica(t *testing.T, ledger *jobs.Ledger, all ...jobs.Job) *replica {
	t.Helper()
	r := &replica{registry: prometheus.NewRegistry()}
	var err error
	if r.Runner, err = jobs.New(jobs.Config{
		Jobs: all, Ledger: ledger, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Registry: r.registry,
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// while runs the replicas until the test's part is done.
func while(t *testing.T, part func(), replicas ...*replica) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	for _, r := range replicas {
		all.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	part()
}

func (d *deployment) await(what string, ok func() bool) {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), 30*time.Second)
	defer cancel()
	embeddedtest.WaitFor(ctx, d, what, ok)
}

// runs are those of a job, newest first, as "state trigger".
func (d *deployment) runs(job string) []string {
	d.Helper()
	var got []string
	for _, run := range d.job(job).Runs {
		got = append(got, fmt.Sprint(run.State, " ", run.Trigger))
	}
	return got
}

func (d *deployment) job(name string) topk.Job {
	d.Helper()
	all, err := d.ledger.Jobs(d.Context(), 100)
	if err != nil {
		d.Fatal(err)
	}
	for _, job := range all {
		if job.Name == name {
			return job
		}
	}
	return topk.Job{}
}

func (d *deployment) save(runs ...topk.JobRun) {
	d.Helper()
	if err := d.db.SaveJobRuns(d.Context(), runs...); err != nil {
		d.Fatal(err)
	}
}

// ran is a run that was due then.
func ran(job string, due time.Time, state topk.JobState) topk.JobRun {
	return topk.JobRun{ID: "00" + due.Format(time.RFC3339), Job: job, Trigger: topk.BySchedule, State: state, Host: "other", Due: due, AskedAt: due, StartedAt: due}
}

// counted is what a replica's metrics say of a job.
func counted(t *testing.T, r *replica, job, outcome string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "topk_job_runs_total" && m.GetLabel()[0].GetValue() == job && m.GetLabel()[1].GetValue() == outcome {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// Two runners never run one job at once, nor do both what is due, however short
// it is.
func TestOneRunOverAllReplicas(t *testing.T) {
	d := newDeployment(t)
	var inside, ran atomic.Int32
	job := jobs.Job{Name: "tick", Spec: "@every 1s", Timeout: time.Minute, Jitter: 100 * time.Millisecond,
		Run: func(_ context.Context, report *jobs.Report) error {
			if inside.Add(1) != 1 {
				t.Error("it runs twice at once")
			}
			defer inside.Add(-1)
			if ran.Add(1)%2 == 0 {
				<-time.After(1200 * time.Millisecond) // so that it is due again meanwhile
			}
			report.AddRows(5)
			report.AddBytes(7)
			report.Say("%d", 9)
			return nil
		}}
	a, b := newReplica(t, d.ledger, job), newReplica(t, d.ledger, job)
	while(t, func() {
		d.await("it has run often, and been left to the other", func() bool {
			return ran.Load() >= 6 && counted(t, a, "tick", "elsewhere")+counted(t, b, "tick", "elsewhere") >= 3
		})
	}, a, b)
	due := map[time.Time]bool{}
	runs := d.job("tick").Runs
	for _, run := range runs {
		if due[run.Due] || run.Due.IsZero() {
			t.Errorf("it was done twice: %+v", run)
		}
		due[run.Due] = true
		if run.State != topk.JobSucceeded || run.Rows != 5 || run.Bytes != 7 || run.Detail != "9" || run.Host == "" || run.EndedAt.Before(run.StartedAt) {
			t.Errorf("its row is %+v", run)
		}
	}
	if len(runs) != int(ran.Load()) {
		t.Errorf("%d rows of %d runs", len(runs), ran.Load())
	}
	if job := d.job("tick"); job.Schedule != "@every 1s" || job.Next.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("the schedule is told as %s, next %s", job.Schedule, job.Next)
	}
}

// After a stop, what was due meanwhile is done once, by one of the replicas, and
// only by jobs that want it.
func TestMissedRunsAreCaughtUpOnce(t *testing.T) {
	d := newDeployment(t)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	ago := func(days int) time.Time { return today.AddDate(0, 0, -days) }
	d.save(ran("behind", ago(5), topk.JobSucceeded), ran("failing", ago(3), topk.JobFailed), ran("killed", ago(4), topk.JobSucceeded),
		ran("killed", ago(0), topk.JobInterrupted), ran("first", ago(0), topk.JobInterrupted),
		ran("current", ago(0), topk.JobFailed), ran("careless", ago(5), topk.JobSucceeded))
	d.save(topk.JobRun{ID: "hand", Job: "late", Trigger: topk.ByHand, State: topk.JobSucceeded, AskedAt: today.Add(time.Millisecond), StartedAt: today.Add(time.Millisecond)})
	d.save(ran("late", ago(2), topk.JobSucceeded))

	var all []jobs.Job
	var ran sync.Map
	hold := make(chan struct{})
	for _, name := range []string{"behind", "failing", "killed", "first", "current", "late", "new", "careless"} {
		all = append(all, jobs.Job{Name: name, Spec: "@daily", Timeout: time.Minute, CatchUp: name != "careless", Run: func(ctx context.Context, _ *jobs.Report) error {
			n, _ := ran.LoadOrStore(name, new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return nil
		}})
	}
	a, b := newReplica(t, d.ledger, all...), newReplica(t, d.ledger, all...)
	while(t, func() {
		d.await("each replica has tried", func() bool {
			for _, name := range []string{"behind", "failing", "killed", "first"} {
				if counted(t, a, name, "elsewhere")+counted(t, b, name, "elsewhere") != 1 {
					return false
				}
			}
			return true
		})
		close(hold)
		d.await("they are done", func() bool {
			return d.runs("behind")[0] == "succeeded caught-up" && d.runs("failing")[0] == "succeeded caught-up" &&
				d.runs("killed")[0] == "succeeded caught-up" && d.runs("first")[0] == "succeeded caught-up"
		})
	}, a, b)
	again := newReplica(t, d.ledger, append(all, jobs.Job{Name: "probe", Spec: "@daily", Timeout: time.Minute, Run: func(context.Context, *jobs.Report) error { return nil }})...)
	while(t, func() {
		d.await("the replica has begun", func() bool { return d.job("probe").Schedule != "" })
		if _, err := d.ledger.Ask(t.Context(), "probe"); err != nil {
			t.Fatal(err)
		}
		// It answers after it has caught up.
		d.await("it has answered", func() bool { return len(d.runs("probe")) == 1 && d.runs("probe")[0] == "succeeded api" })
	}, again)
	got := map[string]int32{}
	ran.Range(func(name, n any) bool { got[name.(string)] = n.(*atomic.Int32).Load(); return true })
	if want := map[string]int32{"behind": 1, "failing": 1, "killed": 1, "first": 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("ran %v, want %v", got, want)
	}
	if run := d.job("behind").Runs[0]; !run.Due.Equal(today) {
		t.Errorf("caught up for %s, not %s", run.Due, today)
	}
}

// TestRunnerProcess is the process that TestKilledRunner kills.
func TestRunnerProcess(t *testing.T) {
	dsn := os.Getenv("RUNNER_DSN")
	if dsn == "" {
		t.Log("only as a process of TestKilledRunner")
		return
	}
	_, ledger := openLedger(t, dsn)
	runner := newReplica(t, ledger, jobs.Job{Name: "long", Spec: "@every 1s", Timeout: time.Hour, Run: func(ctx context.Context, _ *jobs.Report) error {
		<-ctx.Done()
		return ctx.Err()
	}})
	if err := runner.Run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestKilledRunner(t *testing.T) {
	d := newDeployment(t)
	monthAgo := time.Now().UTC().AddDate(0, -1, 0)
	d.save(ran("long", monthAgo, topk.JobSucceeded))
	process := exec.Command(os.Args[0], "-test.run=^TestRunnerProcess$")
	process.Env = append(os.Environ(), "RUNNER_DSN="+d.env.DSN)
	var out bytes.Buffer
	process.Stdout, process.Stderr = &out, &out
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	killed := sync.OnceFunc(func() {
		if err := process.Process.Kill(); err != nil {
			t.Error(err)
		}
		if err := process.Wait(); err == nil {
			t.Error("it ended by itself")
		}
	})
	defer killed()
	d.await("the process runs the job", func() bool { return fmt.Sprint(d.runs("long")) == "[running schedule succeeded schedule]" })
	if _, err := d.ledger.Ask(t.Context(), "long"); !errors.Is(err, topk.ErrConflict) {
		t.Errorf("asked for while it runs: %v", err)
	}
	var ran atomic.Int32
	other := newReplica(t, d.ledger, jobs.Job{Name: "long", Spec: "@monthly", Timeout: time.Minute, CatchUp: true, Run: func(context.Context, *jobs.Report) error {
		ran.Add(1)
		return nil
	}})
	while(t, func() {
		d.await("the other leaves it to the process", func() bool { return counted(t, other, "long", "elsewhere") == 1 })
		killed()
		if ran.Load() != 0 {
			t.Error("it ran beside the process")
		}
		// As a minute later: tablelock's tests show that it expires.
		if err := d.env.ClickHouse.Exec(t.Context(), "DROP TABLE running_long SYNC"); err != nil {
			t.Fatal(err)
		}
		// Although it is not due: nobody has done what was.
		d.await("the other takes over", func() bool {
			return fmt.Sprint(d.runs("long")) == "[interrupted schedule succeeded caught-up succeeded schedule]"
		})
	}, other)
	if killed := d.job("long").Runs[0]; ran.Load() != 1 || killed.Error == "" {
		t.Errorf("ran %d times, and the killed run is told as %+v\n%s", ran.Load(), killed, out.String())
	}
}

// Until the next run says so, the answer does.
func TestDeadRunIsToldApart(t *testing.T) {
	d := newDeployment(t)
	now := time.Now()
	d.save(topk.JobRun{ID: "1", Job: "dead", Trigger: topk.ByHand, State: topk.JobRunning, AskedAt: now, StartedAt: now},
		topk.JobRun{ID: "2", Job: "forgotten", Trigger: topk.ByAPI, State: topk.JobRequested, AskedAt: now.Add(-61 * time.Minute)},
		topk.JobRun{ID: "3", Job: "waiting", Trigger: topk.ByAPI, State: topk.JobRequested, AskedAt: now.Add(-59 * time.Minute)})
	if got := fmt.Sprint(d.runs("dead"), d.runs("forgotten"), d.runs("waiting")); got != "[interrupted by hand] [interrupted api] [requested api]" {
		t.Error(got)
	}
	if job := d.job("dead"); job.Schedule != "" || !job.Next.IsZero() {
		t.Errorf("it has a schedule: %+v", job)
	}
}

// A request is taken by one runner, once, however many ask.
func TestRequestIsTakenOnce(t *testing.T) {
	d := newDeployment(t)
	var ran atomic.Int32
	begun, hold := make(chan struct{}, 10), make(chan struct{})
	job := jobs.Job{Name: "asked", Spec: "@monthly", Timeout: time.Minute, Frequent: true, Run: func(ctx context.Context, _ *jobs.Report) error {
		ran.Add(1)
		begun <- struct{}{}
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil
	}}
	a, b := newReplica(t, d.ledger, job), newReplica(t, d.ledger, job)
	if _, err := d.ledger.Ask(t.Context(), "asked"); !errors.Is(err, topk.ErrNotFound) {
		t.Errorf("asked for what nobody runs: %v", err)
	}
	while(t, func() {
		d.await("they have begun", func() bool { return d.job("asked").Schedule != "" })
	}, a, b)

	var accepted atomic.Pointer[topk.JobRun]
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			run, err := d.ledger.Ask(t.Context(), "asked")
			switch {
			case errors.Is(err, topk.ErrConflict):
			case err != nil:
				t.Error(err)
			case !accepted.CompareAndSwap(nil, &run):
				t.Error("two requests were accepted")
			}
		})
	}
	all.Wait()
	if accepted.Load() == nil || fmt.Sprint(d.runs("asked")) != "[requested api]" {
		t.Fatalf("no request was accepted: %v", d.runs("asked"))
	}
	while(t, func() {
		<-begun
		d.await("it is running", func() bool { return fmt.Sprint(d.runs("asked")) == "[running api]" })
		if _, err := d.ledger.Ask(t.Context(), "asked"); !errors.Is(err, topk.ErrConflict) {
			t.Errorf("asked for while it runs: %v", err)
		}
		close(hold)
		d.await("it is done", func() bool { return fmt.Sprint(d.runs("asked")) == "[succeeded api]" })
		// The lock is let go just after that.
		d.await("it may be asked for again", func() bool {
			_, err := d.ledger.Ask(t.Context(), "asked")
			return err == nil
		})
		d.await("it is done again", func() bool { return fmt.Sprint(d.runs("asked")) == "[succeeded api succeeded api]" })
	}, a, b)
	if runs := d.job("asked").Runs; runs[1].ID != accepted.Load().ID || ran.Load() != 2 {
		t.Errorf("ran %d times: %+v", ran.Load(), runs)
	}
}

// What runs every few seconds leaves a row when it has something to say, or
// begins to fail; and every replica runs its own.
func TestFrequentJobsAreQuiet(t *testing.T) {
	d := newDeployment(t)
	var a, b atomic.Int32
	quiet := func(n *atomic.Int32) *replica {
		return newReplica(t, d.ledger, jobs.Job{Name: "look", Spec: "@every 1s", Timeout: time.Minute, Frequent: true, Run: func(_ context.Context, report *jobs.Report) error {
			switch i := n.Add(1); {
			case n == &a && i == 2:
				report.Say("mended")
			case n == &a && (i == 3 || i == 4):
				return errors.New("no luck")
			}
			return nil
		}})
	}
	while(t, func() {
		d.await("both run", func() bool { return a.Load() >= 6 && b.Load() >= 3 })
	}, quiet(&a), quiet(&b))
	if got := fmt.Sprint(d.runs("look")); got != "[failed schedule succeeded schedule]" {
		t.Error(got)
	}
}

// While ClickHouse is away jobs end as they do, and what became of them is
// written down when it is back.
func TestRecordingSurvivesAnOutage(t *testing.T) {
	d := newDeployment(t)
	target, err := url.Parse(d.env.ClickHouseURL)
	if err != nil {
		t.Fatal(err)
	}
	var away atomic.Bool
	forward := httputil.NewSingleHostReverseProxy(target)
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	_, ledger := openLedger(t, strings.Replace(d.env.DSN, d.env.ClickHouseURL, proxy.URL, 1))

	begun, end := make(chan struct{}), make(chan struct{})
	var frequent, locked atomic.Int32
	r := newReplica(t, ledger,
		jobs.Job{Name: "long", Spec: "@monthly", Timeout: time.Minute, Run: func(ctx context.Context, report *jobs.Report) error {
			close(begun)
			select {
			case <-end:
			case <-ctx.Done():
			}
			report.AddRows(1)
			return nil
		}},
		jobs.Job{Name: "locked", Spec: "@every 1s", Timeout: time.Minute, Run: func(context.Context, *jobs.Report) error {
			locked.Add(1)
			return nil
		}},
		jobs.Job{Name: "look", Spec: "@every 1s", Timeout: time.Minute, Frequent: true, Run: func(context.Context, *jobs.Report) error {
			frequent.Add(1)
			return nil
		}})
	while(t, func() {
		d.await("it has begun", func() bool { return d.job("long").Schedule != "" })
		if _, err := d.ledger.Ask(t.Context(), "long"); err != nil {
			t.Fatal(err)
		}
		<-begun
		d.await("the other job runs too", func() bool { return counted(t, r, "locked", "succeeded") > 0 && len(d.runs("locked")) > 0 })
		away.Store(true)
		seen := frequent.Load()
		close(end)
		d.await("the runner goes on", func() bool {
			return counted(t, r, "long", "succeeded") == 1 && counted(t, r, "locked", "failed") > 0 && frequent.Load() > seen
		})
		ran := locked.Load()
		d.await("it is due again", func() bool { return counted(t, r, "locked", "failed") >= 2 })
		if locked.Load() != ran {
			t.Error("it ran although nobody could say whether it runs elsewhere")
		}
		if got := fmt.Sprint(d.runs("long")); got != "[running api]" {
			t.Errorf("written down during the outage: %s", got)
		}
		away.Store(false)
		d.await("it is written down", func() bool { return fmt.Sprint(d.runs("long")) == "[succeeded api]" })
	}, r)
	if run := d.job("long").Runs[0]; run.Rows != 1 || run.EndedAt.IsZero() {
		t.Errorf("%+v", run)
	}
}
