package migrations

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"text/template"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tablelock"
)

//go:embed replay/*.sql
var replayFiles embed.FS

var replayTemplates = template.Must(template.ParseFS(replayFiles, "replay/*.sql"))

// replayed are the tables that a replay rebuilds and then exchanges. Readers
// that see some of them exchanged and others not notice it: the rollups then
// have counted sources that the log does not have, or has not that far.
var replayed = []string{
	"plays", "rollup_hour", "rollup_day", "seen", "plays_rejected", "plays_duplicates", "rejected_replays", "epochs",
}

// ReplayOptions of a Replay.
type ReplayOptions struct {
	Kafka *kadm.Client
	// LoseHistory goes on although charts will lose what neither Kafka nor the
	// log has any more.
	LoseHistory bool
	// Progress is told what is being done, and how much of it, in messages or
	// plays; total 0 when that is not known. nil for none.
	Progress func(doing string, done, total int64)

	step func(name string) error // of tests: comes before each step
}

// caughtUp is how many messages or plays a replay may lack when it takes over:
// it then reads them in less than a second, for which charts stand still.
const caughtUp = 20_000

// Replay rebuilds the log and everything derived from it from the start of the
// topic, beside the live tables and while those go on, and then takes their
// place. Charts stand still for the moment of the switch, and are exact before
// and after it.
//
// What Kafka does not hold any more is carried over from the log. Rules, limits
// and users' segments are those of today, and repeats are recognised among
// all that Kafka holds.
//
// It may be killed at any moment and run again: until the switch has begun the
// live tables are untouched, from then on Replay or Up finish it. An error is a
// topk.ErrInvalid when charts would lose history (see LoseHistory).
func Replay(ctx context.Context, url string, w Wiring, o ReplayOptions) (err error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	liveDB, options, err := open(url)
	if err != nil {
		return err
	}
	r := replay{ReplayOptions: o, wiring: w, liveDB: liveDB, live: options.Auth.Database, beside: besideOf(options.Auth.Database)}
	defer func() { err = errors.Join(err, r.liveDB.Close()) }()
	lock, err := tablelock.Take(ctx, r.liveDB, replaying)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	// Plays that a backfill appends meanwhile would not be carried over.
	backfilling, err := tablelock.Try(lock.Context(), r.liveDB, tablelock.Backfilling)
	if err != nil {
		return err
	}
	if backfilling == nil {
		return fmt.Errorf("%w: a backfill is under way: let it end first", topk.ErrUnavailable)
	}
	defer func() { err = errors.Join(err, backfilling.Release()) }()
	ctx = backfilling.Context()

	besideOptions := *options
	besideOptions.Auth.Database = r.beside
	if err := createDatabase(ctx, &besideOptions); err != nil {
		return err
	}
	r.besideDB = clickhouse.OpenDB(&besideOptions)
	defer func() { err = errors.Join(err, r.besideDB.Close()) }()
	if err := r.run(ctx); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

// replaying is the lock of whoever replays.
const replaying = "replaying"

// besideOf is the database in which a replay works.
func besideOf(live string) string { return live + "_replay" }

type replay struct {
	ReplayOptions
	wiring           Wiring
	live, beside     string
	liveDB, besideDB *sql.DB
}

func (r *replay) run(ctx context.Context) error {
	if begun, err := switchBegun(ctx, r.liveDB, r.beside); err != nil {
		return err
	} else if !begun {
		if err := r.prepare(ctx); err != nil {
			return err
		}
		if err := r.catchUp(ctx, caughtUp); err != nil {
			return err
		}
	}
	lock, err := tablelock.Take(ctx, r.liveDB, tablelock.Migrating)
	if err != nil {
		return err
	}
	return errors.Join(r.takeOver(lock.Context()), lock.Release())
}

// prepare makes the tables beside, carries over what Kafka does not have, and
// lets plays flow into them.
func (r *replay) prepare(ctx context.Context) error {
	live, err := lastEpoch(ctx, r.liveDB)
	if err != nil {
		return err
	}
	if !live.is(r.wiring) {
		return fmt.Errorf("topic %s is not the one that is being read: run topk migrate first", r.wiring.Topic)
	}
	carried, err := exists(ctx, r.besideDB, r.beside, "carried")
	if err != nil {
		return err
	}
	if carried { // unless by a version of topk with another schema
		_, old, err := stepsLeft(r.besideDB, r.beside)
		if err != nil {
			return err
		}
		carried = !old
	}
	if carried {
		err = r.carryBackfills(ctx)
	} else {
		err = r.carry(ctx, live.number)
	}
	if err != nil {
		return fmt.Errorf("carry over from the log: %w", err)
	}
	if err := r.step("wire"); err != nil {
		return err
	}
	w := r.wiring
	w.segments = r.live
	return wire(ctx, r.besideDB, r.beside, w)
}

// carry fills the tables beside with what cannot be read again. It begins from
// nothing.
func (r *replay) carry(ctx context.Context, live uint16) error {
	starts, err := r.starts(ctx)
	if err != nil {
		return err
	}
	sources, offsets, whole := []uint32{}, []uint64{}, true
	starts.Each(func(o kadm.ListedOffset) {
		sources, offsets = append(sources, uint32(live)<<16+uint32(o.Partition)), append(offsets, uint64(o.Offset))
		whole = whole && o.Offset == 0
	})
	if !whole && !r.LoseHistory {
		if err := r.checkHistory(ctx); err != nil {
			return err
		}
	}
	if err := r.step("carry"); err != nil {
		return err
	}
	if err := r.exec(ctx, r.besideDB, "DROP TABLE IF EXISTS carried SYNC"); err != nil {
		return err
	}
	if err := unwire(ctx, r.besideDB, flow); err != nil {
		return err
	}
	if err := steps(ctx, r.besideDB, r.beside); err != nil {
		return err
	}
	args := []any{clickhouse.Named("sources", sources), clickhouse.Named("starts", offsets)}
	for _, table := range replayed {
		if err := r.exec(ctx, r.besideDB, "TRUNCATE TABLE "+table); err != nil {
			return err
		}
	}
	for _, table := range []string{"plays", "plays_duplicates", "plays_rejected"} {
		r.Progress("carrying over "+table, 0, 0)
		if err := r.statement(ctx, "carry.sql", table, args); err != nil {
			return err
		}
	}
	for _, file := range []string{"carry_seen.sql", "carry_corrections.sql"} {
		if err := r.statement(ctx, file, "", args); err != nil {
			return err
		}
	}
	if err := r.exec(ctx, r.besideDB, "INSERT INTO epochs SELECT * FROM "+r.live+".epochs"); err != nil {
		return err
	}
	if err := beginEpoch(ctx, r.besideDB, live+1, r.wiring); err != nil {
		return err
	}
	return r.exec(ctx, r.besideDB, "CREATE TABLE carried (done UInt8) ENGINE = Null")
}

// carryBackfills carries over what was backfilled after a replay that was killed
// had carried over the rest: in order and in whole blocks, since plays flow into
// the rollups beside.
func (r *replay) carryBackfills(ctx context.Context) error {
	source := clickhouse.Named("source", topk.BackfillSource)
	head := func(database string) (next uint64, err error) {
		err = r.liveDB.QueryRowContext(ctx, "SELECT ifNull((SELECT max(koff) + 1 FROM "+database+".plays WHERE src = {source:UInt32} GROUP BY src), 0)",
			source).Scan(&next)
		if err != nil {
			return 0, fmt.Errorf("end of the backfills in %s: %w", database, err)
		}
		return next, nil
	}
	end, err := head(r.live)
	if err != nil {
		return err
	}
	for {
		next, err := head(r.beside)
		if err != nil {
			return err
		}
		if next >= end {
			break
		}
		if err := r.statement(ctx, "carry_backfills.sql", "", []any{source, clickhouse.Named("next", next), clickhouse.Named("limit", uint64(carriedAtOnce))}); err != nil {
			return err
		}
	}
	return r.statement(ctx, "carry_backfill_rejects.sql", "", []any{source})
}

// carriedAtOnce is how many backfilled plays are one block.
const carriedAtOnce = 100_000

// starts are the first offsets that Kafka still has.
func (r *replay) starts(ctx context.Context) (kadm.ListedOffsets, error) {
	starts, err := r.Kafka.ListStartOffsets(ctx, r.wiring.Topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka where its log begins: %w", err)
	}
	return starts, nil
}

// checkHistory refuses to lose what is only in the rollups.
func (r *replay) checkHistory(ctx context.Context) error {
	text, err := r.text("oldest.sql", "")
	if err != nil {
		return err
	}
	var counted, kept time.Time
	if err := r.liveDB.QueryRowContext(ctx, text, clickhouse.Named("source", topk.BackfillSource)).Scan(&counted, &kept); err != nil {
		return err
	}
	if counted.Unix() == 0 || kept.Unix() > 0 && !counted.Before(kept) {
		return nil
	}
	return topk.FieldErrors{{Message: fmt.Sprintf("charts reach back to %s, but neither Kafka nor the log has all plays since: "+
		"restore them from the archive, or give --lose-history to go on without them", counted.Format(time.DateOnly))}}
}

// catchUp waits until the replay has read nearly all that Kafka has and counted
// nearly all of that.
func (r *replay) catchUp(ctx context.Context, within int64) error {
	behind, err := r.text("behind.sql", "")
	if err != nil {
		return err
	}
	return poll(ctx, func() (bool, error) {
		partitions, err := r.progress(ctx)
		if err != nil {
			return false, err
		}
		var read, end int64
		for _, p := range partitions {
			read, end = read+p.read, end+p.end
		}
		r.Progress("reading from Kafka", read, end)
		if end-read > within {
			return false, nil
		}
		var left, all int64
		if err := r.besideDB.QueryRowContext(ctx, behind).Scan(&left); err != nil {
			return false, err
		}
		if err := r.besideDB.QueryRowContext(ctx, "SELECT count() FROM plays").Scan(&all); err != nil {
			return false, err
		}
		r.Progress("counting", all-left, all)
		return left <= within, nil
	})
}

// A partition is how far one of the topic was read, and how far it goes.
type partition struct{ read, end int64 }

func (r *replay) progress(ctx context.Context) (map[int32]partition, error) {
	starts, err := r.starts(ctx)
	if err != nil {
		return nil, err
	}
	ends, err := r.Kafka.ListEndOffsets(ctx, r.wiring.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ask Kafka where its log ends: %w", err)
	}
	read, err := r.read(ctx)
	if err != nil {
		return nil, err
	}
	partitions := map[int32]partition{}
	ends.Each(func(o kadm.ListedOffset) {
		p := partition{read: read[o.Partition], end: o.Offset}
		if start, ok := starts.Lookup(o.Topic, o.Partition); ok { // what is deleted cannot be read
			p.read = max(p.read, start.Offset)
		}
		partitions[o.Partition] = p
	})
	return partitions, nil
}

// read gives the next offset of each partition that was read: what was
// committed, or what came of messages beyond that.
func (r *replay) read(ctx context.Context) (map[int32]int64, error) {
	epoch, err := lastEpoch(ctx, r.besideDB)
	if err != nil {
		return nil, err
	}
	group := topk.EpochGroup(r.wiring.Group, epoch.number)
	committed, err := r.Kafka.FetchOffsetsForTopics(ctx, group, r.wiring.Topic)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) { // it has read nothing yet
		return nil, fmt.Errorf("ask Kafka for the offsets of %s: %w", group, err)
	}
	read := map[int32]int64{}
	committed.Each(func(o kadm.OffsetResponse) { read[o.Partition] = o.At })
	text, err := r.text("read.sql", "")
	if err != nil {
		return nil, err
	}
	rows, err := r.besideDB.QueryContext(ctx, text, clickhouse.Named("epoch", epoch.number))
	if err != nil {
		return nil, fmt.Errorf("ask how far partitions were read: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var partition int32
		var next uint64
		if err := rows.Scan(&partition, &next); err != nil {
			return nil, err
		}
		read[partition] = max(read[partition], int64(next))
	}
	return read, rows.Err()
}

// takeOver stops both readers, lets the replay read what the live one had read
// already, and switches.
func (r *replay) takeOver(ctx context.Context) error {
	begun, err := switchBegun(ctx, r.liveDB, r.beside)
	if err != nil {
		return err
	}
	if !begun {
		if err := r.stop(ctx); err != nil {
			return err
		}
	}
	return finishSwitch(ctx, r.liveDB, r.live, r.wiring, r.step)
}

func (r *replay) stop(ctx context.Context) error {
	r.Progress("switching", 0, 0)
	if err := r.step("stop the live reader"); err != nil {
		return err
	}
	if err := unwire(ctx, r.liveDB, flow); err != nil {
		return err
	}
	// What the live tables had must not vanish from charts for a moment.
	target, err := r.progress(ctx)
	if err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) {
		now, err := r.progress(ctx)
		for i, p := range target {
			if now[i].read < p.end {
				return false, err
			}
		}
		return true, err
	}); err != nil {
		return err
	}
	if err := r.step("stop the reader beside"); err != nil {
		return err
	}
	if err := unwire(ctx, r.besideDB, flow); err != nil {
		return err
	}
	if err := r.step("begin the switch"); err != nil {
		return err
	}
	if err := r.exec(ctx, r.besideDB, "CREATE TABLE IF NOT EXISTS switching (name String, id UUID) ENGINE = MergeTree ORDER BY name"); err != nil {
		return err
	}
	return r.statement(ctx, "switching.sql", "", []any{clickhouse.Named("names", replayed)})
}

