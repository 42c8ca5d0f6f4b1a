package events_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/events"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// A system is the chain on real engines, and a finder of its events.
type system struct {
	*testing.T
	*embeddedtest.Env
	wiring migrations.Wiring
	db     *queries.DB
	kafka  *kgo.Client
	finder *events.Finder
}

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{T: t, Env: embeddedtest.New(t)}
	s.wiring = migrations.Wiring{
		Brokers: s.Brokers, Topic: s.Topic, Group: "group-" + s.Topic, Rules: topk.DefaultRules(), MinPlaySeconds: 30,
	}
	s.connect()
	topics, err := kadm.NewClient(s.kafka).ListTopics(t.Context(), s.Topic)
	if err != nil {
		t.Fatal(err)
	}
	s.wiring.TopicID = topics[s.Topic].ID.String()
	s.up()
	s.db = s.open(s.DSN)
	s.finder = s.newFinder(events.Config{})
	return s
}

// connect makes a producer that knows nothing of the topic yet.
func (s *system) connect() {
	s.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers...), kgo.DefaultProduceTopic(s.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(client.Close)
	s.kafka = client
}

func (s *system) up() {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, s.DSN, s.wiring); err != nil {
		s.Fatal(err)
	}
}

func (s *system) open(url string) *queries.DB {
	s.Helper()
	db, err := queries.Open(url, topk.DefaultCalendar())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = db.Close() }) // of one that is away it may fail
	return db
}

