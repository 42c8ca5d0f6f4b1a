package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

// unread is what ClickHouse has not read yet of each partition: the offsets
// from next on.
type unread struct {
	epoch queries.Epoch
	next  map[int32]int64
}

// unreadOf asks Kafka how far ClickHouse has come. The epoch is the last one
// that ClickHouse knows; nil when it cannot be asked.
func (f *Finder) unreadOf(ctx context.Context, epoch *queries.Epoch) (unread, error) {
	ctx, cancel := context.WithTimeout(ctx, f.limits.Kafka)
	defer cancel()
	topics, err := f.admin.ListTopics(ctx, f.topic)
	if err == nil {
		err = topics[f.topic].Err
	}
	if err != nil {
		return unread{}, fmt.Errorf("topic %s: %w", f.topic, err)
	}
	if epoch == nil {
		if epoch, err = f.guessEpoch(ctx); err != nil {
			return unread{}, err
		}
	}
	u := unread{epoch: *epoch, next: map[int32]int64{}}
	if id := topics[f.topic].ID.String(); epoch.Topic != f.topic || epoch.TopicID != "" && epoch.TopicID != id {
		// The topic was deleted and made again, or is another one, and the
		// offsets of the group are of the old one: all that is in it may be unread.
		u.epoch = queries.Epoch{Number: epoch.Number + 1, Topic: f.topic, TopicID: id}
	}
	starts, err := f.admin.ListStartOffsets(ctx, f.topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return unread{}, fmt.Errorf("start offsets of topic %s: %w", f.topic, err)
	}
	var committed kadm.OffsetResponses
	if u.epoch == *epoch {
		committed, err = f.admin.FetchOffsetsForTopics(ctx, topk.EpochGroup(f.group, epoch.Number), f.topic)
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // it has read nothing yet
			return unread{}, fmt.Errorf("offsets of group %s: %w", topk.EpochGroup(f.group, epoch.Number), err)
		}
	}
	starts.Each(func(start kadm.ListedOffset) {
		next := start.Offset
		if c, ok := committed.Lookup(f.topic, start.Partition); ok && c.Err == nil {
			next = max(next, c.At)
		}
		u.next[start.Partition] = next
	})
	return u, nil
}

// guessEpoch takes the number of the topic from the newest consumer group of
// our name: ClickHouse was never heard since this process started.
func (f *Finder) guessEpoch(ctx context.Context) (*queries.Epoch, error) {
	groups, err := f.admin.ListGroups(ctx)
	if err != nil {
		return nil, fmt.Errorf("consumer groups: %w", err)
	}
	epoch := queries.Epoch{Topic: f.topic}
	for _, name := range groups.Groups() {
		number, ok := strings.CutPrefix(name, f.group+"-")
		if n, err := strconv.ParseUint(number, 10, 16); ok && err == nil {
			epoch.Number = max(epoch.Number, uint16(n))
		}
	}
	return &epoch, nil
}

// errBound says that there are more unread messages than may be looked at.
var errBound = errors.New("too many messages are unread")

// search looks for the event among the unread messages, those that Kafka has
// when it begins. It gives what it found also beside an error, which is an
// errBound when a limit was reached.
func (f *Finder) search(ctx context.Context, eventID string, u unread) (found []topk.Arrival, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.limits.Search, errBound)
	defer cancel()
	if err := f.searching.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("wait for another search: %w", context.Cause(ctx))
	}
	defer f.searching.Release(1)
	// As ClickHouse does, without what transactions have not committed.
	ends, err := f.admin.ListCommittedOffsets(ctx, f.topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("end offsets of topic %s: %w", f.topic, err)
	}
	left := map[int32]int64{} // partitions that are not read through, and their ends
	from := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		if next := u.next[end.Partition]; next < end.Offset {
			left[end.Partition], from[end.Partition] = end.Offset, kgo.NewOffset().At(next)
		}
	})
	if len(left) == 0 {
		return nil, nil
	}
	consumer, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(f.brokers...),
		kgo.ClientID("topk-events"),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{f.topic: from}),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // one may be the last message of a partition
		kgo.FetchMaxBytes(searchFetchBytes),
		kgo.FetchMaxPartitionBytes(searchFetchBytes / 4),
		kgo.MaxConcurrentFetches(1),
	}, f.options...)...)
	if err != nil {
		return nil, fmt.Errorf("read topic %s: %w", f.topic, err)
	}
	defer consumer.Close()

	messages, bytes := 0, 0
	for len(left) > 0 {
		fetches := consumer.PollRecords(ctx, min(searchPollRecords, f.limits.Messages-messages))
		if ctx.Err() != nil {
			return found, fmt.Errorf("read topic %s: %w", f.topic, context.Cause(ctx))
		}
		if err := fetches.Err(); err != nil {
			return found, fmt.Errorf("read topic %s: %w", f.topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, open := left[r.Partition]
			if !open {
				return
			}
			if r.Offset >= end-1 {
				delete(left, r.Partition)
			}
			messages++
			bytes += len(r.Value)
			if r.Offset < end && !r.Attrs.IsControl() && len(found) <= f.limits.Listed && topk.EventIDOf(r.Value) == eventID {
				found = append(found, topk.Arrival{
					Position: topk.NewPosition(u.epoch.Number, u.epoch.Topic, r.Partition, r.Offset),
					At:       r.Timestamp.UTC(),
				})
			}
		})
		if len(left) > 0 && (messages >= f.limits.Messages || bytes >= f.limits.Bytes) {
			err = errBound
			break
		}
	}
	slices.SortFunc(found, func(a, b topk.Arrival) int { return a.At.Compare(b.At) })
	return found, err
}

// Bounds of what a search holds in memory.
const (
	searchFetchBytes  = 4 << 20
	searchPollRecords = 10_000
)
