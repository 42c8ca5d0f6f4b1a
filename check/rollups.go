package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
	"github.com/topk-charts/topk/internal/tablelock"
)

// A rollup is one of the tables that the log is rolled up into, as the
// statements choose it.
type rollup struct {
	Name  string
	Key   string // its partitions, by the time of insertion
	Grain string // of event time
	Stage string // where a partition is rebuilt
	next  func(partition time.Time) time.Time
}

var rollups = []rollup{
	{Name: "rollup_hour", Key: "day", Grain: "toStartOfHour", next: func(p time.Time) time.Time { return p.AddDate(0, 0, 1) }},
	{Name: "rollup_day", Key: "week", Grain: "toStartOfDay", next: func(p time.Time) time.Time { return p.AddDate(0, 0, 7) }},
}

const (
	// fillRecovers is how long a fill that failed, or that is being made anew,
	// is given to succeed.
	fillRecovers = 15 * time.Second
	// catchesUp is how often a partition is compared anew whose watermark is
	// beyond the log: it was read later than the log, most likely.
	catchesUp = 5
)

// checkRollups compares every rollup partition of the time with the log, and
// repairs those that differ if that is asked for.
func (r *run) checkRollups(ctx context.Context) error {
	states, err := r.fills(ctx)
	if err != nil {
		return err
	}
	for i, table := range rollups {
		found := Rollup{Name: table.Name, Fill: states[table.Name+"_fill"]}
		partitions, err := r.partitions(ctx, table)
		if err != nil {
			return err
		}
		for n, partition := range partitions {
			checked, err := r.checkPartition(ctx, table, partition)
			if err != nil {
				return fmt.Errorf("%s %s: %w", table.Name, partition.Format(time.DateOnly), err)
			}
			found.Partitions = append(found.Partitions, checked)
			r.progress(i*len(partitions)+n+1, len(rollups)*len(partitions))
		}
		if err := r.lag(ctx, table, &found); err != nil {
			return err
		}
		r.report.Rollups = append(r.report.Rollups, found)
	}
	return nil
}

// partitions lists the partitions to compare, oldest first: those that were
// written since r.since, as far as the log has their plays.
func (r *run) partitions(ctx context.Context, table rollup) ([]time.Time, error) {
	var all []time.Time
	complete := r.now.Add(-kept)
	err := r.query(ctx, "partitions.sql", table, nil, func(rows *sql.Rows) error {
		var partition time.Time
		var first, logFirst time.Time
		if err := rows.Scan(&partition, &first, &logFirst); err != nil {
			return err
		}
		oldest := len(all) == 0
		all = append(all, partition)
		switch {
		case !table.next(partition).After(r.since):
			all[len(all)-1] = time.Time{}
		case partition.Before(complete), oldest && first.Before(complete) && logFirst.Before(complete):
			all[len(all)-1] = time.Time{}
			r.note("%s %s was not compared: the log keeps plays for 90 days only", table.Name, partition.Format(time.DateOnly))
		}
		return nil
	})
	return slices.DeleteFunc(all, time.Time.IsZero), err
}

// checkPartition compares a partition, and repairs it if that is asked for.
func (r *run) checkPartition(ctx context.Context, table rollup, partition time.Time) (RollupPartition, error) {
	found, wrong, err := r.compare(ctx, table, partition)
	if err != nil || len(wrong) == 0 {
		return found, err
	}
	if r.opts.Repair {
		switch err := r.repair(ctx, table, partition, wrong); {
		case errors.Is(err, errRefused):
			r.note("%s %s was not repaired: %v", table.Name, found.Partition, err)
		case err != nil:
			return found, fmt.Errorf("repair: %w", err)
		default:
			found, wrong, err = r.compare(ctx, table, partition)
			if err != nil {
				return found, err
			}
			found.Repaired = true
		}
	}
	found.Differs = len(wrong) > 0
	for _, what := range wrong {
		r.differs(table.Name+" "+found.Partition, "%s", what)
	}
	return found, nil
}

// partitionArgs bind what statements about a partition need.
func partitionArgs(partition time.Time, more ...any) []any {
	return append(more, clickhouse.Named("partition", partition.Format(time.DateOnly)))
}

