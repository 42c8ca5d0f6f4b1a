package topn

import (
	"slices"
	"sort"
	"unsafe"
)

// Limits bound one chart.
type Limits struct {
	N          int // songs that Top gives; at least 1
	Candidates int // least candidates of a chart that is not complete; at least N
	Complete   int // most candidates; at least Candidates
	Pending    int // songs with pending plays above which the floor is raised; at least 1
}

// DefaultLimits are those of the charts that are published. Simulated at
// 100 million plays a day of songs with k^-0.8 of the first one's plays, the
// hardest of the three exponents tried, against 20,000 and 4,000: doubling
// Complete halves the rebases of charts that are just too large to be complete,
// for a third more memory; four times the Pending leaves a sixth of those of
// large charts of an hour, whose floors creep up.
func DefaultLimits() Limits {
	return Limits{N: 200, Candidates: 400, Complete: 40_000, Pending: 16_000}
}

// AnySong in a floor stands for an id above all others: songs that are not
// candidates have at most the floor's plays, whatever their ids.
const AnySong Song = MaxSongs

// A Chart keeps the exact first N songs of one chart. See the package comment
// for how. Not for concurrent use.
type Chart struct {
	songs  *Songs
	limits Limits

	total      uint64
	candidates table
	floor      Count  // zero: the chart is complete
	pending    table  // plays of other songs since the floor was set
	peak       uint64 // no song has more pending; too high after Expire

	// The best candidates in chart order, at least N of them (or all there are)
	// and some more, so that Top need not look at all candidates when one of
	// the first N falls. No candidate outside head is above its last.
	head    []entry
	version uint64 // of the first N of head

	loaded       bool // rows were put since the last Settle
	inconsistent uint64
}

// NewChart makes a chart without plays, which is complete.
func NewChart(songs *Songs, limits Limits) *Chart {
	return &Chart{songs: songs, limits: limits}
}

// Reset begins a rebase: the chart is forgotten, to be filled by Put with the
// best songs of its window, which holds total plays of all songs. No song that
// is not Put is above the floor, in chart order; AnySong as the floor's song
// says that none has more plays, whatever its id. The zero floor says that all
// songs with plays are Put.
func (c *Chart) Reset(floor Count, total uint64) {
	*c = Chart{songs: c.songs, limits: c.limits, floor: floor, total: total, loaded: true, version: c.version + 1}
}

// Put adds a song and its plays after Reset and before the first Add or
// Expire, in any order. When more are put than are kept, the least of them are
// dropped and the floor rises.
func (c *Chart) Put(song Song, plays uint64) {
	e := pack(song, plays)
	if plays == 0 || !c.above(e, c.floor) {
		return
	}
	c.candidates.set(e)
	c.head, c.loaded = nil, true
	// A quarter more than is kept makes cutting rare.
	if c.candidates.n > c.limits.Complete+c.limits.Complete/4+1 {
		c.keep(func([]entry) int { return c.limits.Complete })
	}
}

// Bound ends the rows of a rebase of which more is known only after them: a
// song that was not put has at most so many plays, 0 when there is none, and
// the window holds total plays of all songs. The rebase began with a zero floor.
func (c *Chart) Bound(plays, total uint64) {
	c.total = total
	if plays <= c.floor.Plays {
		return // so many rows came that the least were dropped
	}
	floor := Count{AnySong, plays}
	c.keep(func(ranked []entry) int {
		return sort.Search(len(ranked), func(i int) bool { return !c.above(ranked[i], floor) })
	})
	c.floor, c.head, c.loaded = floor, nil, true
}

// Add counts a play that entered the window.
func (c *Chart) Add(song Song) {
	c.total++
	if c.complete() {
		plays := c.candidates.add(song)
		if c.candidates.n > c.limits.Complete {
			c.trim()
			return
		}
		c.rose(pack(song, plays))
		return
	}
	if plays := c.candidates.addKnown(song); plays > 0 {
		c.rose(pack(song, plays))
		return
	}
	c.peak = max(c.peak, c.pending.add(song))
	if c.pending.n > c.limits.Pending {
		c.raiseFloor()
	}
}

