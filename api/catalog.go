package api

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
	"golang.org/x/sync/singleflight"

	"github.com/topk-charts/topk"
)

// A catalog knows the songs that charts show, from ClickHouse, and remembers
// them for a while.
type catalog struct {
	queries Queries
	gate    *gate
	clock   topk.Clock
	limits  Limits
	metrics apiMetrics

	songs   *otter.Cache[string, catalogEntry]
	loading singleflight.Group
	// edition counts the changes made through this process: what was read
	// before a change must not be remembered after it.
	edition atomic.Uint64
	// retryAt, in Unix nanoseconds, is set while ClickHouse fails: until then
	// charts do without what is not remembered, instead of waiting each.
	retryAt atomic.Int64
}

// A catalogEntry is a song, or that there is none of the id.
type catalogEntry struct {
	song  topk.Song
	known bool
	until time.Time // past it the entry serves only while ClickHouse is away
}

// catalogRetry is how long a failed look-up is not repeated.
const catalogRetry = time.Second

func newCatalog(queries Queries, gate *gate, clock topk.Clock, limits Limits, metrics apiMetrics) (*catalog, error) {
	songs, err := otter.New(&otter.Options[string, catalogEntry]{MaximumSize: limits.CatalogSongs})
	if err != nil {
		return nil, fmt.Errorf("catalog: %w", err)
	}
	return &catalog{queries: queries, gate: gate, clock: clock, limits: limits, metrics: metrics, songs: songs}, nil
}

// find gives the songs of the ids; those that the catalog does not know are
// left out. With an error the songs are what is remembered, however old.
func (c *catalog) find(ctx context.Context, ids []string) (map[string]topk.Song, error) {
	now := c.clock()
	found := make(map[string]topk.Song, len(ids))
	var missing []string
	for _, id := range ids {
		entry, ok := c.songs.GetIfPresent(id)
		if ok && entry.known {
			found[id] = entry.song
		}
		if !ok || !now.Before(entry.until) {
			missing = append(missing, id)
		}
	}
	c.metrics.catalogHits.Add(float64(len(ids) - len(missing)))
	c.metrics.catalogMisses.Add(float64(len(missing)))
	if len(missing) == 0 {
		return found, nil
	}
	loaded, err := c.load(ctx, missing)
	if err != nil {
		return found, err
	}
	for _, id := range missing {
		song, known := loaded[id]
		if known {
			found[id] = song
		} else {
			delete(found, id)
		}
	}
	return found, nil
}

// load asks ClickHouse for all ids at once, one request for all who miss the
// same ones since the last change.
func (c *catalog) load(ctx context.Context, ids []string) (map[string]topk.Song, error) {
	if err := c.mayAsk(); err != nil {
		return nil, err
	}
	slices.Sort(ids)
	edition := c.edition.Load()
	key := strconv.FormatUint(edition, 10) + "\x00" + strings.Join(ids, "\x00")
	return shared(ctx, &c.loading, key, func(ctx context.Context) (map[string]topk.Song, error) {
		return c.ask(ctx, ids, edition)
	})
}

// mayAsk lets nobody ask while ClickHouse fails, except for one every
// catalogRetry.
func (c *catalog) mayAsk() error {
	retryAt := c.retryAt.Load()
	if retryAt == 0 {
		return nil
	}
	now := c.clock()
	if now.UnixNano() >= retryAt && c.retryAt.CompareAndSwap(retryAt, now.Add(catalogRetry).UnixNano()) {
		return nil
	}
	return fmt.Errorf("%w: the song catalog did not answer lately", topk.ErrUnavailable)
}

func (c *catalog) ask(ctx context.Context, ids []string, edition uint64) (songs map[string]topk.Song, err error) {
	c.metrics.catalogQueries.Inc()
	err = c.gate.pass(ctx, func(ctx context.Context) error {
		songs, err = c.queries.Songs(ctx, ids)
		return err
	})
	if err != nil {
		c.retryAt.Store(c.clock().Add(catalogRetry).UnixNano())
		return nil, fmt.Errorf("song catalog: %w", err)
	}
	c.retryAt.Store(0)
	c.remember(ids, songs, edition)
	return songs, nil
}

func (c *catalog) remember(ids []string, songs map[string]topk.Song, edition uint64) {
	now := c.clock()
	for _, id := range ids {
		song, known := songs[id]
		entry := catalogEntry{song: song, known: known, until: now.Add(c.limits.CatalogUnknownFor)}
		if known {
			entry.until = now.Add(c.limits.CatalogFor)
		}
		// Within Compute, so that forget comes either before or after, and its
		// change of the edition is seen or its removal follows.
		c.songs.Compute(id, func(catalogEntry, bool) (catalogEntry, otter.ComputeOp) {
			if c.edition.Load() != edition {
				return catalogEntry{}, otter.CancelOp
			}
			return entry, otter.WriteOp
		})
	}
}

// forget makes the next look-ups of the songs ask again.
func (c *catalog) forget(songs []topk.Song) {
	c.edition.Add(1)
	for _, song := range songs {
		c.songs.Invalidate(song.SongID)
	}
}
