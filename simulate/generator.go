package simulate

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/topk-charts/topk"
)

// Options say what a Generator makes.
type Options struct {
	// Seed decides everything but the time. Event ids come from it too: a
	// second run with the same seed sends the same events again, and the
	// system counts them once. Take a new seed for new plays.
	Seed uint64
	// Clock gives the plays their time. Required.
	Clock topk.Clock
	// Users is the size of the pool of users; 0 means DefaultUsers.
	Users int
	// LateShare of the plays, 0 to 1, arrive a minute to a few hours after they
	// happened, as from phones that were offline.
	LateShare float64
	// DuplicateShare of the plays, 0 to 1, are an earlier event once more, as
	// from a client that saw no answer.
	DuplicateShare float64
	// Cities is how many cities there are in all; 0 means the real ones. More
	// are made up, per country in proportion to its streams. A city that nobody
	// of the pool of users lives in is never heard of.
	Cities int
	// Tail is how many songs beside those of the charts share tailShare of the
	// plays, in every country, a few of them often and most of them hardly ever.
	Tail int
	// Drift moves the popularity of songs, over minutes for some and hours for
	// others.
	Drift bool
	// Bursts has now and then, for a minute, one song played by many, in one
	// country or everywhere: a new release, or one that is in the news.
	Bursts bool
}

func (o Options) validate() error {
	var errs []error
	if o.Clock == nil {
		errs = append(errs, errors.New("a clock is required"))
	}
	if o.Users < 1 || o.Users > MaxUsers {
		errs = append(errs, fmt.Errorf("users must be 1 to %d, is %d", MaxUsers, o.Users))
	}
	if o.Tail < 0 || o.Tail > MaxTail {
		errs = append(errs, fmt.Errorf("songs of the tail must be 0 to %d, is %d", MaxTail, o.Tail))
	}
	for _, share := range []struct {
		name  string
		value float64
	}{{"late share", o.LateShare}, {"duplicate share", o.DuplicateShare}} {
		if !(share.value >= 0 && share.value <= 1) { // also refuses NaN
			errs = append(errs, fmt.Errorf("%s must be 0 to 1, is %v", share.name, share.value))
		}
	}
	return errors.Join(errs...)
}

// Late plays happened this long ago; most of them not so long.
const (
	minLate = time.Minute
	maxLate = 4 * time.Hour
)

// recentPlays is how many of the last plays a duplicate may repeat.
const recentPlays = 4096

// A Generator makes an endless stream of plays. It is not for concurrent use.
type Generator struct {
	opts      Options
	rng       *rand.Rand
	songs     []listing
	countries []market
	byStreams weighted // position in countries
	people    population
	tail      *tail // nil without one
	bursts    *bursts
	sequence  uint64
	recent    []topk.Play // ring of the last plays; used for duplicates only
}

// A market is one country: its songs, and how much each is played.
type market struct {
	country  string
	topHits  string // the country's own playlist
	songs    []int  // positions in the generator's songs
	byStream weighted
}

// A listing is a song with what a player knows of it.
type listing struct {
	id, artistID string
	album        string
	mixes        []string // playlists of its genres
	seconds      int
}

// NewGenerator makes plays in the proportions of the charts.
func NewGenerator(charts *Charts, opts Options) (*Generator, error) {
	if opts.Users == 0 {
		opts.Users = DefaultUsers
	}
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("play generator: %w", err)
	}
	names := charts.Countries()
	if len(names) == 0 {
		return nil, errors.New("play generator: the charts hold no country, only the global chart")
	}
	g := &Generator{
		opts:  opts,
		rng:   rand.New(rand.NewPCG(opts.Seed, 0)),
		songs: listings(charts.songs),
	}
	weights := make([]float64, len(names))
	for i, name := range names {
		var total uint64
		m := market{country: name, topHits: "top-hits-" + slug(name, 2)}
		var streams []float64
		for _, song := range slices.Sorted(maps.Keys(charts.streams[name])) { // a map has no order
			n := charts.streams[name][song]
			m.songs = append(m.songs, song)
			streams = append(streams, float64(n))
			total += n
		}
		m.byStream = newWeighted(streams)
		g.countries = append(g.countries, m)
		weights[i] = float64(total)
	}
	g.byStreams = newWeighted(weights)
	towns, err := townsOf(names, weights, opts.Cities)
	if err != nil {
		return nil, fmt.Errorf("play generator: %w", err)
	}
	g.people = newPopulation(towns, g.byStreams, opts.Users)
	if opts.Tail > 0 {
		g.tail = newTail(g.rng, g.songs, opts.Tail)
	}
	if opts.Bursts {
		g.bursts = &bursts{seed: opts.Seed}
	}
	return g, nil
}

// listings puts an artist's songs on albums, in the order of the catalog.
func listings(songs []topk.Song) []listing {
	const songsPerAlbum = 8
	released := map[string]int{}
	out := make([]listing, len(songs))
	for i, song := range songs {
		n := released[song.ArtistID]
		released[song.ArtistID]++
		out[i] = listing{
			id:       song.SongID,
			artistID: song.ArtistID,
			album:    "al-" + song.ArtistID[len("ar-"):] + "-" + strconv.Itoa(n/songsPerAlbum+1),
			seconds:  min(max(int(song.DurationMS/1000), 1), topk.MaxDuration),
		}
		if song.DurationMS == 0 {
			out[i].seconds = 180 // unknown: as most songs
		}
		for _, genre := range song.Genres {
			if s := slug(genre, 40); s != "" {
				out[i].mixes = append(out[i].mixes, "mix-"+s)
			}
		}
	}
	return out
}

