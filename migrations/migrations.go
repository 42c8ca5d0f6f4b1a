// Package migrations builds what is inside ClickHouse: the tables, by numbered
// steps, and the chain that carries plays from the topic to the rollups.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/golang-migrate/migrate/v4"
	migratedb "github.com/golang-migrate/migrate/v4/database"
	chmigrate "github.com/golang-migrate/migrate/v4/database/clickhouse"
	"github.com/golang-migrate/migrate/v4/source/iofs"

	"github.com/topk-charts/topk/internal/tablelock"
)

//go:embed schema/*.sql
var schema embed.FS

// Up brings the database of the URL to the newest schema and wires it. It may
// be run at any time, by several processes, while plays stream in, and again
// after it was killed: every step is one statement that may be repeated.
func Up(ctx context.Context, url string, w Wiring) (err error) {
	db, options, err := open(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := createDatabase(ctx, options); err != nil {
		return err
	}

	lock, err := tablelock.Take(ctx, db, tablelock.Migrating)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx = lock.Context()

	if begun, err := switchBegun(ctx, db, besideOf(options.Auth.Database)); err != nil {
		return err
	} else if begun { // and killed
		if err := finishSwitch(ctx, db, options.Auth.Database, w, func(string) error { return nil }); err != nil {
			return fmt.Errorf("finish the switch of a replay: %w", err)
		}
	}
	if err := steps(ctx, db, options.Auth.Database); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	if begun, _, err := restoreBegun(ctx, db, options.Auth.Database); err != nil || begun {
		return err // what is restored comes first: Restore wires the chain when it is there
	}
	if err := wire(ctx, db, options.Auth.Database, w); err != nil {
		return fmt.Errorf("wire ClickHouse to Kafka: %w", err)
	}
	return nil
}

// Rewire is Up for a topic that was deleted and made again: it does nothing
// while the topic is the one that is being read, and tells whether it was not. A
// topic of an earlier epoch is what a client or a broker still remembers of it.
func Rewire(ctx context.Context, url string, w Wiring) (rewired bool, err error) {
	db, options, err := open(url)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if begun, err := exists(ctx, db, options.Auth.Database, restoring); err != nil || begun {
		return false, err
	}
	var known bool
	err = db.QueryRowContext(ctx, "SELECT count() > 0 FROM epochs WHERE topic = {topic:String} AND topicId = {id:String}",
		clickhouse.Named("topic", w.Topic), clickhouse.Named("id", w.TopicID)).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("read epochs: %w", err)
	}
	if known {
		return false, nil
	}
	return true, Up(ctx, url, w)
}

// statementTimeout bounds one statement. Some write a large table anew.
const statementTimeout = 12 * time.Hour

// open prepares to ask the database of the URL, which need not be there yet.
func open(url string) (*sql.DB, *clickhouse.Options, error) {
	options, err := clickhouse.ParseDSN(url)
	if err != nil {
		return nil, nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	if !plainName.MatchString(options.Auth.Database) {
		return nil, nil, fmt.Errorf("ClickHouse URL: the path must name a database of letters, digits and _, not %q", options.Auth.Database)
	}
	options.ReadTimeout = statementTimeout
	return clickhouse.OpenDB(options), options, nil
}

// CreateDatabase makes the database the URL names, unless it is there.
func CreateDatabase(ctx context.Context, url string) (err error) {
	db, options, err := open(url)
	if err != nil {
		return err
	}
	return errors.Join(createDatabase(ctx, options), db.Close())
}

// createDatabase makes the database the URL names, which a connection to it
// cannot.
func createDatabase(ctx context.Context, options *clickhouse.Options) (err error) {
	name := options.Auth.Database
	outside := *options
	outside.Auth.Database = "default"
	db := clickhouse.OpenDB(&outside)
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "CREATE DATABASE IF NOT EXISTS "+name); err != nil {
		return fmt.Errorf("create database %s: %w", name, err)
	}
	return nil
}

// steps runs the numbered files that have not run yet. If there are any, plays
// do not flow from then on, until the chain is wired: some make a table anew.
func steps(ctx context.Context, db *sql.DB, database string) error {
	m, left, err := stepsLeft(db, database)
	if err != nil {
		return err
	}
	if left {
		if err := unwire(ctx, db, flow); err != nil {
			return err
		}
	}
	switch err := m.Up(); {
	case errors.Is(err, migrate.ErrNoChange):
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("database %s was made by another version of topk, whose schema this one does not know: "+
			"use that version, or another database: %w", database, err)
	default:
		return err
	}
}

// stepsLeft tells whether there are numbered files that have not run yet.
func stepsLeft(db *sql.DB, database string) (m *migrate.Migrate, left bool, err error) {
	source, err := iofs.New(schema, "schema")
	if err != nil {
		return nil, false, err
	}
	driver, err := schemaDriver(db, database)
	if err != nil {
		return nil, false, err
	}
	m, err = migrate.NewWithInstance("schema", source, "clickhouse", driver)
	if err != nil {
		return nil, false, err
	}
	version, dirty, err := driver.Version()
	if err != nil {
		return nil, false, err
	}
	// A step that was killed is left marked dirty. It is one statement that may
	// be repeated: run it again.
	if dirty {
		version--
		if err := m.Force(version); err != nil {
			return nil, false, err
		}
	}
	if version < 0 {
		return m, true, nil
	}
	_, err = source.Next(uint(version))
	if errors.Is(err, fs.ErrNotExist) { // the last one, or one that is not ours
		return m, false, nil
	}
	return m, err == nil, err
}

// schemaDriver knows which numbered files have run.
func schemaDriver(db *sql.DB, database string) (migratedb.Driver, error) {
	return chmigrate.WithInstance(db, &chmigrate.Config{DatabaseName: database, MigrationsTableEngine: "MergeTree"})
}

// plainName is a database name that needs no quoting anywhere.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
