package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/jobs"
	"github.com/topk-charts/topk/loader"
)

// reconcileTimeout bounds one run of reconcile.
const reconcileTimeout = 30 * time.Minute

// scheduleCommand is the role that runs every scheduled job.
type scheduleCommand struct {
	Listen    string         `help:"Address of /metrics and /healthz." default:"127.0.0.1:8082" env:"TOPK_LOAD_LISTEN"`
	Reconcile reconcileFlags `embed:"" prefix:"reconcile-"`
	clickhouseFlags
	brokerFlags
	redisFlags
}

func (c *scheduleCommand) Validate() error {
	return errors.Join(c.Reconcile.check(), c.clickhouseFlags.check(), c.brokerFlags.check(), c.redisFlags.check(),
		checkAddresses("--listen", []string{c.Listen}))
}

func (c *scheduleCommand) Run(ctx context.Context, log *slog.Logger) error {
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry) error {
		return c.runJobs(ctx, registry, log)
	})
}

// runJobs runs the scheduled jobs until ctx ends.
func (c *scheduleCommand) runJobs(ctx context.Context, registry *prometheus.Registry, log *slog.Logger) (err error) {
	reconcile, closeJob, err := c.Reconcile.job(ctx, c.clickhouseFlags, c.brokerFlags, c.redisFlags, registry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeJob()) }()
	runner, err := jobs.New(jobs.Config{Jobs: []jobs.Job{reconcile}, Clock: time.Now, Log: log, Registry: registry})
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}

// reconcileFlags are how reconcile runs.
type reconcileFlags struct {
	Schedule string `help:"When to check: cron fields in UTC, or @every DURATION." default:"@every 5m" env:"TOPK_RECONCILE_SCHEDULE"`
	Days     int    `help:"How far back plays are checked." default:"2" env:"TOPK_RECONCILE_DAYS"`
	Charts   int    `help:"How many served charts are counted anew." default:"20" env:"TOPK_RECONCILE_CHARTS"`
	Repair   bool   `help:"Rebuild rollup partitions that differ." default:"true" negatable:"" env:"TOPK_RECONCILE_REPAIR"`
}

func (f reconcileFlags) check() error {
	_, err := jobs.ParseSpec(f.Schedule)
	return errors.Join(err, checkSizes(f.Days, f.Charts))
}

// job connects reconcile to the servers, until it is closed.
func (f reconcileFlags) job(ctx context.Context, ch clickhouseFlags, kafka brokerFlags, redis redisFlags,
	registry *prometheus.Registry, log *slog.Logger) (jobs.Job, func() error, error) {
	checker, closeChecker, err := openChecker(ctx, ch, kafka, redis, log)
	if err != nil {
		return jobs.Job{}, nil, err
	}
	reconciler := loader.NewReconciler(checker, check.Options{Days: f.Days, Charts: f.Charts, Repair: f.Repair}, time.Now, log, registry)
	return jobs.Job{Name: "reconcile", Spec: f.Schedule, Timeout: reconcileTimeout, Run: reconciler.Run}, closeChecker, nil
}

// reconcileCommand runs that job alone.
type reconcileCommand struct {
	Once   bool   `help:"Run now, and end."`
	Listen string `help:"Address of /metrics and /healthz, unless --once." default:"127.0.0.1:8082" env:"TOPK_LOAD_LISTEN"`
	reconcileFlags
	clickhouseFlags
	brokerFlags
	redisFlags
}

func (c *reconcileCommand) Validate() error {
	return errors.Join(c.reconcileFlags.check(), c.clickhouseFlags.check(), c.brokerFlags.check(), c.redisFlags.check(),
		checkAddresses("--listen", []string{c.Listen}))
}

func (c *reconcileCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	if c.Once {
		return (&checkCommand{
			Days: c.Days, Charts: c.Charts, Repair: c.Repair,
			clickhouseFlags: c.clickhouseFlags, brokerFlags: c.brokerFlags, redisFlags: c.redisFlags,
		}).Run(ctx, log, terminal)
	}
	alone := scheduleCommand{
		Listen: c.Listen, Reconcile: c.reconcileFlags,
		clickhouseFlags: c.clickhouseFlags, brokerFlags: c.brokerFlags, redisFlags: c.redisFlags,
	}
	return alone.Run(ctx, log)
}

// serveMetrics answers /metrics and /healthz at the address while a role runs.
func serveMetrics(ctx context.Context, address string, log *slog.Logger, role func(context.Context, *prometheus.Registry) error) error {
	listener, err := listen(address)
	if err != nil {
		return err
	}
	registry := newRegistry()
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serveHTTP(ctx, listener, mux, log, func() {}) })
	group.Go(func() error { return role(ctx, registry) })
	return group.Wait()
}
