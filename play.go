package topk

import (
	"encoding/json"
	"errors"
	"fmt"
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

// maxWord is the longest device type or kind of context.
const maxWord = 32

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
	if i < 0 || !isWord(s[:i]) {
		return Context{}, fmt.Errorf("must be kind:ID, such as playlist:37i9dQ")
	}
	id := s[i+1:]
	if err := checkText(id, MaxValue); err != nil {
		return Context{}, fmt.Errorf("ID %w", err)
	}
	return Context{Kind: s[:i], ID: id}, nil
}

// IsEventID reports whether s may be an eventId: 1 to MaxEventID of A-Z a-z 0-9 _ . : -
func IsEventID(s string) bool {
	if s == "" || len(s) > MaxEventID {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLower(c) && !isUpper(c) && !isDigit(c) && c != '_' && c != '.' && c != ':' && c != '-' {
			return false
		}
	}
	return true
}

// isWord reports whether s is a short lower-case word: a letter, then up to 31
// of a-z 0-9 _ -
func isWord(s string) bool {
	if s == "" || len(s) > maxWord || !isLower(s[0]) {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; !isLower(c) && !isDigit(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }

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
// The error is of type FieldErrors and names every bad field at once. Beside
// an error only the EventID of the returned play is set, and only when it is a
// valid one, so that an answer can name the event.
func ParsePlay(data []byte, rules Rules, now time.Time) (Play, error) {
	if !utf8.Valid(data) {
		return Play{}, FieldErrors{{Message: "must be valid UTF-8"}}
	}
	raw, ok := splitPlay(data)
	if !ok {
		return Play{}, FieldErrors{{Message: "must be one JSON object"}}
	}

	var p Play
	var c fieldChecker
	c.text("eventId", raw.eventID, required, func(s string) error {
		if !IsEventID(s) {
			return errEventID
		}
		p.EventID = s
		return nil
	})
	c.text("userId", raw.userID, required, func(s string) error {
		p.UserID = s
		if s == "" || len(s) > MaxUserID {
			return fmt.Errorf("must be 1 to %d bytes, is %d", MaxUserID, len(s))
		}
		return nil
	})
	c.text("songId", raw.songID, required, func(s string) error { p.SongID = s; return checkText(s, MaxSongID) })
	c.text("artistId", raw.artistID, required, func(s string) error { p.ArtistID = s; return checkText(s, MaxArtistID) })
	var err error
	p.Timestamp, err = parseTimestamp(raw.timestamp, rules, now)
	c.check("timestamp", err)
	c.text("region", raw.region, optional, func(s string) (err error) { p.Region, err = ParseRegion(s); return err })
	c.text("deviceType", raw.device, optional, func(s string) error {
		p.Device = s
		if !isWord(s) {
			return errDevice
		}
		return nil
	})
	c.text("context", raw.context, optional, func(s string) (err error) { p.Context, err = ParseContext(s); return err })
	p.Duration, err = parseDuration(raw.duration)
	c.check("duration", err)

	if len(c.errs) > 0 {
		return Play{EventID: p.EventID}, c.errs
	}
	return p, nil
}

var (
	errMissing   = errors.New("is required")
	errString    = errors.New("must be a string")
	errEventID   = fmt.Errorf("must be 1 to %d characters of A-Z a-z 0-9 _ . : -", MaxEventID)
	errDevice    = fmt.Errorf("must be a lower-case word of at most %d characters, such as mobile", maxWord)
	errTimestamp = errors.New("must be integer epoch milliseconds or an RFC 3339 time")
	errDuration  = fmt.Errorf("must be whole seconds from 0 to %d", MaxDuration)
)

const (
	required = true
	optional = false
)

// A fieldChecker gathers the errors of a play's fields.
type fieldChecker struct{ errs FieldErrors }

func (c *fieldChecker) check(field string, err error) {
	if err != nil {
		c.errs = append(c.errs, FieldError{Field: field, Message: err.Error()})
	}
}

// text hands the string field to take, which checks and keeps it; a field that
// is absent, null or not a string never gets there.
func (c *fieldChecker) text(field string, raw []byte, required bool, take func(string) error) {
	switch {
	case isAbsent(raw):
		if required {
			c.check(field, errMissing)
		}
	case raw[0] != '"':
		c.check(field, errString)
	default:
		c.check(field, take(unquote(raw)))
	}
}

func parseTimestamp(raw []byte, rules Rules, now time.Time) (time.Time, error) {
	if isAbsent(raw) {
		return time.Time{}, errMissing
	}
	ts, err := readTimestamp(raw)
	switch {
	case err != nil:
		return time.Time{}, errTimestamp
	case ts.After(now.Add(rules.MaxAhead)):
		return time.Time{}, fmt.Errorf("must be at most %s ahead of the server's clock", rules.MaxAhead)
	case ts.Before(now.Add(-rules.MaxAge)):
		return time.Time{}, fmt.Errorf("must be at most %s old; send older plays by backfill", rules.MaxAge)
	}
	return ts, nil
}

func readTimestamp(raw []byte) (time.Time, error) {
	if raw[0] == '"' {
		return readRFC3339(unquote(raw))
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	if n > -secondsBelow && n < secondsBelow {
		n *= 1000
	}
	return time.UnixMilli(n).UTC(), nil
}

// readRFC3339 is stricter than time.Parse, which also takes an offset of 99
// hours, and than time.Time.UnmarshalText, which takes an hour of one digit and
// a comma before the fraction.
func readRFC3339(s string) (time.Time, error) {
	var t time.Time
	if err := t.UnmarshalText([]byte(s)); err != nil {
		return time.Time{}, err
	}
	if s[len("2006-01-02T15")] != ':' || strings.Contains(s, ",") {
		return time.Time{}, errTimestamp
	}
	return t.UTC().Truncate(time.Millisecond), nil
}

func parseDuration(raw []byte) (*int, error) {
	if isAbsent(raw) {
		return nil, nil
	}
	seconds, err := strconv.Atoi(string(raw))
	if err != nil || seconds < 0 || seconds > MaxDuration {
		return nil, errDuration
	}
	return &seconds, nil
}

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
