package queries

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// A comparedSide is what compare.sql chooses the clauses of one side by.
type comparedSide struct {
	clauses
	N        int  // 0 the window, 1 the reference
	Everyone bool // everyone's plays, whatever the filter's stored terms
}

// Compare ranks songs by how far their plays exceed what the reference lets
// expect, exactly, of any filter, both sides counted of one prefix of the log.
// Errors as Chart's, and ErrInvalid when there is nothing to compare with.
func (db *DB) Compare(ctx context.Context, q topk.ComparisonQuery) (topk.Comparison, error) {
	found, err := db.comparison(ctx, q)
	if err != nil {
		return topk.Comparison{}, fmt.Errorf("comparison of %s %s with %s: %w", q.Filter, q.Window, q.Reference, err)
	}
	return found, nil
}

func (db *DB) comparison(ctx context.Context, q topk.ComparisonQuery) (topk.Comparison, error) {
	window, reference, err := q.Sides(db.calendar)
	if err != nil {
		return topk.Comparison{}, err
	}
	c, args, err := db.clausesOf(ctx, q.Filter)
	if err != nil {
		return topk.Comparison{}, err
	}
	sides := [2]comparedSide{{clauses: c}, {clauses: c, N: 1}}
	if q.Reference == topk.Everywhere {
		sides[1].Everyone, sides[1].Stored, sides[1].Rollup = true, nil, true
	}
	for i, span := range []topk.Span{window.Span, reference.Span} {
		p := sides[i].planOf(span, q.Now)
		if err := db.keeps(ctx, p, sides[i].clauses, q.Now); err != nil {
			return topk.Comparison{}, err
		}
		sides[i].Plan = p.grains()
		c.Plan = c.Plan.or(sides[i].Plan)
		args = append(args, p.argsOf(fmt.Sprint(i))...)
	}
	args = append(args, clickhouse.Named("k", uint32(q.K)))
	sql, err := statements.Render("compare.sql", struct {
		clauses
		Sides [2]comparedSide
	}{c, sides})
	if err != nil {
		return topk.Comparison{}, err
	}

	found := topk.Comparison{
		Filter: q.Filter, Window: q.Window, AsOf: q.Now.UTC().Truncate(time.Millisecond), Span: window.Span,
		ReferenceFilter: reference.Filter, ReferenceSpan: reference.Span,
	}
	err = untilPrefix(ctx, func() error {
		found.Items, found.Watermark = nil, topk.Watermark{}
		return db.scan(ctx, sql, args, func(rows driver.Rows) error {
			var rise topk.Rise
			var total, referenceTotal, next uint64
			var src uint32
			var behind bool
			if err := rows.Scan(&rise.SongID, &rise.Plays, &rise.ReferencePlays, &total, &referenceTotal, &rise.Expected, &rise.Score,
				&src, &next, &behind); err != nil {
				return err
			}
			if rise.SongID == "" {
				return wmRow(found.Watermark, src, next, behind)
			}
			found.TotalPlays, found.ReferencePlays = total, referenceTotal
			if rise.Plays > 0 {
				rise.Rank = len(found.Items) + 1
				found.Items = append(found.Items, rise)
			}
			return nil
		})
	})
	return found, err
}
