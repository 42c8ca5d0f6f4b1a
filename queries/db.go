// Package queries holds every statement the roles put to ClickHouse at run
// time, and the planner that turns a window and a filter into one of them.
//
// Statements are .sql files. They are templates only to choose clauses: values
// are always bound parameters.
package queries

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

//go:embed *.sql
var files embed.FS

var statements = template.Must(template.ParseFS(files, "*.sql"))

// render gives the text of a statement for a choice of clauses.
func render(name string, choice any) (string, error) {
	var b strings.Builder
	if err := statements.ExecuteTemplate(&b, name, choice); err != nil {
		return "", fmt.Errorf("render %s: %w", name, err)
	}
	return b.String(), nil
}

// DB asks the questions of the charts system. It is safe for concurrent use.
type DB struct {
	conn     driver.Conn
	calendar topk.Calendar
	thinning thinning
}

// Open prepares to ask the ClickHouse of a URL (http://, https:// or
// clickhouse://, the path being the database). One that is away is no error:
// questions fail until it answers, and Ping tells.
func Open(url string, calendar topk.Calendar) (*DB, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	options.MaxOpenConns, options.MaxIdleConns = 16, 16
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return &DB{conn: conn, calendar: calendar, thinning: defaultThinning}, nil
}

// Close releases the connections.
func (db *DB) Close() error { return db.conn.Close() }

// Ping reports whether ClickHouse answers.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.conn.Ping(ctx); err != nil {
		return fmt.Errorf("%w: ClickHouse does not answer: %w", topk.ErrUnavailable, err)
	}
	return nil
}

// scan runs a statement and hands each row to read.
func (db *DB) scan(ctx context.Context, sql string, args []any, read func(driver.Rows) error) error {
	rows, err := db.conn.Query(ctx, sql, args...)
	if err != nil {
		return classify(err)
	}
	for rows.Next() {
		if err := read(rows); err != nil {
			return errors.Join(fmt.Errorf("read row: %w", err), rows.Close())
		}
	}
	return classify(errors.Join(rows.Err(), rows.Close()))
}

// classify marks the failures that are ClickHouse being away or out of time.
func classify(err error) error {
	var netErr net.Error
	var exception *clickhouse.Exception
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exception) && unavailableCodes[exception.Code],
		errors.As(err, &netErr),
		errors.Is(err, io.EOF),
		errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, clickhouse.ErrAcquireConnTimeout),
		errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", topk.ErrUnavailable, err)
	}
	return err
}

// unavailableCodes are ClickHouse's errors that pass: 159 TIMEOUT_EXCEEDED,
// 202 TOO_MANY_SIMULTANEOUS_QUERIES, 209 SOCKET_TIMEOUT, 210 NETWORK_ERROR,
// 241 MEMORY_LIMIT_EXCEEDED.
var unavailableCodes = map[int32]bool{159: true, 202: true, 209: true, 210: true, 241: true}

// at writes an instant as a DateTime64(3, 'UTC') parameter.
func at(name string, t time.Time) any {
	return clickhouse.Named(name, t.UTC().Format("2006-01-02 15:04:05.000"))
}
