package archive_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestExplore(t *testing.T) {
	start := time.Now()
	b := embeddedtest.NewBucket(t)
	t.Log("s3 up", time.Since(start), b.Endpoint)
	env := embeddedtest.New(t)
	if err := migrations.Up(t.Context(), env.DSN, migrations.Wiring{Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules()}); err != nil {
		t.Fatal(err)
	}
	conn := env.ClickHouse
	exec := func(sql string, args ...any) {
		start := time.Now()
		if err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
		t.Log(time.Since(start), sql)
	}
	exec(`INSERT INTO plays SELECT number % 4, number, now64(3), now64(3) - number, concat('e', toString(number)), reinterpretAsUInt128(sipHash128(number)), concat('s', toString(number%1000)), 'a', 'IN', 'IN/Mumbai', 'mobile', 'playlist', 'p', -1, if(number%3=0,['x','y'],[]), true FROM numbers(1000000)`)
	url := b.Endpoint + "/" + b.Name + "/plays/date=2026-01-01/hour=03/a-1.parquet"
	args := []any{clickhouse.Named("url", url), clickhouse.Named("id", b.Keys.ID), clickhouse.Named("secret", b.Keys.Secret), clickhouse.Named("from", "2020-01-01 00:00:00.000")}
	exec(`INSERT INTO FUNCTION s3({url:String}, {id:String}, {secret:String}, 'Parquet') SELECT * FROM plays WHERE at >= {from:DateTime64(3,'UTC')} ORDER BY src, koff SETTINGS s3_truncate_on_insert = 1, output_format_parquet_compression_method = 'zstd'`, args...)
	var structure string
	if err := conn.QueryRow(t.Context(), `SELECT arrayStringConcat(groupArray(concat(name, ' ', type)), ', ') FROM (SELECT name, type FROM system.columns WHERE database=currentDatabase() AND table='plays' ORDER BY position)`).Scan(&structure); err != nil {
		t.Fatal(err)
	}
	t.Log(structure)
	args = append(args, clickhouse.Named("structure", structure))
	q := func(sql string, args ...any) string {
		var v string
		start := time.Now()
		if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
			t.Errorf("%s: %v", sql, err)
			return ""
		}
		t.Log(time.Since(start), sql, v)
		return v
	}
	q(`SELECT toString((count(), sum(cityHash64(*)), sum(cityHash64(src, koff, at)))) FROM plays`)
	q(`SELECT toString((count(), sum(cityHash64(*)), sum(cityHash64(src, koff, at)))) FROM s3({url:String}, {id:String}, {secret:String}, 'Parquet', {structure:String})`, args...)
	q(`SELECT toString(tuple(*)) FROM s3({url:String}, {id:String}, {secret:String}, 'Parquet', {structure:String}) WHERE koff=33`, args...)
	q(`SELECT toString(tuple(*)) FROM plays WHERE koff=33`)
	done := make(chan bool)
	go func() {
		defer close(done)
		exec(`INSERT INTO FUNCTION s3({url:String}, {id:String}, {secret:String}, 'Parquet') SELECT * FROM plays WHERE at >= {from:DateTime64(3,'UTC')} AND sleepEachRow(0.00001)=0 ORDER BY src, koff SETTINGS s3_truncate_on_insert = 1`, args[:4]...)
	}()
	time.Sleep(300 * time.Millisecond)
	q(`SELECT toString(groupArray(query)) FROM system.processes`)
	<-done
	// missing object
	for _, bad := range []string{"/nothing.parquet"} {
		a := append([]any{}, args...)
		a[0] = clickhouse.Named("url", b.Endpoint+"/"+b.Name+bad)
		var v string
		t.Log(conn.QueryRow(t.Context(), `SELECT toString(count()) FROM s3({url:String}, {id:String}, {secret:String}, 'Parquet', {structure:String})`, a...).Scan(&v))
		a[2] = clickhouse.Named("secret", "wrong")
		t.Log(conn.QueryRow(t.Context(), `SELECT toString(count()) FROM s3({url:String}, {id:String}, {secret:String}, 'Parquet', {structure:String})`, a...).Scan(&v))
	}
	// insert back
	exec(`CREATE TABLE p2 AS plays`)
	exec(`INSERT INTO p2 SELECT * FROM s3({url:String}, {id:String}, {secret:String}, 'Parquet', {structure:String}) WHERE (src, koff) NOT IN (SELECT src, koff FROM p2) SETTINGS max_threads=1, max_insert_threads=1, min_insert_block_size_rows=1000000000, min_insert_block_size_bytes=100000000000`, args...)
	q(`SELECT toString((count(), sum(cityHash64(*)))) FROM p2`)
	q(`SELECT toString(count()) FROM system.parts WHERE table='p2' AND active`)
	q(`SELECT toString(groupArray((name))) FROM system.tables WHERE database='system' AND name LIKE '%log'`)
	fmt.Println()
}
