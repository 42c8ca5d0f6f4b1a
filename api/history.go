package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const (
	historyPath    = "/v1/songs/{songId}/history"
	songChartsPath = "/v1/songs/{songId}/charts"
)

const (
	maxPoints      = 1000
	defaultHistory = 29 * 24 * time.Hour // before today
)

var (
	historyParameters = []*huma.Param{
		songParameters[0],
		documented(topParameters, "dim"),
		{
			Name: "grain", In: inQuery, Description: "How long each step is. Weeks begin as those of charts do.",
			Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"day", "hour", "week"}, Default: string(topk.DayGrain)},
		},
		{
			Name: "from", In: inQuery,
			Description: "An instant of the first step: integer epoch milliseconds or RFC 3339. Without it, 29 days before to.",
			Schema:      &huma.Schema{Type: huma.TypeString},
			Examples:    map[string]*huma.Example{"ms": {Value: "1763942400000"}, "rfc3339": {Value: "2025-11-24T00:00:00Z"}},
		},
		{
			Name: "to", In: inQuery,
			Description: "The end of the last step, or an instant of it: integer epoch milliseconds or RFC 3339. Without it, or when it is in " +
				"the future, the last step is that of now.",
			Schema:   &huma.Schema{Type: huma.TypeString},
			Examples: map[string]*huma.Example{"ms": {Value: "1764028800000"}, "rfc3339": {Value: "2025-11-25T00:00:00Z"}},
		},
	}
	songChartsParameters = []*huma.Param{
		songParameters[0],
		periodParameter,
		{
			Name: "date", In: inQuery, Description: "Any day of the period; without it, the latest that is closed",
			Schema: &huma.Schema{Type: huma.TypeString, Format: "date"}, Example: "2025-11-21",
		},
	}
	periodParameter = &huma.Param{
		Name: "period", In: inQuery, Description: "Whether the charts are of days or of weeks, in UTC",
		Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"day", "week"}, Default: string(topk.Daily)},
	}
)

// A historyAPI tells how a song did: GET /v1/songs/{songId}/history and /charts.
type historyAPI struct {
	queries  Queries
	gate     *gate
	catalog  *catalog
	clock    topk.Clock
	calendar topk.Calendar
}

func newHistoryAPI(cfg Config, gate *gate, catalog *catalog) *historyAPI {
	return &historyAPI{queries: cfg.Queries, gate: gate, catalog: catalog, clock: cfg.Clock, calendar: cfg.Calendar}
}

// history answers GET /v1/songs/{songId}/history.
func (a *historyAPI) history(w http.ResponseWriter, r *http.Request) error {
	asked, err := a.parseHistory(r.URL.RawQuery)
	if err != nil {
		return err
	}
	id, ok := songIDOf(r)
	if !ok {
		return noSong(id)
	}
	asked.SongID = id
	var points []topk.HistoryPoint
	ranks := map[time.Time]int{}
	err = a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		if points, err = a.queries.SongHistory(ctx, asked); err != nil {
			return err
		}
		period, closes := asked.Grain.Period()
		if !closes || !asked.Filter.Eager() {
			return nil
		}
		places, err := a.queries.SongRanks(ctx, id, asked.Filter, period, asked.Span)
		for _, place := range places {
			ranks[place.Date.UTC()] = place.Rank
		}
		return err
	})
	if err != nil {
		return err
	}
	played := false
	told := answer.History{
		SongID: id, Dim: asked.Filter.String(), Grain: string(asked.Grain), AsOf: instant(asked.Now), Points: make([]answer.HistoryPoint, len(points)),
	}
	for i, p := range points {
		told.Points[i] = answer.HistoryPoint{
			Start: instant(p.Span.Start), End: instant(p.Span.End), Plays: p.Plays, Complete: !asked.Now.Before(p.Span.End),
		}
		if rank, ranked := ranks[p.Span.Start]; ranked {
			told.Points[i].Rank = &rank
		}
		played = played || p.Plays > 0
	}
	if told.Metadata, err = a.metadata(r.Context(), id, played, asked.Now); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, told)
	return nil
}

