package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/queries"
)

type loadCommand struct {
	Catalog   catalogCommand   `cmd:"" help:"Upsert songs from NDJSON: songId, title, artistId, artist, genres, durationMs."`
	Segments  segmentsCommand  `cmd:"" help:"Upsert users' segments from NDJSON: userId, segments. The ids are hashed here."`
	Backfill  backfillCommand  `cmd:"" help:"Load plays of the past from files, each exactly once, while plays stream in."`
	Rejected  rejectedCommand  `cmd:"" help:"Correct rejected messages and send them again."`
	Replay    replayCommand    `cmd:"" help:"Rebuild everything from the start of the topic, beside the live tables, and switch."`
	Reconcile reconcileCommand `cmd:"" help:"Check that everything is exact, repair what is not: on a schedule, or --once."`
	Close     closeCommand     `cmd:"" help:"Write down the charts of days and weeks that are over: on a schedule, or --once."`
	Archive   archiveCommand   `cmd:"" help:"Write every hour of the log that is over to S3: on a schedule, or --once."`
	Restore   restoreCommand   `cmd:"" help:"Put plays back from the archive: all, or days."`
	Schedule  scheduleCommand  `cmd:"" help:"Run every scheduled job."`
	Jobs      jobsCommand      `cmd:"" help:"List the jobs: when each is due, and what became of its last run."`
}

type catalogCommand struct {
	File string `arg:"" help:"NDJSON file, or - for standard input."`
	clickhouseFlags
}

func (c *catalogCommand) Validate() error { return c.clickhouseFlags.check() }

func (c *catalogCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	return load(ctx, c.clickhouseFlags, c.File, "songs", log, terminal, loader.Catalog)
}

type segmentsCommand struct {
	File string `arg:"" help:"NDJSON file, or - for standard input."`
	clickhouseFlags
	pepperFlags
}

func (c *segmentsCommand) Validate() error { return c.clickhouseFlags.check() }

func (c *segmentsCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	pepper, err := c.pepper()
	if err != nil {
		return err
	}
	return load(ctx, c.clickhouseFlags, c.File, "users", log, terminal,
		func(ctx context.Context, db *queries.DB, in io.Reader, progress func(int)) error {
			return loader.Segments(ctx, db, pepper, in, progress)
		})
}

// load opens the input and ClickHouse, and runs a job of the loader.
func load(ctx context.Context, target clickhouseFlags, file, rows string, log *slog.Logger, terminal console,
	job func(context.Context, *queries.DB, io.Reader, func(int)) error) (err error) {
	in := terminal.in
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return err
		}
		defer opened.Close()
		in = opened
	}
	db, err := queries.Open(target.ClickhouseURL, topk.DefaultCalendar())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	written := 0
	if err := job(ctx, db, in, func(n int) {
		written = n
		log.Debug("loading", rows, n)
	}); err != nil {
		return fmt.Errorf("load %s: %w", file, err)
	}
	fmt.Fprintf(terminal.out, "%d %s loaded\n", written, rows)
	return nil
}
