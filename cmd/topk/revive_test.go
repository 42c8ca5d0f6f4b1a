package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/internal/faults"
)

// ClickHouse's Kafka client ends for good when it is taken for its own double,
// as happens when a broker is killed while it rejoins. It gets another one.
func TestConsumerIsRevived(t *testing.T) {
	s := newSiege(t, faults.Config{RealKafka: true})
	s.underFire(func(*rand.Rand) {
		s.await("plays are read", func() error { return s.differs("SELECT count() FROM plays", "0") })
		groups, err := kadm.NewClient(s.kafka).DescribeGroups(t.Context(), "topk-plays")
		if err != nil || len(groups["topk-plays"].Members) != 1 || groups["topk-plays"].Members[0].InstanceID == nil {
			t.Fatalf("ClickHouse is no static member: %+v, %v", groups, err)
		}
		double, err := kgo.NewClient(kgo.SeedBrokers(s.Broker), kgo.ConsumerGroup("topk-plays"), kgo.ConsumeTopics("plays"),
			kgo.InstanceID(*groups["topk-plays"].Members[0].InstanceID), kgo.SessionTimeout(6*time.Second),
			kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit())
		if err != nil {
			t.Fatal(err)
		}
		joined, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if fetches := double.PollRecords(joined, 1); fetches.NumRecords() == 0 {
			t.Errorf("the double got no partition: %v", fetches.Err0())
		}
		s.await("ClickHouse's client is dead", func() error {
			return s.differs("SELECT countIf(arrayExists(text -> text LIKE '%Fatal error%', exceptions.text)) FROM system.kafka_consumers", "0")
		})
		double.Close()
		read := s.value("SELECT count() FROM plays")
		start := time.Now()
		s.await("plays are read again", func() error { return s.differs("SELECT count() FROM plays", read) })
		s.note("revived after %s", time.Since(start).Round(time.Second))
	})
	s.verdict()
}

// differs is an error while the statement gives the value.
func (s *siege) differs(sql, value string) error {
	got, err := s.query(sql)
	if err == nil && got == value {
		err = errors.New("it is still " + value)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	return nil
}
