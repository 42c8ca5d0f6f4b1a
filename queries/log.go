package queries

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// A Play is one counted play of the log, as charts count it.
type Play struct {
	Src                    uint32
	Koff                   uint64
	TS                     int64 // event time, epoch ms
	SongID                 string
	Country                string // "" when unknown
	Region                 string // country or country/city; "" when unknown
	Device                 string // "" when unknown
	Segments               []string
	ContextKind, ContextID string
}

// A LogPosition is how far a follower has read the log. It comes from Counts
// and moves on by Arrivals.
type LogPosition struct {
	Next     topk.Watermark // the next offset to read, per source
	Heads    topk.Watermark // the next offset to be written, per source, as last seen
	Rewrites uint64         // rows of the table rewrites, as last seen
}

// ErrRewritten: history is not the one that was read. A follower starts anew.
var ErrRewritten = errors.New("the history of plays was rewritten")

// Arrivals reads the counted plays beyond pos, in order per source, and gives
// the position after them; more when a source has further ones. Of each source
// the plays of at most limit offsets are read. Plays that do not count move the
// position too.
//
// It asks first how far the log is, and then for the plays below that: of a
// source nothing is ever added below its head, so they are all there, whatever
// is written meanwhile.
//
// ErrRewritten, and no play is read, when the log is not the one that pos was
// read from.
func (db *DB) Arrivals(ctx context.Context, pos LogPosition, limit int, read func(Play) error) (next LogPosition, more bool, err error) {
	next = LogPosition{Next: topk.Watermark{}, Rewrites: pos.Rewrites}
	maps.Copy(next.Next, pos.Next)
	if next.Heads, err = db.heads(ctx, pos); err != nil {
		return LogPosition{}, false, err
	}
	var spans []span
	for _, src := range slices.Sorted(maps.Keys(next.Heads)) {
		if from, head := pos.Next[src], next.Heads[src]; from < head {
			to := min(head, from+uint64(limit))
			spans = append(spans, span{src, from, to})
			next.Next[src], more = to, more || to < head
		}
	}
	if len(spans) == 0 {
		return next, false, nil
	}
	found, err := db.playsIn(ctx, spans, read)
	if err != nil {
		return LogPosition{}, false, fmt.Errorf("plays beyond a position of the log: %w", err)
	}
	for _, s := range spans {
		if s.to < next.Heads[s.src] && !found[s.src] { // offsets may have wide gaps
			first, err := db.firstBeyond(ctx, s.src, s.to)
			if err != nil {
				return LogPosition{}, false, fmt.Errorf("first play of source %d from offset %d on: %w", s.src, s.to, err)
			}
			next.Next[s.src] = max(first, s.to) // there is none when the log has just been rewritten
		}
	}
	return next, more, nil
}

