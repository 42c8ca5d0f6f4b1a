package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/topk-charts/topk/backfill"
	"github.com/topk-charts/topk/internal/tabular"
	"github.com/topk-charts/topk/jobs"
)

type backfillCommand struct {
	Sources []string `arg:"" name:"path-or-url" help:"Files of plays: paths, s3://BUCKET/KEY or http(s)://HOST/BUCKET/KEY, with wildcards if need be."`
	DryRun  bool     `help:"Read and judge the files, and say what would be loaded."`
	JSON    bool     `name:"json" help:"Write the report as JSON."`
	fileFlags
	s3Flags
	chainFlags
	pepperFlags
}

// fileFlags say how files of plays are read.
type fileFlags struct {
	Map         map[string]string `placeholder:"FIELD=COLUMN" help:"Column (or name, in NDJSON) of a field that is named otherwise; may be repeated."`
	Format      string            `help:"Format of all files, when their names do not tell: csv, ndjson or parquet." enum:",csv,ndjson,parquet" default:""`
	HashedUsers bool              `help:"The files have users' hashes, as the gateway makes them, instead of their ids."`
}

// s3Flags are how ClickHouse reads from S3.
type s3Flags struct {
	S3Endpoint     string `name:"s3-endpoint" help:"Server of s3:// URLs, as http(s)://HOST:PORT; AWS unless given." env:"AWS_ENDPOINT_URL"`
	S3Region       string `name:"s3-region" help:"Region of AWS." env:"AWS_REGION"`
	S3Key          string `name:"s3-key" help:"Access key id; without one, objects are read as anybody." env:"AWS_ACCESS_KEY_ID"`
	S3Secret       string `name:"s3-secret" help:"Secret of the access key; better given by the environment." env:"AWS_SECRET_ACCESS_KEY"`
	S3SessionToken string `name:"s3-session-token" help:"Token of a temporary access key." env:"AWS_SESSION_TOKEN"`
}

func (f s3Flags) check() error {
	if f.S3Endpoint == "" {
		return nil
	}
	return checkURL("--s3-endpoint", f.S3Endpoint, "http", "https")
}

func (f s3Flags) s3() tabular.S3 {
	return tabular.S3{Endpoint: f.S3Endpoint, Region: f.S3Region, Key: f.S3Key, Secret: f.S3Secret, Token: f.S3SessionToken}
}

// Help is shown by topk load backfill --help.
func (c *backfillCommand) Help() string {
	return `Loads plays from CSV (with a header), NDJSON or Parquet files, which may be
compressed by gzip or zstd (.gz, .zst). Columns are named as the fields of a
play: eventId, userId, songId, artistId, timestamp, and if there are such
region, deviceType, context, duration; --map tells other names:

  topk load backfill 's3://plays/2025/*.parquet' --map songId=track --map timestamp=played_at

ClickHouse reads the files itself where it sees them: S3, and files of its
machine, for a server in its user_files directory. Other CSV and NDJSON files are
sent to it. Rows are judged by the rules of the gateway except for
their age. What is no play is kept with the rejected messages, which topk load
rejected lists and corrects; user ids are hashed as by the gateway; segments are
those that users have today. A column of times in Parquet is a timestamp too.

Every event counts once: the first row of all files counts, and none that the
log has already, live or by an earlier backfill. Charts follow as for any plays,
and plays stream in meanwhile. Closed charts of those days are made anew by
topk load close.

It may be killed at any moment and run again: once it has begun to write, the
next backfill finishes it first. A file that was loaded is not loaded again; if
it has changed since, its new rows are.`
}

func (c *backfillCommand) Validate() error {
	return errors.Join(c.s3Flags.check(), c.chainFlags.check(), backfill.CheckColumns(c.Map))
}

func (c *backfillCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	var report backfill.Report
	err := byHand(ctx, c.clickhouseFlags, log, terminal, "backfill", func(ctx context.Context, run *jobs.Report) (err error) {
		report, err = c.fileFlags.load(ctx, c.chainFlags, c.pepperFlags, run, log, backfill.Options{Sources: c.Sources, S3: c.s3(), DryRun: c.DryRun})
		return err
	})
	if err != nil {
		return fmt.Errorf("backfill: %w", err)
	}
	if c.JSON {
		encoder := json.NewEncoder(terminal.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(report)
	}
	return report.WriteText(terminal.out)
}

// load loads files, and says so in the report of the run.
func (f fileFlags) load(ctx context.Context, chain chainFlags, secret pepperFlags, run *jobs.Report, log *slog.Logger, options backfill.Options) (backfill.Report, error) {
	cfg := backfill.Config{
		ClickHouseURL: chain.ClickhouseURL, KafkaBrokers: chain.KafkaBrokers, Topic: chain.Topic, Group: chain.group(),
		Rules: chain.rules(), MinPlaySeconds: chain.MinPlaySeconds, Clock: time.Now, Log: log,
	}
	if !f.HashedUsers {
		var err error
		if cfg.Pepper, err = secret.pepper(); err != nil {
			return backfill.Report{}, err
		}
	}
	options.Format, options.Columns = f.Format, f.Map
	options.Progress = func(doing string, n, total uint64) { run.Progress(doing, int64(n), int64(total)) }
	report, err := backfill.Run(ctx, cfg, options)
	run.AddRows(report.Appended + report.Published)
	for _, file := range report.Files {
		run.AddBytes(file.Size)
	}
	run.Say("%d rows: %d repeats, %d rejected", report.Rows, report.Repeats, report.Rejected)
	return report, err
}

// backfillTimeout bounds one scheduled backfill; the next one goes on where it
// was.
const backfillTimeout = 12 * time.Hour

// backfillSchedule is what is backfilled, and when.
type backfillSchedule struct {
	From     []string `help:"Files of past plays, as topk load backfill takes them: s3://plays/*.parquet. Each is loaded once, when it is new or has changed. None is no such job." env:"TOPK_BACKFILL_FROM"`
	Schedule string   `help:"When to look for them: cron fields, or @every DURATION." default:"@hourly" env:"TOPK_BACKFILL_SCHEDULE"`
	fileFlags
}

func (f backfillSchedule) check() error {
	_, err := jobs.ParseSpec(f.Schedule)
	return errors.Join(err, backfill.CheckColumns(f.Map))
}

// job loads the files that are new.
func (f backfillSchedule) job(s3 s3Flags, chain chainFlags, secret pepperFlags, log *slog.Logger) jobs.Job {
	return jobs.Job{Name: "backfill", Spec: f.Schedule, Timeout: backfillTimeout, CatchUp: true, Run: func(ctx context.Context, run *jobs.Report) error {
		_, err := f.load(ctx, chain, secret, run, log, backfill.Options{Sources: f.From, S3: s3.s3()})
		return err
	}}
}
