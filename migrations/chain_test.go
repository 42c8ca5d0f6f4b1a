package migrations_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/migrations"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

// chain is a migrated database and the topic it consumes.
type chain struct {
	*testing.T
	*embeddedtest.Env
	wiring migrations.Wiring
	kafka  *kgo.Client
}

func newChain(t *testing.T) *chain {
	t.Helper()
	c := unmigrated(t)
	c.up()
	return c
}

// unmigrated is a chain before there is anything.
func unmigrated(t *testing.T) *chain {
	t.Helper()
	env := embeddedtest.New(t)
	c := &chain{T: t, Env: env, wiring: migrations.Wiring{
		Brokers: env.Brokers, Topic: env.Topic, Group: env.Topic, Rules: topk.DefaultRules(),
	}}
	client, err := kgo.NewClient(kgo.SeedBrokers(env.Brokers...), kgo.DefaultProduceTopic(env.Topic),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c.kafka = client
	return c
}

func (c *chain) up() {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, c.DSN, c.wiring); err != nil {
		c.Fatal(err)
	}
}

func (c *chain) exec(sql string) {
	c.Helper()
	if err := c.ClickHouse.Exec(c.Context(), sql); err != nil {
		c.Fatalf("%s: %v", sql, err)
	}
}

// value asks for one value, as text.
func (c *chain) value(sql string) string {
	c.Helper()
	var v string
	if err := c.ClickHouse.QueryRow(c.Context(), "SELECT toString(("+sql+"))").Scan(&v); err != nil {
		c.Fatalf("%s: %v", sql, err)
	}
	return v
}

