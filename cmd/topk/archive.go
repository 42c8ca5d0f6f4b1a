package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk/archive"
	"github.com/topk-charts/topk/jobs"
)

// archiveTimeout bounds one scheduled run of archive; the next one goes on where
// it was.
const archiveTimeout = 50 * time.Minute

// archiveFlags say where the archive is, and who may use it.
type archiveFlags struct {
	ArchiveURL       string `name:"archive-url" help:"S3 bucket and prefix of the archive: s3://bucket/prefix or https://host/bucket/prefix." env:"TOPK_ARCHIVE_URL"`
	ArchiveEndpoint  string `help:"S3 of an s3:// archive, when it is not that of AWS." env:"AWS_ENDPOINT_URL_S3,AWS_ENDPOINT_URL"`
	ArchiveRegion    string `help:"Region of the bucket." default:"us-east-1" env:"AWS_REGION"`
	ArchiveKeysFile  string `help:"File with the keys of S3 as JSON, {\"ID\": …, \"Secret\": …}; DATA/s3/keys.json is that of topk up." type:"path" env:"TOPK_ARCHIVE_KEYS_FILE"`
	ArchiveKeyID     string `help:"Key of S3, when they are in no file. Without any, ClickHouse and this program use those of their machines." env:"AWS_ACCESS_KEY_ID"`
	ArchiveKeySecret string `help:"Its secret: by the environment, so that nobody sees it." env:"AWS_SECRET_ACCESS_KEY"`
}

func (f archiveFlags) check() error {
	if f.ArchiveURL == "" {
		return nil
	}
	_, err := archive.ParseLocation(f.ArchiveURL, f.ArchiveEndpoint, f.ArchiveRegion)
	if err != nil {
		return fmt.Errorf("--archive-url %w", err)
	}
	if (f.ArchiveKeyID == "") != (f.ArchiveKeySecret == "") {
		return errors.New("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together")
	}
	return nil
}

func (f archiveFlags) location() (archive.Location, error) {
	if f.ArchiveURL == "" {
		return archive.Location{}, errors.New("--archive-url (TOPK_ARCHIVE_URL) must say where the archive is")
	}
	l, err := archive.ParseLocation(f.ArchiveURL, f.ArchiveEndpoint, f.ArchiveRegion)
	if err != nil {
		return archive.Location{}, fmt.Errorf("--archive-url %w", err)
	}
	if l.KeyID, l.Secret = f.ArchiveKeyID, f.ArchiveKeySecret; f.ArchiveKeysFile != "" {
		text, err := os.ReadFile(f.ArchiveKeysFile)
		if err != nil {
			return archive.Location{}, fmt.Errorf("--archive-keys-file: %w", err)
		}
		var keys struct{ ID, Secret string }
		if err := json.Unmarshal(text, &keys); err != nil || keys.ID == "" || keys.Secret == "" {
			return archive.Location{}, fmt.Errorf("--archive-keys-file: %s is not JSON with ID and Secret", f.ArchiveKeysFile)
		}
		l.KeyID, l.Secret = keys.ID, keys.Secret
	}
	return l, nil
}

// open connects the archive to the servers, until it is closed.
func (f archiveFlags) open(ctx context.Context, ch clickhouseFlags, registry prometheus.Registerer, log *slog.Logger) (*archive.Archive, error) {
	location, err := f.location()
	if err != nil {
		return nil, err
	}
	return archive.Open(ctx, archive.Config{
		ClickHouseURL: ch.ClickhouseURL, Location: location, Clock: time.Now, Log: log, Registry: registry,
	})
}

// archiveSchedule is when the archive runs.
type archiveSchedule struct {
	Schedule string `help:"When to archive: cron fields in UTC, or @every DURATION." default:"7 * * * *" env:"TOPK_ARCHIVE_SCHEDULE"`
}

func (f archiveSchedule) check() error {
	_, err := jobs.ParseSpec(f.Schedule)
	return err
}

// job archives on that schedule.
func (f archiveSchedule) job(a *archive.Archive) jobs.Job {
	run := func(ctx context.Context, report *jobs.Report) error {
		done, err := a.Run(ctx, func(hours, of int) { report.Progress("archiving hours", int64(hours), int64(of)) })
		if errors.Is(err, archive.ErrBusy) { // of somebody who archives by hand, or restores
			return nil
		}
		sayArchived(report, done)
		return err
	}
	return jobs.Job{Name: "archive", Spec: f.Schedule, Timeout: archiveTimeout, Run: run, CatchUp: true}
}

func sayArchived(report *jobs.Report, done archive.Report) {
	if done.Hours > 0 {
		report.AddRows(done.Plays)
		report.AddBytes(done.Bytes)
		report.Say("%d hours, until %s", done.Hours, untilText(done.Until))
	}
}

type archiveCommand struct {
	Once   bool   `help:"Run now, and end."`
	Listen string `help:"Address of /metrics and /healthz, unless --once." default:"127.0.0.1:8082" env:"TOPK_LOAD_LISTEN"`
	zoneFlags
	archiveSchedule
	archiveFlags
	clickhouseFlags
}

