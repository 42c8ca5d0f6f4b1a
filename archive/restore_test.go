package archive_test

import (
	"errors"
	"log/slog"
	"maps"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/archive"
	"github.com/topk-charts/topk/check"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/snapshot"
)

// checked proves the database by topk check's own means.
func (w *world) checked() {
	w.Helper()
	store, err := snapshot.Open(w.Context(), w.env.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1, ReadTimeout: time.Second})
	if err != nil {
		w.Fatal(err)
	}
	defer store.Close()
	checker, err := check.Open(check.Config{ClickHouseURL: w.env.DSN, KafkaBrokers: w.env.Brokers, Snapshots: store, Clock: time.Now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		w.Fatal(err)
	}
	report, err := checker.Run(w.Context(), check.Options{Days: 2, Charts: 1})
	if err != nil || !report.Exact() {
		w.Errorf("check: %v %+v", err, report.Differences)
	}
	if err := checker.Close(); err != nil {
		w.Error(err)
	}
}

// What is restored into an empty system gives the same charts, and plays go on:
// of the topic that is still there from where the archive ends, though the lost
// ClickHouse had read further; of a new topic from its start, in an epoch of its
// own. Repeats of plays of before count nowhere.
func TestRestoredChartsAreIdentical(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.catalog()
	// Plays of earlier epochs' sources; those of this one come through Kafka.
	w.exec("INSERT INTO epochs (epoch, topic, topicId) VALUES (1, {t:String}, {id:String})",
		clickhouse.Named("t", w.env.Topic), clickhouse.Named("id", w.wiring.TopicID))
	w.up()
	w.history(5, 3, 240)
	live := plays(1, 300, w.now)
	w.produce(0, live[:150]...)
	w.produce(1, live[100:250]...) // 50 repeats
	w.produceRaw(1, "no play")
	w.become("SELECT (SELECT count() FROM plays WHERE src >= 65536) + (SELECT count() FROM plays_rejected FINAL)", "251")
	a := w.open(location(bucket)).WithTheCurrentHour()
	report := w.archive(a)
	if want := uint64(len(w.oracle.Plays())); report.Plays != want || report.Revisions != 0 || report.Bytes == 0 {
		t.Errorf("archived %+v, want %d plays", report, want)
	}
	before := objects(t, bucket)
	if again := w.archive(a); again.Hours != 0 || again.Bytes != 0 {
		t.Errorf("archived again: %+v", again)
	}
	if after := objects(t, bucket); !maps.Equal(before, after) {
		t.Error("a second run has changed the archive")
	}
	log, repeats, rejects := w.print("plays"), w.print("plays_duplicates FINAL"), w.print("plays_rejected FINAL")

	// ClickHouse goes on for a while, and is lost.
	w.produce(0, live[250:280]...)
	w.become("SELECT count() FROM plays WHERE src >= 65536", "280")
	w.exec("DROP TABLE plays_queue SYNC")

	t.Run("the topic is there", func(t *testing.T) {
		fresh := newWorld(t, false)
		fresh.kafka, fresh.wiring = w.kafka, w.wiring
		fresh.oracle, fresh.users, fresh.now = w.oracle, w.users, w.now
		done := fresh.restore(fresh.open(location(bucket)), fresh.whole())
		if done.Restored != report.Plays || done.Catalog.IsZero() {
			t.Errorf("restored %+v", done)
		}
		fresh.become("SELECT count() FROM plays WHERE src >= 65536", "280")
		fresh.produce(2, live[280:]...)
		fresh.produce(3, live...) // all of them again
		fresh.become("SELECT count() FROM plays_duplicates FINAL WHERE src = 65539", "300")
		fresh.exact()
		fresh.checked()
	})
	t.Run("the topic is new", func(t *testing.T) {
		fresh := newWorld(t, true) // as topk up has made it
		fresh.oracle, fresh.users, fresh.now = w.oracle, w.users, w.now
		fresh.restore(fresh.open(location(bucket)), fresh.whole())
		for table, want := range map[string]string{"plays": log, "plays_duplicates FINAL": repeats, "plays_rejected FINAL": rejects} {
			if got := fresh.print(table); got != want {
				t.Errorf("%s: restored %s, was %s", table, got, want)
			}
		}
		fresh.produce(0, live...) // also those that were not archived
		fresh.exact()
		if got := fresh.value("SELECT groupArray((epoch, topic)) FROM (SELECT * FROM epochs ORDER BY epoch) WHERE epoch = 2"); got != "[(2,'"+fresh.env.Topic+"')]" {
			t.Errorf("the new topic is of epochs %s", got)
		}
		fresh.checked()
		if _, err := fresh.open(location(bucket)).Restore(t.Context(), fresh.whole()); !errors.Is(err, topk.ErrInvalid) {
			t.Errorf("restored into a database with plays: %v", err)
		}
		fresh.produce(1, plays(2, 50, w.now)...)
		fresh.exact()
	})
}

