package api

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/cespare/xxhash/v2"

	"github.com/topk-charts/topk"
)

// A chartCursor is where a page of a chart ended. The next page counts the very
// span that this one did, also when the window moves on.
type chartCursor struct {
	question uint64      // of which it is: see fingerprint
	window   topk.Window // that was counted, a fixed one
	last     topk.Entry
	revision int // of a closed chart; 0 for none
}

const (
	cursorVersion = 1
	// maxCursor is the length of the longest cursor, in base64: 25 fixed bytes,
	// three numbers, and a song id.
	maxCursor = (25 + 3*binary.MaxVarintLen64 + topk.MaxSongID + 2) / 3 * 4
)

// fingerprint tells questions apart: the cursor of one is no good for another.
// It guards against mistakes, not against forgery, which gains nothing: a forged
// cursor asks for what from and to may ask for too.
func (req *chartRequest) fingerprint() uint64 {
	window := req.window.String()
	if req.period != "" {
		window = string(req.period)
	}
	return xxhash.Sum64String(strings.Join([]string{req.filter.String(), window, req.rankBy}, "\x00"))
}

func (c chartCursor) String() string {
	b, span := []byte{cursorVersion}, spanOf(c.window)
	b = binary.BigEndian.AppendUint64(b, c.question)
	b = binary.BigEndian.AppendUint64(b, uint64(span.Start.UnixMilli()))
	b = binary.BigEndian.AppendUint64(b, uint64(span.End.UnixMilli()))
	b = binary.AppendUvarint(b, c.last.Plays)
	b = binary.AppendUvarint(b, uint64(c.last.Rank))
	b = binary.AppendUvarint(b, uint64(c.revision))
	return base64.RawURLEncoding.EncodeToString(append(b, c.last.SongID...))
}

var errBadCursor = errors.New("must be the nextCursor of a page before")

// parseChartCursor reads what String gives, and nothing else.
func parseChartCursor(text string) (c chartCursor, err error) {
	if len(text) > maxCursor {
		return c, errBadCursor
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < 25 || b[0] != cursorVersion {
		return c, errBadCursor
	}
	c.question = binary.BigEndian.Uint64(b[1:])
	if c.window, err = topk.Between(millis(b[9:]), millis(b[17:])); err != nil {
		return c, errBadCursor
	}
	var numbers [3]uint64 // plays, rank, revision
	rest := b[25:]
	for i := range numbers {
		n, size := binary.Uvarint(rest)
		if size <= 0 {
			return c, errBadCursor
		}
		numbers[i], rest = n, rest[size:]
	}
	if numbers[1] == 0 || numbers[1] > math.MaxInt32 || numbers[2] > math.MaxInt32 {
		return c, errBadCursor
	}
	c.last = topk.Entry{Rank: int(numbers[1]), SongID: string(rest), Plays: numbers[0]}
	c.revision = int(numbers[2])
	id := c.last.SongID
	if id == "" || len(id) > topk.MaxSongID || !utf8.ValidString(id) || strings.ContainsFunc(id, unicode.IsControl) || c.String() != text {
		return c, errBadCursor
	}
	return c, nil
}

func millis(b []byte) time.Time { return time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC() }
