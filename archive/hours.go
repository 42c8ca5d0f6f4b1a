package archive

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

const (
	// margin is how long after its end an hour is archived: what came in at its
	// end must have been written. Should it take longer, the hour is archived
	// again, by recheck.
	margin = 5 * time.Minute
	// recheck is how far back hours are held against the log at each run.
	recheck = 25 * time.Hour
	// kept is for how long the log surely has every play.
	kept = 89 * 24 * time.Hour
	// catalogsKept bounds the days of which catalogs are kept: they are whole, and
	// they hold users who may be erased.
	catalogsKept = 7
	// catalogAttempts is how often a catalog is written that changes meanwhile.
	catalogAttempts = 5
)

// ErrLost: the log lacks plays that the archive has, and nobody has said that
// history was rewritten.
var ErrLost = errors.New("the log lacks plays that the archive has")

// A Report is what a run has done.
type Report struct {
	Hours     int       // archived, also anew
	Revisions int       // of those, archived before
	Plays     uint64    // in them
	Bytes     uint64    // written
	Until     time.Time // hours before that are in the archive
}

// Run archives every hour that is over and is not in the archive, each exactly
// once, and the catalog once a day.
//
// An hour's manifest comes last. Killed before that, the hour is done again and
// ends in the same manifest; after that it is left alone, unless the log has
// other plays in it by now: because history was rewritten (see the table
// rewrites) or, in the last day, because a block came in very late. Then it
// gets a next revision, and the objects of the one before are deleted. An hour
// of which the log has lost plays is left alone too, and is an ErrLost.
//
// progress is told how many of the hours are done; nil for none.
func (a *Archive) Run(ctx context.Context, progress func(done, of int)) (report Report, err error) {
	if progress == nil {
		progress = func(int, int) {}
	}
	err = a.alone(ctx, func(ctx context.Context) error {
		if err := a.bucket.ensure(ctx); err != nil {
			return err
		}
		r := run{Archive: a, progress: progress}
		if err := r.prepare(ctx); err != nil {
			return err
		}
		err := errors.Join(r.hours(ctx), r.catalog(ctx))
		report = r.report
		return err
	})
	a.metrics.observe(report, a.Clock())
	if err != nil {
		return report, fmt.Errorf("archive: %w", err)
	}
	return report, nil
}

// run is one of them.
type run struct {
	*Archive
	progress  func(done, of int)
	report    Report
	state     state
	there     map[time.Time][]string // keys by hour, manifests among them
	oldest    time.Time              // hour of the log; zero when it is empty
	until     time.Time              // hours before that are over
	rewritten time.Time
	now       time.Time
	epochs    []Epoch
}

// prepare asks what there is.
func (r *run) prepare(ctx context.Context) error {
	if err := r.bucket.read(ctx, stateKey, &r.state); err != nil && !errors.Is(err, errAbsent) {
		return err
	}
	if err := r.query(ctx, "epochs.sql", nil, nil, func(rows *sql.Rows) error {
		var e Epoch
		err := rows.Scan(&e.Number, &e.Topic, &e.TopicID, &e.Since)
		e.Since = e.Since.UTC()
		r.epochs = append(r.epochs, e)
		return err
	}); err != nil {
		return err
	}
	if !r.state.isOf(r.epochs) {
		return topk.FieldErrors{{Message: "the archive is of another log: restore it into an empty database, or archive elsewhere"}}
	}
	var any bool
	if err := r.query(ctx, "log.sql", nil, nil, func(rows *sql.Rows) error {
		return rows.Scan(&any, &r.oldest, &r.now, &r.rewritten)
	}); err != nil {
		return err
	}
	if r.oldest = r.oldest.UTC().Truncate(time.Hour); !any {
		r.oldest = time.Time{}
	}
	r.until = r.closed(r.now.UTC()).UTC()
	r.report.Until = r.state.Until
	r.there = map[time.Time][]string{}
	for _, table := range []string{logTable, repeatsTable, rejectsTable} {
		keys, err := r.bucket.list(ctx, table+"/")
		if err != nil {
			return err
		}
		for key := range keys {
			folder := logTable + strings.TrimPrefix(path.Dir(key), table)
			if hour, is := startOf(folder + manifestSuffix); is {
				r.there[hour] = append(r.there[hour], key)
			}
		}
	}
	return nil
}

