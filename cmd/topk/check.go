package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/snapshot"
)

// redisPatience is how long a check waits for a snapshot: it is in no hurry.
const redisPatience = 10 * time.Second

type checkCommand struct {
	Days   int  `help:"How far back plays are checked, by the time they came in. Rollup partitions are checked whole." default:"2"`
	Charts int  `help:"How many served charts are counted anew, chosen at random." default:"50"`
	Repair bool `help:"Rebuild rollup partitions that differ from the log, while plays stream in."`
	JSON   bool `name:"json" help:"Write the report as JSON."`
	clickhouseFlags
	brokerFlags
	redisFlags
}

// Help is shown by topk check --help.
func (c *checkCommand) Help() string {
	return `Proves on live data, while plays stream in, that charts are exact:

- Kafka and the log: every message that ClickHouse has read is a play, a repeat
  or a reject. What is none of them is looked up in Kafka; an offset without a
  message, or a message without content, is no loss.
- Uniqueness: no event (within 48 hours) and no offset is in the log twice.
- Rollups: each partition holds exactly the plays between its watermarks, for
  every dimension, value, song and hour or day.
- Served charts: snapshots in Redis equal a plain count over the log at their
  own instant and watermark: entries, order and total.

A fill that stands still, as after a killed repair, is started.

--repair rebuilds a rollup partition that differs beside the live one and swaps
them. Ingest goes on, queries stay exact, and it may be killed at any time and
run again. It refuses when the log itself lacks plays.

Exit codes: 0 everything is exact (after repairs, with --repair); 1 something
differs, and the report says what; 2 something could not be checked, or the
command line was wrong. docs/operations.md says what to do about a difference.`
}

func (c *checkCommand) Validate() error {
	return errors.Join(checkSizes(c.Days, c.Charts), c.clickhouseFlags.check(), c.brokerFlags.check(), c.redisFlags.check())
}

func checkSizes(days, charts int) error {
	if days < 1 || days > 90 || charts < 0 {
		return errors.New("--days must be 1 to 90, as long as the log is kept, and --charts must not be negative")
	}
	return nil
}

func (c *checkCommand) Run(ctx context.Context, log *slog.Logger, terminal console) error {
	progress, done := showProgress(terminal.err, "check", log)
	report, err := c.check(ctx, log, progress)
	done()
	return c.tell(ctx, terminal, report, err)
}

// check gives nil for the report when it could not begin.
func (c *checkCommand) check(ctx context.Context, log *slog.Logger, progress func(string, int64, int64)) (_ *check.Report, err error) {
	checker, closeChecker, err := openChecker(ctx, c.clickhouseFlags, c.brokerFlags, c.redisFlags, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeChecker()) }()
	report, err := checker.Run(ctx, check.Options{Days: c.Days, Charts: c.Charts, Repair: c.Repair,
		Progress: func(step string, done, of int) { progress(step, int64(done), int64(of)) }})
	return &report, err
}

// tell writes the report. The error has the exit code.
func (c *checkCommand) tell(ctx context.Context, terminal console, report *check.Report, err error) error {
	if ctx.Err() != nil {
		return exitError{2, ctx.Err()}
	}
	if report == nil {
		return exitError{2, err}
	}
	var written error
	if c.JSON {
		encoder := json.NewEncoder(terminal.out)
		encoder.SetIndent("", "  ")
		written = encoder.Encode(report)
	} else {
		written = report.WriteText(terminal.out)
	}
	switch {
	case !report.Exact():
		return exitError{1, fmt.Errorf("%w: %d differences", loader.ErrDiffers, len(report.Differences))}
	case err != nil || written != nil:
		return exitError{2, errors.Join(err, written)}
	}
	return nil
}

// openChecker connects a checker to the servers.
func openChecker(ctx context.Context, ch clickhouseFlags, kafka brokerFlags, redis redisFlags, log *slog.Logger) (*check.Checker, func() error, error) {
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	store, err := snapshot.Open(starting, redis.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1, ReadTimeout: redisPatience})
	if err != nil {
		return nil, nil, err
	}
	checker, err := check.Open(check.Config{
		ClickHouseURL: ch.ClickhouseURL, KafkaBrokers: kafka.KafkaBrokers, Snapshots: store, Clock: time.Now, Log: log,
	})
	if err != nil {
		store.Close()
		return nil, nil, err
	}
	return checker, func() error {
		store.Close()
		return checker.Close()
	}, nil
}
