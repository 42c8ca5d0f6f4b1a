package topk

import "time"

// A Rejected is a message that is not a play, kept to be corrected and sent
// again.
type Rejected struct {
	Arrival
	ProducedAt time.Time // as Kafka has it
	EventID    string    // "" when the message has no valid one
	Reason     string
	Raw        []byte    // as it was sent
	ReplayedAt time.Time // when it was sent again, corrected; zero when it was not
	// SentBefore says that its event was sent again once already, on behalf of
	// this message or of another: it was rejected again, or is a repeat.
	SentBefore bool
}

// A RejectedFilter chooses among rejected messages. The zero value of a field
// chooses all.
type RejectedFilter struct {
	From, To  time.Time // of arrival, half-open
	Reason    string    // part of it, upper or lower case
	Partition *int32
	EventID   string
	Replayed  *bool
}

// A RejectedCursor is the last message of a page, newest first, from where the
// next one goes on. The zero value stands before the first.
type RejectedCursor struct {
	At     time.Time // whole milliseconds
	Source uint32
	Offset uint64
}

// A RejectedPage is some of the rejected messages, newest first.
type RejectedPage struct {
	Messages []Rejected
	Next     *RejectedCursor // nil on the last page
}

// A ReasonCount is how many messages were rejected for a reason.
type ReasonCount struct {
	Reason   string
	Messages uint64
	Replayed uint64 // of them
}

// A ReplayedMessage notes that a rejected message was sent again.
type ReplayedMessage struct {
	Position        // of the rejected message
	EventID  string // of the play that was sent
}
