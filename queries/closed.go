package queries

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

// Closed gives a closed chart; date is the first day of its period, and revision
// 0 the latest one. A chart that corrections have emptied has no entries.
//
// ErrNotFound when there is no such revision, or no such chart.
func (db *DB) Closed(ctx context.Context, f topk.Filter, p topk.Period, date time.Time, revision int) (topk.ClosedChart, error) {
	chart := topk.ClosedChart{Period: p, Date: date}
	what := fmt.Sprintf("closed chart %s of the %s %s", f, p, date.Format(time.DateOnly))
	if revision < 0 || revision > maxRevision || !f.Eager() {
		return chart, fmt.Errorf("%s: %w", what, topk.ErrNotFound)
	}
	span, window, err := db.closedSpan(p, date)
	if err != nil {
		return chart, err
	}
	chart.Filter, chart.Window, chart.Span = f, window, span

	args := append(closedArgs(p, f), onDate("date", date))
	header, err := statements.Render("closed_chart.sql", nil)
	if err != nil {
		return chart, err
	}
	err = db.scan(ctx, header, append(args, clickhouse.Named("revision", uint32(revision))), func(rows driver.Rows) error {
		var n uint16
		defer func() { chart.Revision = int(n) }()
		return rows.Scan(&n, &chart.ClosedAt, &chart.TotalPlays)
	})
	switch {
	case err != nil:
		return chart, fmt.Errorf("%s: %w", what, err)
	case chart.Revision == 0:
		return chart, fmt.Errorf("%s: %w", what, topk.ErrNotFound)
	}
	chart.AsOf = chart.ClosedAt

	entries, err := statements.Render("closed_entries.sql", nil)
	if err != nil {
		return chart, err
	}
	err = db.scan(ctx, entries, append(args, sqlfile.Instant("closedAt", chart.ClosedAt)), func(rows driver.Rows) error {
		var rank uint16
		var e topk.Entry
		var c career
		if err := rows.Scan(append([]any{&rank, &e.SongID, &e.Plays}, c.columns()...)...); err != nil {
			return err
		}
		e.Rank = int(rank)
		chart.Entries, chart.Careers = append(chart.Entries, e), append(chart.Careers, c.career())
		return nil
	})
	if err != nil {
		return chart, fmt.Errorf("%s: %w", what, err)
	}
	return chart, nil
}

// ClosedDates gives up to k dates of which there is a closed chart with entries,
// the latest first: those before a date, or the latest when it is zero.
func (db *DB) ClosedDates(ctx context.Context, f topk.Filter, p topk.Period, before time.Time, k int) ([]topk.ClosedDate, error) {
	dates := []topk.ClosedDate{}
	if !f.Eager() {
		return dates, nil
	}
	sql, err := statements.Render("closed_dates.sql", struct{ Before bool }{!before.IsZero()})
	if err != nil {
		return nil, err
	}
	args := append(closedArgs(p, f), clickhouse.Named("k", uint32(k)))
	if !before.IsZero() {
		args = append(args, onDate("before", before))
	}
	err = db.scan(ctx, sql, args, func(rows driver.Rows) error {
		var d topk.ClosedDate
		var revision uint16
		if err := rows.Scan(&d.Date, &revision, &d.ClosedAt, &d.TotalPlays); err != nil {
			return err
		}
		d.Revision = int(revision)
		d.Span, _, err = db.closedSpan(p, d.Date)
		dates = append(dates, d)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("closed dates of %s: %w", f, err)
	}
	return dates, nil
}

// SongPlaces gives every closed chart of a date that the song is on, the best
// ranks first; a zero date is the latest of which there is a global chart. None
// when there is no such date, or the song is on no chart.
func (db *DB) SongPlaces(ctx context.Context, songID string, p topk.Period, date time.Time) ([]topk.ChartPlace, error) {
	if date.IsZero() {
		latest, err := db.ClosedDates(ctx, topk.Filter{}, p, time.Time{}, 1)
		if err != nil || len(latest) == 0 {
			return nil, err
		}
		date = latest[0].Date
	}
	args := []any{clickhouse.Named("period", string(p)), onDate("from", date), onDate("to", date.AddDate(0, 0, 1))}
	places, err := db.places(ctx, songID, false, args)
	slices.SortFunc(places, func(a, b topk.ChartPlace) int {
		return cmp.Or(cmp.Compare(a.Rank, b.Rank), strings.Compare(a.Filter.String(), b.Filter.String()))
	})
	return places, err
}

// SongRanks gives the song's places on the filter's closed charts whose dates lie
// in the span, the oldest first.
func (db *DB) SongRanks(ctx context.Context, songID string, f topk.Filter, p topk.Period, span topk.Span) ([]topk.ChartPlace, error) {
	if !f.Eager() {
		return nil, nil
	}
	from, to := span.Start.UTC(), span.End.UTC()
	return db.places(ctx, songID, true, append(closedArgs(p, f), onDate("from", ceil(from, day)), onDate("to", ceil(to, day))))
}

func (db *DB) places(ctx context.Context, songID string, ofChart bool, args []any) ([]topk.ChartPlace, error) {
	sql, err := statements.Render("closed_places.sql", struct{ Chart bool }{ofChart})
	if err != nil {
		return nil, err
	}
	places := []topk.ChartPlace{}
	err = db.scan(ctx, sql, append(args, clickhouse.Named("song", songID)), func(rows driver.Rows) error {
		var dim, val string
		var revision, rank uint16
		var place topk.ChartPlace
		var c career
		err := rows.Scan(append([]any{&dim, &val, &place.Date, &revision, &rank, &place.Plays}, c.columns()...)...)
		if err != nil {
			return err
		}
		place.Filter = topk.NewFilter(topk.Term{Dim: topk.Dimension(dim), Value: val})
		place.Revision, place.Rank, place.Career = int(revision), int(rank), c.career()
		places = append(places, place)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("places of song %s: %w", songID, err)
	}
	return places, nil
}

// A career is how a closed entry keeps a topk.Career.
type career struct {
	previousRank, peak uint16
	peakDate           time.Time
	periods, streak    uint32
	movement           string
}

// columns are where its columns are read to: previousRank, peak, peakDate,
// periods, streak, movement.
func (c *career) columns() []any {
	return []any{&c.previousRank, &c.peak, &c.peakDate, &c.periods, &c.streak, &c.movement}
}

func (c *career) career() topk.Career {
	return topk.Career{
		PreviousRank: int(c.previousRank), Peak: int(c.peak), PeakDate: c.peakDate,
		Periods: int(c.periods), Streak: int(c.streak), Movement: topk.Movement(c.movement),
	}
}

// maxRevision is the last number a revision can have.
const maxRevision = 1<<16 - 1

// closedArgs name the closed charts of an eager filter.
func closedArgs(p topk.Period, f topk.Filter) []any {
	term := f.Terms()[0]
	return []any{clickhouse.Named("period", string(p)), clickhouse.Named("dim", string(term.Dim)), clickhouse.Named("val", term.Value)}
}

// closedSpan is what the closed chart of a date covers.
func (db *DB) closedSpan(p topk.Period, date time.Time) (topk.Span, topk.Window, error) {
	span := topk.Span{Start: date, End: date}
	span = p.After(span)
	window, err := topk.Between(span.Start, span.End)
	return span, window, err
}

// onDate writes a day as a Date parameter.
func onDate(name string, t time.Time) any {
	return clickhouse.Named(name, t.UTC().Format(time.DateOnly))
}
