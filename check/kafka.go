package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

const (
	// kafkaTimeout bounds a question to Kafka.
	kafkaTimeout = 30 * time.Second
	// bucketSize is as in positions.sql.
	bucketSize = 65536
	// examined bounds the missing offsets of a partition that are looked up in
	// Kafka.
	examined = 10_000
)

// checkKafka accounts for every message that ClickHouse has read: it is a play,
// a repeat or a reject, or there is no message.
func (r *run) checkKafka(ctx context.Context) error {
	topic, err := r.consumer(ctx)
	if err != nil {
		return err
	}
	// In this order, so that what is read later includes what was read before:
	// ClickHouse commits an offset after its rows are written, and has rows only
	// of messages that Kafka has.
	partitions, err := r.committed(ctx, topic)
	if err != nil {
		return err
	}
	found, err := r.account(ctx, partitions, r.since)
	if err != nil {
		return err
	}
	for i := range partitions {
		p := &partitions[i]
		lost, err := r.missing(ctx, p, found[p.Source], r.since)
		if err != nil {
			return err
		}
		for _, offset := range lost[:min(len(lost), listed)] {
			r.differs(p.where(), "the message at offset %d is in no table", offset)
		}
		r.progress(i+1, len(partitions))
	}
	if err := r.ends(ctx, partitions); err != nil {
		return err
	}
	r.report.Kafka.Partitions = partitions
	for _, p := range partitions {
		if p.Lost > 0 {
			r.differs(p.where(), "%d messages are neither plays nor repeats nor rejects", p.Lost)
		}
		if p.End >= 0 && p.Next > uint64(p.End) {
			r.differs(p.where(), "the log has plays up to offset %d, and Kafka ends at %d: messages that Kafka had acknowledged are gone from it", p.Next, p.End)
		}
		if p.Unknown > 0 {
			r.note("%s: %d offsets are in no table, and Kafka could not be asked what they were (its retention, or more than %d of them)", p.where(), p.Unknown, examined)
		}
	}
	return nil
}

// consumer asks ClickHouse which topic it reads, and makes sure that Kafka has
// that one and no other of its name.
func (r *run) consumer(ctx context.Context) (kadm.TopicDetail, error) {
	k := &r.report.Kafka
	var id string
	if err := r.query(ctx, "consumer.sql", nil, nil, func(rows *sql.Rows) error {
		return rows.Scan(&k.Topic, &k.Group, &k.Epoch, &id)
	}); err != nil {
		return kadm.TopicDetail{}, err
	}
	if k.Topic == "" {
		return kadm.TopicDetail{}, errors.New("ClickHouse does not read from Kafka: run topk migrate")
	}
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	topics, err := kadm.NewClient(r.kafka).ListTopics(ctx, k.Topic)
	if err != nil {
		return kadm.TopicDetail{}, fmt.Errorf("%w: Kafka: %w", topk.ErrUnavailable, err)
	}
	topic := topics[k.Topic]
	if topic.Err != nil {
		return kadm.TopicDetail{}, fmt.Errorf("topic %s: %w", k.Topic, topic.Err)
	}
	if id != "" && id != topic.ID.String() {
		return kadm.TopicDetail{}, fmt.Errorf("topic %s was deleted and made again, and ClickHouse does not read the new one yet: run topk migrate", k.Topic)
	}
	return topic, nil
}

// committed lists the topic's partitions and how far ClickHouse has come.
func (r *run) committed(ctx context.Context, topic kadm.TopicDetail) ([]Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	admin := kadm.NewClient(r.kafka)
	offsets, err := admin.FetchOffsets(ctx, r.report.Kafka.Group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // nothing has been read yet
		return nil, fmt.Errorf("offsets of group %s: %w", r.report.Kafka.Group, err)
	}
	starts, err := admin.ListStartOffsets(ctx, topic.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("start offsets: %w", err)
	}
	var partitions []Partition
	for _, p := range topic.Partitions.Sorted() {
		start, _ := starts.Lookup(topic.Topic, p.Partition)
		next := Partition{
			Partition: p.Partition,
			Source:    uint32(r.report.Kafka.Epoch)<<16 + uint32(p.Partition),
			Start:     start.Offset,
			Committed: start.Offset,
		}
		if offset, ok := offsets.Lookup(topic.Topic, p.Partition); ok && offset.At >= 0 {
			next.Committed = offset.At
		}
		partitions = append(partitions, next)
	}
	return partitions, nil
}

func (p Partition) where() string {
	return fmt.Sprintf("partition %d (source %d)", p.Partition, p.Source)
}

func (r *run) ends(ctx context.Context, partitions []Partition) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	ends, err := kadm.NewClient(r.kafka).ListEndOffsets(ctx, r.report.Kafka.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("end offsets: %w", err)
	}
	for i := range partitions {
		p := &partitions[i]
		end, _ := ends.Lookup(r.report.Kafka.Topic, p.Partition)
		p.End, p.Lag = end.Offset, end.Offset-p.Committed
	}
	return nil
}

// buckets are how many of a source's offsets were found, by bucket.
type buckets map[uint64]uint64

