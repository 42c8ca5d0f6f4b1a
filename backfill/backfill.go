// Package backfill brings plays of the past from files into the log, each
// exactly once, while plays stream in.
//
// Plays that the gateway would still accept may also come live, so they are sent
// through Kafka, whose readers recognise repeats. Older ones cannot come live any
// more: they are appended to the log under a source of their own. The same views
// carry both into the rollups.
//
// A backfill first reads and judges all its files, finds what the log has
// already, and gives each new play its offset. That may be repeated from the
// start. Once all of it is written down the backfill can only be finished, by
// this process or another one, and goes on exactly where it was.
package backfill

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/playrules"
	"github.com/topk-charts/topk/internal/sqlfile"
	"github.com/topk-charts/topk/internal/tablelock"
	"github.com/topk-charts/topk/internal/tabular"
)

//go:embed *.sql
var files embed.FS

var statements = sqlfile.Parse(files, playrules.Templates, tabular.Source)

// Config is what a backfill works with; all of it is required.
type Config struct {
	ClickHouseURL  string // with the database as path
	KafkaBrokers   []string
	Topic, Group   string // that ClickHouse reads, as migrations.Wiring has them
	Rules          topk.Rules
	MinPlaySeconds int
	Pepper         []byte // that user ids are hashed with; nil when they are hashed already
	Clock          topk.Clock
	Log            *slog.Logger
}

// Options are what to load, and how.
type Options struct {
	// Sources are paths and URLs of S3: s3://… or http(s)://…. Either may have
	// wildcards. Parquet files must be where ClickHouse reads.
	Sources []string
	Format  string            // of all files: csv, ndjson or parquet; "" goes by their names
	Columns map[string]string // field of a play -> column, where their names differ
	S3      tabular.S3
	DryRun  bool // report only
	// Progress is told what is being done, and how much of it, in rows; total 0
	// when that is not known. nil for none.
	Progress func(doing string, done, total uint64)

	step      func(name string) error // of tests: comes before each write
	chunk     uint64                  // of tests, else as the constants
	published uint64
	patience  time.Duration
	sendFiles bool // also those that ClickHouse sees
}

const (
	// chunk is how many plays are appended at once, and backlog how many of them
	// the rollups may have to count: the tail that queries read stays short, and a
	// refresh, one every 5 seconds, takes a core for less than one.
	chunk   = 25_000
	backlog = 100_000
	// published is how many plays are sent to Kafka at once, and unread how many
	// messages may wait there: live plays queue behind them.
	published = 5_000
	unread    = 10_000
	// clocks bounds how far the clocks of producers and of this machine differ.
	clocks = time.Hour
	// piece is how many events are looked for in the log at once, at some 100
	// bytes each.
	piece = 4_000_000
	// maxReasons bounds the reasons of a report.
	maxReasons = 100

	statementTimeout = 6 * time.Hour    // of one file or one pass over the log
	kafkaTimeout     = time.Minute      // of one batch of plays
	catchUpTimeout   = 10 * time.Minute // for ClickHouse to have read what Kafka has
	patience         = 75 * time.Second // the lock of a killed process lasts a minute
	pollEvery        = 200 * time.Millisecond
)

// ErrBusy: another process is backfilling, or rebuilding the log. It is an
// ErrUnavailable.
var ErrBusy = fmt.Errorf("%w: another backfill or a replay is under way", topk.ErrUnavailable)

