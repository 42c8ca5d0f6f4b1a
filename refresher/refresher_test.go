package refresher_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher"
	"github.com/topk-charts/topk/snapshot"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// Charts follow the plays: they fill, and become empty once their plays have
// left the window.
func TestSnapshotsFollowThePlays(t *testing.T) {
	env := embeddedtest.New(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, env.DSN, migrations.Wiring{
		Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules(),
	}); err != nil {
		t.Fatal(err)
	}
	db, err := queries.Open(env.DSN, topk.DefaultCalendar())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	store, err := snapshot.Open(ctx, env.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	publisher := store.NewPublisher(snapshot.PublisherOptions{})

	// The clock stands at now, moved by what the test adds.
	now := time.Now()
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	insert := fmt.Sprintf(`INSERT INTO plays (src, koff, at, ts, eventId, songId, country, region, device, segments, counted)
		SELECT 0, number, now64(3), toDateTime64(%d, 3, 'UTC'), toString(number), 's' || toString(number %% 4), 'IN', 'IN/Mumbai', 'tv', ['free'], true
		FROM numbers(10)`, now.Unix()-60)
	if err := env.ClickHouse.Exec(ctx, insert); err != nil {
		t.Fatal(err)
	}

	registry := prometheus.NewRegistry()
	r := refresher.New(refresher.Config{
		DB: db, Snapshots: publisher, Calendar: topk.DefaultCalendar(), Clock: clock, Log: slog.Default(), Registry: registry,
		Tick: 50 * time.Millisecond,
	})
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- r.Run(running) }()

	counted := []topk.Entry{{Rank: 1, SongID: "s1", Plays: 3}, {Rank: 2, SongID: "s0", Plays: 3}, {Rank: 3, SongID: "s3", Plays: 2}, {Rank: 4, SongID: "s2", Plays: 2}}
	holds := func(w topk.Window, dim, want string, entries []topk.Entry) {
		t.Helper()
		filter, err := topk.ParseFilter(dim)
		if err != nil {
			t.Fatal(err)
		}
		for {
			got, err := store.Get(ctx, filter, w)
			if err == nil && slices.Equal(got.Entries, entries) {
				if next := got.Watermark[0]; next != 10 {
					t.Errorf("%s %s: counted to offset %d, want 10", dim, w, next)
				}
				return
			}
			select {
			case <-ctx.Done():
				t.Fatalf("%s %s never became %s: %v %v", dim, w, want, got.Entries, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	for _, dim := range []string{"global", "region:IN", "region:IN/Mumbai", "segment:free", "device:tv"} {
		holds(topk.LastHour, dim, "the count", counted)
		holds(topk.AllTime, dim, "the count", counted)
	}
	ahead.Store(int64(2 * time.Hour))
	for _, dim := range []string{"global", "region:IN", "device:tv"} {
		holds(topk.LastHour, dim, "empty", nil)
		holds(topk.AllTime, dim, "the count", counted)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, metric := range []string{"topk_refresher_tick_seconds", "topk_freshness_seconds"} {
		if n, err := testutil.GatherAndCount(registry, metric); err != nil || n == 0 {
			t.Errorf("%s has %d series: %v", metric, n, err)
		}
	}
}
