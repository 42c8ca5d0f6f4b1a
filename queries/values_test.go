package queries_test

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"github.com/topk-charts/topk"
)

// The values are those of all plays, counted or not yet seen together; of
// genres, those of the catalog.
func TestValues(t *testing.T) {
	c := newChain(t)
	plays := randomPlays(7, 3000)
	c.append(0, plays...)
	c.fill("rollup_day")
	want := map[topk.Dimension]map[string]bool{topk.DimRegion: {}, topk.DimSegment: {}, topk.DimDevice: {}, topk.DimGenre: {}}
	for _, p := range plays {
		if p.Region.Country != "" {
			want[topk.DimRegion][p.Region.Country] = true
			want[topk.DimRegion][p.Region.String()] = true
		}
		if p.Device != "" {
			want[topk.DimDevice][p.Device] = true
		}
		for _, s := range c.users[p.UserID] {
			want[topk.DimSegment][s] = true
		}
	}
	for _, s := range c.songs() {
		for _, g := range s.Genres {
			want[topk.DimGenre][g] = true
		}
	}
	for dim, values := range want {
		var sorted []string
		for v := range values {
			sorted = append(sorted, v)
		}
		slices.Sort(sorted)
		got, err := c.db.Values(t.Context(), dim)
		if err != nil || len(got) == 0 || !reflect.DeepEqual(got, sorted) {
			t.Errorf("%s: %v, %v, want %v", dim, got, err, sorted)
		}
	}
}

// songs reads the whole catalog.
func (c *chain) songs() (songs []topk.Song) {
	c.Helper()
	if err := c.db.Catalog(c.Context(), 0, func(s topk.Song) error {
		songs = append(songs, s)
		return nil
	}); err != nil {
		c.Fatal(err)
	}
	return songs
}

func TestArtist(t *testing.T) {
	c := newChain(t)
	for _, s := range []topk.Song{
		{SongID: "z1", Title: "1", ArtistID: "z", Artist: "Then", Genres: []string{"rock", "pop"}},
		{SongID: "z2", Title: "2", ArtistID: "z", Artist: "Later", Genres: []string{"pop", "jazz"}},
		{SongID: "z3", Title: "3", ArtistID: "z", Artist: "Another's by now"},
		{SongID: "z3", Title: "3", ArtistID: "y", Artist: "Y"},
		{SongID: "z1", Title: "1", ArtistID: "z", Artist: "Now", Genres: []string{"rock"}},
	} {
		if err := c.db.UpsertSongs(t.Context(), []topk.Song{s}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.db.Artist(t.Context(), "z")
	want := topk.Artist{ArtistID: "z", Name: "Now", Genres: []string{"jazz", "pop", "rock"}, Songs: 2}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := c.db.Artist(t.Context(), "y"); err != nil || got.Name != "Y" || len(got.Genres) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := c.db.Artist(t.Context(), "none"); !errors.Is(err, topk.ErrNotFound) {
		t.Errorf("%+v, %v", got, err)
	}
}
