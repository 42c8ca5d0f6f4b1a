package embeddedtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

// TestFeatures runs each part of ClickHouse that the schema is built from, so
// that a new version of the library that lacks one is seen here first.
func TestFeatures(t *testing.T) {
	for name, test := range map[string]func(context.Context, *testing.T, *embeddedtest.Env){
		"projection":         testProjection,
		"direct join":        testDirectJoin,
		"refreshable view":   testRefreshableView,
		"dictionary":         testDictionary,
		"kafka":              testKafka,
		"parameterised view": testParameterisedView,
		"null engine chain":  testNullEngineChain,
		"database":           testDatabase,
		"merges":             testMerges,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			test(ctx, t, embeddedtest.New(t))
		})
	}
}

func execute(ctx context.Context, t *testing.T, env *embeddedtest.Env, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if err := env.ClickHouse.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// text returns the first column of the rows of a query, joined by blanks.
func text(ctx context.Context, t *testing.T, env *embeddedtest.Env, sql string, args ...any) string {
	t.Helper()
	rows, err := env.ClickHouse.Query(ctx, sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		out = append(out, s)
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.Join(out, " ")
}

func count(ctx context.Context, t *testing.T, env *embeddedtest.Env, table string) (n uint64) {
	t.Helper()
	if err := env.ClickHouse.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func testProjection(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env,
		`CREATE TABLE log (src UInt32, koff UInt64, PROJECTION offsets (SELECT src, max(koff) GROUP BY src))
		 ENGINE = MergeTree ORDER BY (src, koff)`,
		"INSERT INTO log SELECT number % 3, number FROM numbers(100000)")
	want(t, text(ctx, t, env, "SELECT toString(max(koff)) FROM log GROUP BY src ORDER BY src"), "99999 99997 99998")
	plan := text(ctx, t, env, "EXPLAIN SELECT src, max(koff) FROM log GROUP BY src")
	if !strings.Contains(plan, "(offsets)") {
		t.Errorf("the projection is not used: %s", plan)
	}
}

func testDirectJoin(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env,
		"CREATE TABLE seen (key UInt64, src UInt32) ENGINE = EmbeddedRocksDB(172800) PRIMARY KEY key",
		"INSERT INTO seen SELECT number * 2, 7 FROM numbers(1000)")
	join := `SELECT toString(n.number) FROM (SELECT toUInt64(number) AS number FROM numbers(6)) AS n
		LEFT ANY JOIN seen ON seen.key = n.number WHERE seen.src = 0 ORDER BY n.number
		SETTINGS join_algorithm = 'direct'`
	want(t, text(ctx, t, env, join), "1 3 5")
}

func testRefreshableView(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env,
		"CREATE TABLE ticks (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE MATERIALIZED VIEW ticker REFRESH EVERY 1 SECOND APPEND TO ticks AS SELECT count() AS n FROM ticks")
	embeddedtest.WaitFor(ctx, t, "three refreshes", func() bool { return count(ctx, t, env, "ticks") >= 3 })
	want(t, text(ctx, t, env, "SELECT exception FROM system.view_refreshes WHERE database = {db:String}",
		clickhouse.Named("db", env.Database)), "")
}

func testDictionary(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env,
		"CREATE TABLE songs (id String, title String, at DateTime64(3) DEFAULT now64(3)) ENGINE = MergeTree ORDER BY id",
		"INSERT INTO songs (id, title) VALUES ('s1', 'one')",
		"CREATE DICTIONARY titles (id String, title String) PRIMARY KEY id SOURCE(CLICKHOUSE(DB '"+env.Database+
			"' TABLE 'songs' INVALIDATE_QUERY 'SELECT max(at) FROM "+env.Database+".songs')) LIFETIME(MIN 1 MAX 1) LAYOUT(COMPLEX_KEY_HASHED())")
	title := func(id string) string {
		return text(ctx, t, env, "SELECT dictGet('"+env.Database+".titles', 'title', {id:String})", clickhouse.Named("id", id))
	}
	want(t, title("s1"), "one")
	execute(ctx, t, env, "INSERT INTO songs (id, title) VALUES ('s2', 'two')")
	embeddedtest.WaitFor(ctx, t, "the dictionary to be reloaded", func() bool { return title("s2") == "two" })
}

