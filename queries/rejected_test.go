package queries_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

// list reads all pages.
func (c *chain) list(f topk.RejectedFilter, limit int) (all []topk.Rejected, pages int) {
	c.Helper()
	var after topk.RejectedCursor
	for {
		page, err := c.db.Rejected(c.Context(), f, after, limit)
		if err != nil {
			c.Fatal(err)
		}
		all = append(all, page.Messages...)
		pages++
		if page.Next == nil {
			return all, pages
		}
		if len(page.Messages) == 0 {
			c.Fatal("an empty page is not the last one")
		}
		after = *page.Next
	}
}

// Whatever bytes a message has, it is rejected, listed as it was sent, and those
// behind it are read.
func TestPoisonIsListed(t *testing.T) {
	c := newChain(t)
	messages := [][]byte{
		bytes.Repeat([]byte("x"), 999_000),
		append(append([]byte(`{"eventId":"long","x":"`), bytes.Repeat([]byte("y"), 999_000)...), '"', '}'),
		{0, 1, 2, 0},
		[]byte("{\"eventId\":\"nul\",\"songId\":\"a\\u0000b\"}"),
		{0xff, 0xfe, '{', '}'},
		bytes.Repeat([]byte("["), 100_000), // nested too deep for any parser
		[]byte(`{"eventId":"a b"}`),
		[]byte("'; DROP TABLE plays; -- \\"),
		[]byte("\n"),
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(c.env.Brokers...), kgo.DefaultProduceTopic(c.env.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, m := range messages {
		if err := client.ProduceSync(t.Context(), &kgo.Record{Partition: 1, Value: m}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	embeddedtest.WaitFor(t.Context(), t, "all to be rejected", func() bool {
		var n uint64
		if err := c.env.ClickHouse.QueryRow(t.Context(), "SELECT uniqExact(src, koff) FROM plays_rejected").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == uint64(len(messages))
	})
	all, _ := c.list(topk.RejectedFilter{}, 2)
	if len(all) != len(messages) {
		t.Fatalf("%d are listed, of %d", len(all), len(messages))
	}
	for _, m := range all {
		if !bytes.Equal(m.Raw, messages[m.Offset]) || m.Reason == "" || m.Topic != c.env.Topic || m.Partition() != 1 ||
			time.Since(m.ProducedAt) > time.Hour || time.Since(m.At) > time.Hour {
			t.Errorf("%d: %d bytes, %+v", m.Offset, len(m.Raw), m.Arrival)
		}
		if want := topk.EventIDOf(m.Raw); m.EventID != want {
			t.Errorf("%d: event %q, want %q", m.Offset, m.EventID, want)
		}
	}
}

func TestRejected(t *testing.T) {
	c := newChain(t)
	start := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	reject := func(src uint32, koff, second int, reason, event string, size int) {
		c.exec(fmt.Sprintf(`INSERT INTO plays_rejected (src, koff, at, topic, partition, producedAt, reason, eventId, raw)
			SELECT %d AS src, %d, fromUnixTimestamp64Milli(%d), 'plays', src %% 65536, now64(3), '%s', '%s', substring(repeat(repeat('x', 1000000), 7), 1, %d)`,
			src, koff, start.Add(time.Duration(second)*time.Second).UnixMilli(), reason, event, size))
	}
	for i := range 20 {
		reject(uint32(i%2), i, i/4, []string{"region must be X", "duration must be Y"}[i%2], fmt.Sprint("e-", i), 10)
	}
	reject(1, 3, 100, "duration must be Y", "e-3", 10) // delivered again
	if err := c.db.MarkReplayed(t.Context(), []topk.ReplayedMessage{
		{Position: topk.Position{Source: 0, Offset: 4}, EventID: "e-4"},
		{Position: topk.Position{Source: 1, Offset: 19}, EventID: "e-18"},
	}); err != nil {
		t.Fatal(err)
	}
	yes, no, one := true, false, int32(1)
	for name, test := range map[string]struct {
		filter topk.RejectedFilter
		want   []uint64
	}{
		"all":       {topk.RejectedFilter{}, []uint64{3, 19, 17, 18, 16, 15, 13, 14, 12, 11, 9, 10, 8, 7, 5, 6, 4, 1, 2, 0}},
		"time":      {topk.RejectedFilter{From: start.Add(time.Second), To: start.Add(3 * time.Second)}, []uint64{11, 9, 10, 8, 7, 5, 6, 4}},
		"reason":    {topk.RejectedFilter{Reason: "REGION"}, []uint64{18, 16, 14, 12, 10, 8, 6, 4, 2, 0}},
		"partition": {topk.RejectedFilter{Partition: &one}, []uint64{3, 19, 17, 15, 13, 11, 9, 7, 5, 1}},
		"event":     {topk.RejectedFilter{EventID: "e-7"}, []uint64{7}},
		"replayed":  {topk.RejectedFilter{Replayed: &yes}, []uint64{19, 4}},
		"waiting":   {topk.RejectedFilter{Replayed: &no, To: start.Add(2 * time.Second), Reason: "region"}, []uint64{6, 2, 0}},
		"none":      {topk.RejectedFilter{Reason: "100%"}, nil},
		"quoted":    {topk.RejectedFilter{Reason: "' OR 1 --"}, nil},
	} {
		for _, limit := range []int{1, 3, 7, 1000} {
			var got []uint64
			all, pages := c.list(test.filter, limit)
			for _, m := range all {
				got = append(got, m.Offset)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s by %d: %v, want %v", name, limit, got, test.want)
			}
			if most := len(test.want)/limit + 1; pages > most {
				t.Errorf("%s by %d: %d pages", name, limit, pages)
			}
		}
	}
	all, _ := c.list(topk.RejectedFilter{}, 100)
	for _, m := range all {
		if replayed := m.Offset == 4 || m.Offset == 19; replayed == m.ReplayedAt.IsZero() || replayed && time.Since(m.ReplayedAt) > time.Hour {
			t.Errorf("%d was replayed at %v", m.Offset, m.ReplayedAt)
		}
		if sent := m.Offset == 4 || m.Offset == 18; sent != m.SentBefore {
			t.Errorf("%d: sent before is %v", m.Offset, m.SentBefore)
		}
	}

	reasons, err := c.db.RejectedReasons(t.Context(), topk.RejectedFilter{})
	if err != nil || fmt.Sprint(reasons) != "[{duration must be Y 10 1} {region must be X 10 1}]" {
		t.Errorf("%v %v", reasons, err)
	}
	if reasons, err = c.db.RejectedReasons(t.Context(), topk.RejectedFilter{Reason: "dur", Replayed: &no}); err != nil || fmt.Sprint(reasons) != "[{duration must be Y 9 0}]" {
		t.Errorf("%v %v", reasons, err)
	}

	// A page of long messages ends early, and has one at least.
	for i := range 3 {
		reject(2, 100+i, 200, "long", "", 6<<20)
	}
	page, err := c.db.Rejected(t.Context(), topk.RejectedFilter{Reason: "long"}, topk.RejectedCursor{}, 100)
	if err != nil || len(page.Messages) != 1 || page.Next == nil {
		t.Errorf("%d messages, next %v, %v", len(page.Messages), page.Next, err)
	}
	if all, pages := c.list(topk.RejectedFilter{Reason: "long"}, 100); len(all) != 3 || pages != 3 {
		t.Errorf("%d messages on %d pages", len(all), pages)
	}

	found, err := c.db.RejectedAt(t.Context(), []topk.Position{{Source: 1, Offset: 3}, {Source: 9, Offset: 9}, {Source: 0, Offset: 0}})
	if err != nil || len(found) != 2 || found[0].Offset != 3 || string(found[0].Raw) != strings.Repeat("x", 10) {
		t.Errorf("%+v %v", found, err)
	}
	if found, err = c.db.Rejections(t.Context(), "e-3", 5); err != nil || len(found) != 1 || len(found[0].Raw) != 0 {
		t.Errorf("%+v %v", found, err)
	}
}
