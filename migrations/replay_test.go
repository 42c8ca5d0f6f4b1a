package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

func (c *chain) replay(o migrations.ReplayOptions) error {
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	defer cancel()
	o.Kafka = kadm.NewClient(c.kafka)
	return migrations.Replay(ctx, c.DSN, c.wiring, o)
}

// exact waits until the log and both rollups hold so many events, each once, and
// each offset is accounted for.
func (c *chain) exact(events int) {
	c.Helper()
	c.become("SELECT (count(), uniqExact(eventId)) FROM plays", fmt.Sprintf("(%d,%d)", events, events))
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		c.become("SELECT sum(plays) FROM "+rollup+" WHERE dim = 'global'", fmt.Sprint(events))
		c.become("SELECT sum(plays) FROM "+rollup+" WHERE dim = 'region' AND val = 'IN/Mumbai'", fmt.Sprint(events))
	}
}

// stream produces events one after the other until stop, which tells how many.
func (c *chain) stream(name string) (stop func() int) {
	var sent int
	ctx, cancel := context.WithCancel(c.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ; ctx.Err() == nil; sent++ {
			record := &kgo.Record{Partition: int32(sent % 4), Value: []byte(message(c.T, fmt.Sprintf("%s-%d", name, sent), nil))}
			if err := c.kafka.ProduceSync(context.WithoutCancel(ctx), record).FirstErr(); err != nil {
				c.Error(err)
				return
			}
		}
	})
	return func() int { cancel(); running.Wait(); return sent }
}

