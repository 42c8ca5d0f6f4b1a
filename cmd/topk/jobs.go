package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/jobs"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
)

// reconcileTimeout bounds one run of reconcile.
const reconcileTimeout = 30 * time.Minute

// scheduleCommand is the role that runs every scheduled job.
type scheduleCommand struct {
	Listen    string          `help:"Address of /metrics and /healthz." default:"127.0.0.1:8082" env:"TOPK_LOAD_LISTEN"`
	Reconcile reconcileFlags  `embed:"" prefix:"reconcile-"`
	Close     closeFlags      `embed:"" prefix:"close-"`
	Archive   archiveSchedule `embed:"" prefix:"archive-"`
	archiveFlags
	calendarFlags
	chainFlags
	redisFlags
}

func (c *scheduleCommand) Validate() error {
	return errors.Join(c.Reconcile.check(), c.Close.check(), c.Archive.check(), c.archiveFlags.check(), c.chainFlags.check(), c.redisFlags.check(),
		checkAddresses("--listen", []string{c.Listen}))
}

func (c *scheduleCommand) Run(ctx context.Context, log *slog.Logger) error {
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry, _ *http.ServeMux) error {
		return c.run(ctx, registry, log)
	})
}

// run runs the scheduled jobs until ctx ends.
func (c *scheduleCommand) run(ctx context.Context, registry *prometheus.Registry, log *slog.Logger) (err error) {
	reconcile, closeReconcile, err := c.Reconcile.job(ctx, c.clickhouseFlags, c.brokerFlags, c.redisFlags, registry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeReconcile()) }()
	closing, closeClosing, err := c.Close.job(c.clickhouseFlags, c.calendarFlags, registry, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeClosing()) }()
	admin, err := kafkaAdmin(c.KafkaBrokers)
	if err != nil {
		return err
	}
	defer admin.Close()
	scheduled := []jobs.Job{reconcile, closing, c.rewire(log), c.revive(admin, registry, log)}
	if c.ArchiveURL != "" {
		a, err := c.archiveFlags.open(ctx, c.clickhouseFlags, registry, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Close()) }()
		scheduled = append(scheduled, c.Archive.job(a, log))
	}
	return runJobs(ctx, registry, log, scheduled...)
}

func runJobs(ctx context.Context, registry *prometheus.Registry, log *slog.Logger, scheduled ...jobs.Job) error {
	runner, err := jobs.New(jobs.Config{Jobs: scheduled, Clock: time.Now, Log: log, Registry: registry})
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}

// rewire is the job that notices when the topic was deleted and made again, and
// has the new one read. It is cheap, and plays wait for it.
func (c *scheduleCommand) rewire(log *slog.Logger) jobs.Job {
	return jobs.Job{Name: "rewire", Spec: "@every 10s", Timeout: migrateTimeout, Run: func(ctx context.Context) error {
		// A new client each time: one that lives on remembers the topic it knew.
		admin, err := kafkaAdmin(c.KafkaBrokers)
		if err != nil {
			return err
		}
		defer admin.Close()
		id, err := topicID(ctx, admin, c.Topic)
		if err != nil {
			return err
		}
		rewired, err := migrations.Rewire(ctx, c.ClickhouseURL, c.wiring(id))
		if rewired {
			log.WarnContext(ctx, "the topic was made anew; it is read from its start", "topic", c.Topic)
		}
		return err
	}}
}

// revive is the job that notices when ClickHouse has stopped reading for good.
func (c *scheduleCommand) revive(admin *kadm.Client, registry *prometheus.Registry, log *slog.Logger) jobs.Job {
	reviver := loader.NewReviver(c.ClickhouseURL, admin, time.Now, log, registry)
	return jobs.Job{Name: "revive", Spec: "@every 5s", Timeout: migrateTimeout, Run: reviver.Run}
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
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry, _ *http.ServeMux) (err error) {
		job, closeJob, err := c.job(ctx, c.clickhouseFlags, c.brokerFlags, c.redisFlags, registry, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeJob()) }()
		return runJobs(ctx, registry, log, job)
	})
}

// serveMetrics answers /metrics and /healthz at the address while a role runs,
// and what else the role adds.
func serveMetrics(ctx context.Context, address string, log *slog.Logger, role func(context.Context, *prometheus.Registry, *http.ServeMux) error) error {
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
	group.Go(func() error { return role(ctx, registry, mux) })
	return group.Wait()
}
