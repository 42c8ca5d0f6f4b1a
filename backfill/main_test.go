package backfill_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/backfill"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

var pepper = []byte("a secret of tests' \\ ")

// A system is a migrated database, the topic it reads, and a directory of files.
type system struct {
	testing.TB
	*embeddedtest.Env
	wiring migrations.Wiring
	kafka  *kgo.Client
	dir    string
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := newBenchSystem(t)
	s.hurry()
	return s
}

// newBenchSystem is one whose rollups take their time.
func newBenchSystem(t testing.TB) *system {
	t.Helper()
	s := &system{TB: t, Env: embeddedtest.New(t), dir: t.TempDir()}
	var err error
	if s.kafka, err = kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.DefaultProduceTopic(s.Topic)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kafka.Close)
	topics, err := kadm.NewClient(s.kafka).ListTopics(t.Context(), s.Topic)
	if err != nil {
		t.Fatal(err)
	}
	s.wiring = migrations.Wiring{
		Brokers: s.Brokers, Topic: s.Topic, TopicID: topics[s.Topic].ID.String(), Group: s.Topic, Rules: topk.DefaultRules(), MinPlaySeconds: 30,
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, s.DSN, s.wiring); err != nil {
		t.Fatal(err)
	}
	return s
}

// hurry has the rollups filled without a pause.
func (s *system) hurry() {
	ctx, cancel := context.WithCancel(s.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for tick := time.Tick(300 * time.Millisecond); ctx.Err() == nil; <-tick {
			for _, view := range []string{"rollup_hour_fill", "rollup_day_fill"} {
				_ = s.ClickHouse.Exec(ctx, "SYSTEM REFRESH VIEW "+view) // it is not there in the middle of a replay
			}
		}
	})
	s.Cleanup(func() { cancel(); running.Wait() })
}

func (s *system) config() backfill.Config {
	return backfill.Config{
		ClickHouseURL: s.DSN, KafkaBrokers: s.Brokers, Topic: s.Topic, Group: s.wiring.Group, Rules: s.wiring.Rules,
		MinPlaySeconds: s.wiring.MinPlaySeconds, Pepper: pepper, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	}
}

func (s *system) try(o backfill.Options) (backfill.Report, error) {
	ctx, cancel := context.WithTimeout(s.Context(), 3*time.Minute)
	defer cancel()
	return backfill.Run(ctx, s.config(), o)
}

// load backfills files, and gives "rows appended published repeats rejected".
func (s *system) load(o backfill.Options) string {
	s.Helper()
	report, err := s.try(o)
	if err != nil {
		s.Fatal(err)
	}
	return fmt.Sprint(report.Rows, report.Appended, report.Published, report.Repeats, report.Rejected)
}

func sources(paths ...string) backfill.Options { return backfill.Options{Sources: paths} }