// Run loads the files. A backfill that was interrupted is finished first. An
// ErrInvalid says what is wrong with a file or the options; rows that are no
// plays are no error, they are kept with the rejected messages.
func Run(ctx context.Context, cfg Config, o Options) (report Report, err error) {
	if o.Progress == nil {
		o.Progress = func(string, uint64, uint64) {}
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	o.chunk, o.published, o.patience = cmp.Or(o.chunk, chunk), cmp.Or(o.published, published), cmp.Or(o.patience, patience)
	options, err := clickhouse.ParseDSN(cfg.ClickHouseURL)
	if err != nil {
		return Report{}, fmt.Errorf("ClickHouse URL: %w", err)
	}
	options.ReadTimeout = statementTimeout
	db := clickhouse.OpenDB(options)
	defer func() { err = errors.Join(err, db.Close()) }()
	kafka, err := kgo.NewClient(kgo.SeedBrokers(cfg.KafkaBrokers...), kgo.DefaultProduceTopic(cfg.Topic),
		kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ClientID("topk-backfill"))
	if err != nil {
		return Report{}, fmt.Errorf("connect to Kafka: %w", err)
	}
	defer kafka.Close()

	lock, err := take(ctx, db, o.patience)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	b := &backfill{Config: cfg, Options: o, db: db, kafka: kafka, admin: kadm.NewClient(kafka)}
	b.files = &tabular.Files{DB: db, Server: options, S3: o.S3, Format: o.Format, Send: o.sendFiles, Log: cfg.Log}
	return b.report, b.run(lock.Context())
}

// take takes the lock, and waits for it as long as that of a killed process lasts.
func take(ctx context.Context, db *sql.DB, patience time.Duration) (lock *tablelock.Lock, err error) {
	enough := time.After(patience)
	err = poll(ctx, func() (bool, error) {
		if lock, err = tablelock.Try(ctx, db, tablelock.Backfilling); lock != nil || err != nil {
			return true, err
		}
		select {
		case <-enough:
			return true, ErrBusy
		default:
			return false, nil
		}
	})
	return lock, err
}

// A backfill is one Run.
type backfill struct {
	Config
	Options
	db     *sql.DB
	files  *tabular.Files
	kafka  *kgo.Client
	admin  *kadm.Client
	report Report
}

// A file is one of those that are loaded.
type file struct {
	tabular.File
	number uint32 // of the run, from 1
}

// A run is a backfill that is staged and numbered. Its offsets are, in this
// order, those of the rejects, of the plays that are appended, and of those that
// go through Kafka, which have no place in the log by them.
type run struct {
	began                  time.Time
	files                  []file
	rejects, from, to, end uint64
	resumed                bool
}

func (b *backfill) run(ctx context.Context) error {
	if err := b.othersEnd(ctx); err != nil {
		return err
	}
	// A replay that was killed in its switch is about to put its tables in the
	// place of these.
	switching := false
	if err := b.query(ctx, "switching.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&switching) }); err != nil {
		return err
	}
	if switching {
		return fmt.Errorf("%w: a replay was interrupted: run topk migrate first", topk.ErrUnavailable)
	}
	staged, err := b.staged(ctx)
	if err != nil {
		return err
	}
	if staged != nil && b.DryRun {
		return fmt.Errorf("%w: a backfill was interrupted: run one without --dry-run to finish it", topk.ErrUnavailable)
	}
	if staged != nil {
		b.Log.WarnContext(ctx, "an earlier backfill was interrupted; it is finished first", "began", staged.began, "files", len(staged.files))
		if err := b.finish(ctx, staged); err != nil {
			return fmt.Errorf("finish the backfill of %s: %w", staged.began.Format(time.RFC3339), err)
		}
	}
	staged, err = b.stage(ctx)
	if err != nil || staged == nil {
		return err
	}
	if b.DryRun {
		return b.clear(ctx)
	}
	return b.finish(ctx, staged)
}

// othersEnd waits until what a killed backfill left running is over.
func (b *backfill) othersEnd(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		var running int
		err := b.query(ctx, "running.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&running) })
		if running > 0 {
			b.Progress("waiting for a killed backfill's statement", 0, 0)
		}
		return running == 0, err
	})
}

// clear empties the stage. What says that it is complete goes first.
func (b *backfill) clear(ctx context.Context) error {
	for _, table := range []string{"backfill_runs", "backfill_plays", "backfill_rows"} {
		if err := b.step("clear " + table); err != nil {
			return err
		}
		if _, err := b.db.ExecContext(ctx, "TRUNCATE TABLE "+table); err != nil {
			return fmt.Errorf("empty table %s: %w", table, err)
		}
	}
	return nil
}

// exec runs a statement of a file. choice picks its clauses.
func (b *backfill) exec(ctx context.Context, name string, choice any, args ...any) error {
	if err := b.step(name); err != nil {
		return err
	}
	return b.conceal(statements.Exec(ctx, b.db, statementTimeout, name, choice, args...))
}

// query runs a statement of a file, and hands each row to read.
func (b *backfill) query(ctx context.Context, name string, choice any, args []any, read func(*sql.Rows) error) error {
	return b.conceal(statements.Query(ctx, b.db, statementTimeout, name, choice, args, read))
}

// conceal takes secrets out of an error's text.
func (b *backfill) conceal(err error) error {
	return sqlfile.Conceal(err, string(b.Pepper), b.S3.Secret, b.S3.Token)
}

// source binds the source of backfills.
func source() any { return clickhouse.Named("source", topk.BackfillSource) }

func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
