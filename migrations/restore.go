package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tablelock"
)

//go:embed restore/*.sql
var restoreFiles embed.FS

// An Epoch is one topic that plays were read from, as in the table epochs.
type Epoch struct {
	Number         uint16
	Topic, TopicID string
	Since          time.Time
}

// restoring is the table that is there while a log is being put back: nothing
// reads from Kafka until it is whole.
const restoring = "restoring"

// errNotEmpty is an ErrInvalid.
var errNotEmpty = topk.FieldErrors{{Message: "the database has plays already, and a whole archive is restored into one that has none: " +
	"give --day to put back what days lack, or name another database"}}

// Restore fills a database that has no plays with those of another life, and lets
// new ones follow.
//
// Beforehand it stops the reading of Kafka, and afterwards it goes on behind the
// last play there: of the same topic, when that is the one of the last epoch; of
// any other from its start, as a new epoch. load inserts the plays, catalog and
// all; the rollups count them meanwhile. Repeats of the last 48 hours of plays
// will be recognised.
//
// It may be killed at any moment and run again, when load may be, too. Until it
// is done Up leaves the chain as it is.
func Restore(ctx context.Context, url string, w Wiring, kafka *kadm.Client, epochs []Epoch, load func(context.Context) error) (err error) {
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
	r := restore{db: db, database: options.Auth.Database, wiring: w, kafka: kafka}
	if err := r.run(lock.Context(), epochs, load); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}

type restore struct {
	db       *sql.DB
	database string
	wiring   Wiring
	kafka    *kadm.Client
}

func (r restore) run(ctx context.Context, epochs []Epoch, load func(context.Context) error) error {
	if err := steps(ctx, r.db, r.database); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	begun, done, err := restoreBegun(ctx, r.db, r.database)
	if err != nil {
		return err
	}
	if done {
		return wire(ctx, r.db, r.database, r.wiring)
	}
	if err := unwire(ctx, r.db, flow); err != nil {
		return err
	}
	if !begun {
		// Only now: a block may have been under way.
		if err := r.refuseUnlessEmpty(ctx); err != nil {
			return errors.Join(err, wire(ctx, r.db, r.database, r.wiring))
		}
		if err := r.exec(ctx, "CREATE TABLE IF NOT EXISTS "+restoring+" (done UInt8) ENGINE = Null"); err != nil {
			return err
		}
	}
	if err := r.putEpochs(ctx, epochs); err != nil {
		return err
	}
	if err := r.wireFills(ctx); err != nil {
		return err
	}
	// Plays older than the log keeps are counted before they go. (After a restart
	// of ClickHouse this is said again by the next run.)
	if err := r.exec(ctx, "SYSTEM STOP TTL MERGES plays"); err != nil {
		return err
	}
	if err := load(ctx); err != nil {
		return err
	}
	if err := r.file(ctx, "seen.sql"); err != nil {
		return err
	}
	number, err := epochOf(ctx, r.db, r.wiring)
	if err != nil {
		return err
	}
	if err := r.seek(ctx, number); err != nil {
		return err
	}
	for _, statement := range []string{
		"INSERT INTO rewrites (reason) VALUES ('restore of the archive')",
		"SYSTEM START TTL MERGES plays",
	} {
		if err := r.exec(ctx, statement); err != nil {
			return err
		}
	}
	if err := wire(ctx, r.db, r.database, r.wiring); err != nil {
		return err
	}
	return r.exec(ctx, "DROP TABLE IF EXISTS "+restoring+" SYNC")
}

// restoreBegun tells whether a restore is to be finished. One that was killed
// after all but its last step, when Kafka was read again, is done: it forgets it.
func restoreBegun(ctx context.Context, db *sql.DB, database string) (begun, done bool, err error) {
	if begun, err = exists(ctx, db, database, restoring); err != nil || !begun {
		return false, false, err
	}
	if done, err = exists(ctx, db, database, queue); err != nil || !done {
		return true, false, err
	}
	_, err = db.ExecContext(ctx, "DROP TABLE IF EXISTS "+restoring+" SYNC")
	return false, true, err
}

