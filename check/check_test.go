package check_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/snapshot"
)

// On a system that is right, a check finds nothing, however much is being
// written meanwhile.
func TestNothingDiffersWhilePlaysStreamIn(t *testing.T) {
	s := newSystem(t)
	s.send(2000)
	s.settle()
	stopRefresher := s.refresh()
	stop := s.during()
	compared := 0
	for range 4 {
		report := s.check(check.Options{Charts: 15})
		for _, d := range report.Differences {
			t.Errorf("%+v", d)
		}
		compared += report.Charts.Compared
		t.Logf("%d plays checked in %s", report.Log.Plays, report.Took)
		if len(report.Rollups) != 2 || len(report.Rollups[0].Partitions) == 0 || len(report.Kafka.Partitions) != 4 || report.Log.Plays == 0 {
			t.Fatalf("too little was compared: %+v", report)
		}
	}
	stop()
	stopRefresher()
	s.settle()
	// The end of a partition is committed when something with content is read.
	s.send(embeddedtest.Partitions)
	s.settle()
	var report check.Report
	embeddedtest.WaitFor(t.Context(), t, "everything to be committed", func() bool {
		report = s.check(check.Options{Charts: 50})
		return !slices.ContainsFunc(report.Kafka.Partitions, func(p check.Partition) bool { return p.Lag != 0 })
	})
	var text strings.Builder
	if err := report.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d charts compared while plays streamed in\n%s", compared, &text)
	accounted := uint64(0)
	for _, p := range report.Kafka.Partitions {
		accounted += p.Plays + p.Repeats + p.Rejects + p.Empty
		if p.Repeats == 0 || p.Rejects == 0 || p.Empty == 0 || p.Lag != 0 {
			t.Errorf("partition %+v", p)
		}
	}
	if accounted != uint64(s.sent) || compared < 45 {
		t.Errorf("%d of %d messages accounted for, %d charts compared", accounted, s.sent, compared)
	}
	s.exact()
}

// Offsets are counted in buckets of 65,536: also one that is full is right.
func TestFullBuckets(t *testing.T) {
	s := newSystem(t)
	const n = 70_000
	records := make([]*kgo.Record, n)
	p := topk.Play{UserID: "u", SongID: "s", ArtistID: "a", Timestamp: time.Now()}
	for i := range records {
		p.EventID = fmt.Sprint("e", i)
		records[i] = &kgo.Record{Partition: 2, Value: message(t, p)}
		s.truth.Add(p, nil)
	}
	if err := s.kafka.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s.settle()
	report := s.check(check.Options{})
	s.differs(report, "none")
	if got := report.Kafka.Partitions[2]; got.Plays != n || got.Repeats+got.Rejects+got.Empty+got.Unknown != 0 {
		t.Errorf("%+v", got)
	}
}

// Every kind of difference is found, and named.
func TestDifferencesAreFound(t *testing.T) {
	s := newSystem(t)
	s.send(1500)
	s.settle()
	stopRefresher := s.refresh()
	stopRefresher()
	const kafka, log, rollups, charts = "Kafka and the log", "uniqueness of plays", "rollups", "served charts"
	everything := strings.Join([]string{kafka, log, rollups, charts}, ", ")
	s.differs(s.check(check.Options{Charts: 1000}), "none")

	// A chart in Redis that is not what its watermark says, in each way.
	redis := s.redis()
	global := topk.NewFilter()
	redis.do("ZINCRBY", snapshot.TopKey(global, topk.AllTime), "1", "s1")
	redis.do("HINCRBY", snapshot.MetaKey(global, topk.Last7d), "totalPlays", "1")
	redis.do("ZADD", snapshot.TopKey(global, topk.Last24h), "1000000", "a stranger")
	redis.do("HINCRBY", snapshot.MetaKey(global, topk.Last24h), "size", "1")
	report := s.check(check.Options{Charts: 1000})
	s.differs(report, charts, "global all as of", "global 7d as of", "global 24h as of", "a stranger with 1000000 plays")
	if report.Charts.Wrong != 3 {
		t.Errorf("%d charts are wrong, want 3", report.Charts.Wrong)
	}

	// Plays that are gone from the log, and plays that are in it twice. Which of
	// a play and its repeats counts differs from run to run.
	first := func(src int) string { return s.value(fmt.Sprintf("SELECT min(koff) FROM plays WHERE src = %d", src)) }
	gone := strings.Split(strings.Trim(s.value("SELECT groupArray(koff) FROM (SELECT koff FROM plays WHERE src = 1 ORDER BY koff LIMIT 3 OFFSET 20)"), "[]"), ",")
	s.exec("INSERT INTO plays SELECT * FROM plays WHERE src = 2 ORDER BY koff LIMIT 5")
	s.exec("INSERT INTO plays SELECT * REPLACE (koff + 1000000 AS koff) FROM plays WHERE src = 3 ORDER BY koff LIMIT 5")
	s.exec("ALTER TABLE plays DELETE WHERE src = 1 AND koff IN (" + strings.Join(gone, ",") + ") SETTINGS mutations_sync = 2")
	report = s.check(check.Options{})
	s.differs(report, everything,
		"partition 1 (source 1): the message at offset "+gone[0]+" is in no table",
		"partition 1 (source 1): 3 messages are neither plays nor repeats nor rejects",
		"partition 3 (source 3): the log has plays up to offset", "and Kafka ends at",
		"source 2: offset "+first(2)+" is in the log 2 times",
		"is in the log twice: source 3 offset "+first(3)+", and source 3 offset 1"+fmt.Sprintf("%06s", first(3)),
		"rollup_hour ", "rollup_day ", "global, song ")
	if report.Kafka.Lost() != 3 || report.Log.OffsetsTwice != 5 || report.Log.EventsTwice != 10 {
		t.Errorf("%d lost, %d offsets and %d events twice; want 3, 5 and 10", report.Kafka.Lost(), report.Log.OffsetsTwice, report.Log.EventsTwice)
	}
	// By such a log nothing is repaired.
	report = s.check(check.Options{Repair: true})
	if len(report.Repairs) != 0 || !slices.ContainsFunc(report.Notes, func(n string) bool { return strings.Contains(n, "the log itself lacks 3 messages") }) {
		t.Errorf("repaired %v by a log that lacks plays: %v", report.Repairs, report.Notes)
	}
}

