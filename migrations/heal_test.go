package migrations_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2"
	"pgregory.net/rapid"
)

// written are the views whose writes of one block a kill may come between, in
// any order.
var written = []string{"seen_fill", "plays_fill", "plays_duplicates_fill"}

// position names a message for ever.
type position struct {
	src  uint32
	koff uint64
}

// deliveries plays the part of Kafka and its consumer: partitions with messages,
// how far each was read, and how far that was committed.
type deliveries struct {
	t          *rapid.T
	c          *chain
	messages   map[uint32][]string // event ids by offset
	next, safe map[uint32]uint64   // offset to be read, offset committed
}

// deliver inserts a block of messages of some partitions into landing, of which
// only the writes of the named views survive.
func (d *deliveries) deliver(block []position, survive []string) {
	srcs, koffs, ids := make([]uint32, len(block)), make([]uint64, len(block)), make([]string, len(block))
	for i, p := range block {
		srcs[i], koffs[i], ids[i] = p.src, p.koff, d.messages[p.src][p.koff]
	}
	for _, view := range written {
		if !slices.Contains(survive, view) {
			d.exec("DETACH TABLE " + view + " SYNC")
		}
	}
	d.exec(`
		INSERT INTO landing (src, koff, at, key, ts, eventId, songId, counted)
		SELECT m.1, m.2, greatest(now64(3, 'UTC'), (SELECT max(at) FROM plays)), reinterpretAsUInt128(sipHash128(m.3)), now64(3), m.3, 's', true
		FROM (SELECT arrayJoin(arrayZip({srcs:Array(UInt32)}, {koffs:Array(UInt64)}, {ids:Array(String)})) AS m)`,
		clickhouse.Named("srcs", srcs), clickhouse.Named("koffs", koffs), clickhouse.Named("ids", ids))
	for _, view := range written {
		if !slices.Contains(survive, view) {
			d.exec("ATTACH TABLE " + view)
		}
	}
}

func (d *deliveries) exec(sql string, args ...any) {
	if err := d.c.ClickHouse.Exec(d.c.Context(), sql, args...); err != nil {
		d.t.Fatalf("%s: %v", sql, err)
	}
}

// block draws the next messages of some partitions, in any order of partitions:
// after a restart a consumer gets them one by one as they happen to arrive.
func (d *deliveries) block(srcs []uint32) []position {
	var block []position
	for _, src := range rapid.Permutation(srcs).Draw(d.t, "partitions") {
		left := uint64(len(d.messages[src])) - d.next[src]
		n := rapid.Uint64Range(0, left).Draw(d.t, "messages")
		for range n {
			block = append(block, position{src, d.next[src]})
			d.next[src]++
		}
	}
	return block
}

// Whatever subset of a block's writes a kill leaves behind, and in whatever
// pieces and order the messages come again, in the end each event is in the log
// once, and each offset is a play or a repeat.
func TestAnyKillHeals(t *testing.T) {
	c := newChain(t)
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	run := uint32(0)
	rapid.Check(t, func(t *rapid.T) {
		run++
		srcs := []uint32{run * 4, run*4 + 1, run*4 + 2}
		d := deliveries{t: t, c: c, messages: map[uint32][]string{}, next: map[uint32]uint64{}, safe: map[uint32]uint64{}}
		unique := map[string]bool{}
		total := 0
		for _, src := range srcs {
			for range rapid.IntRange(1, 8).Draw(t, "messages of partition") {
				id := fmt.Sprintf("heal-%d-%d", run, rapid.IntRange(0, 9).Draw(t, "event"))
				d.messages[src] = append(d.messages[src], id)
				unique[id] = true
				total++
			}
		}
		for range rapid.IntRange(1, 6).Draw(t, "blocks") {
			block := d.block(srcs)
			if rapid.Bool().Draw(t, "killed") {
				survive := rapid.SliceOfDistinct(rapid.SampledFrom(written), rapid.ID[string]).Draw(t, "written")
				d.deliver(block, survive)
				d.next = map[uint32]uint64{}
				for src, safe := range d.safe {
					d.next[src] = safe
				}
				continue
			}
			d.deliver(block, written)
			for src, next := range d.next {
				d.safe[src] = next
			}
		}
		rest := []position{} // and then all is delivered
		for _, src := range srcs {
			for ; d.next[src] < uint64(len(d.messages[src])); d.next[src]++ {
				rest = append(rest, position{src, d.next[src]})
			}
		}
		d.deliver(rest, written)

		own := fmt.Sprintf("src IN (%d, %d, %d)", srcs[0], srcs[1], srcs[2])
		if got, want := c.value("SELECT (count(), uniqExact(eventId)) FROM plays WHERE "+own), fmt.Sprintf("(%d,%d)", len(unique), len(unique)); got != want {
			t.Fatalf("(rows, events) of the log: %s, want %s", got, want)
		}
		offsets := "SELECT uniqExact(src, koff) FROM (SELECT src, koff FROM plays WHERE " + own + " UNION ALL SELECT src, koff FROM plays_duplicates WHERE " + own + ")"
		if got := c.value(offsets); got != fmt.Sprint(total) {
			t.Fatalf("%s offsets are accounted for, want %d", got, total)
		}
	})
}

