package topk

import (
	"encoding/json"
	"fmt"
)

// Limits of a catalog entry, in bytes unless said otherwise.
const (
	MaxTitle  = 512
	MaxGenres = 16 // genres of one song
)

// A Song is one entry of the catalog.
type Song struct {
	SongID     string   `json:"songId"`
	Title      string   `json:"title"`
	ArtistID   string   `json:"artistId"`
	Artist     string   `json:"artist"`
	Genres     []string `json:"genres"`
	DurationMS uint32   `json:"durationMs"`
}

// ParseSong reads one catalog entry from JSON and checks it. The error is of
// type FieldErrors and names every bad field at once; the SongID is set
// whenever it could be read.
func ParseSong(data []byte) (Song, error) {
	var s Song
	if err := json.Unmarshal(data, &s); err != nil {
		return s, FieldErrors{{Message: "must be a song as a JSON object: " + err.Error()}}
	}
	return s, s.Validate()
}

// Validate checks the entry's rules and names every bad field at once.
func (s Song) Validate() error {
	var errs FieldErrors
	check := func(field string, err error) {
		if err != nil {
			errs = append(errs, FieldError{Field: field, Message: err.Error()})
		}
	}
	check("songId", checkText(s.SongID, MaxSongID))
	check("artistId", checkText(s.ArtistID, MaxArtistID))
	check("title", checkText(s.Title, MaxTitle))
	check("artist", checkText(s.Artist, MaxTitle))
	if len(s.Genres) > MaxGenres {
		check("genres", fmt.Errorf("must be at most %d, are %d", MaxGenres, len(s.Genres)))
	}
	for i, genre := range s.Genres {
		check(fmt.Sprintf("genres[%d]", i), checkText(genre, MaxValue))
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// UserSegments are the segments of one user, such as premium or student.
type UserSegments struct {
	UserID   string   `json:"userId"`
	Segments []string `json:"segments"`
}

// Validate checks the user's rules and names every bad field at once.
func (u UserSegments) Validate() error {
	var errs FieldErrors
	if u.UserID == "" || len(u.UserID) > MaxUserID {
		errs = append(errs, FieldError{"userId", fmt.Sprintf("must be 1 to %d bytes, is %d", MaxUserID, len(u.UserID))})
	}
	for i, segment := range u.Segments {
		if err := checkText(segment, MaxValue); err != nil {
			errs = append(errs, FieldError{fmt.Sprintf("segments[%d]", i), err.Error()})
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}
