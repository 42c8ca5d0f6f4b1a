package refresher

import (
	"context"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/board"
)

const (
	// catalogEvery is how often corrections of the catalog are looked for.
	catalogEvery = time.Second
	// catalogOverlap is how long a write to the catalog may take: one that began
	// earlier may appear later.
	catalogOverlap = 10 * time.Second
)

// readCatalog takes what was written to the catalog within a time; 0 for all of
// it.
func (r *Refresher) readCatalog(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	var tags []board.Tag
	err := r.DB.Catalog(ctx, within, func(song topk.Song) error {
		id, err := r.songs.Intern(song.SongID)
		tags = append(tags, board.Tag{Song: id, Artist: song.ArtistID, Genres: song.Genres})
		return err
	})
	if err != nil {
		return err
	}
	r.catalog.Put(tags)
	return nil
}

// followCatalog follows the catalog's corrections since it was read.
func (r *Refresher) followCatalog(ctx context.Context, read time.Time) error {
	for {
		pause(ctx, catalogEvery)
		now := r.Clock()
		err := r.readCatalog(ctx, now.Sub(read)+catalogOverlap)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			r.metrics.failures.WithLabelValues("catalog").Inc()
			r.Log.WarnContext(ctx, "charts do not follow the catalog; trying again", "error", err)
		default:
			read = now
		}
	}
}
