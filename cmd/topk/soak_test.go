package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/zstd"
	"github.com/redis/rueidis"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/faults"
	"github.com/topk-charts/topk/simulate"
	"github.com/topk-charts/topk/snapshot"
)

var (
	soakRate      = flag.Float64("soak.rate", 500, "plays a second of the soak test")
	soakMinutes   = flag.Float64("soak.minutes", 0.15, "how long the soak test sends plays; 0 measures cold starts only")
	soakCities    = flag.Int("soak.cities", 300, "cities of the soak test")
	soakSongs     = flag.Int("soak.songs", 1000, "songs of the soak test beside those of the charts")
	soakPreload   = flag.Int("soak.preload", 0, "plays that are in the log before the refresher starts")
	soakBackfill  = flag.Int("soak.backfill", 0, "plays of the last 30 days that are backfilled meanwhile")
	soakRecompute = flag.Bool("soak.recompute", false, "measure a refresher that computes every chart anew as well")
)

// A soak is a deployment under load, which is watched: are the charts right at
// any moment, how old are they, and what does that take?
type soak struct {
	*siege
	store *snapshot.Store
	redis rueidis.Client
	songs *simulate.Charts
	known charts

	file   string // of plays to backfill; "" for none
	inFile uint64 // their hashes, as eventIDs

	made     uint64 // plays
	eventIDs uint64 // of them, their hashes combined by exclusive or
}

// Served charts are those of the log at any moment, under a load that moves; no
// acknowledged play is lost. How fast and how dear it is, is reported.
func TestSoak(t *testing.T) {
	s := newSoak(t)
	s.preload(*soakPreload)
	s.writeFile(*soakBackfill)
	refreshers := []*faults.Process{s.Refresh}
	if *soakRecompute {
		program := faults.Command{Path: os.Args[0], Env: []string{asRecompute + "=1"}}
		refreshers = append(refreshers, s.Refresher("recompute", program))
	}
	var all []*measurement
	for i, p := range refreshers {
		all = append(all, s.measure(p, s.seed+uint64(i)))
		if i < len(refreshers)-1 {
			p.Kill()
		}
	}
	s.verdict()
	t.Logf("%v plays/s for %s, %d cities, %d songs of the tail, %d plays preloaded\n%s",
		*soakRate, soakLength(), *soakCities, *soakSongs, *soakPreload, report(all))
}

func soakLength() time.Duration { return time.Duration(*soakMinutes * float64(time.Minute)) }

// soakUsers is so many that hardly a city is without one.
func soakUsers() int { return 50 * *soakCities }

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{siege: deploy(t, faults.Config{Direct: true, WithoutRefresh: true})}
	var err error
	if s.songs, err = (chartsFlag{Charts: "../../testdata/weekly-charts-72-regions-with-genre.csv"}).load(); err != nil {
		t.Fatal(err)
	}
	var catalog, segments bytes.Buffer
	songs := append(s.songs.Catalog(), s.songs.Tail(*soakSongs)...)
	for _, song := range songs {
		s.encodeTo(&catalog, song)
	}
	for user := range simulate.Segments(soakUsers()) {
		s.users[user.UserID] = user.Segments
		s.encodeTo(&segments, user)
	}
	s.loadFrom(&catalog, &segments, len(songs)+soakUsers())
	if s.store, err = snapshot.Open(t.Context(), s.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1, ReadTimeout: redisPatience}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.store.Close)
	if s.redis, err = rueidis.NewClient(rueidis.MustParseURL(s.RedisURL)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.redis.Close)
	return s
}

func (s *soak) generator(seed uint64) *simulate.Generator {
	s.Helper()
	g, err := simulate.NewGenerator(s.songs, simulate.Options{
		Seed: seed, Clock: time.Now, Users: soakUsers(), LateShare: 0.01, DuplicateShare: 0.01,
		Cities: *soakCities, Tail: *soakSongs, Drift: true, Bursts: true,
	})
	if err != nil {
		s.Fatal(err)
	}
	return g
}

