package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const (
	songsPath = "/v1/songs"
	songPath  = "/v1/songs/{songId}"
)

// songWindows are those of which a song's plays are told.
var songWindows = []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d, topk.AllTime}

// maxUploadErrors is how many errors of one upload are reported.
const maxUploadErrors = 100

// A songAPI answers the calls about single songs, and takes the catalog.
type songAPI struct {
	queries Queries
	gate    *gate
	catalog *catalog
	clock   topk.Clock
	limits  Limits
	uploads chan struct{} // holds a token per upload
}

func newSongAPI(cfg Config, gate *gate, catalog *catalog) *songAPI {
	return &songAPI{
		queries: cfg.Queries, gate: gate, catalog: catalog, clock: cfg.Clock, limits: cfg.Limits,
		uploads: make(chan struct{}, cfg.Limits.UploadSlots),
	}
}

// song answers GET /v1/songs/{songId}.
func (a *songAPI) song(w http.ResponseWriter, r *http.Request) error {
	if q := parseQuery(r.URL.RawQuery, nil); len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	id, ok := songIDOf(r)
	if !ok {
		return noSong(id)
	}
	now := a.clock()
	var plays []uint64
	err := a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		plays, err = a.queries.SongPlays(ctx, id, songWindows, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("plays of song %q: %w", id, err)
	}
	found := answer.Song{SongID: id, AsOf: instant(now), Plays: make(map[string]uint64, len(songWindows))}
	var everPlayed uint64
	for i, window := range songWindows {
		found.Plays[window.String()] = plays[i]
		everPlayed += plays[i]
	}
	songs, err := a.catalog.find(r.Context(), []string{id})
	song, known := songs[id]
	switch {
	case known:
		found.Metadata = newMetadata(song)
	case err != nil && everPlayed == 0:
		return fmt.Errorf("song %q: %w", id, err) // it may exist
	case everPlayed == 0:
		return noSong(id)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, found)
	return nil
}

func noSong(id string) *problem {
	return &problem{
		status: http.StatusNotFound,
		detail: fmt.Sprintf("no song %q is in the catalog, and none was ever played", id),
	}
}

// songIDOf gives the path's song id, and whether there can be such a song.
func songIDOf(r *http.Request) (id string, ok bool) { return pathID(r, "songId", topk.MaxSongID) }

// SongsUpserted answers an upload of songs.
type SongsUpserted struct {
	Upserted int `json:"upserted" minimum:"0" doc:"How many songs were written; of several with one songId only the last is" example:"2"`
}

// upsert answers POST /v1/songs: all songs of the body are written, or none.
func (a *songAPI) upsert(w http.ResponseWriter, r *http.Request) error {
	if q := parseQuery(r.URL.RawQuery, nil); len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	select {
	case a.uploads <- struct{}{}:
		defer func() { <-a.uploads }()
	default:
		return fmt.Errorf("%w: %d uploads of songs are under way", topk.ErrUnavailable, cap(a.uploads))
	}
	body, err := a.readUpload(w, r)
	if err != nil {
		return err
	}
	songs, err := parseSongs(body)
	if err != nil {
		return err
	}
	songs = lastOfEach(songs)
	if len(songs) > 0 {
		if err := a.write(r.Context(), songs); err != nil {
			return fmt.Errorf("upsert %d songs: %w", len(songs), err)
		}
	}
	writeJSON(w, "application/json", http.StatusOK, SongsUpserted{Upserted: len(songs)})
	return nil
}

func (a *songAPI) readUpload(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	stop := cutBodyAfter(w, a.limits.UploadTime)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.limits.UploadBytes))
	inTime := stop()
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, &problem{
			status: http.StatusRequestEntityTooLarge,
			detail: fmt.Sprintf("an upload must be at most %d bytes; send several", a.limits.UploadBytes),
		}
	case err != nil && !inTime:
		return nil, &problem{
			status: http.StatusRequestTimeout,
			detail: fmt.Sprintf("the body did not arrive within %s", a.limits.UploadTime),
		}
	case err != nil:
		return nil, &problem{status: http.StatusBadRequest, detail: "the body could not be read", cause: err}
	}
	return body, nil
}

// write hands the songs to ClickHouse. It has time of its own, since the body
// may have used up the request's, and whatever comes of it, what is remembered
// of the songs may be wrong now.
func (a *songAPI) write(ctx context.Context, songs []topk.Song) error {
	defer a.catalog.forget(songs)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.limits.UploadTime)
	defer cancel()
	return a.queries.UpsertSongs(ctx, songs)
}

// lastOfEach drops songs that a later one of the same id replaces: written
// together, ClickHouse could not tell which is the later.
func lastOfEach(songs []topk.Song) []topk.Song {
	last := make(map[string]int, len(songs))
	for i, song := range songs {
		last[song.SongID] = i
	}
	kept := songs[:0]
	for i, song := range songs {
		if last[song.SongID] == i {
			kept = append(kept, song)
		}
	}
	return kept
}

// parseSongs reads one JSON object, an array of them, or one after another as
// in NDJSON. The error names everything that is wrong, up to maxUploadErrors.
func parseSongs(body []byte) ([]topk.Song, error) {
	items, err := splitSongs(body)
	if err != nil {
		return nil, badSongs([]*huma.ErrorDetail{{Location: "body", Message: err.Error()}})
	}
	songs := make([]topk.Song, 0, len(items))
	var problems []*huma.ErrorDetail
	for i, item := range items {
		song, err := topk.ParseSong(item)
		if err != nil {
			problems = append(problems, fieldDetails(fmt.Sprintf("body[%d]", i), err)...)
		}
		if len(problems) >= maxUploadErrors {
			break
		}
		songs = append(songs, song)
	}
	if len(problems) > 0 {
		return nil, badSongs(problems[:min(len(problems), maxUploadErrors)])
	}
	return songs, nil
}

// splitSongs gives the text of each song.
func splitSongs(body []byte) (items []json.RawMessage, err error) {
	body = bytes.Trim(body, " \t\r\n")
	if bytes.HasPrefix(body, []byte("[")) {
		if err := json.Unmarshal(body, &items); err != nil {
			return nil, fmt.Errorf("is not a JSON array: %w", err)
		}
		return items, nil
	}
	if len(body) == 0 {
		return nil, errors.New("must hold at least one song, or an empty array")
	}
	values := json.NewDecoder(bytes.NewReader(body))
	for {
		var item json.RawMessage
		switch err := values.Decode(&item); {
		case err == io.EOF:
			return items, nil
		case err != nil:
			return nil, fmt.Errorf("is not JSON from song %d on: %w", len(items), err)
		}
		items = append(items, item)
	}
}

func badSongs(details []*huma.ErrorDetail) *problem {
	return &problem{status: http.StatusBadRequest, detail: "songs are not as they should be; none was written", errors: details}
}
