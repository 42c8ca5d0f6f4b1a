package check

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

const (
	// repeatsWithin is the time in which repeats of an event are recognised for
	// sure, with a minute for what the clocks of tables round away.
	repeatsWithin = 48*time.Hour - time.Minute
	// eventsAtOnce is how many event ids are held in memory at once, at some 50
	// bytes each.
	eventsAtOnce = 20_000_000
	// candidates bounds the hashes that are looked at of one bucket.
	candidates = 10_000
)

// checkLog looks for plays that are in the log twice, and for backfilled ones
// that are not in it.
func (r *run) checkLog(ctx context.Context) error {
	var offsets uint64
	err := r.query(ctx, "log.sql", nil, []any{sqlfile.Instant("since", r.since)}, func(rows *sql.Rows) error {
		return rows.Scan(&r.report.Log.Plays, &offsets)
	})
	if err != nil {
		return err
	}
	if offsets > 0 {
		if err := r.offsetsTwice(ctx); err != nil {
			return err
		}
	}
	buckets := 1 + int(r.report.Log.Plays/eventsAtOnce)
	for bucket := range buckets {
		if err := r.eventsTwice(ctx, bucket, buckets); err != nil {
			return err
		}
		r.progress(bucket+1, buckets)
	}
	return r.backfills(ctx)
}

// backfills compares what each backfill says it has appended with the log.
func (r *run) backfills(ctx context.Context) error {
	args := []any{clickhouse.Named("source", topk.BackfillSource), sqlfile.Instant("kept", r.now.Add(-kept))}
	return r.query(ctx, "backfills.sql", nil, args, func(rows *sql.Rows) error {
		var from, to, appended, found uint64
		var erased bool
		if err := rows.Scan(&from, &to, &appended, &found, &erased); err != nil {
			return err
		}
		r.report.Log.Backfills++
		r.report.Log.Backfilled += found
		if found > appended || found < appended && !erased || appended != to-from {
			r.differs(fmt.Sprintf("backfill of the offsets %d to %d", from, to), "the log has %d of its %d plays", found, appended)
		}
		return nil
	})
}

func (r *run) offsetsTwice(ctx context.Context) error {
	return r.query(ctx, "positions_twice.sql", nil, []any{sqlfile.Instant("since", r.since), clickhouse.Named("limit", uint32(candidates))}, func(rows *sql.Rows) error {
		var src uint32
		var offset, plays uint64
		if err := rows.Scan(&src, &offset, &plays); err != nil {
			return err
		}
		if r.report.Log.OffsetsTwice++; r.report.Log.OffsetsTwice <= listed {
			r.differs(fmt.Sprintf("source %d", src), "offset %d is in the log %d times", offset, plays)
		}
		return nil
	})
}

func (r *run) eventsTwice(ctx context.Context, bucket, buckets int) error {
	var hashes []uint64
	err := r.query(ctx, "events.sql", nil, []any{
		sqlfile.Instant("since", r.since), clickhouse.Named("bucket", uint32(bucket)), clickhouse.Named("buckets", uint32(buckets)),
		clickhouse.Named("limit", uint32(candidates)),
	}, func(rows *sql.Rows) error {
		var hash uint64
		if err := rows.Scan(&hash); err != nil {
			return err
		}
		hashes = append(hashes, hash)
		return nil
	})
	if err != nil || len(hashes) == 0 {
		return err
	}
	if len(hashes) == candidates {
		r.note("more than %d event ids occur again: only those were looked at", candidates)
	}
	var events uint64
	err = r.query(ctx, "events_twice.sql", nil, []any{
		sqlfile.Instant("since", r.since), clickhouse.Named("hashes", hashes),
		clickhouse.Named("seconds", uint32(repeatsWithin.Seconds())), clickhouse.Named("limit", uint32(listed)),
	}, func(rows *sql.Rows) error {
		var id string
		var src, againSrc uint32
		var offset, againOffset uint64
		if err := rows.Scan(&id, &src, &offset, &againSrc, &againOffset, &events); err != nil {
			return err
		}
		r.differs("event "+id, "is in the log twice: source %d offset %d, and source %d offset %d", src, offset, againSrc, againOffset)
		return nil
	})
	r.report.Log.EventsTwice += events
	return err
}
