package jobs

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/topk-charts/topk"
)

const (
	// attention is how long a request waits to be seen, and a row that ClickHouse
	// did not take to be written again.
	attention = time.Second
	// saving bounds one attempt to write down a run, also after the runner ends.
	saving = 10 * time.Second
	// maxUnsaved bounds the rows that wait for ClickHouse; the oldest are lost.
	maxUnsaved = 100
)

// attend does, until ctx ends, what the ledger asks for: jobs that are behind
// are caught up, once, and those that are asked for are run. While ClickHouse is
// away it waits.
func (r *Runner) attend(ctx context.Context) {
	var runs sync.WaitGroup
	defer runs.Wait()
	start := r.Clock()
	steps := []func() error{ // each once
		func() error { return r.register(ctx) },
		func() error { return r.catchUp(ctx, start, &runs) },
	}
	look := func() error {
		if err := r.saveLeft(ctx); err != nil {
			return err
		}
		for len(steps) > 0 {
			if err := steps[0](); err != nil {
				return err
			}
			steps = steps[1:]
		}
		return r.answer(ctx, &runs)
	}
	ticks := time.NewTicker(attention)
	defer ticks.Stop()
	for well := true; ; {
		err := look()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.metrics.ledgerFailures.Inc()
			if well {
				r.Log.WarnContext(ctx, "the ledger of jobs cannot be read or written", "error", err)
			}
		}
		well = err == nil
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// register says which jobs this process runs.
func (r *Runner) register(ctx context.Context) error {
	schedules := map[string]string{}
	for _, j := range r.jobs {
		if j.schedule != nil {
			schedules[j.Name] = j.Spec
		}
	}
	return r.Ledger.db.SaveJobSchedules(ctx, schedules)
}

// catchUp begins each job that wants it and was due before start, but not done.
func (r *Runner) catchUp(ctx context.Context, start time.Time, runs *sync.WaitGroup) error {
	var behind []func()
	for _, j := range r.jobs {
		if !j.CatchUp || j.schedule == nil {
			continue
		}
		_, done, err := r.Ledger.db.JobDone(ctx, j.Name)
		if err != nil {
			return err
		}
		if done.IsZero() { // it is new
			continue
		}
		if due := lastDue(j.schedule, done, start).UTC(); !due.IsZero() {
			r.Log.InfoContext(ctx, "job was due while no runner ran, and is caught up", "job", j.Name, "due", due)
			behind = append(behind, func() { r.do(ctx, j, topk.CaughtUp, due) })
		}
	}
	for _, run := range behind {
		runs.Go(run)
	}
	return nil
}

// answer begins the jobs that are asked for, unless they run.
func (r *Runner) answer(ctx context.Context, runs *sync.WaitGroup) error {
	requests, err := r.Ledger.requests(ctx)
	if err != nil {
		return fmt.Errorf("what is asked for: %w", err)
	}
	for _, run := range requests {
		if j := r.jobs[run.Job]; j != nil && j.asked.CompareAndSwap(false, true) {
			runs.Go(func() {
				defer j.asked.Store(false)
				_, _ = r.run(ctx, j, run) // logged and counted, or tried again
			})
		}
	}
	return nil
}

// save writes down what state a run is in, now or when ClickHouse is back. It
// never stops a run.
func (r *Runner) save(ctx context.Context, run topk.JobRun) {
	if r.Ledger == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saving)
	defer cancel()
	err := r.Ledger.db.SaveJobRuns(ctx, run)
	if err == nil {
		return
	}
	r.metrics.ledgerFailures.Inc()
	r.Log.WarnContext(ctx, "a run of a job could not be written down", "job", run.Job, "run", run.ID, "state", run.State, "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unsaved = append(r.unsaved, run); len(r.unsaved) > maxUnsaved {
		r.unsaved = r.unsaved[1:]
		r.metrics.lost.Inc()
	}
}

// saveLeft writes the rows that ClickHouse did not take.
func (r *Runner) saveLeft(ctx context.Context) error {
	r.mu.Lock()
	left := r.unsaved
	r.unsaved = nil
	r.mu.Unlock()
	err := r.Ledger.db.SaveJobRuns(ctx, left...)
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.unsaved = append(left, r.unsaved...)
		if more := len(r.unsaved) - maxUnsaved; more > 0 {
			r.unsaved = r.unsaved[more:]
			r.metrics.lost.Add(float64(more))
		}
	}
	return err
}
