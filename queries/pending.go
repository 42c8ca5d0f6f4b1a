package queries

import (
	"context"
	"errors"
	"time"

	"github.com/topk-charts/topk"
)

var errPending = errors.New("not built yet")

func (db *DB) Closed(ctx context.Context, f topk.Filter, p topk.Period, date time.Time, revision int) (topk.ClosedChart, error) {
	return topk.ClosedChart{}, errPending
}

func (db *DB) ClosedDates(ctx context.Context, f topk.Filter, p topk.Period, before time.Time, k int) ([]topk.ClosedDate, error) {
	return nil, errPending
}

func (db *DB) SongPlaces(ctx context.Context, songID string, p topk.Period, date time.Time) ([]topk.ChartPlace, error) {
	return nil, errPending
}

func (db *DB) SongRanks(ctx context.Context, songID string, f topk.Filter, p topk.Period, span topk.Span) ([]topk.ChartPlace, error) {
	return nil, errPending
}
