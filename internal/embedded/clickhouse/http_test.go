package clickhouse_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
)

// TestHTTP talks to the server as plain clients do.
func TestHTTP(t *testing.T) {
	post(t, "", "CREATE TABLE http (n UInt64, s String) ENGINE = MergeTree ORDER BY n")
	t.Cleanup(func() { post(t, "", "DROP TABLE http SYNC") })
	tests := []struct {
		name, method, params, body string
		status                     int
		want                       string // of the body, a part of it for errors
	}{
		{"post", "POST", "", "SELECT 1, 'a\tb'", 200, "1\ta\\tb\n"},
		{"get", "GET", query("SELECT 1"), "", 200, "1\n"},
		{"parameter and body", "POST", query("SELECT number FROM"), "numbers(2)", 200, "0\n1\n"},
		{"format in the statement", "POST", "default_format=CSV", "SELECT 1 AS x FORMAT JSONEachRow", 200, `{"x":1}` + "\n"},
		{"default_format", "POST", "default_format=JSONEachRow", "SELECT 1 AS x", 200, `{"x":1}` + "\n"},
		{"bound parameter", "POST", "param_x=a%5Ctb", "SELECT length({x:String})", 200, "3\n"},
		{"database", "POST", "database=system", "SELECT currentDatabase()", 200, "system\n"},
		{"setting", "POST", "max_threads=3", "SELECT getSetting('max_threads')", 200, "3\n"},
		{"insert values", "POST", "", "INSERT INTO http VALUES (1, 'one')", 200, ""},
		{"insert format", "POST", query("INSERT INTO http FORMAT JSONEachRow"), `{"n":2,"s":"two"}`, 200, ""},
		{"insert in the body", "POST", "", "INSERT INTO http FORMAT CSV\n3,three\n", 200, ""},
		{"insert select", "POST", "", "INSERT INTO http SELECT 4, 'four' FORMAT TSV", 200, ""},
		{"inserted", "POST", "", "SELECT n, s FROM http ORDER BY n", 200, "1\tone\n2\ttwo\n3\tthree\n4\tfour\n"},
		{"show", "POST", "", "EXISTS TABLE http", 200, "1\n"},
		{"explain", "POST", "", "EXPLAIN SYNTAX SELECT 1", 200, "SELECT 1\nFROM system.one\n"},
		{"no output", "POST", "", "SELECT number FROM numbers(200000) FORMAT Null", 200, ""},
		{"no output but a failure", "POST", "", "SELECT throwIf(number = 150000) FROM numbers(200000) FORMAT Null", 500, "Code: 395."},
		{"names once", "POST", "max_block_size=2", "SELECT number AS n FROM numbers(5) FORMAT TSVWithNamesAndTypes", 200, "n\nUInt64\n0\n1\n2\n3\n4\n"},
		{"quoted names once", "POST", "max_block_size=2", "SELECT number AS `a\nb` FROM numbers(3) FORMAT CSVWithNames", 200, "\"a\nb\"\n0\n1\n2\n"},
		{"binary names once", "POST", "max_block_size=1", "SELECT toUInt8(number) AS n FROM numbers(3) FORMAT RowBinaryWithNames", 200, "\x01\x01n\x00\x01\x02"},
		{"time zone", "POST", "", "SELECT timezone(), toDateTime(0)", 200, "UTC\t1970-01-01 00:00:00\n"},
		{"settings do not stay", "POST", "", "SET max_threads = 7", 200, ""},
		{"they are as before", "POST", "", "SELECT getSetting('max_threads') = 7", 200, "0\n"},

		{"syntax", "POST", "", "SELEC 1", 400, "Code: 62. DB::Exception: Syntax error"},
		{"nothing", "POST", "", "", 400, "Empty query"},
		{"two statements", "POST", "", "SELECT 1; SELECT 2", 400, "Multi-statements are not allowed"},
		{"two statements, not streamed", "POST", "", "SHOW TABLES; SHOW TABLES", 400, "Multi-statements are not allowed"},
		{"unknown table", "POST", "", "SELECT * FROM nosuch", 404, "Code: 60."},
		{"unknown database", "POST", "database=nosuch", "SELECT 1", 404, "Code: 81."},
		{"unknown setting", "POST", "nosuch=1", "SELECT 1", 404, "Code: 115."},
		{"bad value of a setting", "POST", "max_threads=x", "SELECT 1", 400, "Code: 27."},
		{"time limit", "POST", "max_execution_time=0.2", "SELECT count() FROM system.numbers", 408, "Code: 159."},
		{"failure before the first byte", "POST", "", "SELECT throwIf(number = 10) FROM numbers(20)", 500, "Code: 395."},
		{"bad data", "POST", query("INSERT INTO http FORMAT TSV"), "x\ty\n", 400, "Code: 27."},
		{"change by GET", "GET", query("DROP TABLE http"), "", 500, "Code: 164."},
		{"outfile", "POST", "", "SELECT 1 INTO OUTFILE 'x'", 500, "Code: 358."},
		{"infile", "POST", "", "INSERT INTO http FROM INFILE 'x' FORMAT CSV", 404, "Code: 78."},
		{"input", "POST", query("INSERT INTO FUNCTION null('n UInt64') SELECT throwIf(n != 5) FROM input('n UInt64') FORMAT TSV"), "5\n", 200, ""},
		{"bad input", "POST", query("INSERT INTO FUNCTION null('n UInt64') SELECT throwIf(n != 5) FROM input('n UInt64') FORMAT TSV"), "6\n", 500, "Code: 395."},
		{"input without data", "POST", "", "INSERT INTO http SELECT n, 'x' FROM input('n UInt64')", 501, "Code: 48."},
		{"session", "POST", "session_id=1", "SELECT 1", 501, "Code: 48."},
		{"password", "POST", "user=default&password=x", "SELECT 1", 403, "Code: 516."},
		{"user", "POST", "user=admin", "SELECT 1", 403, "Code: 516."},
		{"method", "DELETE", "", "", 405, "POST or GET"},
		{"temporary tables end", "POST", "", "CREATE TEMPORARY TABLE temporary (a UInt8)", 200, ""},
		{"with the request", "POST", "", "SELECT * FROM temporary", 404, "Code: 60."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := send(t, tt.method, tt.params, strings.NewReader(tt.body), nil)
			if a.StatusCode != tt.status {
				t.Errorf("status is %d, want %d: %s", a.StatusCode, tt.status, a.body)
			}
			if tt.status == 200 && a.body != tt.want || !strings.Contains(a.body, tt.want) {
				t.Errorf("body is %q, want %q", a.body, tt.want)
			}
			if code := a.Header.Get("X-ClickHouse-Exception-Code"); strings.HasPrefix(tt.want, "Code: ") &&
				!strings.HasPrefix(tt.want, "Code: "+code+".") {
				t.Errorf("exception code is %q", code)
			}
		})
	}
}

