package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk/internal/tablelock"
)

// A Consumer is what ClickHouse says of its reading of the topic.
type Consumer struct {
	Topic, Group string
	Read         uint64 // messages, since its Kafka client was made
}

// ErrDetached: the queue was detached and is not attached again, as when a
// Revive was killed.
var ErrDetached = errors.New("the queue is detached")

// ConsumerOf asks the database of the URL.
func ConsumerOf(ctx context.Context, url string) (c Consumer, err error) {
	db, _, err := open(url)
	if err != nil {
		return Consumer{}, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.QueryRowContext(ctx, `
		SELECT
			extract(create_table_query, 'kafka_topic_list = \'([^\']*)\'') AS topic,
			extract(create_table_query, 'kafka_group_name = \'([^\']*)\'') AS consumerGroup,
			(SELECT sum(num_messages_read) FROM system.kafka_consumers WHERE database = currentDatabase() AND table = {queue:String})
		FROM system.tables
		WHERE database = currentDatabase() AND name = {queue:String}`,
		clickhouse.Named("queue", queue)).Scan(&c.Topic, &c.Group, &c.Read)
	if errors.Is(err, sql.ErrNoRows) {
		return Consumer{}, ErrDetached
	}
	if err != nil {
		return Consumer{}, fmt.Errorf("ask for the consumer: %w", err)
	}
	return c, nil
}

// Revive gives the queue a new Kafka client. Nothing is lost or counted twice by
// that: what was not committed is delivered again.
func Revive(ctx context.Context, url string) (err error) {
	db, options, err := open(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	lock, err := tablelock.Take(ctx, db, tablelock.Migrating)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx = lock.Context()

	attached, err := exists(ctx, db, options.Auth.Database, queue)
	if err != nil {
		return err
	}
	if attached {
		if _, err := db.ExecContext(ctx, "DETACH TABLE "+queue+" SYNC"); err != nil {
			return fmt.Errorf("detach the queue: %w", err)
		}
	}
	if _, err := db.ExecContext(ctx, "ATTACH TABLE IF NOT EXISTS "+queue); err != nil {
		return fmt.Errorf("attach the queue: %w", err)
	}
	return nil
}