func (s *system) exec(sql string) {
	s.Helper()
	if err := s.ClickHouse.Exec(s.Context(), sql); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

func (s *system) value(sql string) (v string) {
	s.Helper()
	if err := s.ClickHouse.QueryRow(s.Context(), "SELECT toString(("+sql+"))").Scan(&v); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (s *system) become(sql, want string) {
	s.Helper()
	embeddedtest.WaitFor(s.Context(), s, sql+" to be "+want, func() bool { return s.value(sql) == want })
}

// A row is a play of a file: texts by the fields' names.
type row map[string]string

// old is a play of 20 days ago, and n seconds.
func old(n int) row {
	at := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -20).Add(time.Duration(n) * time.Second)
	return row{
		"eventId": fmt.Sprint("old-", n), "userId": fmt.Sprint("user-", n%7), "songId": fmt.Sprint("song-", n%5), "artistId": "artist",
		"timestamp": fmt.Sprint(at.UnixMilli()), "region": "IN/Mumbai", "deviceType": "mobile", "context": "playlist:p1", "duration": "100",
	}
}

// recent is a play of an hour ago, and n seconds.
func recent(n int) row {
	r := old(n)
	r["eventId"] = fmt.Sprint("recent-", n)
	r["timestamp"] = fmt.Sprint(time.Now().Add(-time.Hour - time.Duration(n)*time.Second).UnixMilli())
	return r
}

func rowsOf(n int, make func(int) row) (rows []row) {
	for i := range n {
		rows = append(rows, make(i))
	}
	return rows
}

func (r row) with(changes ...string) row {
	changed := row{}
	for k, v := range r {
		changed[k] = v
	}
	for i := 0; i < len(changes); i += 2 {
		changed[changes[i]] = changes[i+1]
	}
	return changed
}

// json is the row as the gateway is sent it.
func (r row) json() string {
	fields := map[string]any{}
	for name, text := range r {
		fields[name] = text
		var number json.Number
		if name == "timestamp" || name == "duration" {
			if err := json.Unmarshal([]byte(text), &number); err == nil && !strings.HasPrefix(text, `"`) {
				fields[name] = number
			}
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// ndjson writes rows as lines.
func ndjson(rows []row) []byte {
	var b bytes.Buffer
	for _, r := range rows {
		b.WriteString(r.json() + "\n")
	}
	return b.Bytes()
}

var fieldNames = []string{"eventId", "userId", "songId", "artistId", "timestamp", "region", "deviceType", "context", "duration"}

// csvOf writes rows under a header, in which fields may have other names.
func csvOf(rows []row, names ...string) []byte {
	header := slices.Clone(fieldNames)
	for i := 0; i < len(names); i += 2 {
		header[slices.Index(header, names[i])] = names[i+1]
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write(header) // a buffer takes everything
	for _, r := range rows {
		var record []string
		for _, name := range fieldNames {
			record = append(record, r[name])
		}
		_ = w.Write(record)
	}
	w.Flush()
	return b.Bytes()
}

func (s *system) file(name string, content []byte) string {
	s.Helper()
	var b bytes.Buffer
	switch {
	case strings.HasSuffix(name, ".gz"):
		w := gzip.NewWriter(&b)
		_, _ = w.Write(content)
		_ = w.Close()
		content = b.Bytes()
	case strings.HasSuffix(name, ".zst"):
		w, err := zstd.NewWriter(&b)
		if err != nil {
			s.Fatal(err)
		}
		_, _ = w.Write(content)
		_ = w.Close()
		content = b.Bytes()
	}
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		s.Fatal(err)
	}
	return path
}

// parquet writes rows by ClickHouse, as its types are there.
func (s *system) parquet(name string, rows []row, columns string) string {
	s.Helper()
	from := s.file(name+".ndjson", ndjson(rows))
	to := filepath.Join(s.dir, name)
	s.exec(fmt.Sprintf("INSERT INTO FUNCTION file('%s', 'Parquet') SELECT %s FROM file('%s', 'JSONEachRow', '%s')", to, columns, from,
		"eventId String, userId String, songId String, artistId String, timestamp Int64, region Nullable(String), deviceType Nullable(String), context Nullable(String), duration Nullable(Int32)"))
	return to
}

// produce sends a row as the gateway does.
func (s *system) produce(rows ...row) {
	s.Helper()
	for _, r := range rows {
		if err := s.kafka.ProduceSync(s.Context(), &kgo.Record{Value: []byte(r.with("userId", topk.HashUser(pepper, r["userId"])).json())}).FirstErr(); err != nil {
			s.Fatal(err)
		}
	}
}

// exact waits until the log and the rollups have so many plays, each once, and
// nothing is staged.
func (s *system) exact(plays int) {
	s.Helper()
	s.become("SELECT (count(), uniqExact(eventId), uniqExact(src, koff)) FROM plays", fmt.Sprintf("(%d,%d,%d)", plays, plays, plays))
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		for _, val := range []string{"", "IN/Mumbai"} {
			s.become(fmt.Sprintf("SELECT sum(plays) FROM %s WHERE dim IN ('global', 'region') AND val = '%s'", rollup, val), fmt.Sprint(plays))
		}
	}
	if got := s.value("SELECT (SELECT count() FROM backfill_rows) + (SELECT count() FROM backfill_plays) + (SELECT count() FROM backfill_runs)"); got != "0" {
		s.Errorf("%s rows are staged still", got)
	}
}
