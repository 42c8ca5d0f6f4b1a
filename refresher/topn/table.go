package topn

// An entry is a song and its plays in one word, the plays in the upper bits: a
// greater entry has more plays or as many. No entry with plays is 0.
type entry uint64

const (
	songBits = 26
	onePlay  = entry(1) << songBits
)

// MaxPlays is the greatest count of one song on one chart, 2.7e11; more is
// counted as this.
const MaxPlays = 1<<(64-songBits) - 1

func pack(song Song, plays uint64) entry {
	return entry(min(plays, MaxPlays))<<songBits | entry(song)
}

func (e entry) song() Song    { return Song(e & (onePlay - 1)) }
func (e entry) plays() uint64 { return uint64(e >> songBits) }

func (e entry) count() Count { return Count{e.song(), e.plays()} }

// A table counts songs. Those without plays are not in it. It is a hash table
// with open addressing, made for tens of millions of entries in all: it is
// filled to 64-80 % while it grows, 11 bytes an entry on average, and deletes
// by moving entries back, so that nothing but entries takes room. The zero
// table is empty.
type table struct {
	slots []entry // 0 where empty; at least one is, or there are none at all
	n     int
}

const leastSlots = 8

// home is where the search for a song begins. It scales a hash to the number
// of slots, which need not be a power of two.
func (t *table) home(song Song) int {
	h := uint32(song) * 0x9E3779B1
	h = (h ^ h>>15) * 0x85EBCA77
	return int(uint64(h^h>>13) * uint64(len(t.slots)) >> 32)
}

// find gives the slot that holds the song, or the empty one where it belongs.
// There must be slots.
func (t *table) find(song Song) (at int, found bool) {
	for at = t.home(song); ; {
		e := t.slots[at]
		if e == 0 {
			return at, false
		}
		if e.song() == song {
			return at, true
		}
		if at++; at == len(t.slots) {
			at = 0
		}
	}
}

// add counts a play and gives the song's plays.
func (t *table) add(song Song) uint64 {
	if plays := t.addKnown(song); plays > 0 {
		return plays
	}
	t.insert(pack(song, 1))
	return 1
}

// addKnown counts a play of a song that is in the table; 0 means it is not.
func (t *table) addKnown(song Song) uint64 {
	if t.n == 0 {
		return 0
	}
	at, found := t.find(song)
	if !found {
		return 0
	}
	if t.slots[at].plays() < MaxPlays {
		t.slots[at] += onePlay
	}
	return t.slots[at].plays()
}

// set gives a song its plays, at least 1.
func (t *table) set(e entry) {
	if t.n > 0 {
		if at, found := t.find(e.song()); found {
			t.slots[at] = e
			return
		}
	}
	t.insert(e)
}

// insert adds an entry of a song that is not in the table.
func (t *table) insert(e entry) {
	if 5*(t.n+1) > 4*len(t.slots) {
		t.resize()
	}
	at, _ := t.find(e.song())
	t.slots[at] = e
	t.n++
}

// remove takes a play away and gives what is left; a song without plays leaves
// the table. It says whether the song was in it.
func (t *table) remove(song Song) (plays uint64, found bool) {
	if t.n == 0 {
		return 0, false
	}
	at, found := t.find(song)
	if !found {
		return 0, false
	}
	if t.slots[at] -= onePlay; t.slots[at].plays() > 0 {
		return t.slots[at].plays(), true
	}
	t.vacate(at)
	return 0, true
}

// vacate empties a slot and moves back those behind it that are not at home,
// so that each is still found from there.
func (t *table) vacate(gap int) {
	size := len(t.slots)
	ahead := func(from, to int) int { // how many steps, around the end
		if to < from {
			to += size
		}
		return to - from
	}
	for at := gap; ; {
		if at++; at == size {
			at = 0
		}
		e := t.slots[at]
		if e == 0 {
			break
		}
		if ahead(t.home(e.song()), at) >= ahead(gap, at) {
			t.slots[gap], gap = e, at
		}
	}
	t.slots[gap] = 0
	t.n--
	if size > leastSlots && 5*t.n < 2*size {
		t.resize()
	}
}

// resize makes room for one more entry in steps finer than doubling. Entries
// stay in the order of their hashes, so that memory is gone through in order.
func (t *table) resize() {
	old := t.slots
	t.slots = make([]entry, max(leastSlots, (t.n+1)*25/16))
	for _, e := range old {
		if e != 0 {
			at, _ := t.find(e.song())
			t.slots[at] = e
		}
	}
}

// entries gives all entries in no order.
func (t *table) entries() []entry {
	all := make([]entry, 0, t.n)
	for _, e := range t.slots {
		if e != 0 {
			all = append(all, e)
		}
	}
	return all
}

// newTable makes a table of entries of distinct songs.
func newTable(entries []entry) table {
	t := table{n: len(entries)}
	t.resize()
	for _, e := range entries {
		at, _ := t.find(e.song())
		t.slots[at] = e
	}
	return t
}

func (t *table) bytes() int { return 8 * cap(t.slots) }
