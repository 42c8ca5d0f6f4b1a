package topk

import (
	"fmt"
	"time"
)

// A Position names one message of Kafka for ever.
type Position struct {
	Source uint32 // epoch * 65536 + partition, as the log numbers them
	Topic  string // "" when the source is no topic that was ever read
	Offset uint64
}

// NewPosition names a message of the topic of an epoch.
func NewPosition(epoch uint16, topic string, partition int32, offset int64) Position {
	return Position{Source: uint32(epoch)<<16 | uint32(uint16(partition)), Topic: topic, Offset: uint64(offset)}
}

// BackfillSource is the source of all plays that were backfilled from files: no
// partition of any epoch that will ever be. Their offsets are a running number.
const BackfillSource uint32 = 1 << 31

// Epoch numbers the topics that were read, from 0: one that was deleted and
// made again is another one.
func (p Position) Epoch() uint16 { return uint16(p.Source >> 16) }

// EpochGroup is the consumer group that reads the topic of an epoch: the offsets
// of an earlier topic mean nothing in it. group is that of epoch 0.
func EpochGroup(group string, epoch uint16) string {
	if epoch == 0 {
		return group
	}
	return fmt.Sprintf("%s-%d", group, epoch)
}

// Partition is that of the topic.
func (p Position) Partition() int32 { return int32(p.Source & 0xffff) }

func (p Position) String() string {
	return fmt.Sprintf("topic %s, partition %d, offset %d", p.Topic, p.Partition(), p.Offset)
}

// An Arrival is a message, and when it came: when ClickHouse read it or, of one
// that it has not read yet, when Kafka took it.
type Arrival struct {
	Position
	At time.Time
}

// An EventState says what has become of an event.
type EventState string

const (
	EventUnknown  EventState = ""
	EventAccepted EventState = "accepted" // Kafka has it, ClickHouse has not read it yet
	EventCounted  EventState = "counted"
	EventStored   EventState = "stored" // in the log, but too short to count
	EventRejected EventState = "rejected"
)

// A StoredPlay is a play as the log has it. Its UserID is not given.
type StoredPlay struct {
	Arrival
	Play
	Segments []string // the user's when it came in
	Counted  bool
}

// A Repeat is a message whose event another one owns, which counts instead.
type Repeat struct {
	Arrival
	Owner Position
}

// An EventTrace is everything that is known of one event.
type EventTrace struct {
	EventID string
	State   EventState
	// Where the event is: the play in the log; else the first of Unread; else the
	// last rejection.
	Where Arrival
	Play  *StoredPlay // nil unless it is in the log
	// Repeats are the further messages of the event, which Where counts for.
	Repeats []Arrival
	// CountedAgain are messages that came when the event's id was forgotten,
	// after 48 hours, and count too.
	CountedAgain []Arrival
	Rejections   []Rejected // without their Raw
	Unread       []Arrival  // messages that ClickHouse has not read yet
	// Orphan owns the event's id, but is not in the log.
	Orphan *Position
	// Gaps are what could not be looked at, as sentences: what is missing here
	// may be there.
	Gaps []string
}

// EventIDOf gives the eventId of a message, "" when it has no valid one.
func EventIDOf(message []byte) string {
	raw, ok := splitPlay(message)
	if !ok || isAbsent(raw.eventID) || raw.eventID[0] != '"' {
		return ""
	}
	id := unquote(raw.eventID)
	if !IsEventID(id) {
		return ""
	}
	return id
}
