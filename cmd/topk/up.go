package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk/internal/embedded"
	"github.com/topk-charts/topk/migrations"
)

type upCommand struct {
	Data             string          `help:"Directory of all data; created when missing." type:"path" required:"" env:"TOPK_DATA"`
	Listen           string          `help:"Address of the API and the page." default:"127.0.0.1:8080" env:"TOPK_LISTEN"`
	ClickhouseListen string          `help:"Address of ClickHouse's HTTP interface." default:"127.0.0.1:8123" env:"TOPK_CLICKHOUSE_LISTEN"`
	KafkaListen      string          `help:"Address of Kafka." default:"127.0.0.1:9092" env:"TOPK_KAFKA_LISTEN"`
	RedisListen      string          `help:"Address of Redis." default:"127.0.0.1:6379" env:"TOPK_REDIS_LISTEN"`
	S3Listen         string          `name:"s3-listen" help:"Address of S3, which has the archive unless --archive-url names another." default:"127.0.0.1:9000" env:"TOPK_S3_LISTEN"`
	Reconcile        reconcileFlags  `embed:"" prefix:"reconcile-"`
	Close            closeFlags      `embed:"" prefix:"close-"`
	Archive          archiveSchedule `embed:"" prefix:"archive-"`
	archiveFlags
	zoneFlags
	refreshFlags
	serveFlags
}

func (c *upCommand) Validate() error {
	return errors.Join(c.topicFlags.check(), c.ruleFlags.check(), c.refreshFlags.check(), c.zoneFlags.check(), c.Reconcile.check(), c.Close.check(), c.Archive.check(), c.archiveFlags.check(),
		checkAddresses("--listen", []string{c.Listen}),
		checkAddresses("--clickhouse-listen", []string{c.ClickhouseListen}),
		checkAddresses("--kafka-listen", []string{c.KafkaListen}),
		checkAddresses("--redis-listen", []string{c.RedisListen}),
		checkAddresses("--s3-listen", []string{c.S3Listen}))
}

// Run starts the engines, then the very roles that run against real servers.
// When one of them fails, all stop.
func (c *upCommand) Run(ctx context.Context, log *slog.Logger, terminal console) (err error) {
	listener, err := listen(c.Listen)
	if err != nil {
		return err
	}
	defer listener.Close() // twice is harmless: serve closes it too

	starting, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	engines, err := embedded.Start(starting, embedded.Config{
		DataDir:        c.Data,
		ClickHouseAddr: c.ClickhouseListen,
		KafkaAddr:      c.KafkaListen,
		RedisAddr:      c.RedisListen,
		S3Addr:         c.S3Listen,
		Log:            log,
	})
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, engines.Close(closing))
	}()
	if err := c.ensurePepper(); err != nil {
		return err
	}
	clickhouse := clickhouseFlags{ClickhouseURL: engines.ClickHouseURL() + "/topk"}
	redis := redisFlags{RedisURL: engines.RedisURL()}
	brokers := brokerFlags{KafkaBrokers: engines.KafkaBrokers()}
	chain := chainFlags{topicFlags: c.topicFlags, ruleFlags: c.ruleFlags, clickhouseFlags: clickhouse, brokerFlags: brokers}
	topicID, err := createTopic(starting, brokers.KafkaBrokers, c.topicFlags)
	if err != nil {
		return err
	}
	if err := migrations.Up(starting, clickhouse.ClickhouseURL, chain.wiring(topicID)); err != nil {
		return err
	}

	serve := serveCommand{serveFlags: c.serveFlags, clickhouseFlags: clickhouse, brokerFlags: brokers, redisFlags: redis}
	refresh := refreshCommand{refreshFlags: c.refreshFlags, calendarFlags: c.calendarFlags, clickhouseFlags: clickhouse, redisFlags: redis}
	s3, keys := engines.S3()
	if c.ArchiveURL == "" {
		c.archiveFlags = archiveFlags{ArchiveURL: s3 + "/topk-archive", ArchiveRegion: "us-east-1", ArchiveKeyID: keys.ID, ArchiveKeySecret: keys.Secret}
	}
	schedule := scheduleCommand{Reconcile: c.Reconcile, Close: c.Close, Archive: c.Archive, archiveFlags: c.archiveFlags, zoneFlags: c.zoneFlags, calendarFlags: c.calendarFlags, chainFlags: chain, redisFlags: redis}
	registry := newRegistry()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return refresh.refresh(ctx, registry, http.NewServeMux(), log) })
	group.Go(func() error { return schedule.run(ctx, registry, log) })
	group.Go(func() error {
		return serve.serve(ctx, listener, registry, log, func() {
			fmt.Fprintf(terminal.out, "topk is ready: http://%s\n  ClickHouse %s  Kafka %v  Redis %s  S3 %s  data in %s\n",
				listener.Addr(), clickhouse.ClickhouseURL, brokers.KafkaBrokers, redis.RedisURL, s3, c.Data)
		})
	})
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-engines.Failed():
			return err
		}
	})
	return group.Wait()
}

// ensurePepper takes the secret from the data directory, where it is made at
// the first start, unless one is given.
func (c *upCommand) ensurePepper() error {
	if c.UserPepper != "" || c.UserPepperFile != "" {
		return nil
	}
	c.UserPepperFile = filepath.Join(c.Data, "pepper")
	if _, err := os.Stat(c.UserPepperFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// Renamed into place: a kill in between leaves no half a secret.
	fresh := c.UserPepperFile + ".new"
	if err := os.WriteFile(fresh, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep a new pepper: %w", err)
	}
	if err := os.Rename(fresh, c.UserPepperFile); err != nil {
		return fmt.Errorf("keep a new pepper: %w", err)
	}
	return nil
}