// newFinder fills in what a test does not want otherwise.
func (s *system) newFinder(cfg events.Config) *events.Finder {
	s.Helper()
	if cfg.Queries == nil {
		cfg.Queries = s.db
	}
	if len(cfg.Brokers) == 0 {
		cfg.Brokers = s.Brokers
	}
	cfg.Topic, cfg.Group = s.Topic, s.wiring.Group
	f, err := events.New(cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(f.Close)
	return f
}

func (s *system) exec(sql string) {
	s.Helper()
	if err := s.ClickHouse.Exec(s.Context(), sql); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

func (s *system) become(sql, want string) {
	s.Helper()
	got := ""
	embeddedtest.WaitFor(s.Context(), s, sql+" to become "+want, func() bool {
		if err := s.ClickHouse.QueryRow(s.Context(), "SELECT toString(("+sql+"))").Scan(&got); err != nil {
			s.Fatalf("%s: %v", sql, err)
		}
		return got == want
	})
}

func (s *system) produce(partition int32, messages ...string) {
	s.Helper()
	records := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		records[i] = &kgo.Record{Partition: partition, Value: []byte(m)}
	}
	if err := s.kafka.ProduceSync(s.Context(), records...).FirstErr(); err != nil {
		s.Fatal(err)
	}
}

func (s *system) find(f *events.Finder, id string, day ...time.Time) topk.EventTrace {
	s.Helper()
	var on *time.Time
	if len(day) > 0 {
		on = &day[0]
	}
	trace, err := f.Find(s.Context(), id, on)
	if err != nil {
		s.Fatal(err)
	}
	return trace
}

// summary of a trace: its state and place, then the places of everything else.
// A place is epoch/partition/offset.
func summary(t topk.EventTrace) string {
	place := func(p topk.Position) string { return fmt.Sprintf("%d/%d/%d", p.Epoch(), p.Partition(), p.Offset) }
	var parts []string
	if t.State != topk.EventUnknown {
		parts = append(parts, fmt.Sprintf("%s %s", t.State, place(t.Where.Position)))
	}
	list := func(name string, arrivals []topk.Arrival) {
		for _, a := range arrivals {
			parts = append(parts, name+" "+place(a.Position))
		}
	}
	list("repeat", t.Repeats)
	list("again", t.CountedAgain)
	for _, r := range t.Rejections {
		parts = append(parts, "rejected "+place(r.Position))
	}
	list("unread", t.Unread)
	if t.Orphan != nil {
		parts = append(parts, "orphan "+place(*t.Orphan))
	}
	for range t.Gaps {
		parts = append(parts, "gap")
	}
	return strings.Join(parts, ", ")
}

func (s *system) want(got topk.EventTrace, want string) {
	s.Helper()
	if summary(got) != want {
		s.Errorf("%s: %q, want %q (%q)", got.EventID, summary(got), want, got.Gaps)
	}
}

// message is a valid play in its normal form, with fields changed.
func message(id string, change ...any) string {
	fields := map[string]any{
		"eventId": id, "userId": topk.HashUser([]byte("p"), "u"), "songId": "s", "artistId": "a",
		"timestamp": time.Now().UnixMilli(), "region": "IN/Mumbai", "deviceType": "mobile",
		"context": "playlist:p1", "duration": 100,
	}
	for i := 0; i < len(change); i += 2 {
		fields[change[i].(string)] = change[i+1]
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

const (
	stopReading  = "DETACH TABLE plays_consume SYNC"
	startReading = "ATTACH TABLE plays_consume"
)

func TestFind(t *testing.T) {
	s := newSystem(t)
	s.produce(0, message("counted"), message("short", "duration", 3), message("repeated"), message("repeated"))
	s.become("SELECT count() FROM plays", "3")
	s.produce(1, message("bad", "region", "nowhere"), message("repeated"), message("mended", "duration", -1))
	s.produce(2, message("mended"), message("mended"))
	s.become("SELECT (SELECT count() FROM plays) + (SELECT count() FROM plays_rejected) + (SELECT count() FROM plays_duplicates)", "9")

	s.want(s.find(s.finder, "counted"), "counted 0/0/0")
	s.want(s.find(s.finder, "short"), "stored 0/0/1")
	s.want(s.find(s.finder, "repeated"), "counted 0/0/2, repeat 0/0/3, repeat 0/1/1")
	s.want(s.find(s.finder, "bad"), "rejected 0/1/0, rejected 0/1/0")
	s.want(s.find(s.finder, "mended"), "counted 0/2/0, repeat 0/2/1, rejected 0/1/2")
	s.want(s.find(s.finder, "none"), "")

	got := s.find(s.finder, "counted")
	if p := got.Play; got.Where.Topic != s.Topic || p.SongID != "s" || p.ArtistID != "a" || p.Region.String() != "IN/Mumbai" ||
		p.Device != "mobile" || p.Context.String() != "playlist:p1" || *p.Duration != 100 || !p.Counted || p.UserID != "" ||
		time.Since(p.At) > time.Minute || time.Since(p.Timestamp) > time.Minute {
		t.Errorf("%+v", got)
	}
	if r := s.find(s.finder, "bad").Rejections[0]; r.Topic != s.Topic || !strings.HasPrefix(r.Reason, "region must be") || !r.ReplayedAt.IsZero() {
		t.Errorf("%+v", r)
	}

	// A row that says repeat of a message that the log has is wrong.
	s.exec("INSERT INTO plays_duplicates SELECT src, koff, at, eventId, 3, 99 FROM plays WHERE eventId = 'counted'")
	s.want(s.find(s.finder, "counted"), "counted 0/0/0")
}

func TestFindWhatIsNotRead(t *testing.T) {
	s := newSystem(t)
	s.produce(0, message("before"))
	s.become("SELECT count() FROM plays", "1")
	s.produce(1, message("rejected", "region", "nowhere"))
	s.become("SELECT count() FROM plays_rejected", "1")
	s.exec(stopReading)
	s.produce(0, message("before"), message("waiting"))
	s.produce(1, message("rejected"), "not JSON", message("bad", "duration", -1), message("waiting"))
	s.produce(3, message("in the log", "eventId", "logged"))

	s.want(s.find(s.finder, "waiting"), "accepted 0/0/2, unread 0/0/2, unread 0/1/4")
	s.want(s.find(s.finder, "rejected"), "accepted 0/1/1, rejected 0/1/0, unread 0/1/1")
	s.want(s.find(s.finder, "bad"), "accepted 0/1/3, unread 0/1/3")
	s.want(s.find(s.finder, "before"), "counted 0/0/0") // its repeat is not searched for
	s.want(s.find(s.finder, "none"), "")

	// A kill left it in the log, but not in seen, and its offset uncommitted.
	s.exec("INSERT INTO plays (src, koff, at, ts, eventId, songId, counted) VALUES (3, 0, now64(3), now64(3), 'logged', 's', true)")
	s.want(s.find(s.finder, "logged"), "counted 0/3/0")
	// The other way round, its id is taken, and the log has nothing.
	s.exec("INSERT INTO seen SELECT reinterpretAsUInt128(sipHash128('lost')), 2, 77")
	s.want(s.find(s.finder, "lost"), "orphan 0/2/77")

	away := s.newFinder(events.Config{Queries: s.open("http://127.0.0.1:1/" + s.Database)})
	s.want(s.find(away, "waiting"), "accepted 0/0/2, unread 0/0/2, unread 0/1/4, gap")
	s.want(s.find(away, "none"), "gap")

	noKafka := s.newFinder(events.Config{Brokers: []string{"127.0.0.1:1"}, Limits: events.Limits{Kafka: 200 * time.Millisecond}})
	s.want(s.find(noKafka, "before"), "counted 0/0/0")
	s.want(s.find(noKafka, "rejected"), "rejected 0/1/0, rejected 0/1/0, gap")
	s.want(s.find(noKafka, "waiting"), "gap")

	few := s.newFinder(events.Config{Limits: events.Limits{Messages: 1}})
	s.want(s.find(few, "none"), "gap")
	tiny := s.newFinder(events.Config{Limits: events.Limits{Search: time.Nanosecond}})
	if got := s.find(tiny, "none"); summary(got) != "gap" || !strings.Contains(got.Gaps[0], "lags behind") {
		t.Errorf("%q", got.Gaps)
	}

	s.exec(startReading)
	s.become("SELECT count() FROM plays WHERE eventId = 'waiting'", "1")
	s.become("SELECT count() FROM plays_duplicates WHERE eventId = 'waiting'", "1")
	if got := s.find(s.finder, "waiting"); got.State != topk.EventCounted || len(got.Repeats) != 1 || len(got.Unread) != 0 {
		t.Errorf("%s", summary(got))
	}
}

// An event that Kafka has acknowledged is found at every moment, while it is
// being read.
func TestNoEventSlipsThrough(t *testing.T) {
	s := newSystem(t)
	read := 0
	for i := range 60 {
		id := fmt.Sprint("e-", i)
		s.produce(int32(i%embeddedtest.Partitions), message(id))
		switch got := s.find(s.finder, id); got.State {
		case topk.EventCounted:
			read++
		case topk.EventAccepted:
		default:
			t.Fatalf("%s is %q: %s", id, got.State, summary(got))
		}
	}
	t.Logf("%d were read when they were looked for, the others not yet", read)
}

// Beyond 48 hours only the day tells.
func TestFindOnADay(t *testing.T) {
	s := newSystem(t)
	at := time.Now().UTC().Add(-5 * 24 * time.Hour)
	row := func(id string, koff int) {
		s.exec(fmt.Sprintf("INSERT INTO plays (src, koff, at, ts, eventId, songId, counted) VALUES (1, %d, '%s', '%[2]s', '%s', 's', true)",
			koff, at.Format("2006-01-02 15:04:05.000"), id))
	}
	row("old", 0)
	row("again", 1)
	s.produce(0, message("again"))
	s.become("SELECT count() FROM plays", "3")
	s.want(s.find(s.finder, "old"), "")
	s.want(s.find(s.finder, "old", at), "counted 0/1/0")
	s.want(s.find(s.finder, "old", at.Add(24*time.Hour)), "")
	s.want(s.find(s.finder, "again"), "counted 0/0/0")
	s.want(s.find(s.finder, "again", at), "counted 0/1/1, again 0/0/0")
	s.want(s.find(s.finder, "again", time.Now()), "counted 0/0/0")
	// A repeat tells of an older play.
	s.exec("INSERT INTO plays_duplicates (src, koff, at, eventId, ownerSrc, ownerKoff) VALUES (2, 5, now64(3), 'old', 1, 0)")
	s.want(s.find(s.finder, "old"), "counted 0/1/0, repeat 0/2/5")
}

// The topic was deleted and made again: what is in it is unread until ClickHouse
// is told, and then has another consumer group.
func TestFindInATopicMadeAgain(t *testing.T) {
	s := newSystem(t)
	s.produce(0, message("old"), message("older"))
	s.become("SELECT count() FROM plays", "2")
	s.exec(stopReading)
	admin := kadm.NewClient(s.kafka)
	if _, err := admin.DeleteTopic(t.Context(), s.Topic); err != nil {
		t.Fatal(err)
	}
	embeddedtest.WaitFor(t.Context(), t, "the topic to be made again", func() bool {
		created, err := admin.CreateTopic(t.Context(), embeddedtest.Partitions, 1, nil, s.Topic)
		s.wiring.TopicID = created.ID.String()
		return err == nil
	})
	s.kafka.Close()
	s.connect()
	s.produce(0, message("new"))
	s.want(s.find(s.finder, "new"), "accepted 1/0/0, unread 1/0/0")
	s.want(s.find(s.finder, "old"), "counted 0/0/0")

	s.exec(startReading)
	s.up()
	s.become("SELECT count() FROM plays WHERE eventId = 'new'", "1")
	s.want(s.find(s.finder, "new"), "counted 1/0/0")
	s.produce(1, message("newer"))
	s.become("SELECT count() FROM plays WHERE eventId = 'newer'", "1")
	s.exec(stopReading)
	s.produce(1, message("newest"))
	s.want(s.find(s.finder, "newest"), "accepted 1/1/1, unread 1/1/1")
	// Without ClickHouse, the consumer groups tell which topic it is.
	away := s.newFinder(events.Config{Queries: s.open("http://127.0.0.1:1/" + s.Database)})
	s.want(s.find(away, "newest"), "accepted 1/1/1, unread 1/1/1, gap")
	s.want(s.find(away, "none"), "gap")
}

func TestNewNeedsWhatItNeeds(t *testing.T) {
	if _, err := events.New(events.Config{Brokers: []string{"127.0.0.1:1"}, Topic: "plays"}); err == nil {
		t.Error("taken without queries")
	}
}
