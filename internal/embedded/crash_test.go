package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

// TestKilledAndStartedAgain kills the process while it holds data everywhere:
// nothing acknowledged is lost, no child stays behind, and the tables that
// work in the background go on without being asked.
func TestKilledAndStartedAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	first := startChild(t, dir, addresses{})
	conn := connect(t, first.ClickHouse)
	client := kafkaClient(t, first.Kafka)
	if _, err := kadm.NewClient(client).CreateTopic(ctx, 2, 1, nil, "plays"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"CREATE TABLE inserted (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE TABLE plays (n UInt64) ENGINE = MergeTree ORDER BY n",
		"CREATE TABLE ticks (at DateTime64(3)) ENGINE = MergeTree ORDER BY at",
		"CREATE TABLE queue (message String) ENGINE = Kafka SETTINGS kafka_broker_list = '" + first.Kafka[0] + "'," +
			" kafka_topic_list = 'plays', kafka_group_name = 'plays', kafka_format = 'RawBLOB'," +
			" kafka_flush_interval_ms = 250, kafka_poll_timeout_ms = 50",
		"CREATE MATERIALIZED VIEW reader TO plays AS SELECT toUInt64(message) AS n FROM queue",
		"CREATE MATERIALIZED VIEW ticker REFRESH EVERY 1 SECOND APPEND TO ticks AS SELECT now64(3) AS at",
		"INSERT INTO inserted SELECT number FROM numbers(1000)",
	} {
		if err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	produce(ctx, t, client, 0, 500)
	embeddedtest.WaitFor(ctx, t, "the plays to be read", func() bool { return count(ctx, t, conn, "plays") == 500 })
	redisProcess := processOfRedis(t, first.Redis)

	// Acknowledged, and maybe not read yet.
	produce(ctx, t, client, 500, 700)
	first.kill()
	second := startChild(t, dir, first.addresses)
	if processOfRedis(t, second.Redis) == redisProcess {
		t.Error("redis-server has outlived its process")
	}
	produce(ctx, t, client, 700, 1000)
	// Not a query yet: what is committed was read in the background.
	admin := kadm.NewClient(client)
	start := time.Now()
	embeddedtest.WaitFor(ctx, t, "the rest to be read", func() bool {
		lag, err := admin.Lag(ctx, "plays")
		l := lag["plays"]
		return err == nil && l.Error() == nil && len(l.Lag) > 0 && l.Lag.Total() == 0
	})
	t.Log("read again after", time.Since(start))
	conn = connect(t, second.ClickHouse)
	if n := count(ctx, t, conn, "inserted"); n != 1000 {
		t.Errorf("%d of 1000 inserted rows are there", n)
	}
	embeddedtest.WaitFor(ctx, t, "all plays", func() bool { return count(ctx, t, conn, "plays") >= 1000 })
	var distinct uint64
	if err := conn.QueryRow(ctx, "SELECT uniqExact(n) FROM plays").Scan(&distinct); err != nil {
		t.Fatal(err)
	}
	if distinct != 1000 {
		t.Errorf("%d of 1000 plays are there", distinct)
	}
	t.Log(count(ctx, t, conn, "plays"), "rows of 1000 plays")
	before := count(ctx, t, conn, "ticks")
	embeddedtest.WaitFor(ctx, t, "another refresh", func() bool { return count(ctx, t, conn, "ticks") > before })
	second.close()
}

// processOfRedis asks a Redis for its process id.
func processOfRedis(t *testing.T, url string) string {
	t.Helper()
	conn, err := net.Dial("tcp", hostOf(url))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("INFO server\r\nQUIT\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "process_id:"); ok {
			return id
		}
	}
	t.Fatal("Redis does not tell its process id:", lines.Err())
	return ""
}

func connect(t *testing.T, url string) driver.Conn {
	t.Helper()
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func kafkaClient(t *testing.T, brokers []string) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func produce(ctx context.Context, t *testing.T, client *kgo.Client, from, to int) {
	t.Helper()
	var records []*kgo.Record
	for n := from; n < to; n++ {
		records = append(records, &kgo.Record{Topic: "plays", Value: fmt.Append(nil, n)})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func count(ctx context.Context, t *testing.T, conn driver.Conn, table string) (n uint64) {
	t.Helper()
	if err := conn.QueryRow(ctx, "SELECT count() FROM "+table).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