func (r restore) refuseUnlessEmpty(ctx context.Context) error {
	var rows uint64
	if err := r.db.QueryRowContext(ctx, "SELECT (SELECT count() FROM plays) + (SELECT count() FROM rollup_hour) + (SELECT count() FROM rollup_day)").Scan(&rows); err != nil {
		return err
	}
	if rows > 0 {
		return errNotEmpty
	}
	return nil
}

// putEpochs makes the epochs those of the archive, so that the numbers of its
// sources are taken.
func (r restore) putEpochs(ctx context.Context, epochs []Epoch) error {
	if err := r.exec(ctx, "TRUNCATE TABLE epochs SYNC"); err != nil {
		return err
	}
	for _, e := range epochs {
		if err := r.exec(ctx, "INSERT INTO epochs (epoch, topic, topicId, since) SELECT {epoch:UInt16}, {topic:String}, {id:String}, {since:DateTime64(3, 'UTC')}",
			clickhouse.Named("epoch", e.Number), clickhouse.Named("topic", e.Topic), clickhouse.Named("id", e.TopicID),
			clickhouse.Named("since", e.Since.UTC().Format("2006-01-02 15:04:05.000"))); err != nil {
			return err
		}
	}
	return nil
}

// wireFills creates what carries the log into the rollups, and no more.
func (r restore) wireFills(ctx context.Context) error {
	landing := slices.IndexFunc(flow, func(l link) bool { return l.name == "landing" })
	for _, l := range flow[:landing] {
		text, err := r.wiring.text(l, r.database, 0) // they do not know of epochs
		if err != nil {
			return err
		}
		if err := r.exec(ctx, text); err != nil {
			return fmt.Errorf("create %s: %w", l.name, err)
		}
	}
	return nil
}

// seekPatience is how long the consumer of a ClickHouse that is gone may still be
// a member of its group, which refuses to be told offsets until then.
const seekPatience = 30 * time.Second

// seek has the topic read from behind the last play of each partition.
func (r restore) seek(ctx context.Context, epoch uint16) error {
	next := map[int32]int64{}
	text, err := restoreFiles.ReadFile("restore/heads.sql")
	if err != nil {
		return err
	}
	rows, err := r.db.QueryContext(ctx, string(text), clickhouse.Named("epoch", epoch))
	if err != nil {
		return fmt.Errorf("heads of the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var partition int32
		var offset uint64
		if err := rows.Scan(&partition, &offset); err != nil {
			return err
		}
		next[partition] = int64(offset)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return fmt.Errorf("heads of the log: %w", err)
	}
	starts, err := r.kafka.ListStartOffsets(ctx, r.wiring.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("ask Kafka where its log begins: %w", err)
	}
	ends, err := r.kafka.ListEndOffsets(ctx, r.wiring.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask Kafka where its log ends: %w", err)
	}
	offsets := kadm.Offsets{}
	var short error
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		if next[end.Partition] > end.Offset {
			short = topk.FieldErrors{{Message: fmt.Sprintf("partition %d of topic %s ends at offset %d, and the archive has plays up to %d: "+
				"Kafka has lost messages, and would give their offsets to others. Make the topic anew", end.Partition, end.Topic, end.Offset, next[end.Partition])}}
		}
		offsets.AddOffset(end.Topic, end.Partition, max(start.Offset, next[end.Partition]), -1)
	})
	if short != nil {
		return short
	}
	group := topk.EpochGroup(r.wiring.Group, epoch)
	ctx, cancel := context.WithTimeout(ctx, seekPatience)
	defer cancel()
	var refused error
	err = poll(ctx, func() (bool, error) {
		refused = r.kafka.CommitAllOffsets(ctx, group, offsets)
		return refused == nil, nil
	})
	if err != nil {
		return fmt.Errorf("tell group %s its offsets: %w", group, errors.Join(refused, err))
	}
	return nil
}

func (r restore) file(ctx context.Context, name string) error {
	text, err := restoreFiles.ReadFile("restore/" + name)
	if err != nil {
		return err
	}
	return r.exec(ctx, string(text))
}

func (r restore) exec(ctx context.Context, statement string, args ...any) error {
	if _, err := r.db.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