// heads gives the next offset to be written of every source, unless the log is
// not that of a position.
func (db *DB) heads(ctx context.Context, pos LogPosition) (topk.Watermark, error) {
	sql, err := statements.Render("heads.sql", nil)
	if err != nil {
		return nil, err
	}
	heads := topk.Watermark{}
	err = db.scan(ctx, sql, nil, func(rows driver.Rows) error {
		var src uint32
		var head, rewrites uint64
		if err := rows.Scan(&src, &head, &rewrites); err != nil {
			return err
		}
		if head == 0 { // the one row that is of no source
			if rewrites != pos.Rewrites {
				return ErrRewritten
			}
			return nil
		}
		if head < pos.Heads[src] {
			return ErrRewritten
		}
		heads[src] = head
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("heads of the log: %w", err)
	}
	return heads, db.onlyExpired(ctx, pos.Heads, heads)
}

// A span is a piece of a source: the offsets [from, to).
type span struct {
	src      uint32
	from, to uint64
}

// playsIn reads the counted plays of the spans, and tells which sources had any.
func (db *DB) playsIn(ctx context.Context, spans []span, read func(Play) error) (found map[uint32]bool, err error) {
	sql, err := statements.Render("arrivals.sql", spans)
	if err != nil {
		return nil, err
	}
	var args []any
	for i, s := range spans {
		n := strconv.Itoa(i)
		args = append(args, clickhouse.Named("src"+n, s.src), clickhouse.Named("from"+n, s.from), clickhouse.Named("to"+n, s.to))
	}
	found = map[uint32]bool{}
	var p Play
	return found, db.scan(ctx, sql, args, func(rows driver.Rows) error {
		if err := p.scan(rows); err != nil {
			return err
		}
		found[p.Src] = true
		return read(p)
	})
}

// firstBeyond gives the first offset of a source, not below from, that has a
// play.
func (db *DB) firstBeyond(ctx context.Context, src uint32, from uint64) (first uint64, err error) {
	sql, err := statements.Render("first_beyond.sql", nil)
	if err != nil {
		return 0, err
	}
	return first, db.scan(ctx, sql, []any{clickhouse.Named("src", src), clickhouse.Named("from", from)}, func(rows driver.Rows) error {
		return rows.Scan(&first)
	})
}

// scan reads a row of arrivals.sql or leaving.sql.
func (p *Play) scan(rows driver.Rows) error {
	return rows.Scan(&p.Src, &p.Koff, &p.TS, &p.SongID, &p.Country, &p.Region, &p.Device, &p.Segments, &p.ContextKind, &p.ContextID)
}

// onlyExpired is ErrRewritten when a source is gone that the log would still
// keep.
func (db *DB) onlyExpired(ctx context.Context, before, after topk.Watermark) error {
	var gone []uint32
	for src := range before {
		if _, there := after[src]; !there {
			gone = append(gone, src)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	sql, err := statements.Render("gone.sql", nil)
	if err != nil {
		return err
	}
	expired := 0
	err = db.scan(ctx, sql, []any{clickhouse.Named("sources", gone)}, func(rows driver.Rows) error {
		var src uint32
		expired++
		return rows.Scan(&src)
	})
	if err != nil {
		return fmt.Errorf("sources that are gone from the log: %w", err)
	}
	if expired < len(gone) {
		return ErrRewritten
	}
	return nil
}

// Leaving reads the counted plays of a span of event time that lie below the
// watermark, in any order: those that leave a window, or, of a span that lies
// ahead, those whose time has not come.
func (db *DB) Leaving(ctx context.Context, span topk.Span, below topk.Watermark, read func(Play) error) error {
	if len(below) == 0 {
		return nil
	}
	sql, err := statements.Render("leaving.sql", nil)
	if err != nil {
		return err
	}
	sources := slices.Sorted(maps.Keys(below))
	nexts := make([]uint64, len(sources))
	for i, src := range sources {
		nexts[i] = below[src]
	}
	args := []any{
		sqlfile.Instant("from", span.Start), sqlfile.Instant("to", span.End), sqlfile.Instant("atFrom", cameAfter(span.Start, true)),
		clickhouse.Named("sources", sources), clickhouse.Named("nexts", nexts),
	}
	var p Play
	err = db.scan(ctx, sql, args, func(rows driver.Rows) error {
		if err := p.scan(rows); err != nil {
			return err
		}
		return read(p)
	})
	if err != nil {
		return fmt.Errorf("plays from %s to %s: %w", span.Start, span.End, err)
	}
	return nil
}

// A CountsReader takes what Counts counts. The slices it is given have a number
// for each window, and are good for the one call.
type CountsReader interface {
	// Begin comes first, and again when the count is made anew: what was read
	// is to be forgotten.
	Begin()
	// Row is a song of a value, and its plays. Rows come in any order.
	Row(val, songID string, plays []uint64)
	// Floor comes once for each value, after all rows: of its songs that were
	// not given none has more plays than floors, which are 0 when all were; and
	// all of its songs together have totals.
	Floor(val string, floors, totals []uint64)
}

// thinning says which songs Counts leaves out.
type thinning struct {
	many   int // a value with more songs than this is thinned,
	kept   int // so that about so many of its songs are given per window,
	sample int // as found by looking at one song of so many
}

var defaultThinning = thinning{many: 20_000, kept: 15_000, sample: 16}

// Counts counts, of every value of one dimension (global, region, segment or
// device), every song's plays in several windows at once, as of now and of one
// prefix of the log: the position it gives.
//
// Of values with very many songs only those are given that have many plays in
// one of the windows (see CountsReader.Floor), except of global.
func (db *DB) Counts(ctx context.Context, dim topk.Dimension, windows []topk.Window, now time.Time, c CountsReader) (LogPosition, error) {
	fail := func(err error) (LogPosition, error) {
		return LogPosition{}, fmt.Errorf("counts of %s: %w", dim, err)
	}
	type songs struct {
		Dim     topk.Dimension
		Windows []topk.Window
		Sampled bool
	}
	sql, err := statements.Render("counts.sql", struct {
		songs
		Plan    grains
		Thinned bool
		Sample  songs
	}{songs{dim, windows, false}, grains{Days: true, Hours: true, Edges: true}, dim != topk.DimGlobal, songs{dim, windows, true}})
	if err != nil {
		return fail(err)
	}
	rewrites, err := statements.Render("rewrites.sql", nil)
	if err != nil {
		return fail(err)
	}
	var pos LogPosition
	// Before the counts: a rewrite in between is then noticed by whoever goes on
	// from here.
	if err := db.scan(ctx, rewrites, nil, func(rows driver.Rows) error {
		return rows.Scan(&pos.Rewrites)
	}); err != nil {
		return fail(err)
	}
	var kind uint8
	var val, songID string
	plays := make([]uint64, len(windows))
	row := []any{&kind, &val, &songID}
	for i := range plays {
		row = append(row, &plays[i])
	}
	floors, totals := map[string][]uint64{}, map[string][]uint64{}
	args := db.countsArgs(dim, windows, now)
	err = untilPrefix(ctx, func() error {
		c.Begin()
		clear(floors)
		clear(totals)
		pos.Next, pos.Heads = topk.Watermark{}, topk.Watermark{}
		return db.scan(ctx, sql, args, func(rows driver.Rows) error {
			if err := rows.Scan(row...); err != nil {
				return err
			}
			switch kind {
			case songRow:
				c.Row(val, songID, plays)
				return nil
			case totalsRow:
				totals[val] = slices.Clone(plays)
				return nil
			case floorsRow:
				floors[val] = slices.Clone(plays)
				return nil
			default:
				return pos.countsMark(kind, val, plays[0])
			}
		})
	})
	if err != nil {
		return fail(err)
	}
	complete := make([]uint64, len(windows))
	for val, plays := range totals {
		f := floors[val]
		if f == nil {
			f = complete
		}
		c.Floor(val, f, plays)
	}
	return pos, nil
}

func (db *DB) countsArgs(dim topk.Dimension, windows []topk.Window, now time.Time) []any {
	t := db.thinning
	args := []any{
		clickhouse.Named("dim", string(dim)),
		clickhouse.Named("many", uint32(t.many/t.sample)), clickhouse.Named("kept", uint32(t.kept/t.sample)),
		clickhouse.Named("sample", uint32(t.sample)),
	}
	for i, w := range windows {
		args = append(args, planOf(w.At(now, db.calendar), now).argsOf(strconv.Itoa(i))...)
	}
	return args
}

// The kinds of rows that counts.sql gives. A song, the totals and the floors of
// a value have a number for each window; the marks are of a source of the log,
// and have one number.
const (
	songRow = iota
	totalsRow
	floorsRow
	nextMark
	headMark
	behindMark
)

func (pos *LogPosition) countsMark(kind uint8, source string, n uint64) error {
	id, err := strconv.ParseUint(source, 10, 32)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	switch src := uint32(id); {
	case kind == behindMark && n > 0:
		return errBehind
	case kind == nextMark:
		pos.Next[src] = n
	case kind == headMark && n > 0:
		pos.Heads[src] = n
	}
	return nil
}

// Catalog reads the catalog's entries that were written within a time, in whole
// seconds, or all of them when it is 0. An entry appears a little later than it
// was written.
func (db *DB) Catalog(ctx context.Context, within time.Duration, read func(topk.Song) error) error {
	sql, err := statements.Render("catalog.sql", nil)
	if err != nil {
		return err
	}
	args := []any{clickhouse.Named("seconds", uint32(math.Ceil(within.Seconds())))}
	err = db.scan(ctx, sql, args, func(rows driver.Rows) error {
		var s topk.Song
		if err := rows.Scan(&s.SongID, &s.Title, &s.ArtistID, &s.Artist, &s.Genres, &s.DurationMS); err != nil {
			return err
		}
		return read(s)
	})
	if err != nil {
		return fmt.Errorf("read the catalog: %w", err)
	}
	return nil
}
