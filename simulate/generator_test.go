package simulate

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// ticking is a clock that moves a millisecond at every reading.
func ticking() topk.Clock {
	now := noon
	return func() time.Time { now = now.Add(time.Millisecond); return now }
}

func newGenerator(t testing.TB, charts *Charts, opts Options) *Generator {
	t.Helper()
	if opts.Clock == nil {
		opts.Clock = ticking()
	}
	g, err := NewGenerator(charts, opts)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func take(g *Generator, n int) []topk.Play {
	plays := make([]topk.Play, n)
	for i := range plays {
		plays[i] = g.Next()
	}
	return plays
}

func TestSameSeedSamePlays(t *testing.T) {
	charts, err := Load(strings.NewReader("region,track_id,track_name,artist,streams,genre,duration_ms\n" +
		"in,s1,One,A,500,pop,100000\nin,s2,Two,B,70,filmi,\nus,s2,Two,B,90,filmi,\nus,s3,Three,A,30,,240000\nis,s1,One,A,2,pop,\n"))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		opts := Options{
			Seed:           rapid.Uint64().Draw(t, "seed"),
			Users:          rapid.IntRange(1, 500).Draw(t, "users"),
			LateShare:      rapid.Float64Range(0, 1).Draw(t, "late"),
			DuplicateShare: rapid.Float64Range(0, 1).Draw(t, "duplicates"),
		}
		run := func() []byte {
			opts.Clock = ticking()
			g, err := NewGenerator(charts, opts)
			if err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(take(g, 200))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		if a, b := run(), run(); !bytes.Equal(a, b) {
			t.Fatalf("two runs of %+v differ", opts)
		}
	})
}

func TestSeedsDiffer(t *testing.T) {
	charts := loadCharts(t)
	a := take(newGenerator(t, charts, Options{Seed: 1, Users: 100}), 100)
	b := take(newGenerator(t, charts, Options{Seed: 2, Users: 100}), 100)
	ids := map[string]bool{}
	same := 0
	for i := range a {
		ids[a[i].EventID], ids[b[i].EventID] = true, true
		if a[i].SongID == b[i].SongID {
			same++
		}
	}
	if len(ids) != 200 || same > 50 {
		t.Errorf("%d of 200 event ids are distinct, %d of 100 songs are the same", len(ids), same)
	}
}

// Every play passes the rules that the gateway applies.
func TestPlaysAreAcceptable(t *testing.T) {
	now := noon
	g := newGenerator(t, loadCharts(t), Options{
		Seed: 7, Users: 1000, LateShare: 0.3, DuplicateShare: 0.1, Clock: func() time.Time { return now },
	})
	for _, play := range take(g, 20_000) {
		data, err := json.Marshal(play)
		if err != nil {
			t.Fatal(err)
		}
		got, err := topk.ParsePlay(data, topk.DefaultRules(), now)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if *got.Duration < 1 || got.Region.Country == "AQ" {
			t.Fatalf("odd play %s", data)
		}
	}
}

// chiSquare compares counts with the shares they should have. Values with a
// tiny expectation are put together, as the test demands. It gives the number
// of standard deviations the statistic lies above its mean.
func chiSquare(counts map[string]int, weights map[string]float64, n int) float64 {
	var total, statistic, degrees float64
	for _, w := range weights {
		total += w
	}
	var restSeen, restExpected float64
	for value, w := range weights {
		expected := w / total * float64(n)
		if expected < 10 {
			restSeen += float64(counts[value])
			restExpected += expected
			continue
		}
		d := float64(counts[value]) - expected
		statistic += d * d / expected
		degrees++
	}
	if restExpected >= 10 {
		statistic += (restSeen - restExpected) * (restSeen - restExpected) / restExpected
	} else {
		degrees--
	}
	return (statistic - degrees) / math.Sqrt(2*degrees)
}

func TestProportionsAreThoseOfTheCharts(t *testing.T) {
	charts := loadCharts(t)
	// A small pool: where nobody lives, travellers keep the proportions.
	g := newGenerator(t, charts, Options{Seed: 42, Users: 300})
	const n = 300_000
	byCountry, byDevice := map[string]int{}, map[string]int{}
	bySong := map[string]map[string]int{}
	kinds := map[string]int{}
	for range n {
		p := g.Next()
		byCountry[p.Region.Country]++
		byDevice[p.Device]++
		kinds[p.Context.Kind]++
		if bySong[p.Region.Country] == nil {
			bySong[p.Region.Country] = map[string]int{}
		}
		bySong[p.Region.Country][p.SongID]++
	}

	countryWeights := map[string]float64{}
	for _, country := range charts.Countries() {
		for _, streams := range charts.Streams(country) {
			countryWeights[country] += float64(streams)
		}
	}
	// Seeds are fixed, so this cannot flake; a wrong weight is hundreds away.
	const limit = 4
	if d := chiSquare(byCountry, countryWeights, n); math.Abs(d) > limit {
		t.Errorf("countries are %.1f deviations off: %v", d, byCountry)
	}
	for _, country := range []string{"US", "IN", "SE", "FI"} {
		weights := map[string]float64{}
		for song, streams := range charts.Streams(country) {
			weights[song] = float64(streams)
		}
		if d := chiSquare(bySong[country], weights, byCountry[country]); math.Abs(d) > limit {
			t.Errorf("songs of %s are %.1f deviations off", country, d)
		}
		for song := range bySong[country] {
			if _, charted := weights[song]; !charted {
				t.Errorf("song %s is not on the chart of %s", song, country)
			}
		}
	}
	deviceWeights := map[string]float64{}
	for _, d := range devices {
		deviceWeights[d.name] = d.weight
	}
	if d := chiSquare(byDevice, deviceWeights, n); math.Abs(d) > limit {
		t.Errorf("devices are %.1f deviations off: %v", d, byDevice)
	}
	kindWeights := map[string]float64{"playlist": playlistShare, "album": albumShare, "": 1 - playlistShare - albumShare}
	if d := chiSquare(kinds, kindWeights, n); math.Abs(d) > limit {
		t.Errorf("contexts are %.1f deviations off: %v", d, kinds)
	}
}