// Next gives the next play.
func (g *Generator) Next() topk.Play {
	if g.opts.DuplicateShare > 0 && len(g.recent) > 0 && g.rng.Float64() < g.opts.DuplicateShare {
		return g.recent[g.rng.IntN(len(g.recent))]
	}
	play := g.play()
	if g.opts.DuplicateShare > 0 {
		g.remember(play)
	}
	g.sequence++
	return play
}

func (g *Generator) remember(play topk.Play) {
	if len(g.recent) < recentPlays {
		g.recent = append(g.recent, play)
	} else {
		g.recent[g.sequence%recentPlays] = play
	}
}

// Made is how many different plays there were: Next less its duplicates.
func (g *Generator) Made() uint64 { return g.sequence }

func (g *Generator) play() topk.Play {
	country := g.byStreams.draw(g.rng)
	m := &g.countries[country]
	song := g.song(country)
	user, city := g.people.listener(g.rng, country)
	return topk.Play{
		EventID:   eventID(g.opts.Seed, g.sequence),
		UserID:    userID(user),
		SongID:    song.id,
		ArtistID:  song.artistID,
		Timestamp: g.timestamp(),
		Region:    topk.Region{Country: m.country, City: city},
		Device:    drawDevice(g.rng),
		Context:   g.context(m, song, user),
		Duration:  g.listened(song.seconds),
	}
}

// song draws what is played in a country.
func (g *Generator) song(country int) *listing {
	m := &g.countries[country]
	if g.bursts != nil {
		if song := g.bursts.play(g, country); song != nil {
			return song
		}
	}
	if g.tail != nil && g.rng.Float64() < tailShare {
		return g.tail.draw()
	}
	song := m.songs[m.byStream.draw(g.rng)]
	if g.opts.Drift {
		for now := g.opts.Clock(); !inFashion(g.rng, g.opts.Seed, song, now); {
			song = m.songs[m.byStream.draw(g.rng)]
		}
	}
	return &g.songs[song]
}

// timestamp is now, or for late plays a while ago: of the logarithm of the
// delay each part is as likely, so minutes are more common than hours.
func (g *Generator) timestamp() time.Time {
	now := g.opts.Clock().UTC().Truncate(time.Millisecond)
	if g.opts.LateShare == 0 || g.rng.Float64() >= g.opts.LateShare {
		return now
	}
	ratio := float64(maxLate) / float64(minLate)
	late := time.Duration(float64(minLate) * math.Pow(ratio, g.rng.Float64()))
	return now.Add(-late).Truncate(time.Millisecond)
}

// devices by how often they are used.
var devices = []struct {
	name   string
	weight float64
}{{"mobile", 62}, {"desktop", 18}, {"speaker", 9}, {"tv", 6}, {"tablet", 5}}

var byDevice = func() weighted {
	weights := make([]float64, len(devices))
	for i, d := range devices {
		weights[i] = d.weight
	}
	return newWeighted(weights)
}()

func drawDevice(rng *rand.Rand) string { return devices[byDevice.draw(rng)].name }

// Where songs are played from: playlists, albums, and for the rest a search or
// a recommendation, which has no context.
const (
	playlistShare = 0.40
	albumShare    = 0.20
)

func (g *Generator) context(m *market, song *listing, user int) topk.Context {
	switch u := g.rng.Float64(); {
	case u < playlistShare:
		return topk.Context{Kind: "playlist", ID: g.playlist(m, song, user)}
	case u < playlistShare+albumShare:
		return topk.Context{Kind: "album", ID: song.album}
	default:
		return topk.Context{}
	}
}

// playlist draws among the world's hits, the country's hits, a mix of one of
// the song's genres and one of the user's own lists.
func (g *Generator) playlist(m *market, song *listing, user int) string {
	u := g.rng.Float64()
	switch {
	case u < 0.20:
		return "top-hits"
	case u < 0.40:
		return m.topHits
	case u < 0.75 && len(song.mixes) > 0:
		return song.mixes[g.rng.IntN(len(song.mixes))]
	default:
		return "pl-" + userID(user) + "-" + strconv.Itoa(1+g.rng.IntN(3))
	}
}

// listened draws how many seconds of a song are played: some skip it early,
// some leave in the middle, most hear it to its end.
func (g *Generator) listened(seconds int) *int {
	const early = 30
	heard := seconds
	switch u := g.rng.Float64(); {
	case u < 0.12:
		heard = 1 + g.rng.IntN(min(early-1, seconds))
	case u < 0.30 && seconds > early:
		heard = early + g.rng.IntN(seconds-early)
	}
	return &heard
}

// eventID derives a UUID (version 8: custom) from the seed and the number of
// the play.
func eventID(seed, sequence uint64) string {
	var in [16]byte
	binary.BigEndian.PutUint64(in[:8], seed)
	binary.BigEndian.PutUint64(in[8:], sequence)
	sum := sha256.Sum256(in[:])
	id := sum[:16]
	id[6] = id[6]&0x0f | 0x80 // version
	id[8] = id[8]&0x3f | 0x80 // variant
	out := make([]byte, 0, 36)
	for _, part := range [][]byte{id[:4], id[4:6], id[6:8], id[8:10]} {
		out = append(hex.AppendEncode(out, part), '-')
	}
	return string(hex.AppendEncode(out, id[10:]))
}
