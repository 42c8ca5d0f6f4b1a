package refresher_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/rueidis"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher"
	"github.com/topk-charts/topk/snapshot"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// A fixture is a log that tests write to, and a refresher that follows it.
type fixture struct {
	*testing.T
	env      *embeddedtest.Env
	db       *queries.DB
	store    *snapshot.Store
	registry *prometheus.Registry
	refresh  *refresher.Refresher
	ahead    atomic.Int64 // of its clock
	written  uint64       // plays
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, env: embeddedtest.New(t)}
	if err := migrations.Up(t.Context(), f.env.DSN, migrations.Wiring{
		Brokers: f.env.Brokers, Topic: f.env.Topic, Group: f.env.Topic, Rules: topk.DefaultRules(),
	}); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.db, err = queries.Open(f.env.DSN, topk.DefaultCalendar()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if f.store, err = snapshot.Open(t.Context(), f.env.RedisURL, snapshot.Options{Clock: f.clock, CopyFor: -1}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.store.Close)
	return f
}

func (f *fixture) clock() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

// start runs a refresher until the end of the test.
func (f *fixture) start() {
	f.Helper()
	f.registry = prometheus.NewRegistry()
	r := refresher.New(refresher.Config{
		DB: f.db, Snapshots: f.store.NewPublisher(snapshot.PublisherOptions{}), Calendar: topk.DefaultCalendar(),
		Clock: f.clock, Log: slog.New(slog.DiscardHandler), Registry: f.registry,
		Tick: 50 * time.Millisecond, IdleAfter: time.Minute, AuditEvery: 100 * time.Millisecond,
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	f.refresh = r
	f.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			f.Error(err)
		}
		if wrong := f.metric("topk_refresher_wrong_charts_total"); wrong != 0 {
			f.Errorf("audits found %v charts to be wrong", wrong)
		}
	})
}

