package board

import (
	"slices"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// How often a chart is published. All are well below the 5 s of staleness that
// users are promised.
const (
	// eachSecond is the pace of the charts that all look at, in the middle
	// windows; in the short ones they are published at every step.
	eachSecond = time.Second
	// eachFew is that of small charts in the short windows, and of large ones in
	// the long windows.
	eachFew = 2 * time.Second
	// eachLong is that of small charts in the long windows.
	eachLong = 3 * time.Second
	// reaffirm is how often a chart that did not change is published as of now.
	reaffirm = 4 * time.Second
	// smallAtOnce is how many small charts are published in one step, those that
	// have waited longest: when there is too much to do, the large ones go on.
	smallAtOnce = 600
)

// every is the pace at which a chart that changes is published.
func (b *Board) every(c *Chart) time.Duration {
	short := b.window == topk.LastHour || b.window == topk.Today
	switch {
	case c.small && (short || b.window == topk.Last24h):
		return eachFew
	case c.small:
		return eachLong
	case c.kind == genre:
		return b.everyGenre()
	case short:
		return 0
	case b.window == topk.Last24h:
		return eachSecond
	default:
		return eachFew
	}
}

// everyGenre is the pace at which the charts of genres are read, which takes a
// look at every song.
func (b *Board) everyGenre() time.Duration {
	if b.window == topk.LastHour || b.window == topk.Today || b.window == topk.Last24h {
		return eachFew
	}
	return eachLong
}

// A Publication is what a chart is now, as a difference to what was published.
type Publication struct {
	Chart   *Chart
	AsOf    time.Time
	Size    int
	Total   uint64
	Base    uint64 // the version of which Removed and Set are the difference; 0: Set is the whole chart
	Removed []topn.Song
	Set     []topn.Count
	// Ranks are the songs of the chart as it stood at RanksAt, before the last
	// boundary; zero unless they are to be published too.
	Ranks   []topn.Song
	RanksAt time.Time
	// Since is when the chart was published before, if it has changed since
	// then: plays may have waited as long as that. Zero otherwise.
	Since time.Time

	top  []topn.Count
	same bool // as what was published: there is no top
}

// Due gives the charts that are to be published now, the large ones first.
func (b *Board) Due() []Publication {
	if b.loading != nil {
		return nil
	}
	if b.asOf.Sub(b.genresAt) >= b.everyGenre() {
		b.readGenres()
	}
	var due []Publication
	var small []*Chart
	for c := range b.All() {
		since := b.asOf.Sub(c.at)
		switch {
		case !c.trusted || since < reaffirm && (!c.stirred || since < b.every(c)) || c.kind == genre && b.genresAt != b.asOf:
		case c.small:
			small = append(small, c)
		default:
			due = append(due, b.publication(c))
		}
	}
	if len(small) > smallAtOnce {
		slices.SortFunc(small, func(a, b *Chart) int { return a.at.Compare(b.at) })
		small = small[:smallAtOnce]
	}
	for _, c := range small {
		due = append(due, b.publication(c))
	}
	return due
}

func (b *Board) publication(c *Chart) Publication {
	p := Publication{Chart: c, AsOf: b.asOf, Base: c.version}
	if c.stirred {
		p.Since = c.at
	}
	if !c.ranksSent && !c.ranksAt.IsZero() {
		p.Ranks, p.RanksAt = c.ranks, c.ranksAt
	}
	if c.kind == sparse && c.version != 0 && c.shown == c.counts.Version() {
		p.Size, p.Total, p.same = c.published.Len(), c.counts.Total(), true
		return p
	}
	p.top, p.Total = b.top(c)
	p.Size = len(p.top)
	p.Removed, p.Set = c.published.Diff(p.top)
	return p
}

// Published says that Redis took a publication. The chart has not been changed
// since Due.
func (b *Board) Published(p *Publication) {
	c := p.Chart
	c.version, c.at, c.stirred = uint64(p.AsOf.UnixMilli()), p.AsOf, false
	if !p.same {
		c.published.Set(p.top)
	}
	if c.kind == sparse {
		c.shown = c.counts.Version()
	}
	if !p.RanksAt.IsZero() {
		c.ranksSent = true
	}
}

// Refused says that Redis does not hold what the publication was a difference
// to: the chart is due at once, in full, and its ranks with it.
func (b *Board) Refused(p *Publication) {
	b.Overtaken(p)
	p.Chart.at = time.Time{}
}

// Overtaken says that Redis holds a newer version, of another refresher. The
// chart's turn comes again as if it had been published.
func (b *Board) Overtaken(p *Publication) {
	c := p.Chart
	c.version, c.at, c.ranksSent = 0, p.AsOf, false
	c.published.Forget()
}

// rememberRanks keeps the charts as they stand, when a new period begins.
func (b *Board) rememberRanks() {
	b.readGenres()
	for c := range b.All() {
		if !c.trusted {
			c.ranks, c.ranksAt, c.ranksSent = nil, time.Time{}, false
			continue
		}
		top, _ := b.top(c)
		c.ranks = slices.Grow(c.ranks[:0], len(top))
		for _, e := range top {
			c.ranks = append(c.ranks, e.Song)
		}
		c.ranksAt, c.ranksSent = b.asOf, false
	}
}