// switchBegun tells whether a switch is to be finished.
func switchBegun(ctx context.Context, db *sql.DB, beside string) (bool, error) {
	if there, err := exists(ctx, db, beside, "switching"); err != nil || !there {
		return false, err
	}
	var tables int
	err := db.QueryRowContext(ctx, "SELECT count() FROM "+beside+".switching").Scan(&tables)
	return tables > 0, err
}

// finishSwitch exchanges the tables that are not exchanged yet, and lets plays
// flow into them. It needs the lock `migrating`.
func finishSwitch(ctx context.Context, db *sql.DB, live string, w Wiring, step func(string) error) error {
	beside := besideOf(live)
	for _, table := range replayed {
		if err := step("exchange " + table); err != nil {
			return err
		}
		var done bool
		err := db.QueryRowContext(ctx, `
			SELECT (SELECT uuid FROM system.tables WHERE database = {live:String} AND name = {name:String}) =
			       (SELECT id FROM `+beside+`.switching WHERE name = {name:String})`,
			clickhouse.Named("live", live), clickhouse.Named("name", table)).Scan(&done)
		if err != nil {
			return fmt.Errorf("look at table %s: %w", table, err)
		}
		if done {
			continue
		}
		if _, err := db.ExecContext(ctx, "EXCHANGE TABLES "+live+"."+table+" AND "+beside+"."+table); err != nil {
			return fmt.Errorf("exchange table %s: %w", table, err)
		}
	}
	if err := step("tell followers"); err != nil {
		return err
	}
	// The tables have the newest schema now, whatever the live one was.
	if err := steps(ctx, db, live); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	if _, err := db.ExecContext(ctx, "INSERT INTO "+live+".rewrites (reason) VALUES ('replay')"); err != nil {
		return fmt.Errorf("tell those who follow the log: %w", err)
	}
	if err := step("wire the new tables"); err != nil {
		return err
	}
	if err := wire(ctx, db, live, w); err != nil {
		return err
	}
	if err := step("drop the old tables"); err != nil {
		return err
	}
	if _, err := db.ExecContext(ctx, "DROP DATABASE IF EXISTS "+beside+" SYNC"); err != nil {
		return fmt.Errorf("drop database %s: %w", beside, err)
	}
	return nil
}

