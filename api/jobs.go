package api

import (
	"context"
	"errors"
	"net/http"

	"github.com/topk-charts/topk"
)

const (
	jobsPath = "/v1/admin/jobs"
	jobPath  = "/v1/admin/jobs/{name}"
)

const (
	defaultJobRuns = 10
	// MaxJobRuns is how many runs of each job are told at most.
	MaxJobRuns = 100
	maxJobName = 64
)

// Jobs knows the scheduled jobs, which other processes run; *jobs.Ledger does.
type Jobs interface {
	// Jobs gives all jobs by name, each with its last runs, newest first.
	Jobs(ctx context.Context, runs int) ([]topk.Job, error)
	// Ask has a job run now. The error is a topk.ErrNotFound for an unknown one, a
	// topk.ErrConflict for one that runs or is asked for already.
	Ask(ctx context.Context, job string) (topk.JobRun, error)
}

// A jobsAPI answers GET /v1/admin/jobs and POST /v1/admin/jobs/{name}.
type jobsAPI struct {
	jobs Jobs
	gate *gate
}

// JobsAnswer is every job there is.
type JobsAnswer struct {
	Items []JobAnswer `json:"items" nullable:"false" doc:"By name"`
}

// JobAnswer is one job and its last runs.
type JobAnswer struct {
	Name     string   `json:"name" example:"close"`
	Schedule string   `json:"schedule,omitempty" doc:"Five cron fields in UTC, or in the zone they begin with, or @every DURATION; absent when it runs by hand only" example:"TZ=Europe/Berlin 30 4 * * *"`
	Next     string   `json:"next,omitempty" format:"date-time" doc:"When it is due" example:"2025-11-25T03:30:00.000Z"`
	Running  bool     `json:"running"`
	Runs     []JobRun `json:"runs" nullable:"false" doc:"The last ones, newest first"`
}

// JobRun is one run of a job.
type JobRun struct {
	ID        string  `json:"id" example:"019ac1b2-7e30-7c1a-9d7e-4f1b0a2c3d4e"`
	Job       string  `json:"job" example:"close"`
	State     string  `json:"state" enum:"requested,running,interrupted,failed,succeeded" doc:"Interrupted: its process ended before it did"`
	Trigger   string  `json:"trigger" enum:"schedule,caught-up,by hand,api" doc:"Caught-up: it was due while nothing ran jobs"`
	Host      string  `json:"host,omitempty" doc:"That ran it" example:"loader-1"`
	AskedAt   string  `json:"askedAt" format:"date-time" doc:"When it was due, asked for or begun" example:"2025-11-24T03:30:00.000Z"`
	StartedAt string  `json:"startedAt,omitempty" format:"date-time" example:"2025-11-24T03:30:04.120Z"`
	EndedAt   string  `json:"endedAt,omitempty" format:"date-time" example:"2025-11-24T03:31:10.480Z"`
	Seconds   float64 `json:"seconds,omitempty" minimum:"0" doc:"How long it took, when it has ended" example:"66.36"`
	Rows      uint64  `json:"rows" minimum:"0" doc:"Written, sent or repaired" example:"1204"`
	Bytes     uint64  `json:"bytes" minimum:"0" doc:"Read or written" example:"0"`
	Error     string  `json:"error,omitempty" doc:"Why it did not succeed" example:"connection refused"`
	Detail    string  `json:"detail,omitempty" doc:"What it did" example:"1 dates counted: 1204 charts closed, 0 revised"`
}

// NewJobsAnswer writes jobs as they are answered.
func NewJobsAnswer(all []topk.Job) JobsAnswer {
	answer := JobsAnswer{Items: make([]JobAnswer, len(all))}
	for i, job := range all {
		item := JobAnswer{Name: job.Name, Schedule: job.Schedule, Next: instantOrNone(job.Next), Runs: make([]JobRun, len(job.Runs))}
		for j, run := range job.Runs {
			item.Runs[j] = newJobRun(run)
			item.Running = item.Running || run.State == topk.JobRunning
		}
		answer.Items[i] = item
	}
	return answer
}

func newJobRun(r topk.JobRun) JobRun {
	return JobRun{
		ID: r.ID, Job: r.Job, State: string(r.State), Trigger: string(r.Trigger), Host: r.Host,
		AskedAt: instant(r.AskedAt), StartedAt: instantOrNone(r.StartedAt), EndedAt: instantOrNone(r.EndedAt),
		Seconds: r.Took().Seconds(), Rows: r.Rows, Bytes: r.Bytes, Error: r.Error, Detail: r.Detail,
	}
}

// list answers GET /v1/admin/jobs.
func (a *jobsAPI) list(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery, jobsParameters)
	runs := q.number("runs", defaultJobRuns, MaxJobRuns)
	if len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	var all []topk.Job
	err := a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		all, err = a.jobs.Jobs(ctx, runs)
		return err
	})
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, NewJobsAnswer(all))
	return nil
}

// ask answers POST /v1/admin/jobs/{name}.
func (a *jobsAPI) ask(w http.ResponseWriter, r *http.Request) error {
	name, ok := pathID(r, "name", maxJobName)
	if q := parseQuery(r.URL.RawQuery, jobParameters); len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	if !ok {
		return unknownJob(nil)
	}
	var run topk.JobRun
	err := a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		run, err = a.jobs.Ask(ctx, name)
		return err
	})
	switch {
	case errors.Is(err, topk.ErrNotFound):
		return unknownJob(err)
	case errors.Is(err, topk.ErrConflict):
		return &problem{status: http.StatusConflict, detail: "the job runs already, or is asked for already; see " + jobsPath, cause: err}
	case err != nil:
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusAccepted, newJobRun(run))
	return nil
}

func unknownJob(cause error) *problem {
	return &problem{status: http.StatusNotFound, detail: "no process runs such a job on a schedule; see " + jobsPath, cause: cause}
}