func (f *fixture) metric(name string) float64 {
	f.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		f.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func (f *fixture) exec(sql string) {
	f.Helper()
	if err := f.env.ClickHouse.Exec(f.Context(), sql); err != nil {
		f.Fatalf("%s: %v", sql, err)
	}
}

// write adds n plays of a minute ago to the log: of s0 to s3 in turn, in India,
// on a tv, from a playlist.
func (f *fixture) write(n uint64) {
	f.Helper()
	f.exec(fmt.Sprintf(`
		INSERT INTO plays (src, koff, at, ts, eventId, songId, artistId, country, region, device, contextKind, contextId, segments, counted)
		SELECT 0, number, now64(3), now64(3) - INTERVAL 1 MINUTE, toString(number), 's' || toString(number %% 4), 'a',
			'IN', 'IN/Mumbai', 'tv', 'playlist', 'p', ['free'], true
		FROM numbers(%d, %d)`, f.written, n))
	f.written += n
}

func (f *fixture) filter(dim string) topk.Filter {
	f.Helper()
	filter, err := topk.ParseFilter(dim)
	if err != nil {
		f.Fatal(err)
	}
	return filter
}

// await waits for a snapshot with these plays of s0, s1, s2 and s3.
func (f *fixture) await(dim string, w topk.Window, plays ...uint64) snapshot.Snapshot {
	f.Helper()
	var want []topk.Entry
	for i, n := range plays {
		if n > 0 {
			want = append(want, topk.Entry{SongID: fmt.Sprintf("s%d", i), Plays: n})
		}
	}
	topk.RankEntries(want)
	var got snapshot.Snapshot
	embeddedtest.WaitFor(f.Context(), f, fmt.Sprintf("snapshot %s %s to be %v", dim, w, want), func() bool {
		var err error
		got, err = f.store.Get(f.Context(), f.filter(dim), w)
		return err == nil && slices.Equal(got.Entries, want)
	})
	return got
}

var eager = []string{"global", "region:IN", "region:IN/Mumbai", "segment:free", "device:tv"}

// Charts follow the plays: they fill, and become empty once their plays have
// left the window.
func TestSnapshotsFollowThePlays(t *testing.T) {
	f := newFixture(t)
	f.write(10)
	f.start()
	for _, dim := range eager {
		for _, w := range topk.Windows() {
			if got := f.await(dim, w, 3, 3, 2, 2); got.Watermark[0] != 10 || got.TotalPlays != 10 {
				t.Errorf("%s %s: %d plays below %v", dim, w, got.TotalPlays, got.Watermark)
			}
		}
	}
	f.write(2)
	for _, dim := range eager {
		f.await(dim, topk.LastHour, 3, 3, 3, 3)
	}
	f.ahead.Store(int64(2 * time.Hour))
	for _, dim := range eager {
		f.await(dim, topk.LastHour)
		f.await(dim, topk.AllTime, 3, 3, 3, 3)
	}
	f.ahead.Store(int64(31 * 24 * time.Hour)) // a month in one step
	for _, w := range []topk.Window{topk.Last24h, topk.Last7d, topk.Last30d, topk.Today, topk.ThisWeek} {
		f.await("region:IN", w)
	}
	f.await("region:IN", topk.AllTime, 3, 3, 3, 3)
	embeddedtest.WaitFor(f.Context(), f, "charts to be proved", func() bool { return f.metric("topk_refresher_audits_total") > 3 })
	for _, metric := range []string{"topk_refresher_tick_seconds", "topk_freshness_seconds", "topk_refresher_bytes"} {
		if n, err := testutil.GatherAndCount(f.registry, metric); err != nil || n == 0 {
			t.Errorf("%s has %d series: %v", metric, n, err)
		}
	}
}

// When Redis loses everything, everything is written again.
func TestRedisIsFlushed(t *testing.T) {
	f := newFixture(t)
	f.write(10)
	f.start()
	for _, dim := range eager {
		f.await(dim, topk.Last24h, 3, 3, 2, 2)
	}
	redis, err := rueidis.NewClient(rueidis.MustParseURL(f.env.RedisURL))
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	if err := redis.Do(t.Context(), redis.B().Flushdb().Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for _, dim := range eager {
		for _, w := range topk.Windows() {
			f.await(dim, w, 3, 3, 2, 2)
		}
	}
}

// Plays that are erased are erased from the charts, once those who follow the
// log are told.
func TestHistoryIsRewritten(t *testing.T) {
	f := newFixture(t)
	f.write(10)
	f.start()
	f.await("region:IN", topk.Last24h, 3, 3, 2, 2)
	// The last play of the log is among them: then the rollups know more of its
	// source than the log.
	embeddedtest.WaitFor(f.Context(), f, "the rollups to have all plays", func() bool {
		var behind uint64
		row := f.env.ClickHouse.QueryRow(f.Context(), "SELECT countIf(wm != 10) FROM (SELECT max(wm) AS wm FROM rollup_hour WHERE dim = '_wm' UNION ALL SELECT max(wm) FROM rollup_day WHERE dim = '_wm')")
		if err := row.Scan(&behind); err != nil {
			t.Fatal(err)
		}
		return behind == 0
	})
	f.exec("ALTER TABLE plays DELETE WHERE songId = 's1' SETTINGS mutations_sync = 2")
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		f.exec("ALTER TABLE " + rollup + " DELETE WHERE songId = 's1' SETTINGS mutations_sync = 2")
	}
	f.exec("INSERT INTO rewrites (reason) VALUES ('erasure of s1')")
	for _, dim := range eager {
		f.await(dim, topk.Last24h, 3, 0, 2, 2)
	}
	f.write(4) // and the log is followed on: 10 to 13 are s2, s3, s0, s1
	f.await("global", topk.LastHour, 4, 1, 3, 3)
	if n := f.metric("topk_refresher_restarts_total"); n < 1 {
		t.Error("charts were not counted anew")
	}
}

// A correction of the catalog moves songs between charts of genres, at once and
// with their history.
func TestCatalogIsCorrected(t *testing.T) {
	f := newFixture(t)
	song := func(id string, genres ...string) topk.Song {
		return topk.Song{SongID: id, ArtistID: "a", Genres: genres}
	}
	if err := f.db.UpsertSongs(t.Context(), []topk.Song{song("s0", "pop"), song("s1", "rock"), song("s2", "pop", "rock")}); err != nil {
		t.Fatal(err)
	}
	f.write(10)
	f.start()
	f.await("genre:pop", topk.Last24h, 3, 0, 2)
	f.await("genre:rock", topk.AllTime, 0, 3, 2)
	if err := f.db.UpsertSongs(t.Context(), []topk.Song{song("s0", "rock"), song("s3", "pop")}); err != nil {
		t.Fatal(err)
	}
	f.await("genre:pop", topk.Last24h, 0, 0, 2, 2)
	f.await("genre:rock", topk.AllTime, 3, 3, 2)
	// A song that is deleted leaves them, and comes back with its history.
	load := f.db.LoadSongs(false)
	if err := errors.Join(load.StageSongs(t.Context(), []topk.Song{{SongID: "s0"}}), load.Write(t.Context()), load.Forget(t.Context())); err != nil {
		t.Fatal(err)
	}
	f.await("genre:rock", topk.AllTime, 0, 3, 2)
	if err := f.db.UpsertSongs(t.Context(), []topk.Song{song("s0", "rock")}); err != nil {
		t.Fatal(err)
	}
	f.await("genre:rock", topk.AllTime, 3, 3, 2)
}

// A chart that somebody asks for is counted, then kept, and given up when nobody
// asks for it any more.
func TestChartsOnDemand(t *testing.T) {
	f := newFixture(t)
	if err := f.db.UpsertSongs(t.Context(), []topk.Song{{SongID: "s0", ArtistID: "a", Genres: []string{"pop"}}}); err != nil {
		t.Fatal(err)
	}
	f.write(10)
	f.start()
	f.await("global", topk.Last24h, 3, 3, 2, 2)
	asked := map[string][]uint64{
		"playlist:p":               {3, 3, 2, 2},
		"device:tv,region:IN":      {3, 3, 2, 2},
		"artist:a":                 {3},
		"genre:pop,region:IN":      {3},
		"playlist:q":               {},
		"playlist:p,segment:other": {},
	}
	for dim := range asked {
		f.store.Want(f.filter(dim), topk.Last24h)
	}
	for dim, plays := range asked {
		f.await(dim, topk.Last24h, plays...)
	}
	f.write(2)
	f.await("playlist:p", topk.Last24h, 3, 3, 3, 3)
	f.await("device:tv,region:IN", topk.Last24h, 3, 3, 3, 3)

	f.ahead.Store(int64(2 * time.Minute))
	for dim := range asked {
		embeddedtest.WaitFor(f.Context(), f, dim+" to be given up", func() bool {
			_, err := f.store.Get(f.Context(), f.filter(dim), topk.Last24h)
			return err != nil
		})
	}
}

// Two refreshers may run at once: whoever is newer wins, and the charts are
// right at any moment.
func TestTwoRefreshers(t *testing.T) {
	f := newFixture(t)
	f.write(10)
	f.start()
	f.start()
	f.await("region:IN", topk.LastHour, 3, 3, 2, 2)
	for range 20 {
		f.write(4)
		n := f.written / 4
		f.await("region:IN", topk.LastHour, n+1, n+1, n, n)
	}
}

// The state of one chart can be looked at.
func TestDebugPage(t *testing.T) {
	f := newFixture(t)
	f.write(10)
	f.start()
	f.await("region:IN", topk.Last24h, 3, 3, 2, 2)
	get := func(query string) (int, string) {
		res := httptest.NewRecorder()
		f.refresh.Debug().ServeHTTP(res, httptest.NewRequest(http.MethodGet, "/debug/chart?"+query, nil))
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.Code, string(body)
	}
	code, body := get("dim=region:IN&window=24h")
	var state struct {
		Kept, InDoubt bool
		TotalPlays    uint64
		Counts        struct{ Candidates int }
		Top           []struct{ SongID string }
	}
	if err := json.Unmarshal([]byte(body), &state); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s: %v", code, body, err)
	}
	if !state.Kept || state.InDoubt || state.TotalPlays != 10 || state.Counts.Candidates != 4 || len(state.Top) != 4 || state.Top[0].SongID != "s1" {
		t.Errorf("%s", body)
	}
	for _, query := range []string{"", "dim=genre:none&window=1h"} {
		if code, body := get(query); code != http.StatusOK {
			t.Errorf("%q: %d %s", query, code, body)
		}
	}
	for _, query := range []string{"dim=nothing", "window=2h"} {
		if code, body := get(query); code != http.StatusBadRequest {
			t.Errorf("%q: %d %s", query, code, body)
		}
	}
}
