package queries_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

// The furthest state of a run counts, in whatever order the rows came.
func TestJobRuns(t *testing.T) {
	c := newChain(t)
	save := func(runs ...topk.JobRun) {
		t.Helper()
		if err := c.db.SaveJobRuns(t.Context(), runs...); err != nil {
			t.Fatal(err)
		}
	}
	run := topk.JobRun{
		ID: "b", Job: "close", Trigger: topk.BySchedule, Host: "h", Due: now.Add(-time.Second), AskedAt: now, StartedAt: now,
		EndedAt: now.Add(time.Minute), State: topk.JobSucceeded, Rows: 1 << 40, Bytes: 2, Error: "why", Detail: "what ☃",
	}
	begun := run
	begun.State, begun.EndedAt, begun.Rows = topk.JobRunning, time.Time{}, 0
	save(run)
	save(begun)
	asked := topk.JobRun{ID: "a", Job: "close", Trigger: topk.ByAPI, State: topk.JobRequested, AskedAt: now.Add(-time.Hour)}
	other := topk.JobRun{ID: "a", Job: "archive", Trigger: topk.ByHand, State: topk.JobInterrupted, AskedAt: now.Add(-time.Hour), StartedAt: now.Add(time.Hour)}
	save(asked, other)
	for i, state := range topk.JobStates() { // all of them are known
		save(topk.JobRun{ID: fmt.Sprint(i), Job: "every", State: state, AskedAt: now.Add(time.Duration(i) * time.Second)})
	}

	for _, q := range []struct {
		filter queries.JobRunFilter
		limit  int
		want   string
	}{
		{queries.JobRunFilter{}, 1, "archive/a close/b every/4"},
		{queries.JobRunFilter{Job: "close"}, 5, "close/b close/a"},
		{queries.JobRunFilter{Job: "close", State: topk.JobRunning}, 5, ""},
		{queries.JobRunFilter{State: topk.JobRequested}, 5, "close/a every/0"},
		{queries.JobRunFilter{State: topk.JobRequested, Since: now.Add(-time.Minute)}, 5, "every/0"},
		{queries.JobRunFilter{Job: "archive", ID: "a"}, 5, "archive/a"},
		{queries.JobRunFilter{Job: "archive", ID: "b"}, 5, ""},
	} {
		runs, err := c.db.JobRuns(t.Context(), q.filter, q.limit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range runs {
			got = append(got, r.Job+"/"+r.ID)
		}
		if strings.Join(got, " ") != q.want {
			t.Errorf("%+v: %v, want %s", q.filter, got, q.want)
		}
	}
	runs, err := c.db.JobRuns(t.Context(), queries.JobRunFilter{Job: "close"}, 5)
	if err != nil || len(runs) != 2 {
		t.Fatal(runs, err)
	}
	if runs[0] != run || runs[1] != asked {
		t.Errorf("%+v\n%+v, want\n%+v\n%+v", runs[0], runs[1], run, asked)
	}

	for job, want := range map[string][2]time.Time{
		"close":   {run.Due, run.StartedAt},
		"archive": {{}, other.AskedAt.Add(-time.Millisecond)}, // interrupted only
		"none":    {},
	} {
		due, ever, err := c.db.JobDone(t.Context(), job)
		if err != nil || !due.Equal(want[0]) || !ever.Equal(want[1]) {
			t.Errorf("%s is done until %s, %s, %v, want %v", job, due, ever, err, want)
		}
	}
}

func TestJobSchedules(t *testing.T) {
	c := newChain(t)
	for _, schedules := range []map[string]string{{}, {"a": "@daily", "b": "@hourly"}, {"b": "TZ=Europe/Berlin 30 4 * * *"}} {
		if err := c.db.SaveJobSchedules(t.Context(), schedules); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.db.JobSchedules(t.Context())
	if err != nil || fmt.Sprint(got) != "map[a:@daily b:TZ=Europe/Berlin 30 4 * * *]" {
		t.Error(got, err)
	}
}
