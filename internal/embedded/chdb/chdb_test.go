package chdb_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

var (
	library *chdb.Library
	dir     string
)

func TestMain(m *testing.M) {
	path, err := chdb.Locate("")
	if err == nil {
		library, err = chdb.Load(path)
	}
	if err == nil {
		dir, err = os.MkdirTemp("", "topk-chdb-")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir)
		os.Exit(code)
	}))
}

func connect(t *testing.T, args ...string) *chdb.Conn {
	t.Helper()
	c, err := library.Connect(append([]string{"--path=" + dir}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func text(t *testing.T, c *chdb.Conn, sql string, params ...chdb.Param) string {
	t.Helper()
	r, err := c.Query(sql, "TSV", params...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer r.Close()
	return string(r.Data)
}

func wantCode(t *testing.T, code int, err error) {
	t.Helper()
	var e *chdb.Exception
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error is %v, want code %d", err, code)
	}
}

func TestVersion(t *testing.T) {
	if v := library.Version(); !strings.HasPrefix(v, "26.7.") {
		t.Errorf("version is %s", v)
	}
	if again, err := chdb.Load(os.DevNull); err == nil || again != nil {
		t.Error("a second library must be refused")
	}
}

func TestQuery(t *testing.T) {
	c := connect(t, "--max_threads=1")
	if got := text(t, c, "SELECT getSetting('max_threads'), 'a\x00b' = {v:String}", chdb.Param{Name: "v", Value: `a\0b`}); got != "1\t1\n" {
		t.Errorf("got %q", got)
	}
	if got := text(t, c, "SELECT {v:Nullable(String)} IS NULL, {e:String} = ''",
		chdb.Param{Name: "v", Value: `\N`}, chdb.Param{Name: "e"}); got != "1\t1\n" {
		t.Errorf("got %q", got)
	}
	_, err := c.Query("SELECT * FROM nosuch", "TSV")
	wantCode(t, 60, err)
	r, err := c.Query("SELECT number FROM numbers(10)", "Null")
	if err != nil {
		t.Fatal(err)
	}
	if r.Stats.ReadRows != 10 || len(r.Data) != 0 {
		t.Errorf("result is %q, %+v", r.Data, r.Stats)
	}
	r.Close()
	r.Close()
}

func TestStream(t *testing.T) {
	c := connect(t)
	s, err := c.Stream("SELECT number FROM numbers(200000)", "TSV")
	if err != nil {
		t.Fatal(err)
	}
	var stats chdb.Stats
	rows, chunks := 0, 0
	for ; ; chunks++ {
		r, err := s.Next()
		if err != nil {
			t.Fatal(err)
		}
		if r == nil {
			break
		}
		rows += strings.Count(string(r.Data), "\n")
		stats.Add(r.Stats)
		r.Close()
	}
	s.Close()
	s.Close()
	if rows != 200000 || chunks < 2 || stats.ReadRows != 200000 || stats.ResultRows != 200000 {
		t.Errorf("%d rows in %d chunks, %+v", rows, chunks, stats)
	}
	// Closed early, the connection is free for another statement.
	if s, err = c.Stream("SELECT number FROM system.numbers", "TSV"); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Next(); err != nil {
		t.Fatal(err)
	} else {
		r.Close()
	}
	s.Close()
	if got := text(t, c, "SELECT 1"); got != "1\n" {
		t.Errorf("got %q", got)
	}
	_, err = c.Stream("SHOW TABLES", "TSV")
	wantCode(t, 36, err)
}

func TestInsert(t *testing.T) {
	c := connect(t)
	text(t, c, "CREATE OR REPLACE TABLE inserted (n UInt64) ENGINE = MergeTree ORDER BY n")
	in, err := c.Insert("INSERT INTO inserted", "TSV")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"1\n2", "3\n", "", "4\n"} {
		if n, err := in.Write([]byte(part)); err != nil || n != len(part) {
			t.Fatalf("wrote %d: %v", n, err)
		}
	}
	stats, err := in.Done()
	in.Close()
	if err != nil || stats.WrittenRows != 3 {
		t.Errorf("%+v: %v", stats, err)
	}
	if in, err = c.Insert("INSERT INTO inserted", "TSV"); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("5\nx\n"))
	_, err = in.Done()
	in.Close()
	wantCode(t, 27, err)
	if in, err = c.Insert("INSERT INTO inserted", "TSV"); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Write([]byte("6\n"))
	in.Close() // without Done
	if _, err := in.Write([]byte("7\n")); !errors.Is(err, chdb.ErrClosed) {
		t.Errorf("write after close gives %v", err)
	}
	if got := text(t, c, "SELECT groupArray(n) FROM (SELECT n FROM inserted ORDER BY n)"); got != "[1,4,23]\n" {
		t.Errorf("inserted %s", got)
	}
	_, err = c.Insert("INSERT INTO nosuch", "TSV")
	wantCode(t, 60, err)
}

func TestClassify(t *testing.T) {
	c := connect(t)
	for sql, want := range map[string]chdb.Analysis{
		"SELECT 1":                    {Statements: 1, Class: chdb.ReadOnly},
		"SELECT 1; -- one":            {Statements: 1, Class: chdb.ReadOnly},
		"SELECT 1; SELECT 2":          {Statements: 2, Class: chdb.ReadOnly},
		"CREATE TABLE x (a UInt8)":    {Statements: 1, Class: chdb.Mutating},
		"SET max_threads = 1":         {Statements: 1, Class: chdb.Control},
		"SELECT FROM WHERE":           {Class: chdb.Unknown},
		"CREATE FUNCTION f AS x -> x": {Statements: 1, Class: chdb.MutatingGlobal},
	} {
		if got, err := c.Classify(sql); err != nil || got != want {
			t.Errorf("%s is %+v, want %+v: %v", sql, got, want, err)
		}
	}
}

// TestParallel runs statements of several connections at once.
func TestParallel(t *testing.T) {
	var wg sync.WaitGroup
	for range 8 {
		c := connect(t)
		wg.Go(func() {
			for range 50 {
				r, err := c.Query("SELECT sum(number) FROM numbers(1000)", "TSV")
				if err != nil {
					t.Error(err)
					return
				}
				if got := string(r.Data); got != "499500\n" {
					t.Errorf("got %q", got)
				}
				r.Close()
			}
		})
	}
	wg.Wait()
}

func TestClosed(t *testing.T) {
	keep := connect(t) // or the engine would stop and start
	c := connect(t)
	c.Close()
	c.Close()
	if _, err := c.Query("SELECT 1", "TSV"); !errors.Is(err, chdb.ErrClosed) {
		t.Errorf("query gives %v", err)
	}
	if _, err := c.Stream("SELECT 1", "TSV"); !errors.Is(err, chdb.ErrClosed) {
		t.Errorf("stream gives %v", err)
	}
	if _, err := c.Classify("SELECT 1"); !errors.Is(err, chdb.ErrClosed) {
		t.Errorf("classify gives %v", err)
	}
	if _, err := library.Connect("--path="+dir, "--max_threads=x"); err == nil {
		t.Error("a bad setting must be refused")
	}
	text(t, keep, "SELECT 1")
}
