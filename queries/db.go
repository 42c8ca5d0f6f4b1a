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
	"maps"
	"net"
	"sync"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

//go:embed *.sql
var files embed.FS

var statements = sqlfile.Parse(files)

// DB asks the questions of the charts system. It is safe for concurrent use.
type DB struct {
	conn     driver.Conn
	calendar topk.Calendar
	limits   Limits
	thinning thinning
	counters int // of an approximate chart
	killing  sync.WaitGroup
}

// An Option is a choice at Open.
type Option func(*DB)

// Open prepares to ask the ClickHouse of a URL (http://, https:// or
// clickhouse://, the path being the database). One that is away is no error:
// questions fail until it answers, and Ping tells.
func Open(url string, calendar topk.Calendar, options ...Option) (*DB, error) {
	db := &DB{calendar: calendar, thinning: defaultThinning, counters: approxCounters}
	for _, option := range options {
		option(db)
	}
	server, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	server.MaxOpenConns, server.MaxIdleConns = 16, 16
	if server.Settings == nil {
		server.Settings = clickhouse.Settings{}
	}
	maps.Copy(server.Settings, db.limits.settings())
	if server.Protocol == clickhouse.HTTP {
		server.Settings["cancel_http_readonly_queries_on_client_close"] = 1
	}
	if db.conn, err = clickhouse.Open(server); err != nil {
		return nil, fmt.Errorf("open ClickHouse: %w", err)
	}
	return db, nil
}

// Close releases the connections.
func (db *DB) Close() error {
	db.killing.Wait()
	return db.conn.Close()
}

// Ping reports whether ClickHouse answers.
func (db *DB) Ping(ctx context.Context) error {
	if err := db.conn.Ping(ctx); err != nil {
		return fmt.Errorf("%w: ClickHouse does not answer: %w", topk.ErrUnavailable, err)
	}
	return nil
}

// scan runs a statement and hands each row to read. When ctx ends, so does the
// statement on the server.
func (db *DB) scan(ctx context.Context, sql string, args []any, read func(driver.Rows) error) error {
	ctx, done := db.begin(ctx)
	defer done()
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

// classify marks the failures that are ClickHouse being away or out of time, and
// its refusals of too much work.
func classify(err error) error {
	var netErr net.Error
	var exception *clickhouse.Exception
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exception) && exceeds(exception):
		return &tooMuch{memory: exception.Code == memoryLimitExceeded, cause: err}
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

// ClickHouse's errors that mean something to us.
const (
	tooManyRows         = 158
	memoryLimitExceeded = 241
)

// unavailableCodes are ClickHouse's errors that pass: 159 TIMEOUT_EXCEEDED,
// 202 TOO_MANY_SIMULTANEOUS_QUERIES, 209 SOCKET_TIMEOUT, 210 NETWORK_ERROR,
// 241 MEMORY_LIMIT_EXCEEDED (of the server).
var unavailableCodes = map[int32]bool{159: true, 202: true, 209: true, 210: true, memoryLimitExceeded: true}
