package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/page"
	"github.com/topk-charts/topk/events"
	"github.com/topk-charts/topk/jobs"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/snapshot"
)

// startTimeout bounds how long a role waits for the servers it needs.
const startTimeout = 30 * time.Second

type serveCommand struct {
	Listen string `help:"Address of the API and the page." default:"127.0.0.1:8080" env:"TOPK_LISTEN"`
	rateFlags
	serveFlags
	clickhouseFlags
	brokerFlags
	redisFlags
}

// rateFlags are not among the flags of "up", which serves one machine: all of
// its clients have one address.
type rateFlags struct {
	RateLimit      int            `help:"Query requests a second from one address, after a pause five times as many; 0 for no limit." default:"100" env:"TOPK_RATE_LIMIT"`
	TrustedProxies []netip.Prefix `help:"Networks of the proxies whose X-Forwarded-For is believed, as 10.0.0.0/8,fd00::/8." env:"TOPK_TRUSTED_PROXIES"`
}

func (f rateFlags) check() error {
	if f.RateLimit < 0 || f.RateLimit > 1_000_000 {
		return errors.New("--rate-limit must be 0 to 1000000")
	}
	return nil
}

func (f rateFlags) limits() api.Limits {
	return api.Limits{Rate: f.RateLimit, TrustedProxies: f.TrustedProxies}
}

// serveFlags are those that "up" has too.
type serveFlags struct {
	topicFlags
	ruleFlags
	calendarFlags
	pepperFlags
	MaxScanRows    uint64 `help:"Refuse to compute what reads more rows than this, of the log and of rollups, in one statement; 0 is no limit." default:"500000000" env:"TOPK_MAX_SCAN_ROWS"`
	MaxQueryMemory uint64 `help:"Refuse to compute what needs more MiB of ClickHouse's memory than this in one statement; 0 is no limit." default:"4096" env:"TOPK_MAX_QUERY_MEMORY"`
}

func (f serveFlags) queryLimits() queries.Option {
	return queries.WithLimits(queries.Limits{Rows: f.MaxScanRows, Memory: f.MaxQueryMemory << 20})
}

func (c *serveCommand) Validate() error {
	return errors.Join(c.rateFlags.check(), c.topicFlags.check(), c.ruleFlags.check(), c.clickhouseFlags.check(), c.brokerFlags.check(),
		c.redisFlags.check(), checkAddresses("--listen", []string{c.Listen}))
}

func (c *serveCommand) Run(ctx context.Context, log *slog.Logger) error {
	listener, err := listen(c.Listen)
	if err != nil {
		return err
	}
	return c.serve(ctx, listener, newRegistry(), log, func() {
		log.Info("serving", "url", "http://"+listener.Addr().String())
	})
}

// serve answers on the listener, which it closes, until ctx ends.
func (c *serveCommand) serve(ctx context.Context, listener net.Listener, registry *prometheus.Registry, log *slog.Logger, ready func()) (err error) {
	defer listener.Close()
	pepper, err := c.pepper()
	if err != nil {
		return err
	}
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	db, err := queries.Open(c.ClickhouseURL, c.calendar(), c.queryLimits())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store, err := snapshot.Open(starting, c.RedisURL, snapshot.Options{Clock: time.Now})
	if err != nil {
		return err
	}
	defer store.Close()
	publisher, err := api.NewPublisher(api.PublisherConfig{Brokers: c.KafkaBrokers, Topic: c.Topic, Registerer: registry})
	if err != nil {
		return err
	}
	defer publisher.Close()
	ingest, err := api.NewIngest(api.IngestConfig{
		Publisher: publisher, Rules: c.rules(), Pepper: pepper, Clock: time.Now, Registerer: registry, Log: log,
	})
	if err != nil {
		return err
	}
	finder, err := events.New(events.Config{Queries: db, Brokers: c.KafkaBrokers, Topic: c.Topic, Group: c.group(), Log: log})
	if err != nil {
		return err
	}
	defer finder.Close()
	ledger, err := jobs.OpenLedger(c.ClickhouseURL, db, time.Now)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	server, err := api.New(api.Config{
		Queries: db, Events: finder, Rejects: db, Jobs: ledger, Snapshots: store, Ingest: ingest, Page: page.Handler(),
		Clock: time.Now, Calendar: c.calendar(), Registry: registry, Log: log, Limits: c.rateFlags.limits(),
		Checks: map[string]api.Check{"clickhouse": db.Ping, "kafka": publisher.Ping, "redis": store.Ping},
	})
	if err != nil {
		return err
	}
	defer server.Close() // before what the streams read
	return serveHTTP(ctx, listener, server, log, ready, server.Close)
}

// Bounds of a connection. The handlers bound bodies and answers themselves.
const (
	headerTimeout   = 10 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 15 * time.Second
)

// serveHTTP answers until ctx ends, and lets requests under way finish. It calls
// stopping before it waits for them: for those that would not end by themselves.
func serveHTTP(ctx context.Context, listener net.Listener, handler http.Handler, log *slog.Logger, ready func(), stopping ...func()) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	for _, f := range stopping {
		server.RegisterOnShutdown(f)
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	ready()
	select {
	case err := <-failed:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		return fmt.Errorf("stop HTTP: %w", errors.Join(err, server.Close()))
	}
	return nil
}

func listen(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s (choose another address with --listen): %w", address, err)
	}
	return listener, nil
}

// newRegistry makes a registry with the process's own metrics.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}
