package loader_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/klauspost/compress/zstd"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/internal/tabular"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// A world is a migrated database and a directory of files.
type world struct {
	testing.TB
	env *embeddedtest.Env
	db  *queries.DB
	dir string
	s3  tabular.S3
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{TB: t, env: embeddedtest.New(t), dir: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, w.env.DSN, migrations.Wiring{
		Brokers: w.env.Brokers, Topic: w.env.Topic, Group: w.env.Topic, Rules: topk.DefaultRules(),
	}); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.db, err = queries.Open(w.env.DSN, topk.DefaultCalendar()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) value(sql string) (v string) {
	w.Helper()
	if err := w.env.ClickHouse.QueryRow(w.Context(), "SELECT toString(("+sql+"))").Scan(&v); err != nil {
		w.Fatal(err)
	}
	return v
}

func (w *world) file(name, text string) string {
	w.Helper()
	var b bytes.Buffer
	var packed io.WriteCloser
	switch filepath.Ext(name) {
	case ".gz":
		packed = gzip.NewWriter(&b)
	case ".zst":
		var err error
		if packed, err = zstd.NewWriter(&b); err != nil {
			w.Fatal(err)
		}
	}
	if packed == nil {
		b.WriteString(text)
	} else if _, err := io.WriteString(packed, text); err != nil {
		w.Fatal(err)
	} else if err := packed.Close(); err != nil {
		w.Fatal(err)
	}
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		w.Fatal(err)
	}
	return path
}

// parquet writes what a statement gives.
func (w *world) parquet(name, sql string) string {
	w.Helper()
	path := filepath.Join(w.dir, name)
	if err := w.env.ClickHouse.Exec(w.Context(), "INSERT INTO FUNCTION file('"+path+"', 'Parquet') "+sql); err != nil {
		w.Fatal(err)
	}
	return path
}

