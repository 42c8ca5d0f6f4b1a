package archive

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/migrations"
)

// RestoreOptions of a Restore.
type RestoreOptions struct {
	// Days (UTC) to put back into a log that is there; all of the archive into a
	// database without plays when there are none.
	Days []time.Time
	// DryRun only reads the archive.
	DryRun bool
	// Wiring and Kafka are needed for a whole archive.
	Wiring migrations.Wiring
	Kafka  *kadm.Client
	// Progress is told what is being done, and how many plays are done; nil for
	// none.
	Progress func(doing string, done, total int64)
}

// Restored is what a restore did, or would do.
type Restored struct {
	Days     []RestoredDay
	Catalog  time.Time // day of the songs and segments that were restored; zero when there is none
	Restored uint64    // plays that the log did not have
}

// A RestoredDay is what the archive has of a day.
type RestoredDay struct {
	Day   time.Time
	Hours int
	Plays uint64
	Bytes uint64
}

const (
	// settled is how old a part of the log is surely within its retention; older
	// plays are counted before others follow.
	settled = 88 * 24 * time.Hour
	// accountable is for how long repeats and rejects are surely kept.
	accountable = 13 * 24 * time.Hour
	// pollEvery is how often it is looked whether others are done.
	pollEvery = 200 * time.Millisecond
)

// Restore puts plays back from the archive, under the positions and arrival
// times that they had, so every chart is what it was.
//
// The whole archive goes into a database without plays, with catalog and users'
// segments; then Kafka is read on (see migrations.Restore). Or days are put
// back into a log that lacks them: what it has is not touched, nor counted
// again, since the rollups know what they have counted.
//
// All that is to be restored is read and compared with the manifests first: an
// ErrDamaged says what is damaged, and nothing is changed. An ErrInvalid when
// it is not allowed. It may be killed at any moment and run again.
func (a *Archive) Restore(ctx context.Context, o RestoreOptions) (done Restored, err error) {
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
	if len(o.Days) == 0 { // it may be all there is to be of this system
		if err := migrations.CreateDatabase(ctx, a.ClickHouseURL); err != nil {
			return done, err
		}
	}
	r := restore{Archive: a, RestoreOptions: o, now: a.Clock()}
	err = a.alone(ctx, func(ctx context.Context) error {
		err := r.run(ctx)
		done = r.done
		return err
	})
	if err != nil {
		return done, fmt.Errorf("restore from %s: %w", a.Location, err)
	}
	return done, nil
}

type restore struct {
	*Archive
	RestoreOptions
	hours   []Manifest // to be restored, oldest first
	catalog *Manifest
	total   int64 // plays
	now     time.Time
	done    Restored
}

func (r *restore) run(ctx context.Context) error {
	if err := r.list(ctx); err != nil {
		return err
	}
	if err := r.verify(ctx); err != nil {
		return err
	}
	if r.DryRun {
		return nil
	}
	if err := r.awaitOrphans(ctx); err != nil {
		return err
	}
	if len(r.Days) > 0 {
		if err := r.load(ctx); err != nil {
			return err
		}
		// Also when nothing was lacking: the run before may have been killed here.
		_, err := r.db.ExecContext(ctx, "INSERT INTO rewrites (reason) VALUES ('restore of days')")
		return err
	}
	var epochs []migrations.Epoch
	for _, e := range r.hours[len(r.hours)-1].Epochs {
		epochs = append(epochs, migrations.Epoch(e))
	}
	return migrations.Restore(ctx, r.ClickHouseURL, r.Wiring, r.Kafka, epochs, func(ctx context.Context) error {
		if err := r.loadCatalog(ctx); err != nil {
			return err
		}
		if err := r.load(ctx); err != nil {
			return err
		}
		if err := r.counted(ctx); err != nil {
			return err
		}
		return r.prove(ctx)
	})
}

// list reads the manifests of what is to be restored.
func (r *restore) list(ctx context.Context) error {
	var s state
	if err := r.bucket.read(ctx, stateKey, &s); errors.Is(err, errAbsent) {
		return fmt.Errorf("%w: there is no archive: %w", topk.ErrNotFound, err)
	} else if err != nil {
		return err
	}
	if !s.Rewriting.IsZero() {
		return topk.FieldErrors{{Message: fmt.Sprintf("history was rewritten at %s and the archive has followed in part only: "+
			"run topk load archive --once where the log is", s.Rewriting.Format(time.RFC3339))}}
	}
	r.Progress("reading manifests", 0, 0)
	keys, err := r.bucket.list(ctx, logTable+"/")
	if err != nil {
		return err
	}
	var starts []time.Time
	for key := range keys {
		if start, is := startOf(key); is && r.wanted(start) {
			starts = append(starts, start)
		}
	}
	slices.SortFunc(starts, time.Time.Compare)
	if err := r.complete(starts, s.Until); err != nil {
		return err
	}
	for _, start := range starts {
		m, err := r.manifest(ctx, hourFolder(logTable, start)+manifestSuffix, start)
		if err != nil {
			return err
		}
		r.hours = append(r.hours, m)
		r.add(m)
	}
	if len(r.Days) > 0 {
		return r.daysAllowed(ctx, s)
	}
	return r.listCatalog(ctx)
}