func TestHTTPHeaders(t *testing.T) {
	a := send(t, "POST", "query_id=mine", strings.NewReader("SELECT number FROM numbers(3) FORMAT CSV"), nil)
	for name, want := range map[string]string{
		"Content-Type":                     "text/csv; charset=UTF-8; header=absent",
		"X-ClickHouse-Format":              "CSV",
		"X-ClickHouse-Query-Id":            "mine",
		"X-ClickHouse-Timezone":            "UTC",
		"X-ClickHouse-Server-Display-Name": "topk",
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	summary := func(a answer) (s map[string]string) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.Header.Get("X-ClickHouse-Summary")), &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	if s := summary(a); s["read_rows"] != "3" || s["result_rows"] != "3" || s["elapsed_ns"] == "" {
		t.Errorf("summary of a query is %v", s)
	}
	post(t, "", "CREATE TABLE headers (n UInt64) ENGINE = Null")
	defer post(t, "", "DROP TABLE headers")
	a = send(t, "POST", query("INSERT INTO headers FORMAT TSV"), strings.NewReader("1\n2\n"), nil)
	if s := summary(a); s["written_rows"] != "2" {
		t.Errorf("summary of an insert is %v", s)
	}
	// The header names the format, too.
	a = send(t, "POST", "", strings.NewReader("SELECT 1 AS x"), http.Header{"X-ClickHouse-Format": {"JSONEachRow"}})
	if a.body != `{"x":1}`+"\n" {
		t.Errorf("format by header gives %q", a.body)
	}
}

func TestHealthChecks(t *testing.T) {
	for _, path := range []string{"/", "/ping", "/replicas_status"} {
		resp, err := http.Get(server.URL() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || string(body) != "Ok.\n" {
			t.Errorf("%s answers %s %q", path, resp.Status, body)
		}
	}
	resp, err := http.Get(server.URL() + "/nosuch")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("an unknown path answers %s", resp.Status)
	}
}

func TestHTTPCompression(t *testing.T) {
	const rows, sum = "200000", 199999 * 200000 / 2
	for name, decode := range map[string]func(io.Reader) (io.Reader, error){
		"gzip": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
		"br":   func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil },
		"zstd": func(r io.Reader) (io.Reader, error) {
			d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
			return d, err
		},
	} {
		a := send(t, "POST", "", strings.NewReader("SELECT number FROM numbers("+rows+")"), http.Header{"Accept-Encoding": {name}})
		if got := a.Header.Get("Content-Encoding"); got != name {
			t.Errorf("encoding is %q, want %q", got, name)
			continue
		}
		r, err := decode(strings.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := strings.Count(string(text), "\n"); n != 200000 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	_, _ = io.WriteString(w, "SELECT 'packed'")
	_ = w.Close()
	whole := body.String()
	packed := http.Header{"Content-Encoding": {"gzip"}}
	if a := send(t, "POST", "", strings.NewReader(whole), packed); a.body != "packed\n" {
		t.Errorf("a compressed statement gives %q", a.body)
	}
	if a := send(t, "POST", "", strings.NewReader(whole[:len(whole)-6]), packed); a.StatusCode == 200 {
		t.Errorf("a truncated body gives %q", a.body)
	}
	if a := send(t, "POST", "", strings.NewReader("x"), http.Header{"Content-Encoding": {"nosuch"}}); a.StatusCode != 501 {
		t.Errorf("an unknown encoding gives %s", a.Status)
	}
}

// TestBrokenResult ends a result after its beginning was sent.
func TestBrokenResult(t *testing.T) {
	a := send(t, "POST", "", strings.NewReader("SELECT throwIf(number = 1000000) FROM numbers(2000000)"), nil)
	if a.StatusCode != 200 {
		t.Fatalf("status is %s", a.Status)
	}
	tag := a.Header.Get("X-ClickHouse-Exception-Tag")
	if !strings.Contains(a.body, "\r\n__exception__\r\n"+tag+"\r\nCode: 395.") ||
		!strings.HasSuffix(a.body, " "+tag+"\r\n__exception__\r\n") {
		t.Errorf("the body ends with %q", a.body[max(0, len(a.body)-300):])
	}
	// Held back to its end, the same failure has its status.
	a = send(t, "POST", "wait_end_of_query=1", strings.NewReader("SELECT throwIf(number = 1000000) FROM numbers(2000000)"), nil)
	if a.StatusCode != 500 {
		t.Errorf("status is %s", a.Status)
	}
}