// metadata is what the catalog says of a song, or nil when it cannot, of a song
// that was played. The error is a problem when there is no such song.
func (a *historyAPI) metadata(ctx context.Context, id string, played bool, now time.Time) (*answer.Metadata, error) {
	songs, unknown := a.catalog.find(ctx, []string{id})
	if song, known := songs[id]; known {
		return newMetadata(song), nil
	}
	if played {
		return nil, nil
	}
	var plays []uint64
	err := a.gate.pass(ctx, func(ctx context.Context) (err error) {
		plays, err = a.queries.SongPlays(ctx, id, []topk.Window{topk.AllTime}, now)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("plays of song %q: %w", id, err)
	case plays[0] > 0:
		return nil, nil
	case unknown != nil:
		return nil, fmt.Errorf("song %q: %w", id, unknown) // it may exist
	}
	return nil, noSong(id)
}

func (a *historyAPI) parseHistory(rawQuery string) (topk.HistoryQuery, error) {
	q := parseQuery(rawQuery, historyParameters)
	asked := topk.HistoryQuery{
		Filter: q.filter(), Now: a.clock(), Grain: topk.Grain(q.choice("grain", string(topk.DayGrain), string(topk.HourGrain), string(topk.WeekGrain))),
	}
	from, to := time.Time{}, asked.Now.Add(time.Millisecond) // now included
	if q.given("to") {
		to, _ = q.instant("to")
	}
	if q.given("from") {
		from, _ = q.instant("from")
	} else {
		from = to.Add(-defaultHistory)
	}
	if len(q.problems) == 0 {
		a.widen(q, &asked, from, to)
	}
	if len(q.problems) > 0 {
		return asked, badParameters(q.problems)
	}
	return asked, nil
}

// widen makes the span one of whole steps, up to the one of now.
func (a *historyAPI) widen(q *query, asked *topk.HistoryQuery, from, to time.Time) {
	first, last := asked.Grain.Containing(from, a.calendar), asked.Grain.Containing(asked.Now, a.calendar)
	if to.Before(last.End) { // to itself is not included
		last = asked.Grain.Containing(to.Add(-time.Millisecond), a.calendar)
	}
	asked.Span = topk.Span{Start: first.Start, End: last.End}
	_, err := topk.Between(asked.Span.Start, asked.Span.End)
	switch steps := asked.Span.End.Sub(asked.Span.Start) / asked.Grain.Length(); {
	case !from.Before(to):
		q.refuse("from", errors.New("must be before to"))
	case asked.Span.Start.After(asked.Now):
		q.refuse("from", errors.New("must not be in the future"))
	case err != nil:
		q.refuse("from", errors.New("must lie in a step that begins in 1970 or later"))
	case steps > maxPoints:
		q.refuse("from", fmt.Errorf("must be at most %d steps before the end: a longer grain has fewer", maxPoints))
	}
}

// charts answers GET /v1/songs/{songId}/charts.
func (a *historyAPI) charts(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery, songChartsParameters)
	period := topk.Period(q.choice("period", string(topk.Daily), string(topk.Weekly)))
	var date time.Time
	if day, given := q.date("date"); given && len(q.problems) == 0 {
		date = period.Containing(day, a.calendar).Start
	}
	if len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	id, ok := songIDOf(r)
	if !ok {
		return noSong(id)
	}
	var places []topk.ChartPlace
	err := a.gate.pass(r.Context(), func(ctx context.Context) error {
		if date.IsZero() {
			latest, err := a.queries.ClosedDates(ctx, topk.Filter{}, period, time.Time{}, 1)
			if err != nil || len(latest) == 0 {
				return err
			}
			date = latest[0].Date
		}
		var err error
		places, err = a.queries.SongPlaces(ctx, id, period, date)
		return err
	})
	if err != nil {
		return fmt.Errorf("charts of song %q: %w", id, err)
	}
	told := answer.SongCharts{SongID: id, Period: string(period), Charts: make([]answer.SongChart, len(places))}
	if !date.IsZero() {
		told.Date = date.Format(time.DateOnly)
	}
	for i, p := range places {
		told.Charts[i] = answer.SongChart{
			Dim: p.Filter.String(), Revision: p.Revision, Rank: p.Rank, Plays: p.Plays, Movement: string(p.Movement),
			PeakRank: p.Peak, PeakDate: p.PeakDate.Format(time.DateOnly), PeriodsOnChart: p.Periods, Streak: p.Streak,
		}
		if p.PreviousRank > 0 {
			told.Charts[i].PreviousRank = &p.PreviousRank
		}
	}
	slices.SortFunc(told.Charts, func(a, b answer.SongChart) int { return cmp.Or(cmp.Compare(a.Rank, b.Rank), cmp.Compare(a.Dim, b.Dim)) })
	if told.Metadata, err = a.metadata(r.Context(), id, len(places) > 0, a.clock()); err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "max-age=60")
	writeJSON(w, "application/json", http.StatusOK, told)
	return nil
}

