package simulate

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/topk-charts/topk"
)

const chartsFile = "weekly-charts-72-regions-with-genre.csv"

var realCharts = sync.OnceValues(func() (*Charts, error) {
	f, err := os.Open(filepath.Join("..", "testdata", chartsFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return Load(f)
})

// loadCharts gives the real charts.
func loadCharts(t testing.TB) *Charts {
	t.Helper()
	charts, err := realCharts()
	if err != nil {
		t.Fatal(err)
	}
	return charts
}

func TestLoadRealCharts(t *testing.T) {
	charts := loadCharts(t)
	songs := charts.Catalog()
	if len(songs) != 6526 {
		t.Errorf("%d songs, want 6526", len(songs))
	}
	countries := charts.Countries()
	if len(countries) != 71 || slices.Contains(countries, "GLOBAL") {
		t.Errorf("%d countries, want 71 without the global chart: %v", len(countries), countries)
	}
	want := topk.Song{
		SongID: "06qMRF18gwbOYYbnP2du6i", Title: "Last Christmas - Single Version",
		ArtistID: "ar-wham-" + songs[0].ArtistID[len("ar-wham-"):], Artist: "Wham!",
		Genres: []string{"new romantic"}, DurationMS: 265960,
	}
	if got := songs[0]; got.SongID != want.SongID || got.Title != want.Title || got.ArtistID != want.ArtistID ||
		got.Artist != want.Artist || !slices.Equal(got.Genres, want.Genres) || got.DurationMS != want.DurationMS {
		t.Errorf("first song is %+v, want %+v", got, want)
	}
	if n := charts.Streams("AE")["06qMRF18gwbOYYbnP2du6i"]; n != 115829 {
		t.Errorf("streams in AE %d, want 115829", n)
	}
	artists := map[string]string{}
	for _, song := range songs {
		if song.Genres == nil || len(song.ArtistID) > topk.MaxArtistID {
			t.Fatalf("bad song %+v", song)
		}
		if other, seen := artists[song.ArtistID]; seen && other != song.Artist {
			t.Errorf("%q and %q share the id %s", other, song.Artist, song.ArtistID)
		}
		artists[song.ArtistID] = song.Artist
	}
}

func TestLoadMergesRowsOfASong(t *testing.T) {
	charts, err := Load(strings.NewReader("region,track_id,track_name,artist,streams,genre\n" +
		"in,s1,One,A,5,pop\n" +
		"global,s1,One,A,90,rock\n" +
		"in,s1,One,A,7,\n" +
		"us,s1,One,A,1,pop\n" +
		"global,s2,Two,B,80,\n"))
	if err != nil {
		t.Fatal(err)
	}
	songs := charts.Catalog()
	if len(songs) != 2 || !slices.Equal(songs[0].Genres, []string{"pop", "rock"}) || len(songs[1].Genres) != 0 {
		t.Errorf("catalog %+v", songs)
	}
	if !slices.Equal(charts.Countries(), []string{"IN", "US"}) {
		t.Errorf("countries %v", charts.Countries())
	}
	if got := charts.Streams("IN")["s1"]; got != 12 {
		t.Errorf("streams in IN %d, want 12", got)
	}
}

func TestLoadNamesTheLineOfAnError(t *testing.T) {
	const header = "region,track_id,track_name,artist,streams,genre,duration_ms\n"
	const good = "in,s1,\"One\nmore\",A,5,pop,1000\n"
	tests := map[string]struct{ csv, want string }{
		"empty":           {"", "the file is empty"},
		"header only":     {header, "no rows"},
		"missing column":  {"region,track_id,track_name,artist\nin,s1,One,A\n", `line 1: column "streams" is missing`},
		"doubled column":  {"region,region,track_id\n", `line 1: column "region" is there twice`},
		"unknown region":  {header + "xx,s1,One,A,5,,\n", `line 2: region "xx"`},
		"city":            {header + "in/Mumbai,s1,One,A,5,,\n", `line 2: region "in/Mumbai"`},
		"no song":         {header + "in,,One,A,5,,\n", "line 2: track_id is empty"},
		"long song":       {header + "in," + strings.Repeat("s", 65) + ",One,A,5,,\n", "line 2: track_id must be at most 64 bytes"},
		"bad streams":     {header + "in,s1,One,A,5,,\nus,s1,One,A,many,,\n", `line 3: streams "many"`},
		"zero streams":    {header + "in,s1,One,A,0,,\n", `line 2: streams "0"`},
		"bad duration":    {header + "in,s1,One,A,5,,-1\n", `line 2: duration_ms "-1"`},
		"few fields":      {header + "in,s1\n", "line 2: wrong number of fields"},
		"bare quote":      {header + "in,s1,O\"ne,A,5,,\n", "line 2, column 8"},
		"not UTF-8":       {header + "in,s1,\xff,A,5,,\n", "line 2: track_name is not valid UTF-8"},
		"control":         {header + good, "line 2: track_name has control characters"},
		"after long line": {header + "in,s1,One,A,5,\"pop\n\",\nin,s2,,A,5,,\n", "line 4: track_name is empty"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Load(strings.NewReader(tt.csv))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestArtistIDIsReadableAndDistinct(t *testing.T) {
	if a, b := ArtistID("Beyoncé"), ArtistID("Beyonce"); a == b {
		t.Errorf("two names share %s", a)
	}
	for name, prefix := range map[string]string{
		"Mariah Carey":              "ar-mariah-carey-",
		"陳華":                        "ar-",
		strings.Repeat("long ", 40): "ar-long-long-",
	} {
		id := ArtistID(name)
		if !strings.HasPrefix(id, prefix) || len(id) > topk.MaxArtistID || id != ArtistID(name) {
			t.Errorf("ArtistID(%q) = %s", name, id)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("region,track_id,track_name,artist,streams,genre,duration_ms\nin,s1,One,A,5,pop,1000\n")
	f.Add("\ufeffregion,track_id,track_name,artist,streams\r\nglobal,s1,\"O\"\"ne\",A,5\r\n")
	f.Add("region,track_id,track_name,artist,streams\nin,s1,One")
	f.Fuzz(func(t *testing.T, csv string) {
		charts, err := Load(strings.NewReader(csv))
		if err != nil {
			return
		}
		// Whatever loads is a catalog that the domain accepts.
		for _, song := range charts.Catalog() {
			if song.SongID == "" || len(song.SongID) > topk.MaxSongID || song.Title == "" || song.Genres == nil {
				t.Errorf("loaded %+v", song)
			}
		}
		for _, country := range charts.Countries() {
			if _, err := topk.ParseRegion(country); err != nil {
				t.Errorf("country %q %v", country, err)
			}
			for song, n := range charts.Streams(country) {
				if n == 0 {
					t.Errorf("%s has no streams in %s", song, country)
				}
			}
		}
	})
}
