package queries

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// A JobRunFilter chooses runs of jobs. The zero value of a field chooses all.
type JobRunFilter struct {
	Job   string
	ID    string
	State topk.JobState
	Since time.Time // that they were asked for
}

// JobRuns gives the last runs of each job, at most limit of a job: by job, and
// newest first. A run whose process was killed is still "running" here.
func (db *DB) JobRuns(ctx context.Context, f JobRunFilter, limit int) ([]topk.JobRun, error) {
	choice := struct{ Job, ID, State, Since bool }{f.Job != "", f.ID != "", f.State != "", !f.Since.IsZero()}
	args := []any{clickhouse.Named("limit", uint32(limit))}
	if choice.Job {
		args = append(args, clickhouse.Named("job", f.Job))
	}
	if choice.ID {
		args = append(args, clickhouse.Named("id", f.ID))
	}
	if choice.State {
		args = append(args, clickhouse.Named("state", string(f.State)))
	}
	if choice.Since {
		args = append(args, sqlfile.Instant("since", f.Since))
	}
	var runs []topk.JobRun
	err := db.ask(ctx, "job_runs.sql", choice, args, func(rows driver.Rows) error {
		var r topk.JobRun
		var trigger, state string
		err := rows.Scan(&r.Job, &r.ID, &trigger, &state, &r.Host, &r.Due, &r.AskedAt, &r.StartedAt, &r.EndedAt, &r.Rows, &r.Bytes, &r.Error, &r.Detail)
		r.Trigger, r.State = topk.JobTrigger(trigger), topk.JobState(state)
		for _, t := range []*time.Time{&r.Due, &r.StartedAt, &r.EndedAt} {
			*t = timeOrNone(*t)
		}
		runs = append(runs, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("runs of jobs: %w", err)
	}
	return runs, nil
}

// JobDone is up to when a job has been done, whether it succeeded or failed:
// due is the latest time of its schedule that was done, ever the latest of these
// and of the beginnings of runs for any other reason. Zero: never.
func (db *DB) JobDone(ctx context.Context, job string) (due, ever time.Time, err error) {
	if err := db.row(ctx, "job_last.sql", []any{clickhouse.Named("job", job)}, &due, &ever); err != nil {
		return due, ever, fmt.Errorf("when job %s was done: %w", job, err)
	}
	return timeOrNone(due), timeOrNone(ever), nil
}

// SaveJobRuns writes down what state runs are in.
func (db *DB) SaveJobRuns(ctx context.Context, runs ...topk.JobRun) error {
	err := db.insert(ctx, "INSERT INTO jobs (job, id, trigger, state, host, due, askedAt, startedAt, endedAt, rows, bytes, error, detail)", len(runs),
		func(i int) []any {
			r := runs[i]
			return []any{r.Job, r.ID, string(r.Trigger), string(r.State), r.Host, timeOrEpoch(r.Due), r.AskedAt, timeOrEpoch(r.StartedAt),
				timeOrEpoch(r.EndedAt), r.Rows, r.Bytes, r.Error, r.Detail}
		})
	if err != nil {
		return fmt.Errorf("write down %d runs of jobs: %w", len(runs), err)
	}
	return nil
}

// JobSchedules gives the schedule of each job that has one, by name.
func (db *DB) JobSchedules(ctx context.Context) (map[string]string, error) {
	schedules := map[string]string{}
	err := db.ask(ctx, "job_schedules.sql", nil, nil, func(rows driver.Rows) error {
		var job, schedule string
		err := rows.Scan(&job, &schedule)
		schedules[job] = schedule
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("schedules of jobs: %w", err)
	}
	return schedules, nil
}

// SaveJobSchedules says what jobs have which schedule, by name.
func (db *DB) SaveJobSchedules(ctx context.Context, schedules map[string]string) error {
	var rows [][]any
	for job, schedule := range schedules {
		rows = append(rows, []any{job, schedule})
	}
	err := db.insert(ctx, "INSERT INTO job_schedules (job, schedule)", len(rows), func(i int) []any { return rows[i] })
	if err != nil {
		return fmt.Errorf("write down schedules of jobs: %w", err)
	}
	return nil
}

// timeOrNone and timeOrEpoch: ClickHouse has 1970 for a time that there is not.
func timeOrNone(t time.Time) time.Time {
	if t.Unix() == 0 {
		return time.Time{}
	}
	return t.UTC()
}

func timeOrEpoch(t time.Time) time.Time {
	if t.IsZero() {
		return time.Unix(0, 0)
	}
	return t
}