// become waits until the statement gives the value.
func (c *chain) become(sql, want string) {
	c.Helper()
	deadline := time.Now().Add(time.Minute)
	for c.value(sql) != want {
		if time.Now().After(deadline) {
			c.Fatalf("%s: is %s, want %s; the consumer: %s", sql, c.value(sql), want, c.value(
				"SELECT arrayMap(c -> toString(c), groupArray(tuple(*))) FROM system.kafka_consumers WHERE database = currentDatabase()"))
		}
		select {
		case <-c.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (c *chain) produce(partition int32, messages ...string) {
	c.Helper()
	records := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		records[i] = &kgo.Record{Partition: partition, Value: []byte(m)}
	}
	if err := c.kafka.ProduceSync(c.Context(), records...).FirstErr(); err != nil {
		c.Fatal(err)
	}
}

// message is a valid play in its normal form, with fields changed; a nil value
// removes one.
func message(t *testing.T, id string, change map[string]any) string {
	t.Helper()
	fields := map[string]any{
		"eventId": id, "userId": topk.HashUser([]byte("p"), "u"), "songId": "s", "artistId": "a",
		"timestamp": time.Now().UnixMilli(), "region": "IN/Mumbai", "deviceType": "mobile",
		"context": "playlist:p1", "duration": 10,
	}
	for name, value := range change {
		if fields[name] = value; value == nil {
			delete(fields, name)
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What the gateway would refuse is rejected with its reason and its bytes when
// another producer writes it, what it would take is taken, and no message stops
// its partition.
func TestMessagesOfOtherProducers(t *testing.T) {
	c := newChain(t)
	at := func(d time.Duration) map[string]any {
		return map[string]any{"timestamp": time.Now().Add(d).UnixMilli()}
	}
	is := func(field string, value any) map[string]any { return map[string]any{field: value} }
	tests := []struct {
		name   string
		change map[string]any
		raw    string // instead of a changed play
		reason string // "" when it is a play
	}{
		{name: "whole"},
		{name: "least", change: map[string]any{"region": nil, "deviceType": nil, "context": nil, "duration": nil}},
		{name: "nulls", raw: strings.NewReplacer(`"IN/Mumbai"`, "null", `"mobile"`, "null").Replace(message(t, "nulls", nil))},
		{name: "unknown field", change: is("mood", map[string]any{"x": 1})},
		{name: "country", change: is("region", "IN")},
		{name: "umlauts", change: map[string]any{"songId": "ü日本", "region": "DE/Köln", "context": "playlist:ä,b:c"}},
		{name: "longest", change: map[string]any{"songId": strings.Repeat("s", 64), "artistId": strings.Repeat("a", 64),
			"region": "IN/" + strings.Repeat("c", 64), "context": "playlist:" + strings.Repeat("p", 128), "duration": 86400}},
		{name: "longest event id", change: is("eventId", strings.Repeat("e", 64))},
		{name: "6 days old", change: at(-6 * 24 * time.Hour)},
		{name: "4 minutes ahead", change: at(4 * time.Minute)},

		{name: "not JSON", raw: "nonsense", reason: "must be one JSON object"},
		{name: "array", raw: "[]", reason: "must be one JSON object"},
		{name: "number", raw: "1", reason: "must be one JSON object"},
		{name: "two objects", raw: message(t, "x1", nil) + message(t, "x2", nil), reason: "must be one JSON object"},
		{name: "cut off", raw: message(t, "x3", nil)[:50], reason: "must be one JSON object"},
		{name: "bad UTF-8", raw: strings.Replace(message(t, "x4", nil), `"s"`, "\"\xff\"", 1), reason: "must be one JSON object"},
		{name: "empty object", raw: "{}", reason: "eventId is required; userId is required; songId is required; artistId is required; timestamp is required"},
		{name: "no event id", change: is("eventId", nil), reason: "eventId is required"},
		{name: "event id", change: is("eventId", "a b"), reason: "eventId must be"},
		{name: "long event id", change: is("eventId", strings.Repeat("e", 65)), reason: "eventId must be"},
		{name: "line break after event id", change: is("eventId", "e\n"), reason: "eventId must be"},
		{name: "user in the clear", change: is("userId", "u123"), reason: "userId must be the 64 hex digits"},
		{name: "empty song", change: is("songId", ""), reason: "songId must be"},
		{name: "long song", change: is("songId", strings.Repeat("s", 65)), reason: "songId must be"},
		{name: "control in song", change: is("songId", "a\x01b"), reason: "songId must be"},
		{name: "C1 control in song", change: is("songId", "a\u0085b"), reason: "songId must be"},
		{name: "object as song", change: is("songId", map[string]any{"id": 1}), reason: "songId must be"},
		{name: "array as artist", change: is("artistId", []string{"a"}), reason: "artistId must be"},
		{name: "time as text", change: is("timestamp", "yesterday"), reason: "timestamp must be integer"},
		{name: "time with fraction", change: is("timestamp", 1.5), reason: "timestamp must be integer"},
		{name: "9 days old", change: at(-9 * 24 * time.Hour), reason: "timestamp is too old"},
		{name: "2 hours ahead", change: at(2 * time.Hour), reason: "timestamp is too far ahead"},
		{name: "huge time", change: is("timestamp", int64(1)<<62), reason: "timestamp is too far ahead"},
		{name: "no such country", change: is("region", "QQ"), reason: "region must be"},
		{name: "lower case", change: is("region", "in"), reason: "region must be"},
		{name: "empty city", change: is("region", "IN/"), reason: "region must be"},
		{name: "empty region", change: is("region", ""), reason: "region must be"},
		{name: "country and more", change: is("region", "INX"), reason: "region must be"},
		{name: "device", change: is("deviceType", "Mobile"), reason: "deviceType must be"},
		{name: "context", change: is("context", "playlist"), reason: "context must be"},
		{name: "context without ID", change: is("context", "playlist:"), reason: "context must be"},
		{name: "negative duration", change: is("duration", -1), reason: "duration must be"},
		{name: "long duration", change: is("duration", 86401), reason: "duration must be"},
		{name: "duration as word", change: is("duration", "long"), reason: "duration must be"},
		{name: "several", change: map[string]any{"eventId": nil, "region": "x", "duration": -5}, reason: "eventId is required; region must be"},
	}
	var raws []string
	for i, test := range tests {
		if test.raw == "" {
			test.raw = message(t, fmt.Sprint("event-", i), test.change)
		}
		raws = append(raws, test.raw)
	}
	c.produce(1, raws...)
	c.become("SELECT (SELECT count() FROM plays) + (SELECT count() FROM plays_rejected FINAL)", fmt.Sprint(len(tests)))
	for i, test := range tests {
		if test.reason == "" {
			if c.value(fmt.Sprintf("SELECT count() FROM plays WHERE src = 1 AND koff = %d", i)) != "1" {
				t.Errorf("%s was not taken: %s", test.name, c.value(fmt.Sprintf("SELECT any(reason) FROM plays_rejected WHERE src = 1 AND koff = %d", i)))
			}
			continue
		}
		var reason, raw, topic string
		err := c.ClickHouse.QueryRow(t.Context(), fmt.Sprintf("SELECT reason, raw, topic FROM plays_rejected FINAL WHERE src = 1 AND koff = %d", i)).Scan(&reason, &raw, &topic)
		if err != nil {
			t.Errorf("%s was not rejected: %v", test.name, err)
			continue
		}
		if !strings.HasPrefix(reason, test.reason) {
			t.Errorf("%s: rejected because %q, want %q", test.name, reason, test.reason)
		}
		if raw != raws[i] || topic != c.Topic {
			t.Errorf("%s: kept %q of topic %s, sent %q to %s", test.name, raw, topic, raws[i], c.Topic)
		}
	}
}

// An event id counts once, whichever partition and block its repeats are in.
func TestRepeatsCountOnce(t *testing.T) {
	c := newChain(t)
	var messages []string
	for i := range 100 {
		messages = append(messages, message(t, fmt.Sprint("e", i), nil))
	}
	c.produce(0, append(messages, messages...)...)
	c.produce(1, messages...)
	c.become("SELECT count() FROM plays", "100")
	c.produce(2, messages...)
	c.produce(2, message(t, "last", nil))
	c.become("SELECT count() FROM plays", "101")
	c.become("SELECT uniqExact(eventId) FROM plays", "101")
}

// A kill between the writes of `seen` and of the log, in either order, heals
// when the block is delivered again, also when a repeat of its events comes
// first from another partition.
func TestHalfWrittenBlocksHeal(t *testing.T) {
	c := newChain(t)
	// Blocks as plays_consume makes them; `at` grows from block to block.
	landing := func(src, from, to int, at int, first int) {
		c.exec(fmt.Sprintf(`INSERT INTO landing (src, koff, at, key, ts, eventId, songId, counted)
			SELECT %d, number, toDateTime64(today(), 3, 'UTC') + %d AS now,
				reinterpretAsUInt128(sipHash128(id)), now, 'e' || toString(number + %d) AS id, 's', true
			FROM numbers(%d, %d)`, src, at, first-from, from, to-from))
	}
	landing(0, 0, 10, 1, 0) // e0-e9, whole

	// The log has the block e10-e19, `seen` has not.
	c.exec("DETACH TABLE seen_fill SYNC")
	landing(0, 10, 20, 2, 10)
	c.exec("ATTACH TABLE seen_fill")
	landing(1, 0, 20, 3, 0) // repeats of e0-e19 from another partition
	landing(0, 10, 25, 4, 10)
	if got := c.value("SELECT (count(), uniqExact(eventId), countIf(src = 1)) FROM plays"); got != "(25,25,0)" {
		t.Errorf("the log without seen: (rows, unique, of the wrong owner) = %s", got)
	}

	// `seen` has the block e25-e34, the log has not.
	c.exec("DETACH TABLE plays_fill SYNC")
	landing(0, 25, 35, 5, 25)
	c.exec("ATTACH TABLE plays_fill")
	landing(1, 20, 30, 6, 25) // repeats first
	landing(0, 25, 40, 7, 25)
	if got := c.value("SELECT (count(), uniqExact(eventId), countIf(src = 1)) FROM plays"); got != "(40,40,0)" {
		t.Errorf("seen without the log: (rows, unique, of the wrong owner) = %s", got)
	}
	if got := c.value("SELECT countIf(key >= 4294967296) FROM seen"); got != "40" {
		t.Errorf("seen holds %s keys", got)
	}
}

// Migrating again, at the same time as others, and after a step was killed,
// ends in the same schema.
func TestUpMayBeRepeated(t *testing.T) {
	c := newChain(t)
	tables := "SELECT arraySort(groupArray((name, create_table_query))) FROM system.tables WHERE database = currentDatabase() AND name != 'schema_migrations'"
	before := c.value(tables)
	var others sync.WaitGroup
	for range 3 {
		others.Go(c.up)
	}
	others.Wait()

	version := c.value("SELECT argMax(version, sequence) FROM schema_migrations")
	c.exec(fmt.Sprintf("INSERT INTO schema_migrations (version, dirty, sequence) VALUES (%s, 1, %d)", version, time.Now().UnixNano()))
	c.exec("DROP VIEW rollup_day_fill")
	c.up()
	if after := c.value(tables); after != before {
		t.Errorf("the schema is not the same:\n%s\n%s", before, after)
	}
}

// Tables of an older schema are written anew with all that they hold, also by
// steps that were killed when they were done; and what was rolled up goes on from
// where it was.
func TestUpKeepsWhatOldTablesHold(t *testing.T) {
	c := unmigrated(t)
	if err := migrations.UpTo(c.Context(), c.DSN, 24); err != nil {
		t.Fatal(err)
	}
	insert := func(first, n int) {
		c.exec(fmt.Sprintf(`
			INSERT INTO plays (src, koff, at, ts, eventId, user, songId, artistId, country, region, duration, counted)
			SELECT 0, number, now64(3), now64(3) - toIntervalMinute(number %% 600), toString(number), 1, 's' || toString(number %% 7), 'a', 'IN', 'IN', 1, true
			FROM numbers(%d, %d)`, first, n))
	}
	insert(0, 1000)
	for rollup, grain := range map[string]string{"rollup_hour": "toStartOfHour", "rollup_day": "toStartOfDay"} {
		partition, of := "day", "toDate"
		if rollup == "rollup_day" {
			partition, of = "month", "toStartOfMonth"
		}
		c.exec(`INSERT INTO ` + rollup + ` (dim, val, songId, ts, plays, ` + partition + `)
			SELECT 'global', '', songId, ` + grain + `(ts) AS start, count(), ` + of + `(now()) FROM plays GROUP BY songId, start`)
		c.exec(`INSERT INTO ` + rollup + ` (dim, val, songId, ts, plays, wm, wmAt, ` + partition + `)
			SELECT '_wm', '0', '', toDateTime(0, 'UTC'), 0, max(koff) + 1, max(at), ` + of + `(now()) FROM plays`)
	}
	const rows = "SELECT (count(), sum(cityHash64(*))) FROM plays"
	before := c.value(rows)
	c.up()
	for _, step := range []int{25, 26, 27, 28} {
		if err := migrations.Killed(c.DSN, step); err != nil {
			t.Fatal(err)
		}
		c.up()
	}
	if after := c.value(rows); after != before {
		t.Errorf("the log holds %s, not %s", after, before)
	}
	insert(1000, 500)
	for rollup, partition := range map[string]string{"rollup_hour": "day = toDate(now())", "rollup_day": "week >= toMonday(now() - INTERVAL 31 DAY)"} {
		c.become("SELECT (max(wm), sum(plays), countIf(NOT ("+partition+"))) FROM "+rollup+" WHERE dim IN ('_wm', 'global')", "(1500,1500,0)")
	}
	if key := c.value("SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = 'plays'"); !strings.HasPrefix(key, "if(at > ") {
		t.Errorf("the log is in the order of %s", key)
	}
	// Questions leave out partitions of before what they ask for happened.
	if n := c.value("SELECT countIf(dim = 'global' AND week < toMonday(toDate(ts) - 1)) FROM rollup_day"); n != "0" {
		t.Errorf("%s rows of rollup_day are in partitions of weeks before their plays", n)
	}
	if n := c.value("SELECT countIf(week != toMonday(week)) FROM rollup_day"); n != "0" {
		t.Errorf("%s rows of rollup_day are in partitions that do not begin on a Monday", n)
	}
}

// A changed wiring takes hold and reading goes on where it was.
func TestUpWiresAnew(t *testing.T) {
	c := newChain(t)
	c.produce(0, message(t, "e1", map[string]any{"duration": 29}))
	c.become("SELECT count() FROM plays WHERE counted", "1")
	c.wiring.MinPlaySeconds = 30
	c.up()
	c.produce(0, message(t, "e2", map[string]any{"duration": 29}), message(t, "e3", map[string]any{"duration": 30}),
		message(t, "e4", map[string]any{"duration": nil}))
	c.become("SELECT arraySort(groupArray((eventId, counted))) FROM plays", "[('e1',true),('e2',false),('e3',true),('e4',true)]")
	c.become("SELECT (max(koff), count()) FROM plays", "(3,4)")
}

// Offsets may jump by more than a refresh takes at once.
func TestRollupsCrossGapsInTheOffsets(t *testing.T) {
	c := newChain(t)
	row := func(koff int) string {
		return fmt.Sprintf("(3, %d, now64(3), now64(3), 'e%d', 's', true)", koff, koff)
	}
	c.exec("INSERT INTO plays (src, koff, at, ts, eventId, songId, counted) VALUES " +
		row(7) + "," + row(1_000_000) + "," + row(50_000_000))
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		c.become("SELECT sum(plays) FROM "+rollup+" WHERE dim = 'global'", "3")
		c.become("SELECT max(wm) FROM "+rollup+" WHERE dim = '_wm' AND val = '3'", "50000001")
	}
}