// measure starts a refresher and watches it: its cold start, its work under
// load, and how it fills a Redis that was flushed.
func (s *soak) measure(refresher *faults.Process, seed uint64) *measurement {
	s.Helper()
	m := &measurement{name: refresher.Name, staleness: map[string][]time.Duration{}, compared: map[string]int{}, coldStart: map[topk.Window]time.Duration{}}
	// What another refresher left there is not this one's to write again.
	if err := s.redis.Do(s.Context(), s.redis.B().Flushall().Build()).Error(); err != nil {
		s.Fatal(err)
	}
	began := time.Now()
	if err := refresher.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
	if *soakPreload > 0 { // else there is nothing to count until plays come in
		s.awaitSnapshots(m, began)
		s.awaitAll(m, began)
	}
	if soakLength() > 0 {
		s.underLoad(m, began, refresher, seed)
	}
	m.rss, m.rssPeak = s.memory(refresher)
	m.rssClickHouse, m.rssClickHousePeak = s.memory(s.ClickHouse)
	s.flush(m)
	return m
}

// coldStartTimeout is how long the snapshots may take to be there.
const coldStartTimeout = 15 * time.Minute

// awaitSnapshots waits until every window has snapshots that are newer than
// began, and notes when.
func (s *soak) awaitSnapshots(m *measurement, began time.Time) {
	s.Helper()
	for _, w := range topk.Windows() {
		for _, dim := range []string{"global", "region:US/New York"} {
			filter, err := topk.ParseFilter(dim)
			if err != nil {
				s.Fatal(err)
			}
			s.awaitFor(coldStartTimeout, fmt.Sprintf("%s %s has a snapshot", filter, w), func() error {
				snap, err := s.store.Get(s.Context(), filter, w)
				if err == nil && !snap.AsOf.After(began) {
					err = fmt.Errorf("it is as of %s", snap.AsOf)
				}
				return err
			})
		}
		m.coldStart[w] = time.Since(began)
		s.Logf("%s: %s is there after %s", m.name, w, m.coldStart[w].Round(100*time.Millisecond))
	}
}

// settled is how long no snapshot may have come until all are there.
const settled = 10 * time.Second

// awaitAll waits until there are no more snapshots than before, and notes when
// the last ones came.
func (s *soak) awaitAll(m *measurement, began time.Time) {
	s.Helper()
	for last := time.Now(); time.Since(last) < settled; pause(s.Context(), 200*time.Millisecond) {
		if n := s.snapshots(); n > m.snapshots {
			m.snapshots, m.all, last = n, time.Since(began), time.Now()
		}
	}
	s.Logf("%s: %d snapshots are there after %s", m.name, m.snapshots, m.all.Round(100*time.Millisecond))
}

// underLoad sends plays and watches meanwhile. What is measured begins when all
// windows have charts and a while has passed.
func (s *soak) underLoad(m *measurement, began time.Time, refresher *faults.Process, seed uint64) {
	s.Helper()
	start, sent := time.Now(), make(chan struct{})
	go func() {
		defer close(sent)
		s.send(m, seed)
	}()
	if *soakPreload == 0 {
		s.awaitSnapshots(m, began)
	}
	pause(s.Context(), soakLength()/10)

	m.before = s.usage(refresher)
	ctx, stop := context.WithCancel(s.Context())
	var watchers, probe sync.WaitGroup
	watching := time.Now()
	s.known.learn(ctx, s.store)
	for i, watch := range []func(context.Context, *measurement, *rand.Rand){s.learn, s.compare, s.ask, s.readCharts} {
		watchers.Go(func() { watch(ctx, m, rand.New(rand.NewPCG(seed, uint64(30+i)))) })
	}
	probe.Go(func() { s.probe(ctx, m, soakLength()-time.Since(start)) })
	if s.file != "" {
		probe.Go(func() { s.loadFile(ctx) })
	}
	s.tell(m, sent)
	m.after = s.usage(refresher)
	probe.Wait()
	stop()
	watchers.Wait()
	m.watched = time.Since(watching)
	if s.file != "" {
		s.fresh(m)
	}
}

// promised is how old a served chart may be, in 95 of 100 cases.
const promised = 5 * time.Second

// fresh is about charts that a backfill has held up.
func (s *soak) fresh(m *measurement) {
	s.Helper()
	for name, ages := range m.staleness {
		slices.Sort(ages)
		if p95 := ages[len(ages)*95/100]; p95 > promised {
			s.Errorf("charts of %s were served %s old (p95) during a backfill", name, p95)
		}
	}
}

