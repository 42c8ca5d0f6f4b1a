package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
)

// topk check as an operator runs it beside a running system: what it says, and
// its exit codes; and the reconcile job of topk up.
func TestCheck(t *testing.T) {
	at := ports(t)
	s := up(t, t.TempDir(), append(at, "--reconcile-schedule", "@every 2s"))
	servers := []string{"--clickhouse-url", s.ch, "--kafka-brokers", at[5], "--redis-url", "redis://" + at[7]}
	check := func(args ...string) (out string, code int) {
		t.Helper()
		var stdout bytes.Buffer
		err := run(t.Context(), append(append([]string{"check"}, servers...), args...), strings.NewReader(""), &stdout, s.log)
		if err == nil {
			return stdout.String(), 0
		}
		return stdout.String() + err.Error(), exitCode(err)
	}
	var body strings.Builder
	for i := range 500 {
		body.WriteString(encode(t, topk.Play{EventID: fmt.Sprint("e", i), UserID: "u", SongID: fmt.Sprint("s", i%9), ArtistID: "a", Timestamp: time.Now(), Device: "mobile"}) + "\n")
	}
	if status, answer := s.post("/v1/events/plays", "application/x-ndjson", body.String()); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, answer)
	}
	eventually(t, "the plays are rolled up", time.Minute, func() bool {
		return s.clickhouse("SELECT sum(plays) FROM rollup_hour WHERE dim = 'global'") == "500" && s.playsOf("all") == 500
	})

	if out, code := check(); code != 0 || !strings.Contains(out, "Nothing differs.") {
		t.Errorf("on a system that is exact: exit %d\n%s", code, out)
	}
	if out, code := check("--days", "0"); code != 2 || !strings.Contains(out, "--days must be 1 to 90") {
		t.Errorf("a wrong command line: exit %d\n%s", code, out)
	}
	if out, code := check("--redis-url", "redis://127.0.0.1:1", "--charts", "1"); code != 2 || !strings.Contains(out, "served charts could not be checked") {
		t.Errorf("Redis away: exit %d\n%s", code, out)
	}
	if out, code := check("--clickhouse-url", "http://127.0.0.1:1/topk"); code != 2 || !strings.Contains(out, "does not answer") {
		t.Errorf("ClickHouse away: exit %d\n%s", code, out)
	}
	eventually(t, "the job has proved that all is exact", time.Minute, func() bool {
		return !strings.Contains(s.metric("topk_job_runs_total{job=\"reconcile\",outcome=\"succeeded\"}"), " 0")
	})

	// The job mends what is spoilt; without it, a check says what is wrong and
	// mends it when asked.
	spoil := "INSERT INTO rollup_day SELECT * FROM rollup_day WHERE dim = 'device'"
	s.clickhouse(spoil)
	eventually(t, "the job has repaired the rollup", time.Minute, func() bool {
		return !strings.Contains(s.metric("topk_check_repairs_total{rollup=\"rollup_day\"}"), " 0")
	})
	s.kill()
	s = up(t, s.data, append(at, "--reconcile-schedule", "@yearly"))
	s.clickhouse(spoil)
	out, code := check("--json", "--charts", "0")
	var report struct {
		Differences []struct{ Where, What string }
	}
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&report); err != nil || code != 1 || len(report.Differences) == 0 ||
		!strings.Contains(report.Differences[0].What, "device:mobile, song s0") {
		t.Errorf("a spoilt rollup: exit %d, %v\n%s", code, err, out)
	}
	if out, code := check("--repair"); code != 0 || !strings.Contains(out, "Repaired: rollup_day") {
		t.Errorf("repair: exit %d\n%s", code, out)
	}
	if out, code := check(); code != 0 {
		t.Errorf("after a repair: exit %d\n%s", code, out)
	}
	s.stop()
}

// metric gives the line of a metric.
func (s *system) metric(name string) string {
	s.t.Helper()
	res, err := http.Get(s.url + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name) {
			return strings.TrimSpace(line)
		}
	}
	s.t.Fatalf("no metric %s", name)
	return ""
}