// account counts, for each partition, the offsets that are somewhere of those
// that came in since then.
func (r *run) account(ctx context.Context, partitions []Partition, since time.Time) (map[uint32]buckets, error) {
	bySource := make(map[uint32]*Partition, len(partitions))
	for i := range partitions {
		p := &partitions[i]
		// A source that ClickHouse has nothing of at all is asked of Kafka.
		p.From = uint64(max(p.Start, 0))
		bySource[p.Source] = p
	}
	srcs := make([]uint32, 0, len(bySource))
	for src := range bySource {
		srcs = append(srcs, src)
	}
	if err := r.query(ctx, "sources.sql", nil, []any{sqlfile.Instant("since", since), clickhouse.Named("srcs", srcs)}, func(rows *sql.Rows) error {
		var src uint32
		var next, from uint64
		if err := rows.Scan(&src, &next, &from); err != nil {
			return err
		}
		bySource[src].Next, bySource[src].From = next, from
		return nil
	}); err != nil {
		return nil, err
	}
	from, to := topk.Watermark{}, topk.Watermark{}
	for src, p := range bySource {
		from[src], to[src] = p.From, uint64(max(p.Committed, 0))
	}
	args := append(watermarkArgs("srcs", "froms", from), watermarkArgs("srcs", "tos", to)[1], sqlfile.Instant("since", since))
	found := map[uint32]buckets{}
	err := r.query(ctx, "positions.sql", nil, args, func(rows *sql.Rows) error {
		var src uint32
		var bucket, accounted, plays, rejects uint64
		if err := rows.Scan(&src, &bucket, &accounted, &plays, &rejects); err != nil {
			return err
		}
		if found[src] == nil {
			found[src] = buckets{}
		}
		found[src][bucket] = accounted
		p := bySource[src]
		p.Plays, p.Rejects = p.Plays+plays, p.Rejects+rejects
		p.Repeats += accounted - min(accounted, plays+rejects)
		return nil
	})
	return found, err
}

// missing looks for the offsets that were not found, first by position, then in
// Kafka, and gives those of messages that came in since then.
func (r *run) missing(ctx context.Context, p *Partition, found buckets, since time.Time) (lost []uint64, err error) {
	to := uint64(max(p.Committed, 0))
	var absent []uint64
	for bucket := p.From / bucketSize; bucket*bucketSize < to; bucket++ {
		first, last := max(p.From, bucket*bucketSize), min(to, (bucket+1)*bucketSize)
		if last <= first || found[bucket] == last-first {
			continue
		}
		if len(absent) >= examined {
			p.Unknown += last - first - found[bucket]
			continue
		}
		if err := r.query(ctx, "missing.sql", nil, []any{
			clickhouse.Named("src", p.Source), clickhouse.Named("from", first), clickhouse.Named("to", last),
			clickhouse.Named("limit", uint32(bucketSize)),
		}, func(rows *sql.Rows) error {
			var offset uint64
			if err := rows.Scan(&offset); err != nil {
				return err
			}
			switch {
			case int64(offset) < p.Start || len(absent) >= examined:
				p.Unknown++
			default:
				absent = append(absent, offset)
			}
			return nil
		}); err != nil {
			return nil, err
		}
	}
	if len(absent) == 0 {
		return nil, nil
	}
	if lost, err = r.messages(ctx, p.Partition, absent, since); err != nil {
		return nil, fmt.Errorf("read partition %d from Kafka: %w", p.Partition, err)
	}
	p.Lost = uint64(len(lost))
	p.Empty = uint64(len(absent)) - p.Lost
	return lost, nil
}

// messages gives those of the offsets, which ascend, where Kafka has a message
// with content that came in since then.
func (r *run) messages(ctx context.Context, partition int32, offsets []uint64, since time.Time) (withContent []uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	topic := r.report.Kafka.Topic
	first := int64(offsets[0])
	client, err := kgo.NewClient(
		kgo.SeedBrokers(r.KafkaBrokers...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(first)}}),
		// As ClickHouse's consumer: what was aborted is no message. Markers of
		// transactions are asked for to see that there is nothing else.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(4<<20),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	wanted := offsets
	for len(wanted) > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, err
		}
		for _, e := range fetches.Errors() {
			return nil, e.Err
		}
		reached := int64(-1)
		fetches.EachRecord(func(record *kgo.Record) {
			reached = record.Offset
			for len(wanted) > 0 && int64(wanted[0]) < record.Offset { // there is no such record
				wanted = wanted[1:]
			}
			if len(wanted) == 0 || int64(wanted[0]) != record.Offset {
				return
			}
			if !record.Attrs.IsControl() && len(record.Value) > 0 && !record.Timestamp.Before(since) {
				withContent = append(withContent, wanted[0])
			}
			wanted = wanted[1:]
		})
		// The next one may be far away.
		if len(wanted) > 0 && int64(wanted[0])-reached > bucketSize {
			client.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {partition: {Epoch: -1, Offset: int64(wanted[0])}}})
		}
	}
	return slices.Clip(withContent), nil
}