func TestLateAndDuplicateShares(t *testing.T) {
	g := newGenerator(t, loadCharts(t), Options{
		Seed: 3, Users: 100, LateShare: 0.1, DuplicateShare: 0.2, Clock: func() time.Time { return noon },
	})
	const n = 50_000
	late, duplicates := 0, 0
	seen := map[string]topk.Play{}
	for range n {
		p := g.Next()
		if first, again := seen[p.EventID]; again {
			duplicates++
			if first != p {
				t.Fatalf("the event changed: %+v, then %+v", first, p)
			}
			continue
		}
		seen[p.EventID] = p
		if delay := noon.Sub(p.Timestamp); delay > 0 {
			late++
			if delay < minLate || delay > maxLate+time.Millisecond {
				t.Fatalf("late by %s", delay)
			}
		}
	}
	if share := float64(duplicates) / n; math.Abs(share-0.2) > 0.01 {
		t.Errorf("%.3f of the plays are duplicates, want 0.2", share)
	}
	if share := float64(late) / float64(n-duplicates); math.Abs(share-0.1) > 0.01 {
		t.Errorf("%.3f of the plays are late, want 0.1", share)
	}
}

func TestUsersKeepTheirHome(t *testing.T) {
	g := newGenerator(t, loadCharts(t), Options{Seed: 5, Users: 20_000})
	homes := map[string]topk.Region{}
	withCity := 0
	const n = 50_000
	for range n {
		p := g.Next()
		if home, known := homes[p.UserID]; known && home != p.Region {
			t.Fatalf("%s plays in %s and in %s", p.UserID, home, p.Region)
		}
		homes[p.UserID] = p.Region
		if p.Region.City != "" {
			withCity++
			if !slices.Contains(cities[p.Region.Country], p.Region.City) {
				t.Fatalf("%s", p.Region)
			}
		}
	}
	if share := float64(withCity) / n; math.Abs(share-0.9) > 0.02 {
		t.Errorf("%.3f of the plays name a city, want 0.9", share)
	}
}

func TestCitiesAreValid(t *testing.T) {
	for country, names := range cities {
		for _, name := range names {
			region := topk.Region{Country: country, City: name}
			if got, err := topk.ParseRegion(region.String()); err != nil || got != region {
				t.Errorf("%s: %v", region, err)
			}
		}
	}
}

func TestSegmentsAreAFunctionOfTheUser(t *testing.T) {
	var out strings.Builder
	if err := WriteSegments(&out, 10_000); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 10_000 {
		t.Fatalf("%d lines", len(lines))
	}
	counts := map[string]int{}
	for i, line := range lines {
		var row UserSegments
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		if row.UserID != userID(i) || !slices.Equal(row.Segments, segmentsOf(row.UserID)) || len(row.Segments) > 2 {
			t.Fatalf("line %d: %s", i+1, line)
		}
		if !slices.Contains(row.Segments, "free") && !slices.Contains(row.Segments, "premium") {
			t.Fatalf("%s has no plan", line)
		}
		for _, s := range row.Segments {
			counts[s]++
		}
	}
	for segment, share := range map[string]float64{"free": 0.55, "premium": 0.45, "student": 0.1725, "family": 0.135} {
		if got := float64(counts[segment]) / 10_000; math.Abs(got-share) > 0.02 {
			t.Errorf("%.3f of the users are %s, want %.3f", got, segment, share)
		}
	}
}

func TestGeneratorRefusesBadOptions(t *testing.T) {
	charts := loadCharts(t)
	_, err := NewGenerator(charts, Options{Users: -1, LateShare: 2, DuplicateShare: math.NaN()})
	for _, want := range []string{"clock", "users", "late share", "duplicate share"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not speak of the %s", err, want)
		}
	}
	global, err := Load(strings.NewReader("region,track_id,track_name,artist,streams\nglobal,s1,One,A,5\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewGenerator(global, Options{Clock: ticking()}); err == nil {
		t.Error("made a generator without countries")
	}
}

func TestEventIDIsAUUID(t *testing.T) {
	a, b := eventID(1, 2), eventID(2, 1)
	if a == b || len(a) != 36 || a[14] != '8' || !strings.ContainsRune("89ab", rune(a[19])) {
		t.Errorf("%s and %s", a, b)
	}
}

func BenchmarkGenerator(b *testing.B) {
	g := newGenerator(b, loadCharts(b), Options{Seed: 1, LateShare: 0.01, Clock: time.Now})
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
}
