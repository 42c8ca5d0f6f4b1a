// Package answer holds what the query API answers, as JSON: for the server that
// writes it, the OpenAPI document that describes it, and clients that read it.
//
// Instants are RFC 3339 in UTC with milliseconds, dates YYYY-MM-DD. Windows are
// half-open.
package answer

// A Chart answers GET /v1/top.
type Chart struct {
	Dim         string  `json:"dim" doc:"The filter, in its canonical form" example:"region:IN"`
	Window      string  `json:"window" doc:"The window's name, or from/to" example:"24h"`
	Period      string  `json:"period,omitempty" enum:"day,week" doc:"Of a closed chart: what it covers" example:"week"`
	Date        string  `json:"date,omitempty" format:"date" doc:"Of a closed chart: the first day of its period" example:"2025-11-21"`
	Revision    int     `json:"revision,omitempty" minimum:"1" doc:"Of a closed chart that is written down: how often it was, counted from 1. Absent when it was computed for this request" example:"1"`
	AsOf        string  `json:"asOf" format:"date-time" doc:"When the chart was exact" example:"2025-11-24T16:00:00.000Z"`
	WindowStart string  `json:"windowStart" format:"date-time" doc:"The first instant that counts" example:"2025-11-23T16:00:00.000Z"`
	WindowEnd   string  `json:"windowEnd" format:"date-time" doc:"The first instant that does not count any more: the window is half-open" example:"2025-11-24T16:00:00.001Z"`
	Source      string  `json:"source" enum:"snapshot,closed,clickhouse,last-known" doc:"A snapshot that is kept up to date; a closed chart as it was written down; computed for this request; or the last snapshot known, while nothing else answers"`
	Stale       bool    `json:"stale" doc:"The chart should have moved since asOf, but could not"`
	Mode        string  `json:"mode" enum:"exact,approx" doc:"Whether scores are exact, or estimates of which each says its error"`
	RankBy      string  `json:"rankBy" enum:"plays,listeners" doc:"What the score counts: plays, or listeners, each once"`
	TotalPlays  uint64  `json:"totalPlays" doc:"Plays of all songs in the window, not only of the items" example:"1204"`
	ComparedTo  *string `json:"comparedTo" nullable:"true" format:"date-time" doc:"The end of the window that previousRank is of; null when there is none to compare with"`
	Items       []Item  `json:"items" nullable:"false" maxItems:"1000" doc:"The higher score first; of equal scores the greater songId, in bytes, first"`
	NextCursor  string  `json:"nextCursor,omitempty" doc:"The cursor of the places after the last item; absent when the chart ends here"`
}

// An Item is one place of a chart.
type Item struct {
	Rank           int       `json:"rank" minimum:"1" doc:"1, 2, 3, …" example:"1"`
	SongID         string    `json:"songId" example:"s456"`
	Score          uint64    `json:"score" doc:"Plays in the window, or listeners" example:"42"`
	Error          *uint64   `json:"error,omitempty" doc:"With mode=approx: the true score is at most the score, and at least the score less this"`
	PreviousRank   *int      `json:"previousRank" nullable:"true" minimum:"1" doc:"On the chart compared with; null when the song was not on it, or when there is none"`
	Movement       *string   `json:"movement" nullable:"true" enum:"new,up,down,same,re-entry" doc:"Against the chart compared with; re-entry only on closed charts; null when it is not known"`
	PeakRank       int       `json:"peakRank,omitempty" minimum:"1" doc:"Of a closed chart: the best rank up to then"`
	PeakDate       string    `json:"peakDate,omitempty" format:"date" doc:"Of a closed chart: when the song first had its best rank"`
	PeriodsOnChart int       `json:"periodsOnChart,omitempty" minimum:"1" doc:"Of a closed chart: in how many periods up to then the song was on it"`
	Streak         int       `json:"streak,omitempty" minimum:"1" doc:"Of a closed chart: for how many of them without a break"`
	Metadata       *Metadata `json:"metadata" doc:"Null when the catalog does not know the song, or cannot be asked now"`
}

