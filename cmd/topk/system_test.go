package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/faults"
	"github.com/topk-charts/topk/internal/oracle"
)

// asProgram makes the test binary behave as topk itself, so that tests can run
// it as a process of its own and kill it.
const asProgram = "TOPK_TEST_AS_PROGRAM"

// asEngine makes it run one of the engines of the fault tests.
const asEngine = "TOPK_TEST_AS_ENGINE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	if os.Getenv(asEngine) != "" {
		if err := faults.RunEngine(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Getenv(asRecompute) != "" {
		if err := recompute(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A system is a running "topk up" in a process of its own.
type system struct {
	t       *testing.T
	data    string
	process *exec.Cmd
	url     string // of the API
	ch      string // of ClickHouse, with the database
	kafka   string // address
	redis   string // address
	s3      string // address
	log     *transcript
	exited  chan error
}

// A transcript keeps what several write at once: the process, and commands that
// run beside it.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

const readyTimeout = 90 * time.Second

var (
	readyLine  = regexp.MustCompile(`topk is ready: (\S+)`)
	serverLine = regexp.MustCompile(`ClickHouse (\S+)`)
)

// ports are the flags for five free ports. A system that is started again wants
// the same ones, as an operator's has.
func ports(t *testing.T) []string {
	t.Helper()
	var flags []string
	for _, flag := range []string{"--listen", "--clickhouse-listen", "--kafka-listen", "--redis-listen", "--s3-listen"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		flags = append(flags, flag, listener.Addr().String())
	}
	return flags
}

// up starts the system and waits until it says it is ready.
func up(t *testing.T, data string, ports []string) *system {
	t.Helper()
	address := func(flag string) string { return ports[slices.Index(ports, flag)+1] }
	s := &system{t: t, data: data, kafka: address("--kafka-listen"), redis: address("--redis-listen"), s3: address("--s3-listen"), log: &transcript{}, exited: make(chan error, 1)}
	s.process = exec.Command(os.Args[0], append([]string{"up", "--data", data, "--partitions", "4"}, ports...)...)
	s.process.Env = append(os.Environ(), asProgram+"=1")
	s.process.Stderr = s.log
	out, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
		s.exited <- s.process.Wait()
	}()
	t.Cleanup(s.kill)
	timeout := time.After(readyTimeout)
	for s.url == "" || s.ch == "" {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("topk up ended before it was ready:\n%s", s.log)
			}
			if m := readyLine.FindStringSubmatch(line); m != nil {
				s.url = m[1]
			}
			if m := serverLine.FindStringSubmatch(line); m != nil {
				s.ch = m[1]
			}
		case <-timeout:
			t.Fatalf("topk up is not ready after %s:\n%s", readyTimeout, s.log)
		}
	}
	go func() {
		for range lines { // until it exits
		}
	}()
	return s
}

// kill ends the process as kill -9 does.
func (s *system) kill() {
	if s.process.ProcessState == nil {
		_ = s.process.Process.Kill() // it may have ended by itself
		s.wait()
	}
}

