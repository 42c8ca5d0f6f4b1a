package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tabular"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/queries"
)

type loadCommand struct {
	Catalog   catalogCommand   `cmd:"" help:"Upsert and delete songs from CSV, NDJSON or Parquet files."`
	Segments  segmentsCommand  `cmd:"" help:"Upsert and delete users' segments from CSV, NDJSON or Parquet files. The ids are hashed here."`
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
	loadFlags
}

// Help is shown by topk load catalog --help.
func (c *catalogCommand) Help() string {
	return `Upserts songs: of several rows with one songId the last counts. A row whose
column deleted is true deletes the song, and needs its songId only: its plays go on
counting, but not in charts by genre and artist.

Columns, and names in NDJSON, are songId, title, artistId, artist, and if there
are such genres (a list), durationMs, deleted.` + loadHelp
}

// loadHelp is of both loads.
const loadHelp = `

Files are CSV with a header, NDJSON or Parquet, and may be packed by gzip or zstd.
ClickHouse reads S3, and Parquet files, which must be where it reads: for a server
in its user_files directory. In CSV a list is written as pop|rock.

Everything is read before anything is written: when a row is wrong the first 20
such rows are told, by line (of Parquet by row) and field, and nothing is loaded.
The same rows again change nothing. Charts follow within seconds.

--replace makes the files all there is: what they do not name is deleted. If that
is more than half it takes --force, since it rather is a mistake.`

func (c *catalogCommand) Validate() error { return c.loadFlags.check() }

func (c *catalogCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	return c.run(ctx, "songs", log, terminal, loader.Catalog)
}

type segmentsCommand struct {
	loadFlags
	pepperFlags
}

// Help is shown by topk load segments --help.
func (c *segmentsCommand) Help() string {
	return `Upserts the segments of users: of several rows with one userId the last counts.
Plays that come in from then on have them. The ids are hashed here. A user without
segments, or whose column deleted is true, is deleted.

Columns, and names in NDJSON, are userId, segments (a list), and if there is such
deleted.` + loadHelp
}

func (c *segmentsCommand) Validate() error { return c.loadFlags.check() }

func (c *segmentsCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	pepper, err := c.pepper()
	if err != nil {
		return err
	}
	return c.run(ctx, "users", log, terminal, func(ctx context.Context, db *queries.DB, o loader.LoadOptions) (loader.Loaded, error) {
		return loader.Segments(ctx, db, pepper, o)
	})
}

// loadFlags are those of loads of files.
type loadFlags struct {
	Sources   []string `arg:"" name:"file-or-url" help:"Paths, s3://BUCKET/KEY or http(s)://HOST/BUCKET/KEY, with wildcards if need be, or - for standard input."`
	Format    string   `help:"Format of all files, when their names do not tell: csv, ndjson or parquet; standard input is ndjson." enum:",csv,ndjson,parquet" default:""`
	Separator string   `help:"What separates the items of a list in CSV." default:"|"`
	Replace   bool     `help:"Delete what no file names."`
	Force     bool     `help:"Replace even if that deletes more than half of what there is."`
	s3Flags
	clickhouseFlags
}

func (f loadFlags) check() error {
	var separator error
	if f.Separator == "" {
		separator = errors.New("--separator must not be empty")
	}
	return errors.Join(separator, f.s3Flags.check(), f.clickhouseFlags.check())
}

// run opens ClickHouse and runs a load.
func (f loadFlags) run(ctx context.Context, rows string, log *slog.Logger, terminal console,
	load func(context.Context, *queries.DB, loader.LoadOptions) (loader.Loaded, error)) (err error) {
	files, err := tabular.Open(f.ClickhouseURL, tabular.Files{S3: f.s3(), Format: f.Format, Stdin: terminal.in, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	db, err := queries.Open(f.ClickhouseURL, topk.DefaultCalendar())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	loaded, err := load(ctx, db, loader.LoadOptions{
		Files: files, Sources: f.Sources, Separator: f.Separator, Replace: f.Replace, Force: f.Force,
		Progress: func(n int) { log.Debug("reading", rows, n) },
	})
	if err != nil {
		return fmt.Errorf("load %s: %w", rows, err)
	}
	fmt.Fprintf(terminal.out, "%d %s loaded: %d new or changed, %d deleted\n", loaded.Rows, rows, loaded.Written, loaded.Deleted)
	return nil
}