// send sends plays through the gateway for as long as the test is to last.
func (s *soak) send(m *measurement, seed uint64) {
	g := s.generator(seed)
	sent, err := simulate.Send(s.Context(), func() topk.Play {
		made := g.Made()
		play := g.Next()
		if g.Made() > made { // it is no repeat
			s.made++
			s.eventIDs ^= xxhash.Sum64String(play.EventID)
		}
		return play
	}, simulate.SendOptions{
		Target: simulate.Target{URL: s.ProxiedURL}, Rate: *soakRate, Duration: soakLength(), Encoding: simulate.Zstd,
	})
	if m.sent = sent; err != nil || sent.Accepted != sent.Sent {
		s.Errorf("sending: %v\n%s", err, sent)
	}
}

// probe measures from acknowledged to visible.
func (s *soak) probe(ctx context.Context, m *measurement, remaining time.Duration) {
	var err error
	m.freshness, err = simulate.Probe(ctx, simulate.ProbeOptions{
		Target: simulate.Target{URL: s.ProxiedURL}, Clock: time.Now,
		Duration: min(max(remaining*9/10, time.Second), 30*time.Minute), Every: 250 * time.Millisecond, EnterWithin: 5 * time.Minute,
	})
	if err != nil {
		m.freshnessError = err
	}
}

// tell says every minute how it goes, until all plays are sent.
func (s *soak) tell(m *measurement, sent <-chan struct{}) {
	for minutes := time.Tick(time.Minute); ; {
		select {
		case <-sent:
			return
		case <-minutes:
			m.mu.Lock()
			s.Logf("%s: %s: %d snapshots compared, %d wrong", time.Now().Format(time.TimeOnly), m.name, m.comparisons, m.wrong)
			m.mu.Unlock()
		}
	}
}

// learn finds out which charts there are, again and again.
func (s *soak) learn(ctx context.Context, _ *measurement, _ *rand.Rand) {
	for pause(ctx, 20*time.Second); ctx.Err() == nil; pause(ctx, 20*time.Second) {
		s.known.learn(ctx, s.store)
	}
}

// compareShare is how much of a core comparisons may take, in this process and
// in ClickHouse.
const compareShare = 0.25

// compare holds snapshots against the log.
func (s *soak) compare(ctx context.Context, m *measurement, r *rand.Rand) {
	for ctx.Err() == nil {
		key, start := s.known.pick(r), time.Now()
		did, err := s.recountOne(ctx, s.store, key)
		took := time.Since(start)
		m.mu.Lock()
		m.comparing += took
		if did {
			m.comparisons++
			m.compared[key.Window.String()]++
		}
		if err != nil {
			m.wrong++
			s.Error(err)
		}
		m.mu.Unlock()
		if m.wrong > 10 {
			return
		}
		pause(ctx, time.Duration(float64(took)*(1/compareShare-1)))
	}
}

// onDemand are charts that have snapshots only while they are asked for.
var onDemand = []string{
	"playlist:top-hits", "playlist:top-hits-us", "playlist:mix-pop", "artist:" + simulate.ArtistID("Taylor Swift"), "artist:" + simulate.ArtistID("Mariah Carey"),
	"genre:pop,region:IN", "device:mobile,segment:free", "region:US/New York,segment:premium",
}

// ask asks for charts that are kept on demand.
func (s *soak) ask(ctx context.Context, m *measurement, r *rand.Rand) {
	api := &system{t: s.T, url: s.URL}
	for windows := topk.Windows(); ctx.Err() == nil; pause(ctx, 2*time.Second) {
		dim, window := onDemand[r.IntN(len(onDemand))], windows[r.IntN(len(windows))].String()
		_, err := api.top(url.Values{"dim": {dim}, "window": {window}})
		m.served(err)
	}
}

// readCharts asks for eager charts, and how old they are.
func (s *soak) readCharts(ctx context.Context, m *measurement, r *rand.Rand) {
	api := &system{t: s.T, url: s.URL}
	for ; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		key := s.known.pick(r)
		if !eagerly(key) {
			continue
		}
		chart, err := api.top(url.Values{"dim": {key.Filter.String()}, "window": {key.Window.String()}})
		if m.served(err); err == nil {
			m.age(key, chart, time.Now())
		}
	}
}

