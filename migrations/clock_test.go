package migrations_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
)

// A play is judged by the time at which Kafka got it, to the millisecond: what
// the gateway lets pass, and an hour for the way from there.
func TestLatenessLimits(t *testing.T) {
	c := newChain(t)
	rules := topk.DefaultRules()
	const grace, tick = time.Hour, time.Millisecond
	produced := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC) // long ago: a late delivery judges alike
	tests := []struct {
		ts     time.Time
		reason string
	}{
		{produced, ""},
		{produced.Add(-rules.MaxAge), ""},
		{produced.Add(-rules.MaxAge - grace), ""},
		{produced.Add(-rules.MaxAge - grace - tick), "timestamp is too old"},
		{produced.Add(rules.MaxAhead), ""},
		{produced.Add(rules.MaxAhead + grace), ""},
		{produced.Add(rules.MaxAhead + grace + tick), "timestamp is too far ahead"},
		{time.UnixMilli(0), "timestamp is too old"},
		{time.UnixMilli(-1), "timestamp is too old"},
	}
	var records []*kgo.Record
	for i, test := range tests {
		records = append(records, &kgo.Record{Timestamp: produced,
			Value: []byte(message(t, fmt.Sprint("e", i), map[string]any{"timestamp": test.ts.UnixMilli()}))})
	}
	if err := c.kafka.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	c.become("SELECT (SELECT count() FROM plays) + (SELECT count() FROM plays_rejected FINAL)", fmt.Sprint(len(tests)))
	for i, test := range tests {
		reason := c.value(fmt.Sprintf("SELECT any(reason) FROM plays_rejected WHERE koff = %d", i))
		if reason == "" != (test.reason == "") || !strings.HasPrefix(reason, test.reason) {
			t.Errorf("a play of %s, produced at %s: %q, want %q", test.ts, produced, reason, test.reason)
		}
	}
}

// A clock of the server that was two days fast, and is right again, does no harm:
// `at` never goes back, and nothing else depends on clocks.
func TestServerClockGoesBack(t *testing.T) {
	c := newChain(t)
	c.produce(0, c.events("before", 10)...)
	c.exact(10)
	c.exec(`INSERT INTO landing (src, koff, at, key, ts, eventId, songId, country, region, counted)
		SELECT 0, 10, now64(3, 'UTC') + INTERVAL 2 DAY, reinterpretAsUInt128(sipHash128('fast')), now64(3), 'fast', 's', 'IN', 'IN/Mumbai', true`)
	c.exact(11)
	// The topic has an offset 10 too: the same event, as far as the log knows.
	c.produce(0, c.events("fast", 1)...)
	c.produce(0, append(c.events("after", 20), c.events("before", 10)...)...)
	c.produce(1, c.events("after", 30)...)
	c.exact(41)
	if got := c.value("SELECT countIf(at < now64(3) + INTERVAL 1 DAY) FROM plays WHERE eventId LIKE 'after-%'"); got != "0" {
		t.Errorf("the times of insertion of %s plays went back", got)
	}
}

// Repeats are recognised for 48 hours after the event, also when its source had
// no play since; then the event is forgotten.
func TestRepeatsAtTheLimit(t *testing.T) {
	c := newChain(t)
	for i, age := range []string{"47 HOUR", "49 HOUR", "51 HOUR"} {
		c.exec(fmt.Sprintf(`INSERT INTO plays (src, koff, at, ts, eventId, songId, country, region, counted)
			SELECT %d, 0, now64(3, 'UTC') - INTERVAL %s, now64(3), 'event-%d', 's', 'IN', 'IN/Mumbai', true`, i+5, age, i))
	}
	c.exact(3)
	// seen has forgotten all of them, and the marks of their sources.
	c.produce(0, c.events("event", 3)...)
	c.become("SELECT arraySort(groupArray((eventId, src))) FROM plays", "[('event-0',5),('event-1',6),('event-2',0),('event-2',7)]")
	c.become("SELECT arraySort(groupArray((eventId, ownerSrc))) FROM plays_duplicates", "[('event-0',5),('event-1',6)]")
	// From now on it is known again.
	c.produce(1, c.events("event", 3)...)
	c.become("SELECT count() FROM plays_duplicates", "5")
	c.become("SELECT count() FROM plays", "4")
}
