package api_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

func TestSong(t *testing.T) {
	s := newService(t)
	s.truth.plays = map[string]uint64{"both": 2, "played": 1}
	s.truth.songs["both"] = topk.Song{SongID: "both", Title: "Both", ArtistID: "x", Artist: "X", Genres: []string{"pop"}, DurationMS: 5}
	s.truth.songs["known"] = topk.Song{SongID: "known", Title: "Known"}
	for id, want := range map[string]string{
		"both":   `"metadata":{"title":"Both","artist":"X","artistId":"x","genres":["pop"],"durationMs":5},"plays":{"1h":2,"24h":4,"7d":6,"all":8}}`,
		"known":  `"metadata":{"title":"Known","artist":"","artistId":"","genres":[],"durationMs":0},"plays":{"1h":0,"24h":0,"7d":0,"all":0}}`,
		"played": `"metadata":null,"plays":{"1h":1,"24h":2,"7d":3,"all":4}}`,
	} {
		r := s.get("/v1/songs/" + id)
		want = fmt.Sprintf(`{"songId":%q,"asOf":"2025-11-24T12:00:00.000Z",%s`, id, want)
		if r.status != http.StatusOK || strings.TrimSpace(string(r.body)) != want {
			t.Errorf("%d %s\nwant %s", r.status, r.body, want)
		}
	}
	s.problem(s.get("/v1/songs/none"), http.StatusNotFound)
	s.problem(s.get("/v1/songs/"+strings.Repeat("x", 65)), http.StatusNotFound)
	s.problem(s.get("/v1/songs/%ff"), http.StatusNotFound)
	if got := locations(s.problem(s.get("/v1/songs/both?window=1h"), http.StatusBadRequest)); !reflect.DeepEqual(got, []string{"query.window"}) {
		t.Errorf("%v", got)
	}
	s.truth.set(func() { s.truth.err = errAway })
	s.problem(s.get("/v1/songs/both"), http.StatusServiceUnavailable)
}

func TestSongWithAnAwkwardID(t *testing.T) {
	s := newService(t)
	for _, id := range []string{"a/b", "a b", "a%2Fb", "%", "100%25", "日本", "?", "#", "a+b", ".", "a;b"} {
		s.truth.set(func() { s.truth.plays = map[string]uint64{id: 1} })
		var got answer.Song
		path := "/v1/songs/" + url.PathEscape(id)
		if id == "." {
			path = "/v1/songs/%2E" // clients drop a plain one
		}
		s.into(s.get(path), &got)
		if got.SongID != id || got.Plays["1h"] != 1 {
			t.Errorf("%q: %+v", id, got)
		}
	}
}

func songJSON(id, title string) string {
	return fmt.Sprintf(`{"songId":%q,"title":%q,"artistId":"x","artist":"X","genres":["pop"],"durationMs":1}`, id, title)
}