// Metadata is what the catalog says of a song.
type Metadata struct {
	Title      string   `json:"title" example:"Kesariya"`
	Artist     string   `json:"artist" example:"Arijit Singh"`
	ArtistID   string   `json:"artistId" example:"a789"`
	Genres     []string `json:"genres" nullable:"false" example:"[\"pop\"]"`
	DurationMS uint32   `json:"durationMs" format:"int64" example:"268000"`
}

// A ChartChange is one event of GET /v1/top/stream: what makes the chart of the
// event before into the current one. Items that entered or changed replace those
// of their songId, the removed ones go, and the rest stays; then items are in
// the order of their ranks.
type ChartChange struct {
	AsOf        string   `json:"asOf" format:"date-time"`
	WindowStart string   `json:"windowStart" format:"date-time"`
	WindowEnd   string   `json:"windowEnd" format:"date-time"`
	Source      string   `json:"source" enum:"snapshot,clickhouse,last-known"`
	Stale       bool     `json:"stale"`
	TotalPlays  uint64   `json:"totalPlays"`
	ComparedTo  *string  `json:"comparedTo" nullable:"true" format:"date-time"`
	Changed     []Item   `json:"changed" nullable:"false"`
	Removed     []string `json:"removed" nullable:"false"`
}

// A Song answers GET /v1/songs/{songId}.
type Song struct {
	SongID   string            `json:"songId" example:"s456"`
	AsOf     string            `json:"asOf" format:"date-time" doc:"When the plays were counted" example:"2025-11-24T16:00:00.000Z"`
	Metadata *Metadata         `json:"metadata" doc:"Null when the catalog does not know the song, or cannot be asked now"`
	Plays    map[string]uint64 `json:"plays" doc:"Plays in each window: 1h, 24h, 7d and all" example:"{\"1h\":2,\"24h\":42,\"7d\":311,\"all\":5023}"`
}

// A Trend answers GET /v1/trending.
type Trend struct {
	Dim            string      `json:"dim" doc:"The filter, in its canonical form" example:"region:IN"`
	Window         string      `json:"window" enum:"1h,24h,7d"`
	Reference      string      `json:"reference" enum:"baseline,global" doc:"What plays are compared with: the same filter over the time before, or everyone's plays in the same window"`
	AsOf           string      `json:"asOf" format:"date-time"`
	WindowStart    string      `json:"windowStart" format:"date-time"`
	WindowEnd      string      `json:"windowEnd" format:"date-time"`
	Stale          bool        `json:"stale" doc:"The last answer known, while there is no newer one to be had"`
	ReferenceDim   string      `json:"referenceDim" doc:"The filter of the reference"`
	ReferenceStart string      `json:"referenceStart" format:"date-time"`
	ReferenceEnd   string      `json:"referenceEnd" format:"date-time"`
	TotalPlays     uint64      `json:"totalPlays" doc:"Plays of all songs in the window"`
	ReferencePlays uint64      `json:"referencePlays" doc:"Plays of all songs in the reference"`
	Items          []TrendItem `json:"items" nullable:"false" maxItems:"1000"`
}

// A TrendItem is one song that is played more than the reference lets expect.
type TrendItem struct {
	Rank           int       `json:"rank" minimum:"1"`
	SongID         string    `json:"songId" example:"s456"`
	Score          float64   `json:"score" doc:"(plays - expected) / sqrt(expected + 1): by how many standard deviations the plays exceed what was to be expected"`
	Plays          uint64    `json:"plays" doc:"In the window"`
	Expected       float64   `json:"expected" doc:"The plays that the song would have with its share of the reference"`
	ReferencePlays uint64    `json:"referencePlays" doc:"The song's plays in the reference"`
	Metadata       *Metadata `json:"metadata" doc:"Null when the catalog does not know the song, or cannot be asked now"`
}