// Expire takes a play away that left the window, after it was added or put. A
// play that the chart knows not to hold proves the chart wrong: Settle is then
// false until it is rebased.
func (c *Chart) Expire(song Song) {
	if c.total == 0 {
		c.inconsistent++
		return
	}
	c.total--
	if plays, found := c.candidates.remove(song); found {
		c.fell(pack(song, plays))
		return
	}
	if c.complete() {
		c.inconsistent++
		return
	}
	c.pending.remove(song) // nothing pending: the song is farther below the floor
}

// Total is the exact number of plays in the window, of all songs.
func (c *Chart) Total() uint64 { return c.total }

func (c *Chart) complete() bool { return c.floor.Plays == 0 }

// Settle makes the chart ready for Top, after any number of changes. False
// says that the chart cannot vouch for its first N and must be rebased; Top
// must not be asked then.
func (c *Chart) Settle() bool {
	if c.inconsistent > 0 {
		return false
	}
	if c.loaded {
		c.loaded = false
		if !c.complete() || c.candidates.n > c.limits.Complete {
			c.trim()
		}
	}
	if len(c.head) < min(c.limits.N, c.candidates.n) {
		c.fillHead()
	}
	return c.complete() || len(c.head) >= c.limits.N && !c.surpasses(c.head[c.limits.N-1])
}

// Top gives the first N songs in chart order, or all when there are fewer. The
// last Settle was true and nothing changed since. The slice is the caller's.
func (c *Chart) Top() []Count {
	return counts(c.head[:min(c.limits.N, len(c.head))])
}

// Version changes whenever Top may give something else than before. It counts
// from the chart's making.
func (c *Chart) Version() uint64 { return c.version }

// above says whether an entry is above a key in chart order.
func (c *Chart) above(e entry, key Count) bool {
	if e.plays() != key.Plays {
		return e.plays() > key.Plays
	}
	return key.Song != AnySong && c.songs.compareIDs(e.song(), key.Song) > 0
}

// surpasses says whether the bound of a song that is no candidate exceeds the
// candidate last.
func (c *Chart) surpasses(last entry) bool {
	if c.floor != last.count() && !c.above(last, c.floor) {
		return true
	}
	if c.floor.Plays+c.peak < last.plays() {
		return false
	}
	surpassed := false
	c.peak = 0
	for _, e := range c.pending.slots {
		if e == 0 {
			continue
		}
		c.peak = max(c.peak, e.plays())
		bound := pack(e.song(), c.floor.Plays+e.plays())
		surpassed = surpassed || c.songs.compare(bound, last) < 0
	}
	return surpassed
}

// trim keeps the fewest candidates that leave a wide gap between the N-th and
// the floor: a song left out must gain three quarters of the N-th's plays, or
// these must fall to a quarter, before the chart is rebased.
func (c *Chart) trim() {
	c.keep(func(ranked []entry) int {
		most := min(c.limits.Complete, len(ranked))
		if len(ranked) < c.limits.N {
			return most
		}
		gap := ranked[c.limits.N-1].plays() / 4
		n := sort.Search(len(ranked), func(i int) bool { return ranked[i].plays() <= gap })
		return min(max(n, c.limits.Candidates), most)
	})
}

// keep drops all but the best candidates, as many as choose says of those that
// there are, in the order of their plays. The floor becomes the first dropped.
func (c *Chart) keep(choose func(ranked []entry) int) {
	ranked := c.candidates.entries()
	slices.Sort(ranked)
	slices.Reverse(ranked)
	n := choose(ranked)
	if n == len(ranked) {
		return
	}
	// Candidates of a chart that is not complete may have fallen below the
	// floor; it never sinks.
	plays := ranked[n].plays()
	floor, higher := Count{AnySong, plays}, plays >= c.floor.Plays
	if plays == ranked[min(c.limits.N, len(ranked))-1].plays() {
		// Ties with the N-th: who is kept depends on the ids, and a bound
		// whatever the id would surpass the N-th at once. Elsewhere the ids of
		// ties, which are many far down, need not be compared.
		first := sort.Search(len(ranked), func(i int) bool { return ranked[i].plays() <= plays })
		behind := sort.Search(len(ranked), func(i int) bool { return ranked[i].plays() < plays })
		slices.SortFunc(ranked[first:behind], c.songs.compare)
		floor.Song, higher = ranked[n].song(), c.above(ranked[n], c.floor)
	}
	if higher {
		c.floor = floor
	}
	c.candidates, c.head = newTable(ranked[:n]), nil
}

