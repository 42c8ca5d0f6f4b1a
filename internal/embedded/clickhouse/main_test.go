package clickhouse_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"go.uber.org/goleak"

	"github.com/topk-charts/topk/internal/embedded/chdb"
	"github.com/topk-charts/topk/internal/embedded/clickhouse"
)

// maxQueries and queueTimeout are small, for the tests of the queue.
const (
	maxQueries   = 8
	queueTimeout = 300 * time.Millisecond
)

// server is the one the tests of this package talk to, dir its data directory.
var (
	server *clickhouse.Server
	dir    string
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err == nil && code == 0 {
		http.DefaultClient.CloseIdleConnections()
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	path, err := chdb.Locate("")
	if err != nil {
		return 0, err
	}
	library, err := chdb.Load(path)
	if err != nil {
		return 0, err
	}
	if dir, err = os.MkdirTemp("", "topk-clickhouse-"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	server, err = clickhouse.Start(clickhouse.Config{
		Library: library, Dir: dir, Listener: ln, MaxQueries: maxQueries, QueueTimeout: queueTimeout,
	})
	if err != nil {
		return 0, err
	}
	code = m.Run()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return code, server.Close(ctx)
}

// open connects as clickhouse-go does, in a database of the test's own.
func open(t *testing.T, change func(*driver.Options)) driver.Conn {
	t.Helper()
	options := &driver.Options{
		Protocol: driver.HTTP,
		Addr:     []string{strings.TrimPrefix(server.URL(), "http://")},
		Auth:     driver.Auth{Database: database(t)},
	}
	if change != nil {
		change(options)
	}
	conn, err := driver.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// database makes a database for the test.
func database(t *testing.T) string {
	t.Helper()
	name := strings.NewReplacer("/", "_", " ", "_", "#", "_", ",", "").Replace(t.Name())
	post(t, "", "CREATE DATABASE IF NOT EXISTS "+name)
	t.Cleanup(func() { post(t, "", "DROP DATABASE IF EXISTS "+name+" SYNC") })
	return name
}

// answer is a response, read.
type answer struct {
	*http.Response
	body string
}

// post sends a statement as curl does and requires that it works.
func post(t *testing.T, params, statement string) string {
	t.Helper()
	a := send(t, http.MethodPost, params, strings.NewReader(statement), nil)
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s: %s", statement, a.Status, a.body)
	}
	return a.body
}

func send(t *testing.T, method, params string, body io.Reader, header http.Header) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, server.URL()+"/?"+params, body)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(text)}
}

// query is the URL parameter with a statement.
func query(statement string) string { return "query=" + url.QueryEscape(statement) }

// waitFor polls a condition for a while.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	timeout := time.NewTimer(30 * time.Second)
	defer timeout.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-timeout.C:
			t.Fatal("waited in vain for:", what)
		case <-tick.C:
		}
	}
}

// running counts the statements that run with a mark in their text.
func running(t *testing.T, mark string) string {
	t.Helper()
	return strings.TrimSpace(post(t, "param_mark="+mark,
		"SELECT count() FROM system.processes WHERE position(query, concat('mark-', {mark:String})) > 0"))
}