// stop ends the process as Ctrl-C does.
func (s *system) stop() {
	s.t.Helper()
	if err := s.process.Process.Signal(syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	if err := s.wait(); err != nil {
		s.t.Errorf("topk up did not stop cleanly: %v\n%s", err, s.log)
	}
}

func (s *system) wait() error {
	s.t.Helper()
	select {
	case err := <-s.exited:
		s.exited <- err // for the next one who asks
		return err
	case <-time.After(readyTimeout):
		s.t.Fatalf("topk up does not end:\n%s", s.log)
		return nil
	}
}

// command runs another command of the program against the system.
func (s *system) command(stdin string, args ...string) string {
	s.t.Helper()
	var out bytes.Buffer
	if err := run(s.t.Context(), args, strings.NewReader(stdin), &out, s.log); err != nil {
		s.t.Fatalf("topk %s: %v\n%s", strings.Join(args, " "), err, s.log)
	}
	return out.String()
}

// post sends a body and gives the status and the answer.
func (s *system) post(path, contentType, body string) (int, string) {
	s.t.Helper()
	res, err := http.Post(s.url+path, contentType, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(answer)
}

// served is the answer of GET /v1/top.
type served struct {
	Dim, Window, Source    string
	AsOf                   time.Time
	WindowStart, WindowEnd time.Time
	Stale                  bool
	TotalPlays             uint64
	Items                  []struct {
		Rank     int
		SongID   string
		Score    uint64
		Metadata *struct{ Title string }
	}
}

func (s *system) top(query url.Values) (served, error) {
	var chart served
	res, err := http.Get(s.url + "/v1/top?" + query.Encode())
	if err != nil {
		return chart, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, err := io.ReadAll(res.Body)
		return chart, errors.Join(fmt.Errorf("GET /v1/top?%s: %s: %s", query.Encode(), res.Status, text), err)
	}
	return chart, json.NewDecoder(res.Body).Decode(&chart)
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, within time.Duration, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("after %s still not: %s", within, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// clickhouse asks ClickHouse, for what a test waits for.
func (s *system) clickhouse(sql string) string {
	s.t.Helper()
	at, err := url.Parse(s.ch)
	if err != nil {
		s.t.Fatal(err)
	}
	at.RawQuery = url.Values{"database": {strings.TrimPrefix(at.Path, "/")}}.Encode()
	at.Path = "/"
	res, err := http.Post(at.String(), "text/plain", strings.NewReader(sql))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %s %s %v", sql, res.Status, text, err)
	}
	return strings.TrimSpace(string(text))
}

// encode writes a play as a client does: with the user's own id.
func encode(t *testing.T, p topk.Play) string {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inLog waits until the log holds so many plays.
func (s *system) inLog(plays uint64) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d plays are in the log", plays), time.Minute, func() bool {
		return s.clickhouse("SELECT count() FROM plays") == fmt.Sprint(plays)
	})
}

// playsOf is how many plays the chart of everything holds.
func (s *system) playsOf(window string) uint64 {
	chart, err := s.top(url.Values{"window": {window}})
	if err != nil {
		s.t.Log(err)
		return 0
	}
	return chart.TotalPlays
}

// Killed at any moment and started again on its data, the system has lost and
// doubled nothing, and nothing of the killed one is left behind.
func TestUpSurvivesKill(t *testing.T) {
	data, at := t.TempDir(), ports(t)
	truth := oracle.New()
	now := time.Now().UTC().Truncate(time.Millisecond)
	s := up(t, data, at)
	n := 0
	for round := range 3 {
		var body strings.Builder
		for range 500 {
			p := topk.Play{EventID: fmt.Sprint("kill-", n), UserID: "u", SongID: fmt.Sprint("song-", n*n%37), ArtistID: "a", Timestamp: now.Add(-time.Duration(n) * time.Second)}
			body.WriteString(encode(t, p) + "\n")
			if n%9 == 0 {
				body.WriteString(encode(t, p) + "\n")
			}
			truth.Add(p, nil)
			n++
		}
		if status, answer := s.post("/v1/events/plays", "application/x-ndjson", body.String()); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, answer)
		}
		if round == 1 { // let the plays reach the rollups before this one
			eventually(t, "all plays are counted", time.Minute, func() bool { return s.playsOf("all") == uint64(n) })
		}
		s.kill()
		start := time.Now()
		s = up(t, data, at)
		t.Logf("ready %s after the kill", time.Since(start).Round(time.Millisecond))
	}
	// What Redis kept may be served first: wait for what was computed since.
	restarted := time.Now()
	var chart served
	eventually(t, "all plays are counted", time.Minute, func() (counted bool) {
		var err error
		if chart, err = s.top(url.Values{"window": {"all"}, "k": {"1000"}}); err != nil {
			t.Fatal(err)
		}
		return chart.TotalPlays == uint64(n) && chart.AsOf.After(restarted)
	})
	compare(t, truth, topk.Filter{}, chart, topk.MaxK)

	children := childrenOf(t, s.process.Process.Pid)
	if len(children) == 0 {
		t.Error("no redis-server was found among the children: the next check would prove nothing")
	}
	s.kill()
	eventually(t, "the children of the killed process are gone", 10*time.Second, func() bool {
		for _, pid := range children {
			if _, err := os.Stat(fmt.Sprintf("/proc/%s", pid)); err == nil {
				return false
			}
		}
		return true
	})
}

func childrenOf(t *testing.T, pid int) []string {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var pids []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(text))...)
	}
	return pids
}

// A topic that is deleted and made again is read from its start, without anybody
// asking.
func TestUpReadsATopicMadeAgain(t *testing.T) {
	at := ports(t)
	s := up(t, t.TempDir(), at)
	send := func(ids ...string) {
		t.Helper()
		for _, id := range ids {
			play := topk.Play{EventID: id, UserID: "u", SongID: id, ArtistID: "a", Timestamp: time.Now()}
			eventually(t, id+" is acknowledged", time.Minute, func() bool {
				status, _ := s.post("/v1/events/play", "application/json", encode(t, play))
				return status == http.StatusAccepted
			})
		}
	}
	send("e-1", "e-2", "e-3")
	s.inLog(3)
	admin, err := kafkaAdmin([]string{at[slices.Index(at, "--kafka-listen")+1]})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if _, err := admin.DeleteTopic(t.Context(), "plays"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(t.Context(), 4, 1, nil, "plays"); err != nil {
		t.Fatal(err)
	}
	send("e-4", "e-3", "e-5", "e-6")
	s.inLog(6)
	if n := s.clickhouse("SELECT uniqExact(eventId) FROM plays"); n != "6" {
		t.Errorf("%s events", n)
	}
	s.stop()
}

// A taken port, a locked data directory: one sentence, with the way out.
func TestUpRefusesClearly(t *testing.T) {
	data := t.TempDir()
	s := up(t, data, ports(t))
	defer s.stop()
	taken := strings.TrimPrefix(s.url, "http://")
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"port":      {[]string{"up", "--data", t.TempDir(), "--listen", taken}, "choose another address with --listen"},
		"directory": {append([]string{"up", "--data", data}, ports(t)...), "another"},
		"flags": {[]string{"up", "--data", data, "--kafka-listen", "nowhere", "--partitions", "0"},
			`--kafka-listen: "nowhere" is not host:port`},
		"all flags at once": {[]string{"up", "--data", data, "--kafka-listen", "nowhere", "--partitions", "0"},
			"--partitions and --replicas must be at least 1"},
	} {
		t.Run(name, func(t *testing.T) {
			command := exec.Command(os.Args[0], test.args...)
			command.Env = append(os.Environ(), asProgram+"=1")
			out, err := command.CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.says) {
				t.Errorf("%v: got %q, want it to say %q", err, out, test.says)
			}
		})
	}
}
