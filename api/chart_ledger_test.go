package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/snapshot"
)

// A ledger answers for ClickHouse from single plays, so that windows matter.
type ledger struct {
	*truth
	plays  []ledgerPlay
	closed []topk.ClosedChart // the later revision last
	asked  []string

	songsErr error // what look-ups of songs fail with
}

type ledgerPlay struct {
	song, user string
	at         time.Time
}

// newLedger is a service over a ledger.
func newLedger(t *testing.T, change ...func(*api.Config)) (*service, *ledger) {
	t.Helper()
	l := &ledger{}
	s := newService(t, append(change, func(c *api.Config) {
		l.truth = c.Queries.(*truth)
		c.Queries = l
	})...)
	return s, l
}

// play adds n plays of a song at an instant, each by another user.
func (l *ledger) play(at time.Time, song string, n int) {
	l.set(func() {
		for i := range n {
			l.plays = append(l.plays, ledgerPlay{song, fmt.Sprint(i), at})
		}
	})
}

// ask notes what is asked, waits while the ledger holds, and gives what every
// call fails with.
func (l *ledger) ask(what ...any) error {
	l.mu.Lock()
	hold := l.hold
	l.asked = append(l.asked, strings.TrimSuffix(fmt.Sprintln(what...), "\n"))
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *ledger) questions() (asked []string) {
	l.set(func() { asked, l.asked = l.asked, nil })
	return asked
}

func (l *ledger) count(q topk.ChartQuery, key func(ledgerPlay) string) topk.Chart {
	l.mu.Lock()
	defer l.mu.Unlock()
	span := q.Window.At(q.Now, topk.DefaultCalendar())
	scores, seen, total := map[string]uint64{}, map[string]bool{}, uint64(0)
	for i, p := range l.plays {
		if !span.Contains(p.at) {
			continue
		}
		total++
		k := fmt.Sprint(p.song, " ", i)
		if key != nil {
			k = key(p)
		}
		if !seen[k] {
			seen[k] = true
			scores[p.song]++
		}
	}
	c := playsChart(q.Filter, q.Window, q.Now, scores)
	c.TotalPlays = total
	if q.After != nil {
		for len(c.Entries) > 0 && topk.CompareEntries(c.Entries[0], *q.After) <= 0 {
			c.Entries = c.Entries[1:]
		}
	}
	c.Entries = c.Entries[:min(q.K, len(c.Entries))]
	return c
}

func (l *ledger) Chart(_ context.Context, q topk.ChartQuery) (topk.Chart, error) {
	if err := l.ask("plays", q.Filter, q.Window, q.K); err != nil {
		return topk.Chart{}, err
	}
	return l.count(q, nil), nil
}

func (l *ledger) Listeners(_ context.Context, q topk.ChartQuery) (topk.Chart, error) {
	if err := l.ask("listeners", q.Filter, q.Window, q.K); err != nil {
		return topk.Chart{}, err
	}
	return l.count(q, func(p ledgerPlay) string { return p.song + " " + p.user }), nil
}

func (l *ledger) Approx(_ context.Context, q topk.ChartQuery) (topk.ApproxChart, error) {
	if err := l.ask("estimates", q.Filter, q.Window, q.K); err != nil {
		return topk.ApproxChart{}, err
	}
	c := topk.ApproxChart{Chart: l.count(q, nil)}
	for i := range c.Entries {
		c.Errors = append(c.Errors, uint64(i))
	}
	return c, nil
}

func (l *ledger) Closed(_ context.Context, f topk.Filter, p topk.Period, date time.Time, revision int) (topk.ClosedChart, error) {
	if err := l.ask("closed", f, p, date.Format(time.DateOnly), revision); err != nil {
		return topk.ClosedChart{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.closed) - 1; i >= 0; i-- {
		c := l.closed[i]
		if c.Filter.String() == f.String() && c.Period == p && c.Date.Equal(date) && (revision == 0 || c.Revision == revision) {
			return c, nil
		}
	}
	return topk.ClosedChart{}, topk.ErrNotFound
}

func (l *ledger) Songs(ctx context.Context, ids []string) (map[string]topk.Song, error) {
	var err error
	if l.set(func() { err = l.songsErr }); err != nil {
		return nil, err
	}
	return l.truth.Songs(ctx, ids)
}

// close writes a period's global chart down, as the job does.
func (l *ledger) close(t *testing.T, p topk.Period, date time.Time, at time.Time) {
	t.Helper()
	span := p.Containing(date, topk.DefaultCalendar())
	w, err := topk.Between(span.Start, span.End)
	if err != nil {
		t.Fatal(err)
	}
	count := func(s topk.Span) topk.Chart {
		w, _ := topk.Between(s.Start, s.End)
		return l.count(topk.ChartQuery{Window: w, K: topk.SnapshotSize, Now: at}, nil)
	}
	before := map[string]int{}
	for _, e := range count(p.Before(span)).Entries {
		before[e.SongID] = e.Rank
	}
	c := topk.ClosedChart{Chart: count(span), Period: p, Date: span.Start, Revision: 1, ClosedAt: at}
	c.Window = w
	for _, e := range c.Entries {
		career := topk.Career{}
		if rank := before[e.SongID]; rank > 0 {
			career = career.Next(0, false, rank, p.Before(span).Start)
		}
		c.Careers = append(c.Careers, career.Next(before[e.SongID], before[e.SongID] > 0, e.Rank, span.Start))
	}
	l.set(func() {
		for _, other := range l.closed {
			if other.Period == p && other.Date.Equal(c.Date) {
				c.Revision++
			}
		}
		l.closed = append(l.closed, c)
	})
}

// publishWith makes the snapshot of a chart as of now, with the chart at the
// last boundary.
func (s *service) publishWith(w topk.Window, plays map[string]uint64, previousAt time.Time, previous ...string) {
	s.Helper()
	change := snapshot.Whole(playsChart(worldwide, w, s.clock(), plays))
	change.Previous = &snapshot.Previous{AsOf: previousAt, SongIDs: previous}
	for _, outcome := range s.writer.Publish(s.Context(), []snapshot.Change{change}) {
		if outcome.Err != nil {
			s.Fatal(outcome.Err)
		}
	}
}

func (r reply) ok(t *testing.T) reply {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("%d: %s", r.status, r.body)
	}
	return r
}
