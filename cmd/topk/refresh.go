package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher"
	"github.com/topk-charts/topk/snapshot"
)

// refreshTimeout bounds one statement and its publication.
const refreshTimeout = time.Minute

type refreshCommand struct {
	Listen string `help:"Address of /metrics and /healthz." default:"127.0.0.1:8081" env:"TOPK_REFRESH_LISTEN"`
	calendarFlags
	clickhouseFlags
	redisFlags
}

func (c *refreshCommand) Validate() error {
	return errors.Join(c.clickhouseFlags.check(), c.redisFlags.check(), checkAddresses("--listen", []string{c.Listen}))
}

func (c *refreshCommand) Run(ctx context.Context, log *slog.Logger) error {
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry) error {
		return c.refresh(ctx, registry, log)
	})
}

// refresh keeps the snapshots fresh until ctx ends.
func (c *refreshCommand) refresh(ctx context.Context, registry *prometheus.Registry, log *slog.Logger) (err error) {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db, err := queries.Open(c.ClickhouseURL, c.calendar())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := snapshot.Open(starting, c.RedisURL, snapshot.Options{Clock: time.Now})
	if err != nil {
		return err
	}
	defer store.Close()
	publisher := store.NewPublisher(snapshot.PublisherOptions{})
	return refresher.New(refresher.Config{
		DB: db, Snapshots: publisher, Cadences: refresher.Cadences(),
		Clock: time.Now, Log: log, Registry: registry, Timeout: refreshTimeout,
	}).Run(ctx)
}
