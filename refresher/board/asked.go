package board

import (
	"slices"
	"time"

	"github.com/topk-charts/topk"
)

// Ask has the board keep a chart that is not kept for everybody: of a playlist,
// an album or an artist, or of several terms. A new one is counted by SQL first.
// It is kept until nobody has asked for it for some time, or others are asked
// for instead: dropped is the chart that made room.
func (b *Board) Ask(f topk.Filter, now time.Time) (dropped *Chart) {
	if b.loading != nil {
		return nil
	}
	if c := b.asked[f.String()]; c != nil {
		c.askedAt = now
		return nil
	}
	if f.Eager() {
		return nil
	}
	kind := sparse
	if onlySongs(f) {
		kind = read
	}
	c := b.newChart(f, kind)
	c.askedAt, c.ofSongs, c.trusted = now, asksCatalog(f), kind == read
	if kind == sparse && !b.place(c) {
		return nil
	}
	if len(b.asked) >= b.MaxAsked {
		for _, other := range b.asked {
			if dropped == nil || other.askedAt.Before(dropped.askedAt) {
				dropped = other
			}
		}
		b.drop(dropped)
	}
	b.asked[f.String()] = c
	if c.kind == sparse {
		b.suspect = append(b.suspect, c)
	}
	return dropped
}

// place finds where the chart's plays pass by. ok is false when there is no such
// place: a term is of a value for which there is no room.
func (b *Board) place(c *Chart) (ok bool) {
	var places []topk.Term
	for _, t := range c.Filter.Terms() {
		switch {
		case t.Dim == topk.DimPlaylist || t.Dim == topk.DimAlbum:
			places = append(places, t)
		case !t.Dim.OfSong():
			v, ok := b.Values.Of(t)
			if !ok {
				return false
			}
			c.values = append(c.values, v)
		}
	}
	c.places = places
	if len(places) > 0 {
		b.places[places[0]] = append(b.places[places[0]], c)
	} else {
		b.crosses[c.values[0]] = append(b.crosses[c.values[0]], c)
	}
	return true
}

// counts reports whether the chart counts the play.
func (b *Board) counts(c *Chart, p *Play) bool {
	if c == b.whole {
		return true
	}
	if len(c.values) == 0 && len(c.places) == 0 { // an eager chart
		v, ok := b.Values.find(c.Filter.Terms()[0])
		return ok && slices.Contains(p.Values, v)
	}
	return b.matches(c, p)
}

// matches reports whether a chart on demand counts the play.
func (b *Board) matches(c *Chart, p *Play) bool {
	for _, v := range c.values {
		if !slices.Contains(p.Values, v) {
			return false
		}
	}
	for _, t := range c.places {
		if t != p.Place {
			return false
		}
	}
	return !c.ofSongs || b.Catalog.Matches(p.Song, c.Filter)
}

func (b *Board) drop(c *Chart) {
	c.dropped = true
	delete(b.asked, c.Filter.String())
	same := func(other *Chart) bool { return other == c }
	if len(c.places) > 0 {
		at := c.places[0]
		if b.places[at] = slices.DeleteFunc(b.places[at], same); len(b.places[at]) == 0 {
			delete(b.places, at)
		}
	} else if len(c.values) > 0 {
		at := c.values[0]
		if b.crosses[at] = slices.DeleteFunc(b.crosses[at], same); len(b.crosses[at]) == 0 {
			delete(b.crosses, at)
		}
	}
}

// Idle drops the charts that nobody has asked for of late.
func (b *Board) Idle(now time.Time) (dropped []*Chart) {
	for _, c := range b.asked {
		if now.Sub(c.askedAt) > b.IdleAfter {
			b.drop(c)
			dropped = append(dropped, c)
		}
	}
	return dropped
}
