package clickhouse_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"
)

var compressions = []driver.CompressionMethod{
	driver.CompressionNone, driver.CompressionLZ4, driver.CompressionLZ4HC, driver.CompressionZSTD,
	driver.CompressionGZIP, driver.CompressionDeflate, driver.CompressionBrotli,
}

// TestClientCompression inserts and reads more than a block in every encoding
// the client offers, and breaks a result in the middle.
func TestClientCompression(t *testing.T) {
	const rows = 20_000
	for _, method := range compressions {
		t.Run(method.String(), func(t *testing.T) {
			ctx := t.Context()
			conn := open(t, func(o *driver.Options) { o.Compression = &driver.Compression{Method: method, Level: 3} })
			if err := conn.Exec(ctx, `CREATE TABLE t (a UInt64, b LowCardinality(String), c Map(String, UInt8),
				d Nullable(DateTime64(3)), e Array(String)) ENGINE = MergeTree ORDER BY a`); err != nil {
				t.Fatal(err)
			}
			batch, err := conn.PrepareBatch(ctx, "INSERT INTO t")
			if err != nil {
				t.Fatal(err)
			}
			for i := range rows {
				if err := batch.Append(uint64(i), fmt.Sprint("x", i%1000), map[string]uint8{"k": uint8(i)},
					time.UnixMilli(int64(i)), []string{"a", fmt.Sprint(i)}); err != nil {
					t.Fatal(err)
				}
			}
			if err := batch.Send(); err != nil {
				t.Fatal(err)
			}
			got, err := conn.Query(ctx, "SELECT * FROM t ORDER BY a")
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			n := 0
			for ; got.Next(); n++ {
				var a uint64
				var b string
				var c map[string]uint8
				var d *time.Time
				var e []string
				if err := got.Scan(&a, &b, &c, &d, &e); err != nil {
					t.Fatal(err)
				}
				if a != uint64(n) || b != fmt.Sprint("x", n%1000) || c["k"] != uint8(n) ||
					!d.Equal(time.UnixMilli(int64(n))) || e[1] != fmt.Sprint(n) {
					t.Fatalf("row %d is %v %v %v %v %v", n, a, b, c, d, e)
				}
			}
			if err := got.Err(); err != nil || n != rows {
				t.Fatalf("%d of %d rows: %v", n, rows, err)
			}

			wantCode(t, 395, drain(ctx, conn, "SELECT number, throwIf(number = 300000) FROM numbers(400000)"))
			wantCode(t, 60, drain(ctx, conn, "SELECT * FROM nosuch"))
			wantCode(t, 62, conn.Exec(ctx, "SELEC 1"))
		})
	}
}