func (r *restore) wanted(hour time.Time) bool {
	return len(r.Days) == 0 || slices.ContainsFunc(r.Days, hour.Truncate(24*time.Hour).Equal)
}

// complete refuses an archive that lacks hours: each has a manifest, also those
// without plays.
func (r *restore) complete(starts []time.Time, until time.Time) error {
	if len(starts) == 0 {
		return fmt.Errorf("%w: the archive has no such hours", topk.ErrNotFound)
	}
	var missing []string
	for i, start := range starts[1:] {
		for hour := starts[i].Add(time.Hour); hour.Before(start); hour = hour.Add(time.Hour) {
			if r.wanted(hour) {
				missing = append(missing, hour.Format("2006-01-02 15:04"))
			}
		}
	}
	for hour := starts[len(starts)-1].Add(time.Hour); hour.Before(until); hour = hour.Add(time.Hour) {
		if r.wanted(hour) {
			missing = append(missing, hour.Format("2006-01-02 15:04"))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: it has no manifests of %d hours: %s", ErrDamaged, len(missing), strings.Join(missing[:min(len(missing), 10)], ", "))
	}
	return nil
}

func (r *restore) manifest(ctx context.Context, key string, start time.Time) (m Manifest, err error) {
	if err := r.bucket.read(ctx, key, &m); err != nil {
		return m, err
	}
	return m, m.check(start)
}

// add takes an hour into the report.
func (r *restore) add(m Manifest) {
	day := m.Start.Truncate(24 * time.Hour)
	if n := len(r.done.Days); n == 0 || !r.done.Days[n-1].Day.Equal(day) {
		r.done.Days = append(r.done.Days, RestoredDay{Day: day})
	}
	d := &r.done.Days[len(r.done.Days)-1]
	d.Hours++
	d.Plays += m.Plays
	for _, o := range m.Objects {
		d.Bytes += o.Bytes
	}
	r.total += int64(m.Plays)
}

// daysAllowed refuses to put plays back that the log has under other positions,
// or would drop again.
func (r *restore) daysAllowed(ctx context.Context, s state) error {
	var rewritten time.Time
	if err := r.query(ctx, "log.sql", nil, nil, func(rows *sql.Rows) error {
		var any bool
		var oldest, now time.Time
		return rows.Scan(&any, &oldest, &now, &rewritten)
	}); err != nil {
		return err
	}
	if rewritten.After(s.Rewritten) && rewritten.Unix() > 0 {
		return topk.FieldErrors{{Message: fmt.Sprintf("history was rewritten at %s and the archive has not followed yet: run topk load archive --once first",
			rewritten.UTC().Format(time.RFC3339))}}
	}
	for _, day := range r.Days {
		if day.Before(r.now.Add(-settled)) {
			return topk.FieldErrors{{Message: fmt.Sprintf("plays of %s are older than the log keeps them", day.Format(time.DateOnly))}}
		}
	}
	return nil
}

// listCatalog finds the newest catalog.
func (r *restore) listCatalog(ctx context.Context) error {
	keys, err := r.bucket.list(ctx, catalogPrefix+"/")
	if err != nil {
		return err
	}
	var newest string
	for key := range keys {
		if _, is := startOf(key); is && key > newest {
			newest = key
		}
	}
	if newest == "" {
		return nil
	}
	start, _ := startOf(newest)
	m, err := r.manifest(ctx, newest, start)
	if err != nil {
		return err
	}
	r.catalog, r.done.Catalog = &m, start
	return nil
}

// needless tells objects of tables that have dropped such rows by now; the archive
// may have done so, too.
func (r *restore) needless(m Manifest, o Object) bool {
	return (o.Table == repeatsTable || o.Table == rejectsTable) && m.Start.Before(r.now.Add(-accountable))
}

// verify reads every object and compares it with its manifest.
func (r *restore) verify(ctx context.Context) error {
	sizes, err := r.bucket.list(ctx, "")
	if err != nil {
		return err
	}
	var damaged []error
	var plays int64
	manifests := r.hours
	if r.catalog != nil {
		manifests = append(slices.Clone(manifests), *r.catalog)
	}
	for _, m := range manifests {
		for _, o := range m.Objects {
			if r.needless(m, o) {
				continue
			}
			r.Progress("verifying", plays, r.total)
			if size, there := sizes[o.Key]; !there || size != o.Bytes {
				damaged = append(damaged, fmt.Errorf("%w: %s: it has %d bytes, and the manifest says %d", ErrDamaged, o.Key, size, o.Bytes))
				continue
			}
			c, args := r.content(&m, o)
			rows, print, err := r.print(ctx, "print_object.sql", c, args)
			switch {
			case err != nil && !unreadable(err):
				return err
			case err != nil:
				damaged = append(damaged, fmt.Errorf("%w: %s: %w", ErrDamaged, o.Key, err))
			case rows != o.Rows || print != o.Print:
				damaged = append(damaged, fmt.Errorf("%w: %s: it has %d rows with the print %016x, and the manifest says %d with %016x",
					ErrDamaged, o.Key, rows, print, o.Rows, o.Print))
			}
			if o.Table == logTable {
				plays += int64(o.Rows)
			}
		}
	}
	return errors.Join(damaged...)
}

// unreadable tells the failures of a reader, by ClickHouse's own words, from those
// of the way to S3.
func unreadable(err error) bool {
	const s3Error = 499
	var exception *clickhouse.Exception
	return errors.As(err, &exception) && exception.Code != s3Error && !passing[exception.Code]
}

// passing are ClickHouse's errors that say nothing of an object: 159
// TIMEOUT_EXCEEDED, 202 TOO_MANY_SIMULTANEOUS_QUERIES, 209 SOCKET_TIMEOUT, 210
// NETWORK_ERROR, 241 MEMORY_LIMIT_EXCEEDED, 394 QUERY_WAS_CANCELLED.
var passing = map[int32]bool{159: true, 202: true, 209: true, 210: true, 241: true, 394: true}

// awaitOrphans waits until ClickHouse is done with what a killed restore had
// asked of it.
func (r *restore) awaitOrphans(ctx context.Context) error {
	return r.until(ctx, "waiting for a restore that was killed", func() (left int64, err error) {
		var n uint64
		err = r.query(ctx, "orphans.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&n) })
		return int64(n), err
	})
}

// counted waits until the rollups have counted all plays of the log.
func (r *restore) counted(ctx context.Context) error {
	return r.until(ctx, "counting", func() (left int64, err error) {
		var n uint64
		err = r.query(ctx, "behind.sql", nil, nil, func(rows *sql.Rows) error { return rows.Scan(&n) })
		if err != nil || n == 0 {
			return 0, err
		}
		for _, rollup := range []string{"rollup_hour", "rollup_day"} {
			for _, do := range []string{"REFRESH", "WAIT"} {
				if _, err := r.db.ExecContext(ctx, "SYSTEM "+do+" VIEW "+rollup+"_fill"); err != nil {
					return 0, fmt.Errorf("%s %s_fill: %w", do, rollup, err)
				}
			}
		}
		return int64(n), nil
	})
}

// until waits until nothing is left.
func (r *restore) until(ctx context.Context, doing string, look func() (left int64, err error)) error {
	var most int64
	for {
		left, err := look()
		if err != nil || left == 0 {
			return err
		}
		most = max(most, left)
		r.Progress(doing, most-left, most)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func (r *restore) loadCatalog(ctx context.Context) error {
	if r.catalog == nil {
		return nil
	}
	for _, o := range r.catalog.Objects {
		r.Progress("restoring "+o.Table, 0, 0)
		c, args := r.content(r.catalog, o)
		if err := r.exec(ctx, "restore.sql", c, args...); err != nil {
			return err
		}
	}
	return nil
}

// load inserts the rows that are not there, oldest first: the fills find what is
// new of a source behind what they have counted of it.
func (r *restore) load(ctx context.Context) error {
	var plays int64
	for _, m := range r.hours {
		expired := m.Start.Before(r.now.Add(-settled))
		for _, o := range m.Objects {
			if r.needless(m, o) {
				continue
			}
			r.Progress("restoring", plays, r.total)
			if err := r.object(ctx, &m, o); err != nil {
				return err
			}
			if o.Table == logTable {
				plays += int64(o.Rows)
			}
			if expired {
				if err := r.counted(ctx); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (r *restore) object(ctx context.Context, m *Manifest, o Object) error {
	c, args := r.content(m, o)
	var there uint64
	count := func() error {
		return r.query(ctx, "count.sql", c, args, func(rows *sql.Rows) error { return rows.Scan(&there) })
	}
	if c.Log {
		if err := count(); err != nil || there == o.Rows {
			return err
		}
	}
	if err := r.exec(ctx, "restore.sql", c, args...); err != nil || !c.Log {
		return err
	}
	before := there
	if err := count(); err != nil {
		return err
	}
	r.done.Restored += there - min(there, before)
	return nil
}

// prove compares the log with the manifests, hour by hour.
func (r *restore) prove(ctx context.Context) error {
	r.Progress("comparing", 0, 0)
	last := r.hours[len(r.hours)-1].Start.Add(time.Hour)
	byHour := make(map[time.Time]Manifest, len(r.hours))
	for _, m := range r.hours {
		byHour[m.Start] = m
	}
	for _, day := range daysOf(r.hours[0].Start, last) {
		facts, err := r.facts(ctx, day.from, day.to)
		if err != nil {
			return err
		}
		for hour := day.from; hour.Before(day.to); hour = hour.Add(time.Hour) {
			if m, there := byHour[hour]; there && !m.equal(facts[hour]) && hour.After(r.now.Add(-settled)) {
				return fmt.Errorf("the hour %s of the log is not that of the archive: %d plays instead of %d", hour.Format(time.RFC3339), facts[hour].Plays, m.Plays)
			}
		}
	}
	return nil
}
