package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/twmb/franz-go/pkg/kadm"
	"golang.org/x/sync/errgroup"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/jobs"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
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
	Backfill backfillSchedule `embed:"" prefix:"backfill-"`
	s3Flags
	pepperFlags
	zoneFlags
	calendarFlags
	chainFlags
	redisFlags
}

func (c *scheduleCommand) Validate() error {
	return errors.Join(c.zoneFlags.check(), c.Reconcile.check(), c.Close.check(), c.Archive.check(), c.archiveFlags.check(), c.Backfill.check(), c.s3Flags.check(),
		c.chainFlags.check(), c.redisFlags.check(),
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
		scheduled = append(scheduled, c.Archive.job(a))
	}
	if len(c.Backfill.From) > 0 {
		scheduled = append(scheduled, c.Backfill.job(c.s3Flags, c.chainFlags, c.pepperFlags, log))
	}
	return c.runJobs(ctx, c.clickhouseFlags, registry, log, scheduled...)
}

// zoneFlags say where schedules are at home.
type zoneFlags struct {
	TimeZone string `help:"Time zone of schedules with cron fields, as Europe/Berlin; one may name its own: TZ=Asia/Kolkata 30 4 * * *." default:"UTC" env:"TOPK_TIME_ZONE"`
}

func (f zoneFlags) check() error {
	if _, err := time.LoadLocation(f.TimeZone); f.TimeZone == "" || err != nil {
		return fmt.Errorf("--time-zone must be the name of a time zone, as Europe/Berlin, not %q", f.TimeZone)
	}
	return nil
}

// runJobs runs the jobs on their schedules until ctx ends.
func (f zoneFlags) runJobs(ctx context.Context, ch clickhouseFlags, registry *prometheus.Registry, log *slog.Logger, scheduled ...jobs.Job) (err error) {
	for i := range scheduled {
		scheduled[i].Spec = jobs.InZone(scheduled[i].Spec, f.TimeZone)
	}
	ledger, closeLedger, err := openLedger(ch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger()) }()
	runner, err := jobs.New(jobs.Config{
		Jobs: scheduled, Ledger: ledger, Clock: time.Now, Log: log, Registry: registry,
		Progress: func(job string) (func(string, int64, int64), func()) { return progressLines(job, log) },
	})
	if err != nil {
		return err
	}
	return runner.Run(ctx)
}

// byHandTimeout bounds what a user runs, who can end it.
const byHandTimeout = 30 * 24 * time.Hour

// byHand runs a job now, after the run of another process that is under way, with
// progress, and writes the run down.
func byHand(ctx context.Context, ch clickhouseFlags, log *slog.Logger, terminal console, name string, run func(context.Context, *jobs.Report) error) (err error) {
	ledger, closeLedger, err := openLedger(ch)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLedger()) }()
	runner, err := jobs.New(jobs.Config{
		Jobs:   []jobs.Job{{Name: name, Timeout: byHandTimeout, Run: run}},
		Ledger: ledger, Clock: time.Now, Log: log, Registry: prometheus.NewRegistry(),
		Progress: func(job string) (func(string, int64, int64), func()) { return showProgress(terminal.err, job, log) },
	})
	if err != nil {
		return err
	}
	return runner.Once(ctx, name)
}

// openLedger opens the ledger of jobs, until it is closed.
func openLedger(ch clickhouseFlags) (*jobs.Ledger, func() error, error) {
	db, err := queries.Open(ch.ClickhouseURL, topk.DefaultCalendar())
	if err != nil {
		return nil, nil, err
	}
	ledger, err := jobs.OpenLedger(ch.ClickhouseURL, db, time.Now)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return ledger, func() error { return errors.Join(ledger.Close(), db.Close()) }, nil
}

// rewire is the job that notices when the topic was deleted and made again, and
// has the new one read. It is cheap, and plays wait for it.
func (c *scheduleCommand) rewire(log *slog.Logger) jobs.Job {
	return jobs.Job{Name: "rewire", Spec: "@every 10s", Timeout: migrateTimeout, Frequent: true, Run: func(ctx context.Context, report *jobs.Report) error {
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
			report.Say("topic %s was made anew, and is read from its start", c.Topic)
			log.WarnContext(ctx, "the topic was made anew; it is read from its start", "topic", c.Topic)
		}
		return err
	}}
}

