// Package embedded runs the engines of a deployment inside one process, for
// `topk up` and for tests: ClickHouse as a library behind its HTTP interface,
// a Kafka broker, and redis-server and an S3 server as child processes.
//
// The rest of the program reaches them as it reaches real servers, by URL.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/topk-charts/topk/internal/embedded/chdb"
	"github.com/topk-charts/topk/internal/embedded/clickhouse"
	"github.com/topk-charts/topk/internal/embedded/kafka"
	"github.com/topk-charts/topk/internal/embedded/redis"
	"github.com/topk-charts/topk/internal/embedded/s3"
)

// Engines are the running engines.
type Engines struct {
	lock       *flock.Flock
	kafka      *kafka.Broker
	clickhouse *clickhouse.Server
	redis      *redis.Server
	s3         *s3.Server // nil when none was asked for

	failed   chan error
	closing  chan struct{}
	watchers sync.WaitGroup
	once     sync.Once
}

// running is held while engines run in this process, and started tells, under
// it, that ClickHouse has run before.
var (
	running sync.Mutex
	started bool
)

// ErrStarted is returned by a second Start in one process. Between two starts
// the ClickHouse library keeps what it needs to read from Kafka shut down: its
// Kafka tables could be neither loaded nor created.
var ErrStarted = errors.New("the embedded engines start once per process, " +
	"because the ClickHouse library does: start another process")

// Start starts the engines; when it returns they answer. A process can do so
// once; after a Start that failed it can try again.
func Start(ctx context.Context, cfg Config) (_ *Engines, err error) {
	if !running.TryLock() {
		return nil, ErrStarted
	}
	if started {
		running.Unlock()
		return nil, ErrStarted
	}
	e := &Engines{failed: make(chan error, 1), closing: make(chan struct{})}
	defer func() {
		if err != nil {
			_ = e.Close(context.WithoutCancel(ctx))
		}
	}()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	path, err := chdb.Locate(cfg.LibPath)
	if err != nil {
		return nil, err
	}
	// Absolute: the library resolves paths by rules of its own.
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("find the data directory: %w", err)
	}
	if e.lock, err = lockDir(dir); err != nil {
		return nil, err
	}
	// Kafka first: ClickHouse reads from it as soon as it runs.
	if err := e.startKafka(cfg, dir); err != nil {
		return nil, err
	}
	if err := e.startRedis(ctx, cfg, dir); err != nil {
		return nil, err
	}
	if err := e.startS3(ctx, cfg, dir); err != nil {
		return nil, err
	}
	if err := e.startClickHouse(ctx, cfg, dir, path); err != nil {
		return nil, err
	}
	e.watch(e.redis.Failed())
	e.watch(e.clickhouse.Failed())
	if e.s3 != nil {
		e.watch(e.s3.Failed())
	}
	return e, nil
}

func (e *Engines) startKafka(cfg Config, dir string) error {
	ln, err := listen("Kafka", cfg.KafkaAddr, "--kafka-listen")
	if err != nil {
		return err
	}
	e.kafka, err = kafka.Start(kafka.Config{
		Dir: filepath.Join(dir, "kafka"), Listener: ln, Log: cfg.Log.With("engine", "kafka"),
	})
	return err
}

func (e *Engines) startRedis(ctx context.Context, cfg Config, dir string) (err error) {
	if err := awaitFree(ctx, cfg.RedisAddr); err != nil {
		return listenError("Redis", cfg.RedisAddr, "--redis-listen", err)
	}
	e.redis, err = redis.Start(ctx, redis.Config{
		Dir: filepath.Join(dir, "redis"), Addr: cfg.RedisAddr, Log: cfg.Log.With("engine", "redis"),
	})
	return err
}

func (e *Engines) startS3(ctx context.Context, cfg Config, dir string) (err error) {
	if cfg.S3Addr == "" {
		return nil
	}
	if err := awaitFree(ctx, cfg.S3Addr); err != nil {
		return listenError("S3", cfg.S3Addr, "--s3-listen", err)
	}
	e.s3, err = s3.Start(ctx, s3.Config{
		Dir: filepath.Join(dir, "s3"), Addr: cfg.S3Addr, Log: cfg.Log.With("engine", "s3"),
	})
	return err
}

func (e *Engines) startClickHouse(ctx context.Context, cfg Config, dir, path string) error {
	ln, err := listen("ClickHouse", cfg.ClickHouseAddr, "--clickhouse-listen")
	if err != nil {
		return err
	}
	lib, err := chdb.Load(path)
	if err != nil {
		_ = ln.Close()
		return err
	}
	e.clickhouse, err = clickhouse.Start(clickhouse.Config{
		Library: lib, Dir: filepath.Join(dir, "clickhouse"), Listener: ln, Log: cfg.Log.With("engine", "clickhouse"),
	})
	if err != nil {
		_ = ln.Close()
		return err
	}
	started = true
	return nil
}

// watch passes the first failure of an engine on.
func (e *Engines) watch(failed <-chan error) {
	e.watchers.Go(func() {
		select {
		case err := <-failed:
			select {
			case e.failed <- err:
			default:
			}
		case <-e.closing:
		}
	})
}

// ClickHouseURL is http://host:port.
func (e *Engines) ClickHouseURL() string { return e.clickhouse.URL() }

// KafkaBrokers are the seed brokers, host:port.
func (e *Engines) KafkaBrokers() []string { return e.kafka.Addrs() }

// RedisURL is redis://host:port.
func (e *Engines) RedisURL() string { return e.redis.URL() }

// S3 is http://host:port, and what requests are signed with.
func (e *Engines) S3() (url string, keys s3.Keys) { return e.s3.URL(), e.s3.Keys() }

// Failed delivers an error when an engine ended by itself; the others still
// run and are to be closed.
func (e *Engines) Failed() <-chan error { return e.failed }

// Close stops the engines: ClickHouse first, which reads from Kafka, and
// waits for what runs until ctx ends.
func (e *Engines) Close(ctx context.Context) (err error) {
	e.once.Do(func() {
		close(e.closing)
		e.watchers.Wait()
		if e.clickhouse != nil {
			err = errors.Join(err, e.clickhouse.Close(ctx))
		}
		if e.s3 != nil {
			err = errors.Join(err, e.s3.Close(ctx))
		}
		if e.redis != nil {
			err = errors.Join(err, e.closeRedis(ctx))
		}
		if e.kafka != nil {
			e.kafka.Close()
		}
		if e.lock != nil {
			err = errors.Join(err, e.lock.Close())
		}
		running.Unlock()
	})
	return err
}

// redisGrace is what Redis gets to write its data when ClickHouse has used up
// the time there was.
const redisGrace = 3 * time.Second

func (e *Engines) closeRedis(ctx context.Context) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), redisGrace)
		defer cancel()
	}
	return e.redis.Close(ctx)
}
