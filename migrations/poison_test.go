package migrations_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// No message stops its partition: whatever its bytes are, it becomes a play, a
// repeat or a reject, and what comes after it is read.
func TestNoMessageStopsItsPartition(t *testing.T) {
	c := newChain(t)
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	valid := message(t, "e", nil)
	messages := []string{
		strings.Repeat("[", 100_000), strings.Repeat(`{"a":`, 100_000), `{"eventId":` + strings.Repeat("[", 50_000) + strings.Repeat("]", 50_000) + "}",
		strings.Repeat("9", 100_000), `{"timestamp":` + strings.Repeat("9", 5000) + "}", `{"timestamp":1e400}`, `{"timestamp":-9223372036854775808}`,
		`{"timestamp":9223372036854775807}`, `{"duration":-99999999999999999999}`, `{"eventId":"\ud800"}`, `{"eventId":"\u0000"}`,
		"\x00", "\xef\xbb\xbf" + valid, " " + valid + "\n", valid + "\x00", "\xff\xfe", "null", "true", `""`, "{", "}", `{"":{}}`,
		strings.Replace(valid, `"eventId"`, `"eventId":"x","eventId"`, 1), strings.Repeat(" ", 100_000) + "x",
		strings.Replace(valid, "{", `{"padding":"`+strings.Repeat("x", 900_000)+`",`, 1), strings.Repeat("x", 900_000),
	}
	for range 3000 {
		b := []byte(valid)
		for range 1 + r.IntN(4) {
			at := r.IntN(len(b))
			switch r.IntN(4) {
			case 0:
				b[at] = byte(r.IntN(256))
			case 1:
				b = append(b[:at], b[min(len(b), at+1+r.IntN(10)):]...)
			case 2:
				b = append(b[:at], append([]byte{byte(r.IntN(256))}, b[at:]...)...)
			case 3:
				b = b[:at+1]
			}
			if len(b) == 0 {
				b = []byte("x")
			}
		}
		messages = append(messages, string(b))
	}
	for i, m := range messages {
		record := &kgo.Record{Partition: int32(i % 2), Value: []byte(m)}
		c.kafka.Produce(t.Context(), record, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := c.kafka.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.produce(0, c.events("last", 1)...)
	c.produce(1, message(t, "last of 1", map[string]any{"eventId": "last-1"}))
	c.become("SELECT count() FROM plays WHERE eventId IN ('last-0', 'last-1')", "2")
	c.become(`SELECT uniqExact(src, koff) FROM (SELECT src, koff FROM plays
		UNION ALL SELECT src, koff FROM plays_duplicates UNION ALL SELECT src, koff FROM plays_rejected)`, fmt.Sprint(len(messages)+2))
	t.Logf("of %d messages: %s", len(messages), c.value("SELECT (SELECT count() FROM plays), (SELECT count() FROM plays_duplicates FINAL), (SELECT count() FROM plays_rejected FINAL)"))
}
