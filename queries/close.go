package queries

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// A Closing is one close of all charts of a date: what its statements work on,
// in the order of the methods below.
type Closing struct {
	Period   topk.Period
	Span     topk.Span // of the period; whole days
	ClosedAt time.Time // of the revisions it writes; no other close of the date may have the same
}

// ClosedDimensions are those whose charts are closed.
func ClosedDimensions() []topk.Dimension {
	var dims []topk.Dimension
	for _, dim := range topk.Dimensions() { // global first: see Counted
		if topk.NewFilter(topk.Term{Dim: dim}).Eager() {
			dims = append(dims, dim)
		}
	}
	return dims
}

// ForgetCounts empties the place where the charts of a Closing are counted.
func (db *DB) ForgetCounts(ctx context.Context) error {
	if err := db.conn.Exec(ctx, "TRUNCATE TABLE closing_counts"); err != nil {
		return fmt.Errorf("forget what was counted: %w", classify(err))
	}
	return nil
}

// CountCharts counts the charts of every value of one dimension.
func (db *DB) CountCharts(ctx context.Context, c Closing, dim topk.Dimension) error {
	stored := dim
	if dim == topk.DimGenre {
		stored = topk.DimGlobal
	}
	p := planOf(c.Span, c.ClosedAt)
	choice := counting{p.grains(), stored, dim == topk.DimGenre}
	args := append(p.args(), sqlfile.Instant("closedAt", c.ClosedAt), clickhouse.Named("chart", string(dim)),
		clickhouse.Named("dim", string(stored)), clickhouse.Named("k", uint32(topk.SnapshotSize)))
	err := untilPrefix(ctx, func() error {
		err := db.exec(ctx, "close_count.sql", choice, args)
		var exception *clickhouse.Exception
		if errors.As(err, &exception) && exception.Code == thrown {
			return fmt.Errorf("%w: %w", errBehind, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("count the %s charts of the %s %s: %w", dim, c.Period, c.date(), err)
	}
	return nil
}

// thrown is the code of what throwIf throws.
const thrown = 395

// Counted is what CountCharts has counted.
type Counted struct {
	Entries uint64
	Charts  uint64
	Plays   uint64 // of the global chart; all charts that were counted after it have seen these
}

// Counted tells what was counted.
func (db *DB) Counted(ctx context.Context, c Closing) (n Counted, err error) {
	err = db.row(ctx, "close_counted.sql", c.args(), &n.Entries, &n.Charts, &n.Plays)
	if err != nil {
		return n, fmt.Errorf("what was counted: %w", err)
	}
	return n, nil
}

// WriteEntries writes the entries of the charts that are not what their latest
// revision says. Nobody sees them yet.
func (db *DB) WriteEntries(ctx context.Context, c Closing) error {
	if err := db.exec(ctx, "close_entries.sql", nil, c.args()); err != nil {
		return fmt.Errorf("entries of the %s %s: %w", c.Period, c.date(), err)
	}
	return nil
}

// Changes tells how many revisions PublishCharts is about to write: of charts
// that had none, and of those that had.
func (db *DB) Changes(ctx context.Context, c Closing) (first, again uint64, err error) {
	if err := db.row(ctx, "close_changes.sql", c.args(), &first, &again); err != nil {
		return 0, 0, fmt.Errorf("what has changed on the %s %s: %w", c.Period, c.date(), err)
	}
	return first, again, nil
}

// PublishCharts makes the new revisions appear, and an empty one of each chart
// that has no entries any more. It does nothing when what was counted is not
// there any more.
func (db *DB) PublishCharts(ctx context.Context, c Closing, counted Counted) error {
	err := db.exec(ctx, "close_charts.sql", nil, append(c.args(), clickhouse.Named("counted", counted.Entries)))
	if err != nil {
		return fmt.Errorf("charts of the %s %s: %w", c.Period, c.date(), err)
	}
	return nil
}

func (c Closing) args() []any {
	return []any{
		clickhouse.Named("period", string(c.Period)), onDate("date", c.Span.Start),
		onDate("previousDate", c.Period.Before(c.Span).Start), sqlfile.Instant("closedAt", c.ClosedAt),
	}
}

func (c Closing) date() string { return c.Span.Start.Format(time.DateOnly) }

// A CloseRun says how far a close of a date has come.
type CloseRun struct {
	Period    topk.Period
	Date      time.Time
	Step      CloseStep
	ClosedAt  time.Time
	Plays     uint64 // of the date, as counted
	Inputs    CloseInputs
	Charts    uint64 // of the date
	Revisions uint64 // written
}

// A CloseStep is what has been reached.
type CloseStep string

// The steps.
const (
	CloseCounting CloseStep = "counting" // ClosedAt is taken
	CloseBegan    CloseStep = "began"    // about to write revisions
	CloseDone     CloseStep = "done"     // all charts of the date are as of ClosedAt
)

// CloseInputs is what else than plays decides closed charts.
type CloseInputs struct {
	Rewrites uint64 // how often history was rewritten
	Genres   uint64 // a print of the catalog's genres
}

// CloseRuns gives the last of each step of every date, in no order.
func (db *DB) CloseRuns(ctx context.Context) ([]CloseRun, error) {
	sql, err := statements.Render("close_runs.sql", nil)
	if err != nil {
		return nil, err
	}
	var runs []CloseRun
	err = db.scan(ctx, sql, nil, func(rows driver.Rows) error {
		var period, step string
		var charts, revisions uint32
		var r CloseRun
		if err := rows.Scan(&period, &r.Date, &step, &r.ClosedAt, &r.Plays, &r.Inputs.Rewrites, &r.Inputs.Genres, &charts, &revisions); err != nil {
			return err
		}
		r.Period, r.Step, r.Charts, r.Revisions = topk.Period(period), CloseStep(step), uint64(charts), uint64(revisions)
		runs = append(runs, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("how far closing has come: %w", err)
	}
	return runs, nil
}

// SaveCloseRun writes down how far a close has come.
func (db *DB) SaveCloseRun(ctx context.Context, r CloseRun) error {
	err := db.insert(ctx, "INSERT INTO close_runs (period, date, step, closedAt, plays, rewrites, genres, charts, revisions)", 1,
		func(int) []any {
			return []any{string(r.Period), r.Date, string(r.Step), r.ClosedAt, r.Plays, r.Inputs.Rewrites, r.Inputs.Genres,
				uint32(r.Charts), uint32(r.Revisions)}
		})
	if err != nil {
		return fmt.Errorf("how far closing has come: %w", err)
	}
	return nil
}

// CloseInputs reads them.
func (db *DB) CloseInputs(ctx context.Context) (in CloseInputs, err error) {
	if err := db.row(ctx, "close_inputs.sql", nil, &in.Rewrites, &in.Genres); err != nil {
		return in, fmt.Errorf("what decides closed charts: %w", err)
	}
	return in, nil
}

// FirstDay is the first day with plays; the zero time when there are none. Plays
// appear here some seconds late.
func (db *DB) FirstDay(ctx context.Context) (first time.Time, err error) {
	if err := db.row(ctx, "first_day.sql", nil, &first); err != nil {
		return first, fmt.Errorf("first day with plays: %w", err)
	}
	if first.Unix() == 0 {
		return time.Time{}, nil
	}
	return first, nil
}

// exec runs a statement that answers nothing.
func (db *DB) exec(ctx context.Context, file string, choice any, args []any) error {
	sql, err := statements.Render(file, choice)
	if err != nil {
		return err
	}
	return classify(db.conn.Exec(ctx, sql, args...))
}

// row reads the one row of a statement without clauses to choose.
func (db *DB) row(ctx context.Context, file string, args []any, columns ...any) error {
	sql, err := statements.Render(file, nil)
	if err != nil {
		return err
	}
	return db.scan(ctx, sql, args, func(rows driver.Rows) error { return rows.Scan(columns...) })
}
