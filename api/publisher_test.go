package api_test

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
)

func newPublisher(t *testing.T, brokers ...string) *api.Publisher {
	t.Helper()
	p, err := api.NewPublisher(api.PublisherConfig{Brokers: brokers, Topic: ingestTopic, Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func hashedPlays(ids ...string) []topk.Play {
	var plays []topk.Play
	for _, id := range ids {
		plays = append(plays, topk.Play{
			EventID: id, UserID: topk.HashUser([]byte(ingestPepper), "u"), SongID: "s", ArtistID: "a", Timestamp: ingestNow,
		})
	}
	return plays
}

func TestPublisherGivesAResultPerPlay(t *testing.T) {
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	broker := startBroker(t, t.TempDir(), 0)
	p := newPublisher(t, broker.ListenAddrs()...)
	if err := p.Ping(t.Context()); err != nil {
		t.Errorf("ping: %v", err)
	}
	for _, ids := range [][]string{nil, {"e-1"}, {"e-1", "e-2", "e-1"}} {
		errs := p.Publish(t.Context(), hashedPlays(ids...))
		if len(errs) != len(ids) {
			t.Errorf("%d results for %d plays", len(errs), len(ids))
		}
		if err := errors.Join(errs...); err != nil {
			t.Error(err)
		}
	}
}

func TestPublisherThatIsClosed(t *testing.T) {
	broker := startBroker(t, t.TempDir(), 0)
	p := newPublisher(t, broker.ListenAddrs()...)
	p.Close()
	for _, err := range p.Publish(t.Context(), hashedPlays("e-1", "e-2")) {
		if !errors.Is(err, topk.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
}

func TestPublisherWithoutKafka(t *testing.T) {
	p := newPublisher(t, "127.0.0.1:1")
	for _, err := range p.Publish(t.Context(), hashedPlays("e-1")) {
		if !errors.Is(err, topk.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if err := p.Ping(t.Context()); !errors.Is(err, topk.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
}

func TestPublisherWithoutItsTopic(t *testing.T) {
	broker := startBroker(t, t.TempDir(), 0)
	p, err := api.NewPublisher(api.PublisherConfig{Brokers: broker.ListenAddrs(), Topic: "no-such-topic", Timeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, err := range p.Publish(t.Context(), hashedPlays("e-1")) {
		if !errors.Is(err, topk.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
}

// After the topic was deleted and made again, plays are acknowledged again, and
// are where they were acknowledged.
func TestPublisherOutlivesItsTopic(t *testing.T) {
	broker := startBroker(t, t.TempDir(), 0)
	p := newPublisher(t, broker.ListenAddrs()...)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	for _, id := range []string{"e-1", "e-2", "e-3"} {
		if err := errors.Join(p.Publish(t.Context(), hashedPlays(id))...); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := admin.DeleteTopic(t.Context(), ingestTopic); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Publish(t.Context(), hashedPlays("e-4"))...); !errors.Is(err, topk.ErrUnavailable) {
		t.Errorf("without the topic: %v", err)
	}
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, ingestTopic); err != nil {
		t.Fatal(err)
	}
	acknowledged := 0
	for deadline := time.Now().Add(time.Minute); acknowledged < 3; {
		if err := errors.Join(p.Publish(t.Context(), hashedPlays("e-5"))...); err == nil {
			acknowledged++
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	ends, err := admin.ListEndOffsets(t.Context(), ingestTopic)
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup(ingestTopic, 0); end.Offset < int64(acknowledged) {
		t.Errorf("%d plays were acknowledged and the topic has %d", acknowledged, end.Offset)
	}
}

func TestNewPublisherRefusesBadConfigs(t *testing.T) {
	for _, cfg := range []api.PublisherConfig{
		{Topic: ingestTopic},
		{Brokers: []string{"127.0.0.1:1"}},
		{Brokers: []string{"127.0.0.1:1"}, Topic: ingestTopic, Options: []kgo.Opt{kgo.ProducerLinger(time.Hour)}},
	} {
		if p, err := api.NewPublisher(cfg); err == nil {
			p.Close()
			t.Errorf("%+v was taken", cfg)
		}
	}
}