// flush empties Redis, and waits until as many charts are back as were there.
func (s *soak) flush(m *measurement) {
	s.Helper()
	m.snapshots = s.snapshots()
	s.Logf("%s: %d snapshots are flushed", m.name, m.snapshots)
	start := time.Now()
	s.flushRedis(nil)
	s.awaitFor(coldStartTimeout, "all snapshots are back", func() error {
		if n := s.snapshots(); n < m.snapshots {
			return fmt.Errorf("%d of %d", n, m.snapshots)
		}
		return nil
	})
	m.back = time.Since(start)
}

// snapshots counts the charts in Redis that are not there on demand.
func (s *soak) snapshots() int {
	s.Helper()
	seen := map[string]bool{} // a key may come twice
	for cursor := uint64(0); ; {
		scan := s.redis.B().Scan().Cursor(cursor).Match("meta:{*}:*").Count(1000).Build()
		page, err := s.redis.Do(s.Context(), scan).AsScanEntry()
		if err != nil {
			s.Fatal(err)
		}
		for _, key := range page.Elements {
			if name, _, _ := strings.Cut(strings.TrimPrefix(key, "meta:{"), "}"); !strings.Contains(name, ",") &&
				!strings.HasPrefix(name, "playlist:") && !strings.HasPrefix(name, "album:") && !strings.HasPrefix(name, "artist:") {
				seen[key] = true
			}
		}
		if cursor = page.Cursor; cursor == 0 {
			return len(seen)
		}
	}
}

// verdict is about plays that were lost, and what topk check says.
func (s *soak) verdict() {
	s.Helper()
	for _, p := range s.Processes() {
		if err := p.Ended(); err != nil {
			s.Fatal(err)
		}
	}
	s.Log("waiting for the last plays")
	s.awaitRead()
	got := s.value(fmt.Sprintf("SELECT count(), groupBitXor(xxHash64(eventId)) FROM plays WHERE src < %d AND NOT startsWith(eventId, 'probe-') AND NOT startsWith(eventId, 'file-')", topk.BackfillSource))
	if want := fmt.Sprintf("%d\t%d", s.made, s.eventIDs); got != want {
		s.Errorf("the log has other plays than were acknowledged: their number and combined hash are %s, want %s", got, want)
	}
	if s.file != "" {
		got := s.value("SELECT count(), groupBitXor(xxHash64(eventId)) FROM plays WHERE startsWith(eventId, 'file-')")
		if want := fmt.Sprintf("%d\t%d", *soakBackfill, s.inFile); got != want {
			s.Errorf("the log has other plays than the file: their number and combined hash are %s, want %s", got, want)
		}
	}
	s.Log("topk check")
	if out, err := s.check("--charts", "20"); err != nil {
		s.Errorf("topk check: %v\n%s", err, out)
	}
}

// writeFile writes a file of plays of the last 30 days, to be backfilled.
func (s *soak) writeFile(plays int) {
	s.Helper()
	if plays == 0 {
		return
	}
	s.file = filepath.Join(s.T.TempDir(), "plays.ndjson.zst")
	file, err := os.Create(s.file)
	if err != nil {
		s.Fatal(err)
	}
	packed, err := zstd.NewWriter(file)
	if err != nil {
		s.Fatal(err)
	}
	g, r, now := s.generator(s.seed-2), rand.New(rand.NewPCG(s.seed, 40)), time.Now().UTC().Truncate(time.Millisecond)
	lines := json.NewEncoder(packed)
	for n := range plays {
		p := g.Next()
		p.EventID = fmt.Sprint("file-", n)
		p.Timestamp = now.Add(-time.Duration(r.Int64N(30*24*3600_000)) * time.Millisecond)
		s.inFile ^= xxhash.Sum64String(p.EventID)
		if err := lines.Encode(p); err != nil {
			s.Fatal(err)
		}
	}
	if err := errors.Join(packed.Close(), file.Close()); err != nil {
		s.Fatal(err)
	}
}

// loadFile backfills it.
func (s *soak) loadFile(ctx context.Context) {
	start := time.Now()
	args := append([]string{"load", "backfill", s.file, "--user-pepper-file", s.PepperFile}, s.ChainFlags()...)
	out, err := s.System.Run(ctx, nil, args...)
	if err != nil {
		s.Errorf("backfill: %v", err)
	}
	s.Logf("backfilled in %s:\n%s", time.Since(start).Round(time.Second), out)
}

