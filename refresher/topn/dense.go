package topn

import "iter"

// Dense counts every song exactly, in an array by song: for the charts that
// most songs are on. The zero Dense is empty. Not for concurrent use.
type Dense struct {
	plays        []uint64
	total        uint64
	inconsistent uint64
}

// Add counts a play that entered the window.
func (d *Dense) Add(song Song) {
	d.grow(song)
	d.plays[song]++
	d.total++
}

// Expire takes a play away that left the window. One that was never added is
// not taken from anything; Inconsistent counts it.
func (d *Dense) Expire(song Song) {
	if d.Count(song) == 0 {
		d.inconsistent++
		return
	}
	d.plays[song]--
	d.total--
}

// Put sets the plays of a song.
func (d *Dense) Put(song Song, plays uint64) {
	d.grow(song)
	d.total += plays - d.plays[song]
	d.plays[song] = plays
}

// grow makes room for the song and some that will follow.
func (d *Dense) grow(song Song) {
	if int(song) >= len(d.plays) {
		size := int(song) + 1
		grown := make([]uint64, size+size/8)
		copy(grown, d.plays)
		d.plays = grown
	}
}

// Count is how often the song was played in the window.
func (d *Dense) Count(song Song) uint64 {
	if int(song) >= len(d.plays) {
		return 0
	}
	return d.plays[song]
}

// Total is how many plays the window holds.
func (d *Dense) Total() uint64 { return d.total }

// Inconsistent counts the plays that expired and had never been added. It is 0
// unless the caller is wrong; then the counts have to be set up anew.
func (d *Dense) Inconsistent() uint64 { return d.inconsistent }

// Bytes is the memory that the counts take.
func (d *Dense) Bytes() int { return 8 * cap(d.plays) }

// All goes through the songs that have plays.
func (d *Dense) All() iter.Seq2[Song, uint64] {
	return func(yield func(Song, uint64) bool) {
		for song, plays := range d.plays {
			if plays > 0 && !yield(Song(song), plays) {
				return
			}
		}
	}
}
