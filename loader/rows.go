package loader

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tabular"
)

const (
	maxLine     = 1 << 20 // bytes of one row of input
	maxBadLines = 20      // that an error tells
)

// A field is a column of the files that are loaded, and a name in NDJSON.
type field struct {
	name     string
	kind     kind
	required bool // of what is not deleted
}

type kind int

const (
	text kind = iota
	list
	number
	flag
)

// deleted is the field that says that a row deletes.
var deleted = field{name: "deleted", kind: flag}

// BadRows says which rows of files are wrong, and why: nothing was written. It is
// an ErrInvalid.
type BadRows struct {
	Rows []BadRow // the first ones
	More int      // how many others
}

// A BadRow is one of them.
type BadRow struct {
	File string
	Line int // of the file, from 1; of Parquet the row
	Err  error
}

func (e *BadRows) Error() string {
	var b strings.Builder
	b.WriteString("nothing was loaded, since rows are wrong:")
	for _, row := range e.Rows {
		fmt.Fprintf(&b, "\n  %s line %d: %v", row.File, row.Line, row.Err)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more", e.More)
	}
	return b.String()
}

// Is makes it an ErrInvalid.
func (e *BadRows) Is(target error) bool { return target == topk.ErrInvalid }

func (e *BadRows) add(file string, line int, err error) {
	if len(e.Rows) == maxBadLines {
		e.More++
		return
	}
	e.Rows = append(e.Rows, BadRow{file, line, err})
}

// A reader hands each row of files to take, as a JSON object of the fields.
type reader struct {
	files     *tabular.Files
	fields    []field
	separator string // of lists in CSV
	take      func(object []byte) error
	bad       BadRows
}

// read reads a file. What is wrong with rows is put down; the error is of the
// file, or of take when it is no ErrInvalid.
func (r *reader) read(ctx context.Context, f tabular.File) (err error) {
	format, err := r.files.FormatOf(f)
	if err != nil {
		return err
	}
	names := make([]string, len(r.fields))
	for i, field := range r.fields {
		names[i] = field.name
	}
	in, err := r.files.Text(ctx, f, names)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if format == "csv" {
		return r.csv(f.Path, in)
	}
	return r.lines(f.Path, in)
}

func (r *reader) row(file string, line int, object []byte) error {
	err := r.take(object)
	if errors.Is(err, topk.ErrInvalid) {
		r.bad.add(file, line, err)
		return nil
	}
	return err
}

func (r *reader) lines(file string, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	line := 0
	for lines.Scan() {
		line++
		object := bytes.TrimSpace(lines.Bytes())
		if len(object) == 0 {
			continue
		}
		if !utf8.Valid(object) {
			r.bad.add(file, line, wrong("", "must be valid UTF-8"))
			continue
		}
		if err := r.row(file, line, object); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		r.bad.add(file, line+1, wrong("", "must be at most %d bytes", maxLine))
		return nil // the rest is not read
	}
	return lines.Err()
}

func (r *reader) csv(file string, in io.Reader) error {
	bounded := &bounded{in: in}
	rows := csv.NewReader(bounded)
	rows.ReuseRecord = true
	header, err := rows.Read()
	if err == io.EOF {
		r.bad.add(file, 1, wrong("", "there is no header"))
		return nil
	}
	if err != nil {
		return r.failed(file, 1, err)
	}
	header = slices.Clone(header)
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // as spreadsheets write it
	columns := make([]int, len(r.fields))
	deletes, complete := slices.Contains(header, deleted.name), true
	for i, field := range r.fields {
		columns[i] = slices.Index(header, field.name)
		if columns[i] < 0 && (i == 0 || field.required && !deletes) {
			r.bad.add(file, 1, wrong(field.name, "is no column of the header"))
			complete = false
		}
	}
	if !complete {
		return nil
	}
	line := 1
	for {
		bounded.row = rows.InputOffset()
		cells, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			line, _ = rows.FieldPos(0)
		}
		if err != nil {
			if err := r.failed(file, line, err); err != nil {
				return err
			}
			if errors.Is(err, errLongRow) {
				return nil // the rest is not read
			}
			continue
		}
		object, err := r.object(columns, cells)
		if err != nil {
			r.bad.add(file, line, err)
			continue
		}
		if err := r.row(file, line, object); err != nil {
			return err
		}
	}
}

// failed puts down what is wrong with CSV, and gives back other errors.
func (r *reader) failed(file string, line int, err error) error {
	var parse *csv.ParseError
	switch {
	case errors.As(err, &parse) && errors.Is(err, csv.ErrFieldCount):
		r.bad.add(file, parse.StartLine, wrong("", "has not as many columns as the header"))
	case errors.As(err, &parse):
		r.bad.add(file, parse.StartLine, wrong("", "%v", parse.Err))
	case errors.Is(err, errLongRow):
		r.bad.add(file, line+1, wrong("", "must be at most %d bytes", maxLine))
	default:
		return err
	}
	return nil
}

// object makes JSON of a row of CSV.
func (r *reader) object(columns []int, cells []string) ([]byte, error) {
	object := map[string]any{}
	var errs topk.FieldErrors
	for i, field := range r.fields {
		if columns[i] < 0 {
			continue
		}
		cell := cells[columns[i]]
		if !utf8.ValidString(cell) {
			errs = append(errs, topk.FieldError{Field: field.name, Message: "must be valid UTF-8"})
			continue
		}
		switch {
		case field.kind == text:
			object[field.name] = cell
		case cell == "": // there is none
		case field.kind == list:
			object[field.name] = strings.Split(cell, r.separator)
		case json.Valid([]byte(strings.ToLower(cell))): // a number, or true as spreadsheets write it
			object[field.name] = json.RawMessage(strings.ToLower(cell))
		default:
			object[field.name] = cell
		}
	}
	if errs != nil {
		return nil, errs
	}
	return json.Marshal(object)
}

// decode reads JSON, and gives what has a wrong type as the field's error.
func decode(object []byte, to any) (topk.FieldErrors, error) {
	err := json.Unmarshal(object, to)
	var mistyped *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil, nil
	case errors.As(err, &mistyped) && mistyped.Field != "":
		name := mistyped.Field[strings.LastIndex(mistyped.Field, ".")+1:]
		return wrong(name, "must be %s, is %s", typeNames[mistyped.Type.Kind().String()], mistyped.Value), nil
	}
	return nil, wrong("", "must be one JSON object: %v", err)
}

// typeNames are what Go's kinds are to those who write files.
var typeNames = map[string]string{
	"string": "text", "slice": "a list", "bool": "true or false", "uint32": "a whole number from 0 to 4294967295",
}

func wrong(field, format string, args ...any) topk.FieldErrors {
	return topk.FieldErrors{{Field: field, Message: fmt.Sprintf(format, args...)}}
}

// errLongRow ends the reading of CSV whose quotes do not end.
var errLongRow = errors.New("a row is too long")

// bounded reads not much more than one row ahead.
type bounded struct {
	in        io.Reader
	read, row int64 // bytes so far, and those before the row
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.read-b.row > maxLine {
		return 0, errLongRow
	}
	n, err := b.in.Read(p)
	b.read += int64(n)
	return n, err
}
