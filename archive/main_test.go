package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/archive"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/internal/oracle"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

var pepper = []byte("pepper")

// A world is a topic, a database that reads it, and the truth.
type world struct {
	testing.TB
	env    *embeddedtest.Env
	wiring migrations.Wiring
	kafka  *kgo.Client
	db     *queries.DB
	oracle *oracle.Oracle
	songs  []topk.Song
	users  map[string][]string
	next   map[uint32]uint64
	now    time.Time
}

// newWorld has a topic and a database of its own, which is migrated if wanted.
func newWorld(t testing.TB, migrated bool) *world {
	t.Helper()
	env := embeddedtest.New(t)
	w := &world{TB: t, env: env, oracle: oracle.New(), next: map[uint32]uint64{}, now: time.Now().Truncate(time.Millisecond)}
	client, err := kgo.NewClient(kgo.SeedBrokers(env.Brokers...), kgo.DefaultProduceTopic(env.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	w.kafka = client
	w.wiring = migrations.Wiring{
		Brokers: env.Brokers, Topic: env.Topic, TopicID: w.topicID(), Group: env.Topic, Rules: topk.DefaultRules(),
	}
	if w.db, err = queries.Open(env.DSN, topk.DefaultCalendar()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if migrated {
		w.up()
	}
	return w
}

func (w *world) topicID() string {
	topics, err := kadm.NewClient(w.kafka).ListTopics(w.Context(), w.env.Topic)
	if err != nil {
		w.Fatal(err)
	}
	return topics[w.env.Topic].ID.String()
}

func (w *world) up() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, w.env.DSN, w.wiring); err != nil {
		w.Fatal(err)
	}
}

// catalog loads songs and users.
func (w *world) catalog() {
	w.Helper()
	w.songs = rapid.Custom(oracle.Catalog).Example(1)
	w.users = rapid.Custom(oracle.Users).Example(1)
	for _, s := range w.songs {
		w.oracle.SetSong(s)
	}
	if err := w.db.UpsertSongs(w.Context(), w.songs); err != nil {
		w.Fatal(err)
	}
	var users []queries.UserSegments
	for id, segments := range w.users {
		users = append(users, queries.UserSegments{UserHash: topk.HashUser(pepper, id), Segments: segments})
	}
	load := w.db.LoadSegments(false)
	if err := errors.Join(load.StageSegments(w.Context(), users), load.Write(w.Context()), load.Forget(w.Context())); err != nil {
		w.Fatal(err)
	}
	w.exec("SYSTEM RELOAD DICTIONARY song_catalog")
	w.exec("SYSTEM RELOAD DICTIONARY segments_of_user")
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if err := w.env.ClickHouse.Exec(w.Context(), sql, args...); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
}

// value asks for one value, as text.
func (w *world) value(sql string) string {
	w.Helper()
	var v string
	if err := w.env.ClickHouse.QueryRow(w.Context(), "SELECT toString(("+sql+"))").Scan(&v); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (w *world) become(sql, want string) {
	w.Helper()
	deadline := time.Now().Add(time.Minute)
	for w.value(sql) != want {
		if time.Now().After(deadline) {
			w.Fatalf("%s: is %s, want %s", sql, w.value(sql), want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// plays draws n of them, with events of their own, as of an instant.
func plays(seed, n int, at time.Time) []topk.Play {
	draw := rapid.Custom(func(t *rapid.T) topk.Play { return oracle.Play(t, "-", at) })
	all := make([]topk.Play, n)
	pool := make([]topk.Play, min(n, 100))
	for i := range pool {
		pool[i] = draw.Example(seed*1000 + i)
	}
	for i := range all {
		all[i] = pool[i%len(pool)]
		all[i].EventID = fmt.Sprintf("e-%d-%d", seed, i)
	}
	return all
}

// append puts plays into the log of a source that came in at an instant.
func (w *world) append(src uint32, at time.Time, plays ...topk.Play) {
	w.Helper()
	batch, err := w.env.ClickHouse.PrepareBatch(w.Context(), `INSERT INTO plays (src, koff, at, ts, eventId, user,
		songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)`)
	if err != nil {
		w.Fatal(err)
	}
	for _, p := range plays {
		key, err := queries.UserKey(topk.HashUser(pepper, p.UserID))
		if err != nil {
			w.Fatal(err)
		}
		duration := int32(-1)
		if p.Duration != nil {
			duration = int32(*p.Duration)
		}
		segments := w.users[p.UserID]
		if err := batch.Append(src, w.next[src], at, p.Timestamp, p.EventID, key,
			p.SongID, p.ArtistID, p.Region.Country, p.Region.String(), p.Device, p.Context.Kind, p.Context.ID,
			duration, segments, true); err != nil {
			w.Fatal(err)
		}
		w.oracle.Add(p, segments)
		w.next[src] += 1 + w.next[src]%3 // offsets have gaps
	}
	if err := batch.Send(); err != nil {
		w.Fatal(err)
	}
}

// history fills the log with plays of some hours, the last one hoursAgo, in
// several sources, which are those of no partition.
func (w *world) history(hours, hoursAgo, perHour int) {
	w.Helper()
	for i := range hours {
		at := w.now.Add(-time.Duration(hoursAgo+hours-1-i) * time.Hour)
		for src := range uint32(3) {
			w.append(100+src, at.Add(time.Duration(src)*time.Second), plays(100+i*10+int(src), perHour/3, at)...)
		}
	}
}

// produce sends plays to a partition; unknown ones to the oracle too.
func (w *world) produce(partition int32, plays ...topk.Play) {
	w.Helper()
	records := make([]*kgo.Record, len(plays))
	for i, p := range plays {
		w.oracle.Add(p, w.users[p.UserID])
		records[i] = &kgo.Record{Partition: partition, Value: message(w, p)}
	}
	if err := w.kafka.ProduceSync(w.Context(), records...).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

func (w *world) produceRaw(partition int32, value string) {
	w.Helper()
	if err := w.kafka.ProduceSync(w.Context(), &kgo.Record{Partition: partition, Value: []byte(value)}).FirstErr(); err != nil {
		w.Fatal(err)
	}
}

// message is a play in its normal form.
func message(t testing.TB, p topk.Play) []byte {
	fields := map[string]any{
		"eventId": p.EventID, "userId": topk.HashUser(pepper, p.UserID), "songId": p.SongID, "artistId": p.ArtistID,
		"timestamp": p.Timestamp.UnixMilli(),
	}
	if p.Region.Country != "" {
		fields["region"] = p.Region.String()
	}
	if p.Device != "" {
		fields["deviceType"] = p.Device
	}
	if p.Context.Kind != "" {
		fields["context"] = p.Context.Kind + ":" + p.Context.ID
	}
	if p.Duration != nil {
		fields["duration"] = *p.Duration
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// compare asks for random charts and counts them.
func (w *world) compare(n int) {
	w.Helper()
	type question struct {
		filter topk.Filter
		window topk.Window
	}
	ask := rapid.Custom(func(t *rapid.T) question { return question{oracle.Filter(t), oracle.Window(t, w.now)} })
	for i := range n {
		q := ask.Example(i)
		got, err := w.db.Chart(w.Context(), topk.ChartQuery{Filter: q.filter, Window: q.window, K: topk.MaxK, Now: w.now})
		if err != nil {
			w.Errorf("%s %s: %v", q.filter, q.window, err)
			return
		}
		entries, total := w.oracle.Chart(q.filter, q.window.At(w.now, topk.DefaultCalendar()), topk.MaxK)
		if !slices.Equal(got.Entries, entries) || got.TotalPlays != total {
			w.Errorf("%s %s:\n got %d plays %v\nwant %d plays %v", q.filter, q.window, got.TotalPlays, got.Entries, total, entries)
		}
	}
}

// exact holds the log, the rollups and random charts against the truth.
func (w *world) exact() {
	w.Helper()
	n := fmt.Sprint(len(w.oracle.Plays()))
	w.become("SELECT (count(), uniqExact(eventId), uniqExact(src, koff)) FROM plays", "("+n+","+n+","+n+")")
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		w.become("SELECT sum(plays) FROM "+rollup+" WHERE dim = 'global'", n)
	}
	w.compare(100)
}

// print is all there is of a table.
func (w *world) print(table string) string {
	w.Helper()
	return w.value("SELECT (count(), sum(cityHash64(*))) FROM " + table)
}

// location is that of a bucket.
func location(b embeddedtest.Bucket) archive.Location {
	return archive.Location{Endpoint: b.Endpoint, Bucket: b.Name, Prefix: "topk/", Region: b.Region, KeyID: b.Keys.ID, Secret: b.Keys.Secret}
}

func (w *world) open(l archive.Location) *archive.Archive { return w.openAt(w.env.DSN, l) }

func (w *world) openAt(dsn string, l archive.Location) *archive.Archive {
	w.Helper()
	a, err := archive.Open(w.Context(), archive.Config{ClickHouseURL: dsn, Location: l, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := a.Close(); err != nil {
			w.Error(err)
		}
	})
	return a.WithRowsPerObject(150)
}

func (w *world) archive(a *archive.Archive) archive.Report {
	w.Helper()
	report, err := a.Run(w.Context(), nil)
	if err != nil {
		w.Fatal(err)
	}
	return report
}

// whole are the options that restore all of it into this world.
func (w *world) whole() archive.RestoreOptions {
	return archive.RestoreOptions{Wiring: w.wiring, Kafka: kadm.NewClient(w.kafka)}
}

func (w *world) restore(a *archive.Archive, o archive.RestoreOptions) archive.Restored {
	w.Helper()
	done, err := a.Restore(w.Context(), o)
	if err != nil {
		w.Fatal(err)
	}
	return done
}

// objects are the files of a bucket, with their content and when they were
// written.
func objects(t testing.TB, b embeddedtest.Bucket) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(b.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		key := strings.TrimPrefix(path, b.Dir+"/topk/")
		found[key] = info.ModTime().String() + " " + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// manifests are the contents of the manifests, by key.
func manifests(t testing.TB, b embeddedtest.Bucket) map[string]string {
	t.Helper()
	found := map[string]string{}
	for key, text := range objects(t, b) {
		if strings.HasSuffix(key, ".json") {
			found[key] = text[strings.Index(text, "{"):]
		}
	}
	return found
}
