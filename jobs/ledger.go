package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tablelock"
	"github.com/topk-charts/topk/queries"
)

const (
	// askLock is held by whoever asks for a run.
	askLock = "asking_for_a_job"
	// lapse is how long a request waits for a runner.
	lapse = time.Hour
)

// A Ledger is what all runners and the API know together, in ClickHouse: the
// schedules, the runs, what is asked for, and who runs what. It is safe for
// concurrent use.
type Ledger struct {
	db    *queries.DB
	locks *sql.DB
	clock topk.Clock
}

// OpenLedger opens the ledger in the database of the URL, which db asks too.
func OpenLedger(url string, db *queries.DB, clock topk.Clock) (*Ledger, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	return &Ledger{db: db, locks: clickhouse.OpenDB(options), clock: clock}, nil
}

// Close releases the connections.
func (l *Ledger) Close() error { return l.locks.Close() }

// Jobs gives every job that has a schedule or has run, by name, each with its
// last runs.
func (l *Ledger) Jobs(ctx context.Context, runs int) ([]topk.Job, error) {
	schedules, err := l.db.JobSchedules(ctx)
	if err != nil {
		return nil, err
	}
	jobs := map[string]*topk.Job{}
	for name, spec := range schedules {
		job := &topk.Job{Name: name, Schedule: spec}
		if schedule, err := ParseSpec(spec); err == nil { // another version's, at worst
			job.Next = schedule.Next(l.clock())
		}
		jobs[name] = job
	}
	all, err := l.db.JobRuns(ctx, queries.JobRunFilter{}, runs)
	if err != nil {
		return nil, err
	}
	for _, run := range all {
		if run, err = l.judge(ctx, run); err != nil {
			return nil, err
		}
		job := jobs[run.Job]
		if job == nil {
			job = &topk.Job{Name: run.Job}
			jobs[run.Job] = job
		}
		job.Runs = append(job.Runs, run)
	}
	sorted := make([]topk.Job, 0, len(jobs))
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		sorted = append(sorted, *jobs[name])
	}
	return sorted, nil
}

// judge gives the run as it is, which its row does not say when whoever should
// have written there is dead.
func (l *Ledger) judge(ctx context.Context, run topk.JobRun) (topk.JobRun, error) {
	switch run.State {
	case topk.JobRequested:
		if l.clock().Sub(run.AskedAt) > lapse {
			run.State, run.Error = topk.JobInterrupted, "no runner took it within an hour"
		}
	case topk.JobRunning:
		held, err := tablelock.Held(ctx, l.locks, lockOf(run.Job))
		if err != nil || held {
			return run, err
		}
		// It ends by writing so and then letting go: look again, in this order.
		now, err := l.db.JobRuns(ctx, queries.JobRunFilter{Job: run.Job, ID: run.ID}, 1)
		if err != nil {
			return run, err
		}
		if len(now) == 1 {
			run = now[0]
		}
		if run.State == topk.JobRunning {
			run.State = topk.JobInterrupted
		}
	}
	return run, nil
}

// Ask asks the runners to run a job now, one of them, once. The error is a
// topk.ErrNotFound when no runner has the job, a topk.ErrConflict when it runs
// or is asked for already.
func (l *Ledger) Ask(ctx context.Context, job string) (_ topk.JobRun, err error) {
	schedules, err := l.db.JobSchedules(ctx)
	if err != nil {
		return topk.JobRun{}, err
	}
	if _, known := schedules[job]; !known {
		return topk.JobRun{}, fmt.Errorf("job %q: %w", job, topk.ErrNotFound)
	}
	// Of two who ask at once, the second must see what the first has written.
	lock, err := tablelock.Take(ctx, l.locks, askLock)
	if err != nil {
		return topk.JobRun{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx = lock.Context()
	now := l.clock()
	waiting, err := l.db.JobRuns(ctx, queries.JobRunFilter{Job: job, State: topk.JobRequested, Since: now.Add(-lapse)}, 1)
	if err != nil {
		return topk.JobRun{}, err
	}
	if len(waiting) > 0 {
		return topk.JobRun{}, fmt.Errorf("%w: run %s of %s is asked for already", topk.ErrConflict, waiting[0].ID, job)
	}
	running, err := tablelock.Held(ctx, l.locks, lockOf(job))
	if err != nil {
		return topk.JobRun{}, err
	}
	if running {
		return topk.JobRun{}, fmt.Errorf("%w: %s is running", topk.ErrConflict, job)
	}
	run := topk.JobRun{ID: newID(), Job: job, Trigger: topk.ByAPI, State: topk.JobRequested, AskedAt: now}
	return run, l.db.SaveJobRuns(ctx, run)
}

// requests are the runs that are asked for.
func (l *Ledger) requests(ctx context.Context) ([]topk.JobRun, error) {
	return l.db.JobRuns(ctx, queries.JobRunFilter{State: topk.JobRequested, Since: l.clock().Add(-lapse)}, 1)
}

// claim takes the lock of the run's job, and sees to it that the run is still to
// be done. errElsewhere when the job runs elsewhere, or the run is done there.
func (l *Ledger) claim(ctx context.Context, run topk.JobRun) (_ *tablelock.Lock, err error) {
	take := tablelock.Try
	if run.Trigger == topk.ByHand {
		take = tablelock.Take
	}
	lock, err := take(ctx, l.locks, lockOf(run.Job))
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, errElsewhere
	}
	wanted, err := l.wanted(lock.Context(), run)
	if err == nil && wanted {
		return lock, nil
	}
	if err == nil {
		err = errElsewhere
	}
	return nil, errors.Join(err, lock.Release())
}

// wanted tells the holder of its job's lock whether nobody has done the run, and
// writes down which runs have not ended.
func (l *Ledger) wanted(ctx context.Context, run topk.JobRun) (bool, error) {
	if err := l.interrupt(ctx, run.Job); err != nil {
		return false, err
	}
	switch run.Trigger {
	case topk.BySchedule, topk.CaughtUp:
		due, _, err := l.db.JobDone(ctx, run.Job)
		return due.Before(run.Due), err
	case topk.ByAPI:
		return l.requested(ctx, run)
	}
	return true, nil
}

// requested tells whether the run is asked for and nobody has begun it.
func (l *Ledger) requested(ctx context.Context, run topk.JobRun) (bool, error) {
	now, err := l.db.JobRuns(ctx, queries.JobRunFilter{Job: run.Job, ID: run.ID, State: topk.JobRequested}, 1)
	return len(now) > 0, err
}

// interrupt writes down that runs of the job did not end, as only the holder of
// its lock can know.
func (l *Ledger) interrupt(ctx context.Context, job string) error {
	const atOnce = 100 // there is one, unless ClickHouse was away
	left, err := l.db.JobRuns(ctx, queries.JobRunFilter{Job: job, State: topk.JobRunning}, atOnce)
	if err != nil {
		return err
	}
	for i := range left {
		left[i].State, left[i].Error = topk.JobInterrupted, "its process ended before it did"
	}
	return l.db.SaveJobRuns(ctx, left...)
}

// lockOf names the lock of whoever runs the job.
func lockOf(job string) string { return "running_" + job }

func newID() string { return uuid.Must(uuid.NewV7()).String() }
