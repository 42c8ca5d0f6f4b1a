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
)

type backfillCommand struct {
	Sources     []string          `arg:"" name:"path-or-url" help:"Files of plays: paths, s3://BUCKET/KEY or http(s)://HOST/BUCKET/KEY, with wildcards if need be."`
	Map         map[string]string `placeholder:"FIELD=COLUMN" help:"Column (or name, in NDJSON) of a field that is named otherwise; may be repeated."`
	Format      string            `help:"Format of all files, when their names do not tell: csv, ndjson or parquet." enum:",csv,ndjson,parquet" default:""`
	HashedUsers bool              `help:"The files have users' hashes, as the gateway makes them, instead of their ids."`
	DryRun      bool              `help:"Read and judge the files, and say what would be loaded."`
	JSON        bool              `name:"json" help:"Write the report as JSON."`
	s3Flags
	chainFlags
	pepperFlags
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
	cfg := backfill.Config{
		ClickHouseURL: c.ClickhouseURL, KafkaBrokers: c.KafkaBrokers, Topic: c.Topic, Group: c.group(),
		Rules: c.rules(), MinPlaySeconds: c.MinPlaySeconds, Clock: time.Now, Log: log,
	}
	if !c.HashedUsers {
		var err error
		if cfg.Pepper, err = c.pepper(); err != nil {
			return err
		}
	}
	progress, done := showProgress("backfill", log)
	report, err := backfill.Run(ctx, cfg, backfill.Options{
		Sources: c.Sources, Format: c.Format, Columns: c.Map, S3: c.s3(), DryRun: c.DryRun,
		Progress: func(doing string, n, total uint64) { progress(doing, int64(n), int64(total)) },
	})
	done()
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
