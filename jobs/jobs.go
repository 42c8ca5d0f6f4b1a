// Package jobs runs the scheduled jobs: each on its own schedule, with a
// deadline, never twice at the same time over all processes, with metrics and a
// row in ClickHouse for every run.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"github.com/topk-charts/topk"
)

// A Job is something to be done again and again. Name, Timeout and Run are
// required, and Spec where it runs on a schedule.
type Job struct {
	Name    string // as in metrics, commands and the API: of a-z, 0-9 and _
	Spec    string // see ParseSpec
	Timeout time.Duration
	Run     func(context.Context, *Report) error

	// Jitter is how long at most a run waits after it is due, so that not all
	// begin at once; never more than half the time until it is due again.
	Jitter time.Duration
	// CatchUp: what is due gets done. What was due while no process ran jobs is
	// done at the start, once; and when a process is killed at it, another or the
	// next one does it.
	CatchUp bool
	// Frequent is for what looks every few seconds whether there is something to
	// do. Every process runs its own on the schedule, beside those of others; and
	// a run that says nothing of itself leaves no row, nor does a failure after a
	// failure.
	Frequent bool
}

// ErrRunning says that the job was not started, because it is running already.
var ErrRunning = fmt.Errorf("%w: the job is still running", topk.ErrConflict)

// errElsewhere is an ErrRunning in another process, or a run that it has done.
var errElsewhere = fmt.Errorf("%w in another process", ErrRunning)

// Config is what a Runner works with. All of it is required but for Ledger and
// Progress.
type Config struct {
	Jobs     []Job
	Ledger   *Ledger // nil: the process is alone, and nothing is written down
	Clock    topk.Clock
	Log      *slog.Logger
	Registry prometheus.Registerer
	// Progress shows how far a job is: update is called while it runs, stop when
	// it has ended. nil shows nothing.
	Progress func(job string) (update func(doing string, done, total int64), stop func())
}

// A Runner runs jobs. It is safe for concurrent use.
type Runner struct {
	Config
	host    string
	metrics metrics
	jobs    map[string]*job

	mu      sync.Mutex
	unsaved []topk.JobRun // that ClickHouse did not take
}

type job struct {
	Job
	schedule cron.Schedule
	running  sync.Mutex
	asked    atomic.Bool // a run that was asked for is about to begin, or goes on
	waiting  atomic.Bool // for what is done elsewhere
	failing  bool        // the last run failed; with running held
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// New checks the jobs, all of them, and registers their metrics.
func New(cfg Config) (*Runner, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	r := &Runner{Config: cfg, host: host, metrics: newMetrics(cfg.Registry), jobs: make(map[string]*job, len(cfg.Jobs))}
	var wrong []error
	for _, j := range cfg.Jobs {
		schedule, err := r.check(j)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		r.jobs[j.Name] = &job{Job: j, schedule: schedule}
		r.metrics.begin(j.Name)
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return r, nil
}

// check gives the job's schedule, nil for none.
func (r *Runner) check(j Job) (schedule cron.Schedule, err error) {
	if j.Spec != "" {
		if schedule, err = ParseSpec(j.Spec); err != nil {
			return nil, fmt.Errorf("job %s: %w", j.Name, err)
		}
	}
	switch {
	case !plainName.MatchString(j.Name) || j.Run == nil || j.Timeout <= 0:
		return nil, fmt.Errorf("job %q: a name of a-z, 0-9 and _, a timeout and something to run are needed", j.Name)
	case j.Jitter < 0:
		return nil, fmt.Errorf("job %s: its jitter must not be negative", j.Name)
	case r.jobs[j.Name] != nil:
		return nil, fmt.Errorf("job %s: there are two", j.Name)
	}
	return schedule, nil
}

// Run runs every job on its schedule and when it is asked for, until ctx ends,
// and waits for those that are under way, whose contexts end with it. A job that
// fails is logged and runs again when it is due; a job that is due while it still
// runs, here or elsewhere, is skipped.
func (r *Runner) Run(ctx context.Context) error {
	schedules := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger))
	for _, j := range r.jobs {
		if j.schedule == nil {
			continue
		}
		var entry cron.EntryID
		entry = schedules.Schedule(j.schedule, cron.FuncJob(func() {
			due := schedules.Entry(entry).Prev.UTC()
			if pause(ctx, min(j.Jitter, j.schedule.Next(due).Sub(due)/2)) {
				r.do(ctx, j, topk.BySchedule, due)
			}
		}))
	}
	schedules.Start()
	if r.Ledger != nil {
		r.attend(ctx)
	}
	<-ctx.Done()
	<-schedules.Stop().Done()
	return nil
}

// pause waits for a random time up to the longest, and tells whether ctx goes on.
func pause(ctx context.Context, longest time.Duration) bool {
	if longest > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(longest)):
		}
	}
	return ctx.Err() == nil
}

// do does what is due, unless another process does. Of a job that catches up it
// then sees to it that it is done: the other may be killed, or have been, and
// ClickHouse may be away.
func (r *Runner) do(ctx context.Context, j *job, trigger topk.JobTrigger, due time.Time) {
	run := topk.JobRun{Trigger: trigger, Due: due, AskedAt: due}
	begun, err := r.run(ctx, j, run)
	if begun || ctx.Err() != nil {
		return
	}
	r.left(ctx, j, err)
	if !j.CatchUp || !j.waiting.CompareAndSwap(false, true) {
		return
	}
	defer j.waiting.Store(false)
	for !begun && !r.done(ctx, j, due) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(patience):
		}
		begun, _ = r.run(ctx, j, run)
	}
}