// revive is the job that notices when ClickHouse has stopped reading for good.
func (c *scheduleCommand) revive(admin *kadm.Client, registry *prometheus.Registry, log *slog.Logger) jobs.Job {
	reviver := loader.NewReviver(c.ClickhouseURL, admin, time.Now, log, registry)
	return jobs.Job{Name: "revive", Spec: "@every 5s", Timeout: migrateTimeout, Frequent: true, Run: func(ctx context.Context, report *jobs.Report) error {
		revived, err := reviver.Run(ctx)
		if revived {
			report.Say("the consumer stood still and has a new Kafka client")
		}
		return err
	}}
}

// reconcileFlags are how reconcile runs.
type reconcileFlags struct {
	Schedule string        `help:"When to check: cron fields, or @every DURATION." default:"@every 5m" env:"TOPK_RECONCILE_SCHEDULE"`
	Jitter   time.Duration `help:"How long at most a run waits after it is due." default:"10s" env:"TOPK_RECONCILE_JITTER"`
	Days     int           `help:"How far back plays are checked." default:"2" env:"TOPK_RECONCILE_DAYS"`
	Charts   int           `help:"How many served charts are counted anew." default:"20" env:"TOPK_RECONCILE_CHARTS"`
	Repair   bool          `help:"Rebuild rollup partitions that differ." default:"true" negatable:"" env:"TOPK_RECONCILE_REPAIR"`
}

func (f reconcileFlags) check() error {
	_, err := jobs.ParseSpec(f.Schedule)
	if f.Jitter < 0 {
		err = errors.Join(err, errors.New("--jitter must not be negative"))
	}
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
	run := func(ctx context.Context, report *jobs.Report) error {
		found, err := reconciler.Run(ctx)
		sayChecked(report, found)
		return err
	}
	return jobs.Job{Name: "reconcile", Spec: f.Schedule, Timeout: reconcileTimeout, Run: run, Jitter: f.Jitter, CatchUp: true}, closeChecker, nil
}

func sayChecked(report *jobs.Report, found check.Report) {
	report.Say("%d charts counted anew, %d differences, %d partitions rebuilt", found.Charts.Compared, len(found.Differences), len(found.Repairs))
	for _, repair := range found.Repairs {
		report.AddRows(repair.Plays)
	}
}

// reconcileCommand runs that job alone.
type reconcileCommand struct {
	Once   bool   `help:"Run now, and end."`
	Listen string `help:"Address of /metrics and /healthz, unless --once." default:"127.0.0.1:8082" env:"TOPK_LOAD_LISTEN"`
	zoneFlags
	reconcileFlags
	clickhouseFlags
	brokerFlags
	redisFlags
}

func (c *reconcileCommand) Validate() error {
	return errors.Join(c.zoneFlags.check(), c.reconcileFlags.check(), c.clickhouseFlags.check(), c.brokerFlags.check(), c.redisFlags.check(),
		checkAddresses("--listen", []string{c.Listen}))
}

func (c *reconcileCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	if c.Once {
		return c.once(ctx, log, terminal)
	}
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry, _ *http.ServeMux) (err error) {
		job, closeJob, err := c.job(ctx, c.clickhouseFlags, c.brokerFlags, c.redisFlags, registry, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeJob()) }()
		return c.runJobs(ctx, c.clickhouseFlags, registry, log, job)
	})
}

// once is topk check, as a run of the job.
func (c *reconcileCommand) once(ctx context.Context, log *slog.Logger, terminal console) error {
	checking := &checkCommand{
		Days: c.Days, Charts: c.Charts, Repair: c.Repair,
		clickhouseFlags: c.clickhouseFlags, brokerFlags: c.brokerFlags, redisFlags: c.redisFlags,
	}
	var found *check.Report
	err := byHand(ctx, c.clickhouseFlags, log, terminal, "reconcile", func(ctx context.Context, report *jobs.Report) (err error) {
		if found, err = checking.check(ctx, log, report.Progress); found != nil {
			sayChecked(report, *found)
			if !found.Exact() {
				err = errors.Join(fmt.Errorf("%w: %d differences", loader.ErrDiffers, len(found.Differences)), err)
			}
		}
		return err
	})
	return checking.tell(ctx, terminal, found, err)
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
