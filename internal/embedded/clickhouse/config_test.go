package clickhouse_test

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestServerSettings looks whether the configuration is taken at all.
func TestServerSettings(t *testing.T) {
	got := post(t, "", "SELECT name, value FROM system.server_settings WHERE changed ORDER BY name FORMAT TSV")
	for _, want := range []string{
		"background_pool_size\t4\n", "background_schedule_pool_size\t16\n", "max_thread_pool_size\t1000\n",
		"max_server_memory_usage_to_ram_ratio\t0.7\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

// TestRocksDBOptions reads the options a table was made with.
func TestRocksDBOptions(t *testing.T) {
	post(t, "", "CREATE TABLE rocks (k UInt64, v UInt32) ENGINE = EmbeddedRocksDB(3600) PRIMARY KEY k")
	defer post(t, "", "DROP TABLE rocks SYNC")
	var options string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(e.Name(), "OPTIONS-") {
			text, err := os.ReadFile(path)
			options = string(text)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(options, "filter_policy=bloomfilter:10:false") || !strings.Contains(options, "ttl=3600") {
		t.Errorf("options are\n%s", options)
	}
}

// TestKafkaSettings looks at a consumer from the broker's side: how it joins,
// and how soon it sees a new partition.
func TestKafkaSettings(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "grown"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	joined := make(chan *kmsg.JoinGroupRequest, 100)
	cluster.ControlKey(int16(kmsg.JoinGroup), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case joined <- r.(*kmsg.JoinGroupRequest):
		default:
		}
		return nil, nil, false
	})
	name := database(t)
	in := "database=" + name
	post(t, in, "CREATE TABLE read (n UInt64) ENGINE = MergeTree ORDER BY n")
	post(t, in, "CREATE TABLE queue (n UInt64) ENGINE = Kafka SETTINGS kafka_broker_list = '"+cluster.ListenAddrs()[0]+
		"', kafka_topic_list = 'grown', kafka_group_name = 'g', kafka_format = 'JSONEachRow',"+
		" kafka_flush_interval_ms = 250, kafka_poll_timeout_ms = 50")
	post(t, in, "CREATE MATERIALIZED VIEW reader TO read AS SELECT n FROM queue")
	select {
	case r := <-joined:
		if r.SessionTimeoutMillis != 6000 || r.InstanceID == nil || !strings.HasPrefix(*r.InstanceID, "topk-") {
			t.Errorf("joined as %v with a session of %d ms", r.InstanceID, r.SessionTimeoutMillis)
		}
	case <-ctx.Done():
		t.Fatal("no consumer joined")
	}

	// Each time with a client that knows the partitions of now.
	newClient := func() *kgo.Client {
		t.Helper()
		client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err != nil {
			t.Fatal(err)
		}
		return client
	}
	produce := func(partition int32) {
		t.Helper()
		client := newClient()
		defer client.Close()
		r := &kgo.Record{Topic: "grown", Partition: partition, Value: []byte(`{"n":1}`)}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(want string) func() bool {
		return func() bool { return post(t, in, "SELECT count() FROM read") == want }
	}
	produce(0)
	waitFor(t, "the first message", rows("1\n"))
	client := newClient()
	defer client.Close()
	if _, err := kadm.NewClient(client).CreatePartitions(ctx, 1, "grown"); err != nil {
		t.Fatal(err)
	}
	produce(1)
	waitFor(t, "the message of the new partition", rows("2\n"))
}
