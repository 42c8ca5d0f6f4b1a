package api

import (
	"context"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/snapshot"
)

// answer tells the first k entries of a chart with their metadata and movement.
// titled reports whether the catalog could be asked for all of them.
func (a *chartAPI) answer(ctx context.Context, req *chartRequest, chart *resolvedChart) (told answer.Chart, titled bool) {
	entries := chart.Entries[:min(req.k, len(chart.Entries))]
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.SongID
	}
	songs, err := a.catalog.find(ctx, ids)
	if err != nil {
		// A chart without titles is better than none.
		a.log.DebugContext(ctx, "songs without metadata", "dim", req.filter.String(), "error", err)
	}
	told = answer.Chart{
		Dim:         req.filter.String(),
		Window:      chart.Window.String(),
		AsOf:        instant(chart.AsOf),
		WindowStart: instant(chart.Span.Start),
		WindowEnd:   instant(chart.Span.End),
		Source:      chart.source,
		Stale:       chart.stale,
		Mode:        "exact",
		RankBy:      req.rankBy,
		TotalPlays:  chart.TotalPlays,
		Items:       make([]answer.Item, len(entries)),
	}
	if req.approx {
		told.Mode = "approx"
	}
	if req.period != "" {
		told.Period, told.Date, told.Revision = string(req.period), chart.Span.Start.Format(time.DateOnly), chart.revision
	} else {
		told.Window = req.window.String() // a page further on counts a fixed one
	}
	compared := a.compared(req, chart)
	if !compared.at.IsZero() {
		at := instant(compared.at)
		told.ComparedTo = &at
	}
	for i, e := range entries {
		item := answer.Item{Rank: req.offset() + i + 1, SongID: e.SongID, Score: e.Plays}
		if chart.errors != nil {
			item.Error = &chart.errors[i]
		}
		if chart.careers != nil {
			setCareer(&item, chart.careers[i])
		} else {
			compared.move(&item)
		}
		if song, known := songs[e.SongID]; known {
			item.Metadata = newMetadata(song)
		}
		told.Items[i] = item
	}
	told.NextCursor = nextCursor(req, chart, told.Items)
	return told, err == nil
}

// nextCursor is the cursor of what follows the items, "" when nothing does.
func nextCursor(req *chartRequest, chart *resolvedChart, items []answer.Item) string {
	if req.approx || len(items) == 0 || len(items) == len(chart.Entries) && (len(items) < req.k || !chart.more) {
		return ""
	}
	counted, err := topk.Between(chart.Span.Start, chart.Span.End)
	if err != nil { // it ends after 2106
		return ""
	}
	last := items[len(items)-1]
	return chartCursor{
		question: req.fingerprint(), window: counted, revision: chart.revision,
		last: topk.Entry{Rank: last.Rank, SongID: last.SongID, Plays: last.Score},
	}.String()
}

func newMetadata(song topk.Song) *answer.Metadata {
	m := &answer.Metadata{
		Title: song.Title, Artist: song.Artist, ArtistID: song.ArtistID, Genres: song.Genres, DurationMS: song.DurationMS,
	}
	if m.Genres == nil {
		m.Genres = []string{}
	}
	return m
}

// instant writes a time as the API does: RFC 3339, in UTC, with milliseconds.
func instant(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// setCareer tells how the song came to its place on a closed chart.
func setCareer(item *answer.Item, c topk.Career) {
	if c.PreviousRank != 0 {
		item.PreviousRank = &c.PreviousRank
	}
	movement := string(c.Movement)
	item.Movement = &movement
	item.PeakRank, item.PeakDate = c.Peak, c.PeakDate.Format(time.DateOnly)
	item.PeriodsOnChart, item.Streak = c.Periods, c.Streak
}

// A standing is what ranks are compared with: the first places of an earlier
// chart.
type standing struct {
	at    time.Time      // the end of the earlier chart's window; zero for no such chart
	ranks map[string]int // by song
	depth int            // how many places are known
}

// compared gives the earlier chart, or the zero standing.
func (a *chartAPI) compared(req *chartRequest, chart *resolvedChart) standing {
	switch {
	case chart.careers != nil:
		return standing{at: chart.Span.Start}
	case chart.before != nil:
		s := standing{at: chart.Span.Start, ranks: make(map[string]int, len(chart.before.Entries)), depth: topk.MaxK}
		for i, e := range chart.before.Entries {
			s.ranks[e.SongID] = i + 1
		}
		return s
	case req.period == "" && !req.window.Fixed():
		return standingOf(chart.previous, req.window, chart.Span.End.Add(-time.Millisecond), a.calendar)
	}
	return standing{}
}

// standingOf is the moving chart as it stood at the last boundary before asOf.
// One that is older, because nobody kept the chart at the last boundary, is
// none.
func standingOf(p snapshot.Previous, w topk.Window, asOf time.Time, calendar topk.Calendar) standing {
	boundary := w.Boundary(asOf, calendar)
	before := w.Boundary(boundary.Add(-time.Millisecond), calendar)
	if !p.AsOf.After(before) || p.AsOf.After(boundary) {
		return standing{}
	}
	s := standing{at: boundary, ranks: make(map[string]int, len(p.SongIDs)), depth: topk.SnapshotSize}
	for i, id := range p.SongIDs {
		s.ranks[id] = i + 1
	}
	return s
}

// move tells how the song came to its rank. It is not known of a song that may
// have been beyond the places that are.
func (s standing) move(item *answer.Item) {
	previous, found := s.ranks[item.SongID]
	if s.at.IsZero() || !found && len(s.ranks) >= s.depth && item.Rank > s.depth {
		return
	}
	if found {
		item.PreviousRank = &previous
	}
	movement := string(topk.Moved(item.Rank, previous, false))
	item.Movement = &movement
}
