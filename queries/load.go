package queries

import (
	"context"
	"fmt"
	"math/big"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/uuid"

	"github.com/topk-charts/topk"
)

// A Load brings rows of files into the catalog or the users' segments, all of
// them or none: they are staged, and then written at once. It is not safe for
// concurrent use; several Loads are.
type Load struct {
	db     *DB
	id     uuid.UUID
	choice loadChoice
	rows   uint64
}

// loadChoice picks the clauses of the statements.
type loadChoice struct{ Users, Replace bool }

// Table is the one that is written.
func (c loadChoice) Table() string {
	if c.Users {
		return segmentsTable
	}
	return songsTable
}

const (
	songsTable    = "songs"
	segmentsTable = "user_segments"
)

// LoadSongs begins a load of songs. With replace, songs that it does not stage
// are deleted.
func (db *DB) LoadSongs(replace bool) *Load {
	return &Load{db: db, id: uuid.New(), choice: loadChoice{Replace: replace}}
}

// LoadSegments begins a load of users' segments; replace as LoadSongs.
func (db *DB) LoadSegments(replace bool) *Load {
	return &Load{db: db, id: uuid.New(), choice: loadChoice{Users: true, Replace: replace}}
}

// StageSongs adds songs; of several with one SongID the last counts. One without
// a title is deleted.
func (l *Load) StageSongs(ctx context.Context, songs []topk.Song) error {
	return l.stage(ctx, "INSERT INTO songs_loading (load, row, songId, title, artistId, artist, genres, durationMs)", len(songs), func(i int) []any {
		s := songs[i]
		return []any{s.SongID, s.Title, s.ArtistID, s.Artist, s.Genres, s.DurationMS}
	})
}

// StageSegments adds users; of several with one hash the last counts. One without
// segments is deleted.
func (l *Load) StageSegments(ctx context.Context, users []UserSegments) error {
	keys := make([]*big.Int, len(users))
	for i, u := range users {
		key, err := UserKey(u.UserHash)
		if err != nil {
			return fmt.Errorf("user %d: %w", i, err)
		}
		keys[i] = key
	}
	return l.stage(ctx, "INSERT INTO user_segments_loading (load, row, user, segments)", len(users), func(i int) []any {
		return []any{keys[i], users[i].Segments}
	})
}

func (l *Load) stage(ctx context.Context, sql string, n int, row func(i int) []any) error {
	err := l.db.insert(ctx, sql, n, func(i int) []any { return append([]any{l.id, l.rows + uint64(i)}, row(i)...) })
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	l.rows += uint64(n)
	return nil
}

// Changes are what a Load changes.
type Changes struct {
	Written uint64 // entries that are new or other
	Deleted uint64
	Present uint64 // entries there were before
}

// Changes tells what Write would do.
func (l *Load) Changes(ctx context.Context) (c Changes, err error) {
	sql, err := statements.Render("load_count.sql", l.choice)
	if err != nil {
		return c, err
	}
	err = l.db.scan(ctx, sql, l.args(), func(rows driver.Rows) error { return rows.Scan(&c.Written, &c.Deleted, &c.Present) })
	if err != nil {
		return c, fmt.Errorf("changes of a load: %w", err)
	}
	return c, nil
}

// Write writes what was staged. Charts follow within seconds.
func (l *Load) Write(ctx context.Context) error { return l.exec(ctx, "load_write.sql") }

// Forget drops what was staged.
func (l *Load) Forget(ctx context.Context) error { return l.exec(ctx, "load_forget.sql") }

func (l *Load) exec(ctx context.Context, name string) error {
	sql, err := statements.Render(name, l.choice)
	if err != nil {
		return err
	}
	if err := l.db.conn.Exec(ctx, sql, l.args()...); err != nil {
		return fmt.Errorf("%s: %w", name, classify(err))
	}
	return nil
}

func (l *Load) args() []any { return []any{clickhouse.Named("load", l.id.String())} }
