package clickhouse_test

import (
	"errors"
	"testing"
	"testing/fstest"

	driver "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/golang-migrate/migrate/v4"
	migrateclickhouse "github.com/golang-migrate/migrate/v4/database/clickhouse"
	"github.com/golang-migrate/migrate/v4/source/iofs"
)

// TestMigrate runs golang-migrate up, again, with a broken step, and down.
func TestMigrate(t *testing.T) {
	name := database(t)
	files := fstest.MapFS{
		"001_songs.up.sql":   {Data: []byte("-- the catalog; with a comment\nCREATE TABLE songs (id String) ENGINE = MergeTree ORDER BY id")},
		"001_songs.down.sql": {Data: []byte("DROP TABLE songs")},
		"002_view.up.sql":    {Data: []byte("CREATE VIEW titles AS SELECT id, ';' AS semicolon FROM songs")},
		"002_view.down.sql":  {Data: []byte("DROP VIEW titles")},
	}
	start := func() *migrate.Migrate {
		t.Helper()
		options, err := driver.ParseDSN(server.URL() + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		target, err := migrateclickhouse.WithInstance(driver.OpenDB(options), &migrateclickhouse.Config{
			DatabaseName: name, MigrationsTableEngine: "MergeTree",
		})
		if err != nil {
			t.Fatal(err)
		}
		source, err := iofs.New(files, ".")
		if err != nil {
			t.Fatal(err)
		}
		m, err := migrate.NewWithInstance("iofs", source, name, target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = m.Close() })
		return m
	}
	if err := start().Up(); err != nil {
		t.Fatal(err)
	}
	m := start()
	if err := m.Up(); !errors.Is(err, migrate.ErrNoChange) {
		t.Errorf("up again: %v", err)
	}
	if version, dirty, err := m.Version(); version != 2 || dirty || err != nil {
		t.Errorf("version is %d, dirty %v: %v", version, dirty, err)
	}
	files["003_broken.up.sql"] = &fstest.MapFile{Data: []byte("CREATE TABLE broken")}
	m = start()
	if err := m.Up(); err == nil {
		t.Error("a broken step must fail")
	}
	if version, dirty, err := m.Version(); version != 3 || !dirty || err != nil {
		t.Errorf("version is %d, dirty %v: %v", version, dirty, err)
	}
	if err := m.Force(2); err != nil {
		t.Fatal(err)
	}
	if err := m.Down(); err != nil {
		t.Fatal(err)
	}
	if tables := post(t, "", "SELECT count() FROM system.tables WHERE database = '"+name+"'"); tables != "1\n" {
		t.Errorf("%s tables are left, want that of migrate only", tables)
	}
}
