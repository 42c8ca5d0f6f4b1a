package topk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a play's fields, in bytes unless said otherwise. The ClickHouse
// chain applies the same limits to messages of other producers.
const (
	MaxEventID  = 64
	MaxUserID   = 128
	MaxSongID   = 64
	MaxArtistID = 64
	MaxCity     = 64
	MaxValue    = 128    // a context's ID, a genre, a segment
	MaxDuration = 86_400 // seconds
)

// secondsBelow is the least integer timestamp read as milliseconds: smaller
// ones are epoch seconds (10^11 s is the year 5138, 10^11 ms is March 1973).
const secondsBelow = 100_000_000_000

// A Play is one listen to one song by one user: the event everything counts.
// The zero value of an optional field means "absent".
type Play struct {
	EventID   string    // idempotency key
	UserID    string    // as the client sent it, or its hash once past the gateway
	SongID    string    //
	ArtistID  string    //
	Timestamp time.Time // event time, UTC, whole milliseconds
	Region    Region    // optional
	Device    string    // optional
	Context   Context   // optional
	Duration  *int      // optional, seconds listened
}

// Rules are the configurable limits of an acceptable play.
type Rules struct {
	MaxAhead time.Duration // how far event time may lie in the future
	MaxAge   time.Duration // how old a play may be; older ones go by backfill
}

// DefaultRules allow clocks to be 5 minutes fast and phones to be offline for
// 7 days.
func DefaultRules() Rules {
	return Rules{MaxAhead: 5 * time.Minute, MaxAge: 7 * 24 * time.Hour}
}

// A Region is a country, optionally with a city: "IN" or "IN/Mumbai".
type Region struct {
	Country string // ISO 3166-1 alpha-2, upper case; "" when absent
	City    string // "" for the whole country
}

// String gives the region as it is written in events, filters and charts.
func (r Region) String() string {
	if r.City == "" {
		return r.Country
	}
	return r.Country + "/" + r.City
}

// ParseRegion reads "IN" or "IN/Mumbai".
func ParseRegion(s string) (Region, error) {
	country, city, hasCity := strings.Cut(s, "/")
	if !isCountry(country) {
		return Region{}, fmt.Errorf("must start with an upper-case ISO 3166-1 alpha-2 country such as IN")
	}
	if hasCity {
		if err := checkText(city, MaxCity); err != nil {
			return Region{}, fmt.Errorf("city %w", err)
		}
	}
	return Region{Country: country, City: city}, nil
}

// A Context is where the song was played from, such as playlist:37i9dQ.
type Context struct {
	Kind string // "playlist", "album" or another lower-case word; "" when absent
	ID   string
}

// String gives the canonical "kind:ID", or "" when absent.
func (c Context) String() string {
	if c.Kind == "" {
		return ""
	}
	return c.Kind + ":" + c.ID
}

// ParseContext reads "kind:ID"; "/" is accepted for the first ":".
func ParseContext(s string) (Context, error) {
	i := strings.IndexAny(s, ":/")
	if i < 0 || !wordPattern.MatchString(s[:i]) {
		return Context{}, fmt.Errorf("must be kind:ID, such as playlist:37i9dQ")
	}
	id := s[i+1:]
	if err := checkText(id, MaxValue); err != nil {
		return Context{}, fmt.Errorf("ID %w", err)
	}
	return Context{Kind: s[:i], ID: id}, nil
}

var (
	eventIDPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,64}$`)
	wordPattern    = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,31}$`)
)

// checkText reports whether s is 1 to limit bytes of UTF-8 without control
// characters.
func checkText(s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("must not be empty")
	case len(s) > limit:
		return fmt.Errorf("must be at most %d bytes, is %d", limit, len(s))
	case !utf8.ValidString(s):
		return fmt.Errorf("must be valid UTF-8")
	case strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("must not contain control characters")
	}
	return nil
}

