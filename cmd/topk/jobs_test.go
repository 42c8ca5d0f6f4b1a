package main

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk/api"
)

// Jobs are listed, asked for over HTTP and run by hand, and each run is told.
func TestJobsAreListedAndAskedFor(t *testing.T) {
	s := up(t, t.TempDir(), ports(t))
	defer s.stop()
	list := func(args ...string) map[string]api.JobAnswer {
		t.Helper()
		var answer api.JobsAnswer
		text := s.command("", append([]string{"load", "jobs", "--json", "--clickhouse-url", s.ch}, args...)...)
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			t.Fatal(err)
		}
		jobs := map[string]api.JobAnswer{}
		for _, job := range answer.Items {
			jobs[job.Name] = job
		}
		return jobs
	}
	eventually(t, "the jobs are known", time.Minute, func() bool { return len(list()) == 5 })
	for name, schedule := range map[string]string{"close": "@every 1m", "reconcile": "@every 5m", "rewire": "@every 10s", "revive": "@every 5s", "archive": "7 * * * *"} {
		if job := list()[name]; job.Schedule != schedule || job.Next == "" {
			t.Errorf("%s: %+v", name, job)
		}
	}
	status, text := s.post("/v1/admin/jobs/rewire", "", "")
	var asked api.JobRun
	if err := json.Unmarshal([]byte(text), &asked); err != nil || status != http.StatusAccepted {
		t.Fatal(status, text, err)
	}
	if status, text := s.post("/v1/admin/jobs/backup", "", ""); status != http.StatusNotFound {
		t.Error(status, text)
	}
	eventually(t, "it has run", time.Minute, func() bool {
		runs := list("--runs", "5")["rewire"].Runs
		return len(runs) == 1 && runs[0].ID == asked.ID && runs[0].State == "succeeded" && runs[0].Trigger == "api"
	})
	s.command("", "load", "close", "--once", "--clickhouse-url", s.ch)
	table := s.command("", "load", "jobs", "--runs", "100", "--clickhouse-url", s.ch)
	if !strings.Contains(table, "by hand") || !strings.Contains(table, asked.ID) {
		t.Errorf("the run by hand, or the one asked for, is not in\n%s", table)
	}
	if table := s.command("", "load", "jobs", "--clickhouse-url", s.ch); len(strings.Split(strings.TrimSpace(table), "\n")) != 6 {
		t.Errorf("not a line for each job:\n%s", table)
	} else {
		t.Log("\n" + table)
	}
}