// A write that fails is as good as a kill, except that the process lives on: the
// consumer comes back to the block.
func TestFailedWritesHeal(t *testing.T) {
	c := newChain(t)
	want := 0
	for _, table := range []string{"plays", "plays_duplicates", "plays_rejected"} {
		// The consumer is made anew: a poll that is under way would still write by
		// what it knew of the table before.
		c.exec("DROP TABLE plays_queue SYNC")
		c.exec("ALTER TABLE " + table + " ADD CONSTRAINT full CHECK koff < 0")
		c.up()
		var messages []string
		for i := range 50 {
			messages = append(messages, message(t, fmt.Sprintf("%s-%d", table, i%40), nil))
		}
		c.produce(0, append(messages, "not a play")...)
		c.produce(1, messages...)
		want += 40
		c.become("SELECT sum(length(exceptions.text)) > 0 FROM system.kafka_consumers WHERE database = currentDatabase()", "1")
		c.exec("ALTER TABLE " + table + " DROP CONSTRAINT full")
		c.become("SELECT count() FROM plays", fmt.Sprint(want))
		c.become("SELECT count() FROM plays_rejected FINAL", fmt.Sprint(want/40))
	}
	c.become("SELECT (count(), uniqExact(eventId)) FROM plays", fmt.Sprintf("(%d,%d)", want, want))
	c.become("SELECT uniqExact(src, koff) FROM (SELECT src, koff FROM plays UNION ALL SELECT src, koff FROM plays_duplicates UNION ALL SELECT src, koff FROM plays_rejected)", "303")
}

// The largest block a poll can give stays one block to the end, also with
// repeats and marks beside it: one part of the log, which is there or not.
func TestLargeBlockIsOnePart(t *testing.T) {
	c := newChain(t)
	messages := make([]string, 65_000)
	template := message(t, "EVENT", nil)
	for i := range messages {
		messages[i] = strings.Replace(template, "EVENT", fmt.Sprint("e", i%64_000), 1)
	}
	c.exec("DROP TABLE plays_queue SYNC")
	for partition := range int32(4) {
		c.produce(partition, messages[partition*16_250:(partition+1)*16_250]...)
	}
	c.exec("SYSTEM STOP MERGES plays")
	c.up()
	c.become("SELECT count() FROM plays", "64000")
	c.become("SELECT uniqExact(src, koff) FROM (SELECT src, koff FROM plays UNION ALL SELECT src, koff FROM plays_duplicates)", "65000")
	rows := c.value("SELECT arraySort(groupArray(rows)) FROM system.parts WHERE database = currentDatabase() AND table = 'plays' AND active")
	blocks := c.value("SELECT uniqExact(at) FROM plays")
	if parts := c.value("SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'plays' AND active"); parts != blocks {
		t.Errorf("%s blocks became %s parts: %s", blocks, parts, rows)
	}
	t.Logf("rows of the parts: %s", rows)
}