// A day that the log has lost comes back, and nothing of it is counted again; what
// is there is not touched.
func TestRestoreOfADay(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.catalog()
	w.history(8, 22, 90)
	w.exact()
	a := w.open(location(bucket))
	w.archive(a)
	log, rollup := w.print("plays"), w.print("rollup_day FINAL")
	lost := w.now.Add(-25 * time.Hour).UTC().Truncate(24 * time.Hour)
	left := w.value("SELECT count() FROM plays WHERE toDate(at) != '" + lost.Format(time.DateOnly) + "'")
	w.exec("ALTER TABLE plays DROP PARTITION '" + lost.Format(time.DateOnly) + "'")
	if left != w.value("SELECT count() FROM plays") || w.print("plays") == log {
		t.Fatal("the partition was not lost")
	}
	archived := objects(t, bucket)
	if _, err := a.Run(t.Context(), nil); !errors.Is(err, archive.ErrLost) {
		t.Errorf("archived a log that has lost plays: %v", err)
	}
	if !maps.Equal(archived, objects(t, bucket)) {
		t.Error("the archive was changed by a log that has lost plays")
	}
	days := archive.RestoreOptions{Days: []time.Time{lost}}
	dry := days
	dry.DryRun = true
	would := w.restore(a, dry)
	if len(would.Days) != 1 || would.Restored != 0 || w.print("plays") == log {
		t.Errorf("a dry run: %+v", would)
	}
	told := w.value("SELECT count() FROM rewrites")
	done := w.restore(a, days)
	if done.Restored == 0 || done.Restored > would.Days[0].Plays || w.print("plays") != log || w.print("rollup_day FINAL") != rollup {
		t.Errorf("restored %+v of %+v: the log is %s, was %s", done, would, w.print("plays"), log)
	}
	if w.value("SELECT count() FROM rewrites") == told {
		t.Error("nobody who follows the log was told")
	}
	if again := w.restore(a, days); again.Restored != 0 || w.print("plays") != log {
		t.Errorf("restored again: %+v", again)
	}
	w.exact()
	w.archive(a) // and the archive agrees
}

// Plays older than the log keeps are counted for ever, and the log lets them go.
func TestRestoreOfWhatTheLogDropped(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.exec("SYSTEM STOP TTL MERGES plays")
	old := w.now.Add(-100 * 24 * time.Hour)
	w.append(0, old, plays(1, 400, old)...)
	w.append(1, old.Add(time.Hour), plays(2, 100, old)...)
	a := w.open(location(bucket)).WithOnly(w.now.Add(-99 * 24 * time.Hour))
	if report := w.archive(a); report.Plays != 500 {
		t.Fatalf("archived %+v", report)
	}
	fresh := newWorld(t, true)
	fresh.oracle, fresh.now = w.oracle, w.now
	fresh.restore(fresh.open(location(bucket)), fresh.whole())
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		if got := fresh.value("SELECT sum(plays) FROM " + rollup + " WHERE dim = 'global'"); got != "500" {
			t.Errorf("%s has counted %s plays, want 500", rollup, got)
		}
	}
	fresh.exec("OPTIMIZE TABLE plays FINAL")
	fresh.become("SELECT count() FROM plays", "0")
	chart, err := fresh.db.Chart(t.Context(), topk.ChartQuery{Window: topk.AllTime, K: 10, Now: fresh.now})
	if err != nil || chart.TotalPlays != 500 {
		t.Errorf("the chart of all time: %d plays, %v", chart.TotalPlays, err)
	}
}
