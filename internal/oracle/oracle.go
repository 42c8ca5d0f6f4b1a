// Package oracle is the small, slow, obviously right program that tests compare
// the fast ones with: it keeps every unique play in memory and counts a chart
// by looking at each of them.
package oracle

import (
	"slices"
	"sync"

	"github.com/topk-charts/topk"
)

// An Oracle knows what every chart should be. It may be used by several
// goroutines at once; which of two plays of one EventID counts then depends on
// who came first, as it does in production.
type Oracle struct {
	minSeconds int

	mu    sync.Mutex
	songs map[string]topk.Song
	seen  map[string]bool // by EventID
	plays []kept          // unique, in the order they came
}

type kept struct {
	play     topk.Play
	segments []string // of the user, when the play came
}

// An Option changes how an Oracle counts.
type Option func(*Oracle)

// WithMinPlaySeconds leaves out plays that state a duration below seconds.
// Plays that state none count.
func WithMinPlaySeconds(seconds int) Option {
	return func(o *Oracle) { o.minSeconds = seconds }
}

// New makes an Oracle that has seen nothing.
func New(options ...Option) *Oracle {
	o := &Oracle{songs: map[string]topk.Song{}, seen: map[string]bool{}}
	for _, option := range options {
		option(o)
	}
	return o
}

// SetSong puts a song into the catalog, in place of the one of the same ID.
// Charts of the past follow, as genre and artist are functions of the song.
func (o *Oracle) SetSong(song topk.Song) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.songs[song.SongID] = song
}

// Add takes a play by a user of the given segments, and reports whether it is
// the first of its EventID. The others change nothing.
func (o *Oracle) Add(p topk.Play, segments []string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen[p.EventID] {
		return false
	}
	o.seen[p.EventID] = true
	o.plays = append(o.plays, kept{p, slices.Clone(segments)})
	return true
}

// Plays gives every unique play in the order they came, also those that are
// too short to count.
func (o *Oracle) Plays() []topk.Play {
	o.mu.Lock()
	defer o.mu.Unlock()
	plays := make([]topk.Play, len(o.plays))
	for i, k := range o.plays {
		plays[i] = k.play
	}
	return plays
}

// Chart counts the plays in span that satisfy f: the first k songs in chart
// order, and the plays of all songs.
func (o *Oracle) Chart(f topk.Filter, span topk.Span, k int) (entries []topk.Entry, totalPlays uint64) {
	counts := map[string]uint64{}
	o.each(f, span, func(p topk.Play) {
		counts[p.SongID]++
		totalPlays++
	})
	return ranked(counts, k), totalPlays
}

// Listeners is Chart by the users that played a song, each counted once.
func (o *Oracle) Listeners(f topk.Filter, span topk.Span, k int) (entries []topk.Entry, totalPlays uint64) {
	type listening struct{ song, user string }
	seen, counts := map[listening]bool{}, map[string]uint64{}
	o.each(f, span, func(p topk.Play) {
		if l := (listening{p.SongID, p.UserID}); !seen[l] {
			seen[l] = true
			counts[p.SongID]++
		}
		totalPlays++
	})
	return ranked(counts, k), totalPlays
}

// each gives every play in span that counts and satisfies f.
func (o *Oracle) each(f topk.Filter, span topk.Span, visit func(topk.Play)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.plays {
		if o.counts(p.play) && span.Contains(p.play.Timestamp) && o.matches(p, f) {
			visit(p.play)
		}
	}
}

func ranked(counts map[string]uint64, k int) (entries []topk.Entry) {
	for song, n := range counts {
		entries = append(entries, topk.Entry{SongID: song, Plays: n})
	}
	topk.RankEntries(entries)
	return entries[:min(k, len(entries))]
}

func (o *Oracle) counts(p topk.Play) bool { return p.Duration == nil || *p.Duration >= o.minSeconds }

func (o *Oracle) matches(p kept, f topk.Filter) bool {
	for _, term := range f.Terms() {
		if !o.satisfies(p, term) {
			return false
		}
	}
	return true
}

func (o *Oracle) satisfies(p kept, term topk.Term) bool {
	song, inCatalog := o.songs[p.play.SongID]
	switch region := p.play.Region; term.Dim {
	case topk.DimGlobal:
		return true
	case topk.DimRegion:
		return term.Value == region.Country || term.Value == region.String()
	case topk.DimGenre:
		return slices.Contains(song.Genres, term.Value)
	case topk.DimArtist:
		return inCatalog && song.ArtistID == term.Value
	case topk.DimSegment:
		return slices.Contains(p.segments, term.Value)
	case topk.DimDevice:
		return p.play.Device == term.Value
	case topk.DimPlaylist, topk.DimAlbum:
		return p.play.Context == topk.Context{Kind: string(term.Dim), ID: term.Value}
	default:
		panic("oracle: unknown dimension " + string(term.Dim))
	}
}