// raiseFloor moves pending plays into the floor, so that about half of the
// songs have nothing pending any more.
func (c *Chart) raiseFloor() {
	all := c.pending.entries()
	slices.Sort(all)
	plays := all[len(all)/2].plays()
	c.floor.Plays += plays
	kept := all[:0]
	for _, e := range all {
		if e.plays() > plays {
			kept = append(kept, e-entry(plays)*onePlay)
		}
	}
	c.pending = newTable(kept)
	c.peak -= min(c.peak, plays)
}

// rose moves a candidate that got a play to its place in head.
func (c *Chart) rose(e entry) {
	if len(c.head) == 0 && c.candidates.n > 1 {
		return // stale; Settle fills it
	}
	was := e - onePlay
	from := len(c.head)
	if from > 0 {
		last := c.head[from-1]
		if e.plays() < last.plays() && from < c.candidates.n-1 {
			return // below head
		}
		if was.plays() >= last.plays() {
			from = c.place(was)
		}
	}
	if from == len(c.head) {
		// It comes from outside. Below all of head it can only be put when
		// nothing else is outside.
		alone := c.candidates.n == len(c.head)+1
		if !alone && c.songs.compare(e, c.head[len(c.head)-1]) > 0 {
			return
		}
		if len(c.head) < c.headLimit() {
			c.head = append(c.head, 0)
		} else if from--; c.songs.compare(e, c.head[from]) > 0 {
			return
		}
	}
	to := c.search(c.head[:from], e)
	copy(c.head[to+1:from+1], c.head[to:from])
	c.head[to] = e
	if to < c.limits.N {
		c.version++
	}
}

// fell moves a candidate that lost a play to its place in head, or out of it.
func (c *Chart) fell(e entry) {
	last := len(c.head) - 1
	was := e + onePlay
	if last < 0 || was.plays() < c.head[last].plays() {
		return
	}
	from := c.place(was)
	if from > last {
		return
	}
	if from < c.limits.N {
		c.version++
	}
	behind := c.head[from+1:]
	to := c.search(behind, e)
	copy(c.head[from:], behind[:to])
	outside := c.candidates.n > len(c.head)
	if e.plays() == 0 || to == len(behind) && outside {
		// Below all the others in head, and maybe some outside.
		copy(c.head[from+to:], behind[to:])
		c.head = c.head[:last]
		return
	}
	c.head[from+to] = e
}

// place finds an entry in head; len(head) when it is not there.
func (c *Chart) place(e entry) int {
	plays := e.plays()
	at := sort.Search(len(c.head), func(i int) bool { return c.head[i].plays() <= plays })
	for ; at < len(c.head) && c.head[at].plays() == plays; at++ {
		if c.head[at] == e {
			return at
		}
	}
	return len(c.head)
}

// search finds where an entry belongs among others in chart order.
func (c *Chart) search(entries []entry, e entry) int {
	return sort.Search(len(entries), func(i int) bool { return c.songs.compare(entries[i], e) > 0 })
}

func (c *Chart) headLimit() int { return c.limits.N + c.limits.N/8 + 1 }

// fillHead finds the best candidates by looking at all of them.
func (c *Chart) fillHead() {
	best := NewRanking(c.songs, c.headLimit())
	for _, e := range c.candidates.slots {
		best.Offer(e.song(), e.plays())
	}
	c.head = best.sorted(c.head)
	c.version++
}

// Stats describe a chart, for metrics and people.
type Stats struct {
	Total        uint64
	Complete     bool
	Candidates   int
	Pending      int    // songs
	Floor        Count  // zero when complete; Song may be AnySong
	NthPlays     uint64 // of the N-th song as of the last Settle; 0 when there are fewer
	Inconsistent uint64 // plays that expired and that the chart did not hold
	Bytes        int    // of memory
}

// Stats describes the chart.
func (c *Chart) Stats() Stats {
	s := Stats{
		Total:        c.total,
		Complete:     c.complete(),
		Candidates:   c.candidates.n,
		Pending:      c.pending.n,
		Floor:        c.floor,
		Inconsistent: c.inconsistent,
		Bytes:        int(unsafe.Sizeof(*c)) + c.candidates.bytes() + c.pending.bytes() + 8*cap(c.head),
	}
	if len(c.head) >= c.limits.N {
		s.NthPlays = c.head[c.limits.N-1].plays()
	}
	return s
}
