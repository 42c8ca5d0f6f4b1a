package backfill

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/topk-charts/topk"
)

// fields are those of a play, in the order in which stage.sql takes them.
var fields = []string{"eventId", "userId", "songId", "artistId", "timestamp", "region", "deviceType", "context", "duration"}

// A column is where stage.sql finds a field.
type column struct {
	N       int  // its place
	Instant bool // it is a time, not text
	Blank   bool // an empty text means that there is none
}

// structure says what columns to read of a file, as ClickHouse writes it. A field
// that is required must be there: else the file is not what it is taken for.
func (b *backfill) structure(ctx context.Context, f file, format string) (text string, columns []column, err error) {
	if format == "ndjson" {
		return "line String", nil, nil
	}
	types, err := b.files.Columns(ctx, f.File, format)
	if err != nil {
		return "", nil, err
	}
	var wrong topk.FieldErrors
	var parts []string
	for i, field := range fields {
		name := b.columnOf(field)
		kind, there := types[name]
		_, mapped := b.Columns[field]
		if !there && (i < 5 || mapped) {
			wrong = append(wrong, topk.FieldError{Field: field, Message: fmt.Sprintf("has no column %q in %s: map it by --map %s=COLUMN", name, f.Path, field)})
		}
		c := column{N: i + 1, Blank: format == "csv"}
		as := "Nullable(String)"
		if c.Instant = format == "parquet" && field == "timestamp" && strings.Contains(kind, "Date"); c.Instant {
			as = "Nullable(DateTime64(3, 'UTC'))"
		}
		parts = append(parts, "`"+strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name)+"` "+as)
		columns = append(columns, c)
	}
	if wrong != nil {
		return "", nil, wrong
	}
	return strings.Join(parts, ", "), columns, nil
}

func (b *backfill) columnOf(field string) string {
	if name, ok := b.Columns[field]; ok {
		return name
	}
	return field
}

// CheckColumns says what is wrong with a mapping.
func CheckColumns(columns map[string]string) error {
	used := map[string]string{}
	for field, name := range columns {
		if other, twice := used[name]; twice {
			return topk.FieldErrors{{Message: fmt.Sprintf("--map: column %s is both %s and %s", name, other, field)}}
		}
		used[name] = field
		if !slices.Contains(fields, field) {
			return topk.FieldErrors{{Message: fmt.Sprintf("--map %s=%s: a play has no field %s, only %s", field, name, field, strings.Join(fields, ", "))}}
		}
	}
	return nil
}
