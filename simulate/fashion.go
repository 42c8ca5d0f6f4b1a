package simulate

import (
	"math"
	"math/rand/v2"
	"time"
)

// scramble spreads the bits of numbers that resemble each other (the finaliser
// of SplitMix64).
func scramble(parts ...uint64) uint64 {
	h := uint64(0)
	for _, part := range parts {
		h += part + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// fraction makes a number of [0, 1) of a scrambled one.
func fraction(h uint64) float64 { return float64(h>>11) / (1 << 53) }

// Popularity rises and falls with a period of its own for every song, of whose
// logarithm each part is as likely, down to least of what it is at its best.
const (
	shortestFashion = 4 * time.Minute
	longestFashion  = 8 * time.Hour
	leastFashion    = 0.05
)

// inFashion decides whether a song that was drawn is played now, or another one
// is to be drawn: half of them are.
func inFashion(rng *rand.Rand, seed uint64, song int, now time.Time) bool {
	h := scramble(seed, uint64(song))
	ratio := float64(longestFashion) / float64(shortestFashion)
	period := float64(shortestFashion) * math.Pow(ratio, fraction(h))
	phase := fraction(scramble(h))
	angle := 2 * math.Pi * (float64(now.UnixNano())/period + phase)
	popularity := leastFashion + (1-leastFashion)*(1+math.Sin(angle))/2
	return rng.Float64() < popularity
}

// Bursts: one minute in burstEvery has one, of a new release or of a known
// song, everywhere or in one country, and burstShare of the plays there are
// then of it.
const (
	burstEvery = 3
	burstShare = 0.2
)

// bursts tells which song has one, minute by minute.
type bursts struct {
	seed    uint64
	minute  uint64
	active  bool
	country int // -1 everywhere
	song    listing
}

// play gives the song of a burst when that is what is played now in the
// country; otherwise nil.
func (b *bursts) play(g *Generator, country int) *listing {
	if minute := uint64(g.opts.Clock().Unix() / 60); minute != b.minute {
		b.begin(g, minute)
	}
	if !b.active || b.country >= 0 && b.country != country || g.rng.Float64() >= burstShare {
		return nil
	}
	return &b.song
}

// begin decides about a minute, by nothing but the seed and the minute.
func (b *bursts) begin(g *Generator, minute uint64) {
	rng := rand.New(rand.NewPCG(b.seed, minute))
	b.minute, b.active, b.country = minute, rng.IntN(burstEvery) == 0, -1
	b.song = g.songs[rng.IntN(len(g.songs))]
	if rng.IntN(2) == 0 {
		b.song.id = releaseID(b.seed, minute)
	}
	if rng.IntN(2) == 0 {
		b.country = rng.IntN(len(g.countries))
	}
}
