package queries

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// Songs gives the catalog's entries for the ids; unknown ids are left out.
func (db *DB) Songs(ctx context.Context, ids []string) (map[string]topk.Song, error) {
	sql, err := statements.Render("songs.sql", nil)
	if err != nil {
		return nil, err
	}
	songs := make(map[string]topk.Song, len(ids))
	err = db.scan(ctx, sql, []any{clickhouse.Named("ids", ids)}, func(rows driver.Rows) error {
		var s topk.Song
		if err := rows.Scan(&s.SongID, &s.Title, &s.ArtistID, &s.Artist, &s.Genres, &s.DurationMS); err != nil {
			return err
		}
		songs[s.SongID] = s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("songs: %w", err)
	}
	return songs, nil
}

// songsOf gives the songs whose artist is every one of the ids: an artist's
// songs for one id, none for several.
func (db *DB) songsOf(ctx context.Context, artistIDs []string) ([]string, error) {
	sql, err := statements.Render("artist_songs.sql", nil)
	if err != nil {
		return nil, err
	}
	songs := []string{}
	err = db.scan(ctx, sql, []any{clickhouse.Named("artists", artistIDs)}, func(rows driver.Rows) error {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		songs = append(songs, id)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("songs of artist %v: %w", artistIDs, err)
	}
	return songs, nil
}

// UpsertSongs writes catalog entries; the last write of a SongID wins.
func (db *DB) UpsertSongs(ctx context.Context, songs []topk.Song) error {
	err := db.insert(ctx, "INSERT INTO songs (songId, title, artistId, artist, genres, durationMs)", len(songs),
		func(i int) []any {
			s := songs[i]
			return []any{s.SongID, s.Title, s.ArtistID, s.Artist, s.Genres, s.DurationMS}
		})
	if err != nil {
		return fmt.Errorf("upsert songs: %w", err)
	}
	return nil
}

// insert writes n rows as one block.
func (db *DB) insert(ctx context.Context, sql string, n int, row func(i int) []any) error {
	if n == 0 {
		return nil
	}
	batch, err := db.conn.PrepareBatch(ctx, sql, driver.WithCloseOnFlush())
	if err != nil {
		return classify(err)
	}
	defer batch.Close()
	for i := range n {
		if err := batch.Append(row(i)...); err != nil {
			return fmt.Errorf("row %d: %w", i, err)
		}
	}
	return classify(batch.Send())
}

// UserSegments are the segments of one user, whose id is hashed already (see
// topk.HashUser).
type UserSegments struct {
	UserHash string
	Segments []string
}

// UserKey gives plays.user for a user hash: its first 16 bytes as
// reinterpretAsUInt128 reads them, least significant byte first.
func UserKey(hash string) (*big.Int, error) {
	b, err := hex.DecodeString(hash)
	if err != nil || len(b) != sha256.Size {
		return nil, fmt.Errorf("%q is not a user hash of %d hex digits", hash, 2*sha256.Size)
	}
	b = b[:16]
	slices.Reverse(b)
	return new(big.Int).SetBytes(b), nil
}