func TestUpsertSongs(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want int
	}{
		"object":           {songJSON("a", "A"), 1},
		"array":            {"[" + songJSON("a", "old") + ",\n" + songJSON("b", "B") + "," + songJSON("a", "A") + "]", 2},
		"NDJSON":           {songJSON("a", "A") + "\n\n" + songJSON("b", "B") + "\r\n" + songJSON("c", "C") + "\n", 3},
		"empty array":      {" [ ] ", 0},
		"only what must":   {`{"songId":"a","title":"A","artistId":"x","artist":"X"}`, 1},
		"not known fields": {`{"songId":"a","title":"A","artistId":"x","artist":"X","year":1999}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			var got api.SongsUpserted
			s.into(s.do(http.MethodPost, "/v1/songs", c.body), &got)
			if got.Upserted != c.want || len(s.truth.songs) != c.want {
				t.Errorf("%d upserted, %d there, want %d", got.Upserted, len(s.truth.songs), c.want)
			}
			if c.want > 0 && s.truth.songs["a"].Title != "A" {
				t.Errorf("%+v", s.truth.songs)
			}
		})
	}
}

func TestUpsertNamesEveryError(t *testing.T) {
	s := newService(t)
	bad := `{"songId":"","title":"\u0007","artistId":"` + strings.Repeat("x", 65) + `","artist":"X","genres":["ok",""]}`
	for body, want := range map[string][]string{
		songJSON("a", "A") + bad + songJSON("", "B"): {
			"body[1].songId", "body[1].artistId", "body[1].title", "body[1].genres[1]", "body[2].songId",
		},
		"[" + songJSON("a", "A") + ",7]":        {"body[1]"},
		`[{"songId":7}]`:                        {"body[0]"},
		"":                                      {"body"},
		" \n":                                   {"body"},
		"[" + songJSON("a", "A"):                {"body"},
		"[" + songJSON("a", "A") + "] x":        {"body"},
		songJSON("a", "A") + "\n{":              {"body"},
		songJSON("a", "A") + "\nhello":          {"body"},
		"[" + strings.Repeat("{},", 99) + "{}]": nil, // the first of many
	} {
		got := locations(s.problem(s.do(http.MethodPost, "/v1/songs", body), http.StatusBadRequest))
		if want == nil {
			if len(got) != 100 || got[0] != "body[0].songId" {
				t.Errorf("%d errors, %v", len(got), got[0])
			}
		} else if !reflect.DeepEqual(got, want) {
			t.Errorf("%.60s: %v, want %v", body, got, want)
		}
	}
	if len(s.truth.songs) != 0 {
		t.Errorf("written: %v", s.truth.songs)
	}
	s.problem(s.do(http.MethodPost, "/v1/songs?upsert=1", songJSON("a", "A")), http.StatusBadRequest)
}

func TestUpsertIsShownAtOnce(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, map[string]uint64{"a": 1})
	before := s.get("/v1/top")
	for _, want := range []string{"First", "Second"} {
		s.do(http.MethodPost, "/v1/songs", songJSON("a", want))
		if got := s.top(""); title(got, 0) != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	if r := s.get("/v1/top", "If-None-Match", before.header.Get("ETag")); r.status != http.StatusOK {
		t.Errorf("the corrected chart has the old ETag: %d", r.status)
	}
}

func TestUpsertLimits(t *testing.T) {
	s := newService(t, func(c *api.Config) {
		c.Limits.UploadBytes, c.Limits.UploadSlots = 200, 1
	})
	s.problem(s.do(http.MethodPost, "/v1/songs", strings.Repeat(songJSON("a", "A"), 3)), http.StatusRequestEntityTooLarge)

	body, client := io.Pipe()
	uploaded := make(chan error)
	go func() {
		resp, err := http.Post(s.url+"/v1/songs", "application/json", body)
		if err == nil {
			resp.Body.Close()
		}
		uploaded <- err
	}()
	if _, err := client.Write([]byte("[")); err != nil {
		t.Fatal(err)
	}
	s.eventually("no second upload", func() bool {
		return s.do(http.MethodPost, "/v1/songs", songJSON("a", "A")).status == http.StatusServiceUnavailable
	})
	if _, err := client.Write([]byte("]")); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := <-uploaded; err != nil {
		t.Fatal(err)
	}
	s.truth.set(func() { s.truth.err = errAway })
	r := s.do(http.MethodPost, "/v1/songs", songJSON("a", "A"))
	s.problem(r, http.StatusServiceUnavailable)
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

func TestUpsertThatDoesNotArrive(t *testing.T) {
	s := newService(t, func(c *api.Config) { c.Limits.UploadTime = 10 * time.Millisecond })
	body, client := io.Pipe()
	defer client.Close()
	go func() { _, _ = client.Write([]byte("[")) }() // and no more
	resp, err := http.Post(s.url+"/v1/songs", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("%d", resp.StatusCode)
	}
}
