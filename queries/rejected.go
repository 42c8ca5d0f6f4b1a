package queries

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

const (
	// pageBytes bounds the messages of one page, unless the first alone is longer.
	pageBytes = 8 << 20
	// maxReasons bounds the reasons that are counted apart.
	maxReasons = 100
)

// Rejected gives at most limit rejected messages after a cursor, newest first.
// A page also ends when its messages grow long.
func (db *DB) Rejected(ctx context.Context, f topk.RejectedFilter, after topk.RejectedCursor, limit int) (topk.RejectedPage, error) {
	c, args := rejectedClauses(f)
	c.After = after != topk.RejectedCursor{}
	if c.After {
		args = append(args, sqlfile.Instant("afterAt", after.At), clickhouse.Named("afterSource", after.Source), clickhouse.Named("afterOffset", after.Offset))
	}
	var page topk.RejectedPage
	var positions []topk.Position
	var last topk.RejectedCursor
	var bytes uint64
	full := false
	err := db.ask(ctx, "rejected_page.sql", c, append(args, clickhouse.Named("limit", uint32(limit+1))), func(rows driver.Rows) error {
		var next topk.RejectedCursor
		var size uint64
		if err := rows.Scan(&next.Source, &next.Offset, &next.At, &size); err != nil {
			return err
		}
		bytes += size
		if full = full || len(positions) == limit || len(positions) > 0 && bytes > pageBytes; !full {
			positions, last = append(positions, topk.Position{Source: next.Source, Offset: next.Offset}), next
		}
		return nil
	})
	if err == nil {
		page.Messages, err = db.RejectedAt(ctx, positions)
	}
	if err != nil {
		return topk.RejectedPage{}, fmt.Errorf("rejected messages: %w", err)
	}
	if full {
		page.Next = &last
	}
	return page, nil
}

// RejectedReasons counts the rejected messages by reason, the most frequent
// reasons first.
func (db *DB) RejectedReasons(ctx context.Context, f topk.RejectedFilter) ([]topk.ReasonCount, error) {
	c, args := rejectedClauses(f)
	reasons := []topk.ReasonCount{}
	err := db.ask(ctx, "rejected_reasons.sql", c, append(args, clickhouse.Named("limit", uint32(maxReasons))), func(rows driver.Rows) error {
		var r topk.ReasonCount
		err := rows.Scan(&r.Reason, &r.Messages, &r.Replayed)
		reasons = append(reasons, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reasons of rejected messages: %w", err)
	}
	return reasons, nil
}

// RejectedAt gives the rejected messages at the positions, newest first; where
// there is none, none.
func (db *DB) RejectedAt(ctx context.Context, positions []topk.Position) ([]topk.Rejected, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return db.rejected(ctx, rejectedChoice{Raw: true}, append(positionArgs(positions), clickhouse.Named("limit", uint32(len(positions)))))
}

// Rejections gives the last messages of an event that were rejected, newest
// first, without their bytes.
func (db *DB) Rejections(ctx context.Context, eventID string, limit int) ([]topk.Rejected, error) {
	return db.rejected(ctx, rejectedChoice{Event: true}, []any{clickhouse.Named("event", eventID), clickhouse.Named("limit", uint32(limit))})
}

// rejectedChoice is what rejected.sql chooses its clauses by.
type rejectedChoice struct{ Event, Raw bool }

func (db *DB) rejected(ctx context.Context, choice rejectedChoice, args []any) ([]topk.Rejected, error) {
	var messages []topk.Rejected
	err := db.ask(ctx, "rejected.sql", choice, args, func(rows driver.Rows) error {
		var m topk.Rejected
		var raw string
		if err := rows.Scan(&m.Source, &m.Offset, &m.At, &m.Topic, &m.ProducedAt, &m.EventID, &m.Reason, &raw,
			&m.ReplayedAt, &m.SentBefore); err != nil {
			return err
		}
		m.Raw = []byte(raw)
		if m.ReplayedAt.Unix() == 0 { // the join found none
			m.ReplayedAt = time.Time{}
		}
		// The chain keeps what stands there, valid or not.
		if !topk.IsEventID(m.EventID) {
			m.EventID = ""
		}
		messages = append(messages, m)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("rejected messages: %w", err)
	}
	return messages, nil
}

// MarkReplayed notes rejected messages that were sent again.
func (db *DB) MarkReplayed(ctx context.Context, messages []topk.ReplayedMessage) error {
	err := db.insert(ctx, "INSERT INTO rejected_replays (src, koff, eventId)", len(messages), func(i int) []any {
		m := messages[i]
		return []any{m.Source, m.Offset, m.EventID}
	})
	if err != nil {
		return fmt.Errorf("note %d replayed messages: %w", len(messages), err)
	}
	return nil
}

// filterClauses is what rejected_page.sql chooses its clauses by.
type filterClauses struct {
	From, To, Reason, Partition, Event, After bool
	Replayed                                  string // IN, NOT IN, or "" for both
}

func rejectedClauses(f topk.RejectedFilter) (c filterClauses, args []any) {
	if c.From = !f.From.IsZero(); c.From {
		args = append(args, sqlfile.Instant("from", f.From))
	}
	if c.To = !f.To.IsZero(); c.To {
		args = append(args, sqlfile.Instant("to", f.To))
	}
	if c.Reason = f.Reason != ""; c.Reason {
		args = append(args, clickhouse.Named("reason", f.Reason))
	}
	if c.Partition = f.Partition != nil; c.Partition {
		args = append(args, clickhouse.Named("partition", uint16(*f.Partition)))
	}
	if c.Event = f.EventID != ""; c.Event {
		args = append(args, clickhouse.Named("event", f.EventID))
	}
	switch {
	case f.Replayed == nil:
	case *f.Replayed:
		c.Replayed = "IN"
	default:
		c.Replayed = "NOT IN"
	}
	return c, args
}
