package refresher

import (
	"context"
	"fmt"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/board"
)

const (
	// catalogEvery is how often corrections of the catalog are looked for.
	catalogEvery = time.Second
	// catalogOverlap is how long a write to the catalog may take: one that began
	// earlier may appear later.
	catalogOverlap = 5 * time.Second
)

// readCatalog takes what changed in the catalog since then, and gives the time
// of the last change.
func (r *Refresher) readCatalog(ctx context.Context, since time.Time) (last time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	last = since
	var tags []board.Tag
	err = r.DB.CatalogSince(ctx, since, func(song topk.Song, updatedAt time.Time) error {
		id, err := r.songs.Intern(song.SongID)
		if err != nil {
			return err
		}
		tags = append(tags, board.Tag{Song: id, Artist: song.ArtistID, Genres: song.Genres})
		if updatedAt.After(last) {
			last = updatedAt
		}
		return nil
	})
	if err != nil {
		return since, fmt.Errorf("read the catalog: %w", err)
	}
	r.catalog.Put(tags)
	return last, nil
}

// followCatalog follows the catalog's corrections from the time of the last one.
func (r *Refresher) followCatalog(ctx context.Context, last time.Time) error {
	for {
		pause(ctx, catalogEvery)
		if ctx.Err() != nil {
			return nil
		}
		read, err := r.readCatalog(ctx, last.Add(-catalogOverlap))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.metrics.failures.WithLabelValues("catalog").Inc()
			r.Log.WarnContext(ctx, "charts do not follow the catalog; trying again", "error", err)
		case read.After(last):
			last = read
		}
	}
}
