package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

func (f *facts) Artist(ctx context.Context, id string) (topk.Artist, error) {
	if err := f.ask(ctx, "artist %s", id); err != nil {
		return topk.Artist{}, err
	}
	artist, known := f.artists[id]
	if !known {
		return artist, fmt.Errorf("%w: no song of artist %s", topk.ErrNotFound, id)
	}
	return artist, nil
}

func TestArtist(t *testing.T) {
	s, f := newFacts(t)
	s.truth.plays = map[string]uint64{"a": 3, "b": 2, "c": 1}
	s.truth.songs["a"] = topk.Song{SongID: "a", Title: "A"}
	f.artists = map[string]topk.Artist{
		"x":   {ArtistID: "x", Name: "X", Genres: []string{"pop", "rock"}, Songs: 4},
		"a/b": {ArtistID: "a/b", Name: "A or B", Songs: 1},
	}
	r := s.get("/v1/artists/x?k=2")
	const want = `{"artistId":"x","name":"X","genres":["pop","rock"],"songs":4,"top":{"dim":"artist:x","window":"24h","asOf":"2025-11-24T12:00:00.000Z",`
	var got answer.Artist
	s.into(r, &got)
	if !strings.HasPrefix(string(r.body), want) || len(got.Top.Items) != 2 || got.Top.Items[0].Metadata.Title != "A" || got.Top.Items[1].SongID != "b" || got.Top.TotalPlays != 6 {
		t.Errorf("%s\nwant %s", r.body, want)
	}
	for path, want := range map[string]string{
		"x?dim=region:IN,genre:pop&window=7d": "artist:x,genre:pop,region:IN 7d 200",
		"x?dim=artist:x&window=all":           "artist:x all 200",
		"x?window=1h&k=201":                   "artist:x 1h 1000",
		"a%2Fb?window=today":                  "artist:a/b today 200",
	} {
		before := len(s.truth.chartCalls())
		s.into(s.get("/v1/artists/"+path), &got)
		if asked := s.truth.chartCalls()[before:]; !reflect.DeepEqual(asked, []string{want}) {
			t.Errorf("%s: %v, want %s", path, asked, want)
		}
	}
	// What the catalog says is remembered, until it is changed here.
	f.questions()
	s.get("/v1/artists/x")
	if asked := f.questions(); len(asked) != 0 {
		t.Errorf("ClickHouse was asked %v", asked)
	}
	s.do(http.MethodPost, "/v1/songs", songJSON("d", "D"))
	s.get("/v1/artists/x")
	if asked := f.questions(); len(asked) != 1 {
		t.Errorf("ClickHouse was asked %v", asked)
	}

	for _, id := range []string{"none", "%ff", strings.Repeat("x", 65)} {
		s.problem(s.get("/v1/artists/"+id), http.StatusNotFound)
	}
	for query, want := range map[string][]string{
		"window=2h":   {"query.window"},
		"k=x&dim=y:z": {"query.dim", "query.k"},
		"songs=1":     {"query.songs"},
		"k=1&k=2":     {"query.k"},
		"dim=genre:1,genre:2,genre:3,genre:4,genre:5,genre:6": {"query.dim"},
	} {
		if got := locations(s.problem(s.get("/v1/artists/x?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
	}
	f.set(func() { f.err = errAway })
	s.problem(s.get("/v1/artists/other"), http.StatusServiceUnavailable)
}
