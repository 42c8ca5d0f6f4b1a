package topn

import "slices"

// A Ranking collects the n best of the songs that it is offered, in chart
// order. Not for concurrent use.
type Ranking struct {
	songs *Songs
	n     int
	// least is how many plays it takes to be considered: 1 until there are n
	// songs, then what the last of them has.
	least uint64
	heap  []entry // the last in chart order on top
}

// NewRanking makes an empty ranking of at most n songs, n at least 1.
func NewRanking(songs *Songs, n int) *Ranking {
	return &Ranking{songs: songs, n: n, least: 1}
}

// Reset empties the ranking.
func (r *Ranking) Reset() { r.heap, r.least = r.heap[:0], 1 }

// Offer considers a song, which must not be offered twice. Without plays it is
// on no chart. Refusing a song is one comparison.
func (r *Ranking) Offer(song Song, plays uint64) {
	if plays >= r.least {
		r.consider(pack(song, plays))
	}
}

func (r *Ranking) consider(e entry) {
	if len(r.heap) < r.n {
		r.heap = append(r.heap, e)
		r.up(len(r.heap) - 1)
	} else if r.songs.compare(e, r.heap[0]) < 0 {
		r.heap[0] = e
		r.down(0)
	}
	if len(r.heap) == r.n {
		r.least = r.heap[0].plays()
	}
}

// Own heap code because container/heap calls an interface for each comparison.
func (r *Ranking) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if r.songs.compare(r.heap[i], r.heap[parent]) <= 0 {
			return
		}
		r.heap[i], r.heap[parent] = r.heap[parent], r.heap[i]
		i = parent
	}
}

func (r *Ranking) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(r.heap) {
			return
		}
		if child+1 < len(r.heap) && r.songs.compare(r.heap[child+1], r.heap[child]) > 0 {
			child++
		}
		if r.songs.compare(r.heap[child], r.heap[i]) <= 0 {
			return
		}
		r.heap[i], r.heap[child] = r.heap[child], r.heap[i]
		i = child
	}
}

// Sorted gives the best songs in chart order. The slice is the caller's.
func (r *Ranking) Sorted() []Count {
	return counts(r.sorted(nil))
}

// sorted puts the best entries, in chart order, in place of dst.
func (r *Ranking) sorted(dst []entry) []entry {
	dst = append(dst[:0], r.heap...)
	slices.SortFunc(dst, r.songs.compare)
	return dst
}

func counts(entries []entry) []Count {
	out := make([]Count, len(entries))
	for i, e := range entries {
		out[i] = e.count()
	}
	return out
}