// preloadSources are how many sources preloaded plays are spread over: the
// rollups read so much of each at a time.
const (
	preloadSources  = 8
	preloadFirst    = 65534 << 16
	preloadBlock    = 1_000_000
	preloadPatterns = 500_000
	preloadTimeout  = time.Hour
)

// preload writes plays into the log, half of them of the last day and half of
// the last eight, and waits until they are in the rollups. They are made of
// simulated ones: the listener of one, and the song of another of the same
// country.
func (s *soak) preload(plays int) {
	s.Helper()
	if plays == 0 {
		return
	}
	start := time.Now()
	s.patterns(min(plays, preloadPatterns))
	for first := 0; first < plays; first += preloadBlock {
		block := first / preloadBlock
		s.value(fmt.Sprintf(preloadSQL, preloadFirst+block%preloadSources, min(preloadBlock, plays-first), block/preloadSources*preloadBlock))
	}
	s.Logf("%d plays are in the log after %s", plays, time.Since(start).Round(time.Second))
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		s.awaitFor(preloadTimeout, "the plays are in "+rollup, func() error {
			left, err := s.query("SELECT count() FROM plays WHERE koff >= (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM " + rollup + " WHERE dim = '_wm')[src]")
			if err == nil && left != "0" {
				err = errors.New(left + " are not")
			}
			return err
		})
	}
	s.value("DROP TABLE patterns")
	s.Logf("and in the rollups after %s", time.Since(start).Round(time.Second))
}

// preloadSQL takes the source, the number of plays and the first offset. What is
// drawn is a hash of the play's place.
const preloadSQL = `
	INSERT INTO plays (src, koff, at, ts, eventId, user, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)
	SELECT %[1]d, played.place, now64(3, 'UTC'),
		now64(3, 'UTC') - toIntervalMillisecond(cityHash64(%[1]d, played.place, 1) %% (if(played.place %% 2 = 0, 1, 8) * 86400000)),
		concat('preload-%[1]d-', toString(played.place)), played.user, song.songId, song.artistId, played.country, played.region,
		played.device, song.contextKind, song.contextId, song.duration, played.segments, true
	FROM
	(
		SELECT drawn.place AS place, listener.id AS user, listener.country AS country, listener.region AS region, listener.device AS device,
			listener.segments AS segments, listener.first + cityHash64(%[1]d, drawn.place, 2) %% listener.size AS other
		FROM (SELECT %[3]d + number AS place, cityHash64(%[1]d, place, 3) %% (SELECT count() FROM patterns) AS pattern FROM numbers(%[2]d)) AS drawn
		INNER JOIN patterns AS listener ON listener.id = drawn.pattern
	) AS played
	INNER JOIN patterns AS song ON song.id = played.other
	ORDER BY played.place`

// patterns are plays from which others are made, sorted by country; first is the
// first of the same country and size how many these are.
func (s *soak) patterns(n int) {
	s.Helper()
	s.value(`CREATE TABLE made (songId String, artistId String, country String, region String, device String,
		contextKind String, contextId String, duration Int32, segments Array(String)) ENGINE = MergeTree ORDER BY country`)
	g := s.generator(s.seed - 1)
	for n > 0 {
		rows := bytes.NewBufferString("INSERT INTO made FORMAT JSONEachRow\n")
		for range min(n, 50_000) {
			p := g.Next()
			if err := json.NewEncoder(rows).Encode(map[string]any{
				"songId": p.SongID, "artistId": p.ArtistID, "country": p.Region.Country, "region": p.Region.String(), "device": p.Device,
				"contextKind": p.Context.Kind, "contextId": p.Context.ID, "duration": p.Duration, "segments": s.users[p.UserID],
			}); err != nil {
				s.Fatal(err)
			}
			n--
		}
		s.value(rows.String())
	}
	s.value(`CREATE TABLE patterns ENGINE = MergeTree ORDER BY id AS
		SELECT rowNumberInAllBlocks() AS id, min(id) OVER (PARTITION BY country) AS first, count() OVER (PARTITION BY country) AS size, *
		FROM (SELECT * FROM made ORDER BY country)`)
	s.value("DROP TABLE made")
}