func testKafka(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env,
		"CREATE TABLE raw (message String, part UInt64, off UInt64) ENGINE = MergeTree ORDER BY off",
		"CREATE TABLE good (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE TABLE bad (error String, raw String) ENGINE = MergeTree ORDER BY error",
		queue(env, "blobs", "message String", "RawBLOB"),
		"CREATE MATERIALIZED VIEW blob_reader TO raw AS SELECT message, _partition AS part, _offset AS off FROM blobs",
		queue(env, "jsons", "n UInt64", "JSONEachRow"),
		`CREATE MATERIALIZED VIEW json_reader TO good AS SELECT n FROM jsons WHERE length(_error) = 0`,
		`CREATE MATERIALIZED VIEW error_reader TO bad AS
		 SELECT _error AS error, _raw_message AS raw FROM jsons WHERE length(_error) > 0`)
	client, err := kgo.NewClient(kgo.SeedBrokers(env.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, message := range []string{`{"n":1}`, `{"n":"broken`, `{"n":2}`} {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: env.Topic, Value: []byte(message)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	embeddedtest.WaitFor(ctx, t, "the messages to be read", func() bool {
		return count(ctx, t, env, "raw") == 3 && count(ctx, t, env, "good") == 2 &&
			count(ctx, t, env, "bad") == 1
	})
	want(t, text(ctx, t, env, "SELECT raw FROM bad"), `{"n":"broken`)
}

func queue(env *embeddedtest.Env, name, columns, format string) string {
	return "CREATE TABLE " + name + " (" + columns + ") ENGINE = Kafka SETTINGS kafka_broker_list = '" + env.Brokers[0] +
		"', kafka_topic_list = '" + env.Topic + "', kafka_group_name = '" + env.Topic + "-" + name + "', kafka_format = '" + format +
		"', kafka_handle_error_mode = 'stream', kafka_flush_interval_ms = 250, kafka_poll_timeout_ms = 50"
}

func testParameterisedView(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env, "CREATE VIEW above AS SELECT number FROM numbers(10) WHERE number > {least:UInt64}")
	want(t, text(ctx, t, env, "SELECT toString(number) FROM above(least = 7)"), "8 9")
	want(t, text(ctx, t, env, "SELECT toString(number) FROM above(least = {least:UInt64})",
		clickhouse.Named("least", 6)), "7 8 9")
}

func testNullEngineChain(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env,
		"CREATE TABLE landing (n UInt64) ENGINE = Null",
		"CREATE TABLE odd (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE MATERIALIZED VIEW odd_view TO odd AS SELECT n FROM landing WHERE n % 2 = 1",
		"INSERT INTO landing SELECT number FROM numbers(10)")
	want(t, text(ctx, t, env, "SELECT toString(n) FROM odd"), "1 3 5 7 9")
}

func testDatabase(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	name := env.Database + "_other"
	execute(ctx, t, env,
		"CREATE DATABASE "+name,
		"CREATE TABLE "+name+".t (n UInt64) ENGINE = MergeTree ORDER BY n",
		"INSERT INTO "+name+".t VALUES (1)")
	want(t, text(ctx, t, env, "SELECT toString(n) FROM "+name+".t"), "1")
	execute(ctx, t, env, "DROP DATABASE "+name+" SYNC")
}

func testMerges(ctx context.Context, t *testing.T, env *embeddedtest.Env) {
	execute(ctx, t, env, "CREATE TABLE m (n UInt64) ENGINE = MergeTree ORDER BY n")
	for range 20 {
		execute(ctx, t, env, "INSERT INTO m SELECT number FROM numbers(10)")
	}
	embeddedtest.WaitFor(ctx, t, "parts to be merged", func() bool {
		return text(ctx, t, env, `SELECT if(count() < 10, 'merged', 'parts') FROM system.parts
			WHERE active AND database = currentDatabase() AND table = 'm'`) == "merged"
	})
}
