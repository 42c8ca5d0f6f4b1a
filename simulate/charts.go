package simulate

import (
	"bufio"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/topk-charts/topk"
)

// Limits of a charts file. They are far above any real one and keep a wrong
// file from filling the memory.
const (
	maxChartRows  = 1_000_000
	maxFieldBytes = 4 << 10
	maxStreams    = 1 << 40 // of one row; a sum of maxChartRows of them fits uint64
)

// globalRegion marks the rows of the chart of the whole world. They add songs
// to the catalog; as a place where plays come from they would count all
// countries twice.
const globalRegion = "global"

// Charts are published weekly charts: a catalog of songs, and how often each
// song was streamed in each country.
type Charts struct {
	songs   []topk.Song
	index   map[string]int              // songId -> position in songs
	streams map[string]map[int]uint64   // country -> position in songs -> streams
	genres  map[int]map[string]struct{} // position in songs -> genres it has already
}

// Load reads charts from CSV. The first line names the columns: region,
// track_id, track_name, artist and streams must be there; genre and duration_ms
// may be missing or empty; others are ignored. An error names its line.
func Load(r io.Reader) (*Charts, error) {
	rows := csv.NewReader(bufio.NewReader(r))
	rows.ReuseRecord = true
	header, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("read charts: the file is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read charts: %w", err) // a csv.ParseError names its line
	}
	cols, err := findColumns(header)
	if err != nil {
		return nil, fmt.Errorf("read charts: line 1: %w", err)
	}

	charts := &Charts{
		index:   map[string]int{},
		streams: map[string]map[int]uint64{},
		genres:  map[int]map[string]struct{}{},
	}
	for n := 1; ; n++ {
		record, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read charts: %w", err)
		}
		line, _ := rows.FieldPos(0)
		if n > maxChartRows {
			return nil, fmt.Errorf("read charts: line %d: more than %d rows", line, maxChartRows)
		}
		row, err := cols.parse(record)
		if err != nil {
			return nil, fmt.Errorf("read charts: line %d: %w", line, err)
		}
		charts.add(row)
	}
	if len(charts.songs) == 0 {
		return nil, errors.New("read charts: the file has a header but no rows")
	}
	return charts, nil
}

// columns holds the position of each column in a record, -1 when missing.
type columns struct {
	region, trackID, title, artist, streams int
	genre, duration                         int
}

func findColumns(header []string) (columns, error) {
	at := make(map[string]int, len(header))
	for i, name := range header {
		name = strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))
		if _, twice := at[name]; twice {
			return columns{}, fmt.Errorf("column %q is there twice", name)
		}
		at[name] = i
	}
	position := func(name string) int {
		if i, ok := at[name]; ok {
			return i
		}
		return -1
	}
	for _, required := range []string{"region", "track_id", "track_name", "artist", "streams"} {
		if position(required) < 0 {
			return columns{}, fmt.Errorf("column %q is missing", required)
		}
	}
	return columns{
		region:   position("region"),
		trackID:  position("track_id"),
		title:    position("track_name"),
		artist:   position("artist"),
		streams:  position("streams"),
		genre:    position("genre"),
		duration: position("duration_ms"),
	}, nil
}

// A chartRow is one line of the file, checked.
type chartRow struct {
	country    string // "" for the global chart
	songID     string
	title      string
	artist     string
	genre      string // "" when unknown
	streams    uint64
	durationMS uint32 // 0 when unknown
}

