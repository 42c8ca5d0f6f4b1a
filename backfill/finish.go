package backfill

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// finish carries what is staged to where it belongs. Every step may be repeated.
func (b *backfill) finish(ctx context.Context, r *run) error {
	files, paths := make([]uint32, len(r.files)), make([]string, len(r.files))
	for i, f := range r.files {
		files[i], paths[i] = f.number, f.Path
	}
	began := b.Clock()
	if err := b.exec(ctx, "reject.sql", nil, source(), clickhouse.Named("base", r.rejects), sqlfile.Instant("began", r.began),
		clickhouse.Named("files", files), clickhouse.Named("paths", paths)); err != nil {
		return err
	}
	b.report.took("keep rejects", b.Clock().Sub(began))
	// First what may come live as well, while the log has just been looked at.
	began = b.Clock()
	if r.to < r.end {
		if err := b.publish(ctx, r); err != nil {
			return fmt.Errorf("send to Kafka: %w", err)
		}
	}
	b.report.took("through Kafka", b.Clock().Sub(began))
	if r.from < r.to {
		if err := b.append(ctx, r); err != nil {
			return fmt.Errorf("append to the log: %w", err)
		}
	}
	if err := b.record(ctx, r); err != nil {
		return err
	}
	return b.clear(ctx)
}

// A rollup's names in statements.
type rollup struct{ Rollup, Key, Partition string }

var rollups = []rollup{{"rollup_hour", "day", "toDate"}, {"rollup_day", "week", "toMonday"}}

// append appends the old plays to the log from where it is, no faster than the
// rollups count them, and waits until they have.
func (b *backfill) append(ctx context.Context, r *run) error {
	head, done, err := b.counted(ctx)
	if err != nil {
		return err
	}
	// (Of plays that the log has forgotten the rollups must not seem to be ahead.)
	if head == done {
		for _, table := range rollups {
			if err := b.exec(ctx, "wake.sql", table, source()); err != nil {
				return err
			}
		}
	}
	var waited, appended time.Duration
	for next := max(head, r.from); next < r.to; {
		began := b.Clock()
		if err := b.roomFor(ctx, r, next); err != nil {
			return err
		}
		waited += b.Clock().Sub(began)
		began = b.Clock()
		to := min(next+b.chunk, r.to)
		if err := b.exec(ctx, "append.sql", nil, source(), clickhouse.Named("from", next), clickhouse.Named("to", to)); err != nil {
			return err
		}
		appended += b.Clock().Sub(began)
		next = to
		b.Progress("appending to the log", next-r.from, r.to-r.from)
	}
	began := b.Clock()
	err = poll(ctx, func() (bool, error) {
		_, done, err := b.counted(ctx)
		b.Progress("counting into the rollups", min(max(done, r.from), r.to)-r.from, r.to-r.from)
		return done >= r.to, err
	})
	b.report.took("append", appended)
	b.report.took("wait for the rollups", waited+b.Clock().Sub(began))
	return err
}

// roomFor waits until the rollups have counted so much that the next plays do
// not make their tail too long.
func (b *backfill) roomFor(ctx context.Context, r *run, next uint64) error {
	return poll(ctx, func() (bool, error) {
		_, done, err := b.counted(ctx)
		return next+b.chunk-max(done, r.from) <= backlog, err
	})
}

// counted gives the end of the source in the log, and up to where both rollups
// have counted it.
func (b *backfill) counted(ctx context.Context) (head, done uint64, err error) {
	err = b.query(ctx, "progress.sql", nil, []any{source()}, func(rows *sql.Rows) error {
		var hour, day uint64
		err := rows.Scan(&head, &hour, &day)
		done = min(hour, day)
		return err
	})
	return head, done, err
}

// publish sends the plays that may come live as well through Kafka. Those that
// came in since they were numbered are left out: ClickHouse recognises repeats
// for two days only, and this may be a run that was interrupted long ago.
func (b *backfill) publish(ctx context.Context, r *run) error {
	if r.resumed {
		if err := b.catchUp(ctx, 0); err != nil {
			return err
		}
		if err := b.mark(ctx, b.oldest(r)); err != nil {
			return err
		}
	}
	for next := r.to; next < r.end; next += b.published {
		var records []*kgo.Record
		now := b.Clock()
		if err := b.query(ctx, "front.sql", nil, []any{
			clickhouse.Named("from", next), clickhouse.Named("to", min(next+b.published, r.end)),
		}, func(rows *sql.Rows) error {
			record, err := b.message(rows, now)
			records = append(records, record)
			return err
		}); err != nil {
			return err
		}
		if err := b.step("produce"); err != nil {
			return err
		}
		if err := b.produce(ctx, records); err != nil {
			return err
		}
		b.Progress("sending to Kafka", min(next+b.published, r.end)-r.to, r.end-r.to)
		if err := b.catchUp(ctx, unread); err != nil {
			return err
		}
	}
	return b.catchUp(ctx, 0)
}

