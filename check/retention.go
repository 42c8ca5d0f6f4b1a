package check

import (
	"context"
	"database/sql"
	"time"

	"github.com/topk-charts/topk/internal/sqlfile"
)

// A retention is how long a table keeps rows, by its TTL.
type retention struct {
	Table  string
	Column string // that tells a row's age
	days   int
}

// retentions are those of the migrations; seen is not among them, since its rows
// do not tell their age. Repeated here, so that a TTL that somebody has taken off
// is noticed.
var retentions = []retention{
	{"plays", "at", 90},
	{"plays_rejected", "at", 14},
	{"plays_duplicates", "at", 14},
	{"rejected_replays", "at", 15},
	{"rollup_hour", "day", 400},
	{"songs_loading", "at", 1},
	{"user_segments_loading", "at", 1},
}

// overdue is how much longer rows may be there: they go by parts, of up to a day,
// when ClickHouse merges, a few hours later.
const overdue = 48 * time.Hour

// checkRetention looks for rows that should be gone.
func (r *run) checkRetention(ctx context.Context) error {
	for i, table := range retentions {
		kept := Retained{Table: table.Table, Days: table.days}
		limit := r.now.Add(-time.Duration(table.days)*24*time.Hour - overdue)
		var oldest time.Time
		if err := r.query(ctx, "retention.sql", table, []any{sqlfile.Instant("limit", limit)}, func(rows *sql.Rows) error {
			return rows.Scan(&kept.Overdue, &oldest)
		}); err != nil {
			return err
		}
		if kept.Overdue > 0 {
			r.differs(table.Table, "%d rows should be gone after %d days; the oldest is of %s", kept.Overdue, table.days, oldest.UTC().Format(time.DateOnly))
		}
		r.report.Retention = append(r.report.Retention, kept)
		r.progress(i+1, len(retentions))
	}
	return nil
}
