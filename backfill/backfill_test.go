package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/backfill"
	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/snapshot"
)

// inLog gives the fields of an event, as charts and analysts see them.
const inLog = `SELECT (toUnixTimestamp64Milli(ts), lower(hex(reinterpret(user, 'FixedString(16)'))), songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)
	FROM plays WHERE eventId = '%s'`

// Every format, packed or not, gives the plays that are in it, with users hashed
// as the gateway hashes them.
func TestFormats(t *testing.T) {
	s := newSystem(t)
	user := topk.HashUser(pepper, "user-1")
	s.exec("INSERT INTO user_segments (user, segments) SELECT reinterpretAsUInt128(unhex('" + user[:32] + "')), ['premium']")
	s.exec("SYSTEM RELOAD DICTIONARY segments_of_user")
	event := 0
	next := func() []row {
		rows := rowsOf(20, func(i int) row { return old(event + i) })
		event += 20
		rows[2] = row{"eventId": rows[2]["eventId"], "userId": "ü", "songId": "s", "artistId": "a", "timestamp": "2020-02-29T23:59:59.9876-05:30"}
		rows[3] = rows[3].with("timestamp", "1500000000", "region", "IN", "context", "album/x:/y", "duration", "29")
		return rows
	}
	columns := "*"
	tests := []struct {
		name  string
		write func(name string, rows []row) string
	}{
		{"a.csv", func(name string, rows []row) string { return s.file(name, csvOf(rows)) }},
		{"a.csv.gz", func(name string, rows []row) string { return s.file(name, csvOf(rows)) }},
		{"a.CSV.zst", func(name string, rows []row) string { return s.file(name, csvOf(rows)) }},
		{"a.ndjson", func(name string, rows []row) string { return s.file(name, ndjson(rows)) }},
		{"a.jsonl.gz", func(name string, rows []row) string { return s.file(name, ndjson(rows)) }},
		{"a.json.zst", func(name string, rows []row) string { return s.file(name, ndjson(rows)) }},
		{"a.parquet", func(name string, rows []row) string {
			rows[2]["timestamp"] = "1583040599987"
			return s.parquet(name, rows, columns)
		}},
		{"b.parquet", func(name string, rows []row) string {
			rows[2]["timestamp"] = "1583040599987"
			rows[3]["timestamp"] = "1500000000000"
			return s.parquet(name, rows, "* EXCEPT timestamp, fromUnixTimestamp64Milli(timestamp, 'UTC') AS timestamp, 1 AS mood")
		}},
	}
	for _, test := range tests {
		rows := next()
		if got := s.load(sources(test.write(test.name, rows))); got != "20 20 0 0 0" {
			t.Errorf("%s: %s", test.name, got)
			continue
		}
		first := rows[1]
		hash := func(id string) string { return topk.HashUser(pepper, id)[:32] }
		for i, want := range map[int]string{
			1: fmt.Sprintf("(%s,'%s','%s','artist','IN','IN/Mumbai','mobile','playlist','p1',100,%s,true)", first["timestamp"], hash(first["userId"]), first["songId"],
				map[bool]string{true: "['premium']", false: "[]"}[first["userId"] == "user-1"]),
			2: fmt.Sprintf("(1583040599987,'%s','s','a','','','','','',-1,[],true)", hash("ü")),
			3: fmt.Sprintf("(1500000000000,'%s','%s','artist','IN','IN','mobile','album','x:/y',29,%s,false)", hash(rows[3]["userId"]), rows[3]["songId"],
				map[bool]string{true: "['premium']", false: "[]"}[rows[3]["userId"] == "user-1"]),
		} {
			if got := s.value(fmt.Sprintf(inLog, rows[i]["eventId"])); got != want {
				t.Errorf("%s row %d:\n got %s\nwant %s", test.name, i+1, got, want)
			}
		}
	}
	// The same, sent to ClickHouse.
	for _, test := range tests[:6] {
		rows := next()
		if got := s.load(sources(test.write("sent-"+test.name, rows)).Sent()); got != "20 20 0 0 0" {
			t.Errorf("%s, sent: %s", test.name, got)
		}
		hash := topk.HashUser(pepper, "ü")[:32]
		if got, want := s.value(fmt.Sprintf(inLog, rows[2]["eventId"])), fmt.Sprintf("(1583040599987,'%s','s','a','','','','','',-1,[],true)", hash); got != want {
			t.Errorf("%s, sent:\n got %s\nwant %s", test.name, got, want)
		}
	}
	if _, err := s.try(sources(tests[6].write("sent.parquet", next())).Sent()); !errors.Is(err, topk.ErrInvalid) {
		t.Errorf("Parquet, sent: %v", err)
	}
	if got := s.value("SELECT count() FROM plays WHERE src != 2147483648"); got != "0" {
		t.Errorf("%s plays are of other sources", got)
	}
}

