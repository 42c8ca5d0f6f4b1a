package board

import (
	"slices"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// A Count is one chart that is to be counted by SQL, as of the board's instant.
type Count struct {
	Filter topk.Filter
	Window topk.Window
	AsOf   time.Time
	// Audit says that the chart is not in doubt: the count is to prove it.
	Audit bool

	chart *Chart
	turn  int // of the chart's counts
	hold  *hold
}

// A Result is what SQL counted.
type Result struct {
	Rows  []topn.Count // best first
	Total uint64
	// Rest is true when there are more songs: the last row is then not counted
	// in, but says what none of them exceeds.
	Rest  bool
	Below topk.Watermark // the prefix of the log that was counted
}

// A hold is a place in the journal from which on it is needed.
type hold struct {
	from   int // index in the journal
	base   base
	count  Count
	result Result
}

// A base is what a count has counted: a prefix of the log, as of an instant.
type base struct {
	below topk.Watermark
	span  topk.Span
}

// has reports whether the play was counted.
func (b base) has(p *Play) bool {
	return p.Koff < b.below[p.Src] && p.TS >= b.span.Start.UnixMilli() && p.TS < b.span.End.UnixMilli()
}

// NextCount gives the next chart to be counted, a distrusted one, or when there
// is none and audit is true, one whose turn it is to be proved. From now on the
// journal is kept for it, until Counted or Uncounted.
func (b *Board) NextCount(audit bool) (Count, bool) {
	if b.loading != nil {
		return Count{}, false
	}
	for len(b.suspect) > 0 {
		c := b.suspect[0]
		b.suspect = b.suspect[1:]
		if c.trusted || c.dropped || c.ofSongs && !b.retagged.IsZero() { // see retag
			continue
		}
		return b.startCount(c, false), true
	}
	if !audit {
		return Count{}, false
	}
	for range len(b.eager) + 1 {
		b.scrub = (b.scrub + 1) % (len(b.eager) + 1)
		c := b.whole
		if b.scrub > 0 {
			c = b.eager[b.scrub-1]
		}
		if c != nil && c.trusted {
			return b.startCount(c, true), true
		}
	}
	return Count{}, false
}

func (b *Board) startCount(c *Chart, audit bool) Count {
	c.turn++
	h := &hold{from: len(b.journal), base: base{span: b.span}}
	b.holds = append(b.holds, h)
	h.count = Count{Filter: c.Filter, Window: b.window, AsOf: b.asOf, Audit: audit, chart: c, turn: c.turn, hold: h}
	return h.count
}

// Uncounted gives a count up; the chart is put in line again.
func (b *Board) Uncounted(count Count) {
	b.release(count.hold)
	if c := count.chart; c.turn == count.turn && !c.trusted && !c.dropped {
		b.suspect = append(b.suspect, c)
	}
}

// Forget gives a count up for good: SQL cannot count the chart. A chart on demand
// is dropped, and left to whoever asks for it.
func (b *Board) Forget(count Count) {
	b.release(count.hold)
	if c := count.chart; b.asked[c.Filter.String()] == c {
		b.drop(c)
	}
}

// Counted takes a result. It is used as soon as the board has passed the prefix
// of the log that was counted.
func (b *Board) Counted(count Count, result Result) {
	count.hold.result, count.hold.base.below = result, result.Below
	b.counted = append(b.counted, count.hold)
}

// takeCounts uses the results that the board has passed, and gives the audits
// that found a chart to be wrong.
func (b *Board) takeCounts() {
	b.counted = slices.DeleteFunc(b.counted, func(h *hold) bool {
		if !b.next.Covers(h.base.below) {
			return false
		}
		if c := h.count.chart; c.turn == h.count.turn && !c.dropped {
			b.takeCount(h)
		}
		b.release(h)
		return true
	})
}

func (b *Board) takeCount(h *hold) {
	c := h.count.chart
	before := c.counts
	c.count(h.result.chart(b.Songs, b.Limits))
	for i := h.from; i < len(b.journal); i++ {
		if e := &b.journal[i]; b.counts(c, &e.Play) {
			b.replay(e, h.base, c.add, c.expire)
		}
	}
	sound := c.counts.Settle()
	if h.count.Audit && c.trusted && sound {
		b.audits++
		if before.Total() != c.counts.Total() || !slices.Equal(before.Top(), c.counts.Top()) {
			b.wrong = append(b.wrong, c.Filter)
		}
	}
	c.stirred, c.unsettled, c.trusted = true, false, true
	if !sound {
		b.distrust(c)
	}
}

// chart makes a chart of the result.
func (r Result) chart(songs *topn.Songs, limits topn.Limits) *topn.Chart {
	c := topn.NewChart(songs, limits)
	rows, floor := r.Rows, topn.Count{}
	if r.Rest {
		rows, floor = rows[:len(rows)-1], rows[len(rows)-1]
	}
	c.Reset(floor, r.Total)
	for _, row := range rows {
		c.Put(row.Song, row.Plays)
	}
	return c
}

// replay applies what happened since a count began, as far as the count does not
// hold it already.
//
// What the board counts now is every play below its watermark in its window. Of
// the plays that came, those that the count holds are in; of those that it
// holds, the ones that left, or were late for the window, are to be taken off.
func (b *Board) replay(e *entry, base base, add, expire func(topn.Song)) {
	held := base.has(&e.Play)
	switch {
	case e.fate == came && !held && e.TS >= b.span.Start.UnixMilli():
		add(e.Song)
	case e.fate != came && held:
		expire(e.Song)
	}
}

// release lets the journal go as far as nobody else needs it.
func (b *Board) release(h *hold) {
	b.holds = slices.DeleteFunc(b.holds, func(other *hold) bool { return other == h })
	first := len(b.journal)
	for _, other := range b.holds {
		first = min(first, other.from)
	}
	b.journal = slices.Delete(b.journal, 0, first)
	for _, other := range b.holds {
		other.from -= first
	}
}
