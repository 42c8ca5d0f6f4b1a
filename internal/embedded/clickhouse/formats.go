package clickhouse

import (
	"bytes"
	"encoding/binary"
	"strings"
)

const (
	formatNative  = "Native"
	formatDefault = "TabSeparated"
)

// Chunks of a streamed result are complete documents. Three kinds of formats
// can be joined from them; any other, such as JSON or Parquet, is built whole.
// So is Null, whose empty chunks look like the end.
type chunking uint8

const (
	wholeOnly    chunking = iota
	plainChunks           // rows follow rows
	headedChunks          // each chunk repeats the names (and types): drop them after the first
)

// formatTraits gives the way a format can be streamed and its content type.
type formatTraits struct {
	chunking    chunking
	contentType string
	header      func(chunk []byte) int // the length of the repeated head
}

var formats = map[string]formatTraits{}

func addFormats(t formatTraits, names ...string) {
	for _, n := range names {
		formats[strings.ToLower(n)] = t
	}
}

func init() {
	const (
		tsv    = "text/tab-separated-values; charset=UTF-8"
		csv    = "text/csv; charset=UTF-8; header=absent"
		csvH   = "text/csv; charset=UTF-8; header=present"
		ndjson = "application/x-ndjson; charset=UTF-8"
		binary = "application/octet-stream"
	)
	addFormats(formatTraits{plainChunks, binary, nil}, "Native", "RowBinary")
	addFormats(formatTraits{plainChunks, tsv, nil}, "TabSeparated", "TSV", "TabSeparatedRaw", "TSVRaw", "Raw")
	addFormats(formatTraits{plainChunks, csv, nil}, "CSV")
	addFormats(formatTraits{plainChunks, ndjson, nil}, "JSONEachRow", "JSONLines", "NDJSON", "JSONCompactEachRow",
		"JSONStringsEachRow", "JSONCompactStringsEachRow")
	addFormats(formatTraits{plainChunks, "text/plain; charset=UTF-8", nil}, "LineAsString")
	addFormats(formatTraits{headedChunks, tsv, lines(1)}, "TabSeparatedWithNames", "TSVWithNames",
		"TabSeparatedRawWithNames", "TSVRawWithNames")
	addFormats(formatTraits{headedChunks, tsv, lines(2)}, "TabSeparatedWithNamesAndTypes", "TSVWithNamesAndTypes",
		"TabSeparatedRawWithNamesAndTypes", "TSVRawWithNamesAndTypes")
	addFormats(formatTraits{headedChunks, csvH, csvRecords(1)}, "CSVWithNames")
	addFormats(formatTraits{headedChunks, csvH, csvRecords(2)}, "CSVWithNamesAndTypes")
	addFormats(formatTraits{headedChunks, ndjson, lines(1)}, "JSONCompactEachRowWithNames",
		"JSONCompactStringsEachRowWithNames")
	addFormats(formatTraits{headedChunks, ndjson, lines(2)}, "JSONCompactEachRowWithNamesAndTypes",
		"JSONCompactStringsEachRowWithNamesAndTypes")
	addFormats(formatTraits{headedChunks, binary, rowBinaryHeader(1)}, "RowBinaryWithNames")
	addFormats(formatTraits{headedChunks, binary, rowBinaryHeader(2)}, "RowBinaryWithNamesAndTypes")
	addFormats(formatTraits{wholeOnly, "application/json; charset=UTF-8", nil}, "JSON", "JSONCompact", "JSONStrings",
		"JSONCompactStrings", "JSONColumns", "JSONCompactColumns", "JSONColumnsWithMetadata", "JSONObjectEachRow")
	addFormats(formatTraits{wholeOnly, "application/xml; charset=UTF-8", nil}, "XML")
	addFormats(formatTraits{wholeOnly, binary, nil}, "Parquet", "Arrow", "ArrowStream", "ORC", "Avro", "MsgPack")
}

func traitsOf(format string) formatTraits {
	if t, ok := formats[strings.ToLower(format)]; ok {
		return t
	}
	return formatTraits{contentType: "text/plain; charset=UTF-8"}
}

// lines measures a head of n lines: line breaks inside names are escaped.
func lines(n int) func([]byte) int {
	return func(chunk []byte) int {
		pos := 0
		for range n {
			i := bytes.IndexByte(chunk[pos:], '\n')
			if i < 0 {
				return len(chunk)
			}
			pos += i + 1
		}
		return pos
	}
}

// csvRecords measures a head of n records, whose quoted names may hold line
// breaks.
func csvRecords(n int) func([]byte) int {
	return func(chunk []byte) int {
		quoted, left := false, n
		for i, c := range chunk {
			switch {
			case c == '"':
				quoted = !quoted
			case c == '\n' && !quoted:
				if left--; left == 0 {
					return i + 1
				}
			}
		}
		return len(chunk)
	}
}

// rowBinaryHeader measures the number of columns and n strings for each.
func rowBinaryHeader(n int) func([]byte) int {
	return func(chunk []byte) int {
		columns, pos := binary.Uvarint(chunk)
		if pos <= 0 {
			return len(chunk)
		}
		for range int(columns) * n {
			size, w := binary.Uvarint(chunk[pos:])
			if w <= 0 || size > uint64(len(chunk)-pos-w) {
				return len(chunk)
			}
			pos += w + int(size)
		}
		return pos
	}
}
