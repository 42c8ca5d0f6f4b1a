package api

import (
	"context"
	"fmt"
	"time"

	"github.com/topk-charts/topk"
)

func (twoSongs) Compare(_ context.Context, q topk.ComparisonQuery) (topk.Comparison, error) {
	window, reference, err := q.Sides(topk.DefaultCalendar())
	return topk.Comparison{
		Filter: q.Filter, Window: q.Window, AsOf: q.Now, Span: window.Span, ReferenceFilter: reference.Filter, ReferenceSpan: reference.Span,
		TotalPlays: 3, ReferencePlays: 3,
		Items: []topk.Rise{{Rank: 1, SongID: "a", Plays: 2, ReferencePlays: 1, Expected: 1, Score: 0.7}, {Rank: 2, SongID: "b", Plays: 1, Score: 1}},
	}, err
}

func (twoSongs) SongHistory(_ context.Context, q topk.HistoryQuery) ([]topk.HistoryPoint, error) {
	plays := uint64(1)
	if q.SongID == "none" {
		plays = 0
	}
	return []topk.HistoryPoint{{Span: q.Span, Plays: plays}}, nil
}

func (twoSongs) SongRanks(_ context.Context, _ string, _ topk.Filter, _ topk.Period, span topk.Span) ([]topk.ChartPlace, error) {
	return []topk.ChartPlace{{Date: span.Start, Rank: 1}}, nil
}

func (twoSongs) ClosedDates(_ context.Context, _ topk.Filter, p topk.Period, _ time.Time, _ int) ([]topk.ClosedDate, error) {
	span := p.Containing(time.Unix(1763000000, 0), topk.DefaultCalendar())
	return []topk.ClosedDate{{Date: span.Start, Span: span, Revision: 1, ClosedAt: span.End, TotalPlays: 1}}, nil
}

func (twoSongs) SongPlaces(_ context.Context, id string, _ topk.Period, date time.Time) ([]topk.ChartPlace, error) {
	if id == "none" {
		return nil, nil
	}
	return []topk.ChartPlace{
		{Date: date, Revision: 1, Rank: 1, Plays: 1, Career: topk.Career{PreviousRank: 2, Peak: 1, PeakDate: date, Periods: 2, Streak: 1, Movement: topk.Up}},
		{Date: date, Revision: 1, Rank: 1, Plays: 1, Career: topk.Career{Peak: 1, PeakDate: date, Periods: 1, Streak: 1, Movement: topk.New}},
	}, nil
}

func (twoSongs) Values(_ context.Context, dim topk.Dimension) ([]string, error) {
	return []string{string(dim) + "-1", string(dim) + "-2"}, nil
}

func (twoSongs) Artist(_ context.Context, id string) (topk.Artist, error) {
	if id == "none" {
		return topk.Artist{}, fmt.Errorf("%w: artist", topk.ErrNotFound)
	}
	return topk.Artist{ArtistID: id, Name: "X", Songs: 1}, nil
}
