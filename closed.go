package topk

import "time"

// A ClosedChart is the chart of a day or week that is over, as it was written
// down: the first SnapshotSize entries. When plays or corrections that come in
// later change it, it gets another revision, and the earlier ones stay.
type ClosedChart struct {
	Chart              // Window is the fixed one of the period, AsOf when it was counted
	Period   Period    //
	Date     time.Time // the first day of the period
	Revision int       // 1, 2, 3, …
	ClosedAt time.Time // when the revision was written
	Careers  []Career  // of the entries, in their order
}

// A ClosedDate is one period of which there is a closed chart.
type ClosedDate struct {
	Date       time.Time // the first day of the period
	Span       Span
	Revision   int // the latest
	ClosedAt   time.Time
	TotalPlays uint64
}

// A ChartPlace is a song's place on one closed chart, in its latest revision.
type ChartPlace struct {
	Filter   Filter
	Date     time.Time // the first day of the period
	Revision int
	Rank     int
	Plays    uint64
	Career
}
