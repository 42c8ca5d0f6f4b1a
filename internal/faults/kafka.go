package faults

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/internal/cache"
)

// brokerVersion is the Kafka that scripts/kafka.sh fetches.
const brokerVersion = "4.4.0"

// brokerAddrs are where a broker listens and what it tells each client to use,
// so that a proxy can stand between the two.
type brokerAddrs struct {
	controller, test              string
	gateway, clickhouse           string // listened on
	gatewayProxy, clickhouseProxy string // told
}

// realKafka gives the command of a Kafka broker on a directory, formatted when
// it is new.
func realKafka(dir string, at brokerAddrs) (Command, error) {
	cached, err := cache.Dir()
	if err != nil {
		return Command{}, err
	}
	libs := filepath.Join(cached, "kafka-"+brokerVersion, "libs")
	if _, err := os.Stat(libs); errors.Is(err, fs.ErrNotExist) {
		return Command{}, fmt.Errorf("no Kafka in %s: run scripts/kafka.sh", libs)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Command{}, err
	}
	config := filepath.Join(dir, "server.properties")
	text := strings.Join([]string{
		"process.roles=broker,controller",
		"node.id=1",
		"controller.quorum.voters=1@" + at.controller,
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=TEST",
		"listeners=CONTROLLER://" + at.controller + ",TEST://" + at.test + ",GATEWAY://" + at.gateway + ",CLICKHOUSE://" + at.clickhouse,
		"advertised.listeners=TEST://" + at.test + ",GATEWAY://" + at.gatewayProxy + ",CLICKHOUSE://" + at.clickhouseProxy,
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,TEST:PLAINTEXT,GATEWAY:PLAINTEXT,CLICKHOUSE:PLAINTEXT",
		"log.dirs=" + filepath.Join(dir, "log"),
		"offsets.topic.num.partitions=4",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
		"group.initial.rebalance.delay.ms=0",
		// A broker that was killed may register again as soon as its former self
		// is given up.
		"broker.heartbeat.interval.ms=200",
		"broker.session.timeout.ms=1000",
		"message.max.bytes=10485760",
		"auto.create.topics.enable=false",
	}, "\n")
	if err := os.WriteFile(config, []byte(text+"\n"), 0o600); err != nil {
		return Command{}, err
	}
	java := []string{"-Xms256m", "-Xmx512m", "-XX:+UseG1GC", "-cp", filepath.Join(libs, "*")}
	format := exec.Command("java", append(java, "kafka.tools.StorageTool", "format", "-t", "dG9way1mYXVsdHMtMDAwMQ", "-c", config)...)
	if out, err := format.CombinedOutput(); err != nil {
		return Command{}, fmt.Errorf("format the storage of Kafka: %w\n%s", err, out)
	}
	return Command{Path: "java", Args: append(java, "kafka.Kafka", config)}, nil
}

// kafkaAnswers asks the broker at an address for its topics.
func kafkaAnswers(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		client, err := kgo.NewClient(kgo.SeedBrokers(addr))
		if err != nil {
			return err
		}
		defer client.Close()
		_, err = kadm.NewClient(client).ListTopics(ctx)
		return err
	}
}