// Columns may have other names, files hashes instead of ids; what lacks a column
// is not taken for a file of plays.
func TestColumns(t *testing.T) {
	s := newSystem(t)
	names := []string{"eventId", "id", "songId", "a `track\\ 'x'", "timestamp", "at"}
	columns := map[string]string{"eventId": "id", "songId": "a `track\\ 'x'", "timestamp": "at"}
	path := s.file("renamed.csv", csvOf(rowsOf(10, old), names...))
	if _, err := s.try(sources(path)); !errors.Is(err, topk.ErrInvalid) || !strings.Contains(err.Error(), "--map songId=COLUMN") {
		t.Errorf("without a mapping: %v", err)
	}
	o := sources(path)
	o.Columns = columns
	if got := s.load(o); got != "10 10 0 0 0" {
		t.Error(got)
	}
	lines := string(ndjson(rowsOf(20, old)[10:]))
	for i := 0; i < len(names); i += 2 {
		lines = strings.ReplaceAll(lines, fmt.Sprintf("%q", names[i]), fmt.Sprintf("%q", names[i+1]))
	}
	o.Sources = []string{s.file("renamed.ndjson", []byte(lines))}
	if got := s.load(o); got != "10 10 0 0 0" {
		t.Error(got)
	}
	if err := backfill.CheckColumns(map[string]string{"song": "x"}); err == nil {
		t.Error("a field that there is not")
	}
	if _, err := s.try(sources(s.file("plays", csvOf(rowsOf(1, old))))); !errors.Is(err, topk.ErrInvalid) {
		t.Errorf("a format that nobody knows: %v", err)
	}
	if _, err := s.try(sources(s.dir + "/none*.csv")); !errors.Is(err, topk.ErrInvalid) {
		t.Errorf("no such file: %v", err)
	}
	s.exact(20)
}

