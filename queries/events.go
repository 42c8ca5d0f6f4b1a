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

// An Epoch is one topic that plays are or were read from.
type Epoch struct {
	Number  uint16
	Topic   string
	TopicID string // by which Kafka tells it from another of that name; may be ""
}

// Epochs are all of them, oldest first. The last one is being read; none is
// before the first migration.
func (db *DB) Epochs(ctx context.Context) ([]Epoch, error) {
	var epochs []Epoch
	err := db.ask(ctx, "epochs.sql", nil, nil, func(rows driver.Rows) error {
		var e Epoch
		err := rows.Scan(&e.Number, &e.Topic, &e.TopicID)
		epochs = append(epochs, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("epochs: %w", err)
	}
	return epochs, nil
}

// Positions that come from the log have no topic: the epochs say it.

// EventOwner gives the message that owns an event's id, nil when no message of
// the last 48 hours does. The log need not have it yet.
func (db *DB) EventOwner(ctx context.Context, eventID string) (owner *topk.Position, err error) {
	err = db.ask(ctx, "event_owner.sql", nil, []any{clickhouse.Named("event", eventID)}, func(rows driver.Rows) error {
		owner = &topk.Position{}
		return rows.Scan(&owner.Source, &owner.Offset)
	})
	if err != nil {
		return nil, fmt.Errorf("owner of event %s: %w", eventID, err)
	}
	return owner, nil
}

// Repeats gives the first messages that repeat an event, oldest first, of the
// last 14 days. Those that the log has are no repeats after all.
func (db *DB) Repeats(ctx context.Context, eventID string, limit int) ([]topk.Repeat, error) {
	var repeats []topk.Repeat
	args := []any{clickhouse.Named("event", eventID), clickhouse.Named("limit", uint32(limit))}
	err := db.ask(ctx, "event_repeats.sql", nil, args, func(rows driver.Rows) error {
		var r topk.Repeat
		err := rows.Scan(&r.Source, &r.Offset, &r.At, &r.Owner.Source, &r.Owner.Offset)
		repeats = append(repeats, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("repeats of event %s: %w", eventID, err)
	}
	return repeats, nil
}

// maxPlaysOfEvent bounds the plays that are read of one event: more than one
// only when it was sent again after 48 hours.
const maxPlaysOfEvent = 1000

// PlaysAt gives the plays of an event that the log has at the positions, oldest
// first.
func (db *DB) PlaysAt(ctx context.Context, eventID string, positions []topk.Position) ([]topk.StoredPlay, error) {
	if len(positions) == 0 {
		return nil, nil
	}
	return db.playsOf(ctx, eventID, struct{ Day bool }{false}, positionArgs(positions))
}

// PlaysOn gives the plays of an event that the log took in on a day, in UTC,
// oldest first. It reads all event ids of the day.
func (db *DB) PlaysOn(ctx context.Context, eventID string, day time.Time) ([]topk.StoredPlay, error) {
	return db.playsOf(ctx, eventID, struct{ Day bool }{true}, []any{clickhouse.Named("day", day.UTC().Format(time.DateOnly))})
}

func (db *DB) playsOf(ctx context.Context, eventID string, choice any, args []any) ([]topk.StoredPlay, error) {
	args = append(args, clickhouse.Named("event", eventID), clickhouse.Named("limit", uint32(maxPlaysOfEvent)))
	var plays []topk.StoredPlay
	err := db.ask(ctx, "event_plays.sql", choice, args, func(rows driver.Rows) error {
		p := topk.StoredPlay{Play: topk.Play{EventID: eventID}}
		var region string
		var duration int32
		if err := rows.Scan(&p.Source, &p.Offset, &p.At, &p.Timestamp, &p.SongID, &p.ArtistID, &region, &p.Device,
			&p.Context.Kind, &p.Context.ID, &duration, &p.Segments, &p.Counted); err != nil {
			return err
		}
		if region != "" {
			var err error
			if p.Region, err = topk.ParseRegion(region); err != nil {
				return fmt.Errorf("region %q: %w", region, err)
			}
		}
		if duration >= 0 {
			seconds := int(duration)
			p.Duration = &seconds
		}
		plays = append(plays, p)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("plays of event %s: %w", eventID, err)
	}
	return plays, nil
}

// InLog gives those of the events that the log took in within [from, to). It
// reads all event ids of that time.
func (db *DB) InLog(ctx context.Context, eventIDs []string, from, to time.Time) (map[string]bool, error) {
	found := map[string]bool{}
	if len(eventIDs) == 0 || !from.Before(to) {
		return found, nil
	}
	args := []any{clickhouse.Named("events", eventIDs), sqlfile.Instant("from", from), sqlfile.Instant("to", to)}
	err := db.ask(ctx, "events_in_log.sql", nil, args, func(rows driver.Rows) error {
		var id string
		err := rows.Scan(&id)
		found[id] = true
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for %d events in the log: %w", len(eventIDs), err)
	}
	return found, nil
}

// positionArgs are the positions as {sources} and {offsets}.
func positionArgs(positions []topk.Position) []any {
	sources, offsets := make([]uint32, len(positions)), make([]uint64, len(positions))
	for i, p := range positions {
		sources[i], offsets[i] = p.Source, p.Offset
	}
	return []any{clickhouse.Named("sources", sources), clickhouse.Named("offsets", offsets)}
}

// ask renders a statement, runs it and hands each row to read.
func (db *DB) ask(ctx context.Context, name string, choice any, args []any, read func(driver.Rows) error) error {
	sql, err := statements.Render(name, choice)
	if err != nil {
		return err
	}
	return db.scan(ctx, sql, args, read)
}