func exists(ctx context.Context, db *sql.DB, database, table string) (bool, error) {
	var n int
	err := db.QueryRowContext(ctx, "SELECT count() FROM system.tables WHERE database = {database:String} AND name = {name:String}",
		clickhouse.Named("database", database), clickhouse.Named("name", table)).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("look for table %s.%s: %w", database, table, err)
	}
	return n > 0, nil
}

func (r *replay) text(file, table string) (string, error) {
	var b bytes.Buffer
	err := replayTemplates.ExecuteTemplate(&b, file, struct{ Live, Replay, Table string }{r.live, r.beside, table})
	if err != nil {
		return "", fmt.Errorf("text of %s: %w", file, err)
	}
	return b.String(), nil
}

// statement runs a statement of a file in the database beside.
func (r *replay) statement(ctx context.Context, file, table string, args []any) error {
	text, err := r.text(file, table)
	if err != nil {
		return err
	}
	if _, err := r.besideDB.ExecContext(ctx, text, args...); err != nil {
		return fmt.Errorf("%s %s: %w", file, table, err)
	}
	return nil
}

func (r *replay) exec(ctx context.Context, db *sql.DB, statement string, args ...any) error {
	if _, err := db.ExecContext(ctx, statement, args...); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// pollEvery is how often a replay looks how far it is.
const pollEvery = 200 * time.Millisecond

func poll(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
