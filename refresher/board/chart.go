package board

import (
	"iter"
	"math"
	"slices"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

type kind uint8

const (
	sparse kind = iota // candidates and bounds of its own
	genre              // read off the dense counts, all genres at once
	read               // read off the dense counts by itself: only songs' genres and artists matter
)

// A Chart is one filter's chart in the board's window.
type Chart struct {
	Filter topk.Filter

	kind   kind
	small  bool        // a city's or one on demand: it can wait a little longer
	counts *topn.Chart // of a sparse chart
	songs  []topn.Song // of a chart that is read: those that it may hold; nil: to be found again
	best   []topn.Count
	total  uint64 // of a chart that is read

	values  []Value     // of a chart on demand: all of them must be the play's
	places  []topk.Term // the same
	ofSongs bool        // its filter asks the catalog
	askedAt time.Time   // of a chart on demand: last
	dropped bool        // it is not kept any more

	trusted   bool // the bounds hold; always so for charts that are not sparse
	unsettled bool // plays came or left since the bounds were checked
	stirred   bool // the same, since it was published
	turn      int  // of its counts by SQL, the one that matters

	published topn.Published
	shown     uint64      // the version of counts that it is of
	version   uint64      // that Redis took last; 0: it must be sent in full
	at        time.Time   // when it was published; zero: at once
	ranks     []topn.Song // at ranksAt, before the last boundary
	ranksAt   time.Time
	ranksSent bool
}

// newChart makes a chart that had no plays in the window so far.
func (b *Board) newChart(f topk.Filter, kind kind) *Chart {
	c := &Chart{Filter: f, kind: kind, small: !f.Eager() || f.Terms()[0].City(), trusted: true, stirred: true}
	if kind == sparse {
		c.count(topn.NewChart(b.Songs, b.Limits))
	}
	return c
}

// count makes the chart count with other counts.
func (c *Chart) count(counts *topn.Chart) {
	c.counts, c.shown = counts, notShown
}

// notShown is no version of any counts.
const notShown = math.MaxUint64

func (c *Chart) add(s topn.Song) {
	c.counts.Add(s)
	c.unsettled, c.stirred = true, true
}

func (c *Chart) expire(s topn.Song) {
	c.counts.Expire(s)
	c.unsettled, c.stirred = true, true
}

// asksCatalog reports whether songs' genres or artists decide what is counted.
func asksCatalog(f topk.Filter) bool {
	return slices.ContainsFunc(f.Terms(), func(t topk.Term) bool { return t.Dim.OfSong() })
}

// onlySongs reports whether nothing else does.
func onlySongs(f topk.Filter) bool {
	return !slices.ContainsFunc(f.Terms(), func(t topk.Term) bool { return !t.Dim.OfSong() })
}

// All gives every chart of the board.
func (b *Board) All() iter.Seq[*Chart] {
	return func(yield func(*Chart) bool) {
		if !yield(b.whole) {
			return
		}
		for _, c := range b.eager {
			if c != nil && !yield(c) {
				return
			}
		}
		for _, charts := range []map[string]*Chart{b.genres, b.asked} {
			for _, c := range charts {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// Find gives the chart of a filter; nil when the board does not keep it.
func (b *Board) Find(f topk.Filter) *Chart {
	name := f.String()
	if c := b.asked[name]; c != nil {
		return c
	}
	if c := b.genres[name]; c != nil {
		return c
	}
	terms := f.Terms()
	if len(terms) > 1 {
		return nil
	}
	if terms[0].Dim == topk.DimGlobal {
		return b.whole
	}
	if v, ok := b.Values.find(terms[0]); ok && int(v) < len(b.eager) {
		return b.eager[v]
	}
	return nil
}

// top gives the chart's first entries and the plays of all its songs.
func (b *Board) top(c *Chart) ([]topn.Count, uint64) {
	switch c.kind {
	case genre: // as of genresAt
		return c.best, c.total
	case read:
		b.readSongs(c)
		return c.best, c.total
	default:
		return c.counts.Top(), c.counts.Total()
	}
}

// readSongs reads one chart off the dense counts.
func (b *Board) readSongs(c *Chart) {
	if c.songs == nil {
		c.songs = b.Catalog.songsOf(c.Filter)
	}
	ranking := topn.NewRanking(b.Songs, b.Limits.N)
	c.total = 0
	for _, song := range c.songs {
		if plays := b.global.Count(song); plays > 0 {
			ranking.Offer(song, plays)
			c.total += plays
		}
	}
	c.best = ranking.Sorted()
}

// readGenres reads the charts of all genres off the dense counts, in one pass.
func (b *Board) readGenres() {
	b.genresAt = b.asOf
	rankings := b.Catalog.rank(b.global, b.Songs, b.Limits.N)
	for name, r := range rankings {
		c := b.genres[name]
		if c == nil {
			c = b.newChart(r.filter, genre)
			b.genres[name] = c
		}
		c.stirred = c.stirred || c.total != r.total
		c.best, c.total = r.Sorted(), r.total
	}
}
