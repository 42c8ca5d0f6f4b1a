package check

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tablelock"
)

const (
	// repairLock is held by whoever repairs, or starts a fill that stands still.
	repairLock = "repairing"
	// stagePrefix begins the names of tables where a partition is rebuilt.
	stagePrefix = "repair_of_"
	// rebuildCap is how many offsets of a source are rebuilt at once.
	rebuildCap = 250_000
	// pauseTimeout bounds for how long a fill stands still.
	pauseTimeout = 45 * time.Second
	// accountable is for how long repeats and rejects are surely kept, so that
	// the log can be shown to be whole.
	accountable = 13 * 24 * time.Hour
)

// errRefused is a repair that would make things worse, or that somebody else is
// about.
var errRefused = errors.New("refused")

// repair rebuilds a partition from the log while plays stream in.
//
// It is built beside the rollup up to the partition's watermark; then the fill
// is stopped, what it has added meanwhile is added here too, and the one
// replaces the other in one step. Counts and watermark move together, so every
// query is exact at every moment, and a kill between any two steps leaves the
// old partition or the new one; at worst it leaves the fill stopped, which the
// next check starts again (queries count the rest from the log until then), and
// a table, which the next repair drops.
func (r *run) repair(ctx context.Context, table rollup, partition time.Time, wrong []string) (err error) {
	start := r.Clock()
	lock, err := tablelock.Try(ctx, r.db, repairLock)
	if err != nil {
		return err
	}
	if lock == nil {
		return fmt.Errorf("%w: another process is repairing", errRefused)
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx = lock.Context()

	if err := r.dropLeftovers(ctx); err != nil {
		return err
	}
	marks, err := r.watermarks(ctx, table, partition)
	if err != nil {
		return err
	}
	if err := r.logIsWhole(ctx, marks.target); err != nil {
		return err
	}
	table.Stage = stagePrefix + table.Name + "_" + strings.ToLower(rand.Text())
	if err := r.do(ctx, "create", "CREATE TABLE "+table.Stage+" AS "+table.Name); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.afterwards(ctx, "DROP TABLE IF EXISTS "+table.Stage+" SYNC")) }()
	if _, err := r.rebuild(ctx, table, partition, marks.target); err != nil {
		return err
	}
	// One part, so that there is little to replace the old ones by.
	if err := r.do(ctx, "merge", "OPTIMIZE TABLE "+table.Stage+" FINAL"); err != nil {
		return err
	}
	plays, paused, err := r.swap(ctx, lock, table, partition, marks)
	if err != nil {
		return err
	}
	done := Repair{
		Rollup: table.Name, Partition: partition.Format(time.DateOnly), Was: wrong, Plays: plays,
		Took: Duration(r.Clock().Sub(start)), Paused: Duration(paused),
	}
	r.report.Repairs = append(r.report.Repairs, done)
	r.Log.WarnContext(ctx, "rollup partition repaired", "rollup", done.Rollup, "partition", done.Partition, "was", wrong,
		"plays", plays, "took", done.Took.String(), "paused", done.Paused.String())
	return nil
}

// swap stops the fill, completes the rebuilt partition and puts it in place.
func (r *run) swap(ctx context.Context, lock *tablelock.Lock, table rollup, partition time.Time, before marks) (plays uint64, paused time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	// The fills must not be made anew, and thereby started, meanwhile.
	migrating, err := tablelock.Take(ctx, r.db, tablelock.Migrating)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, migrating.Release()) }()

	view := table.Name + "_fill"
	start := r.Clock()
	defer func() {
		err = errors.Join(err, r.resume(ctx, view))
		paused = r.Clock().Sub(start)
	}()
	if err := r.do(ctx, "stop", "SYSTEM STOP VIEW "+view); err != nil {
		return 0, 0, err
	}
	if err := r.stopped(ctx, view); err != nil {
		return 0, 0, err
	}
	after, err := r.watermarks(ctx, table, partition)
	if err != nil {
		return 0, 0, err
	}
	for src, next := range after.start {
		if old, known := before.start[src]; known && old != next {
			return 0, 0, fmt.Errorf("the partitions before it changed meanwhile, of source %d from offset %d to %d: run again", src, old, next)
		}
	}
	built, err := r.rebuild(ctx, table, partition, after.target)
	if err != nil {
		return 0, 0, err
	}
	if err := errors.Join(lock.StillHeld(ctx), migrating.StillHeld(ctx)); err != nil {
		return 0, 0, err
	}
	// Replacing by nothing would do nothing.
	swap := fmt.Sprintf("ALTER TABLE %s REPLACE PARTITION '%s' FROM %s", table.Name, partition.Format(time.DateOnly), table.Stage)
	if built.counts == 0 {
		swap = fmt.Sprintf("ALTER TABLE %s DROP PARTITION '%s'", table.Name, partition.Format(time.DateOnly))
	}
	if err := r.do(ctx, "replace", swap); err != nil {
		return 0, 0, err
	}
	return built.plays, 0, nil
}