func (c *archiveCommand) Help() string {
	return `Writes every hour of the log that is over to S3, as Parquet and with a manifest,
and the catalog once a day. An hour is written once, and again only when history
was rewritten since (an erasure, a replay). It may be killed at any moment.

topk load restore puts plays back from there.`
}

func (c *archiveCommand) Validate() error {
	return errors.Join(c.zoneFlags.check(), c.archiveSchedule.check(), c.archiveFlags.check(), c.clickhouseFlags.check(), checkAddresses("--listen", []string{c.Listen}))
}

func (c *archiveCommand) Run(ctx context.Context, log *slog.Logger, terminal console) (err error) {
	if !c.Once {
		return serveMetrics(ctx, c.Listen, log, func(ctx context.Context, registry *prometheus.Registry, _ *http.ServeMux) (err error) {
			a, err := c.open(ctx, c.clickhouseFlags, registry, log)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, a.Close()) }()
			return c.runJobs(ctx, c.clickhouseFlags, registry, log, c.job(a))
		})
	}
	a, err := c.open(ctx, c.clickhouseFlags, nil, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	var done archive.Report
	err = byHand(ctx, c.clickhouseFlags, log, terminal, "archive", func(ctx context.Context, report *jobs.Report) (err error) {
		done, err = a.Run(ctx, func(hours, of int) { report.Progress("archiving hours", int64(hours), int64(of)) })
		sayArchived(report, done)
		return err
	})
	if done.Hours > 0 || err == nil {
		fmt.Fprintf(terminal.out, "archived %d hours with %d plays (%d of them anew), %d bytes; the archive reaches until %s\n",
			done.Hours, done.Plays, done.Revisions, done.Bytes, untilText(done.Until))
	}
	return err
}

func untilText(t time.Time) string {
	if t.IsZero() {
		return "nowhere yet"
	}
	return t.Format(time.RFC3339)
}

type restoreCommand struct {
	Day    []string `help:"Days (UTC, YYYY-MM-DD) to put back into a log that lacks them. Without any, the whole archive into a database that has no plays."`
	From   string   `help:"The archive, when it is not that of --archive-url."`
	DryRun bool     `help:"Read and verify the archive, list what would be restored, change nothing."`
	archiveFlags
	chainFlags
}

func (c *restoreCommand) Help() string {
	return `Puts plays back from the archive, under the positions and arrival times that
they had: charts are what they were, and what a day still has is not counted
again. Everything is read and compared with the manifests first; a damaged archive
is refused, by name of what is damaged.

A whole archive goes into a database without plays, with the catalog and the
users' segments. Reading of Kafka stands still meanwhile, and goes on behind the
last play of the archive when the topic is the same, or at its start when it is
another one. Repeats are recognised across that.

It may be killed at any moment: run it again. docs/operations.md tells more.`
}

func (c *restoreCommand) Validate() error {
	_, err := c.days()
	if c.From != "" {
		c.ArchiveURL = c.From
	}
	return errors.Join(err, c.archiveFlags.check(), c.chainFlags.check())
}

func (c *restoreCommand) days() (days []time.Time, err error) {
	for _, text := range c.Day {
		day, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return nil, fmt.Errorf("--day must be YYYY-MM-DD, not %q", text)
		}
		days = append(days, day)
	}
	return days, nil
}

func (c *restoreCommand) Run(ctx context.Context, log *slog.Logger, terminal console) (err error) {
	a, err := c.open(ctx, c.clickhouseFlags, nil, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	options := archive.RestoreOptions{DryRun: c.DryRun}
	if options.Days, err = c.days(); err != nil {
		return err
	}
	if len(options.Days) == 0 && !c.DryRun {
		admin, err := kafkaAdmin(c.KafkaBrokers)
		if err != nil {
			return err
		}
		defer admin.Close()
		starting, cancel := context.WithTimeout(ctx, migrateTimeout)
		defer cancel()
		id, err := createTopic(starting, c.KafkaBrokers, c.topicFlags)
		if err != nil {
			return err
		}
		options.Wiring, options.Kafka = c.wiring(id), admin
	}
	update, done := showProgress(terminal.err, "restore", log)
	options.Progress = update
	start := time.Now()
	restored, err := a.Restore(ctx, options)
	done()
	if err != nil {
		return err
	}
	for _, day := range restored.Days {
		fmt.Fprintf(terminal.out, "%s  %d hours  %d plays  %d bytes\n", day.Day.Format(time.DateOnly), day.Hours, day.Plays, day.Bytes)
	}
	if !restored.Catalog.IsZero() {
		fmt.Fprintf(terminal.out, "songs and users' segments of %s\n", restored.Catalog.Format(time.DateOnly))
	}
	if c.DryRun {
		fmt.Fprintln(terminal.out, "the archive is whole; nothing was restored")
		return nil
	}
	fmt.Fprintf(terminal.out, "restored %d plays that were not there, in %s\n", restored.Restored, time.Since(start).Round(time.Second))
	return nil
}
