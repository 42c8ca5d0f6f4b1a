package topk

import "time"

// A Job is something that is done on a schedule, and what has become of it.
type Job struct {
	Name     string
	Schedule string    // "" when it only runs by hand
	Next     time.Time // when it is due; zero without a schedule
	Runs     []JobRun  // the last ones, newest first
}

// A JobRun is one run of a job.
type JobRun struct {
	ID        string
	Job       string
	Trigger   JobTrigger
	State     JobState
	Host      string    // that runs it
	Due       time.Time // what the schedule said; zero for other triggers
	AskedAt   time.Time // when it was due, asked for or begun
	StartedAt time.Time // zero while it is requested
	EndedAt   time.Time // zero while it has not ended, or nobody knows when
	Rows      uint64
	Bytes     uint64
	Error     string // why it failed
	Detail    string // in words, what it did
}

// Took is how long the run went on; 0 when it has not ended.
func (r JobRun) Took() time.Duration {
	if r.StartedAt.IsZero() || r.EndedAt.IsZero() {
		return 0
	}
	return r.EndedAt.Sub(r.StartedAt)
}

// A JobTrigger is why a run began.
type JobTrigger string

// The triggers.
const (
	BySchedule JobTrigger = "schedule"
	CaughtUp   JobTrigger = "caught-up" // it was due while nothing ran jobs
	ByHand     JobTrigger = "by hand"
	ByAPI      JobTrigger = "api"
)

// A JobState is how far a run has come.
type JobState string

// The states. Which of two rows of a run counts is decided by their order here.
const (
	JobRequested   JobState = "requested"
	JobRunning     JobState = "running"
	JobInterrupted JobState = "interrupted" // its process ended before it did
	JobFailed      JobState = "failed"
	JobSucceeded   JobState = "succeeded"
)

// JobStates are all states, in their order.
func JobStates() []JobState {
	return []JobState{JobRequested, JobRunning, JobInterrupted, JobFailed, JobSucceeded}
}