// drain reads a result to its end.
func drain(ctx context.Context, conn driver.Conn, query string) error {
	rows, err := conn.Query(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

func wantCode(t *testing.T, code int32, err error) {
	t.Helper()
	var e *driver.Exception
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error is %v, want code %d", err, code)
	}
}

// TestClientTypes reads every kind of column through the re-encoded blocks, in
// two blocks, and compares with the engine's own text.
func TestClientTypes(t *testing.T) {
	ctx := t.Context()
	conn := open(t, nil)
	zone := time.UTC
	id := uuid.MustParse("61f0c404-5cb3-11e7-907b-a6006ad3dba0")
	tests := []struct {
		expression string
		want       any
	}{
		{"toUInt8(200)", uint8(200)},
		{"toInt64(-5)", int64(-5)},
		{"toInt128('-170141183460469231731687303715884105728')", *bigInt("-170141183460469231731687303715884105728")},
		{"toUInt256('1000000000000000000000000000000')", *bigInt("1000000000000000000000000000000")},
		{"toFloat32(1.5)", float32(1.5)},
		{"toFloat64(1.5)", 1.5},
		{"true", true},
		{"'text'", "text"},
		{"toFixedString('abc', 5)", "abc\x00\x00"},
		{"toLowCardinality('low')", "low"},
		{"toLowCardinality(toNullable('low'))", ptr("low")},
		{"toNullable(toUInt32(3))", ptr(uint32(3))},
		{"CAST(NULL, 'Nullable(UInt32)')", (*uint32)(nil)},
		{"toDecimal64(1.25, 4)", decimal.RequireFromString("1.25")},
		{"toDecimal256('12345678901234567890.5', 2)", decimal.RequireFromString("12345678901234567890.5")},
		{"toUUID('" + id.String() + "')", id},
		{"toDate('2026-03-01')", time.Date(2026, 3, 1, 0, 0, 0, 0, zone)},
		{"toDate32('1926-03-01')", time.Date(1926, 3, 1, 0, 0, 0, 0, zone)},
		{"toDateTime('2026-03-01 10:00:00')", time.Date(2026, 3, 1, 10, 0, 0, 0, zone)},
		{"toDateTime64('2026-03-01 10:00:00.123', 3)", time.Date(2026, 3, 1, 10, 0, 0, 123e6, zone)},
		{"CAST('b', 'Enum8(\\'a\\' = 1, \\'b\\' = 2)')", "b"},
		{"[1, 2, 3]::Array(UInt16)", []uint16{1, 2, 3}},
		{"[['a'], [], ['b', 'c']]::Array(Array(String))", [][]string{{"a"}, {}, {"b", "c"}}},
		{"map('k', 1)::Map(LowCardinality(String), UInt64)", map[string]uint64{"k": 1}},
		{"map('k', [map('x', 'y')])", map[string][]map[string]string{"k": {{"x": "y"}}}},
		{"['a', NULL]::Array(LowCardinality(Nullable(String)))", []*string{ptr("a"), nil}},
		{"CAST(7, 'SimpleAggregateFunction(sum, UInt64)')", uint64(7)},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			// max_block_size makes several blocks of the result, so that their
			// borders are crossed as well.
			rows, err := conn.Query(ctx, "SELECT number, materialize("+tt.expression+
				") AS v, 'after' FROM numbers(5) ORDER BY number SETTINGS max_block_size = 2")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			n := uint64(0)
			for ; rows.Next(); n++ {
				got := reflect.New(reflect.TypeOf(tt.want))
				var number uint64
				var after string
				if err := rows.Scan(&number, got.Interface(), &after); err != nil {
					t.Fatal(err)
				}
				if number != n || after != "after" || !equal(got.Elem().Interface(), tt.want) {
					t.Errorf("row %d is %d %v %q, want %v", n, number, got.Elem().Interface(), after, tt.want)
				}
			}
			if err := rows.Err(); err != nil || n != 5 {
				t.Errorf("%d rows: %v", n, err)
			}
		})
	}
}

func equal(got, want any) bool {
	switch want := want.(type) {
	case time.Time:
		return got.(time.Time).Equal(want)
	case decimal.Decimal:
		return got.(decimal.Decimal).Equal(want)
	case big.Int:
		g := got.(big.Int)
		return g.Cmp(&want) == 0
	}
	return reflect.DeepEqual(got, want)
}

func ptr[T any](v T) *T { return &v }

func bigInt(s string) *big.Int {
	n, _ := new(big.Int).SetString(s, 10)
	return n
}

// TestClientParameters binds values with every character that is special
// somewhere on the way.
func TestClientParameters(t *testing.T) {
	ctx := t.Context()
	conn := open(t, nil)
	for _, value := range []string{"", "plain", "it's", `back\slash`, "tab\tline\nreturn\r", "nul\x00byte", "`quoted`",
		"{x:String}", "ünï©ode ♪", "a&b=c+d%20;--/*", `\N`, "NULL"} {
		var s string
		var n uint64
		if err := conn.QueryRow(ctx, "SELECT {v:String}, length({v:String})", driver.Named("v", value)).Scan(&s, &n); err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		if s != value || n != uint64(len(value)) {
			t.Errorf("%q came as %q", value, s)
		}
	}
	var null *string
	var list []string
	var at time.Time
	var m map[string]uint64
	when := time.Date(2026, 5, 1, 12, 0, 0, 123e6, time.UTC)
	err := conn.QueryRow(ctx, "SELECT {n:Nullable(String)}, {l:Array(String)}, {at:DateTime64(3)}, {m:Map(String, UInt64)}",
		driver.Named("n", nil), driver.Named("l", []string{"a'b", `c\d`}), driver.DateNamed("at", when, driver.MilliSeconds),
		driver.Named("m", map[string]uint64{"k": 2})).Scan(&null, &list, &at, &m)
	if err != nil {
		t.Fatal(err)
	}
	if null != nil || !reflect.DeepEqual(list, []string{"a'b", `c\d`}) || !at.Equal(when) || m["k"] != 2 {
		t.Errorf("got %v %q %v %v", null, list, at, m)
	}
	wantCode(t, 456, conn.QueryRow(ctx, "SELECT {v:String}, {w:String}", driver.Named("v", "x")).Scan(new(string), new(string)))
	wantCode(t, 457, conn.QueryRow(ctx, "SELECT {v:UInt8}", driver.Named("v", "x")).Scan(new(uint8)))
	if err := conn.Exec(ctx, "CREATE TABLE p (a String, b UInt8) ENGINE = Memory"); err != nil {
		t.Fatal(err)
	}
	for _, insert := range []string{
		"INSERT INTO p VALUES ({a:String}, {b:UInt8})",
		"INSERT INTO p SELECT {a:String}, {b:UInt8}",
	} {
		if err := conn.Exec(ctx, insert, driver.Named("a", "x'y"), driver.Named("b", 7)); err != nil {
			t.Errorf("%s: %v", insert, err)
		}
	}
	var n uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM p WHERE a = 'x\\'y' AND b = 7").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows inserted by parameters: %v", n, err)
	}
}

