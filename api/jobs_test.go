package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/jobs"
)

var _ api.Jobs = (*jobs.Ledger)(nil)

// An agenda knows jobs, and what it was asked.
type agenda struct {
	all   []topk.Job
	run   topk.JobRun
	err   error
	asked []string
}

func (a *agenda) Jobs(_ context.Context, runs int) ([]topk.Job, error) {
	a.asked = append(a.asked, fmt.Sprint("list ", runs))
	return a.all, a.err
}

func (a *agenda) Ask(_ context.Context, job string) (topk.JobRun, error) {
	a.asked = append(a.asked, "run "+job)
	return a.run, a.err
}

func TestJobs(t *testing.T) {
	a := &agenda{all: []topk.Job{
		{Name: "backfill", Runs: []topk.JobRun{{
			ID: "2", Job: "backfill", Trigger: topk.ByHand, State: topk.JobRunning, Host: "h", AskedAt: serviceStart, StartedAt: serviceStart, Bytes: 7,
		}}},
		{Name: "close", Schedule: "@hourly", Next: serviceStart.Add(time.Hour), Runs: []topk.JobRun{{
			ID: "1", Job: "close", Trigger: topk.BySchedule, State: topk.JobFailed, Host: "h", AskedAt: serviceStart, StartedAt: serviceStart,
			EndedAt: serviceStart.Add(1500 * time.Millisecond), Rows: 3, Error: "why", Detail: "what",
		}}},
		{Name: "new", Schedule: "@daily", Next: serviceStart.Add(12 * time.Hour)},
	}}
	s := newService(t, func(c *api.Config) { c.Jobs = a })
	want := `{"items":[` +
		`{"name":"backfill","running":true,"runs":[{"id":"2","job":"backfill","state":"running","trigger":"by hand","host":"h",` +
		`"askedAt":"2025-11-24T12:00:00.000Z","startedAt":"2025-11-24T12:00:00.000Z","rows":0,"bytes":7}]},` +
		`{"name":"close","schedule":"@hourly","next":"2025-11-24T13:00:00.000Z","running":false,"runs":[{"id":"1","job":"close","state":"failed",` +
		`"trigger":"schedule","host":"h","askedAt":"2025-11-24T12:00:00.000Z","startedAt":"2025-11-24T12:00:00.000Z",` +
		`"endedAt":"2025-11-24T12:00:01.500Z","seconds":1.5,"rows":3,"bytes":0,"error":"why","detail":"what"}]},` +
		`{"name":"new","schedule":"@daily","next":"2025-11-25T00:00:00.000Z","running":false,"runs":[]}]}`
	if r := s.get("/v1/admin/jobs"); strings.TrimSpace(string(r.body)) != want || r.status != http.StatusOK {
		t.Errorf("%d %s\nwant %s", r.status, r.body, want)
	}
	s.get("/v1/admin/jobs?runs=100")

	a.run = topk.JobRun{ID: "3", Job: "close", Trigger: topk.ByAPI, State: topk.JobRequested, AskedAt: serviceStart}
	want = `{"id":"3","job":"close","state":"requested","trigger":"api","askedAt":"2025-11-24T12:00:00.000Z","rows":0,"bytes":0}`
	if r := s.do(http.MethodPost, "/v1/admin/jobs/close", ""); strings.TrimSpace(string(r.body)) != want || r.status != http.StatusAccepted {
		t.Errorf("%d %s\nwant %s", r.status, r.body, want)
	}
	for err, status := range map[error]int{
		topk.ErrNotFound: http.StatusNotFound, jobs.ErrRunning: http.StatusConflict, errAway: http.StatusServiceUnavailable,
	} {
		a.err = err
		s.problem(s.do(http.MethodPost, "/v1/admin/jobs/a%2Fb", ""), status)
	}
	a.err = errAway
	s.problem(s.get("/v1/admin/jobs"), http.StatusServiceUnavailable)
	if want := []string{"list 10", "list 100", "run close", "run a/b", "run a/b", "run a/b", "list 10"}; !reflect.DeepEqual(a.asked, want) {
		t.Errorf("asked %q, want %q", a.asked, want)
	}
	asked := len(a.asked)
	for query, want := range map[string]string{"runs=0": "runs", "runs=101": "runs", "runs=": "runs", "limit=1": "limit"} {
		if got := locations(s.problem(s.get("/v1/admin/jobs?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, []string{"query." + want}) {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	s.problem(s.do(http.MethodPost, "/v1/admin/jobs/close?x=y", ""), http.StatusBadRequest)
	s.problem(s.do(http.MethodPost, "/v1/admin/jobs/"+strings.Repeat("j", 65), ""), http.StatusNotFound)
	s.problem(s.get("/v1/admin/jobs/close"), http.StatusMethodNotAllowed)
	if len(a.asked) != asked {
		t.Errorf("bad requests were asked: %q", a.asked[asked:])
	}
}