func (c columns) parse(record []string) (chartRow, error) {
	var row chartRow
	if region := record[c.region]; region != globalRegion {
		parsed, err := topk.ParseRegion(strings.ToUpper(region))
		if err != nil || parsed.City != "" {
			return row, fmt.Errorf("region %q is neither %q nor an ISO 3166-1 alpha-2 country", clip(region), globalRegion)
		}
		row.country = parsed.Country
	}

	var err error
	if row.songID, err = requiredText("track_id", record[c.trackID], topk.MaxSongID); err != nil {
		return row, err
	}
	if row.title, err = requiredText("track_name", record[c.title], maxFieldBytes); err != nil {
		return row, err
	}
	if row.artist, err = requiredText("artist", record[c.artist], maxFieldBytes); err != nil {
		return row, err
	}
	row.streams, err = strconv.ParseUint(record[c.streams], 10, 64)
	if err != nil || row.streams == 0 || row.streams > maxStreams {
		return row, fmt.Errorf("streams %q is not an integer from 1 to %d", clip(record[c.streams]), uint64(maxStreams))
	}
	if c.genre >= 0 {
		if row.genre, err = text("genre", record[c.genre], topk.MaxValue); err != nil {
			return row, err
		}
	}
	if c.duration >= 0 && record[c.duration] != "" {
		ms, err := strconv.ParseUint(record[c.duration], 10, 32)
		if err != nil {
			return row, fmt.Errorf("duration_ms %q is not an integer from 0 to 4294967295", clip(record[c.duration]))
		}
		row.durationMS = uint32(ms)
	}
	return row, nil
}

// text trims a field and checks that it is bounded UTF-8 without control
// characters. The copy it returns does not hold on to the whole line.
func text(name, s string, limit int) (string, error) {
	s = strings.TrimSpace(s)
	switch {
	case len(s) > limit:
		return "", fmt.Errorf("%s must be at most %d bytes, is %d", name, limit, len(s))
	case !utf8.ValidString(s):
		return "", fmt.Errorf("%s is not valid UTF-8", name)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", fmt.Errorf("%s has control characters", name)
	}
	return strings.Clone(s), nil
}

func requiredText(name, s string, limit int) (string, error) {
	s, err := text(name, s, limit)
	if err == nil && s == "" {
		err = fmt.Errorf("%s is empty", name)
	}
	return s, err
}

// clip shortens a field for an error message.
func clip(s string) string {
	const limit = 40
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

func (c *Charts) add(row chartRow) {
	i, known := c.index[row.songID]
	if !known {
		i = len(c.songs)
		c.index[row.songID] = i
		c.songs = append(c.songs, topk.Song{
			SongID:     row.songID,
			Title:      row.title,
			ArtistID:   ArtistID(row.artist),
			Artist:     row.artist,
			Genres:     []string{}, // never null in JSON
			DurationMS: row.durationMS,
		})
		c.genres[i] = map[string]struct{}{}
	}
	if _, has := c.genres[i][row.genre]; !has && row.genre != "" {
		c.genres[i][row.genre] = struct{}{}
		c.songs[i].Genres = append(c.songs[i].Genres, row.genre)
	}
	if row.country == "" {
		return
	}
	if c.streams[row.country] == nil {
		c.streams[row.country] = map[int]uint64{}
	}
	c.streams[row.country][i] += row.streams // a file may hold several weeks
}

// Catalog gives every song of the charts, in the order of the file.
func (c *Charts) Catalog() []topk.Song {
	songs := slices.Clone(c.songs)
	for i := range songs {
		songs[i].Genres = slices.Clone(songs[i].Genres)
	}
	return songs
}

// Countries lists the countries that have a chart, sorted.
func (c *Charts) Countries() []string {
	return slices.Sorted(maps.Keys(c.streams))
}

// Streams gives a country's streams by songId; none for a country without a
// chart.
func (c *Charts) Streams(country string) map[string]uint64 {
	streams := make(map[string]uint64, len(c.streams[country]))
	for i, n := range c.streams[country] {
		streams[c.songs[i].SongID] = n
	}
	return streams
}

// ArtistID derives an artist's id from the name, which is all that charts
// tell: a readable part, and a hash that keeps apart the names that read alike
// or have no Latin letters at all.
func ArtistID(name string) string {
	sum := sha256.Sum256([]byte(name))
	id := "ar-"
	if s := slug(name, 40); s != "" {
		id += s + "-"
	}
	return id + hex.EncodeToString(sum[:5])
}

// slug keeps the ASCII letters and digits of s, in lower case, with one hyphen
// for every run of anything else, and at most limit bytes.
func slug(s string, limit int) string {
	var b strings.Builder
	hyphen := false
	for _, r := range strings.ToLower(s) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			hyphen = b.Len() > 0
			continue
		}
		if hyphen && b.Len()+1 < limit {
			b.WriteByte('-')
		}
		hyphen = false
		if b.Len() >= limit {
			break
		}
		b.WriteRune(r)
	}
	return b.String()
}
