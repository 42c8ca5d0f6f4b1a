package topn

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
)

// A Song is an interned song id: a small number, given in the order in which
// ids were first seen, which says nothing of their order on a chart.
type Song uint32

// MaxSongs is how many songs there can be: what an entry of a chart has bits
// for.
const MaxSongs = 1 << songBits

// ErrFull says that a new song found no place any more.
var ErrFull = errors.New("too many songs")

// A Count is how often a song was played in a window.
type Count struct {
	Song  Song
	Plays uint64
}

// Songs interns the ids of songs. They are never forgotten.
type Songs struct {
	limit int
	mu    sync.RWMutex
	index map[string]Song
	// Chunks never move, so ID needs no lock.
	chunks [MaxSongs / chunkSongs]atomic.Pointer[[chunkSongs]interned]
}

const chunkSongs = 1 << 14

// An interned id has its first bytes at hand, the first one uppermost: mostly
// they decide how two ids compare, and the ids themselves, each in memory of
// its own, need not be read.
type interned struct {
	first uint64
	id    string
}

func firstBytes(id string) uint64 {
	var first [8]byte
	copy(first[:], id)
	return binary.BigEndian.Uint64(first[:])
}

// NewSongs makes an empty table for at most limit songs, itself at most
// MaxSongs.
func NewSongs(limit int) *Songs {
	return &Songs{limit: min(limit, MaxSongs), index: map[string]Song{}}
}

// Intern gives the id's Song, the same one each time. It may be called
// concurrently. A new id is refused with ErrFull when the limit is reached.
func (s *Songs) Intern(id string) (Song, error) {
	s.mu.RLock()
	song, known := s.index[id]
	s.mu.RUnlock()
	if known {
		return song, nil
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if song, known = s.index[id]; known {
		return song, nil
	}
	if len(s.index) >= s.limit {
		return 0, fmt.Errorf("intern song: %w: the limit is %d", ErrFull, s.limit)
	}
	id = strings.Clone(id) // it may be a piece of a larger message
	song = Song(len(s.index))
	chunk := &s.chunks[song/chunkSongs]
	if chunk.Load() == nil {
		chunk.Store(new([chunkSongs]interned))
	}
	*s.at(song) = interned{firstBytes(id), id}
	s.index[id] = song
	return song, nil
}

// ID gives the id of a song that Intern returned. It takes no lock: the caller
// has the song from Intern, or by a channel or a lock from one that has.
func (s *Songs) ID(song Song) string { return s.at(song).id }

func (s *Songs) at(song Song) *interned {
	return &s.chunks[song/chunkSongs].Load()[song%chunkSongs]
}

// Len is how many songs there are.
func (s *Songs) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.index)
}

// Compare is the order of charts: more plays first, and of equal plays the
// greater id in bytes first.
func (s *Songs) Compare(a, b Count) int {
	if a.Plays != b.Plays {
		return cmp.Compare(b.Plays, a.Plays)
	}
	return s.compareIDs(b.Song, a.Song)
}

// compare is Compare for entries.
func (s *Songs) compare(a, b entry) int { return s.Compare(a.count(), b.count()) }

func (s *Songs) compareIDs(a, b Song) int {
	if a == b {
		return 0
	}
	x, y := s.at(a), s.at(b)
	if x.first != y.first {
		return cmp.Compare(x.first, y.first)
	}
	return cmp.Compare(x.id, y.id)
}
