package embedded_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/topk-charts/topk/internal/embedded"
	"github.com/topk-charts/topk/internal/embedded/chdb"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/internal/embedded/redis"
)

// config takes free ports.
func config(t *testing.T, change func(*embedded.Config)) embedded.Config {
	cfg := embedded.Config{
		DataDir: t.TempDir(), ClickHouseAddr: "127.0.0.1:0", KafkaAddr: "127.0.0.1:0", RedisAddr: "127.0.0.1:0",
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

// TestStartRefused wants one sentence that says what to do, for each reason.
func TestStartRefused(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	inUse := startChild(t, t.TempDir(), addresses{})
	tests := []struct {
		name   string
		change func(*testing.T, *embedded.Config)
		want   []string
	}{
		{
			"no library", func(t *testing.T, cfg *embedded.Config) { t.Setenv("TOPK_CACHE", t.TempDir()) },
			[]string{"the ClickHouse library is missing", "run scripts/engines.sh", "TOPK_CLICKHOUSE_URL"},
		},
		{
			"no redis-server", func(t *testing.T, cfg *embedded.Config) { t.Setenv("PATH", t.TempDir()) },
			[]string{"redis-server is not installed", "run scripts/engines.sh", "TOPK_REDIS_URL"},
		},
		{
			"data directory in use", func(t *testing.T, cfg *embedded.Config) { cfg.DataDir = inUse.dir },
			[]string{"the data directory", "is in use by another process", "--data"},
		},
		{
			"ClickHouse port in use", func(t *testing.T, cfg *embedded.Config) { cfg.ClickHouseAddr = addr },
			[]string{"ClickHouse cannot listen on " + addr, "--clickhouse-listen"},
		},
		{
			"Kafka port in use", func(t *testing.T, cfg *embedded.Config) { cfg.KafkaAddr = addr },
			[]string{"Kafka cannot listen on " + addr, "--kafka-listen"},
		},
		{
			"Redis port in use", func(t *testing.T, cfg *embedded.Config) { cfg.RedisAddr = addr },
			[]string{"Redis cannot listen on " + addr, "--redis-listen"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(t, func(cfg *embedded.Config) { tt.change(t, cfg) })
			engines, err := embedded.Start(t.Context(), cfg)
			if err == nil {
				_ = engines.Close(t.Context())
				t.Fatal("started")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q is more than a sentence", err)
			}
		})
	}
	inUse.close()
}

func TestMissingRedisIsTold(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := redis.Start(t.Context(), redis.Config{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if !errors.Is(err, redis.ErrMissing) {
		t.Errorf("error is %v", err)
	}
}

// TestStartAgain finds everything again in another process.
func TestStartAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	at := addresses{}
	for round := range 3 {
		c := startChild(t, dir, at)
		at = c.addresses // the same ones each time
		conn := connect(t, c.ClickHouse)
		if err := conn.Exec(ctx, "CREATE TABLE IF NOT EXISTS rounds (n UInt8) ENGINE = MergeTree ORDER BY n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.Exec(ctx, "INSERT INTO rounds VALUES (1)"); err != nil {
			t.Fatal(err)
		}
		if n := count(ctx, t, conn, "rounds"); n != uint64(round)+1 {
			t.Errorf("%d rows in round %d", n, round)
		}
		_ = conn.Close()
		client := kafkaClient(t, c.Kafka)
		topics, err := kadm.NewClient(client).ListTopics(ctx, "kept")
		if err != nil || topics.Has("kept") != (round > 0) {
			t.Errorf("topics in round %d are %v: %v", round, topics.Names(), err)
		}
		if round == 0 {
			if _, err := kadm.NewClient(client).CreateTopic(ctx, 1, 1, nil, "kept"); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		c.close()
	}
}

// TestLifetime goes through the one life that engines have in a process: they
// refuse others, tell of a Redis that ends, and close though a statement runs.
func TestLifetime(t *testing.T) {
	if inProcessOfItsOwn(t) {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	engines, err := embedded.Start(ctx, config(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = engines.Close(ctx) }()
	if _, err := embedded.Start(ctx, config(t, nil)); !errors.Is(err, embedded.ErrStarted) {
		t.Errorf("a second start gives %v", err)
	}

	conn, err := net.Dial("tcp", hostOf(engines.RedisURL()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("SHUTDOWN NOSAVE\r\n")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-engines.Failed():
		if !strings.Contains(err.Error(), "redis-server ended by itself") {
			t.Errorf("error is %v", err)
		}
	case <-ctx.Done():
		t.Fatal("nothing is heard of the end of Redis")
	}

	queries := connect(t, engines.ClickHouseURL())
	ended := make(chan error, 1)
	go func() { ended <- queries.Exec(ctx, "SELECT count() FROM system.numbers") }()
	embeddedtest.WaitFor(ctx, t, "the statement to run", func() bool {
		var n uint64
		err := queries.QueryRow(ctx, "SELECT count() FROM system.processes WHERE query LIKE '%system.numbers'").Scan(&n)
		return err == nil && n == 1
	})
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	begin := time.Now()
	if err := engines.Close(short); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("close took %v", took)
	}
	if err := <-ended; err == nil {
		t.Error("the statement ended without error")
	}
	if err := engines.Close(ctx); err != nil {
		t.Error("a second close must do nothing:", err)
	}
	if _, err := embedded.Start(ctx, config(t, nil)); !errors.Is(err, embedded.ErrStarted) {
		t.Errorf("a start after the close gives %v", err)
	}
}

func TestLibraryByPath(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "libchdb.so")
	if _, err := chdb.Locate(missing); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("error is %v", err)
	}
	t.Setenv("TOPK_CHDB_LIB", missing)
	if _, err := chdb.Locate(""); err == nil || !strings.Contains(err.Error(), missing) {
		t.Errorf("error is %v", err)
	}
}
