package embeddedtest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Env is what one test has for itself.
type Env struct {
	// ClickHouse is a connection pool whose current database is Database, and
	// DSN the same for sql.Open("clickhouse", …) and clickhouse.ParseDSN.
	ClickHouse driver.Conn
	DSN        string
	Database   string
	// ClickHouseURL is the server's http://host:port.
	ClickHouseURL string
	// Topic exists, empty, with Partitions partitions.
	Brokers []string
	Topic   string
	// RedisURL names a logical database of its own, empty.
	RedisURL string
}

// Partitions is how many partitions the topic of an Env has.
const Partitions = 4

const (
	stepTimeout    = 30 * time.Second
	redisDatabases = 16
)

var names atomic.Int64

// New makes a fresh environment that is removed when the test ends.
func New(t testing.TB) *Env {
	t.Helper()
	engines := Engines(t)
	n := names.Add(1)
	env := &Env{
		Database:      fmt.Sprintf("test_%d", n),
		ClickHouseURL: engines.ClickHouseURL(),
		Brokers:       engines.KafkaBrokers(),
		Topic:         fmt.Sprintf("test-%d", n),
	}
	env.newDatabase(t)
	env.newTopic(t)
	env.newRedis(t, engines.RedisURL())
	return env
}

// newDatabase creates the database and drops it at the end with all tables,
// waiting for those that read from Kafka or refresh to stop.
func (env *Env) newDatabase(t testing.TB) {
	t.Helper()
	exec := func(sql string) error {
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		defer cancel()
		conn, err := open(env.ClickHouseURL)
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.Exec(ctx, sql)
	}
	if err := exec("CREATE DATABASE " + env.Database); err != nil {
		t.Fatal("embeddedtest: create the database:", err)
	}
	env.DSN = env.ClickHouseURL + "/" + env.Database
	conn, err := open(env.DSN)
	if err != nil {
		t.Fatal("embeddedtest: open ClickHouse:", err)
	}
	env.ClickHouse = conn
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error("embeddedtest: close ClickHouse:", err)
		}
		if err := exec("DROP DATABASE " + env.Database + " SYNC"); err != nil {
			t.Error("embeddedtest: drop the database:", err)
		}
	})
}

func open(dsn string) (driver.Conn, error) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	return clickhouse.Open(options)
}

func (env *Env) newTopic(t testing.TB) {
	t.Helper()
	admin := func(do func(ctx context.Context, c *kadm.Client) error) error {
		ctx, cancel := context.WithTimeout(context.Background(), stepTimeout)
		defer cancel()
		client, err := kgo.NewClient(kgo.SeedBrokers(env.Brokers...))
		if err != nil {
			return err
		}
		defer client.Close()
		return do(ctx, kadm.NewClient(client))
	}
	if err := admin(func(ctx context.Context, c *kadm.Client) error {
		_, err := c.CreateTopic(ctx, Partitions, 1, nil, env.Topic)
		return err
	}); err != nil {
		t.Fatal("embeddedtest: create the topic:", err)
	}
	t.Cleanup(func() {
		if err := admin(func(ctx context.Context, c *kadm.Client) error {
			_, err := c.DeleteTopic(ctx, env.Topic)
			return err
		}); err != nil {
			t.Error("embeddedtest: delete the topic:", err)
		}
	})
}

// redisFree holds the logical databases no test uses.
var redisFree = sync.OnceValue(func() chan int {
	free := make(chan int, redisDatabases)
	for n := range redisDatabases {
		free <- n
	}
	return free
})

// newRedis takes a logical database, waiting for one if all are in use.
func (env *Env) newRedis(t testing.TB, url string) {
	t.Helper()
	var n int
	select {
	case n = <-redisFree():
	case <-time.After(stepTimeout):
		t.Fatalf("embeddedtest: all %d Redis databases are in use: fewer tests in parallel", redisDatabases)
	}
	env.RedisURL = fmt.Sprintf("%s/%d", url, n)
	t.Cleanup(func() {
		if err := flush(strings.TrimPrefix(url, "redis://"), n); err != nil {
			t.Error("embeddedtest: empty the Redis database:", err)
			return // and nobody uses it again
		}
		redisFree() <- n
	})
}

func flush(addr string, database int) error {
	conn, err := net.DialTimeout("tcp", addr, stepTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(stepTimeout))
	if _, err := fmt.Fprintf(conn, "SELECT %d\r\nFLUSHDB\r\n", database); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for range 2 {
		if lines.Scan(); lines.Text() != "+OK" {
			return fmt.Errorf("answer %q: %w", lines.Text(), lines.Err())
		}
	}
	return nil
}
