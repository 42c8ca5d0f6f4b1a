package topk

import "time"

// A Movement is how a song came to its rank, against the chart before.
type Movement string

// The movements. A song that was not on the chart before is New, or a ReEntry
// when it was on one even earlier.
const (
	New     Movement = "new"
	Up      Movement = "up"
	Down    Movement = "down"
	Same    Movement = "same"
	ReEntry Movement = "re-entry"
)

// Moved compares a rank with the previous one, which is 0 for a song that was
// not on the chart before. earlier tells whether it ever was.
func Moved(rank, previous int, earlier bool) Movement {
	switch {
	case previous == 0 && earlier:
		return ReEntry
	case previous == 0:
		return New
	case rank < previous:
		return Up
	case rank > previous:
		return Down
	}
	return Same
}

// A Career is a song's way on one closed chart, up to the period in question.
type Career struct {
	PreviousRank int       // in the period right before; 0 when not on that chart
	Peak         int       // the best rank ever
	PeakDate     time.Time // the first day of the first period in which it had it
	Periods      int       // in how many periods it was on the chart, this one included
	Streak       int       // for how many of them without a break
	Movement     Movement
}

// Next is the career one period on, at the given rank. before is the career up
// to the last period in which the song was on the chart and rank its rank there;
// the zero Career when there was none. adjacent tells whether that period is
// right before the one of date.
func (before Career) Next(lastRank int, adjacent bool, rank int, date time.Time) Career {
	next := Career{Peak: before.Peak, PeakDate: before.PeakDate, Periods: before.Periods + 1, Streak: 1}
	if before.Periods == 0 || rank < before.Peak {
		next.Peak, next.PeakDate = rank, date
	}
	if before.Periods > 0 && adjacent {
		next.PreviousRank, next.Streak = lastRank, before.Streak+1
	}
	next.Movement = Moved(rank, next.PreviousRank, before.Periods > 0)
	return next
}
