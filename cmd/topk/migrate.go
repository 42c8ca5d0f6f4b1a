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

type migrateCommand struct{ chainFlags }

func (c *migrateCommand) Validate() error { return c.chainFlags.check() }

func (c *migrateCommand) Run(ctx context.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, migrateTimeout)
	defer cancel()
	id, err := createTopic(ctx, c.KafkaBrokers, c.topicFlags)
	if err != nil {
		return err
	}
	if err := migrations.Up(ctx, c.ClickhouseURL, c.wiring(id)); err != nil {
		return err
	}
	log.Info("schema is up to date and plays flow", "topic", c.Topic)
	return nil
}

// createTopic makes the topic of plays unless it exists, and gives the id by
// which Kafka tells it from another of that name.
func createTopic(ctx context.Context, brokers []string, topic topicFlags) (id string, err error) {
	admin, err := kafkaAdmin(brokers)
	if err != nil {
		return "", err
	}
	defer admin.Close()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	created, err := admin.CreateTopic(ctx, topic.Partitions, topic.Replicas, nil, topic.Topic)
	switch {
	case err == nil:
		return created.ID.String(), nil
	case !errors.Is(err, kerr.TopicAlreadyExists):
		return "", fmt.Errorf("create topic %s at %v: %w", topic.Topic, brokers, err)
	}
	return topicID(ctx, admin, topic.Topic)
}

// topicID asks for the id of a topic that exists.
func topicID(ctx context.Context, admin *kadm.Client, topic string) (string, error) {
	topics, err := admin.ListTopics(ctx, topic)
	if err == nil {
		err = topics[topic].Err
	}
	if err != nil {
		return "", fmt.Errorf("ask Kafka for topic %s: %w", topic, err)
	}
	return topics[topic].ID.String(), nil
}

func kafkaAdmin(brokers []string) (*kadm.Client, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return nil, fmt.Errorf("connect to Kafka: %w", err)
	}
	return kadm.NewClient(client), nil
}