// What is older than a table may keep it is told, whatever became of its TTL.
func TestRetention(t *testing.T) {
	s := newSystem(t)
	s.exec("ALTER TABLE plays_duplicates REMOVE TTL")
	s.exec("ALTER TABLE rollup_hour REMOVE TTL")
	insert := func(days int) {
		s.exec(fmt.Sprintf("INSERT INTO plays_duplicates (src, koff, at, eventId) SELECT 0, %[1]d, now64(3) - toIntervalDay(%[1]d), 'e'", days))
		s.exec(fmt.Sprintf("INSERT INTO rollup_hour (dim, val, day) SELECT 'global', '', today() - 386 - %d", days))
	}
	insert(15)
	s.differs(s.check(check.Options{}), "none")
	insert(18)
	insert(17)
	report := s.check(check.Options{})
	s.differs(report, "retention", "plays_duplicates: 2 rows should be gone after 14 days", "rollup_hour: 2 rows should be gone after 400 days")
}

// What cannot be asked is an error that says so, and does not keep the rest from
// being compared.
func TestServersThatAreAway(t *testing.T) {
	s := newSystem(t)
	s.send(100)
	s.settle()
	away, err := snapshot.Open(t.Context(), "redis://127.0.0.1:1", snapshot.Options{Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	cfg := check.Config{ClickHouseURL: s.env.DSN, KafkaBrokers: []string{"127.0.0.1:1"}, Snapshots: away, Clock: time.Now, Log: slog.New(slog.DiscardHandler)}
	checker, err := check.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer checker.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	report, err := checker.Run(ctx, check.Options{Days: 2, Charts: 5})
	if !errors.Is(err, topk.ErrUnavailable) || !report.Exact() || len(report.Unchecked) != 2 || report.Log.Plays == 0 || len(report.Rollups) != 2 {
		t.Errorf("Kafka and Redis away: %v\n%+v", err, report)
	}
	cfg.ClickHouseURL = "http://127.0.0.1:1/topk"
	without, err := check.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer without.Close()
	if report, err := without.Run(ctx, check.Options{Days: 2, Charts: 5}); !errors.Is(err, topk.ErrUnavailable) || len(report.Unchecked) != 1 {
		t.Errorf("ClickHouse away: %v\n%+v", err, report)
	}
}

// A topic that was made anew is not taken for a loss of messages.
func TestTopicMadeAnew(t *testing.T) {
	s := newSystem(t)
	s.send(100)
	s.settle()
	admin := kadm.NewClient(s.kafka)
	if _, err := admin.DeleteTopic(t.Context(), s.env.Topic); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(t.Context(), embeddedtest.Partitions, 1, nil, s.env.Topic); err != nil {
		t.Fatal(err)
	}
	s.exec("ALTER TABLE epochs UPDATE topicId = 'another' WHERE true SETTINGS mutations_sync = 2")
	report, err := s.checker.Run(t.Context(), check.Options{Days: 2})
	if err == nil || !strings.Contains(err.Error(), "was deleted and made again") || !report.Exact() {
		t.Errorf("%v, %+v", err, report.Differences)
	}
}

// A fill that stands still is started; one that fails is a difference.
func TestFills(t *testing.T) {
	s := newSystem(t)
	s.send(100)
	s.settle()
	s.exec("SYSTEM STOP VIEW rollup_day_fill")
	if report := s.check(check.Options{}); !report.Exact() || report.Rollups[1].Fill != "was stopped, and is started" {
		t.Errorf("a stopped fill: %+v", report)
	}
	if report := s.check(check.Options{}); !report.Exact() || report.Rollups[1].Fill != "scheduled" && report.Rollups[1].Fill != "running" {
		t.Errorf("the fill is not started: %+v", report)
	}
	s.exec("DROP VIEW rollup_day_fill")
	s.differs(s.check(check.Options{}), "rollups", "rollup_day_fill: fails: it does not exist")
}
