package topn

import (
	"cmp"
	"slices"
)

// Published is what was last published of one chart, 8 bytes an entry. The
// zero Published knows of nothing.
type Published struct {
	entries []entry // in chart order; nil when nothing is known
}

// Known says whether it is known what is published. Otherwise what is there
// has to be replaced as a whole, by what Diff then gives.
func (p *Published) Known() bool { return p.entries != nil }

// Diff gives what to change for top, the first songs of the chart in chart
// order, to be published: the songs to remove, and those to set to their new
// plays. When nothing is known to be published all of top is to be set.
func (p *Published) Diff(top []Count) (removed []Song, set []Count) {
	if !p.Known() {
		return nil, top
	}
	// Most of a chart stays as it is, often in its place.
	before, after := p.entries, top
	for len(before) > 0 && len(after) > 0 && before[0].count() == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1].count() == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	if len(before) == 0 {
		return nil, after
	}
	before, after = slices.Clone(before), slices.Clone(after)
	slices.SortFunc(before, func(a, b entry) int { return cmp.Compare(a.song(), b.song()) })
	slices.SortFunc(after, func(a, b Count) int { return cmp.Compare(a.Song, b.Song) })
	for _, now := range after {
		for len(before) > 0 && before[0].song() < now.Song {
			removed = append(removed, before[0].song())
			before = before[1:]
		}
		if len(before) > 0 && before[0].song() == now.Song {
			if before[0].count() != now {
				set = append(set, now)
			}
			before = before[1:]
			continue
		}
		set = append(set, now)
	}
	for _, e := range before {
		removed = append(removed, e.song())
	}
	return removed, set
}

// Set says that top is now what is published.
func (p *Published) Set(top []Count) {
	if p.entries == nil || cap(p.entries) < len(top) {
		p.entries = make([]entry, 0, len(top))
	}
	p.entries = p.entries[:0]
	for _, c := range top {
		p.entries = append(p.entries, pack(c.Song, c.Plays))
	}
}

// Forget says that it is not known any more what is published.
func (p *Published) Forget() { p.entries = nil }