// Rows are judged as by the gateway, whatever is in them.
func TestVerdicts(t *testing.T) {
	s := newSystem(t)
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	values := map[string][]string{
		"eventId":    {"e-%d", "e:%d", "", "e %d", "é%d", strings.Repeat("x", 60) + "%d", "e%d\n"},
		"userId":     {"u%d", "", strings.Repeat("ü", 64), strings.Repeat("ü", 64) + "x", "a\nb"},
		"songId":     {"s%d", "", "日本%d", strings.Repeat("s", 64), strings.Repeat("s", 65), "a\tb", "a\u0085b", "{x}", "[1]", "\"q\""},
		"artistId":   {"a%d", "", strings.Repeat("é", 32), strings.Repeat("é", 33), "[", "null"},
		"timestamp":  {"17500%05d", "17500%05d000", "1e9", "-1", "-17500000000", "99999999999", "100000000000", "9999999999999", "1.5", "2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "2024-04-31T10:00:00Z", "2024-01-01T24:00:00Z", "2024-01-01T23:59:60Z", "2024-01-01 10:00:00", "2024-01-01T10:00:00", "2024-01-01T10:00:00.123456789+23:59", "2024-01-01T10:00:00+24:00", "2024-01-01T10:00:00,5Z", "2024-1-01T10:00:00Z", "2024-01-01T1:00:00Z", "1969-12-31T23:59:59Z", "2999-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "2024-01-01t10:00:00z", "2024-00-10T10:00:00Z", "2024-13-10T10:00:00Z", "", "x"},
		"region":     {"IN", "US/New York", "us", "XX", "IN/", "IN/" + strings.Repeat("é", 32), "IN/" + strings.Repeat("é", 33), "IN/a\nb", "INX", "DE/Köln/Mitte", "/"},
		"deviceType": {"mobile", "Mobile", "m" + strings.Repeat("x", 31), "m" + strings.Repeat("x", 32), "1a", "a b", "a-b_1"},
		"context":    {"playlist:x", "album/x", "a:b/c", "a/b:c", "x", ":x", "/x", "p:", "p/", "P:x", "p:" + strings.Repeat("é", 64), "p:" + strings.Repeat("é", 65), "p:a\tb", "p::", "p//"},
		"duration":   {"0", "86400", "86401", "-1", "1.5", "10", "x", "1e2", "9999999999999"},
	}
	names := []string{"eventId", "userId", "songId", "artistId", "timestamp", "region", "deviceType", "context", "duration"}
	rules := topk.Rules{MaxAhead: s.wiring.Rules.MaxAhead, MaxAge: 200 * 365 * 24 * time.Hour}
	var rows []row
	for i := range 4000 {
		p := old(i)
		for n := r.IntN(3); n > 0; n-- {
			name := names[r.IntN(len(names))]
			text := values[name][r.IntN(len(values[name]))]
			if strings.Contains(text, "%") {
				text = fmt.Sprintf(text, i)
			}
			if p[name] = text; r.IntN(8) == 0 {
				delete(p, name)
			}
		}
		rows = append(rows, p)
	}
	good := func(p row) bool {
		play, err := topk.ParsePlay([]byte(p.json()), rules, time.Now())
		return err == nil && play.Timestamp.Unix() >= 0
	}
	// In CSV an empty text is none.
	filled := func(p row) row {
		p = p.with()
		for name, text := range p {
			if text == "" {
				delete(p, name)
			}
		}
		return p
	}
	broken := []string{"{", "[]", "5", `"x"`, "null", `{"eventId":`, "\xff", `{"eventId":"x"} {}`, "true", "  x"}
	lines := string(ndjson(rows)) + strings.Join(broken, "\n") + "\n\n \n"
	for name, test := range map[string]struct {
		content []byte
		bad     int
		good    func(row) bool
	}{
		"v.csv":    {csvOf(rows), 0, func(p row) bool { return good(filled(p)) }},
		"v.ndjson": {[]byte(lines), len(broken), good},
	} {
		path := s.file(name, test.content)
		if _, err := s.try(sources(path)); err != nil {
			t.Fatal(name, err)
		}
		var want []int
		for i, p := range rows {
			if !test.good(p) {
				want = append(want, i+1)
			}
		}
		for i := range test.bad {
			want = append(want, len(rows)+i+1)
		}
		got := s.value("SELECT arraySort(groupArray(JSONExtractUInt(raw, 'row'))) FROM plays_rejected FINAL WHERE topic = '" + path + "' AND JSONExtractString(raw, 'file') = topic")
		if wanted := strings.ReplaceAll(fmt.Sprint(want), " ", ","); got != wanted {
			reasons := s.value("SELECT groupArray(concat(toString(JSONExtractUInt(raw, 'row')), ' ', reason)) FROM plays_rejected FINAL WHERE topic = '" + path + "'")
			t.Errorf("%s: other rows are rejected", name)
			shown := 0
			for i, p := range append(slices.Clone(rows), make([]row, test.bad)...) {
				in := strings.Contains(","+strings.Trim(got, "[]")+",", fmt.Sprintf(",%d,", i+1))
				if in != slices.Contains(want, i+1) && shown < 12 {
					shown++
					_, after, _ := strings.Cut(reasons, fmt.Sprintf("'%d ", i+1))
					why, _, _ := strings.Cut(after, "'")
					t.Errorf("row %d: rejected %t (%s), want %t: %v", i+1, in, why, !in, p)
				}
			}
		}
		// The second file has the same events.
	}
	if got := s.value("SELECT countIf(match(raw, '\"userId\":\"u'))" + " FROM plays_rejected"); got != "0" {
		t.Errorf("%s rejects name users", got)
	}
}

