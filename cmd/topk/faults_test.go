package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/internal/faults"
)

var (
	faultKills  = flag.Int("faults.kills", 12, "processes killed by the fault test")
	faultOutage = flag.Duration("faults.outage", 20*time.Second, "how long ClickHouse is down in the outage test")
	faultSeed   = flag.Uint64("faults.seed", 0, "repeats the plan of an earlier run of the fault tests; 0 makes a new one")
)

// Whatever is killed and however bad the network is, every acknowledged play is
// counted once, in every chart it belongs to, and nothing else is.
func TestFaults(t *testing.T) {
	s := newSiege(t, faults.Config{RealKafka: true})
	s.underFire(func(r *rand.Rand) {
		killed := 0
		for step := 0; killed < *faultKills; step++ {
			pause(t.Context(), time.Duration(200+r.IntN(1200))*time.Millisecond)
			if step%4 == 3 {
				s.disturb(r)
				continue
			}
			victims := []*faults.Process{s.Processes()[killed%len(s.Processes())]}
			if r.IntN(6) == 0 { // two at once
				if other := s.Processes()[r.IntN(len(s.Processes()))]; other != victims[0] {
					victims = append(victims, other)
				}
			}
			for _, p := range victims {
				s.note("kill %d: %s", killed+1, p.Name)
				p.Kill()
				killed++
			}
			pause(t.Context(), time.Duration(r.IntN(500))*time.Millisecond)
			for _, p := range victims {
				if err := p.Start(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	s.verdict()
	if s.recounted == 0 {
		t.Error("no snapshot was recounted while processes were killed")
	}
}

// eager are charts that have snapshots.
var eager = []string{"global", "region:IN", "genre:pop", "segment:free", "device:mobile"}

// While ClickHouse is down, plays are acknowledged and charts are served with
// their age, also by an API that was started meanwhile; and what was sent counts
// once it is back.
func TestOutageOfClickHouse(t *testing.T) {
	s := newSiege(t, faults.Config{RealKafka: true})
	s.underFire(func(r *rand.Rand) {
		s.await("there are snapshots", func() error {
			return s.served(func(c served) bool { return c.Source == "snapshot" && c.TotalPlays > 0 })
		})
		s.note("ClickHouse is down for %s", *faultOutage)
		down := time.Now()
		s.ClickHouse.Kill()
		restarted := false
		for time.Since(down) < *faultOutage {
			if err := s.served(func(c served) bool { return c.AsOf.Before(down.Add(time.Second)) }); err != nil {
				t.Errorf("%s into the outage: %v", time.Since(down).Round(time.Second), err)
				return
			}
			if !restarted && time.Since(down) > *faultOutage/2 {
				restarted = true
				s.Serve.Kill()
				if err := s.Serve.Start(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
			pause(t.Context(), 200*time.Millisecond)
		}
		before := s.count()
		s.await("plays are acknowledged", func() error {
			if s.count() == before {
				return errors.New("none was")
			}
			return nil
		})
		if err := s.served(func(c served) bool { return c.Stale && c.AsOf.Before(down.Add(time.Second)) }); err != nil {
			t.Errorf("at the end of the outage: %v", err)
		}
		s.note("ClickHouse comes back")
		if err := s.ClickHouse.Start(t.Context()); err != nil {
			t.Error(err)
		}
	})
	s.verdict()
}

// served asks for eager charts, each of which must be there and as said.
func (s *siege) served(as func(served) bool) error {
	api := &system{t: s.T, url: s.URL}
	for _, dim := range eager {
		for _, window := range []string{"1h", "24h", "7d", "all"} {
			chart, err := api.top(url.Values{"dim": {dim}, "window": {window}})
			if err != nil {
				return err
			}
			if !as(chart) {
				return fmt.Errorf("%s %s: as of %s from %s, stale: %v", dim, window, chart.AsOf, chart.Source, chart.Stale)
			}
		}
	}
	return nil
}

// The consumer comes back within seconds, finds new partitions, lives with
// others in its group, and waits for a broker that is not there yet.
func TestConsumer(t *testing.T) {
	s := newSiege(t, faults.Config{RealKafka: true})
	admin := kadm.NewClient(s.kafka)
	inLog := func() string { return s.value("SELECT count() FROM plays") }
	reads := func(within time.Duration) {
		t.Helper()
		start, before := time.Now(), inLog()
		s.await("plays are read", func() error {
			if n, err := s.query("SELECT count() FROM plays"); err != nil || n == before {
				return fmt.Errorf("none: %w", err)
			}
			return nil
		})
		took := time.Since(start)
		s.note("reading again after %s", took.Round(10*time.Millisecond))
		if took > within {
			t.Errorf("reads again after %s, which is not within %s", took, within)
		}
	}
	s.underFire(func(*rand.Rand) {
		reads(settleTimeout())
		s.note("ClickHouse is killed")
		s.ClickHouse.Kill()
		if err := s.ClickHouse.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		// A member that is not static would be kept out for the session timeout of
		// the dead one, 45 s by default.
		reads(15 * time.Second)

		s.note("4 partitions become 8")
		if _, err := admin.UpdatePartitions(t.Context(), 8, "plays"); err != nil {
			t.Fatal(err)
		}
		first := &kgo.Record{Partition: 7, Value: []byte(`{"empty":"as good as"}`)}
		s.await("the producer knows", func() error {
			s.kafka.ForceMetadataRefresh()
			return s.kafka.ProduceSync(t.Context(), first).FirstErr()
		})
		s.mu.Lock()
		s.rejects[string(first.Value)] = place(first)
		s.mu.Unlock()
		s.width.Store(8)
		s.await("new partitions are read", func() error {
			if n, err := s.query("SELECT uniqExact(src) FROM plays_duplicates"); err != nil || n != "8" {
				return fmt.Errorf("%s partitions: %w", n, err)
			}
			return nil
		})

		s.note("somebody else joins the group, and leaves")
		intruder, err := kgo.NewClient(kgo.SeedBrokers(s.Broker), kgo.ConsumerGroup("topk-plays"), kgo.ConsumeTopics("plays"),
			kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit())
		if err != nil {
			t.Fatal(err)
		}
		joined, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if fetches := intruder.PollRecords(joined, 100); fetches.NumRecords() == 0 {
			t.Errorf("the intruder got no partition: %v", fetches.Err0())
		}
		intruder.Close()
		reads(settleTimeout())

		s.note("ClickHouse and the gateway start without a broker")
		for _, p := range []*faults.Process{s.Kafka, s.ClickHouse, s.Serve} {
			p.Kill()
		}
		for _, p := range []*faults.Process{s.ClickHouse, s.Serve, s.Kafka} {
			if err := p.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		reads(settleTimeout())
	})
	s.verdict()
}

// A topic that is deleted and made again while plays are being sent.
func TestConsumerOfATopicMadeAgain(t *testing.T) {
	s := newSiege(t, faults.Config{RealKafka: true})
	s.underFire(func(*rand.Rand) { pause(t.Context(), 3*time.Second) })
	s.awaitRead()
	if _, err := kadm.NewClient(s.kafka).DeleteTopic(t.Context(), "plays"); err != nil {
		t.Fatal(err)
	}
	s.await("the topic is made again", func() error {
		_, err := s.System.Run(t.Context(), nil, append([]string{"migrate"}, s.ChainFlags()...)...)
		return err
	})
	s.epoch++
	s.mu.Lock()
	s.empty = 0
	s.mu.Unlock()
	s.kafka.PurgeTopicsFromProducing("plays")
	s.underFire(func(*rand.Rand) { pause(t.Context(), 3*time.Second) })
	s.verdict()
}

// disturb makes trouble on one link for a while.
func (s *siege) disturb(r *rand.Rand) {
	pair, trouble := s.Pairs()[r.IntN(len(s.Pairs()))], faults.Troubles[r.IntN(len(faults.Troubles))]
	s.note("%s is %s", pair, trouble.Name)
	mend, err := s.Disturb(pair, trouble)
	if err != nil {
		s.Error(err)
		return
	}
	pause(s.Context(), time.Duration(500+r.IntN(2500))*time.Millisecond)
	if err := mend(); err != nil {
		s.Error(err)
	}
}
