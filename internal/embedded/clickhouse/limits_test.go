package clickhouse_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// begin sends a statement and returns its response, unread.
func begin(ctx context.Context, t *testing.T, params string, body io.Reader) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL()+"/?"+params, body)
	if err != nil {
		t.Fatal(err)
	}
	return http.DefaultClient.Do(r)
}

// TestClientGone ends the connection of a client in each phase of a statement:
// the statement must end with it.
func TestClientGone(t *testing.T) {
	post(t, "", "CREATE TABLE gone (n UInt64) ENGINE = MergeTree ORDER BY n")
	post(t, "", "CREATE TABLE slow (n UInt64) ENGINE = Null")
	post(t, "", "CREATE TABLE slowed (n UInt64) ENGINE = Null")
	post(t, "", "CREATE MATERIALIZED VIEW slower TO slowed AS SELECT n FROM slow WHERE NOT sleepEachRow(1)")
	t.Cleanup(func() {
		for _, name := range []string{"gone", "slower", "slow", "slowed"} {
			post(t, "", "DROP TABLE "+name+" SYNC")
		}
	})
	tests := map[string]func(ctx context.Context) (*http.Response, error){
		"before the first row": func(ctx context.Context) (*http.Response, error) {
			return begin(ctx, t, "", strings.NewReader("SELECT count(), 'mark-first' FROM system.numbers"))
		},
		"while rows are sent": func(ctx context.Context) (*http.Response, error) {
			return begin(ctx, t, "", strings.NewReader("SELECT number, 'mark-rows' FROM system.numbers"))
		},
		"in a statement that is not streamed": func(ctx context.Context) (*http.Response, error) {
			return begin(ctx, t, "", strings.NewReader("INSERT INTO gone SELECT number FROM system.numbers WHERE cityHash64(number, 'mark-whole') = 0"))
		},
		"while data is sent": func(ctx context.Context) (*http.Response, error) {
			r, w := io.Pipe()
			context.AfterFunc(ctx, func() { _ = w.CloseWithError(ctx.Err()) })
			go func() { _, _ = io.WriteString(w, "1\n2\n") }()
			return begin(ctx, t, query("INSERT INTO gone SETTINGS log_queries = 0 /* mark-data */ FORMAT TSV"), r)
		},
		"while data is written": func(ctx context.Context) (*http.Response, error) {
			return begin(ctx, t, query("INSERT INTO slow SETTINGS max_insert_block_size = 1,"+
				" min_insert_block_size_rows = 1, input_format_parallel_parsing = 0 /* mark-write */ FORMAT TSV"), strings.NewReader(strings.Repeat("1\n", 1000)))
		},
	}
	marks := map[string]string{
		"before the first row": "first", "while rows are sent": "rows", "in a statement that is not streamed": "whole",
		"while data is sent": "data", "while data is written": "write",
	}
	for name, start := range tests {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var wg sync.WaitGroup
			wg.Go(func() {
				resp, err := start(ctx)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("the request ended with %v", err)
				}
			})
			waitFor(t, "the statement to run", func() bool { return running(t, marks[name]) == "1" })
			cancel()
			wg.Wait()
			ended := time.Now()
			waitFor(t, "the statement to end", func() bool { return running(t, marks[name]) == "0" })
			if took := time.Since(ended); took > 5*time.Second {
				t.Errorf("the statement ended %v after its client", took)
			}
		})
	}
	if n := post(t, "", "SELECT count() FROM gone"); n != "0\n" {
		t.Errorf("%s rows of broken inserts are there", n)
	}
}

// TestQueue fills all places: more statements wait, and then are refused.
func TestQueue(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range maxQueries - 1 {
		wg.Go(func() {
			resp, err := begin(ctx, t, "", strings.NewReader("SELECT count(), 'mark-queue' FROM system.numbers"))
			if err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	waitFor(t, "all statements to run", func() bool { return running(t, "queue") == strconv.Itoa(maxQueries-1) })
	last, stop := context.WithCancel(ctx)
	wg.Go(func() {
		if resp, err := begin(last, t, "", strings.NewReader("SELECT count() FROM system.numbers")); err == nil {
			_ = resp.Body.Close()
		}
	})
	var refused answer
	waitFor(t, "a statement to be refused", func() bool {
		refused = send(t, "POST", "", strings.NewReader("SELECT 1"), nil)
		return refused.StatusCode != 200
	})
	if refused.Header.Get("X-ClickHouse-Exception-Code") != "202" ||
		!strings.Contains(refused.body, fmt.Sprintf("Maximum: %d. (TOO_MANY_SIMULTANEOUS_QUERIES)", maxQueries)) {
		t.Errorf("refused with %s %s", refused.Status, refused.body)
	}
	if a, err := http.Get(server.URL() + "/ping"); err != nil || a.StatusCode != 200 {
		t.Errorf("a health check of a busy server gives %v %v", a, err)
	} else {
		_ = a.Body.Close()
	}
	stop()
	waitFor(t, "a place to be free", func() bool {
		return send(t, "POST", "", strings.NewReader("SELECT 1"), nil).StatusCode == 200
	})
}

// TestSlowReader lets a client read a little of an endless result: the engine
// must wait for it and not go on into memory.
func TestSlowReader(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	resp, err := begin(ctx, t, "", strings.NewReader("SELECT number, 'mark-slow' FROM system.numbers"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, 1<<20); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		return post(t, "", "SELECT read_rows FROM system.processes WHERE position(query, concat('mark-', 'slow')) > 0")
	}
	before := read()
	waitFor(t, "the engine to stand still", func() bool {
		now := read()
		still := now == before
		before = now
		return still
	})
	if n, err := strconv.Atoi(strings.TrimSpace(before)); err != nil || n > 20_000_000 {
		t.Errorf("the engine read %s rows for a client that reads none: %v", before, err)
	}
}

// TestStatementTooLong sends a statement without end.
func TestStatementTooLong(t *testing.T) {
	a := send(t, "POST", "", io.MultiReader(strings.NewReader("SELECT '"), io.LimitReader(letters{}, 32<<20)), nil)
	if a.StatusCode != 400 || !strings.Contains(a.body, "Code: 62.") {
		t.Errorf("a long statement gives %s %.200s", a.Status, a.body)
	}
}

// TestBadDataInLongBody wants the reason, though most of the body is unread.
func TestBadDataInLongBody(t *testing.T) {
	post(t, "", "CREATE TABLE bad (n UInt64) ENGINE = Null")
	defer post(t, "", "DROP TABLE bad SYNC")
	a := send(t, "POST", query("INSERT INTO bad FORMAT TSV"), io.LimitReader(letters{}, 64<<20), nil)
	if a.StatusCode != 400 || !strings.Contains(a.body, "Code: 27.") {
		t.Errorf("bad data gives %s %.200s", a.Status, a.body)
	}
}

// letters is an endless text.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestManySessions opens more kinds of sessions than are kept.
func TestManySessions(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 200 {
		want := strconv.Itoa(1000 + i)
		wg.Go(func() {
			for a := (answer{}); ; {
				a = send(t, "POST", "max_block_size="+want, strings.NewReader("SELECT getSetting('max_block_size')"), nil)
				if a.Header.Get("X-ClickHouse-Exception-Code") == "202" {
					continue // the queue is short here
				}
				if a.body != want+"\n" {
					t.Errorf("setting is %q, want %s", a.body, want)
				}
				return
			}
		})
	}
	wg.Wait()
}