// An event counts once: within the files, against the log, against earlier
// backfills; a file once, unless it has changed.
func TestRepeats(t *testing.T) {
	s := newSystem(t)
	s.produce(recent(0), recent(1), recent(2))
	s.exact(3)
	rows := append(rowsOf(100, old), old(5).with("songId", "other"), old(6), recent(1), recent(7), recent(8), recent(7))
	path := s.file("a.csv", csvOf(append(rows, row{"eventId": "bad"})))
	dry := sources(path)
	dry.DryRun = true
	want := "107 100 2 4 1"
	if got := s.load(dry); got != want {
		t.Errorf("dry: %s, want %s", got, want)
	}
	s.exact(3)
	if got := s.value("SELECT (SELECT count() FROM backfill_files) + (SELECT count() FROM plays_rejected)"); got != "0" {
		t.Errorf("a dry run left %s rows", got)
	}
	if got := s.load(sources(path)); got != want {
		t.Errorf("first: %s, want %s", got, want)
	}
	s.exact(105)
	if got := s.value("SELECT songId FROM plays WHERE eventId = 'old-5'"); got != "song-0" {
		t.Errorf("another row than the first counts: %s", got)
	}
	report, err := s.try(sources(path, s.dir+"/*.csv"))
	if err != nil || report.Rows != 0 || len(report.Files) != 1 || report.Files[0].LoadedBefore.IsZero() {
		t.Errorf("again: %+v %v", report, err)
	}
	s.exact(105)
	s.file("a.csv", csvOf(append(rows, old(200))))
	report, err = s.try(sources(path))
	if err != nil || report.Appended != 1 || report.Repeats != 106 || len(report.Changed) != 1 {
		t.Errorf("changed: %+v %v", report, err)
	}
	// The same plays in another file, and in two files at once.
	b, c := s.file("b.ndjson", ndjson(rowsOf(110, old))), s.file("c.ndjson", ndjson(rowsOf(120, old)))
	report, err = s.try(sources(b, c).InPieces(3))
	if err != nil || report.Appended != 20 || report.Files[0].Appended != 10 || report.Files[1].Appended != 10 {
		t.Errorf("two files: %+v %v", report, err)
	}
	s.exact(126)
	// As live plays once more.
	s.produce(recent(7), recent(8), recent(1))
	s.become("SELECT uniqExact(src, koff) FROM plays_duplicates WHERE (src, koff) NOT IN (SELECT src, koff FROM plays)", "3")
	s.exact(126)
}

// Plays that may still come live go through Kafka, also those that it would find
// too old by the time they get there.
func TestAgeLimit(t *testing.T) {
	s := newSystem(t)
	var rows []row
	for i, age := range []time.Duration{-time.Minute, 0, 167 * time.Hour, 168*time.Hour + 30*time.Minute, 169*time.Hour + 30*time.Minute,
		169*time.Hour + 58*time.Minute, 170*time.Hour + 2*time.Minute, 10_000 * time.Hour} {
		rows = append(rows, old(i).with("timestamp", fmt.Sprint(time.Now().Add(-age).UnixMilli())))
	}
	if got := s.load(sources(s.file("a.csv", csvOf(rows)))); got != "8 2 6 0 0" {
		t.Error(got)
	}
	s.exact(8)
}

var errKilled = errors.New("killed")

// Killed before any of its writes and run again, a backfill has loaded
// everything once.
func TestKilledAtEachWrite(t *testing.T) {
	s := newSystem(t)
	plays := 0
	var names []string
	for kill := 0; ; kill++ {
		var rows []row
		for i := range 12 {
			rows = append(rows, old(100*kill+i))
		}
		for i := range 5 {
			rows = append(rows, recent(100*kill+i))
		}
		plays += len(rows)
		path := s.file(fmt.Sprintf("kill-%d.csv", kill), csvOf(append(rows, rows[3], row{"eventId": fmt.Sprint("bad-", kill)})))
		other := s.file(fmt.Sprintf("kill-%d.ndjson", kill), ndjson(rows[:7]))
		step := 0
		_, err := s.try(sources(path, other).InPieces(4).WithSteps(func(name string) error {
			if step++; step > kill {
				names = append(names, name)
				return errKilled
			}
			return nil
		}))
		if err == nil {
			s.exact(plays)
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if kill%3 == 1 { // it came live meanwhile
			s.produce(recent(100*kill + 2))
			s.become(fmt.Sprintf("SELECT count() FROM plays WHERE eventId = 'recent-%d'", 100*kill+2), "1")
		}
		if _, err := s.try(sources(path, other).InPieces(4)); err != nil {
			t.Fatalf("killed before %s: %v", names[kill], err)
		}
		s.exact(plays)
		if got := s.value("SELECT uniqExact(eventId) FROM plays_rejected FINAL WHERE eventId LIKE 'bad-%'"); got != fmt.Sprint(kill+1) {
			t.Errorf("killed before %s: %s rejects", names[kill], got)
		}
	}
	if got, want := s.value("SELECT (count(), sum(rows), sum(rejected)) FROM backfill_files FINAL"), fmt.Sprintf("(%d,%d,%d)", 2*len(names)+2, 26*(len(names)+1), len(names)+1); got != want {
		t.Errorf("the files are noted as %s, want %s", got, want)
	}
	if got := s.value("SELECT max(koff) - min(koff) + 1 - count() - (SELECT count() FROM plays_rejected FINAL WHERE koff > (SELECT min(koff) FROM plays WHERE src = 2147483648)) FROM plays WHERE src = 2147483648"); got != "0" {
		t.Logf("%s offsets are of nothing", got)
	}
	t.Logf("killed before each of %q", names)
}

// Interrupted again and again, in the middle of whatever it does, a backfill ends
// some time, and has loaded everything once.
func TestInterrupted(t *testing.T) {
	s := newSystem(t)
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	path := s.file("a.csv.gz", csvOf(append(rowsOf(3000, old), rowsOf(500, recent)...)))
	interrupted := 0
	for patience := 200 * time.Millisecond; ; patience += 100 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(r.Int64N(int64(patience))))
		_, err := backfill.Run(ctx, s.config(), sources(path).InPieces(100))
		cancel()
		if err == nil {
			break
		}
		if interrupted++; ctx.Err() == nil || interrupted > 200 {
			t.Fatal(err)
		}
	}
	s.exact(3500)
	if got := s.value("SELECT count() FROM plays WHERE src = 2147483648"); got != "3000" {
		t.Errorf("%s plays were appended", got)
	}
	t.Logf("interrupted %d times", interrupted)
}

