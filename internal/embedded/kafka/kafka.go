// Package kafka runs a Kafka broker inside this process: franz-go's kfake with
// its log on disk, synced before a produce is acknowledged.
package kafka

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Config says where the broker keeps its log.
type Config struct {
	Dir      string
	Listener net.Listener // taken over; its address is the one advertised
	Log      *slog.Logger
	// RetentionCheck is how often what is beyond the retention of a topic is
	// deleted; a minute by default.
	RetentionCheck time.Duration
}

// maxPartitionBytes is what a partition keeps, 4 GiB: more than ten million
// plays. ClickHouse has read them long before they go.
const maxPartitionBytes = "4294967296"

// Broker is a cluster of one. Topics are created by clients that ask for it
// (CreateTopics), not by producing to a name.
type Broker struct {
	cluster *kfake.Cluster
	running sync.WaitGroup
	closing chan struct{}
	close   sync.Once
}

// Start loads the log and serves it.
func Start(cfg Config) (*Broker, error) {
	handedOver := false
	cluster, err := kfake.NewCluster(
		kfake.NumBrokers(1),
		kfake.ClusterID("topk-embedded"),
		kfake.DataDir(cfg.Dir),
		// Without it a power cut could lose plays that were answered with 202.
		kfake.SyncWrites(),
		kfake.DefaultNumPartitions(4),
		kfake.BrokerConfigs(map[string]string{
			"log.retention.bytes": maxPartitionBytes,
			// Not by time: kfake deletes up to the last batch that is too old
			// by the times that producers gave, so that one message about last
			// week would take all before it along.
			"log.retention.ms": "-1",
		}),
		kfake.WithLogger(logger{cfg.Log}),
		kfake.ListenFn(func(string, string) (net.Listener, error) {
			handedOver = true
			return cfg.Listener, nil
		}),
	)
	if err != nil {
		if !handedOver {
			_ = cfg.Listener.Close()
		}
		return nil, fmt.Errorf("start Kafka on %s: %w", cfg.Dir, err)
	}
	if cfg.RetentionCheck <= 0 {
		cfg.RetentionCheck = time.Minute
	}
	b := &Broker{cluster: cluster, closing: make(chan struct{})}
	b.running.Go(func() { b.retain(cfg.RetentionCheck) })
	return b, nil
}

// retain deletes the oldest messages. By itself kfake does so only once some
// topic is created with a retention of its own, and once an hour.
func (b *Broker) retain(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-b.closing:
			return
		case <-tick.C:
			b.cluster.ApplyRetention()
		}
	}
}

// Addrs are the brokers for a client to start with.
func (b *Broker) Addrs() []string { return b.cluster.ListenAddrs() }

// Close writes what is not on disk yet and stops.
func (b *Broker) Close() {
	b.close.Do(func() {
		close(b.closing)
		b.running.Wait()
		b.cluster.Close()
	})
}

// logger passes kfake's messages on.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	if l.log == nil {
		return
	}
	message := fmt.Sprintf(format, args...)
	switch level {
	case kfake.LogLevelError:
		l.log.Error(message)
	case kfake.LogLevelWarn:
		l.log.Warn(message)
	default:
		l.log.Debug(message)
	}
}
