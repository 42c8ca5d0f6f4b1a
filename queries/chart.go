package queries

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// LogRetention is how long the log keeps plays, by the time they came in.
// Beyond it windows are exact in whole hours and single dimensions only.
const LogRetention = 90 * 24 * time.Hour

// MaxAhead bounds how much later than its arrival a play's event time can be:
// what the gateway allows, its grace and some more.
const MaxAhead = 24 * time.Hour

// errBehind: a rollup was read at a later moment than the log.
var errBehind = errors.New("the log was read before the rollups")

// clauses is what chart.sql and approx.sql choose their clauses by.
type clauses struct {
	Plan      grains
	Rollup    bool             // at most one stored term: rollups can be used
	Stored    []topk.Dimension // terms that are stored per play; values v0, v1, …
	Genres    bool             // only songs of all {genres}
	Songs     bool             // only these {songs}
	Listeners bool             // a song's listeners are its score, not its plays
	After     bool             // only entries below {afterPlays}, {afterSong}
}

// Chart computes the exact entries that are asked for, of any filter and window.
//
// The chart is that of one prefix of the log, its Watermark, whatever is being
// written meanwhile. ErrInvalid when the window would need plays that the log
// no longer keeps, or more work than is allowed; ErrUnavailable when ClickHouse
// is away or out of time.
func (db *DB) Chart(ctx context.Context, q topk.ChartQuery) (topk.Chart, error) {
	return db.chart(ctx, q, false)
}

// Listeners is Chart by unique listeners: Plays of an entry are the users that
// played the song in the window, each counted once. TotalPlays are plays, of
// all songs.
//
// Users are only in the log, so a window that reaches back beyond what the log
// keeps is ErrInvalid.
func (db *DB) Listeners(ctx context.Context, q topk.ChartQuery) (topk.Chart, error) {
	return db.chart(ctx, q, true)
}

func (db *DB) chart(ctx context.Context, q topk.ChartQuery, listeners bool) (topk.Chart, error) {
	chart := db.blank(q)
	c, args, err := db.clausesOf(ctx, q.Filter)
	if err != nil {
		return topk.Chart{}, err
	}
	if c.Listeners = listeners; listeners {
		c.Rollup = false
	}
	p := c.planOf(chart.Span, q.Now)
	if err := db.keeps(ctx, p, c, q.Now); err != nil {
		return topk.Chart{}, err
	}
	c.Plan = p.grains()
	args = append(args, p.args()...)
	args = append(args, clickhouse.Named("k", uint32(q.K)))
	if c.After = q.After != nil; c.After {
		args = append(args, clickhouse.Named("afterPlays", q.After.Plays), clickhouse.Named("afterSong", q.After.SongID))
	}
	sql, err := statements.Render("chart.sql", c)
	if err != nil {
		return topk.Chart{}, err
	}
	if err := db.entries(ctx, &chart, sql, args); err != nil {
		return topk.Chart{}, fmt.Errorf("chart %s %s: %w", q.Filter, q.Window, db.instead(ctx, err, q, c, sql, args))
	}
	return chart, nil
}

// blank is the chart that q asks for, before anything is counted.
func (db *DB) blank(q topk.ChartQuery) topk.Chart {
	return topk.Chart{Filter: q.Filter, Window: q.Window, AsOf: q.Now.UTC().Truncate(time.Millisecond), Span: q.Window.At(q.Now, db.calendar)}
}