// A replay makes right whatever was wrong in the log, the rollups and the event
// ids, while plays stream in, and keeps what Kafka has no more.
func TestReplay(t *testing.T) {
	c := newChain(t)
	c.produce(0, c.events("gone", 30)...)
	c.produce(1, append(c.events("gone", 10), "rejected, and gone")...)
	c.become("SELECT (SELECT count() FROM plays) + (SELECT count() FROM plays_rejected FINAL)", "31")
	admin := kadm.NewClient(c.kafka)
	offsets := kadm.Offsets{}
	offsets.AddOffset(c.Topic, 0, 30, -1)
	offsets.AddOffset(c.Topic, 1, 11, -1)
	if _, err := admin.DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	c.produce(0, append(c.events("kept", 200), c.events("gone", 20)...)...)
	c.produce(2, append(c.events("kept", 50), "rejected")...)
	c.exact(230)

	c.exec("ALTER TABLE plays DELETE WHERE eventId LIKE 'kept-1%' SETTINGS mutations_sync = 2")
	c.exec("INSERT INTO rollup_hour (dim, val, songId, ts, plays, day) VALUES ('global', '', 's', now(), 1000, today())")
	stop := c.stream("streamed")
	if err := c.replay(migrations.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	c.exact(230 + stop())
	c.become("SELECT arraySort(groupArray((bitShiftRight(src, 16), raw))) FROM plays_rejected FINAL", "[(0,'rejected, and gone'),(1,'rejected')]")
	if got := c.value("SELECT count() FROM system.databases WHERE name = '" + c.Database + "_replay'"); got != "0" {
		t.Error("the old tables are still there")
	}
	if got := c.value("SELECT groupUniqArray(bitShiftRight(src, 16)) FROM plays WHERE eventId LIKE 'gone-%'"); got != "[0]" {
		t.Errorf("what Kafka does not have is of epochs %s", got)
	}
	// And once more, with repeats of everything.
	c.produce(3, append(c.events("kept", 200), c.events("gone", 30)...)...)
	n := stop()
	c.exact(230 + n)
	watched, followed := c.watch(uint64(230+n)), c.follow()
	if err := c.replay(migrations.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d charts meanwhile, and the log followed %d times", watched(), followed())
	c.exact(230 + n)
}

// watch asks for the chart of everything, over and over until stop, and finds it
// to hold so many plays each time.
func (c *chain) watch(total uint64) (stop func() int) {
	db, err := queries.Open(c.DSN, topk.DefaultCalendar())
	if err != nil {
		c.Fatal(err)
	}
	var charts int
	ctx, cancel := context.WithCancel(c.Context())
	var running sync.WaitGroup
	running.Go(func() {
		for ; ctx.Err() == nil; charts++ {
			chart, err := db.Chart(context.WithoutCancel(ctx), topk.ChartQuery{Window: topk.AllTime, K: 10, Now: time.Now()})
			if err != nil || chart.TotalPlays != total {
				c.Errorf("a chart of %d plays instead of %d: %v", chart.TotalPlays, total, err)
			}
		}
	})
	return func() int {
		cancel()
		running.Wait()
		if err := db.Close(); err != nil {
			c.Error(err)
		}
		return charts
	}
}

// follow follows the log until it is told that history was rewritten, which it
// must be: to it, all plays of the new epoch would be new.
func (c *chain) follow() (wait func() int) {
	db, err := queries.Open(c.DSN, topk.DefaultCalendar())
	if err != nil {
		c.Fatal(err)
	}
	pos, err := db.Counts(c.Context(), topk.DimGlobal, []topk.Window{topk.AllTime}, time.Now(), nobody{})
	if err != nil {
		c.Fatal(err)
	}
	var polls int
	ctx, cancel := context.WithTimeout(c.Context(), 2*time.Minute)
	var running sync.WaitGroup
	running.Go(func() {
		for ; ; polls++ {
			next, _, err := db.Arrivals(ctx, pos, 1000, func(p queries.Play) error {
				c.Errorf("a play arrived that had been counted: %+v", p)
				return nil
			})
			if errors.Is(err, queries.ErrRewritten) {
				return
			}
			if err != nil {
				c.Errorf("follow the log: %v", err)
				return
			}
			pos = next
		}
	})
	return func() int {
		running.Wait()
		cancel()
		if err := db.Close(); err != nil {
			c.Error(err)
		}
		return polls
	}
}

// nobody reads counts for their position alone.
type nobody struct{}

func (nobody) Begin()                           {}
func (nobody) Row(string, string, []uint64)     {}
func (nobody) Floor(string, []uint64, []uint64) {}

var errKilled = errors.New("killed")

// Killed before any of its steps and run again, or followed by Up alone once the
// switch has begun, a replay ends in the same place.
func TestReplayKilledAtEachStep(t *testing.T) {
	c := newChain(t)
	c.produce(0, c.events("e", 100)...)
	c.produce(1, c.events("e", 60)...)
	c.exact(100)
	total := 100
	var names []string
	for kill := 0; ; kill++ {
		c.exec("INSERT INTO rollup_day (dim, val, songId, ts, plays, week) VALUES ('global', '', 's', now(), 1000, toMonday(today()))")
		c.produce(2, c.events(fmt.Sprint("more-", kill), 5)...)
		total += 5
		step := 0
		err := c.replay(migrations.ReplayOptions{}.WithSteps(func(name string) error {
			if step++; step > kill {
				names = append(names, name)
				return errKilled
			}
			return nil
		}))
		if err == nil {
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		switched := len(names) > 0 && kill >= 5 // the exchanges have begun
		told := c.value("SELECT count() FROM rewrites")
		c.up()
		if !switched {
			if err := c.replay(migrations.ReplayOptions{}); err != nil {
				t.Fatalf("after %s: %v", names[kill], err)
			}
		}
		c.exact(total)
		if c.value("SELECT count() FROM rewrites") == told {
			t.Errorf("killed before %q: nobody who follows the log was told", names[kill])
		}
		if got := c.value("SELECT count() FROM system.databases WHERE name = '" + c.Database + "_replay'"); got != "0" {
			t.Fatalf("killed before %q: the old tables are still there", names[kill])
		}
	}
	c.exact(total)
	t.Logf("killed before each of %q", names)
}

// What was backfilled is not in Kafka: a replay keeps it, also what was backfilled
// after it had carried over the rest and was killed.
func TestReplayKeepsBackfills(t *testing.T) {
	c := newChain(t)
	c.produce(0, c.events("live", 20)...)
	backfill := func(from, to int, ago string) {
		c.exec(fmt.Sprintf(`INSERT INTO plays (src, koff, at, ts, eventId, songId, country, region, counted)
			SELECT %d, number, now64(3, 'UTC') - INTERVAL %s, now64(3) - INTERVAL 400 DAY, concat('old-', toString(number)), 's', 'IN', 'IN/Mumbai', true
			FROM numbers(%d, %d)`, topk.BackfillSource, ago, from, to-from))
	}
	backfill(5, 15, "3 DAY")
	c.exact(30)
	offsets := kadm.Offsets{}
	offsets.AddOffset(c.Topic, 0, 5, -1)
	if _, err := kadm.NewClient(c.kafka).DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	err := c.replay(migrations.ReplayOptions{}.WithSteps(func(name string) error {
		if name == "stop the reader beside" {
			return errKilled
		}
		return nil
	}))
	if !errors.Is(err, errKilled) {
		t.Fatal(err)
	}
	c.up() // the readers had stopped already
	backfill(15, 18, "1 DAY")
	backfill(18, 25, "1 MINUTE")
	c.exact(40)
	if err := c.replay(migrations.ReplayOptions{}); err != nil {
		t.Fatal(err)
	}
	c.exact(40)
	if got := c.value(fmt.Sprintf("SELECT (min(koff), max(koff), count()) FROM plays WHERE src = %d", topk.BackfillSource)); got != "(5,24,20)" {
		t.Errorf("backfilled plays: %s", got)
	}
	// Live plays that nobody has any more are still missed, whatever is older.
	c.exec("INSERT INTO rollup_day (dim, val, songId, ts, plays, week) VALUES ('global', '', 's', today() - 200, 7, toMonday(today()))")
	if err := c.replay(migrations.ReplayOptions{}); !errors.Is(err, topk.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}

// What only the rollups know is not thrown away unasked.
func TestReplayKeepsHistory(t *testing.T) {
	c := newChain(t)
	c.produce(0, c.events("e", 10)...)
	c.exact(10)
	c.exec("INSERT INTO rollup_day (dim, val, songId, ts, plays, week) VALUES ('global', '', 's', today() - 200, 7, toMonday(today()))")
	offsets := kadm.Offsets{}
	offsets.AddOffset(c.Topic, 0, 1, -1)
	if _, err := kadm.NewClient(c.kafka).DeleteRecords(t.Context(), offsets); err != nil {
		t.Fatal(err)
	}
	if err := c.replay(migrations.ReplayOptions{}); !errors.Is(err, topk.ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	c.become("SELECT sum(plays) FROM rollup_day WHERE dim = 'global'", "17")
	if err := c.replay(migrations.ReplayOptions{LoseHistory: true}); err != nil {
		t.Fatal(err)
	}
	c.exact(10)
}
