package topk

import "time"

// A ChartQuery asks for a chart that is not kept, but counted for the occasion.
type ChartQuery struct {
	Filter Filter
	Window Window
	K      int       // how many entries, 1 to MaxK
	After  *Entry    // only entries below this one (of its Plays and SongID); nil from the first
	Now    time.Time // the instant at which the window is taken
}

// An ApproxChart is a chart of estimates. Of a song with estimate Plays and error
// bound e the true count lies in [Plays-e, Plays].
type ApproxChart struct {
	Chart
	Errors []uint64 // the error bounds of the entries, in their order
}

// A ComparisonQuery asks which songs are played more than they should be, judged
// by a reference: the same chart over a longer time before (what is trending),
// or everyone's plays in the same window (what is a local favourite).
type ComparisonQuery struct {
	Filter    Filter
	Window    Window
	Reference Reference
	K         int
	Now       time.Time
}

// A Reference is what a Comparison compares with.
type Reference string

// The references. Baseline is the same filter over the time right before the
// window: 24 hours before the last hour, 7 days before the last 24 hours, 28
// days before the last 7 days. Everywhere is the same window of the filter
// without its terms that are of the play and not of the song.
const (
	Baseline   Reference = "baseline"
	Everywhere Reference = "global"
)

// A Comparison ranks songs by how far they exceed what the reference lets
// expect.
type Comparison struct {
	Filter          Filter
	Window          Window
	AsOf            time.Time
	Span            Span
	ReferenceFilter Filter
	ReferenceSpan   Span
	TotalPlays      uint64 // of all songs in the window
	ReferencePlays  uint64 // of all songs in the reference
	Items           []Rise
}

// A Rise is one song of a Comparison. Its Expected plays are those it would have
// with its share of the reference's plays:
//
//	Expected = ReferencePlays(song) / ReferencePlays(all) * TotalPlays
//	Score    = (Plays - Expected) / sqrt(Expected + 1)
//
// Score is in standard deviations of a Poisson process, and the added 1 keeps
// songs with next to no reference from leading by a few plays. The order is by
// Score, and of equal ones by SongID in bytes, both descending.
type Rise struct {
	Rank           int
	SongID         string
	Plays          uint64
	ReferencePlays uint64
	Expected       float64
	Score          float64
}

// A Grain is the length of the steps in which a song's history is told.
type Grain string

// The grains. Weeks begin where the Calendar says.
const (
	HourGrain Grain = "hour"
	DayGrain  Grain = "day"
	WeekGrain Grain = "week"
)

// A HistoryQuery asks how a song's plays developed.
type HistoryQuery struct {
	SongID string
	Filter Filter // of the plays that are counted
	Grain  Grain
	Span   Span // its ends lie where steps of the grain begin
	Now    time.Time
}

// A HistoryPoint is one step of a song's history.
type HistoryPoint struct {
	Span  Span
	Plays uint64
}

// An Artist is what the catalog knows of one.
type Artist struct {
	ArtistID string
	Name     string
	Genres   []string // of its songs, sorted
	Songs    int      // in the catalog
}
