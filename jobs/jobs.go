// Package jobs runs the scheduled jobs: each on its own schedule, with a
// deadline, never twice at the same time in this process, and with metrics.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/robfig/cron/v3"

	"github.com/topk-charts/topk"
)

// A Job is something to be done again and again. All fields are required.
type Job struct {
	Name    string // as in metrics and commands
	Spec    string // five cron fields in UTC, or @every 5m, @hourly, …
	Timeout time.Duration
	Run     func(context.Context) error
}

// ErrRunning says that the job was not started, because it is running already.
var ErrRunning = errors.New("the job is still running")

// Config is what a Runner works with; all of it is required.
type Config struct {
	Jobs     []Job
	Clock    topk.Clock
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// A Runner runs jobs. It is safe for concurrent use.
type Runner struct {
	log     *slog.Logger
	clock   topk.Clock
	metrics metrics
	jobs    map[string]*job
}

type job struct {
	Job
	schedule cron.Schedule
	running  sync.Mutex
}

// New checks the jobs, all of them, and registers their metrics.
func New(cfg Config) (*Runner, error) {
	r := &Runner{log: cfg.Log, clock: cfg.Clock, metrics: newMetrics(cfg.Registry), jobs: make(map[string]*job, len(cfg.Jobs))}
	var wrong []error
	for _, j := range cfg.Jobs {
		schedule, err := ParseSpec(j.Spec)
		switch {
		case err != nil:
			wrong = append(wrong, fmt.Errorf("job %s: %w", j.Name, err))
		case j.Name == "" || j.Run == nil || j.Timeout <= 0:
			wrong = append(wrong, fmt.Errorf("job %q: a name, a timeout and something to run are needed", j.Name))
		case r.jobs[j.Name] != nil:
			wrong = append(wrong, fmt.Errorf("job %s: there are two", j.Name))
		default:
			r.jobs[j.Name] = &job{Job: j, schedule: schedule}
			r.metrics.begin(j.Name)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return r, nil
}

// ParseSpec reads a schedule: five cron fields, @every DURATION, or one of
// @hourly, @daily, @weekly, @monthly. The error says what is wrong with it.
func ParseSpec(spec string) (cron.Schedule, error) {
	schedule, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w", spec, err)
	}
	return schedule, nil
}

// Run runs every job on its schedule until ctx ends, and waits for those that
// are under way, whose contexts end with it. A job that fails is logged and
// runs again when it is due; a job that is due while it still runs is skipped.
func (r *Runner) Run(ctx context.Context) error {
	schedules := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger))
	for _, j := range r.jobs {
		schedules.Schedule(j.schedule, cron.FuncJob(func() {
			if ctx.Err() == nil {
				_ = r.run(ctx, j) // logged and counted
			}
		}))
	}
	schedules.Start()
	<-ctx.Done()
	<-schedules.Stop().Done()
	return nil
}

// Once runs a job now, whenever it is due. The error is the job's own, ErrRunning,
// or a topk.ErrNotFound.
func (r *Runner) Once(ctx context.Context, name string) error {
	j := r.jobs[name]
	if j == nil {
		return fmt.Errorf("job %q: %w", name, topk.ErrNotFound)
	}
	return r.run(ctx, j)
}

// run runs a job within its deadline, unless it is running.
func (r *Runner) run(ctx context.Context, j *job) error {
	if !j.running.TryLock() {
		r.metrics.runs.WithLabelValues(j.Name, skipped).Inc()
		r.log.WarnContext(ctx, "job is due again and still running", "job", j.Name)
		return fmt.Errorf("%s: %w", j.Name, ErrRunning)
	}
	defer j.running.Unlock()
	start := r.clock()
	err := within(ctx, j.Timeout, j.Run)
	took := r.clock().Sub(start)
	if err != nil && ctx.Err() != nil { // stopped from outside: no failure of the job
		return fmt.Errorf("%s: %w", j.Name, err)
	}
	r.metrics.duration.WithLabelValues(j.Name).Observe(took.Seconds())
	if err != nil {
		r.metrics.runs.WithLabelValues(j.Name, failed).Inc()
		r.log.ErrorContext(ctx, "job failed", "job", j.Name, "took", took, "error", err)
		return fmt.Errorf("%s: %w", j.Name, err)
	}
	r.metrics.runs.WithLabelValues(j.Name, succeeded).Inc()
	r.metrics.success.WithLabelValues(j.Name).Set(float64(r.clock().UnixMilli()) / 1000)
	r.log.DebugContext(ctx, "job done", "job", j.Name, "took", took)
	return nil
}

func within(ctx context.Context, timeout time.Duration, run func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return run(ctx)
}