// While plays stream in, among them those of the file, every event counts once,
// and topk's replay keeps what is not in Kafka.
func TestWhileStreaming(t *testing.T) {
	s := newSystem(t)
	ctx, cancel := context.WithCancel(t.Context())
	var streaming sync.WaitGroup
	sent := 0
	streaming.Go(func() {
		for ; ctx.Err() == nil; sent++ {
			s.produce(recent(sent))
		}
	})
	path := s.file("a.ndjson.gz", ndjson(append(rowsOf(3000, old), rowsOf(500, recent)...)))
	report, err := s.try(sources(path).InPieces(200))
	if err != nil || report.Appended != 3000 || report.Published+report.Repeats != 500 {
		t.Errorf("%+v %v", report, err)
	}
	cancel()
	streaming.Wait()
	total := 3000 + max(500, sent)
	s.exact(total)
	t.Logf("%d live plays; %d of the file came live first", sent, report.Repeats)

	replay, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := migrations.Replay(replay, s.DSN, s.wiring, migrations.ReplayOptions{Kafka: kadm.NewClient(s.kafka)}); err != nil {
		t.Fatal(err)
	}
	s.exact(total)
	if got := s.load(sources(s.file("b.csv", csvOf(rowsOf(3010, old))))); got != "3010 10 0 3000 0" {
		t.Errorf("after a replay: %s", got)
	}
	s.exact(total + 10)
	if report := s.check(); !report.Exact() || report.Log.Backfills != 2 || report.Log.Backfilled != 3010 {
		t.Errorf("topk check: %+v %+v", report.Log, report.Differences)
	}
	s.exec("ALTER TABLE plays DELETE WHERE eventId = 'old-3' SETTINGS mutations_sync = 2")
	if report := s.check(); !slices.ContainsFunc(report.Differences, func(d check.Difference) bool { return strings.Contains(d.What, "2999 of its 3000") }) {
		t.Errorf("topk check does not see that a play is gone: %+v", report.Differences)
	}
}

func (s *system) check() check.Report {
	s.Helper()
	store, err := snapshot.Open(s.Context(), s.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1})
	if err != nil {
		s.Fatal(err)
	}
	defer store.Close()
	checker, err := check.Open(check.Config{
		ClickHouseURL: s.DSN, KafkaBrokers: s.Brokers, Snapshots: store, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.Fatal(err)
	}
	report, err := checker.Run(s.Context(), check.Options{Days: 2})
	if err := errors.Join(err, checker.Close()); err != nil {
		s.Fatal(err)
	}
	return report
}

// Two backfills do not run at once.
func TestOneAtATime(t *testing.T) {
	s := newSystem(t)
	path := s.file("a.csv", csvOf(rowsOf(3, old)))
	_, err := s.try(sources(path).WithSteps(func(name string) error {
		if name == "append.sql" {
			if _, err := s.try(sources(path).WithPatience(time.Second)); !errors.Is(err, backfill.ErrBusy) {
				t.Errorf("another one: %v", err)
			}
			if err := migrations.Replay(t.Context(), s.DSN, s.wiring, migrations.ReplayOptions{Kafka: kadm.NewClient(s.kafka)}); !errors.Is(err, topk.ErrUnavailable) {
				t.Errorf("a replay: %v", err)
			}
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	s.exact(3)
}
