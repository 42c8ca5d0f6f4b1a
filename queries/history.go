package queries

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// HourRetention is how long plays are kept by hour; by day they are kept for
// ever.
const HourRetention = 400 * 24 * time.Hour

// SongHistory counts a song's plays in every step of the span, oldest first and
// without gaps, exactly and of one prefix of the log. Errors as Chart's.
func (db *DB) SongHistory(ctx context.Context, q topk.HistoryQuery) ([]topk.HistoryPoint, error) {
	points, err := db.history(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("history of song %s %s by %s: %w", q.SongID, q.Filter, q.Grain, err)
	}
	return points, nil
}

func (db *DB) history(ctx context.Context, q topk.HistoryQuery) ([]topk.HistoryPoint, error) {
	if q.Grain == topk.HourGrain && q.Span.Start.Before(q.Now.Add(-HourRetention)) {
		return nil, topk.FieldErrors{{Message: "plays are kept by hour for 400 days; before that the grain must be day or week"}}
	}
	c, args, err := db.clausesOf(ctx, q.Filter)
	if err != nil {
		return nil, err
	}
	counted := topk.Span{Start: q.Span.Start, End: q.Span.End}
	if end := topk.AllTime.At(q.Now, db.calendar).End; end.Before(counted.End) {
		counted.End = end
	}
	p := c.planOf(counted, q.Now)
	if q.Grain == topk.HourGrain {
		p.dayFrom, p.dayTo = p.hourTo, p.hourTo
	}
	if err := db.keeps(ctx, p, c, q.Now); err != nil {
		return nil, err
	}
	c.Plan = p.grains()
	step := q.Grain.Length()
	args = append(args, p.args()...)
	args = append(args, clickhouse.Named("song", q.SongID), clickhouse.Named("seconds", uint32(step.Seconds())))
	sql, err := statements.Render("history.sql", c)
	if err != nil {
		return nil, err
	}
	var points []topk.HistoryPoint
	for start := q.Span.Start; start.Before(q.Span.End); start = start.Add(step) {
		points = append(points, topk.HistoryPoint{Span: topk.Span{Start: start, End: start.Add(step)}})
	}
	err = untilPrefix(ctx, func() error {
		wm := topk.Watermark{}
		for i := range points {
			points[i].Plays = 0
		}
		return db.scan(ctx, sql, args, func(rows driver.Rows) error {
			var i int64
			var plays, next uint64
			var src uint32
			var behind bool
			if err := rows.Scan(&i, &plays, &src, &next, &behind); err != nil {
				return err
			}
			if i < 0 {
				return wmRow(wm, src, next, behind)
			}
			points[i].Plays = plays
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	return points, nil
}
