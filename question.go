package topk

import (
	"fmt"
	"time"
)

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

// A Side is one of the two counts that a Comparison sets against each other.
type Side struct {
	Filter Filter
	Span   Span
}

// Sides gives what is compared, and with what. ErrInvalid when there is nothing
// to compare with.
func (q ComparisonQuery) Sides(cal Calendar) (window, reference Side, err error) {
	window = Side{q.Filter, q.Window.At(q.Now, cal)}
	switch q.Reference {
	case Baseline:
		length, known := baselines[q.Window]
		if !known {
			return Side{}, Side{}, invalid("there is a baseline for 1h, 24h and 7d only")
		}
		return window, Side{q.Filter, Span{window.Span.Start.Add(-length), window.Span.Start}}, nil
	case Everywhere:
		everyones := q.Filter.OfSongs()
		if everyones.String() == q.Filter.String() {
			return Side{}, Side{}, invalid("there must be a region, segment, device, playlist or album whose plays are compared with everyone's")
		}
		return window, Side{everyones, window.Span}, nil
	}
	return Side{}, Side{}, invalid(fmt.Sprintf("unknown reference %q", q.Reference))
}

// baselines are how far the reference of a window reaches back from its start.
var baselines = map[Window]time.Duration{LastHour: 24 * time.Hour, Last24h: 7 * 24 * time.Hour, Last7d: 28 * 24 * time.Hour}

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
	Watermark       Watermark // the prefix of the log that was counted on both sides
}

// A Rise is one song of a Comparison. Its Expected plays are those it would have
// with its share of the reference's plays:
//
//	Expected = ReferencePlays(song) / ReferencePlays(all) * TotalPlays
//	Score    = (Plays - Expected) / sqrt(Expected + 1)
//
// Score is in standard deviations of a Poisson process, and the added 1 keeps
// songs with next to no reference from leading by a few plays. Nothing is
// expected when the reference has no plays at all. Only songs with plays in the
// window are ranked, by Score, and of equal ones by SongID in bytes, both
// descending.
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

// Containing is the step in which t lies.
func (g Grain) Containing(t time.Time, cal Calendar) Span {
	if period, closes := g.Period(); closes {
		return period.Containing(t, cal)
	}
	start := t.UTC().Truncate(time.Hour)
	return Span{start, start.Add(time.Hour)}
}

// Length is that of every step: UTC knows no longer or shorter days.
func (g Grain) Length() time.Duration {
	switch g {
	case DayGrain:
		return 24 * time.Hour
	case WeekGrain:
		return 7 * 24 * time.Hour
	}
	return time.Hour
}

// Period is that of the charts that are closed for each step, if there are any.
func (g Grain) Period() (p Period, closes bool) {
	switch g {
	case DayGrain:
		return Daily, true
	case WeekGrain:
		return Weekly, true
	}
	return "", false
}

// A HistoryQuery asks how a song's plays developed.
type HistoryQuery struct {
	SongID string
	Filter Filter // of the plays that are counted
	Grain  Grain
	Span   Span      // its ends lie where steps of the grain begin
	Now    time.Time // later plays do not count, as in charts
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