// closed gives the end of the hours that are over.
func closed(now time.Time) time.Time { return now.Add(-margin).Truncate(time.Hour) }

// hours brings every hour up to date.
func (r *run) hours(ctx context.Context) error {
	if len(r.state.Epochs) == 0 { // the archive is new: it is of this log from now on
		r.state.Epochs = r.epochs
		if err := r.bucket.write(ctx, stateKey, r.state); err != nil {
			return err
		}
	}
	rewriting := r.rewritten.After(r.state.Rewritten) && r.rewritten.Unix() > 0
	first := r.until.Add(-recheck)
	if !r.oldest.IsZero() && r.oldest.Before(first) {
		first = r.oldest
	}
	if rewriting {
		if !r.rewritten.Before(r.until) {
			// A replay gives plays another hour. Until that one is over the archive
			// stays as it is, whole.
			r.Log.InfoContext(ctx, "history was rewritten: the archive follows when that hour is over", "at", r.rewritten)
			return nil
		}
		for hour := range r.there {
			if hour.Before(first) && hour.After(r.now.Add(-kept)) {
				first = hour
			}
		}
		r.state.Rewriting = r.rewritten
		if err := r.bucket.write(ctx, stateKey, r.state); err != nil {
			return err
		}
	}
	var lost []error
	total := max(0, int(r.until.Sub(first)/time.Hour))
	// Newest first when history was rewritten: plays are in two hours rather than
	// in none while that lasts.
	days := daysOf(first, r.until)
	if rewriting {
		slices.Reverse(days)
	}
	done := 0
	for _, day := range days {
		facts, err := r.facts(ctx, day.from, day.to)
		if err != nil {
			return err
		}
		for hour := day.from; hour.Before(day.to); hour = hour.Add(time.Hour) {
			switch err := r.hour(ctx, hour, facts[hour], rewriting); {
			case errors.Is(err, ErrLost):
				lost = append(lost, err)
			case err != nil:
				return err
			}
			done++
			r.progress(done, total)
		}
	}
	if len(lost) > 0 {
		return errors.Join(lost...)
	}
	next := state{Until: r.until, Rewritten: r.state.Rewritten, Epochs: r.epochs}
	if rewriting {
		next.Rewritten = r.rewritten
	}
	if r.oldest.IsZero() {
		next.Until = r.state.Until
	}
	r.report.Until = next.Until
	if next.equal(r.state) {
		return nil
	}
	return r.bucket.write(ctx, stateKey, next)
}

// A day is a piece of time, no longer than one.
type day struct{ from, to time.Time }

func daysOf(from, to time.Time) (days []day) {
	for from.Before(to) {
		next := from.Truncate(24 * time.Hour).Add(24 * time.Hour)
		if next.After(to) {
			next = to
		}
		days = append(days, day{from, next})
		from = next
	}
	return days
}

// hour brings one up to date.
func (r *run) hour(ctx context.Context, hour time.Time, log Facts, rewriting bool) error {
	folder := hourFolder(logTable, hour)
	keys := r.there[hour]
	if !slices.Contains(keys, folder+manifestSuffix) {
		if r.oldest.IsZero() || hour.Before(r.oldest) {
			return nil
		}
		return r.writeHour(ctx, hour, log, 1)
	}
	if !rewriting && hour.Before(r.until.Add(-recheck)) && ofOneRevision(keys) {
		return nil
	}
	var m Manifest
	if err := r.bucket.read(ctx, folder+manifestSuffix, &m); err != nil {
		return err
	}
	if err := m.check(hour); err != nil {
		return err
	}
	switch lacks := log.lacks(m.Facts); {
	case log.equal(m.Facts):
		return r.tidy(ctx, m)
	case !rewriting && lacks > 0:
		return fmt.Errorf("%w: %d of the hour %s: put them back by topk load restore --day %s",
			ErrLost, lacks, hour.Format("2006-01-02 15:04"), hour.Format(time.DateOnly))
	}
	return r.writeHour(ctx, hour, log, m.Revision+1)
}

