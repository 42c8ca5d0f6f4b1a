// Package sqlfile holds statements that are kept in .sql files. They are
// templates only to choose clauses: values are always bound parameters.
package sqlfile

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Files are the statements of a package, by the names of their files.
type Files struct{ templates *template.Template }

// Parse reads every .sql file, and further templates that these use. It panics
// on what is no template.
func Parse(files fs.FS, more ...string) Files {
	all := template.Must(template.ParseFS(files, "*.sql"))
	for _, text := range more {
		all = template.Must(all.Parse(text))
	}
	return Files{all}
}

// Render gives the text of a statement for a choice of clauses.
func (f Files) Render(name string, choice any) (string, error) {
	var text strings.Builder
	if err := f.templates.ExecuteTemplate(&text, name, choice); err != nil {
		return "", fmt.Errorf("render %s: %w", name, err)
	}
	return text.String(), nil
}

// Exec runs a statement, for at most the timeout.
func (f Files) Exec(ctx context.Context, db *sql.DB, timeout time.Duration, name string, choice any, args ...any) error {
	text, err := f.Render(name, choice)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := db.ExecContext(ctx, text, args...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Query runs a statement, for at most the timeout, and hands each row to read,
// whose error ends it.
func (f Files) Query(ctx context.Context, db *sql.DB, timeout time.Duration, name string, choice any, args []any, read func(*sql.Rows) error) error {
	text, err := f.Render(name, choice)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rows, err := db.QueryContext(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for rows.Next() {
		if err := read(rows); err != nil {
			return errors.Join(fmt.Errorf("%s: read row: %w", name, err), rows.Close())
		}
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Instant binds an instant as a DateTime64(3, 'UTC') parameter.
func Instant(name string, t time.Time) any {
	return clickhouse.Named(name, t.UTC().Format("2006-01-02 15:04:05.000"))
}
