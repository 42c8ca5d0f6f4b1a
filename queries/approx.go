package queries

import (
	"context"
	"fmt"
	"slices"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// approxCounters are how many songs an approximate chart keeps count of. An
// error is at most the plays of all songs divided by it, and 0 when there are
// no more songs.
const approxCounters = 20_000

// Approx estimates the chart that Chart counts, in memory that does not grow
// with the songs that were played. An estimate is at least the true count, and
// at most its error above it; TotalPlays is exact.
//
// Errors are those of Chart. There are no pages: After is ErrInvalid.
func (db *DB) Approx(ctx context.Context, q topk.ChartQuery) (topk.ApproxChart, error) {
	if q.After != nil {
		return topk.ApproxChart{}, topk.FieldErrors{{Field: "cursor", Message: "an approximate chart has no further pages: ask for a larger k, up to 1000, or for the exact chart"}}
	}
	chart := db.blank(q)
	c, args, err := db.clausesOf(ctx, q.Filter)
	if err != nil {
		return topk.ApproxChart{}, err
	}
	p := innerPlan(chart.Span)
	if !c.Rollup {
		p = rawPlan(chart.Span)
	}
	if err := db.keeps(ctx, p, c, q.Now); err != nil {
		return topk.ApproxChart{}, err
	}
	c.Plan = p.grains()
	sql, err := statements.Render("approx.sql", c)
	if err != nil {
		return topk.ApproxChart{}, err
	}
	args = append(args, p.args()...)
	args = append(args, clickhouse.Named("k", uint32(q.K)), clickhouse.Named("counters", uint32(max(q.K, db.counters))))

	type estimate struct {
		topk.Entry
		error uint64
	}
	var estimates []estimate
	err = untilPrefix(ctx, func() error {
		estimates, chart.TotalPlays, chart.Watermark = nil, 0, topk.Watermark{}
		return db.scan(ctx, sql, args, func(rows driver.Rows) error {
			var e estimate
			var total, next uint64
			var src uint32
			var behind bool
			if err := rows.Scan(&e.SongID, &e.Plays, &e.error, &total, &src, &next, &behind); err != nil {
				return err
			}
			if e.SongID == "" {
				return wmRow(chart.Watermark, src, next, behind)
			}
			estimates, chart.TotalPlays = append(estimates, e), total
			return nil
		})
	})
	if err != nil {
		return topk.ApproxChart{}, fmt.Errorf("approximate chart %s %s: %w", q.Filter, q.Window, db.instead(ctx, err, q, c, sql, args))
	}
	slices.SortFunc(estimates, func(a, b estimate) int { return topk.CompareEntries(a.Entry, b.Entry) })
	approx := topk.ApproxChart{Chart: chart, Errors: make([]uint64, len(estimates))}
	for i, e := range estimates {
		e.Rank = i + 1
		approx.Entries = append(approx.Entries, e.Entry)
		approx.Errors[i] = e.error
	}
	return approx, nil
}
