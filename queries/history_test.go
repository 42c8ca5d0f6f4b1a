package queries_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
)

// Every step of every history equals the brute-force count, with the rollups at
// different places of the log.
func TestSongHistoryEqualsTheCountOfPlays(t *testing.T) {
	c := unevenChain(t, 40)
	cal := topk.DefaultCalendar()
	ask := rapid.Custom(func(t *rapid.T) topk.HistoryQuery {
		g := rapid.SampledFrom([]topk.Grain{topk.HourGrain, topk.DayGrain, topk.WeekGrain}).Draw(t, "grain")
		end := g.Containing(now, cal).End.Add(-time.Duration(rapid.IntRange(0, 3).Draw(t, "steps ago")) * g.Length())
		return topk.HistoryQuery{
			SongID: rapid.Custom(func(t *rapid.T) topk.Play { return oracle.Play(t, "-", now) }).Draw(t, "play").SongID,
			Filter: oracle.Filter(t), Grain: g, Now: now,
			Span: topk.Span{Start: end.Add(-time.Duration(rapid.IntRange(1, 200).Draw(t, "steps")) * g.Length()), End: end},
		}
	})
	questions := make(chan topk.HistoryQuery)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for q := range questions {
				c.compareHistory(q)
			}
		})
	}
	for i := range 100 {
		questions <- ask.Example(i)
	}
	close(questions)
	workers.Wait()
}

func (c *chain) compareHistory(q topk.HistoryQuery) {
	c.Helper()
	got, err := c.db.SongHistory(c.Context(), q)
	if err != nil {
		c.Errorf("%+v: %v", q, err)
		return
	}
	var want []topk.HistoryPoint
	for start := q.Span.Start; start.Before(q.Span.End); start = start.Add(q.Grain.Length()) {
		point := topk.HistoryPoint{Span: topk.Span{Start: start, End: start.Add(q.Grain.Length())}}
		counted := point.Span
		if end := q.Now.Add(time.Millisecond); end.Before(counted.End) {
			counted.End = end
		}
		entries, _ := c.oracle.Chart(q.Filter, counted, topk.MaxK)
		for _, e := range entries {
			if e.SongID == q.SongID {
				point.Plays = e.Plays
			}
		}
		want = append(want, point)
	}
	if !reflect.DeepEqual(got, want) {
		c.Errorf("%s %s by %s from %s:\n got %+v\nwant %+v", q.SongID, q.Filter, q.Grain, q.Span.Start, got, want)
	}
}

// What is no longer kept in the grain that is asked for is refused.
func TestSongHistoryRefusesWhatIsNoLongerKept(t *testing.T) {
	c := newChain(t)
	c.append(0, randomPlays(3, 10)...)
	c.fill("rollup_day")
	later := now.Add(500 * 24 * time.Hour).Truncate(24 * time.Hour)
	joined := topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "IN"}, topk.Term{Dim: topk.DimDevice, Value: "mobile"})
	for _, test := range []struct {
		filter  topk.Filter
		grain   topk.Grain
		ago     time.Duration
		refused bool
	}{
		{topk.Filter{}, topk.HourGrain, 401 * 24 * time.Hour, true},
		{topk.Filter{}, topk.HourGrain, 399 * 24 * time.Hour, false},
		{topk.Filter{}, topk.DayGrain, 500 * 24 * time.Hour, false},
		{joined, topk.DayGrain, 95 * 24 * time.Hour, true},
		{joined, topk.DayGrain, 85 * 24 * time.Hour, false},
	} {
		_, err := c.db.SongHistory(t.Context(), topk.HistoryQuery{
			SongID: "s1", Filter: test.filter, Grain: test.grain, Now: later,
			Span: topk.Span{Start: later.Add(-test.ago), End: later.Add(-test.ago + 7*24*time.Hour)},
		})
		if refused := errors.Is(err, topk.ErrInvalid); refused != test.refused || err != nil && !refused {
			t.Errorf("%s by %s %s ago: %v, want refused %t", test.filter, test.grain, test.ago, err, test.refused)
		}
	}
}
