package queries

import (
	"context"
	"errors"

	"github.com/topk-charts/topk"
)

var errPending = errors.New("not built yet")

func (db *DB) Listeners(ctx context.Context, q topk.ChartQuery) (topk.Chart, error) {
	return topk.Chart{}, errPending
}

func (db *DB) Approx(ctx context.Context, q topk.ChartQuery) (topk.ApproxChart, error) {
	return topk.ApproxChart{}, errPending
}

func (db *DB) Compare(ctx context.Context, q topk.ComparisonQuery) (topk.Comparison, error) {
	return topk.Comparison{}, errPending
}

func (db *DB) SongHistory(ctx context.Context, q topk.HistoryQuery) ([]topk.HistoryPoint, error) {
	return nil, errPending
}

func (db *DB) Values(ctx context.Context, dim topk.Dimension) ([]string, error) {
	return nil, errPending
}

func (db *DB) Artist(ctx context.Context, artistID string) (topk.Artist, error) {
	return topk.Artist{}, errPending
}
