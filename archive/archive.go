// Package archive keeps the log in S3: every hour of it, once it is over, as
// Parquet with a manifest, and puts it back into ClickHouse from there.
//
// In the bucket, below the prefix of the archive's URL:
//
//	plays/date=2026-03-04/hour=15/plays-r1-0.parquet   the log, in pieces
//	plays/date=2026-03-04/hour=15/manifest.json        says that the hour is whole
//	plays_duplicates/date=…/hour=…/…                   repeats and rejects, which
//	plays_rejected/date=…/hour=…/…                     account for the other offsets
//	catalog/date=2026-03-04/{songs,user_segments}…     once a day, with a manifest
//	state.json                                         how far all that is
//
// An hour is one of arrival, of the column `at`: nothing is ever added to one
// that is over. ClickHouse itself writes and reads the objects; only lists,
// manifests and deletions go through this process.
package archive

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
	"github.com/topk-charts/topk/internal/tablelock"
)

//go:embed *.sql
var files embed.FS

var statements = sqlfile.Parse(files)

// Config is what an Archive works with. All but Registry is required.
type Config struct {
	ClickHouseURL string // with the database as path
	Location      Location
	Clock         topk.Clock
	Log           *slog.Logger
	Registry      prometheus.Registerer // of metrics; nil for none
}

// An Archive writes the archive, and restores from it. Those that exclude each
// other, in whichever process, wait for nobody: they fail.
type Archive struct {
	Config
	db      *sql.DB
	bucket  *bucket
	metrics metrics
	// rowsPerObject bounds the plays of one object, which a restore inserts as
	// one part.
	rowsPerObject uint64
	// closed gives the end of the hours that are over.
	closed func(now time.Time) time.Time
}

const (
	// rowsPerObject is so that a block of them takes some 200 MB of memory.
	rowsPerObject = 1_000_000
	// statementTimeout bounds one statement.
	statementTimeout = 30 * time.Minute
	// lockName is held by whoever writes the archive or restores from it.
	lockName = "archiving"
)

// ErrBusy: another process archives or restores.
var ErrBusy = errors.New("another process archives or restores")

// Open prepares to ask ClickHouse and S3; neither has to answer yet.
func Open(ctx context.Context, cfg Config) (*Archive, error) {
	options, err := clickhouse.ParseDSN(cfg.ClickHouseURL)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	options.ReadTimeout = statementTimeout
	bucket, err := openBucket(ctx, cfg.Location)
	if err != nil {
		return nil, err
	}
	return &Archive{
		Config: cfg, db: clickhouse.OpenDB(options), bucket: bucket, metrics: newMetrics(cfg.Registry),
		rowsPerObject: rowsPerObject, closed: closed,
	}, nil
}

// Close drops the connections.
func (a *Archive) Close() error { return a.db.Close() }

// alone runs what must not run twice at once.
func (a *Archive) alone(ctx context.Context, run func(context.Context) error) (err error) {
	lock, err := tablelock.Try(ctx, a.db, lockName)
	if err != nil {
		return err
	}
	if lock == nil {
		return ErrBusy
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	return run(lock.Context())
}

// exec runs a statement of a file.
func (a *Archive) exec(ctx context.Context, file string, choice any, args ...any) error {
	return a.Location.conceal(statements.Exec(ctx, a.db, statementTimeout, file, choice, args...))
}

// query runs a statement of a file and hands each row to read.
func (a *Archive) query(ctx context.Context, file string, choice any, args []any, read func(*sql.Rows) error) error {
	return a.Location.conceal(statements.Query(ctx, a.db, statementTimeout, file, choice, args, read))
}
