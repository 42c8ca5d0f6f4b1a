package tablelock

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func open(t *testing.T) *sql.DB {
	t.Helper()
	options, err := clickhouse.ParseDSN(embeddedtest.New(t).DSN)
	if err != nil {
		t.Fatal(err)
	}
	db := clickhouse.OpenDB(options)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func take(t *testing.T, db *sql.DB) *Lock {
	t.Helper()
	lock, err := Take(t.Context(), db, "busy")
	if err != nil {
		t.Fatal(err)
	}
	return lock
}

// Only one holds a lock at a time, and everybody gets it.
func TestOneAtATime(t *testing.T) {
	db := open(t)
	var inside, entered atomic.Int32
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			lock, err := Take(t.Context(), db, "busy")
			if err != nil {
				t.Error(err)
				return
			}
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d hold the lock", n)
			}
			if err := lock.StillHeld(lock.Context()); err != nil {
				t.Error(err)
			}
			entered.Add(1)
			inside.Add(-1)
			if err := lock.Release(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if entered.Load() != 5 {
		t.Errorf("%d of 5 got the lock", entered.Load())
	}
}

func TestTryAndDeadline(t *testing.T) {
	db := open(t)
	lock := take(t, db)
	if other, err := Try(t.Context(), db, "busy"); other != nil || err != nil {
		t.Errorf("a lock that is held was given: %v, %v", other, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := Take(ctx, db, "busy"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waited in vain: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
	if lock.Context().Err() == nil {
		t.Error("a released lock's context goes on")
	}
	lock = take(t, db)
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

// A lock that is touched outlives its expiry; one that is not is taken over, and
// whoever had it learns so.
func TestTakeOver(t *testing.T) {
	defer func(e, h time.Duration) { expiry, touch = e, h }(expiry, touch)
	expiry, touch = 3*time.Second, time.Second // the table's time is in seconds
	db := open(t)
	first := take(t, db)
	for until := time.Now().Add(2 * expiry); time.Now().Before(until); <-time.After(100 * time.Millisecond) {
		if other, err := Try(t.Context(), db, "busy"); other != nil || err != nil {
			t.Fatalf("a lock that is touched was taken over: %v, %v", other, err)
		}
	}
	// As if its process had been killed, or stopped for long.
	touch = time.Hour
	stalled, err := func() (*Lock, error) {
		if err := first.Release(); err != nil {
			return nil, err
		}
		return Take(t.Context(), db, "busy")
	}()
	if err != nil {
		t.Fatal(err)
	}
	second := take(t, db)
	if err := stalled.StillHeld(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("the first still holds the lock: %v", err)
	}
	if err := stalled.Release(); err != nil {
		t.Error(err)
	}
	if err := second.StillHeld(t.Context()); err != nil {
		t.Errorf("the release of a lost lock released another's: %v", err)
	}
	if err := second.Release(); err != nil {
		t.Error(err)
	}
}
