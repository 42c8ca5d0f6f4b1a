package queries

import (
	"context"
	"fmt"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/topk-charts/topk"
)

// MaxValues is how many values of one dimension are told. Cities come from
// clients as they like.
const MaxValues = 100_000

// Values gives the values of a dimension of which charts are kept, in bytes
// order: region, genre, segment or device. A value that was never played before
// appears a few seconds after its first play.
func (db *DB) Values(ctx context.Context, dim topk.Dimension) ([]string, error) {
	sql, err := statements.Render("values.sql", string(dim))
	if err != nil {
		return nil, err
	}
	var values []string
	args := []any{clickhouse.Named("dim", string(dim)), clickhouse.Named("limit", uint32(MaxValues))}
	err = db.scan(ctx, sql, args, func(rows driver.Rows) error {
		var value string
		if err := rows.Scan(&value); err != nil {
			return err
		}
		values = append(values, value)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("values of %s: %w", dim, err)
	}
	return values, nil
}
