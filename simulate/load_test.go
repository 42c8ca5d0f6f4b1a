package simulate

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
)

func TestCitiesAreMadeUp(t *testing.T) {
	charts := loadCharts(t)
	const n = 1000
	g := newGenerator(t, charts, Options{Seed: 1, Users: 100_000, Cities: n})
	plays := map[topk.Region]int{}
	for range 300_000 {
		plays[g.Next().Region]++
	}
	districts := map[string]int{}
	heard := 0
	for region := range plays {
		if region.City == "" {
			continue
		}
		heard++
		if got, err := topk.ParseRegion(region.String()); err != nil || got != region {
			t.Errorf("%s: %v", region, err)
		}
		if strings.HasPrefix(region.City, "District ") {
			districts[region.Country]++
		}
	}
	if heard < n*95/100 || heard > n {
		t.Errorf("%d cities are heard of, of %d", heard, n)
	}
	if districts["US"] < 5*districts["SE"] {
		t.Errorf("districts are not shared out as streams are: %v", districts)
	}
	if big, small := plays[topk.Region{Country: "US", City: "New York"}], plays[topk.Region{Country: "US", City: "District 100"}]; big < 30*small {
		t.Errorf("the first city has %d plays and the hundredth %d", big, small)
	}
	if _, err := NewGenerator(charts, Options{Clock: time.Now, Cities: 3}); err == nil || !strings.Contains(err.Error(), "at least the") {
		t.Errorf("fewer cities than there are: %v", err)
	}
}

func TestTownsAddUp(t *testing.T) {
	countries := []string{"IN", "US", "AQ"}
	for n := 12; n < 200; n += 7 {
		towns, err := townsOf(countries, []float64{3, 5, 0.1}, n)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(slices.Concat(towns...)); got != n {
			t.Errorf("%d cities of %d: %v", got, n, towns)
		}
	}
}

// A tail is in the catalog, and its songs are many.
func TestTail(t *testing.T) {
	charts := loadCharts(t)
	const n, plays = 20_000, 100_000
	catalog := map[string]topk.Song{}
	for _, song := range charts.Tail(n) {
		catalog[song.SongID] = song
	}
	if len(catalog) != n {
		t.Fatalf("%d songs", len(catalog))
	}
	g := newGenerator(t, charts, Options{Seed: 1, Tail: n})
	drawn := map[string]int{}
	inTail := 0
	for range plays {
		p := g.Next()
		if song, is := catalog[p.SongID]; is {
			drawn[p.SongID]++
			inTail++
			if song.ArtistID != p.ArtistID {
				t.Fatalf("%s is by %s, not %s", p.SongID, song.ArtistID, p.ArtistID)
			}
		}
	}
	if share := float64(inTail) / plays; share < 0.29 || share > 0.31 {
		t.Errorf("%.3f of the plays", share)
	}
	counts := slices.Sorted(maps.Values(drawn))
	if len(counts) < n/4 || counts[len(counts)-1] < 100*counts[len(counts)/2] {
		t.Errorf("%d songs, the first %d times and the middle one %d times", len(counts), counts[len(counts)-1], counts[len(counts)/2])
	}
}

// shares gives how often each song is played in a country at a time.
func shares(g *Generator, now *time.Time, at time.Time, country string, n int) map[string]float64 {
	*now = at
	counts, all := map[string]float64{}, 0.0
	for range n {
		if p := g.Next(); country == "" || p.Region.Country == country {
			counts[p.SongID]++
			all++
		}
	}
	for song := range counts {
		counts[song] /= all
	}
	return counts
}

// best gives the song with the greatest share.
func best(shares map[string]float64) (song string) {
	for s, share := range shares {
		if song == "" || share > shares[song] || share == shares[song] && s > song {
			song = s
		}
	}
	return song
}

func TestDriftMovesTheTop(t *testing.T) {
	now := noon
	g := newGenerator(t, loadCharts(t), Options{Seed: 4, Drift: true, Clock: func() time.Time { return now }})
	tops := map[string]bool{}
	for hour := range 12 {
		tops[best(shares(g, &now, noon.Add(time.Duration(hour)*time.Hour), "US", 20_000))] = true
	}
	if len(tops) < 3 {
		t.Errorf("the first song of the US is always one of %v", tops)
	}
}

func TestBurstsLastAMinute(t *testing.T) {
	now := noon
	g := newGenerator(t, loadCharts(t), Options{Seed: 4, Bursts: true, Clock: func() time.Time { return now }})
	everywhere, releases := 0, 0
	const minutes = 60
	for minute := range minutes {
		shares := shares(g, &now, noon.Add(time.Duration(minute)*time.Minute), "", 2000)
		if top := best(shares); shares[top] > burstShare/2 {
			everywhere++
			if strings.HasPrefix(top, "release-") {
				releases++
			}
		}
	}
	if everywhere < minutes/burstEvery/4 || everywhere > minutes/burstEvery || releases == 0 || releases == everywhere {
		t.Errorf("%d of %d minutes have a burst everywhere, %d of them of a new release", everywhere, minutes, releases)
	}
}

// All of it is made again from the seed.
func TestLoadIsRepeatable(t *testing.T) {
	run := func(n int) (plays [][]byte) {
		g := newGenerator(t, loadCharts(t), Options{Seed: 9, Users: 1000, Cities: 400, Tail: 1000, Drift: true, Bursts: true, LateShare: 0.1, DuplicateShare: 0.1})
		for range n {
			text, err := json.Marshal(g.Next())
			if err != nil {
				t.Fatal(err)
			}
			plays = append(plays, text)
		}
		if made := g.Made(); made > uint64(n) || made < uint64(n)*8/10 {
			t.Errorf("%d different plays of %d", made, n)
		}
		return plays
	}
	if !slices.EqualFunc(run(3000), run(3000), bytes.Equal) {
		t.Error("two runs differ")
	}
}

func BenchmarkGeneratorUnderLoad(b *testing.B) {
	g := newGenerator(b, loadCharts(b), Options{Seed: 1, LateShare: 0.01, Clock: time.Now, Users: 190_000, Cities: 3781, Tail: 1_000_000, Drift: true, Bursts: true})
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
}
