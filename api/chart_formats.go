package api

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/elnormous/contenttype"

	"github.com/topk-charts/topk/api/answer"
)

// A chartFormat is a way to write a chart.
type chartFormat struct {
	name        string // of the parameter format
	mediaType   string
	contentType []string // header; it is shared and must not be changed
	encode      func(*answer.Chart) []byte
}

var (
	jsonFormat   = &chartFormat{"json", "application/json", []string{"application/json"}, func(c *answer.Chart) []byte { return encode(c) }}
	csvFormat    = &chartFormat{"csv", "text/csv", []string{"text/csv; charset=utf-8"}, encodeCSV}
	ndjsonFormat = &chartFormat{"ndjson", "application/x-ndjson", []string{"application/x-ndjson"}, encodeLines}
	// chartFormats are all of them; the first one is for those who do not mind.
	chartFormats = []*chartFormat{jsonFormat, csvFormat, ndjsonFormat}
	mediaTypes   = []contenttype.MediaType{
		contenttype.NewMediaType(jsonFormat.mediaType),
		contenttype.NewMediaType(csvFormat.mediaType),
		contenttype.NewMediaType(ndjsonFormat.mediaType),
	}
)

// formatOf is the format of the name, or nil.
func formatOf(name string) *chartFormat {
	for _, f := range chartFormats {
		if f.name == name {
			return f
		}
	}
	return nil
}

// negotiate chooses the format that suits the Accept headers best.
func negotiate(accept []string) (*chartFormat, error) {
	if len(accept) == 0 || len(accept) == 1 && (accept[0] == "*/*" || accept[0] == "" || accept[0] == jsonFormat.mediaType) {
		return jsonFormat, nil // nearly always, and cheaply
	}
	best, _, err := contenttype.GetAcceptableMediaTypeFromHeader(strings.Join(accept, ","), mediaTypes)
	if err == nil {
		for _, f := range chartFormats {
			if f.mediaType == best.MIME() {
				return f, nil
			}
		}
	}
	return nil, &problem{
		status: http.StatusNotAcceptable,
		detail: "charts are application/json, text/csv or application/x-ndjson; name one of them in Accept, or by format=json, csv or ndjson",
		cause:  err,
	}
}

// encode gives the JSON text. The values are ours and have no way to fail.
func encode(answer any) []byte {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(answer); err != nil {
		panic(err)
	}
	return text.Bytes()
}

// encodeLines gives each item as one line of JSON.
func encodeLines(chart *answer.Chart) []byte {
	var text []byte
	for _, row := range chart.Rows() {
		text = append(text, encode(row)...)
	}
	return text
}

// csvColumns are the same for every chart, so that the rows of several can be
// put together.
var csvColumns = []string{
	"rank", "songId", "score", "error", "previousRank", "movement", "peakRank", "peakDate", "periodsOnChart", "streak",
	"title", "artist", "artistId", "genres", "durationMs",
	"dim", "window", "asOf", "windowStart", "windowEnd", "source", "stale",
}

// encodeCSV gives the items as CSV, with a header. What is not known is empty.
// Cells are written as they are, also those that begin with = + - or @, which
// spreadsheets may take for formulas: a song's id and title must come out as
// they went in.
func encodeCSV(chart *answer.Chart) []byte {
	var text bytes.Buffer
	w := csv.NewWriter(&text)
	_ = w.Write(csvColumns) // a buffer has no way to fail
	for _, row := range chart.Rows() {
		m := answer.Metadata{}
		duration := ""
		if row.Metadata != nil {
			m, duration = *row.Metadata, strconv.FormatUint(uint64(row.Metadata.DurationMS), 10)
		}
		_ = w.Write([]string{
			strconv.Itoa(row.Rank), row.SongID, strconv.FormatUint(row.Score, 10), optional(row.Error, func(e uint64) string { return strconv.FormatUint(e, 10) }),
			optional(row.PreviousRank, strconv.Itoa), optional(row.Movement, strings.Clone),
			unlessZero(row.PeakRank), row.PeakDate, unlessZero(row.PeriodsOnChart), unlessZero(row.Streak),
			m.Title, m.Artist, m.ArtistID, strings.Join(m.Genres, "|"), duration,
			row.Dim, row.Window, row.AsOf, row.WindowStart, row.WindowEnd, row.Source, strconv.FormatBool(row.Stale),
		})
	}
	w.Flush()
	return text.Bytes()
}

func optional[T any](value *T, text func(T) string) string {
	if value == nil {
		return ""
	}
	return text(*value)
}

func unlessZero(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