// date reads a day, and reports whether there is one.
func (q *query) date(name string) (day time.Time, given bool) {
	text, given := q.values[name]
	if !given {
		return day, false
	}
	day, err := time.Parse(time.DateOnly, text)
	if err == nil { // with room for the week that the day is in
		_, err = topk.Between(day.AddDate(0, 0, -6), day.AddDate(0, 0, 7))
	}
	if err != nil {
		q.refuse(name, errors.New("must be YYYY-MM-DD, and lie between 1970 and 2106"))
	}
	return day, true
}

var (
	metadataExample = &answer.Metadata{Title: "Kesariya", Artist: "Arijit Singh", ArtistID: "a789", Genres: []string{"pop"}, DurationMS: 268_000}
	historyExample  = answer.History{
		SongID: "s456", Dim: "region:IN", Grain: "day", AsOf: "2025-11-24T16:00:00.000Z", Metadata: metadataExample,
		Points: []answer.HistoryPoint{
			{Start: "2025-11-23T00:00:00.000Z", End: "2025-11-24T00:00:00.000Z", Plays: 311, Rank: pointer(4), Complete: true},
			{Start: "2025-11-24T00:00:00.000Z", End: "2025-11-25T00:00:00.000Z", Plays: 204},
		},
	}
	songChartsExample = answer.SongCharts{
		SongID: "s456", Period: "week", Date: "2025-11-14", Metadata: metadataExample,
		Charts: []answer.SongChart{
			{Dim: "region:IN", Revision: 1, Rank: 2, Plays: 2170, PreviousRank: pointer(5), Movement: "up", PeakRank: 1, PeakDate: "2025-10-31", PeriodsOnChart: 6, Streak: 3},
			{Dim: "global", Revision: 1, Rank: 140, Plays: 2411, Movement: "re-entry", PeakRank: 90, PeakDate: "2025-10-31", PeriodsOnChart: 2, Streak: 1},
		},
	}
)

func (d describer) history() {
	history := d.answer("The steps", d.schema(reflect.TypeFor[answer.History]()))
	history.Content["application/json"].Example = historyExample
	d.nullableMetadata("History")
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-song-history", Method: http.MethodGet, Path: historyPath, Tags: []string{"Songs"},
		Summary: "How one song's plays and rank developed",
		Description: "Plays in each hour, day or week, exact for asOf, the oldest first and without gaps; the last step may still be going on. " +
			"By default the last 30 days. from and to are widened to whole steps, of which there may be 1000. By hour plays are kept for 400 " +
			"days, and of a dim of several regions, segments, devices, playlists or albums for 90 days. Ranks are those of the closed charts " +
			"of the days or weeks, of dims that have them.",
		Parameters: historyParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: history},
			http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	})
	charts := d.answer("The charts that the song is on", d.schema(reflect.TypeFor[answer.SongCharts]()))
	charts.Content["application/json"].Example = songChartsExample
	d.nullableMetadata("SongCharts")
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-song-charts", Method: http.MethodGet, Path: songChartsPath, Tags: []string{"Songs"},
		Summary:     "Every closed chart that one song is on",
		Description: "Of one day or week, in the latest revisions, the best rank first: with the song's peak, its periods on the chart and its streak up to then.",
		Parameters:  songChartsParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: charts},
			http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	})
}
