package client

import (
	"context"
	"iter"
	"net/url"
	"strconv"
	"time"

	"github.com/topk-charts/topk/api/answer"
)

// A query gathers parameters; those that are not set are the API's to choose.
type query url.Values

func (q query) text(name, value string) query {
	if value != "" {
		url.Values(q).Set(name, value)
	}
	return q
}

func (q query) number(name string, value int) query {
	if value != 0 {
		url.Values(q).Set(name, strconv.Itoa(value))
	}
	return q
}

func (q query) instant(name string, value time.Time) query {
	if !value.IsZero() {
		url.Values(q).Set(name, strconv.FormatInt(value.UnixMilli(), 10))
	}
	return q
}

func (q query) encode() string {
	if len(q) == 0 {
		return ""
	}
	return "?" + url.Values(q).Encode()
}

// A TopRequest asks for a chart: of a Window, which is by default 24h, of the
// time From To, or of a Period that is over. Fields that are zero are left to
// the API.
type TopRequest struct {
	Dim      string    // the filter, as topk.Filter.String writes it: global, region:IN, region:IN,genre:pop
	Window   string    // 1h, 24h, 7d, 30d, all, today or this-week
	From, To time.Time // whole milliseconds, To exclusive
	Period   string    // day or week
	Date     string    // of the Period: any day of it, as YYYY-MM-DD; otherwise the latest that is over
	Revision int       // of the closed chart, with Date; otherwise the latest
	K        int       // how many places, 1 to 1000; by default 10
	Cursor   string    // NextCursor of the page before
	RankBy   string    // plays or listeners
	Mode     string    // exact or approx
	Compare  string    // with From and To: previous, for movement against the time before
}

func (r TopRequest) query() query {
	return query{}.text("dim", r.Dim).text("window", r.Window).instant("from", r.From).instant("to", r.To).
		text("period", r.Period).text("date", r.Date).number("revision", r.Revision).number("k", r.K).
		text("cursor", r.Cursor).text("rankBy", r.RankBy).text("mode", r.Mode).text("compare", r.Compare)
}

// Top gives a chart, or one page of it.
func (c *Client) Top(ctx context.Context, r TopRequest) (chart answer.Chart, err error) {
	return chart, c.get(ctx, "/v1/top", r.query(), &chart)
}

// TopPages gives a chart page by page, to its end. An error is the last thing it
// gives.
func (c *Client) TopPages(ctx context.Context, r TopRequest) iter.Seq2[answer.Chart, error] {
	return func(yield func(answer.Chart, error) bool) {
		for {
			page, err := c.Top(ctx, r)
			if !yield(page, err) || err != nil || page.NextCursor == "" {
				return
			}
			r.Cursor = page.NextCursor
		}
	}
}

// A TrendingRequest asks what is played more than it should be.
type TrendingRequest struct {
	Dim       string
	Window    string // 1h, 24h or 7d
	K         int
	Overindex string // global: judged by everyone's plays, and not by the time before
}

// Trending gives the songs that are played more than it should be.
func (c *Client) Trending(ctx context.Context, r TrendingRequest) (trend answer.Trend, err error) {
	q := query{}.text("dim", r.Dim).text("window", r.Window).number("k", r.K).text("overindex", r.Overindex)
	return trend, c.get(ctx, "/v1/trending", q, &trend)
}

// Song gives a song and how often it was played.
func (c *Client) Song(ctx context.Context, songID string) (song answer.Song, err error) {
	return song, c.get(ctx, "/v1/songs/"+url.PathEscape(songID), nil, &song)
}

// A SongHistoryRequest asks how often a song was played in each hour, day or
// week of the time From To.
type SongHistoryRequest struct {
	Dim      string
	Grain    string // hour, day or week
	From, To time.Time
}

// SongHistory gives how a song did over time.
func (c *Client) SongHistory(ctx context.Context, songID string, r SongHistoryRequest) (history answer.History, err error) {
	q := query{}.text("dim", r.Dim).text("grain", r.Grain).instant("from", r.From).instant("to", r.To)
	return history, c.get(ctx, "/v1/songs/"+url.PathEscape(songID)+"/history", q, &history)
}

// A SongChartsRequest asks for the closed charts of a day or a week.
type SongChartsRequest struct {
	Period string // day or week
	Date   string // any day of it, as YYYY-MM-DD; otherwise the latest that is closed
}

// SongCharts gives the closed charts that a song is on.
func (c *Client) SongCharts(ctx context.Context, songID string, r SongChartsRequest) (charts answer.SongCharts, err error) {
	q := query{}.text("period", r.Period).text("date", r.Date)
	return charts, c.get(ctx, "/v1/songs/"+url.PathEscape(songID)+"/charts", q, &charts)
}

// An ArtistRequest says which chart of the artist's songs is wanted.
type ArtistRequest struct {
	Dim    string
	Window string
	K      int
}

// Artist gives an artist with the most played songs.
func (c *Client) Artist(ctx context.Context, artistID string, r ArtistRequest) (artist answer.Artist, err error) {
	q := query{}.text("dim", r.Dim).text("window", r.Window).number("k", r.K)
	return artist, c.get(ctx, "/v1/artists/"+url.PathEscape(artistID), q, &artist)
}

// A ChartsRequest asks of which filters charts are kept.
type ChartsRequest struct {
	Dimension  string // global, region, genre, segment or device; all when empty
	StartsWith string // of the values, such as IN/ for the cities of a country
	K          int
	Cursor     string // NextCursor of the page before
}

// Charts lists the filters of which charts are kept, or one page of them.
func (c *Client) Charts(ctx context.Context, r ChartsRequest) (charts answer.Charts, err error) {
	q := query{}.text("dimension", r.Dimension).text("startsWith", r.StartsWith).number("k", r.K).text("cursor", r.Cursor)
	return charts, c.get(ctx, "/v1/charts", q, &charts)
}

// A ClosedDatesRequest asks of which days or weeks there are closed charts.
type ClosedDatesRequest struct {
	Dim    string // global, or one region, genre, segment or device
	Period string // day or week
	Before string // only earlier ones, as YYYY-MM-DD
	K      int
}

// ClosedDates lists the periods of which there are closed charts.
func (c *Client) ClosedDates(ctx context.Context, r ClosedDatesRequest) (dates answer.ClosedDates, err error) {
	q := query{}.text("dim", r.Dim).text("period", r.Period).text("before", r.Before).number("k", r.K)
	return dates, c.get(ctx, "/v1/charts/dates", q, &dates)
}