// ParsePlay reads one play event from JSON and checks every rule against now.
// The error is of type FieldErrors and names every bad field at once. The
// EventID of the returned play is set whenever it could be read, also beside
// an error, so that an answer can name the event.
func ParsePlay(data []byte, rules Rules, now time.Time) (Play, error) {
	var p Play
	if !utf8.Valid(data) {
		return p, FieldErrors{{Message: "must be valid UTF-8"}}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil || fields == nil {
		return p, FieldErrors{{Message: "must be one JSON object"}}
	}

	var errs FieldErrors
	check := func(field string, err error) {
		if err != nil {
			errs = append(errs, FieldError{Field: field, Message: err.Error()})
		}
	}
	// text reads a string field and hands it to set; ok is false when it is
	// absent, null or not a string (which is an error of its own).
	text := func(field string, required bool, set func(string) error) {
		raw, present := fields[field]
		if !present || bytes.Equal(raw, jsonNull) {
			if required {
				check(field, errMissing)
			}
			return
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			check(field, fmt.Errorf("must be a string"))
			return
		}
		check(field, set(s))
	}

	text("eventId", true, func(s string) error {
		if !eventIDPattern.MatchString(s) {
			return fmt.Errorf("must be 1 to %d characters of A-Z a-z 0-9 _ . : -", MaxEventID)
		}
		p.EventID = s
		return nil
	})
	text("userId", true, func(s string) error {
		p.UserID = s
		if s == "" || len(s) > MaxUserID {
			return fmt.Errorf("must be 1 to %d bytes, is %d", MaxUserID, len(s))
		}
		return nil
	})
	text("songId", true, func(s string) error { p.SongID = s; return checkText(s, MaxSongID) })
	text("artistId", true, func(s string) error { p.ArtistID = s; return checkText(s, MaxArtistID) })
	ts, err := parseTimestamp(fields["timestamp"], rules, now)
	p.Timestamp = ts
	check("timestamp", err)
	text("region", false, func(s string) (err error) { p.Region, err = ParseRegion(s); return err })
	text("deviceType", false, func(s string) error {
		p.Device = s
		if !wordPattern.MatchString(s) {
			return fmt.Errorf("must be a lower-case word of at most 32 characters, such as mobile")
		}
		return nil
	})
	text("context", false, func(s string) (err error) { p.Context, err = ParseContext(s); return err })
	if raw, present := fields["duration"]; present && !bytes.Equal(raw, jsonNull) {
		seconds, err := strconv.Atoi(string(raw))
		if err != nil || seconds < 0 || seconds > MaxDuration {
			check("duration", fmt.Errorf("must be whole seconds from 0 to %d", MaxDuration))
		} else {
			p.Duration = &seconds
		}
	}

	if len(errs) > 0 {
		return p, errs
	}
	return p, nil
}

var (
	jsonNull   = []byte("null")
	errMissing = fmt.Errorf("is required")
)

func parseTimestamp(raw json.RawMessage, rules Rules, now time.Time) (time.Time, error) {
	if len(raw) == 0 || bytes.Equal(raw, jsonNull) {
		return time.Time{}, errMissing
	}
	var ts time.Time
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return time.Time{}, errTimestamp
		}
		t, err := time.Parse(time.RFC3339, s)
		if err != nil {
			return time.Time{}, errTimestamp
		}
		ts = t.UTC().Truncate(time.Millisecond)
	} else {
		n, err := strconv.ParseInt(string(raw), 10, 64)
		if err != nil || n == math.MinInt64 {
			return time.Time{}, errTimestamp
		}
		if n > -secondsBelow && n < secondsBelow {
			n *= 1000
		}
		ts = time.UnixMilli(n).UTC()
	}
	if ts.After(now.Add(rules.MaxAhead)) {
		return ts, fmt.Errorf("must be at most %s ahead of the server's clock", rules.MaxAhead)
	}
	if ts.Before(now.Add(-rules.MaxAge)) {
		return ts, fmt.Errorf("must be at most %s old; send older plays by backfill", rules.MaxAge)
	}
	return ts, nil
}

var errTimestamp = fmt.Errorf("must be integer epoch milliseconds or an RFC 3339 time")

// MarshalJSON writes the play in its normal form, as it is kept in Kafka:
// event time in epoch milliseconds, absent fields left out.
func (p Play) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		EventID   string `json:"eventId"`
		UserID    string `json:"userId"`
		SongID    string `json:"songId"`
		ArtistID  string `json:"artistId"`
		Timestamp int64  `json:"timestamp"`
		Region    string `json:"region,omitempty"`
		Device    string `json:"deviceType,omitempty"`
		Context   string `json:"context,omitempty"`
		Duration  *int   `json:"duration,omitempty"`
	}{
		p.EventID, p.UserID, p.SongID, p.ArtistID, p.Timestamp.UnixMilli(),
		p.Region.String(), p.Device, p.Context.String(), p.Duration,
	})
}
