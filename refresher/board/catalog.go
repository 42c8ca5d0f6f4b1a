package board

import (
	"slices"
	"sync"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// A Catalog knows the genres and the artist of songs. It is safe for concurrent
// use.
type Catalog struct {
	mu      sync.RWMutex
	version uint64
	songs   []tags // by song
	artists names
	genres  names
	sets    [][]uint32 // sets of genres, each kept once
	setOf   map[string]uint32
}

// tags are 8 bytes, since there are as many as songs.
type tags struct {
	artist uint32 // 0: not in the catalog
	genres uint32 // index of a set; 0 is the empty one
}

// names interns strings from 1.
type names struct {
	ids  map[string]uint32
	list []string
}

func (n *names) id(name string) uint32 {
	if id, ok := n.ids[name]; ok {
		return id
	}
	if n.ids == nil {
		n.ids, n.list = map[string]uint32{}, []string{""}
	}
	id := uint32(len(n.list))
	n.list, n.ids[name] = append(n.list, name), id
	return id
}

// NewCatalog makes an empty catalog.
func NewCatalog() *Catalog {
	return &Catalog{sets: [][]uint32{nil}, setOf: map[string]uint32{"": 0}}
}

// A Tag is what the catalog says of one song.
type Tag struct {
	Song   topn.Song
	Artist string
	Genres []string
}

// Put takes what is known of some songs: nothing when they were deleted.
func (c *Catalog) Put(all []Tag) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed := false
	for _, t := range all {
		for int(t.Song) >= len(c.songs) {
			c.songs = append(c.songs, tags{})
		}
		now := tags{artist: c.artists.id(t.Artist), genres: c.set(t.Genres)}
		if c.songs[t.Song] != now {
			c.songs[t.Song] = now
			changed = true
		}
	}
	if changed {
		c.version++
	}
}

func (c *Catalog) set(genres []string) uint32 {
	var key []byte
	ids := make([]uint32, 0, len(genres))
	for _, g := range genres {
		id := c.genres.id(g)
		ids = append(ids, id)
		key = append(key, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	if at, ok := c.setOf[string(key)]; ok {
		return at
	}
	at := uint32(len(c.sets))
	c.sets, c.setOf[string(key)] = append(c.sets, ids), at
	return at
}

// Version changes with what is known of any song.
func (c *Catalog) Version() uint64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.version
}

// wanted are the ids that a filter's terms of songs ask for; known is false when
// no song has one of them.
func (c *Catalog) wanted(f topk.Filter) (genres, artists []uint32, known bool) {
	for _, t := range f.Terms() {
		ids, list := c.genres.ids, &genres
		if t.Dim == topk.DimArtist {
			ids, list = c.artists.ids, &artists
		} else if t.Dim != topk.DimGenre {
			continue
		}
		id, ok := ids[t.Value]
		if !ok {
			return nil, nil, false
		}
		*list = append(*list, id)
	}
	return genres, artists, true
}

func (c *Catalog) has(song topn.Song, genres, artists []uint32) bool {
	if int(song) >= len(c.songs) {
		return false
	}
	tags := c.songs[song]
	for _, a := range artists {
		if tags.artist != a {
			return false
		}
	}
	for _, g := range genres {
		if !slices.Contains(c.sets[tags.genres], g) {
			return false
		}
	}
	return true
}

// Matches reports whether the song satisfies the terms of the filter that are
// about songs.
func (c *Catalog) Matches(song topn.Song, f topk.Filter) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	genres, artists, known := c.wanted(f)
	return known && c.has(song, genres, artists)
}

// songsOf gives all songs that satisfy a filter that is about songs only; never
// nil.
func (c *Catalog) songsOf(f topk.Filter) []topn.Song {
	c.mu.RLock()
	defer c.mu.RUnlock()
	songs := []topn.Song{}
	genres, artists, known := c.wanted(f)
	if !known {
		return songs
	}
	for i := range c.songs {
		if c.has(topn.Song(i), genres, artists) {
			songs = append(songs, topn.Song(i))
		}
	}
	return songs
}

// A genreRanking collects one genre's chart.
type genreRanking struct {
	*topn.Ranking
	filter topk.Filter
	total  uint64
}

// rank ranks the songs of every genre, by filter.
func (c *Catalog) rank(counts *topn.Dense, songs *topn.Songs, n int) map[string]*genreRanking {
	c.mu.RLock()
	defer c.mu.RUnlock()
	byID := make([]*genreRanking, len(c.genres.list))
	rankings := make(map[string]*genreRanking, len(byID))
	for id := 1; id < len(byID); id++ {
		filter := topk.NewFilter(topk.Term{Dim: topk.DimGenre, Value: c.genres.list[id]})
		byID[id] = &genreRanking{Ranking: topn.NewRanking(songs, n), filter: filter}
		rankings[filter.String()] = byID[id]
	}
	for song, plays := range counts.All() {
		if int(song) >= len(c.songs) {
			break // songs come in order, and the others are unknown
		}
		for _, g := range c.sets[c.songs[song].genres] {
			r := byID[g]
			r.Offer(song, plays)
			r.total += plays
		}
	}
	return rankings
}
