package tabular

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
)

// stdin names standard input.
const stdin = "-"

// Text reads a CSV or NDJSON file as it is, and a Parquet file as NDJSON of those
// of the columns that it has. It is to be closed.
func (l *Files) Text(ctx context.Context, f File, columns []string) (io.ReadCloser, error) {
	format, err := l.FormatOf(f)
	switch {
	case err != nil:
		return nil, err
	case f.Path == stdin && format == "parquet":
		return nil, invalid("Parquet cannot be read from standard input: give a file")
	case f.Path == stdin:
		return unpack(l.Stdin)
	case format == "parquet":
		return l.rowsAsText(ctx, f, columns)
	case f.remote:
		return l.lines(ctx, f, choice{Source: l.Kind(f)}, l.Args(f, "LineAsString", "line String"))
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, err
	}
	text, err := unpack(file)
	if err != nil {
		file.Close()
		return nil, invalid("%s: %v", f.Path, err)
	}
	return unpacked{text, func() { text.Close(); file.Close() }}, nil
}

// choice picks the clauses of text.sql.
type choice struct {
	Source  string
	Columns []string
}

func (l *Files) rowsAsText(ctx context.Context, f File, columns []string) (io.ReadCloser, error) {
	types, err := l.Columns(ctx, f, "parquet")
	if err != nil {
		return nil, err
	}
	c := choice{Source: l.Kind(f)}
	for _, name := range columns {
		if _, there := types[name]; there {
			c.Columns = append(c.Columns, name)
		}
	}
	if len(c.Columns) == 0 {
		return nil, invalid("%s: has none of the columns %v", f.Path, columns)
	}
	return l.lines(ctx, f, c, l.Args(f, "Parquet", "auto"))
}

// lines reads what text.sql gives.
func (l *Files) lines(ctx context.Context, f File, c choice, args []any) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, statementTimeout)
	rows, err := l.rows(ctx, "text.sql", c, args)
	if err != nil {
		cancel()
		return nil, err
	}
	return &lines{Files: l, rows: rows, cancel: cancel}, nil
}

// lines are rows of one column as text.
type lines struct {
	*Files
	rows   *sql.Rows
	cancel context.CancelFunc
	rest   []byte // of a line that is being read
}

func (t *lines) Read(p []byte) (int, error) {
	if len(t.rest) == 0 {
		if !t.rows.Next() {
			if err := t.rows.Err(); err != nil {
				return 0, t.conceal(err)
			}
			return 0, io.EOF
		}
		var line sql.RawBytes
		if err := t.rows.Scan(&line); err != nil {
			return 0, t.conceal(err)
		}
		t.rest = append(append(t.rest[:0], line...), '\n')
	}
	n := copy(p, t.rest)
	t.rest = t.rest[n:]
	return n, nil
}

func (t *lines) Close() error {
	defer t.cancel()
	return t.rows.Close()
}

// unpack reads what may be packed by gzip or zstd, whatever its name says.
func unpack(in io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReader(in)
	magic, _ := buffered.Peek(4) // a shorter file is not packed
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(buffered)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		decoder, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	}
	return io.NopCloser(buffered), nil
}

// unpacked is a file's text, which is closed with the file.
type unpacked struct {
	io.Reader
	close func()
}

func (u unpacked) Close() error { u.close(); return nil }
