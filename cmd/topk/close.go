package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/jobs"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/queries"
)

const (
	// closeTimeout bounds one scheduled run of close, and closeDates how many
	// dates it takes: a long history is closed by several runs.
	closeTimeout = 30 * time.Minute
	closeDates   = 50
)

// closeFlags are how close runs.
type closeFlags struct {
	Schedule string        `help:"When to look for charts to close: cron fields, or @every DURATION." default:"@every 1m" env:"TOPK_CLOSE_SCHEDULE"`
	Lateness time.Duration `help:"How long after its end a day or week is closed." default:"10m" env:"TOPK_CLOSE_LATENESS"`
	Jitter   time.Duration `help:"How long at most a run waits after it is due." default:"5s" env:"TOPK_CLOSE_JITTER"`
	Horizon  time.Duration `help:"How long after its end it is closed again when plays or corrections change it." default:"192h" env:"TOPK_CLOSE_HORIZON"`
}

func (f closeFlags) check() error {
	_, err := jobs.ParseSpec(f.Schedule)
	if f.Jitter < 0 {
		err = errors.Join(err, errors.New("--jitter must not be negative"))
	}
	if f.Lateness < 0 || f.Horizon < f.Lateness {
		err = errors.Join(err, errors.New("--lateness must not be negative, and --horizon not less than it"))
	}
	return err
}

// closer connects to ClickHouse, until it is closed.
func (f closeFlags) closer(ch clickhouseFlags, calendar calendarFlags, registry *prometheus.Registry, log *slog.Logger,
	maxDates int, progress func(string, int64, int64)) (*loader.Closer, func() error, error) {
	db, err := queries.Open(ch.ClickhouseURL, calendar.calendar())
	if err != nil {
		return nil, nil, err
	}
	closer, err := loader.OpenCloser(loader.CloserConfig{
		ClickHouseURL: ch.ClickhouseURL, DB: db, Calendar: calendar.calendar(), Lateness: f.Lateness, Horizon: f.Horizon,
		MaxDates: maxDates, Clock: time.Now, Log: log, Registry: registry, Progress: progress,
	})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return closer, func() error { return errors.Join(closer.Close(), db.Close()) }, nil
}

// job is the scheduled one.
func (f closeFlags) job(ch clickhouseFlags, calendar calendarFlags, registry *prometheus.Registry, log *slog.Logger) (jobs.Job, func() error, error) {
	closer, stop, err := f.closer(ch, calendar, registry, log, closeDates, nil)
	if err != nil {
		return jobs.Job{}, nil, err
	}
	run := func(ctx context.Context, report *jobs.Report) error {
		closed, err := closer.Run(ctx)
		sayClosed(report, closed)
		return err
	}
	return jobs.Job{Name: "close", Spec: f.Schedule, Timeout: closeTimeout, Run: run, Jitter: f.Jitter, CatchUp: true}, stop, nil
}

func sayClosed(report *jobs.Report, closed loader.Closed) {
	if closed.Dates > 0 {
		report.AddRows(closed.Charts + closed.Revisions)
		report.Say("%d dates counted: %d charts closed, %d revised", closed.Dates, closed.Charts, closed.Revisions)
	}
}

// closeCommand runs that job alone, or closes what is asked for.
type closeCommand struct {
	Once   bool      `help:"Close now what is due, and end. With --from and --to: close these, whether they seem to have changed or not."`
	From   time.Time `help:"First day, with --once." format:"2006-01-02"`
	To     time.Time `help:"Last day, with --once; the last one that is over when absent." format:"2006-01-02"`
	Period string    `help:"With --from: only charts of days, or only those of weeks." enum:"day,week,both" default:"both"`
	Listen string    `help:"Address of /metrics and /healthz, unless --once." default:"127.0.0.1:8082" env:"TOPK_LOAD_LISTEN"`
	zoneFlags
	closeFlags
	calendarFlags
	clickhouseFlags
}

func (c *closeCommand) Help() string {
	return `A day or week is closed once it is over and --lateness has passed: the first 200
songs of every region, genre, segment and device are written down with their
movement. When plays or corrections that come in until --horizon change a chart
it gets another revision; earlier ones stay. Days that were never closed, back to
the first one with plays, are closed too. Beyond the horizon a correction of the
catalog changes closed charts only when asked: --once --from 2025-11-01.

It may be killed at any moment: the next run makes it right.`
}

func (c *closeCommand) Validate() error {
	err := errors.Join(c.zoneFlags.check(), c.closeFlags.check(), c.clickhouseFlags.check(), checkAddresses("--listen", []string{c.Listen}))
	if !c.From.IsZero() && !c.Once {
		err = errors.Join(err, errors.New("--from needs --once"))
	}
	if c.From.IsZero() && (!c.To.IsZero() || c.Period != "both") {
		err = errors.Join(err, errors.New("--to and --period need --from"))
	}
	if !c.To.IsZero() && c.To.Before(c.From) {
		err = errors.Join(err, errors.New("--to must not be before --from"))
	}
	return err
}

func (c *closeCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	if c.Once {
		return c.once(ctx, log, terminal)
	}
	return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry, _ *http.ServeMux) (err error) {
		job, stop, err := c.job(c.clickhouseFlags, c.calendarFlags, registry, log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		return c.runJobs(ctx, c.clickhouseFlags, registry, log, job)
	})
}

func (c *closeCommand) once(ctx context.Context, log *slog.Logger, terminal console) error {
	var closed loader.Closed
	err := byHand(ctx, c.clickhouseFlags, log, terminal, "close", func(ctx context.Context, report *jobs.Report) (err error) {
		closer, stop, err := c.closer(c.clickhouseFlags, c.calendarFlags, prometheus.NewRegistry(), log, 0, report.Progress)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
		if c.From.IsZero() {
			closed, err = closer.Once(ctx)
		} else {
			closed, err = closer.CloseBetween(ctx, c.periods(), c.From, c.to())
		}
		sayClosed(report, closed)
		return err
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(terminal.out, "%d dates counted: %d charts closed, %d revised\n", closed.Dates, closed.Charts, closed.Revisions)
	return nil
}

func (c *closeCommand) periods() []topk.Period {
	if c.Period == "both" {
		return topk.Periods()
	}
	return []topk.Period{topk.Period(c.Period)}
}

func (c *closeCommand) to() time.Time {
	if c.To.IsZero() {
		return time.Now()
	}
	return c.To
}