// produce waits until Kafka has the records for good. (The client's own time limit
// goes by the records' times, which may be dated back.)
func (b *backfill) produce(ctx context.Context, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(ctx, kafkaTimeout)
	defer cancel()
	if err := b.kafka.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return fmt.Errorf("%w: %w", topk.ErrUnavailable, err)
	}
	return nil
}

// oldest is a time that no play is older than which goes through Kafka.
func (b *backfill) oldest(r *run) time.Time { return r.began.Add(-b.Rules.MaxAge - 3*clocks) }

// message reads a play as a message. One that is about to become too old is
// dated back, so that it is judged as when it was numbered.
func (b *backfill) message(rows *sql.Rows, now time.Time) (*kgo.Record, error) {
	var p topk.Play
	var ms int64
	var region string
	var duration int32
	if err := rows.Scan(&p.EventID, &p.UserID, &p.SongID, &p.ArtistID, &ms, &region, &p.Device, &p.Context.Kind, &p.Context.ID, &duration); err != nil {
		return nil, err
	}
	p.Timestamp = time.UnixMilli(ms).UTC()
	if region != "" {
		var err error
		if p.Region, err = topk.ParseRegion(region); err != nil {
			return nil, fmt.Errorf("event %s: region %w", p.EventID, err)
		}
	}
	if duration >= 0 {
		seconds := int(duration)
		p.Duration = &seconds
	}
	value, err := p.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", p.EventID, err)
	}
	at := now
	if youngest := p.Timestamp.Add(b.Rules.MaxAge); youngest.Before(at) {
		at = youngest
	}
	return &kgo.Record{Key: []byte(p.SongID), Value: value, Timestamp: at}, nil
}

// unread counts the messages below the ends that ClickHouse has not read.
func (b *backfill) unread(ctx context.Context, epoch uint16, starts, ends kadm.ListedOffsets) (left int64, err error) {
	group := topk.EpochGroup(b.Group, epoch)
	committed, err := b.admin.FetchOffsetsForTopics(ctx, group, b.Topic)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // it has read nothing yet
		return 0, fmt.Errorf("%w: ask Kafka for the offsets of %s: %w", topk.ErrUnavailable, group, err)
	}
	ends.Each(func(end kadm.ListedOffset) {
		read := int64(0)
		if o, ok := committed.Lookup(end.Topic, end.Partition); ok {
			read = max(read, o.At)
		}
		if start, ok := starts.Lookup(end.Topic, end.Partition); ok {
			read = max(read, start.Offset)
		}
		left += max(0, end.Offset-read)
	})
	return left, nil
}

// record notes the files that are loaded.
func (b *backfill) record(ctx context.Context, r *run) error {
	cut := time.UnixMilli(0)
	if err := b.query(ctx, "cut.sql", nil, []any{clickhouse.Named("to", r.to)}, func(rows *sql.Rows) error { return rows.Scan(&cut) }); err != nil {
		return err
	}
	reports := map[uint32]FileReport{}
	if err := b.perFile(ctx, cut, func(number uint32, f FileReport) error {
		reports[number] = f
		return nil
	}); err != nil {
		return err
	}
	if err := b.step("record"); err != nil {
		return err
	}
	tx, err := b.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	batch, err := tx.PrepareContext(ctx, `INSERT INTO backfill_files
		(path, print, size, rows, appended, published, repeats, rejected, firstDay, lastDay, fromKoff, toKoff, rejectKoff, loadedAt)`)
	if err != nil {
		return fmt.Errorf("note the files: %w", err)
	}
	for _, f := range r.files {
		n := reports[f.number]
		first, last := n.FirstDay, n.LastDay
		if first.IsZero() {
			first, last = time.UnixMilli(0).UTC(), time.UnixMilli(0).UTC()
		}
		if _, err := batch.ExecContext(ctx, f.Path, f.Print, f.Size, n.Rows, n.Appended, n.Published, n.Repeats, n.Rejected,
			first, last, r.from, r.to, r.rejects, r.began); err != nil {
			return fmt.Errorf("note the files: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("note the files: %w", err)
	}
	return nil
}
