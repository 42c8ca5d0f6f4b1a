package queries

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// Artist gives what the catalog knows of an artist, named as by the song that
// was written last. ErrNotFound when it has no song of the artist.
func (db *DB) Artist(ctx context.Context, artistID string) (topk.Artist, error) {
	sql, err := statements.Render("artist.sql", nil)
	if err != nil {
		return topk.Artist{}, err
	}
	found := topk.Artist{ArtistID: artistID}
	var songs uint64
	err = db.scan(ctx, sql, []any{clickhouse.Named("artist", artistID)}, func(rows driver.Rows) error {
		return rows.Scan(&found.Name, &found.Genres, &songs)
	})
	if err != nil {
		return topk.Artist{}, fmt.Errorf("artist %s: %w", artistID, err)
	}
	if found.Songs = int(songs); found.Songs == 0 {
		return topk.Artist{}, fmt.Errorf("%w: no song of artist %s", topk.ErrNotFound, artistID)
	}
	return found, nil
}
