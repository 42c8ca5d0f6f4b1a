package queries

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Counters makes approximate charts keep count of n songs.
func (db *DB) Counters(n int) { db.counters = n }

// Run runs a statement as any other, and forgets its rows.
func (db *DB) Run(ctx context.Context, sql string) error {
	return db.scan(ctx, sql, nil, func(driver.Rows) error { return nil })
}

// Thin makes Counts leave out songs of values with more than many, and give
// about so many per window, judged by one song of so many.
func (db *DB) Thin(many, kept, sample int) { db.thinning = thinning{many, kept, sample} }
