// Package tablelock keeps processes out of each other's way by a table in
// ClickHouse: creating one is atomic, so whoever creates it holds the lock.
//
// The holder touches the table every few seconds. One that has not been touched
// for a minute was left by a killed process, and is taken over.
package tablelock

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// Tests do not wait that long.
var (
	expiry = time.Minute
	touch  = 10 * time.Second
)

const (
	retry  = 200 * time.Millisecond
	finish = 10 * time.Second // of a statement after the caller has gone
)

// Migrating is the lock of whoever changes the schema or the chain of views, or
// needs both to stay as they are.
const Migrating = "migrating"

// Backfilling is the lock of whoever appends to the log beside Kafka, or needs
// that nobody does.
const Backfilling = "backfilling"

// ErrLost is the cause of the end of a lock's context when another process took
// the lock over, since this one stood still for too long.
var ErrLost = errors.New("the lock was lost")

// A Lock is held until it is released or lost.
type Lock struct {
	db      *sql.DB
	name    string
	owner   string
	ctx     context.Context
	lose    context.CancelCauseFunc
	stopped chan struct{}
}

// Take waits for the lock until ctx ends. name is that of the table.
func Take(ctx context.Context, db *sql.DB, name string) (*Lock, error) {
	for {
		lock, err := Try(ctx, db, name)
		if err != nil || lock != nil {
			return lock, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s is held by another process: %w", name, ctx.Err())
		case <-time.After(retry):
		}
	}
}

// Try takes the lock, or gives nil when another process holds it.
func Try(ctx context.Context, db *sql.DB, name string) (*Lock, error) {
	owner := rand.Text()
	err := create(ctx, db, name, owner)
	if exists(err) {
		if abandoned, err := abandoned(ctx, db, name); err != nil || !abandoned {
			return nil, err
		}
		// Should two take it over at once, the second may drop the first's new
		// table: the first then finds, by StillHeld or by touching, that it has
		// lost the lock.
		if _, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS "+name+" SYNC"); err != nil {
			return nil, fmt.Errorf("take over lock %s: %w", name, err)
		}
		if err = create(ctx, db, name, owner); exists(err) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	held, lose := context.WithCancelCause(ctx)
	l := &Lock{db: db, name: name, owner: owner, ctx: held, lose: lose, stopped: make(chan struct{})}
	go l.keep(touch)
	return l, nil
}

// Held asks whether anybody holds the lock of the name, or did within the last
// minute and was killed.
func Held(ctx context.Context, db *sql.DB, name string) (bool, error) {
	var held bool
	err := db.QueryRowContext(ctx, `
		SELECT count() > 0 FROM system.tables
		WHERE database = currentDatabase() AND name = {name:String}
		  AND metadata_modification_time >= now() - {expiry:UInt32}`,
		clickhouse.Named("name", name), clickhouse.Named("expiry", uint32(expiry.Seconds()))).Scan(&held)
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	return held, nil
}

// Context ends when ctx of Take ends, or when the lock is released or lost:
// what the lock protects must be done under it.
func (l *Lock) Context() context.Context { return l.ctx }

// StillHeld asks whether the lock is still this process's. ErrLost when not.
func (l *Lock) StillHeld(ctx context.Context) error {
	var comment string
	err := l.db.QueryRowContext(ctx, "SELECT comment FROM system.tables WHERE database = currentDatabase() AND name = {name:String}",
		clickhouse.Named("name", l.name)).Scan(&comment)
	if errors.Is(err, sql.ErrNoRows) || err == nil && !strings.HasPrefix(comment, l.owner) {
		return fmt.Errorf("%s: %w", l.name, ErrLost)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.name, err)
	}
	return nil
}

// Release gives the lock back, also after ctx has ended.
func (l *Lock) Release() error {
	l.lose(context.Canceled)
	<-l.stopped
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), finish)
	defer cancel()
	if err := l.StillHeld(ctx); err != nil {
		if errors.Is(err, ErrLost) {
			return nil
		}
		return err
	}
	if _, err := l.db.ExecContext(ctx, "DROP TABLE IF EXISTS "+l.name+" SYNC"); err != nil {
		return fmt.Errorf("release lock %s: %w", l.name, err)
	}
	return nil
}

// keep touches the table until the lock is given back or lost. What goes wrong
// meanwhile is tried again: the lock is good for a minute.
func (l *Lock) keep(every time.Duration) {
	defer close(l.stopped)
	ticks := time.NewTicker(every)
	defer ticks.Stop()
	for n := 1; ; n++ {
		select {
		case <-l.ctx.Done():
			return
		case <-ticks.C:
		}
		err := l.StillHeld(l.ctx)
		if errors.Is(err, ErrLost) {
			l.lose(err)
			return
		}
		if err == nil {
			// Changing the comment changes the time of the table's metadata.
			_, _ = l.db.ExecContext(l.ctx, fmt.Sprintf("ALTER TABLE %s MODIFY COMMENT '%s %d'", l.name, l.owner, n))
		}
	}
}

func create(ctx context.Context, db *sql.DB, name, owner string) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf("CREATE TABLE %s (locked UInt8) ENGINE = Null COMMENT '%s'", name, owner))
	return err
}

func exists(err error) bool {
	var exception *clickhouse.Exception
	const tableAlreadyExists = 57
	return errors.As(err, &exception) && exception.Code == tableAlreadyExists
}

func abandoned(ctx context.Context, db *sql.DB, name string) (bool, error) {
	var abandoned bool
	err := db.QueryRowContext(ctx, `
		SELECT count() > 0 FROM system.tables
		WHERE database = currentDatabase() AND name = {name:String}
		  AND metadata_modification_time < now() - {expiry:UInt32}`,
		clickhouse.Named("name", name), clickhouse.Named("expiry", uint32(expiry.Seconds()))).Scan(&abandoned)
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	return abandoned, nil
}
