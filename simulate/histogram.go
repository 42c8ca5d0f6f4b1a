package simulate

import (
	"math"
	"time"
)

// A histogram keeps durations in buckets that grow by 2 %, so that its memory
// is fixed and its quantiles are at most 2 % too high. Not for concurrent use.
type histogram struct {
	counts [histogramBuckets]uint64
	total  uint64
	max    time.Duration
}

const (
	histogramFirst   = 10 * time.Microsecond // upper end of the first bucket
	histogramGrowth  = 1.02
	histogramBuckets = 1000 // the last one holds everything above about an hour
)

func (h *histogram) add(d time.Duration) {
	i := 0
	if d > histogramFirst {
		i = int(math.Ceil(math.Log(float64(d)/float64(histogramFirst)) / math.Log(histogramGrowth)))
	}
	h.counts[min(i, histogramBuckets-1)]++
	h.total++
	h.max = max(h.max, d)
}

// quantile gives the duration that the share q of all durations do not exceed;
// 0 when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	rank := max(uint64(math.Ceil(q*float64(h.total))), 1)
	var seen uint64
	for i, n := range h.counts {
		seen += n
		if seen >= rank {
			upper := float64(histogramFirst) * math.Pow(histogramGrowth, float64(i))
			return min(time.Duration(upper), h.max)
		}
	}
	return 0
}
