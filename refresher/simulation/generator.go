package main

import (
	"math"
	"math/bits"
	"math/rand/v2"

	"github.com/topk-charts/topk/refresher/topn"
)

const (
	minutesPerDay = 24 * 60

	countries = 60
	cities    = 3781
	devices   = 4
	segments  = 4
	nowhere   = -1 // as a city, and as a second segment
)

// A play is one play of a song, at a minute that is known from its context.
type play struct {
	song    topn.Song
	city    int16 // of all cities; or nowhere
	country uint8
	device  uint8
	segment uint8
	another int8 // segment; or nowhere
}

// A generator makes the plays of any minute: the same ones each time.
type generator struct {
	seed           uint64
	songs          uint64
	perMinute      float64
	flashesPerHour int
	rank           func(u float64) uint64 // the song slot at quantile u of popularity

	weight    [countries]float64 // of all plays; sum 1
	noon      [countries]float64 // in minutes
	firstCity [countries]int
	inCountry [countries]picker // of its cities
	device    picker
	segment   picker
}

func newGenerator(cfg config) *generator {
	g := &generator{
		seed:           cfg.Seed,
		songs:          uint64(cfg.Songs),
		perMinute:      cfg.Plays / minutesPerDay,
		flashesPerHour: cfg.Flashes,
		rank:           zipf(cfg.Songs, cfg.Exponent),
		device:         newPicker([]float64{60, 25, 10, 5}),
		segment:        newPicker([]float64{50, 40, 7, 3}),
	}
	sum := 0.0
	for c := range g.weight {
		g.weight[c] = math.Pow(float64(c+1), -1.1)
		sum += g.weight[c]
	}
	// Larger countries have more cities, less than in proportion.
	share := 0.0
	for c := range g.weight {
		g.weight[c] /= sum
		share += math.Sqrt(g.weight[c])
		g.noon[c] = float64(g.hash(uint64(c), 1) % minutesPerDay)
	}
	upTo := 0.0
	for c := range g.weight {
		upTo += math.Sqrt(g.weight[c])
		next := int(math.Round(upTo / share * cities))
		sizes := make([]float64, next-g.firstCity[c])
		for i := range sizes {
			sizes[i] = math.Pow(float64(i+1), -0.9)
		}
		g.inCountry[c] = newPicker(sizes)
		if c+1 < countries {
			g.firstCity[c+1] = next
		}
	}
	return g
}

// zipf inverts the distribution of a popularity that falls as k^-s, taken as
// continuous.
func zipf(n int, s float64) func(float64) uint64 {
	last := uint64(n - 1)
	if s == 1 {
		scale := math.Log(float64(n))
		return func(u float64) uint64 { return min(uint64(math.Exp(u*scale)-1), last) }
	}
	scale, power := math.Pow(float64(n), 1-s)-1, 1/(1-s)
	return func(u float64) uint64 { return min(uint64(math.Pow(1+u*scale, power)-1), last) }
}

// minute makes the plays of a minute, after those in dst.
func (g *generator) minute(minute int, dst []play) []play {
	rng := rand.New(rand.NewPCG(g.seed, uint64(minute)))
	volume := 0.0
	weights := g.weight
	for c := range weights {
		hour := 2 * math.Pi * (float64(minute) - g.noon[c]) / minutesPerDay
		weights[c] *= 1 + 0.75*math.Cos(hour) // 7 times as many by day as by night
		volume += weights[c]
	}
	country := newPicker(weights[:])
	flashes := g.flashes(minute)
	for range int(g.perMinute*volume + rng.Float64()) {
		c := country.pick(rng.Uint64())
		r := rng.Uint64()
		p := play{country: uint8(c), city: nowhere, another: nowhere}
		if r%16 > 0 {
			p.city = int16(g.firstCity[c] + g.inCountry[c].pick(r>>4))
		}
		p.device = uint8(g.device.pick(r >> 16))
		p.segment = uint8(g.segment.pick(r >> 28))
		if another := r >> 40 % 32; another < segments && another != uint64(p.segment) {
			p.another = int8(another)
		}
		p.song = g.song(minute, p, r>>48, rng)
		for _, f := range flashes {
			if (f.country == c || f.country == nowhere) && rng.Float64() < f.share {
				p.song = f.song
			}
		}
		dst = append(dst, p)
	}
	return dst
}

// song draws what is played. Popularity belongs to slots; the songs in them
// change over time, at a pace of each slot's own: most fade into the next,
// some, as new releases do, follow one another at once. A third of what is
// played is popular in the country or the city only.
func (g *generator) song(minute int, p play, taste uint64, rng *rand.Rand) topn.Song {
	slot := g.rank(rng.Float64())
	place := uint64(0)
	switch taste %= 16; {
	case taste < 4:
		place = 1 + uint64(p.country)
	case taste < 5 && p.city != nowhere:
		place = 1 + countries + uint64(p.city)
	}
	h := g.hash(slot, place<<8|2)
	period := float64(minutesPerDay * (2 + h%20))
	phase := float64(h>>32) / (1 << 32)
	turn := float64(minute)/period + phase
	if h>>8%8 > 0 {
		turn += rng.Float64()
	}
	return g.anySong(g.hash(slot<<24|uint64(turn), place<<8|3))
}

func (g *generator) anySong(hash uint64) topn.Song {
	song, _ := bits.Mul64(hash, g.songs)
	return topn.Song(song)
}

// A flash is a song that everybody plays for an hour or so.
type flash struct {
	song    topn.Song
	country int // or nowhere: in all countries
	share   float64
}

func (g *generator) flashes(minute int) []flash {
	const anHour, longest = 60, 2
	var active []flash
	for hour := minute/anHour - longest; hour <= minute/anHour; hour++ {
		for n := range uint64(g.flashesPerHour) {
			h := g.hash(uint64(hour)<<8|n, 4)
			start := hour*anHour + int(h%anHour)
			length := 10 + int(h>>8%110)
			if minute < start || minute >= start+length {
				continue
			}
			f := flash{song: g.anySong(h * 0x9E3779B97F4A7C15), country: nowhere, share: 0.002 + float64(h>>48)/(1<<16)*0.05}
			if h>>40%4 > 0 {
				f.country = int(h >> 16 % countries)
			}
			active = append(active, f)
		}
	}
	return active
}

// hash is splitmix64 over the seed and two numbers.
func (g *generator) hash(a, b uint64) uint64 {
	h := g.seed
	for _, x := range [...]uint64{a, b} {
		h = (h ^ x) + 0x9E3779B97F4A7C15
		h = (h ^ h>>30) * 0xBF58476D1CE4E5B9
		h = (h ^ h>>27) * 0x94D049BB133111EB
		h ^= h >> 31
	}
	return h
}

// A picker picks numbers by weight, to within 1/4096: one step, and quickly
// made.
type picker []uint16

const pickerSlots = 1 << 12

func newPicker(weights []float64) picker {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	p := make(picker, pickerSlots)
	upTo, slot := 0.0, 0
	for i, w := range weights {
		upTo += w
		for ; slot < pickerSlots && float64(slot) < upTo/sum*pickerSlots; slot++ {
			p[slot] = uint16(i)
		}
	}
	return p
}

func (p picker) pick(random uint64) int { return int(p[random%pickerSlots]) }