// load gives what a load did, and checks that it leaves no rows behind.
func (w *world) load(o loader.LoadOptions, in string, users bool) (loaded loader.Loaded, err error) {
	w.Helper()
	files, err := tabular.Open(w.env.DSN, tabular.Files{Stdin: strings.NewReader(in), S3: w.s3, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	o.Files = files
	if users {
		loaded, err = loader.Segments(w.Context(), w.db, pepper, o)
	} else {
		loaded, err = loader.Catalog(w.Context(), w.db, o)
	}
	if err := files.Close(); err != nil {
		w.Error(err)
	}
	if rows := w.value("SELECT (SELECT count() FROM songs_loading) + (SELECT count() FROM user_segments_loading)"); rows != "0" {
		w.Errorf("%s rows were left", rows)
	}
	return loaded, err
}

func (w *world) songs(o loader.LoadOptions, in string) loader.Loaded {
	w.Helper()
	loaded, err := w.load(o, in, false)
	if err != nil {
		w.Fatal(err)
	}
	return loaded
}

var pepper = []byte("0123456789abcdef")

const catalogPrint = "SELECT arraySort(groupArray((songId, title, artistId, artist, genres, durationMs))) FROM songs FINAL WHERE title != ''"

// Each format says the same, and nothing changes after the first.
func TestFormats(t *testing.T) {
	w := newWorld(t)
	bucket := embeddedtest.NewBucket(t)
	w.s3 = tabular.S3{Endpoint: bucket.Endpoint, Key: bucket.Keys.ID, Secret: bucket.Keys.Secret}
	const (
		csv    = "\ufeffartist,songId,more,title,artistId,durationMs,genres\r\nA,s1,x,\"Two, \"\"lines\"\"\",a1,1000,pop|rock\r\n\r\nB,s2,,T2,a2,,\r\n"
		ndjson = `{"songId":"s1","title":"Two, \"lines\"","artistId":"a1","artist":"A","genres":["pop","rock"],"durationMs":1000,"more":{}}` + "\n\n" +
			`{"songId":"s2","title":"T2","artistId":"a2","artist":"B"}`
		want = `[('s1','Two, "lines"','a1','A',['pop','rock'],1000),('s2','T2','a2','B',[],0)]`
	)
	parquet := w.parquet("songs.parquet", `SELECT 's' || toString(number + 1) AS songId, ['Two, "lines"', 'T2'][number + 1] AS title, 'a' || toString(number + 1) AS artistId,
		['A', 'B'][number + 1] AS artist, if(number = 0, ['pop', 'rock'], []) AS genres, toInt64(if(number = 0, 1000, 0)) AS durationMs, 'x' AS more FROM numbers(2)`)
	put := func(path string) string {
		t.Helper()
		name := filepath.Base(path)
		if err := w.env.ClickHouse.Exec(t.Context(), fmt.Sprintf(
			"INSERT INTO FUNCTION s3('%s/%s/%s', '%s', '%s', 'RawBLOB', 'x String', 'none') SELECT * FROM file('%s', 'RawBLOB', 'x String', 'none')",
			bucket.Endpoint, bucket.Name, name, bucket.Keys.ID, bucket.Keys.Secret, path)); err != nil {
			t.Fatal(err)
		}
		return "s3://" + bucket.Name + "/" + name
	}
	first := w.songs(loader.LoadOptions{Sources: []string{w.file("songs.csv", csv)}}, "")
	if first.Rows != 2 || first.Written != 2 || first.Deleted != 0 {
		t.Errorf("%+v", first)
	}
	if got := w.value(catalogPrint); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	for name, source := range map[string]string{
		"CSV by gzip": w.file("songs.csv.gz", csv), "CSV by zstd": w.file("songs.csv.zst", csv), "NDJSON": w.file("songs.ndjson", ndjson),
		"NDJSON by gzip": w.file("songs.jsonl.gz", ndjson), "Parquet": parquet, "standard input": "-",
		"CSV in S3": put(filepath.Join(w.dir, "songs.csv")), "NDJSON by gzip in S3": put(filepath.Join(w.dir, "songs.jsonl.gz")), "Parquet in S3": put(parquet),
	} {
		if again := w.songs(loader.LoadOptions{Sources: []string{source}}, ndjson); again.Rows != 2 || again.Written != 0 || again.Deleted != 0 {
			t.Errorf("%s: %+v", name, again)
		}
	}
	if got := w.songs(loader.LoadOptions{Sources: []string{w.file("semicolons.csv", "songId,title,artistId,artist,genres\ns1,T,a,A,pop;jazz")}, Separator: ";"}, ""); got.Written != 1 {
		t.Errorf("another separator: %+v", got)
	}
	if got := w.value("SELECT (title, genres, durationMs) FROM songs FINAL WHERE songId = 's1'"); got != "('T',['pop','jazz'],0)" {
		t.Error(got)
	}
}

// More than one batch, of which the last row of a song counts.
func TestMany(t *testing.T) {
	w := newWorld(t)
	var in strings.Builder
	for i := range 12_000 {
		fmt.Fprintf(&in, `{"songId":"s%d","title":"T","artistId":"a","artist":"A","genres":["pop"],"durationMs":1}`+"\n\n", i)
	}
	in.WriteString(`{"songId":"s0","title":"New","artistId":"a","artist":"A","genres":[],"durationMs":2}`)
	if got := w.songs(loader.LoadOptions{Sources: []string{"-"}}, in.String()); got.Rows != 12_001 || got.Written != 12_000 {
		t.Errorf("%+v", got)
	}
	if got := w.value("SELECT (count(), anyIf(title, songId = 's0')) FROM songs FINAL"); got != "(12000,'New')" {
		t.Errorf("songs are %s", got)
	}
}

func TestDeletions(t *testing.T) {
	w := newWorld(t)
	all := "songId,title,artistId,artist,genres\n"
	for i := range 5 {
		all += fmt.Sprintf("s%d,T,a%d,A,pop\n", i, i)
	}
	w.songs(loader.LoadOptions{Sources: []string{w.file("all.csv", all)}}, "")
	// Only the id of what is deleted must be right; an unknown one is nothing.
	if got := w.songs(loader.LoadOptions{Sources: []string{"-"}}, `{"songId":"s0","deleted":true}`+"\n"+`{"songId":"none","deleted":true}`); got.Deleted != 1 || got.Written != 0 || got.Present != 5 {
		t.Errorf("%+v", got)
	}
	if got := w.songs(loader.LoadOptions{Sources: []string{w.file("deleted.csv", "deleted,songId\nTRUE,s0\n")}}, ""); got.Deleted != 0 {
		t.Errorf("again: %+v", got)
	}
	songs, err := w.db.Songs(t.Context(), []string{"s0", "s1"})
	if err != nil || len(songs) != 1 || songs["s1"].ArtistID != "a1" {
		t.Errorf("%v, %v", songs, err)
	}
	if got := w.value("SELECT groupArray((artistId, genres)) FROM songs FINAL WHERE songId = 's0'"); got != "[('',[])]" {
		t.Errorf("of a deleted song there is %s", got)
	}
	// Of s1 to s4 one stays.
	one := w.file("one.csv", "songId,title,artistId,artist,genres\ns1,T,a1,A,pop\n")
	before := w.value(catalogPrint)
	if _, err := w.load(loader.LoadOptions{Sources: []string{one}, Replace: true}, "", false); !errors.Is(err, topk.ErrInvalid) || !strings.Contains(err.Error(), "3 of 4") {
		t.Errorf("%v", err)
	}
	if got := w.value(catalogPrint); got != before {
		t.Errorf("refused, and %s", got)
	}
	if got := w.songs(loader.LoadOptions{Sources: []string{one}, Replace: true, Force: true}, ""); got.Deleted != 3 || got.Written != 0 {
		t.Errorf("%+v", got)
	}
	// What was deleted may come again.
	if got := w.songs(loader.LoadOptions{Sources: []string{w.file("all.csv", all)}, Replace: true}, ""); got.Deleted != 0 || got.Written != 4 {
		t.Errorf("%+v", got)
	}

	segments := func(o loader.LoadOptions, in string) loader.Loaded {
		t.Helper()
		o.Sources = []string{"-"}
		loaded, err := w.load(o, in, true)
		if err != nil {
			t.Fatal(err)
		}
		return loaded
	}
	if got := segments(loader.LoadOptions{}, `{"userId":"u1","segments":["free","student"]}`+"\n"+`{"userId":"u2","segments":["free"]}`+"\n"+`{"userId":"u3"}`); got.Written != 2 || got.Deleted != 0 {
		t.Errorf("%+v", got)
	}
	key := fmt.Sprintf("reinterpretAsUInt128(unhex(substring('%s', 1, 32)))", topk.HashUser(pepper, "u1"))
	if got := segments(loader.LoadOptions{Replace: true}, `{"userId":"u1","segments":["free"]}`); got.Written != 1 || got.Deleted != 1 || got.Present != 2 {
		t.Errorf("%+v", got)
	}
	if got := w.value("SELECT (count(), anyIf(segments, user = " + key + ")) FROM user_segments FINAL WHERE notEmpty(segments)"); got != "(1,['free'])" {
		t.Errorf("users are %s", got)
	}
}

// One wrong row, and nothing is written.
func TestBadRows(t *testing.T) {
	w := newWorld(t)
	const good = `{"songId":"good","title":"T","artistId":"a","artist":"A"}` + "\n"
	header := "songId,title,artistId,artist,durationMs\n"
	for name, test := range map[string]struct {
		source, in string
		says       []string
	}{
		"fields":     {"-", good + "\n" + `{"songId":"","title":"T","artist":"A"}`, []string{"- line 3: songId must not be empty; artistId must not be empty"}},
		"wrong type": {"-", good + `{"songId":5,"title":"T","artistId":"a","artist":""}`, []string{"line 2: songId must be text, is number; artist must"}},
		"no JSON":    {"-", "nonsense\n[]\n\xff", []string{"line 1: must be one JSON object", "line 2: must be one", "line 3: must be valid UTF-8"}},
		"long line":  {"-", good + strings.Repeat("x", 2<<20), []string{"line 2: must be at most"}},
		"CSV": {w.file("bad.csv", header+"good,T,a,A,1\ns,\"two\nlines\",a,A,-1\ns,T,a,A\ns,T\"x,a,A,1\ns,T,a,A,4.5\n,T,a,A,x\n\xff,T,a,A,1"), "", []string{
			"bad.csv line 3: durationMs must be a whole number from 0 to 4294967295, is number -1", "line 5: has not as many columns", "line 6: bare",
			"line 7: durationMs must", "line 8: durationMs must be a whole number from 0 to 4294967295, is string; songId must", "line 9: songId must be valid UTF-8"}},
		"no column":    {w.file("columns.csv", "songId,title,artist\ns,T,A\n"), "", []string{"line 1: artistId is no column"}},
		"no header":    {w.file("empty.csv", ""), "", []string{"line 1: there is no header"}},
		"open quote":   {w.file("quote.csv", header+"s,\""+strings.Repeat("x\n", 1<<20)), "", []string{"line 2: must be at most"}},
		"Parquet":      {w.parquet("bad.parquet", "SELECT 'p' AS songId, if(number = 2, '', 'T') AS title, 'a' AS artistId, 'A' AS artist FROM numbers(4)"), "", []string{"bad.parquet line 3: title must"}},
		"many":         {"-", strings.Repeat("{}\n", 50), []string{"line 20: ", "and 30 more"}},
		"not there":    {filepath.Join(w.dir, "none.csv"), "", []string{"there is no such file"}},
		"not a format": {w.file("songs.txt", ""), "", []string{"give --format"}},
		"not packed":   {w.file("half.ndjson", "\x1f\x8b"), "", []string{"half.ndjson"}},
	} {
		// Another file is all right.
		_, err := w.load(loader.LoadOptions{Sources: []string{w.file("good.ndjson", good), test.source}}, test.in, false)
		if !errors.Is(err, topk.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		for _, says := range test.says {
			if err != nil && !strings.Contains(err.Error(), says) {
				t.Errorf("%s: %v, want it to say %q", name, err, says)
			}
		}
	}
	if got := w.value("SELECT count() FROM songs"); got != "0" {
		t.Errorf("%s songs were written", got)
	}
}

// Whatever a file is, each of its rows is JSON or is told to be wrong.
func FuzzRows(f *testing.F) {
	f.Add("csv", "songId,title,artistId,artist,genres,durationMs\ns,T,a,A,x|y,5\n\"s\n,\n")
	f.Add("csv", "\ufeffdeleted,songId\nTRUE,s\n\n,\xff\n")
	f.Add("ndjson", "{}\n\nx\n[1]")
	f.Fuzz(func(t *testing.T, format, text string) {
		lines, last := strings.Count(text, "\n")+1, 0
		bad, err := loader.ReadSongs(format, strings.NewReader(text), func(object []byte) error {
			if last++; format == "csv" && !json.Valid(object) || !utf8.Valid(object) {
				t.Errorf("%q", object)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		// A header may lack several columns.
		if n := last + len(bad.Rows) + bad.More; n > lines+4 {
			t.Errorf("%d rows of %d lines", n, lines)
		}
		for _, row := range bad.Rows {
			if row.Line < 1 || row.Line > lines+1 || !errors.Is(row.Err, topk.ErrInvalid) {
				t.Errorf("line %d of %d: %v", row.Line, lines, row.Err)
			}
		}
	})
}
