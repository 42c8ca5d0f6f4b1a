package check_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"
	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/internal/oracle"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher"
	"github.com/topk-charts/topk/snapshot"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// system is everything from the topic to Redis, and the truth.
type system struct {
	*testing.T
	env     *embeddedtest.Env
	checker *check.Checker
	db      *queries.DB
	store   *snapshot.Store
	kafka   *kgo.Client
	truth   *oracle.Oracle

	mu   sync.Mutex
	sent int           // messages
	next int           // of eventIds
	ago  time.Duration // that plays happened, besides
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{T: t, env: embeddedtest.New(t), truth: oracle.New()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(migrations.Up(ctx, s.env.DSN, migrations.Wiring{
		Brokers: s.env.Brokers, Topic: s.env.Topic, Group: s.env.Topic, Rules: topk.DefaultRules(),
	}))
	var err error
	s.db, err = queries.Open(s.env.DSN, topk.DefaultCalendar())
	must(err)
	t.Cleanup(func() { must(s.db.Close()) })
	s.store, err = snapshot.Open(ctx, s.env.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1, ReadTimeout: 30 * time.Second})
	must(err)
	t.Cleanup(s.store.Close)
	s.kafka, err = kgo.NewClient(kgo.SeedBrokers(s.env.Brokers...), kgo.DefaultProduceTopic(s.env.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	must(err)
	t.Cleanup(s.kafka.Close)
	s.checker, err = check.Open(check.Config{
		ClickHouseURL: s.env.DSN, KafkaBrokers: s.env.Brokers, Snapshots: s.store, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	must(err)
	t.Cleanup(func() { must(s.checker.Close()) })

	songs := rapid.Custom(oracle.Catalog).Example(1)
	for _, song := range songs {
		s.truth.SetSong(song)
	}
	must(s.db.UpsertSongs(ctx, songs))
	// So that charts by genre are judged: the catalog has been as it is for long.
	s.exec("INSERT INTO songs SELECT * REPLACE (updatedAt - INTERVAL 1 HOUR AS updatedAt) FROM songs")
	s.exec("ALTER TABLE songs DELETE WHERE updatedAt > now64(3) - INTERVAL 30 MINUTE SETTINGS mutations_sync = 2")
	s.exec("SYSTEM RELOAD DICTIONARY song_catalog")
	return s
}

func (s *system) exec(sql string) {
	s.Helper()
	if err := s.env.ClickHouse.Exec(s.Context(), sql); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

func (s *system) value(sql string) string {
	s.Helper()
	var v string
	if err := s.env.ClickHouse.QueryRow(s.Context(), "SELECT toString(("+sql+"))").Scan(&v); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
	return v
}

// send produces n messages: plays, repeats, rejects, messages without content.
func (s *system) send(n int) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Millisecond)
	draw := rapid.Custom(func(t *rapid.T) topk.Play { return oracle.Play(t, "-", now) })
	records := make([]*kgo.Record, n)
	var last []byte
	for i := range records {
		partition := int32(s.sent % embeddedtest.Partitions)
		s.sent++
		switch {
		case i%17 == 5:
			records[i] = &kgo.Record{Partition: partition, Value: []byte("nonsense")}
			continue
		case i%29 == 7:
			records[i] = &kgo.Record{Partition: partition}
			continue
		case i%7 == 3 && last != nil:
			records[i] = &kgo.Record{Partition: partition, Value: last}
			continue
		}
		p := draw.Example(s.next % 500)
		p.EventID = fmt.Sprint("e-", s.next)
		p.Timestamp = p.Timestamp.Add(-s.ago)
		// Not so old that the time it takes to send it would matter.
		if oldest := now.Add(2*time.Hour - topk.DefaultRules().MaxAge); p.Timestamp.Before(oldest) {
			p.Timestamp = oldest
		}
		s.next++
		s.truth.Add(p, nil)
		last = message(s.T, p)
		records[i] = &kgo.Record{Partition: partition, Value: last}
	}
	if err := s.kafka.ProduceSync(s.Context(), records...).FirstErr(); err != nil && s.Context().Err() == nil {
		s.Error(err)
	}
}

// message is a play as the gateway writes it.
func message(t *testing.T, p topk.Play) []byte {
	t.Helper()
	p.UserID = topk.HashUser([]byte("pepper"), p.UserID)
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// settle waits until all that was sent is in the log, and is rolled up.
func (s *system) settle() {
	s.Helper()
	want := fmt.Sprint(len(s.truth.Plays()))
	embeddedtest.WaitFor(s.Context(), s, want+" plays in the log", func() bool { return s.value("SELECT uniqExact(eventId) FROM plays") == want })
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		embeddedtest.WaitFor(s.Context(), s, rollup+" to hold all plays", func() bool {
			s.exec("SYSTEM REFRESH VIEW " + rollup + "_fill")
			s.exec("SYSTEM WAIT VIEW " + rollup + "_fill")
			return s.value(fmt.Sprintf(`SELECT count() FROM (SELECT src, max(koff) + 1 AS head FROM plays GROUP BY src) AS log
				LEFT JOIN (SELECT toUInt32(val) AS src, max(wm) AS wm FROM %s WHERE dim = '_wm' GROUP BY src) AS done USING src
				WHERE head > wm`, rollup)) == "0"
		})
	}
}

// during streams plays and refreshes the rollups without a pause until stop.
func (s *system) during() (stop func()) {
	ctx, cancel := context.WithCancel(s.Context())
	var busy sync.WaitGroup
	busy.Go(func() {
		ticks := time.NewTicker(100 * time.Millisecond) // leave the others some of the machine
		defer ticks.Stop()
		for ctx.Err() == nil {
			s.send(40)
			<-ticks.C
		}
	})
	busy.Go(func() {
		for ctx.Err() == nil {
			for _, rollup := range []string{"rollup_hour", "rollup_day"} {
				s.exec("SYSTEM REFRESH VIEW " + rollup + "_fill")
				// It fails when the view is stopped meanwhile.
				_ = s.env.ClickHouse.Exec(ctx, "SYSTEM WAIT VIEW "+rollup+"_fill")
			}
		}
	})
	return func() {
		cancel()
		busy.Wait()
	}
}

// refresh keeps the snapshots fresh until stop.
func (s *system) refresh() (stop func()) {
	s.Helper()
	publisher := s.store.NewPublisher(snapshot.PublisherOptions{})
	r := refresher.New(refresher.Config{
		DB: s.db, Snapshots: publisher, Calendar: topk.DefaultCalendar(), Clock: time.Now,
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
	})
	ctx, cancel := context.WithCancel(s.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	embeddedtest.WaitFor(s.Context(), s, "snapshots", func() bool {
		keys, err := s.store.Sample(s.Context(), 100)
		return err == nil && len(keys) >= 60
	})
	return func() {
		cancel()
		if err := <-done; err != nil {
			s.Error(err)
		}
	}
}

// check runs a check that must be able to compare everything.
func (s *system) check(opts check.Options) check.Report {
	s.Helper()
	opts.Days = 2
	report, err := s.checker.Run(s.Context(), opts)
	if err != nil {
		s.Fatal(err)
	}
	return report
}

// differs makes sure that a report names each of the differences, and no other
// check than theirs.
func (s *system) differs(report check.Report, checks string, says ...string) {
	s.Helper()
	var all []string
	for _, d := range report.Differences {
		all = append(all, d.Check+": "+d.Where+": "+d.What)
		if !strings.Contains(checks, d.Check) {
			s.Errorf("a difference of no concern: %+v", d)
		}
	}
	for _, want := range says {
		if !slices.ContainsFunc(all, func(d string) bool { return strings.Contains(d, want) }) {
			s.Errorf("nothing says %q:\n%s", want, strings.Join(all, "\n"))
		}
	}
}

// exact compares charts over all rollups with the truth.
func (s *system) exact() {
	s.Helper()
	for _, filter := range []string{"global", "region:IN", "region:IN/Mumbai", "device:mobile", "playlist:p1", "album:p1", "genre:pop"} {
		f, err := topk.ParseFilter(filter)
		if err != nil {
			s.Fatal(err)
		}
		for _, w := range []topk.Window{topk.AllTime, topk.Last7d, topk.Last24h} {
			got, err := s.db.Chart(s.Context(), topk.ChartQuery{Filter: f, Window: w, K: topk.MaxK, Now: time.Now()})
			if err != nil {
				s.Fatal(err)
			}
			entries, total := s.truth.Chart(f, got.Span, topk.MaxK)
			if !slices.Equal(got.Entries, entries) || got.TotalPlays != total {
				s.Errorf("%s %s:\n got %d plays %v\nwant %d plays %v", f, w, got.TotalPlays, got.Entries, total, entries)
			}
		}
	}
}

// redis is a plain connection, to spoil what is served.
func (s *system) redis() *redisConn {
	s.Helper()
	options, err := rueidis.ParseURL(s.env.RedisURL)
	if err != nil {
		s.Fatal(err)
	}
	options.DisableCache = true
	client, err := rueidis.NewClient(options)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	return &redisConn{s.T, client}
}

type redisConn struct {
	*testing.T
	client rueidis.Client
}

func (c *redisConn) do(command ...string) {
	c.Helper()
	if err := c.client.Do(c.Context(), c.client.B().Arbitrary(command...).Build()).Error(); err != nil {
		c.Fatalf("%v: %v", command, err)
	}
}
