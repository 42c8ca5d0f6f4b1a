package topn

import (
	"math/bits"
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

// Len is how many entries are published.
func (p *Published) Len() int { return len(p.entries) }

// Diff gives what to change for top, the first songs of the chart in chart
// order, to be published: the songs to remove, and those to set to their new
// plays. When nothing is known to be published all of top is to be set.
func (p *Published) Diff(top []Count) (removed []Song, set []Count) {
	if !p.Known() {
		return nil, top
	}
	// Both are in chart order, and most of a chart stays as it is: only what is
	// not met on the way through both is looked at by song.
	var old, now []entry
	i, j := 0, 0
	for i < len(p.entries) && j < len(top) {
		before, after := p.entries[i], top[j]
		switch {
		case before.plays() > after.Plays:
			old, i = append(old, before), i+1
		case before.plays() < after.Plays:
			now, j = append(now, pack(after.Song, after.Plays)), j+1
		default:
			if before.song() != after.Song { // a tie: which comes first does not matter here
				old, now = append(old, before), append(now, pack(after.Song, after.Plays))
			}
			i, j = i+1, j+1
		}
	}
	old, now = append(old, p.entries[i:]...), packed(now, top[j:])
	sortBySong(old)
	sortBySong(now)
	set = make([]Count, 0, len(now)) // at most
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(now) == 0 || len(old) > 0 && old[0].song() < now[0].song():
			removed = append(removed, old[0].song())
			old = old[1:]
		case len(old) == 0 || now[0].song() < old[0].song():
			set = append(set, now[0].count())
			now = now[1:]
		default:
			if now[0] != old[0] {
				set = append(set, now[0].count())
			}
			old, now = old[1:], now[1:]
		}
	}
	return removed, set
}

// Set says that top is now what is published.
func (p *Published) Set(top []Count) {
	if p.entries == nil || cap(p.entries) < len(top) {
		p.entries = make([]entry, 0, len(top))
	}
	p.entries = packed(p.entries[:0], top)
}

// Forget says that it is not known any more what is published.
func (p *Published) Forget() { p.entries = nil }

func packed(dst []entry, counts []Count) []entry {
	for _, c := range counts {
		dst = append(dst, pack(c.Song, c.Plays))
	}
	return dst
}

// sortBySong sorts plain numbers, with the song turned to the upper bits: a
// fifth of the time that it takes to call a comparison by song.
func sortBySong(entries []entry) {
	for i, e := range entries {
		entries[i] = entry(bits.RotateLeft64(uint64(e), -songBits))
	}
	slices.Sort(entries)
	for i, e := range entries {
		entries[i] = entry(bits.RotateLeft64(uint64(e), songBits))
	}
}
