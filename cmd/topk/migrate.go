package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk/migrations"
)

const migrateTimeout = 5 * time.Minute

type migrateCommand struct {
	topicFlags
	ruleFlags
	clickhouseFlags
	brokerFlags
	ClickhouseKafkaBrokers []string `help:"Kafka brokers as ClickHouse reaches them, when that differs." env:"TOPK_CLICKHOUSE_KAFKA_BROKERS"`
}

func (c *migrateCommand) Validate() error {
	return errors.Join(c.topicFlags.check(), c.ruleFlags.check(), c.clickhouseFlags.check(), c.brokerFlags.check())
}

func (c *migrateCommand) Run(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	if err := createTopic(ctx, c.KafkaBrokers, c.topicFlags); err != nil {
		return err
	}
	brokers := c.ClickhouseKafkaBrokers
	if len(brokers) == 0 {
		brokers = c.KafkaBrokers
	}
	if err := migrations.Up(ctx, c.ClickhouseURL, wiring(brokers, c.topicFlags, c.ruleFlags)); err != nil {
		return err
	}
	log.Info("schema is up to date and plays flow", "topic", c.Topic)
	return nil
}

// createTopic makes the topic of plays unless it exists.
func createTopic(ctx context.Context, brokers []string, topic topicFlags) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return fmt.Errorf("connect to Kafka: %w", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	_, err = kadm.NewClient(client).CreateTopic(ctx, topic.Partitions, topic.Replicas, nil, topic.Topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s at %v: %w", topic.Topic, brokers, err)
	}
	return nil
}