// patience is between two looks at what another process does.
const patience = 5 * time.Second

// done tells whether somebody has done what was due then.
func (r *Runner) done(ctx context.Context, j *job, due time.Time) bool {
	if r.Ledger == nil {
		return true
	}
	_, ever, err := r.Ledger.db.JobDone(ctx, j.Name)
	return err == nil && !ever.Before(due)
}

// left counts and logs that a job was not begun.
func (r *Runner) left(ctx context.Context, j *job, err error) {
	switch {
	case errors.Is(err, errElsewhere):
		r.metrics.runs.WithLabelValues(j.Name, elsewhere).Inc()
		r.Log.DebugContext(ctx, "another process runs the job", "job", j.Name)
	case errors.Is(err, ErrRunning):
		r.metrics.runs.WithLabelValues(j.Name, skipped).Inc()
		r.Log.WarnContext(ctx, "job is due again and still running", "job", j.Name)
	default:
		r.metrics.runs.WithLabelValues(j.Name, failed).Inc()
		r.Log.ErrorContext(ctx, "job failed", "job", j.Name, "error", err)
	}
}

// Once runs a job now, whenever it is due; after the run of another process that
// is under way. The error is the job's own, ErrRunning, or a topk.ErrNotFound.
func (r *Runner) Once(ctx context.Context, name string) error {
	j := r.jobs[name]
	if j == nil {
		return fmt.Errorf("job %q: %w", name, topk.ErrNotFound)
	}
	begun, err := r.run(ctx, j, topk.JobRun{Trigger: topk.ByHand, AskedAt: r.Clock()})
	if !begun && ctx.Err() == nil {
		r.left(ctx, j, err)
	}
	return err
}

// run runs a job within its deadline, and counts, logs and writes down what
// becomes of that. It is not begun while it runs, here or elsewhere, when it has
// been done, or when nobody can say so: then it is the caller's to tell.
func (r *Runner) run(ctx context.Context, j *job, run topk.JobRun) (begun bool, err error) {
	if !j.running.TryLock() {
		return false, fmt.Errorf("%s: %w", j.Name, ErrRunning)
	}
	defer j.running.Unlock()
	if run.ID == "" {
		run.ID = newID()
	}
	run.Job = j.Name
	claimed, release, err := r.claim(ctx, j, run)
	if err != nil {
		return false, fmt.Errorf("%s: %w", j.Name, err)
	}
	defer release()
	run.Host, run.State, run.StartedAt = r.host, topk.JobRunning, r.Clock()
	loud := !j.Frequent || run.Trigger != topk.BySchedule
	if loud {
		r.save(ctx, run)
	}
	report := &Report{}
	err = r.within(claimed, j, report)
	r.end(ctx, j, &run, report, err)
	if loud || run.Rows > 0 || run.Bytes > 0 || run.Detail != "" || err != nil && !j.failing {
		r.save(ctx, run)
	}
	j.failing = err != nil
	if err != nil {
		return true, fmt.Errorf("%s: %w", j.Name, err)
	}
	return true, nil
}

// claim makes this process the only one that runs the job, under the context it
// gives, until release. Of several that want to do what is due, the first does
// it: errElsewhere for the others.
func (r *Runner) claim(ctx context.Context, j *job, run topk.JobRun) (claimed context.Context, release func(), err error) {
	if r.Ledger == nil || j.Frequent && run.Trigger == topk.BySchedule {
		return ctx, func() {}, nil
	}
	if run.Trigger != topk.ByHand { // who waits as long as it takes
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, j.Timeout)
		defer func() {
			if err != nil {
				cancel()
				return
			}
			unlock := release
			release = func() { unlock(); cancel() }
		}()
	}
	lock, err := r.Ledger.claim(ctx, run)
	if err != nil {
		return nil, func() {}, err
	}
	return lock.Context(), func() {
		if err := lock.Release(); err != nil { // it expires
			r.Log.WarnContext(ctx, "the lock of a job was not released", "job", j.Name, "error", err)
		}
	}, nil
}

func (r *Runner) within(ctx context.Context, j *job, report *Report) error {
	if r.Progress != nil {
		update, stop := r.Progress(j.Name)
		defer stop()
		report.progress = update
	}
	timed, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	err := j.Run(timed, report)
	if err != nil && ctx.Err() != nil && context.Cause(ctx) != ctx.Err() { // the lock was lost
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// end counts and logs what has become of a run, and says it in run.
func (r *Runner) end(ctx context.Context, j *job, run *topk.JobRun, report *Report, err error) {
	run.EndedAt = r.Clock()
	run.Rows, run.Bytes, run.Detail = report.read()
	took := run.Took()
	if err != nil {
		run.State, run.Error = topk.JobFailed, err.Error()
	} else {
		run.State = topk.JobSucceeded
	}
	if err != nil && ctx.Err() != nil { // stopped from outside: no failure of the job
		run.State = topk.JobInterrupted
		return
	}
	r.metrics.ended(*run)
	if err != nil {
		r.Log.ErrorContext(ctx, "job failed", "job", j.Name, "run", run.ID, "took", took, "error", err)
		return
	}
	r.Log.DebugContext(ctx, "job done", "job", j.Name, "run", run.ID, "took", took, "rows", run.Rows, "bytes", run.Bytes)
}
