package queries_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
	"github.com/topk-charts/topk/loader"
)

// begin is a Friday, on which weeks begin.
var begin = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)

// closedChain is a chain whose charts are closed at an instant of the test's.
type closedChain struct {
	*chain
	closer   *loader.Closer
	now      time.Time
	progress func(string)
	pool     []topk.Play
	plays    int       // made so far
	since    time.Time // the first day with plays; begin when zero
}

func newClosedChain(t *testing.T, maxDates int) *closedChain {
	t.Helper()
	c := &closedChain{chain: newChain(t), progress: func(string) {}}
	draw := rapid.Custom(func(t *rapid.T) topk.Play { return oracle.Play(t, "-", begin) })
	for i := range 500 {
		c.pool = append(c.pool, draw.Example(i))
	}
	var ticks time.Duration
	closer, err := loader.OpenCloser(loader.CloserConfig{
		ClickHouseURL: c.env.DSN, DB: c.db, Calendar: topk.DefaultCalendar(), Lateness: 10 * time.Minute, Horizon: 8 * day,
		MaxDates: maxDates, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(),
		Clock: func() time.Time { // nobody sees the same instant twice
			ticks += time.Microsecond * 10
			return c.now.Add(ticks)
		},
		Progress: func(doing string, _, _ int64) { c.progress(doing) },
	})
	if err != nil {
		t.Fatal(err)
	}
	c.closer = closer
	t.Cleanup(func() {
		if err := closer.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

const day = 24 * time.Hour

// playsOf makes n plays of a day: of the oracle's songs, which tie and change
// places, and of so many others that the last of the first 200 is in doubt.
// Some songs rest on some days.
func (c *closedChain) playsOf(date time.Time, n int) []topk.Play {
	rng := rand.New(rand.NewPCG(uint64(date.Unix()), uint64(c.plays)))
	number := int(date.Sub(begin) / day)
	plays := make([]topk.Play, 0, n)
	for len(plays) < n {
		c.plays++
		p := c.pool[rng.IntN(len(c.pool))]
		if rng.IntN(4) == 0 {
			p.SongID = fmt.Sprintf("t%03d", rng.IntN(260))
			p.Region = topk.Region{} // so that other charts are small
		}
		if sum := len(p.SongID) + int(p.SongID[len(p.SongID)-1]); (sum+number)%5 == 0 && number%3 != 0 {
			continue
		}
		p.EventID = fmt.Sprint("closed-", c.plays)
		p.Timestamp = date.Add(time.Duration(rng.Int64N(day.Milliseconds())) * time.Millisecond)
		plays = append(plays, p)
	}
	return plays
}

func (c *closedChain) firstDay() time.Time {
	if c.since.IsZero() {
		return begin
	}
	return c.since
}

// close runs the job once.
func (c *closedChain) close() loader.Closed {
	c.Helper()
	done, err := c.closer.Once(c.Context())
	if err != nil {
		c.Fatal(err)
	}
	return done
}

// everyFilter is of every chart that can be closed: the values that plays have.
func (c *closedChain) everyFilter() []topk.Filter {
	values := map[topk.Dimension]map[string]bool{topk.DimGlobal: {"": true}}
	add := func(dim topk.Dimension, v string) {
		if values[dim] == nil {
			values[dim] = map[string]bool{}
		}
		if v != "" {
			values[dim][v] = true
		}
	}
	for _, p := range c.oracle.Plays() {
		add(topk.DimRegion, p.Region.Country)
		add(topk.DimRegion, p.Region.String())
		add(topk.DimDevice, p.Device)
	}
	add(topk.DimRegion, "DE")
	for _, v := range []string{"pop", "rock", "r&b, soul", "jazz"} {
		add(topk.DimGenre, v)
	}
	for _, v := range []string{"premium", "free", "a,b", "student"} {
		add(topk.DimSegment, v)
	}
	var filters []topk.Filter
	for dim, all := range values {
		for v := range all {
			filters = append(filters, topk.NewFilter(topk.Term{Dim: dim, Value: v}))
		}
	}
	return filters
}

// A way is the closed charts of one filter by brute force, with a song's career
// and where it last was.
type way struct {
	career topk.Career
	rank   int
	date   time.Time
}

// check compares every closed chart of both periods, and what songs are told,
// with a brute-force count and the fold of careers over it. It gives the charts
// by name.
func (c *closedChain) check() map[string]topk.ClosedChart {
	c.Helper()
	all := map[string]topk.ClosedChart{}
	places := map[string][]topk.ChartPlace{} // by period, date and song
	for _, f := range c.everyFilter() {
		for _, p := range topk.Periods() {
			ways := map[string]way{}
			ranks := map[string][]topk.ChartPlace{}
			var dates []time.Time
			for span := p.Containing(c.firstDay(), topk.DefaultCalendar()); !c.now.Before(span.End.Add(10 * time.Minute)); span = p.After(span) {
				name := fmt.Sprint(f, " ", p, " ", span.Start.Format(time.DateOnly))
				entries, total := c.oracle.Chart(f, span, topk.SnapshotSize)
				got, err := c.db.Closed(c.Context(), f, p, span.Start, 0)
				if total == 0 && errors.Is(err, topk.ErrNotFound) {
					continue
				}
				if err != nil {
					c.Errorf("%s: %v", name, err)
					continue
				}
				all[name] = got
				if !slices.Equal(got.Entries, entries) || got.TotalPlays != total || got.Span != span || got.Filter.String() != f.String() {
					c.Errorf("%s:\n got %d plays %v\nwant %d plays %v", name, got.TotalPlays, got.Entries, total, entries)
					continue
				}
				if total > 0 {
					dates = append(dates, span.Start)
				}
				for i, e := range entries {
					last := ways[e.SongID]
					next := last.career.Next(last.rank, last.date.Equal(p.Before(span).Start), e.Rank, span.Start)
					if got.Careers[i] != next {
						c.Errorf("%s: %s at %d:\n got %+v\nwant %+v", name, e.SongID, e.Rank, got.Careers[i], next)
					}
					ways[e.SongID] = way{next, e.Rank, span.Start}
					place := topk.ChartPlace{Filter: f, Date: span.Start, Revision: got.Revision, Rank: e.Rank, Plays: e.Plays, Career: next}
					ranks[e.SongID] = append(ranks[e.SongID], place)
					at := fmt.Sprint(p, " ", span.Start.Unix(), " ", e.SongID)
					places[at] = append(places[at], place)
				}
			}
			c.checkDates(f, p, dates)
			for _, song := range []string{"s1", "t007"} {
				got, err := c.db.SongRanks(c.Context(), song, f, p, topk.Span{Start: begin.Add(2 * day), End: begin.Add(15 * day)})
				if err != nil {
					c.Error(err)
				}
				want := slices.DeleteFunc(ranks[song], func(place topk.ChartPlace) bool {
					return place.Date.Before(begin.Add(2*day)) || !place.Date.Before(begin.Add(15*day))
				})
				c.samePlaces(fmt.Sprint("ranks of ", song, " ", f, " ", p), got, want)
			}
		}
	}
	for _, p := range topk.Periods() {
		for span := p.Containing(c.firstDay(), topk.DefaultCalendar()); !c.now.Before(span.End.Add(10 * time.Minute)); span = p.After(span) {
			for _, song := range []string{"s1", "nobody"} {
				got, err := c.db.SongPlaces(c.Context(), song, p, span.Start)
				if err != nil {
					c.Error(err)
				}
				want := places[fmt.Sprint(p, " ", span.Start.Unix(), " ", song)]
				slices.SortFunc(want, func(a, b topk.ChartPlace) int {
					if a.Rank != b.Rank {
						return a.Rank - b.Rank
					}
					return slices.Compare([]byte(a.Filter.String()), []byte(b.Filter.String()))
				})
				c.samePlaces(fmt.Sprint("places of ", song, " ", p, " ", span.Start), got, want)
			}
		}
	}
	return all
}

func (c *closedChain) samePlaces(what string, got, want []topk.ChartPlace) {
	c.Helper()
	same := slices.EqualFunc(got, want, func(a, b topk.ChartPlace) bool {
		return a.Filter.String() == b.Filter.String() && a.Date.Equal(b.Date) && a.Revision == b.Revision &&
			a.Rank == b.Rank && a.Plays == b.Plays && a.Career == b.Career
	})
	if !same {
		c.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func (c *closedChain) checkDates(f topk.Filter, p topk.Period, want []time.Time) {
	c.Helper()
	slices.Reverse(want)
	var got []time.Time
	var before time.Time
	for { // by pages
		page, err := c.db.ClosedDates(c.Context(), f, p, before, 6)
		if err != nil {
			c.Fatal(err)
		}
		for _, d := range page {
			got = append(got, d.Date)
		}
		if len(page) < 6 {
			break
		}
		before = page[5].Date
	}
	if !slices.EqualFunc(got, want, time.Time.Equal) {
		c.Errorf("dates of %s %s:\n got %v\nwant %v", f, p, got, want)
	}
}

// differing gives the names of charts that are another revision in after, and
// fails when one has moved on without cause, or more often than there were closes.
func (c *closedChain) differing(before, after map[string]topk.ClosedChart, closes int) []string {
	c.Helper()
	var names []string
	for name, a := range after {
		b := before[name]
		same := slices.Equal(a.Entries, b.Entries) && slices.Equal(a.Careers, b.Careers) && a.TotalPlays == b.TotalPlays
		switch moved := a.Revision - b.Revision; {
		case moved == 0 && !same:
			c.Errorf("%s changed within revision %d", name, a.Revision)
		case moved == 1 && same:
			c.Errorf("%s: revision %d says what the one before said", name, a.Revision)
		case moved < 0 || moved > closes:
			c.Errorf("%s went from revision %d to %d", name, b.Revision, a.Revision)
		case moved > 0:
			names = append(names, name)
		}
		if b.Revision == 0 {
			continue
		}
		old, err := c.db.Closed(c.Context(), b.Filter, b.Period, b.Date, b.Revision)
		if err != nil || !slices.Equal(old.Entries, b.Entries) || !slices.Equal(old.Careers, b.Careers) || old.TotalPlays != b.TotalPlays {
			c.Errorf("%s: revision %d is not what it was: %v", name, b.Revision, err)
		}
	}
	slices.Sort(names)
	return names
}

// Closed charts are what a brute-force count and the fold of careers say: closed
// all at once or day by day, after plays that come late, corrections of the
// catalog and erasures; and only what changed gets another revision.
func TestClosedChartsEqualTheCountOfPlays(t *testing.T) {
	c := newClosedChain(t, 0)
	c.now = begin.Add(10 * day)
	for d := range 14 {
		if d == 5 { // a day without plays
			continue
		}
		c.append(uint32(d%3), c.playsOf(begin.Add(time.Duration(d)*day), 400)...)
		if d == 7 {
			c.fill("rollup_hour")
			c.fill("rollup_day")
		}
	}
	if done := c.close(); done.Dates != 10 { // 9 days, a week
		t.Errorf("%+v", done)
	}
	first := c.check()
	if len(first) < 150 {
		t.Fatalf("only %d charts", len(first))
	}

	// Day by day; a date is closed when its time has come, and not before.
	c.fill("rollup_day")
	for d := 11; d <= 14; d++ {
		c.now = begin.Add(time.Duration(d)*day + 10*time.Minute - time.Millisecond)
		c.close()
		if _, err := c.db.Closed(t.Context(), topk.Filter{}, topk.Daily, begin.Add(time.Duration(d-1)*day), 0); !errors.Is(err, topk.ErrNotFound) {
			t.Errorf("day %d is closed too early: %v", d, err)
		}
		c.now = c.now.Add(time.Millisecond)
		c.close()
	}
	before := c.check()
	if changed := c.differing(first, before, 1); len(changed) != len(before)-len(first) {
		t.Errorf("charts that nothing changed: %v", changed)
	}
	if done := c.close(); done != (loader.Closed{}) {
		t.Errorf("nothing has changed: %+v", done)
	}

	// Late plays of one day and country change its charts, and what follows from
	// them; a day beyond the horizon stays as it was.
	late := c.playsOf(begin.Add(12*day), 60)
	for i := range late {
		late[i].Region, late[i].SongID = topk.Region{Country: "DE"}, "s10"
	}
	c.append(5, late...)
	if done := c.close(); done.Dates != 0 {
		t.Errorf("looked again after no time: %+v", done)
	}
	c.now = c.now.Add(25 * time.Hour)
	c.append(5, c.playsOf(begin.Add(14*day), 100)...)
	c.close()
	after := c.check()
	changed := c.differing(before, after, 1)
	for _, want := range []string{"global day 2026-01-14", "region:DE day 2026-01-14", "global week 2026-01-09"} {
		if !slices.Contains(changed, want) {
			t.Errorf("%s has no new revision, but %v", want, changed)
		}
	}
	for _, name := range changed {
		if chart := after[name]; chart.Date.Before(begin.Add(7*day)) || chart.Filter.String() == "region:US" && chart.Date.Before(begin.Add(14*day)) {
			t.Errorf("%s has a new revision", name)
		}
	}

	// A correction of the catalog: all charts by genre within the horizon follow.
	before = after
	song := topk.Song{SongID: "s1", Title: "s1", ArtistID: "a1", Artist: "a1", Genres: []string{"jazz"}, DurationMS: 1}
	c.oracle.SetSong(song)
	if err := c.db.UpsertSongs(t.Context(), []topk.Song{song}); err != nil {
		t.Fatal(err)
	}
	c.now = c.now.Add(25 * time.Hour)
	c.close()
	jazz := topk.NewFilter(topk.Term{Dim: topk.DimGenre, Value: "jazz"})
	if got, err := c.db.Closed(t.Context(), jazz, topk.Daily, begin.Add(13*day), 0); err != nil || len(got.Entries) != 1 || got.Revision != 1 {
		t.Errorf("a genre that appeared: %+v, %v", got, err)
	}
	if _, err := c.db.Closed(t.Context(), jazz, topk.Daily, begin, 0); !errors.Is(err, topk.ErrNotFound) {
		t.Errorf("a genre that appeared, beyond the horizon: %v", err)
	}
	// What lies beyond the horizon follows by hand, and then what depends on it.
	if _, err := c.closer.CloseBetween(t.Context(), topk.Periods(), begin, begin.Add(6*day)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.closer.CloseBetween(t.Context(), topk.Periods(), begin, c.now); err != nil {
		t.Fatal(err)
	}
	after = c.check()
	for _, name := range c.differing(before, after, 3) {
		if chart := after[name]; before[name].Revision > 0 && chart.Filter.Terms()[0].Dim != topk.DimGenre {
			t.Errorf("%s has a new revision", name)
		}
	}

	// Everything of a country is erased: its charts remain, empty.
	before = after
	c.erase("DE")
	c.now = c.now.Add(25 * time.Hour)
	c.close()
	empty := c.check()["region:DE day 2026-01-14"]
	if old := before["region:DE day 2026-01-14"]; empty.Revision != old.Revision+1 || len(empty.Entries) != 0 {
		t.Errorf("the emptied chart: %+v after %+v", empty, old)
	}
	done, err := c.closer.CloseBetween(t.Context(), topk.Periods(), begin, c.now)
	if err != nil || done.Charts+done.Revisions != 0 {
		t.Errorf("all is closed, and yet: %+v, %v", done, err)
	}
	c.checkView()
}

// erase removes all plays of a country, as if they had never been.
func (c *closedChain) erase(country string) {
	c.Helper()
	c.exec("ALTER TABLE plays DELETE WHERE country = '" + country + "' SETTINGS mutations_sync = 2")
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		c.exec("SYSTEM STOP VIEW " + rollup + "_fill")
		c.exec("TRUNCATE TABLE " + rollup)
		c.exec("SYSTEM START VIEW " + rollup + "_fill")
		c.fill(rollup)
	}
	c.exec("INSERT INTO rewrites (reason) VALUES ('test')")
	kept := c.oracle.Plays()
	c.oracle = oracle.New(oracle.WithMinPlaySeconds(0))
	for _, s := range rapid.Custom(oracle.Catalog).Example(1) {
		c.oracle.SetSong(s)
	}
	c.oracle.SetSong(topk.Song{SongID: "s1", Genres: []string{"jazz"}})
	for _, p := range kept {
		if p.Region.Country != country {
			c.oracle.Add(p, c.users[p.UserID])
		}
	}
}

// checkView compares what analysts see with what the API is told.
func (c *closedChain) checkView() {
	c.Helper()
	rows, err := c.env.ClickHouse.Query(c.Context(), `
		SELECT date, revision, rank, songId, plays, totalPlays, peak
		FROM chart_history WHERE period = 'day' AND dim = 'global' ORDER BY date, rank`)
	if err != nil {
		c.Fatal(err)
	}
	defer rows.Close()
	seen := 0
	var chart topk.ClosedChart
	for ; rows.Next(); seen++ {
		var date time.Time
		var revision, rank, peak uint16
		var song string
		var plays, total uint64
		if err := rows.Scan(&date, &revision, &rank, &song, &plays, &total, &peak); err != nil {
			c.Fatal(err)
		}
		if rank == 1 {
			if chart, err = c.db.Closed(c.Context(), topk.Filter{}, topk.Daily, date, 0); err != nil {
				c.Fatal(err)
			}
		}
		want := topk.Entry{Rank: int(rank), SongID: song, Plays: plays}
		if got := chart.Entries[rank-1]; got != want || chart.Revision != int(revision) || chart.TotalPlays != total || chart.Careers[rank-1].Peak != int(peak) {
			c.Errorf("chart_history has %+v on %s where the chart has %+v", want, date, got)
		}
	}
	if err := rows.Err(); err != nil || seen < 1000 {
		c.Errorf("chart_history has %d rows: %v", seen, err)
	}
}

// A close that ends before or within any of its statements is made right by the
// next one, also when the clock has gone back meanwhile.
func TestCloseHealsWhereverItWasKilled(t *testing.T) {
	c := newClosedChain(t, 0)
	c.now = begin.Add(5*day + time.Hour)
	for d := range 5 {
		c.append(0, c.playsOf(begin.Add(time.Duration(d)*day), 150)...)
	}
	c.fill("rollup_day")
	// killed runs a close that ends with its nth statement, and tells whether
	// there were so many.
	killed := func(n int, within time.Duration) bool {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c.progress = func(string) {
			switch n--; {
			case n == -1 && within > 0:
				time.AfterFunc(within, cancel)
			case n < 0:
				cancel()
			}
		}
		defer func() { c.progress = func(string) {} }()
		_, err := c.closer.Once(ctx)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		return err != nil
	}
	// Of a date there are 14 statements. The first close of all dates, then one
	// that revises a date and goes over those after it.
	for n := range 14 {
		killed(n, 0)
		killed(n, time.Duration(n)*time.Millisecond)
	}
	c.close()
	before := c.check()
	late := 0
	for n := range 20 {
		if n%10 == 0 {
			c.append(1, c.playsOf(begin.Add(3*day), 5)...)
			c.now = c.now.Add(25 * time.Hour)
			late++
		}
		killed(n, time.Duration(n%7)*time.Millisecond)
	}
	c.now = c.now.Add(-time.Minute)
	c.close()
	after := c.check()
	const global = "global day 2026-01-05"
	if revisions := after[global].Revision - before[global].Revision; revisions < 1 || revisions > late {
		t.Errorf("%d revisions of %s, plays came late %d times", revisions, global, late)
	}
	if done := c.close(); done != (loader.Closed{}) {
		t.Errorf("after all is right: %+v", done)
	}
}

// A long history is closed by several runs, the oldest dates first, so that no
// chart needs another revision; until history turns out to be longer.
func TestCloseCatchesUp(t *testing.T) {
	c := newClosedChain(t, 4)
	c.now = begin.Add(9*day + time.Hour)
	for d := range 9 {
		c.append(0, c.playsOf(begin.Add(time.Duration(d)*day), 100)...)
	}
	c.fill("rollup_day")
	catchUp := func() (total loader.Closed) {
		t.Helper()
		for runs := 0; ; runs++ {
			done := c.close()
			total.Dates, total.Charts, total.Revisions = total.Dates+done.Dates, total.Charts+done.Charts, total.Revisions+done.Revisions
			if done.Dates > 4 {
				t.Fatalf("a run closed %d dates", done.Dates)
			}
			if !done.More {
				return total
			}
		}
	}
	if done := catchUp(); done.Dates != 10 || done.Revisions != 0 {
		t.Errorf("%+v", done)
	}
	before := c.check()
	c.append(9, c.playsOf(begin.Add(-2*day), 100)...)
	c.fill("rollup_day")
	done := catchUp()
	if done.Charts == 0 || done.Revisions == 0 || done.Dates != 13 { // with two days and the week before
		t.Errorf("%+v", done)
	}
	c.since = begin.Add(-2 * day)
	c.differing(before, c.check(), 3)
}

// While another process closes, a scheduled run does nothing.
func TestCloseIsDoneByOne(t *testing.T) {
	c := newClosedChain(t, 0)
	c.now = begin.Add(2 * day)
	c.append(0, c.playsOf(begin, 50)...)
	c.fill("rollup_day")
	entered := false
	c.progress = func(string) {
		if entered {
			return
		}
		entered = true
		if _, err := c.closer.Run(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := c.db.Closed(t.Context(), topk.Filter{}, topk.Daily, begin, 0); !errors.Is(err, topk.ErrNotFound) {
			t.Errorf("the other has closed the day: %v", err)
		}
	}
	if done := c.close(); !entered || done.Dates != 1 {
		t.Errorf("%t %+v", entered, done)
	}
}

// Where the log and the rollups are of no common prefix, nothing is closed.
func TestCloseWaitsForAPrefix(t *testing.T) {
	c := newClosedChain(t, 0)
	c.now = begin.Add(2 * day)
	c.append(0, c.playsOf(begin, 50)...)
	c.fill("rollup_hour")
	c.fill("rollup_day")
	c.exec("ALTER TABLE plays DELETE WHERE koff >= 40 SETTINGS mutations_sync = 2")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := c.closer.Once(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("closed what is no prefix: %v", err)
	}
	var counted uint64
	if err := c.env.ClickHouse.QueryRow(t.Context(), "SELECT count() FROM closing_counts").Scan(&counted); err != nil || counted > 0 {
		t.Errorf("%d entries were counted: %v", counted, err)
	}
	c.exec("INSERT INTO rewrites (reason) VALUES ('test')") // the rollups know better
	c.close()
	c.check()
}