// compare says how a partition differs from the log.
func (r *run) compare(ctx context.Context, table rollup, partition time.Time) (found RollupPartition, wrong []string, err error) {
	var dims []string
	for range catchesUp {
		found = RollupPartition{Partition: partition.Format(time.DateOnly)}
		wrong, dims = nil, nil
		beyond := false
		if err := r.query(ctx, "compare.sql", table, partitionArgs(partition), func(rows *sql.Rows) error {
			var dim string
			var src uint32
			var kept, keptPrint, counted, countedPrint, head uint64
			if err := rows.Scan(&dim, &src, &kept, &keptPrint, &counted, &countedPrint, &head); err != nil {
				return err
			}
			if dim == "_wm" {
				beyond = beyond || kept > head
				// A backfill that begins moves the time, and only that.
				woken := src == topk.BackfillSource && keptPrint > countedPrint
				if kept != counted || keptPrint != countedPrint && !woken {
					wrong = append(wrong, fmt.Sprintf("source %d: the watermark is %d of %s, and should be %d of %s", src,
						kept, instant(keptPrint), counted, instant(countedPrint)))
				}
				return nil
			}
			if dim == string(topk.DimGlobal) {
				found.Plays = counted
			}
			found.Counted += counted
			if kept != counted || keptPrint != countedPrint {
				dims = append(dims, dim)
			}
			return nil
		}); err != nil {
			return found, nil, err
		}
		if !beyond {
			break
		}
		if err := again(ctx); err != nil {
			return found, nil, err
		}
	}
	for _, dim := range dims {
		lines, err := r.details(ctx, table, partition, dim)
		if err != nil {
			return found, nil, err
		}
		wrong = append(wrong, lines...)
	}
	return found, wrong, nil
}

func instant(millis uint64) string {
	return time.UnixMilli(int64(millis)).UTC().Format("2006-01-02T15:04:05.000Z")
}

// details lists the first keys of a dimension that differ. There may be none:
// the partition was repaired meanwhile.
func (r *run) details(ctx context.Context, table rollup, partition time.Time, dim string) (lines []string, err error) {
	var keys uint64
	args := partitionArgs(partition, clickhouse.Named("dim", dim), clickhouse.Named("limit", uint32(listed)))
	err = r.query(ctx, "differences.sql", table, args, func(rows *sql.Rows) error {
		var val, song string
		var ts time.Time
		var kept, counted uint64
		if err := rows.Scan(&val, &song, &ts, &kept, &counted, &keys); err != nil {
			return err
		}
		lines = append(lines, fmt.Sprintf("%s, song %s, %s: holds %d plays, the log has %d",
			topk.NewFilter(topk.Term{Dim: topk.Dimension(dim), Value: val}), song, ts.UTC().Format("2006-01-02T15:04Z"), kept, counted))
		return nil
	})
	if keys > uint64(len(lines)) {
		lines = append(lines, fmt.Sprintf("%s: and %d more", dim, keys-uint64(len(lines))))
	}
	return lines, err
}

// lag says how far a rollup is behind the log.
func (r *run) lag(ctx context.Context, table rollup, found *Rollup) error {
	var beyond []uint32
	for range catchesUp {
		if err := r.query(ctx, "lag.sql", table, []any{sqlfile.Instant("kept", r.now.Add(-kept))}, func(rows *sql.Rows) error {
			var wait int64
			if err := rows.Scan(&found.Behind, &wait, &beyond); err != nil {
				return err
			}
			found.BehindFor = Duration(time.Duration(wait) * time.Millisecond)
			return nil
		}); err != nil {
			return err
		}
		if len(beyond) == 0 {
			return nil
		}
		if err := again(ctx); err != nil {
			return err
		}
	}
	r.differs(table.Name, "claims to have counted more plays of the sources %v than the log holds: plays to come would be left out", beyond)
	return nil
}

// fills gives the states of the rollups' fills. A fill that stands still though
// nobody repairs its rollup was left so by a repair that was killed, and is
// started.
func (r *run) fills(ctx context.Context) (map[string]string, error) {
	deadline := r.Clock().Add(fillRecovers)
	for {
		states, failing := map[string]string{}, map[string]string{}
		if err := r.query(ctx, "fills.sql", nil, nil, func(rows *sql.Rows) error {
			var view, status, exception string
			if err := rows.Scan(&view, &status, &exception); err != nil {
				return err
			}
			states[view] = strings.ToLower(status)
			if exception != "" {
				failing[view] = exception
			}
			return nil
		}); err != nil {
			return nil, err
		}
		for _, table := range rollups {
			switch view := table.Name + "_fill"; states[view] {
			case "":
				failing[view] = "it does not exist: run topk migrate"
			case "disabled":
				delete(failing, view)
				started, err := r.start(ctx, view)
				if err != nil {
					return nil, err
				}
				if started {
					states[view] = "was stopped, and is started"
				} else {
					states[view] = "stopped by a repair under way"
				}
			}
		}
		if len(failing) == 0 {
			return states, nil
		}
		if r.Clock().After(deadline) {
			for _, view := range slices.Sorted(maps.Keys(failing)) {
				states[view] = "FAILS"
				r.differs(view, "fails: %s", failing[view])
			}
			return states, nil
		}
		if err := again(ctx); err != nil {
			return nil, err
		}
	}
}

// start starts a fill that is stopped, unless a repair is under way.
func (r *run) start(ctx context.Context, view string) (started bool, err error) {
	lock, err := tablelock.Try(ctx, r.db, repairLock)
	if err != nil || lock == nil {
		return false, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := r.resume(ctx, view); err != nil {
		return false, fmt.Errorf("start %s: %w", view, err)
	}
	return true, nil
}
