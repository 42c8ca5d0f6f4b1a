// Package queries holds every SQL statement the roles ask ClickHouse at run
// time and the planner that turns a window and a filter into one of them.
package queries

import (
	"context"
	"errors"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// DB asks the questions of the charts system. It is safe for concurrent use.
type DB struct{ conn driver.Conn }

// Open connects to ClickHouse by URL (http://, https:// or clickhouse://) and
// checks that it answers.
func Open(ctx context.Context, url string) (*DB, error) { return nil, errors.New("stub") }

// Close releases the connections.
func (db *DB) Close() error { return db.conn.Close() }

// Ping reports whether ClickHouse answers.
func (db *DB) Ping(ctx context.Context) error { return db.conn.Ping(ctx) }

// Chart computes the exact first k entries of any filter and window, from the
// rollups and the log.
func (db *DB) Chart(ctx context.Context, f topk.Filter, w topk.Window, k int, now time.Time) (topk.Chart, error) {
	return topk.Chart{}, errors.New("stub")
}

// Songs gives the catalog's entries for the ids; unknown ids are left out.
func (db *DB) Songs(ctx context.Context, ids []string) (map[string]topk.Song, error) {
	return nil, errors.New("stub")
}

// UpsertSongs writes catalog entries; the last write of a SongID wins.
func (db *DB) UpsertSongs(ctx context.Context, songs []topk.Song) error { return errors.New("stub") }

// SongPlays counts one song's plays in each window at now.
func (db *DB) SongPlays(ctx context.Context, songID string, windows []topk.Window, now time.Time) ([]uint64, error) {
	return nil, errors.New("stub")
}
