package simulate

import (
	"fmt"
	"math/rand/v2"
	"strconv"

	"github.com/topk-charts/topk"
)

// MaxTail bounds the songs of the tail.
const MaxTail = 10_000_000

// tailShare of the plays are of songs that are on no chart.
const tailShare = 0.3

// tailSkew is the exponent of the tail's Zipf distribution: the first hundredth
// of a million songs has three quarters of its plays.
const tailSkew = 1.05

// songsPerArtist of the tail.
const songsPerArtist = 12

func tailSongID(i int) string { return fmt.Sprintf("tail%08d", i) }

func tailArtist(i int) string { return fmt.Sprint("Somebody ", i/songsPerArtist) }

// Tail gives the first n songs of the tail, for the catalog. Each has the
// genres of one of the charts' songs.
func (c *Charts) Tail(n int) []topk.Song {
	songs := make([]topk.Song, n)
	for i := range songs {
		like := c.songs[i%len(c.songs)]
		songs[i] = topk.Song{
			SongID: tailSongID(i), Title: fmt.Sprint("Something ", i),
			ArtistID: ArtistID(tailArtist(i)), Artist: tailArtist(i),
			Genres: append([]string{}, like.Genres...), DurationMS: like.DurationMS,
		}
	}
	return songs
}

// A tail is a long list of songs that few play. It takes no memory per song.
type tail struct {
	byRank *rand.Zipf
	like   []listing // those whose genres and lengths it has
	drawn  listing
}

func newTail(rng *rand.Rand, like []listing, n int) *tail {
	return &tail{byRank: rand.NewZipf(rng, tailSkew, 1, uint64(n-1)), like: like}
}

// draw gives a song; it is valid until the next one is drawn.
func (t *tail) draw() *listing {
	i := int(t.byRank.Uint64())
	t.drawn = t.like[i%len(t.like)]
	t.drawn.id = tailSongID(i)
	t.drawn.artistID = ArtistID(tailArtist(i))
	t.drawn.album = "al-tail-" + strconv.Itoa(i/8+1)
	return &t.drawn
}

// releaseID names the new release of a burst.
func releaseID(seed, minute uint64) string {
	return "release-" + eventID(seed, minute)[:8]
}
