// Package check proves that what is stored and served is exact, on live data
// and while plays stream in: every message of the topic is accounted for, plays
// are unique, the rollups are the log, served charts are what a plain count over
// the log gives, and what is to be forgotten is gone. It also rebuilds a rollup partition that is not.
//
// A check compares only what belongs to the same prefix of the log, so nothing
// that is being written meanwhile looks like a difference.
package check

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
	"github.com/topk-charts/topk/snapshot"
)

//go:embed *.sql
var files embed.FS

var statements = sqlfile.Parse(files)

// Config is what a Checker works with; all of it is required.
type Config struct {
	ClickHouseURL string // with the database as path
	KafkaBrokers  []string
	Snapshots     *snapshot.Store
	Clock         topk.Clock
	Log           *slog.Logger
}

// A Checker checks. It is safe for concurrent use.
type Checker struct {
	Config
	db    *sql.DB
	kafka *kgo.Client
	// between is told the steps of a repair; its error ends the repair there, as
	// a kill would. Tests set it.
	between func(step string) error
}

// Open prepares to ask ClickHouse and Kafka. One that is away is no error: what
// cannot be asked, Run says.
func Open(cfg Config) (*Checker, error) {
	options, err := clickhouse.ParseDSN(cfg.ClickHouseURL)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	options.ReadTimeout = statementTimeout
	db := clickhouse.OpenDB(options)
	kafka, err := kgo.NewClient(kgo.SeedBrokers(cfg.KafkaBrokers...))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("connect to Kafka: %w", err), db.Close())
	}
	return &Checker{Config: cfg, db: db, kafka: kafka, between: func(string) error { return nil }}, nil
}

// Close drops the connections.
func (c *Checker) Close() error {
	c.kafka.Close()
	return c.db.Close()
}

// Options are what to check, and what to do about it.
type Options struct {
	// Days is how far back plays are checked, by the time they came in. Rollup
	// partitions are checked whole.
	Days int
	// Charts is how many snapshots are counted anew.
	Charts int
	// Repair rebuilds the rollup partitions that differ.
	Repair bool
	// Progress is told what is being done, if it is not nil: how many of the
	// parts of a step are done.
	Progress func(step string, done, of int)
}

const (
	// statementTimeout bounds one statement.
	statementTimeout = 10 * time.Minute
	// kept is for how long the log surely has every play: its retention of 90
	// days less what a play may have waited to be counted.
	kept = 83 * 24 * time.Hour
	// listed bounds the examples of one difference.
	listed = 10
)

// Run checks everything. The report holds what could be compared and what
// differs; the error says what could not be compared, and why.
func (c *Checker) Run(ctx context.Context, opts Options) (Report, error) {
	start := c.Clock()
	r := &run{
		Checker: c,
		opts:    opts,
		since:   start.Add(-time.Duration(opts.Days) * 24 * time.Hour),
		now:     start,
		report:  Report{At: start.UTC(), Days: opts.Days},
	}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"ClickHouse", r.reachClickHouse},
		{"Kafka and the log", r.checkKafka},
		{"uniqueness of plays", r.checkLog},
		{"rollups", r.checkRollups},
		{"served charts", r.checkCharts},
		{"retention", r.checkRetention},
	}
	var failed []error
	for i, step := range steps {
		r.step = step.name
		r.progress(0, 1)
		if err := step.run(ctx); err != nil {
			failed = append(failed, fmt.Errorf("%s could not be checked: %w", step.name, err))
			if i == 0 {
				break // nothing can be compared without it
			}
		}
	}
	err := errors.Join(failed...)
	if err != nil {
		for _, e := range failed {
			r.report.Unchecked = append(r.report.Unchecked, e.Error())
		}
	}
	r.report.Took = Duration(c.Clock().Sub(start))
	return r.report, err
}

// reachClickHouse waits for an answer.
func (r *run) reachClickHouse(ctx context.Context) error {
	if err := r.db.PingContext(ctx); err != nil {
		return fmt.Errorf("%w: ClickHouse does not answer: %w", topk.ErrUnavailable, err)
	}
	return nil
}

// A run is one check.
type run struct {
	*Checker
	opts       Options
	now, since time.Time
	step       string
	report     Report
}

func (r *run) progress(done, of int) {
	if r.opts.Progress != nil {
		r.opts.Progress(r.step, done, of)
	}
}

func (r *run) differs(where, format string, args ...any) {
	r.report.Differences = append(r.report.Differences, Difference{Check: r.step, Where: where, What: fmt.Sprintf(format, args...)})
}

func (r *run) note(format string, args ...any) {
	r.report.Notes = append(r.report.Notes, fmt.Sprintf(format, args...))
}

// query runs a statement and hands each row to read. choice picks its clauses.
func (c *Checker) query(ctx context.Context, name string, choice any, args []any, read func(*sql.Rows) error) error {
	start := c.Clock()
	defer func() { c.Log.DebugContext(ctx, "asked ClickHouse", "statement", name, "took", c.Clock().Sub(start)) }()
	return statements.Query(ctx, c.db, statementTimeout, name, choice, args, read)
}

// watermarkArgs binds a map of sources as two arrays, since drivers write maps
// in several ways.
func watermarkArgs(srcs, nexts string, w topk.Watermark) []any {
	keys := make([]uint32, 0, len(w))
	for src := range w {
		keys = append(keys, src)
	}
	slices.Sort(keys)
	values := make([]uint64, len(keys))
	for i, src := range keys {
		values[i] = w[src]
	}
	return []any{clickhouse.Named(srcs, keys), clickhouse.Named(nexts, values)}
}

// again waits a moment before a read that met two states of the world.
func again(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(200*time.Millisecond + rand.N(100*time.Millisecond)):
		return nil
	}
}