// ofOneRevision tells whether objects of another revision were left behind.
func ofOneRevision(keys []string) bool {
	seen := map[string]bool{}
	for _, key := range keys {
		if parts := strings.Split(path.Base(key), "-"); len(parts) == 3 { // table-rN-i.parquet
			seen[parts[1]] = true
		}
	}
	return len(seen) <= 1
}

// writeHour writes all there is of an hour, and its manifest.
func (r *run) writeHour(ctx context.Context, hour time.Time, log Facts, revision int) error {
	m := Manifest{Version: formatVersion, Start: hour, Revision: revision, Facts: log, Objects: []Object{}, Epochs: r.epochs}
	for i, spans := range log.pieces(r.rowsPerObject) {
		o := Object{Key: objectKey(hourFolder(logTable, hour), logTable, revision, i), Table: logTable, Spans: spans}
		if err := r.object(ctx, &m, o); err != nil {
			return err
		}
	}
	for _, table := range []string{repeatsTable, rejectsTable} {
		o := Object{Key: objectKey(hourFolder(table, hour), table, revision, 0), Table: table}
		if err := r.object(ctx, &m, o); err != nil {
			return err
		}
	}
	if err := m.check(hour); err != nil {
		return err
	}
	if err := r.bucket.write(ctx, hourFolder(logTable, hour)+manifestSuffix, m); err != nil {
		return err
	}
	r.report.Hours++
	r.report.Plays += m.Plays
	for _, o := range m.Objects {
		r.report.Bytes += o.Bytes
	}
	if revision > 1 {
		r.report.Revisions++
		r.Log.WarnContext(ctx, "an hour was archived anew", "hour", hour, "revision", revision, "plays", m.Plays)
	}
	return r.tidy(ctx, m)
}

