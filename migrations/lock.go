package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// A lock is a table, since creating one is atomic. Its holder renews it; a lock
// older than lockExpiry was left by a killed process.
const (
	lockExpiry = time.Minute
	lockRenew  = 15 * time.Second
	lockRetry  = 200 * time.Millisecond
)

// Names of locks.
const (
	migrating = "migrating" // the schema and the chain are changed
	replaying = "replaying" // the tables are rebuilt from Kafka
)

// lock keeps other processes that take the same lock out until unlock. It waits
// for them as long as ctx lasts.
func lock(ctx context.Context, db *sql.DB, name string) (unlock func() error, err error) {
	for {
		_, err := db.ExecContext(ctx, "CREATE TABLE "+name+" (locked UInt8) ENGINE = Null")
		if err == nil {
			return hold(ctx, db, name), nil
		}
		var exception *clickhouse.Exception
		const tableAlreadyExists = 57
		if !errors.As(err, &exception) || exception.Code != tableAlreadyExists {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		var expired bool
		err = db.QueryRowContext(ctx, `
			SELECT count() > 0 FROM system.tables
			WHERE database = currentDatabase() AND name = {name:String}
			  AND metadata_modification_time < now() - {expiry:UInt32}`,
			clickhouse.Named("name", name), clickhouse.Named("expiry", uint32(lockExpiry.Seconds()))).Scan(&expired)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		if expired {
			if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+name+" SYNC"); err != nil {
				return nil, fmt.Errorf("take over lock %s: %w", name, err)
			}
			continue
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("another process is %s: %w", name, ctx.Err())
		case <-time.After(lockRetry):
		}
	}
}

// hold renews the lock until unlock is called.
func hold(ctx context.Context, db *sql.DB, name string) (unlock func() error) {
	renewing, stop := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(lockRenew)
		defer tick.Stop()
		for {
			select {
			case <-renewing.Done():
				return
			case <-tick.C:
				// One that fails is made up for by the next: there are three
				// before the lock expires.
				_, _ = db.ExecContext(renewing, "ALTER TABLE "+name+" MODIFY COMMENT "+quote(time.Now().UTC().String()))
			}
		}
	}()
	return func() error {
		stop()
		<-stopped
		_, err := db.ExecContext(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+name+" SYNC")
		return err
	}
}