// TestClientSettings passes settings by connection and by query.
func TestClientSettings(t *testing.T) {
	ctx := t.Context()
	conn := open(t, func(o *driver.Options) { o.Settings = driver.Settings{"max_threads": 3, "max_execution_time": 60} })
	setting := func(ctx context.Context, name string) (value string) {
		if err := conn.QueryRow(ctx, "SELECT toString(getSetting('"+name+"'))").Scan(&value); err != nil {
			t.Error(err)
		}
		return value
	}
	if v := setting(ctx, "max_threads"); v != "3" {
		t.Errorf("max_threads is %s", v)
	}
	one := driver.Context(ctx, driver.WithSettings(driver.Settings{"max_threads": 1}))
	if v := setting(one, "max_threads"); v != "1" {
		t.Errorf("max_threads of the query is %s", v)
	}
	if v := setting(ctx, "max_threads"); v != "3" {
		t.Errorf("max_threads is %s after another query", v)
	}
	wantCode(t, 115, drain(driver.Context(ctx, driver.WithSettings(driver.Settings{"no_such": 1})), conn, "SELECT 1"))
	wantCode(t, 164, driverExec(ctx, conn, driver.Settings{"readonly": 1}, "CREATE TABLE x (a UInt8) ENGINE = Memory"))
	wantCode(t, 158, drain(driver.Context(ctx, driver.WithSettings(driver.Settings{"max_rows_to_read": 10})), conn,
		"SELECT count() FROM numbers(100)"))
	// A comment of the client's own is kept.
	comment := driver.Context(ctx, driver.WithSettings(driver.Settings{"log_comment": "mine"}))
	if v := setting(comment, "log_comment"); !strings.HasSuffix(v, " mine") {
		t.Errorf("log_comment is %q", v)
	}
}

func driverExec(ctx context.Context, conn driver.Conn, settings driver.Settings, query string) error {
	return conn.Exec(driver.Context(ctx, driver.WithSettings(settings)), query)
}

// TestClientStandardInterface uses database/sql, as golang-migrate does.
func TestClientStandardInterface(t *testing.T) {
	ctx := t.Context()
	options, err := driver.ParseDSN(server.URL() + "/" + database(t))
	if err != nil {
		t.Fatal(err)
	}
	db := driver.OpenDB(options)
	defer db.Close()
	if err := db.PingContext(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "CREATE TABLE s (a UInt32, b String) ENGINE = MergeTree ORDER BY a"); err != nil {
		t.Fatal(err)
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	insert, err := tx.PrepareContext(ctx, "INSERT INTO s (a, b)")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := insert.ExecContext(ctx, uint32(i), fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO s VALUES (?, ?)", 3, "it's"); err != nil {
		t.Fatal(err)
	}
	var n int
	var last string
	if err := db.QueryRowContext(ctx, "SELECT count(), max(b) FROM s WHERE a < ?", 10).Scan(&n, &last); err != nil {
		t.Fatal(err)
	}
	if n != 4 || last != "it's" {
		t.Errorf("got %d rows, the last %q", n, last)
	}
	if err := db.QueryRowContext(ctx, "SELECT a FROM s WHERE a > 10").Scan(&n); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("an empty result gives %v", err)
	}
}

// TestClientAsyncInsert waits for an insert that the engine batches.
func TestClientAsyncInsert(t *testing.T) {
	ctx := t.Context()
	conn := open(t, nil)
	if err := conn.Exec(ctx, "CREATE TABLE a (n UInt8) ENGINE = MergeTree ORDER BY n"); err != nil {
		t.Fatal(err)
	}
	async := driver.Context(ctx, driver.WithAsync(true))
	if err := conn.Exec(async, "INSERT INTO a VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	var n uint64
	if err := conn.QueryRow(ctx, "SELECT count() FROM a").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows: %v", n, err)
	}
}