// SongPlays counts one song's plays in each window at now.
func (db *DB) SongPlays(ctx context.Context, songID string, windows []topk.Window, now time.Time) ([]uint64, error) {
	counts := make([]uint64, len(windows))
	c := clauses{Rollup: true, Songs: true}
	for i, w := range windows {
		p := c.planOf(w.At(now, db.calendar), now)
		if err := db.keeps(ctx, p, c, now); err != nil {
			return nil, err
		}
		c.Plan = p.grains()
		sql, err := statements.Render("chart.sql", c)
		if err != nil {
			return nil, err
		}
		args := append(p.args(), clickhouse.Named("dim", string(topk.DimGlobal)), clickhouse.Named("val", ""),
			clickhouse.Named("songs", []string{songID}), clickhouse.Named("k", uint32(1)))
		var chart topk.Chart
		if err := db.entries(ctx, &chart, sql, args); err != nil {
			return nil, fmt.Errorf("plays of song %s in %s: %w", songID, w, err)
		}
		counts[i] = chart.TotalPlays
	}
	return counts, nil
}

// clausesOf turns a filter into clauses and their values. Songs of an artist
// are asked for first: they are few, and as values they prune what is read.
func (db *DB) clausesOf(ctx context.Context, f topk.Filter) (clauses, []any, error) {
	var c clauses
	var args []any
	var genres, artists []string
	rollup := topk.Term{Dim: topk.DimGlobal}
	for _, t := range f.Terms() {
		switch t.Dim {
		case topk.DimGlobal:
		case topk.DimGenre:
			genres = append(genres, t.Value)
		case topk.DimArtist:
			artists = append(artists, t.Value)
		default:
			args = append(args, clickhouse.Named("v"+strconv.Itoa(len(c.Stored)), t.Value))
			c.Stored = append(c.Stored, t.Dim)
			rollup = t
		}
	}
	if c.Genres = len(genres) > 0; c.Genres {
		args = append(args, clickhouse.Named("genres", genres))
	}
	if c.Songs = len(artists) > 0; c.Songs {
		songs, err := db.songsOf(ctx, artists)
		if err != nil {
			return clauses{}, nil, err
		}
		args = append(args, clickhouse.Named("songs", songs))
	}
	if c.Rollup = len(c.Stored) <= 1; c.Rollup {
		args = append(args, clickhouse.Named("dim", string(rollup.Dim)), clickhouse.Named("val", rollup.Value))
	}
	return c, args, nil
}

// planOf splits a span among the grains that there are for the clauses.
func (c clauses) planOf(s topk.Span, now time.Time) plan {
	if !c.Rollup {
		return rawPlan(s)
	}
	return planOf(s, now)
}

// keeps is ErrInvalid for a plan that needs what is not kept any more.
func (db *DB) keeps(ctx context.Context, p plan, c clauses, now time.Time) error {
	if oldest, raw := p.oldestRaw(); raw && oldest.Before(now.Add(-LogRetention)) {
		first, err := db.FirstDay(ctx)
		if err != nil {
			return err
		}
		// Unless nothing was played before what the log keeps.
		if !first.IsZero() && first.Before(now.Add(-LogRetention-MaxAhead)) {
			message := "plays are kept one by one for 90 days; before that from and to must be whole hours"
			switch {
			case c.Listeners:
				message = "listeners are known for 90 days: ask for a window that begins later, or for plays"
			case !c.Rollup:
				message = "plays are kept one by one for 90 days; before that a filter may have only one of region, segment, device, playlist and album"
			}
			return topk.FieldErrors{{Message: message}}
		}
	}
	if oldest, hours := p.oldestHour(); hours && oldest.Before(now.Add(-HourRetention)) {
		var first time.Time
		if err := db.row(ctx, "first_week.sql", nil, &first); err != nil {
			return fmt.Errorf("first week with plays: %w", err)
		}
		// Unless nothing was counted so long ago that it is gone by now.
		if first.Unix() > 0 && first.Before(now.Add(-HourRetention+day)) {
			return topk.FieldErrors{{Message: "plays are kept by hour for 400 days; before that from and to must be whole days"}}
		}
	}
	return nil
}