// tidy deletes what is left of other revisions of an hour.
func (r *run) tidy(ctx context.Context, m Manifest) error {
	for _, key := range r.there[m.Start] {
		if strings.HasSuffix(key, manifestSuffix) || slices.ContainsFunc(m.Objects, func(o Object) bool { return o.Key == key }) {
			continue
		}
		if err := r.bucket.delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// content is what statements choose their clauses by.
type content struct {
	Table   string
	Columns []Column
	Spans   []Span
	Log     bool // the table is that of the log
	Hourly  bool // of one hour, not all of the table
	Signed  bool
}

func (a *Archive) content(m *Manifest, o Object) (content, []any) {
	c := content{
		Table: o.Table, Columns: o.Columns, Spans: o.Spans, Log: o.Table == logTable,
		Hourly: o.Table != catalogTable && o.Table != segmentsTable, Signed: a.Location.signed(),
	}
	columns := make([]string, len(o.Columns))
	for i, column := range o.Columns {
		columns[i] = column.Name + " " + column.Type
	}
	args := append(a.Location.args(o.Key), clickhouse.Named("columns", strings.Join(columns, ", ")))
	if c.Hourly {
		args = append(args, sqlfile.Instant("from", m.Start), sqlfile.Instant("to", m.Start.Add(time.Hour)))
	}
	return c, args
}

// errMoved: a table has changed while it was written.
var errMoved = errors.New("what was written is not what the table has")

// object writes one, unless it would be empty, reads it back, and adds it to the
// manifest.
func (r *run) object(ctx context.Context, m *Manifest, o Object) (err error) {
	if err := r.query(ctx, "columns.sql", nil, []any{clickhouse.Named("table", o.Table)}, func(rows *sql.Rows) error {
		var c Column
		err := rows.Scan(&c.Name, &c.Type)
		o.Columns = append(o.Columns, c)
		return err
	}); err != nil {
		return err
	}
	c, args := r.content(m, o)
	if o.Rows, o.Print, err = r.print(ctx, "print_rows.sql", c, args); err != nil || o.Rows == 0 {
		return err
	}
	if err := r.exec(ctx, "write.sql", c, args...); err != nil {
		return err
	}
	rows, print, err := r.print(ctx, "print_object.sql", c, args)
	if err != nil {
		return err
	}
	if rows != o.Rows || print != o.Print {
		return fmt.Errorf("%s: %w: %d rows instead of %d", o.Key, errMoved, rows, o.Rows)
	}
	sizes, err := r.bucket.list(ctx, o.Key)
	if err != nil {
		return err
	}
	o.Bytes = sizes[o.Key]
	m.Objects = append(m.Objects, o)
	return nil
}

func (a *Archive) print(ctx context.Context, file string, c content, args []any) (rows uint64, print Print, err error) {
	err = a.query(ctx, file, c, args, func(r *sql.Rows) error { return r.Scan(&rows, (*uint64)(&print)) })
	return rows, print, err
}

// facts asks the log for those of each hour within [from, to); hours without
// plays are not among them.
func (a *Archive) facts(ctx context.Context, from, to time.Time) (map[time.Time]Facts, error) {
	all := map[time.Time]Facts{}
	return all, a.query(ctx, "facts.sql", nil, []any{sqlfile.Instant("from", from), sqlfile.Instant("to", to)}, func(rows *sql.Rows) error {
		var hour, minAt, maxAt, minTS, maxTS time.Time
		var s Source
		if err := rows.Scan(&hour, &s.Source, &s.Plays, &s.First, &s.Last, (*uint64)(&s.Print), &minAt, &maxAt, &minTS, &maxTS); err != nil {
			return err
		}
		hour = hour.UTC()
		f, there := all[hour]
		f.Plays += s.Plays
		f.Sources = append(f.Sources, s)
		if !there {
			f.MinAt, f.MaxAt, f.MinTS, f.MaxTS = minAt.UTC(), maxAt.UTC(), minTS.UTC(), maxTS.UTC()
		}
		f.MinAt, f.MinTS = topk.Earlier(f.MinAt, minAt.UTC()), topk.Earlier(f.MinTS, minTS.UTC())
		f.MaxAt, f.MaxTS = topk.Later(f.MaxAt, maxAt.UTC()), topk.Later(f.MaxTS, maxTS.UTC())
		all[hour] = f
		return nil
	})
}

// catalog archives songs and users' segments as they are, once a day.
func (r *run) catalog(ctx context.Context) error {
	keys, err := r.bucket.list(ctx, catalogPrefix+"/")
	if err != nil {
		return err
	}
	today := r.now.UTC().Truncate(24 * time.Hour)
	if _, there := keys[dayFolder(today)+manifestSuffix]; !there {
		if err := r.writeCatalog(ctx, today); err != nil {
			return err
		}
	}
	days := map[string]bool{dayFolder(today): true}
	for key := range keys {
		days[path.Dir(key)] = true
	}
	newest := slices.SortedFunc(maps.Keys(days), func(a, b string) int { return cmp.Compare(b, a) })
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if slices.Index(newest, path.Dir(key)) < catalogsKept {
			continue
		}
		if err := r.bucket.delete(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) writeCatalog(ctx context.Context, today time.Time) error {
	m := Manifest{Version: formatVersion, Start: today, Revision: 1, Objects: []Object{}}
	for _, table := range []string{catalogTable, segmentsTable} {
		for attempt := 1; ; attempt++ {
			err := r.object(ctx, &m, Object{Key: objectKey(dayFolder(today), table, 1, 0), Table: table})
			if err == nil {
				break
			}
			if attempt == catalogAttempts || !errors.Is(err, errMoved) { // it is being loaded
				return err
			}
		}
	}
	for _, o := range m.Objects {
		r.report.Bytes += o.Bytes
	}
	return r.bucket.write(ctx, dayFolder(today)+manifestSuffix, m)
}
