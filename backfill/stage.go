package backfill

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/playrules"
	"github.com/topk-charts/topk/internal/sqlfile"
	"github.com/topk-charts/topk/internal/tabular"
)

// staged gives the backfill that is staged and numbered, nil when there is none.
func (b *backfill) staged(ctx context.Context) (*run, error) {
	var r *run
	err := b.query(ctx, "run.sql", nil, nil, func(rows *sql.Rows) error {
		if r == nil {
			r = &run{resumed: true}
		}
		var f file
		err := rows.Scan(&r.began, &f.number, &f.Path, &f.Print, &f.Size, &r.rejects, &r.from, &r.to, &r.end)
		r.files = append(r.files, f)
		return err
	})
	return r, err
}

// stage reads, judges and numbers the files, and writes down that it did. nil
// when there is nothing to load.
func (b *backfill) stage(ctx context.Context) (*run, error) {
	if err := b.clear(ctx); err != nil { // what an interrupted one left
		return nil, err
	}
	found, err := b.found(ctx)
	if err != nil {
		return nil, err
	}
	r := &run{began: b.Clock().UTC().Truncate(time.Millisecond)}
	if r.files, err = b.unloaded(ctx, found); err != nil || len(r.files) == 0 {
		return nil, err
	}
	cut, err := b.cut(ctx)
	if err != nil {
		return nil, err
	}
	began := b.Clock()
	for i, f := range r.files {
		b.Progress("reading "+f.Path, uint64(i), uint64(len(r.files)))
		if err := b.read(ctx, f, r.began); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	b.report.took("read, judge and hash", b.Clock().Sub(began))
	began = b.Clock()
	if err := b.mark(ctx, time.Time{}); err != nil {
		return nil, err
	}
	b.report.took("look for repeats in the log", b.Clock().Sub(began))
	began = b.Clock()
	if err := b.number(ctx, r, cut); err != nil {
		return nil, err
	}
	b.report.took("drop repeats, sort and number", b.Clock().Sub(began))
	if err := b.describe(ctx, r, cut); err != nil {
		return nil, err
	}
	if b.DryRun {
		return r, nil
	}
	return r, b.complete(ctx, r)
}

// unloaded leaves out the files that were loaded before, and says which have
// changed since.
func (b *backfill) unloaded(ctx context.Context, found []file) ([]file, error) {
	paths := make([]string, len(found))
	for i, f := range found {
		paths[i] = f.Path
	}
	loaded := map[string]map[string]time.Time{}
	if err := b.query(ctx, "loaded.sql", nil, []any{clickhouse.Named("paths", paths)}, func(rows *sql.Rows) error {
		var path, print string
		var at time.Time
		err := rows.Scan(&path, &print, &at)
		if loaded[path] == nil {
			loaded[path] = map[string]time.Time{}
		}
		loaded[path][print] = at
		return err
	}); err != nil {
		return nil, err
	}
	var rest []file
	for _, f := range found {
		if at, done := loaded[f.Path][f.Print]; done {
			b.report.Files = append(b.report.Files, FileReport{Path: f.Path, Size: f.Size, LoadedBefore: at})
			continue
		}
		if len(loaded[f.Path]) > 0 {
			b.report.Changed = append(b.report.Changed, f.Path)
		}
		f.number = uint32(len(rest) + 1)
		rest = append(rest, f)
	}
	return rest, nil
}

// found lists the files, numbered.
func (b *backfill) found(ctx context.Context) (found []file, err error) {
	files, err := b.files.Find(ctx, b.Sources)
	for i, f := range files {
		found = append(found, file{f, uint32(i + 1)})
	}
	return found, err
}

// send runs a statement with a file as its data.
func (b *backfill) send(ctx context.Context, f file, name string, choice any, args []any) error {
	if err := b.step(name); err != nil {
		return err
	}
	text, err := statements.Render(name, choice)
	if err != nil {
		return err
	}
	if err := b.files.Post(ctx, f.File, text, args); err != nil {
		return fmt.Errorf("%s: %w", name, b.conceal(err))
	}
	return nil
}

// cut is the time before which a play cannot come live any more: everything that
// Kafka has was read, and of what it gets from now on nothing as old is accepted.
func (b *backfill) cut(ctx context.Context) (time.Time, error) {
	now := b.Clock().UTC().Truncate(time.Millisecond)
	if err := b.catchUp(ctx, 0); err != nil {
		return time.Time{}, err
	}
	return now.Add(-b.Rules.MaxAge - playrules.Grace - clocks), nil
}

// A reading is what stage.sql chooses its clauses by.
type reading struct {
	playrules.Values
	Source        string
	Lines, Mapped bool
	Hashed        bool
	Fields        []column
	Format        string // as ClickHouse names it
}

// read stages one file.
func (b *backfill) read(ctx context.Context, f file, now time.Time) error {
	format, err := b.files.FormatOf(f.File)
	if err != nil {
		return err
	}
	structure, columns, err := b.structure(ctx, f, format)
	if err != nil {
		return err
	}
	args := append(b.files.Args(f.File, tabular.EngineFormats[format], structure),
		clickhouse.Named("file", f.number), clickhouse.Named("now", now.UnixMilli()))
	if b.Pepper != nil {
		args = append(args, clickhouse.Named("pepper", string(b.Pepper)))
	}
	choice := reading{
		Values: playrules.ValuesOf(b.Rules, b.MinPlaySeconds), Source: b.files.Kind(f.File),
		Lines: format == "ndjson", Mapped: format == "ndjson" && len(b.Columns) > 0, Hashed: b.Pepper == nil, Fields: columns,
		Format: tabular.EngineFormats[format],
	}
	if choice.Mapped {
		for i, field := range fields {
			args = append(args, clickhouse.Named("c"+strconv.Itoa(i), b.columnOf(field)))
		}
	}
	if f.Sent() {
		return b.send(ctx, f, "stage.sql", choice, args)
	}
	return b.exec(ctx, "stage.sql", choice, args...)
}

// mark marks what the log has of the staged plays that are not older than from.
func (b *backfill) mark(ctx context.Context, from time.Time) error {
	var plays uint64
	var first, last time.Time
	if err := b.query(ctx, "span.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&plays, &first, &last) }); err != nil {
		return err
	}
	if from.Before(first) {
		from = first
	}
	const keys = 1 << 16 // by their first bits
	pieces := 1 + plays/piece
	for i := range pieces {
		b.Progress("looking for repeats in the log", i, pieces)
		if err := b.exec(ctx, "known.sql", nil,
			sqlfile.Instant("from", from), sqlfile.Instant("to", last.Add(time.Millisecond)),
			clickhouse.Named("first", uint32(keys*i/pieces)), clickhouse.Named("last", uint32(keys*(i+1)/pieces-1))); err != nil {
			return err
		}
	}
	return nil
}

// number gives the new plays their offsets.
func (b *backfill) number(ctx context.Context, r *run, cut time.Time) error {
	var rejects, next, plays, old uint64
	count := func() error {
		return b.query(ctx, "numbers.sql", nil, []any{source(), sqlfile.Instant("cut", cut)}, func(rows *sql.Rows) error {
			return rows.Scan(&rejects, &next, &plays, &old)
		})
	}
	if err := count(); err != nil {
		return err
	}
	r.rejects, r.from = next, next+rejects
	b.Progress("numbering", 0, 0)
	if err := b.exec(ctx, "number.sql", nil, clickhouse.Named("base", r.from)); err != nil {
		return err
	}
	if err := count(); err != nil {
		return err
	}
	r.to, r.end = r.from+old, r.from+plays
	return nil
}

// complete writes down that all is staged: from then on it can only be finished.
func (b *backfill) complete(ctx context.Context, r *run) (err error) {
	if err := b.step("complete"); err != nil {
		return err
	}
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	batch, err := tx.PrepareContext(ctx, "INSERT INTO backfill_runs (began, file, path, print, size, rejectKoff, fromKoff, toKoff, endKoff)")
	if err != nil {
		return fmt.Errorf("note the backfill: %w", err)
	}
	for _, f := range r.files {
		if _, err := batch.ExecContext(ctx, r.began, f.number, f.Path, f.Print, f.Size, r.rejects, r.from, r.to, r.end); err != nil {
			return fmt.Errorf("note the backfill: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("note the backfill: %w", err)
	}
	return nil
}

// describe tells what is staged.
func (b *backfill) describe(ctx context.Context, r *run, cut time.Time) error {
	paths := map[uint32]file{}
	for _, f := range r.files {
		paths[f.number] = f
	}
	if err := b.perFile(ctx, cut, func(number uint32, f FileReport) error {
		f.Path, f.Size = paths[number].Path, paths[number].Size
		b.report.add(f)
		return nil
	}); err != nil {
		return err
	}
	if err := b.query(ctx, "per_day.sql", nil, nil, func(rows *sql.Rows) error {
		var d DayPlays
		err := rows.Scan(&d.Day, &d.Plays)
		b.report.Days = append(b.report.Days, d)
		return err
	}); err != nil {
		return err
	}
	return b.query(ctx, "per_reason.sql", nil, []any{clickhouse.Named("limit", uint32(maxReasons))}, func(rows *sql.Rows) error {
		var reason Reason
		var number uint32
		err := rows.Scan(&reason.Reason, &reason.Rows, &number, &reason.FirstRow)
		reason.FirstFile = paths[number].Path
		b.report.Reasons = append(b.report.Reasons, reason)
		return err
	})
}

func (b *backfill) perFile(ctx context.Context, cut time.Time, each func(number uint32, f FileReport) error) error {
	return b.query(ctx, "per_file.sql", nil, []any{sqlfile.Instant("cut", cut)}, func(rows *sql.Rows) error {
		var number uint32
		var f FileReport
		if err := rows.Scan(&number, &f.Rows, &f.Rejected, &f.Appended, &f.Published, &f.FirstDay, &f.LastDay); err != nil {
			return err
		}
		f.Repeats = f.Rows - f.Rejected - f.Appended - f.Published
		if f.Appended+f.Published == 0 {
			f.FirstDay, f.LastDay = time.Time{}, time.Time{}
		}
		return each(number, f)
	})
}

// catchUp waits until ClickHouse has read all but so many of the messages that
// Kafka has now.
func (b *backfill) catchUp(ctx context.Context, within int64) error {
	ctx, cancel := context.WithTimeoutCause(ctx, catchUpTimeout,
		fmt.Errorf("%w: ClickHouse has not read what Kafka has within %s; see docs/operations.md", topk.ErrUnavailable, catchUpTimeout))
	defer cancel()
	var epoch uint16
	if err := b.query(ctx, "epoch.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&epoch) }); err != nil {
		return err
	}
	ends, err := b.admin.ListEndOffsets(ctx, b.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("%w: ask Kafka where its log ends: %w", topk.ErrUnavailable, err)
	}
	starts, err := b.admin.ListStartOffsets(ctx, b.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("%w: ask Kafka where its log begins: %w", topk.ErrUnavailable, err)
	}
	err = poll(ctx, func() (bool, error) {
		left, err := b.unread(ctx, epoch, starts, ends)
		if within == 0 {
			b.Progress("waiting for ClickHouse to read from Kafka", 0, 0)
		}
		return left <= within, err
	})
	if err != nil && context.Cause(ctx) != nil {
		return context.Cause(ctx)
	}
	return err
}
