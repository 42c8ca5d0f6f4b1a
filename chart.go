package topk

import (
	"cmp"
	"slices"
	"time"
)

// SnapshotSize is how many entries a snapshot holds; SQL answers beyond it.
const SnapshotSize = 200

// MaxK is the longest chart that one request may ask for.
const MaxK = 1000

// An Entry is one song's place on a chart.
type Entry struct {
	Rank   int // 1, 2, 3, … in the order of CompareEntries
	SongID string
	Plays  uint64
}

// CompareEntries is the order of charts: more plays first, and of equal plays
// the greater SongID (in bytes) first, which is what ZREVRANGE gives and what
// SQL's ORDER BY plays DESC, songId DESC gives.
func CompareEntries(a, b Entry) int {
	return cmp.Or(cmp.Compare(b.Plays, a.Plays), cmp.Compare(b.SongID, a.SongID))
}

// RankEntries sorts entries into chart order and numbers them from 1.
func RankEntries(entries []Entry) {
	slices.SortFunc(entries, CompareEntries)
	for i := range entries {
		entries[i].Rank = i + 1
	}
}

// A Watermark is a prefix of the log of plays: for each source the next offset,
// the first one that is not included. A source is a Kafka partition or one
// backfill.
type Watermark map[uint32]uint64

// Covers reports whether w includes everything that other includes.
func (w Watermark) Covers(other Watermark) bool {
	for src, next := range other {
		if w[src] < next {
			return false
		}
	}
	return true
}

// A Chart is the exact Top-K of a filter and window at one instant: what a
// brute-force count over the unique accepted plays below the watermark gives.
type Chart struct {
	Filter     Filter
	Window     Window
	AsOf       time.Time
	Span       Span      // the window at AsOf
	TotalPlays uint64    // of all songs, not only the entries
	Entries    []Entry   // in chart order
	Watermark  Watermark // the prefix of the log that was counted
}