// resume starts the fill that a repair has stopped. Before that it tells those
// who keep what they have counted from the rollups to start anew: a fill that
// stands still after a kill says that they may not have been told.
func (r *run) resume(ctx context.Context, view string) error {
	if err := r.afterwards(ctx, "INSERT INTO rewrites (reason) VALUES ('repair of what "+view+" fills')"); err != nil {
		return err
	}
	return r.afterwards(ctx, "SYSTEM START VIEW "+view)
}

// stopped waits until no refresh of the view is under way.
func (r *run) stopped(ctx context.Context, view string) error {
	for {
		var status string
		if err := r.query(ctx, "fills.sql", nil, nil, func(rows *sql.Rows) error {
			var name, s, exception string
			if err := rows.Scan(&name, &s, &exception); err != nil {
				return err
			}
			if name == view {
				status = s
			}
			return nil
		}); err != nil {
			return err
		}
		if status == "Disabled" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to stop: %w", view, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// marks are the offsets of a partition, by source.
type marks struct {
	start  topk.Watermark // where it begins
	target topk.Watermark // where it ends: its own watermark, within the log
}

func (r *run) watermarks(ctx context.Context, table rollup, partition time.Time) (marks, error) {
	m := marks{topk.Watermark{}, topk.Watermark{}}
	err := r.query(ctx, "watermarks.sql", table, partitionArgs(partition), func(rows *sql.Rows) error {
		var src uint32
		var start, own, head uint64
		if err := rows.Scan(&src, &start, &own, &head); err != nil {
			return err
		}
		m.start[src] = start
		if target := min(own, head); target > start {
			m.target[src] = target
		}
		return nil
	})
	return m, err
}

// progress of a rebuild.
type built struct{ plays, counts, reached uint64 }

// rebuild adds plays to the stage until it has reached the target.
func (r *run) rebuild(ctx context.Context, table rollup, partition time.Time, target topk.Watermark) (built, error) {
	var last built
	args := append(partitionArgs(partition, clickhouse.Named("cap", uint64(rebuildCap))), watermarkArgs("srcs", "targets", target)...)
	insert, err := statements.Render("rebuild.sql", table)
	if err != nil {
		return last, err
	}
	for first := true; ; first = false {
		var now built
		if err := r.query(ctx, "rebuilt.sql", table, nil, func(rows *sql.Rows) error {
			return rows.Scan(&now.plays, &now.counts, &now.reached)
		}); err != nil {
			return last, err
		}
		if !first && now.reached == last.reached {
			return now, nil
		}
		last = now
		if err := r.do(ctx, "rebuild", insert, args...); err != nil {
			return last, err
		}
	}
}

// logIsWhole refuses a repair by a log that has lost plays itself, as far as
// the other messages are still known.
func (r *run) logIsWhole(ctx context.Context, target topk.Watermark) error {
	if len(r.report.Kafka.Partitions) == 0 {
		return fmt.Errorf("%w: Kafka could not be asked whether the log is whole", errRefused)
	}
	var sources []Partition
	for _, p := range r.report.Kafka.Partitions {
		if next, in := target[p.Source]; in {
			sources = append(sources, Partition{Partition: p.Partition, Source: p.Source, Start: p.Start, Committed: int64(next)})
		}
	}
	since := r.now.Add(-accountable)
	found, err := r.account(ctx, sources, since)
	if err != nil {
		return err
	}
	for i := range sources {
		p := &sources[i]
		if _, err := r.missing(ctx, p, found[p.Source], since); err != nil {
			return err
		}
		if p.Lost+p.Unknown > 0 {
			return fmt.Errorf("%w: the log itself lacks %d messages of partition %d: replay first", errRefused, p.Lost+p.Unknown, p.Partition)
		}
	}
	return nil
}

func (r *run) dropLeftovers(ctx context.Context) error {
	var names []string
	if err := r.query(ctx, "leftovers.sql", nil, []any{clickhouse.Named("prefix", stagePrefix)}, func(rows *sql.Rows) error {
		var name string
		if err := rows.Scan(&name); err != nil {
			return err
		}
		names = append(names, name)
		return nil
	}); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := r.db.ExecContext(ctx, "DROP TABLE IF EXISTS "+name+" SYNC"); err != nil {
			return fmt.Errorf("drop %s: %w", name, err)
		}
	}
	return nil
}

// do executes a step of a repair.
func (r *run) do(ctx context.Context, step, text string, args ...any) error {
	if err := r.between(step); err != nil {
		return err
	}
	if _, err := r.db.ExecContext(ctx, text, args...); err != nil {
		return fmt.Errorf("%s: %w", step, err)
	}
	return nil
}

// afterwards executes what has to be done even when ctx has ended.
func (r *run) afterwards(ctx context.Context, text string) error {
	if err := r.between("cleanup"); err != nil {
		return nil // killed
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), kafkaTimeout)
	defer cancel()
	_, err := r.db.ExecContext(ctx, text)
	return err
}
