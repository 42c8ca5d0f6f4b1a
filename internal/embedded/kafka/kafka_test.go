package kafka_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/topk-charts/topk/internal/embedded/kafka"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, dir, addr string) *kafka.Broker {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	b, err := kafka.Start(kafka.Config{Dir: dir, Listener: ln, RetentionCheck: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func client(t *testing.T, b *kafka.Broker, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(b.Addrs()...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestStartAgain finds topics, messages and the offsets of a group again, on
// the same address.
func TestStartAgain(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	b := start(t, dir, "127.0.0.1:0")
	addr := b.Addrs()[0]
	c := client(t, b)
	if _, err := kadm.NewClient(c).CreateTopic(ctx, 1, 1, nil, "plays"); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{"one", "two"} {
		if err := c.ProduceSync(ctx, &kgo.Record{Topic: "plays", Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	offsets := kadm.Offsets{}
	offsets.AddOffset("plays", 0, 1, -1)
	if err := kadm.NewClient(c).CommitAllOffsets(ctx, "group", offsets); err != nil {
		t.Fatal(err)
	}
	c.Close()
	b.Close()
	b.Close()

	b = start(t, dir, addr)
	if got := b.Addrs()[0]; got != addr {
		t.Errorf("address is %s, was %s", got, addr)
	}
	c = client(t, b, kgo.ConsumerGroup("group"), kgo.ConsumeTopics("plays"))
	fetches := c.PollFetches(ctx)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	if got := fetches.Records(); len(got) != 1 || string(got[0].Value) != "two" {
		t.Errorf("the group goes on with %v", got)
	}
}

// TestUnknownTopic must not create the topic.
func TestUnknownTopic(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := client(t, start(t, t.TempDir(), "127.0.0.1:0"), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(1))
	err := c.ProduceSync(ctx, &kgo.Record{Topic: "nosuch", Value: []byte("x")}).FirstErr()
	if !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("error is %v", err)
	}
}

// TestRetention deletes by size only, whatever time a message says it is of.
func TestRetention(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := client(t, start(t, t.TempDir(), "127.0.0.1:0"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	admin := kadm.NewClient(c)
	small := "1000"
	if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.bytes": &small}, "small"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateTopic(ctx, 1, 1, nil, "plays"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, topic := range []string{"plays", "small"} {
			record := &kgo.Record{Topic: topic, Value: make([]byte, 600), Timestamp: time.Now().Add(-8 * 24 * time.Hour)}
			if err := c.ProduceSync(ctx, record).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	first := func(topic string) int64 {
		starts, err := admin.ListStartOffsets(ctx, topic)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := starts.Lookup(topic, 0)
		return o.Offset
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for first("small") < 2 {
		select {
		case <-ctx.Done():
			t.Fatal("the log is larger than it may be")
		case <-tick.C:
		}
	}
	if first("plays") != 0 {
		t.Error("messages are deleted by the time they carry")
	}
}