// entries runs chart.sql until it saw a prefix of the log, and puts what was
// counted into the chart.
func (db *DB) entries(ctx context.Context, chart *topk.Chart, sql string, args []any) error {
	var ahead uint64 // of the entries, songs that are not among them
	err := untilPrefix(ctx, func() error {
		chart.Entries, chart.TotalPlays, chart.Watermark, ahead = nil, 0, topk.Watermark{}, 0
		return db.scan(ctx, sql, args, func(rows driver.Rows) error {
			var e topk.Entry
			var total, above, next uint64
			var src uint32
			var beyond, behind bool
			if err := rows.Scan(&e.SongID, &e.Plays, &total, &above, &beyond, &src, &next, &behind); err != nil {
				return err
			}
			if e.SongID == "" {
				return wmRow(chart.Watermark, src, next, behind)
			}
			chart.TotalPlays, ahead = total, above
			if beyond {
				chart.Entries = append(chart.Entries, e)
			}
			return nil
		})
	})
	topk.RankEntries(chart.Entries)
	for i := range chart.Entries {
		chart.Entries[i].Rank += int(ahead)
	}
	return err
}

// counting is what charts.sql and close_count.sql choose their clauses by.
type counting struct {
	Plan  grains
	Dim   topk.Dimension // as it is stored
	Genre bool           // by the genres of the songs
}

// Charts computes the top topk.SnapshotSize of every value of one dimension
// that has plays in the window, in one statement and of one prefix of the log.
// The dimension is global, region, genre, segment or device. blank is the chart,
// of the same instant and prefix, of a value that has no plays in the window.
func (db *DB) Charts(ctx context.Context, dim topk.Dimension, w topk.Window, now time.Time) (all []topk.Chart, blank topk.Chart, err error) {
	stored := dim
	if dim == topk.DimGenre {
		stored = topk.DimGlobal
	}
	blank = topk.Chart{Window: w, AsOf: now.UTC().Truncate(time.Millisecond), Span: w.At(now, db.calendar)}
	p := planOf(blank.Span, now)
	sql, err := statements.Render("charts.sql", counting{p.grains(), stored, dim == topk.DimGenre})
	if err != nil {
		return nil, topk.Chart{}, err
	}
	args := append(p.args(),
		clickhouse.Named("dim", string(stored)), clickhouse.Named("k", uint32(topk.SnapshotSize)))

	var charts map[string]*topk.Chart
	err = untilPrefix(ctx, func() error {
		charts, blank.Watermark = map[string]*topk.Chart{}, topk.Watermark{}
		return db.scan(ctx, sql, args, func(rows driver.Rows) error {
			var val, songID string
			var plays, total, next uint64
			var src uint32
			var behind bool
			if err := rows.Scan(&val, &songID, &plays, &total, &src, &next, &behind); err != nil {
				return err
			}
			if songID == "" {
				return wmRow(blank.Watermark, src, next, behind)
			}
			c := charts[val]
			if c == nil {
				fresh := blank
				fresh.Filter, fresh.TotalPlays = topk.NewFilter(topk.Term{Dim: dim, Value: val}), total
				c = &fresh
				charts[val] = c
			}
			c.Entries = append(c.Entries, topk.Entry{SongID: songID, Plays: plays})
			return nil
		})
	})
	if err != nil {
		return nil, topk.Chart{}, fmt.Errorf("charts of %s %s: %w", dim, w, err)
	}
	all = make([]topk.Chart, 0, len(charts))
	for _, c := range charts {
		topk.RankEntries(c.Entries)
		all = append(all, *c)
	}
	slices.SortFunc(all, func(a, b topk.Chart) int { return strings.Compare(a.Filter.String(), b.Filter.String()) })
	return all, blank, nil
}

func wmRow(wm topk.Watermark, src uint32, next uint64, behind bool) error {
	if behind {
		return errBehind
	}
	wm[src] = next
	return nil
}

// behindPause is how long a read that met the tables in disagreement waits
// until it asks again.
const behindPause = 5 * time.Millisecond

// untilPrefix repeats a read that met a rollup newer than its view of the log.
func untilPrefix(ctx context.Context, read func() error) error {
	for {
		err := read()
		if !errors.Is(err, errBehind) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(behindPause):
		}
	}
}