// A History answers GET /v1/songs/{songId}/history.
type History struct {
	SongID   string         `json:"songId" example:"s456"`
	Dim      string         `json:"dim" doc:"The filter, in its canonical form" example:"global"`
	Grain    string         `json:"grain" enum:"hour,day,week"`
	AsOf     string         `json:"asOf" format:"date-time" doc:"When the plays were counted"`
	Metadata *Metadata      `json:"metadata" doc:"Null when the catalog does not know the song, or cannot be asked now"`
	Points   []HistoryPoint `json:"points" nullable:"false" doc:"Oldest first, without gaps"`
}

// A HistoryPoint is one step of a song's history.
type HistoryPoint struct {
	Start    string `json:"start" format:"date-time"`
	End      string `json:"end" format:"date-time" doc:"Exclusive"`
	Plays    uint64 `json:"plays"`
	Rank     *int   `json:"rank" nullable:"true" minimum:"1" doc:"On the closed chart of the day or week; null when the song was not on it, or when there is none"`
	Complete bool   `json:"complete" doc:"Whether the step is over"`
}

// SongCharts answers GET /v1/songs/{songId}/charts.
type SongCharts struct {
	SongID   string      `json:"songId" example:"s456"`
	Period   string      `json:"period" enum:"day,week"`
	Date     string      `json:"date,omitempty" format:"date" doc:"The first day of the period; absent when no chart is closed yet"`
	Metadata *Metadata   `json:"metadata" doc:"Null when the catalog does not know the song, or cannot be asked now"`
	Charts   []SongChart `json:"charts" nullable:"false" doc:"The best rank first"`
}

// A SongChart is a song's place on one closed chart.
type SongChart struct {
	Dim            string `json:"dim" example:"region:IN"`
	Revision       int    `json:"revision" minimum:"1"`
	Rank           int    `json:"rank" minimum:"1"`
	Plays          uint64 `json:"plays"`
	PreviousRank   *int   `json:"previousRank" nullable:"true" minimum:"1" doc:"In the period before; null when the song was not on the chart then"`
	Movement       string `json:"movement" enum:"new,up,down,same,re-entry"`
	PeakRank       int    `json:"peakRank" minimum:"1"`
	PeakDate       string `json:"peakDate" format:"date"`
	PeriodsOnChart int    `json:"periodsOnChart" minimum:"1"`
	Streak         int    `json:"streak" minimum:"1"`
}

// An Artist answers GET /v1/artists/{artistId}.
type Artist struct {
	ArtistID string   `json:"artistId" example:"a789"`
	Name     string   `json:"name" example:"Arijit Singh"`
	Genres   []string `json:"genres" nullable:"false" doc:"Of the songs"`
	Songs    int      `json:"songs" doc:"How many the catalog knows"`
	Top      Chart    `json:"top" doc:"The most played songs"`
}

// Charts answers GET /v1/charts.
type Charts struct {
	Stale      bool        `json:"stale" doc:"The last list known, while there is no newer one to be had"`
	Items      []ChartName `json:"items" nullable:"false" maxItems:"1000"`
	NextCursor string      `json:"nextCursor,omitempty" doc:"The cursor of what follows; absent at the end"`
}

// A ChartName is a filter of which charts are kept.
type ChartName struct {
	Dim       string `json:"dim" doc:"As the parameter dim takes it" example:"region:IN"`
	Dimension string `json:"dimension" example:"region"`
	Value     string `json:"value" example:"IN"`
}

// ClosedDates answers GET /v1/charts/dates.
type ClosedDates struct {
	Dim    string       `json:"dim"`
	Period string       `json:"period" enum:"day,week"`
	Dates  []ClosedDate `json:"dates" nullable:"false" doc:"The latest first"`
}

// A ClosedDate is one period of which there is a closed chart.
type ClosedDate struct {
	Date        string `json:"date" format:"date" doc:"The first day of the period"`
	WindowStart string `json:"windowStart" format:"date-time"`
	WindowEnd   string `json:"windowEnd" format:"date-time"`
	Revision    int    `json:"revision" minimum:"1" doc:"The latest"`
	ClosedAt    string `json:"closedAt" format:"date-time" doc:"When the latest revision was written"`
	TotalPlays  uint64 `json:"totalPlays"`
}
