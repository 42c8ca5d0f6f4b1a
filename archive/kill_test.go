package archive_test

import (
	"context"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"github.com/topk-charts/topk/archive"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

// A killer stands before ClickHouse and S3 and ends a run at one of its requests:
// before the server gets it, or after the server has done it and before the run
// knows.
type killer struct {
	mu     sync.Mutex
	left   int // requests until it kills
	after  bool
	kill   context.CancelFunc
	killed string // the request it was
}

// front gives the address of a proxy to the server.
func (k *killer) front(t testing.TB, server string) string {
	t.Helper()
	target, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	// The host stays that of the proxy: requests to S3 are signed with it.
	forward := &httputil.ReverseProxy{ErrorLog: log.New(io.Discard, "", 0), Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now, after := k.count(r)
		if now && !after {
			k.kill()
			return
		}
		if now {
			forward.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
			k.kill()
			return
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(proxy.Close)
	return proxy.URL
}

func (k *killer) count(r *http.Request) (now, after bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.left--; k.left == 0 {
		k.killed = r.Method + " " + r.URL.Path
	}
	return k.left == 0, k.after
}

// endlessly runs again and again, killed at the first request, at the second, and
// so on, until one gets through, and tells how many were killed. Locks that a
// killed run leaves behind would expire after a minute; here they go at once.
func (k *killer) endlessly(w *world, run func(context.Context) error) int {
	t := w.TB
	t.Helper()
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(t.Context())
		k.mu.Lock()
		k.left, k.after, k.kill, k.killed = n, n%2 == 0, cancel, ""
		k.mu.Unlock()
		err := run(ctx)
		cancel()
		w.exec("DROP TABLE IF EXISTS archiving SYNC")
		w.exec("DROP TABLE IF EXISTS migrating SYNC")
		switch {
		case err == nil && k.killed == "":
			return n - 1
		case err != nil && k.killed == "":
			t.Fatalf("run %d failed and was not killed: %v", n, err)
		}
	}
}

// Killed at any request and run again, an archive ends in the same manifests as
// one that was never killed.
func TestArchiveKilledAtEachStatement(t *testing.T) {
	undisturbed, bucket := embeddedtest.NewBucket(t), embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.catalog()
	w.history(2, 2, 240)
	w.archive(w.open(location(undisturbed)))

	k := &killer{}
	l := location(bucket)
	l.Endpoint = k.front(t, l.Endpoint)
	dsn := k.front(t, w.env.ClickHouseURL) + "/" + w.env.Database
	kills := k.endlessly(w, func(ctx context.Context) error {
		_, err := w.openAt(dsn, l).Run(ctx, nil)
		return err
	})
	t.Logf("killed %d times", kills)
	if got, want := manifests(t, bucket), manifests(t, undisturbed); !maps.Equal(got, want) {
		t.Errorf("manifests of an archive that was killed: %v\nof one that was not: %v", got, want)
	}
}

// Killed at any statement and run again, a restore is exact.
func TestRestoreKilledAtEachStatement(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.catalog()
	w.history(1, 2, 240)
	w.archive(w.open(location(bucket)))

	fresh := newWorld(t, true)
	fresh.oracle, fresh.users, fresh.now = w.oracle, w.users, w.now
	k := &killer{}
	l := location(bucket)
	dsn := k.front(t, fresh.env.ClickHouseURL) + "/" + fresh.env.Database
	kills := k.endlessly(fresh, func(ctx context.Context) error {
		_, err := fresh.openAt(dsn, l).Restore(ctx, fresh.whole())
		return err
	})
	t.Logf("killed %d times", kills)
	if got, want := fresh.print("plays"), w.print("plays"); got != want {
		t.Errorf("restored %s, was %s", got, want)
	}
	fresh.produce(0, plays(7, 60, w.now)...)
	fresh.produce(1, plays(100, 80, w.now)...) // of the first hour: repeats
	fresh.exact()
	if n := fresh.value("SELECT count() FROM system.tables WHERE database = currentDatabase() AND name IN ('restoring', 'archiving', 'migrating')"); n != "0" {
		t.Error("a restore has left its tables behind")
	}
}

// A day is put back exactly, wherever that is killed.
func TestRestoreOfADayKilledAtEachStatement(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.history(2, 30, 480)
	w.exact()
	w.archive(w.open(location(bucket)))
	whole := w.print("plays")
	day := w.now.Add(-31 * hour).UTC().Truncate(24 * hour)
	w.exec("ALTER TABLE plays DELETE WHERE toDate(at) = '" + day.Format("2006-01-02") + "' AND koff % 3 = 0 SETTINGS mutations_sync = 2")
	k := &killer{}
	dsn := k.front(t, w.env.ClickHouseURL) + "/" + w.env.Database
	told := w.value("SELECT count() FROM rewrites")
	kills := k.endlessly(w, func(ctx context.Context) error {
		_, err := w.openAt(dsn, location(bucket)).Restore(ctx, archive.RestoreOptions{Days: days(day)})
		return err
	})
	t.Logf("killed %d times", kills)
	if got := w.print("plays"); got != whole {
		t.Errorf("restored %s, was %s", got, whole)
	}
	if w.value("SELECT count() FROM rewrites") == told {
		t.Error("nobody who follows the log was told")
	}
	w.exact()
}
