package board

import (
	"sync"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// A load is the cold start of a board: each dimension is counted by one
// statement, of a prefix of the log of its own.
type load struct {
	mu    sync.Mutex // statements are read side by side
	hold  *hold
	bases map[topk.Dimension]base
	begun bool // a new period began meanwhile: nothing that was counted is in it
}

// Load begins the cold start of a new board, as of an instant. The dimensions
// are loaded next, and then the board is told by Start where in the log it is.
func (b *Board) Load(asOf time.Time) {
	b.asOf, b.span = asOf, b.window.At(asOf, b.Calendar)
	b.loading = &load{hold: &hold{}, bases: map[topk.Dimension]base{}}
	b.holds = []*hold{b.loading.hold}
}

// A Loader takes the counts of one dimension: global, region, segment or device.
// Loaders of several dimensions may run at the same time.
type Loader struct {
	board  *Board
	dim    topk.Dimension
	charts map[string]*Chart
}

// Loader loads a dimension. It may be made again to start anew.
func (b *Board) Loader(dim topk.Dimension) *Loader {
	l := &Loader{board: b, dim: dim, charts: map[string]*Chart{}}
	if dim == topk.DimGlobal {
		b.global = &topn.Dense{}
		b.whole.count(topn.NewChart(b.Songs, b.Limits))
		b.whole.counts.Reset(topn.Count{}, 0)
		l.charts[""] = b.whole
		return l
	}
	b.loading.mu.Lock()
	defer b.loading.mu.Unlock()
	for i, c := range b.eager {
		if c != nil && c.Filter.Terms()[0].Dim == dim {
			b.eager[i] = nil
		}
	}
	return l
}

// Row is the plays of one song.
func (l *Loader) Row(val string, song topn.Song, plays uint64) {
	if l.dim == topk.DimGlobal {
		l.board.global.Put(song, plays)
	}
	if c := l.chart(val); c != nil {
		c.counts.Put(song, plays)
	}
}

// Value says, after the rows of a value, how many plays it has in all, and that
// songs of which no row came have at most rest; 0 when there are none.
func (l *Loader) Value(val string, rest, total uint64) {
	if c := l.chart(val); c != nil {
		c.counts.Bound(rest, total)
	}
}

// chart gives the chart of a value; nil when there is no room for it.
func (l *Loader) chart(val string) *Chart {
	c, known := l.charts[val]
	if known {
		return c
	}
	if v, ok := l.board.Values.Of(topk.Term{Dim: l.dim, Value: val}); ok {
		l.board.loading.mu.Lock()
		c = l.board.chartOf(v)
		l.board.loading.mu.Unlock()
		c.counts.Reset(topn.Count{}, 0)
	}
	l.charts[val] = c
	return c
}

// Done says which prefix of the log was counted.
func (l *Loader) Done(below topk.Watermark) {
	l.board.loading.mu.Lock()
	defer l.board.loading.mu.Unlock()
	l.board.loading.bases[l.dim] = base{below: below, span: l.board.span}
}

// Start says where in the log the board is: not beyond any of the prefixes that
// were counted. early are the plays below it whose time has not come.
func (b *Board) Start(next topk.Watermark, early []Play) {
	b.next = next
	for _, p := range early {
		b.early.push(p)
	}
}

// Loading reports whether the board has not yet passed what was counted.
func (b *Board) Loading() bool { return b.loading != nil }

// finishLoading replays the journal once the board has passed every prefix that
// was counted.
func (b *Board) finishLoading() {
	l := b.loading
	for _, base := range l.bases {
		if !b.next.Covers(base.below) {
			return
		}
	}
	b.loading = nil
	for i := range b.journal {
		e := &b.journal[i]
		if base := l.bases[topk.DimGlobal]; !l.begun || !base.has(&e.Play) {
			b.replay(e, base, b.global.Add, b.global.Expire)
			b.replay(e, base, b.whole.add, b.whole.expire)
		}
		for _, v := range e.Values {
			base := l.bases[b.Values.Term(v).Dim]
			if !l.begun || !base.has(&e.Play) {
				c := b.chartOf(v)
				b.replay(e, base, c.add, c.expire)
			}
		}
	}
	b.release(l.hold)
	for c := range b.All() {
		if c.counts != nil {
			c.unsettled = false
			if !c.counts.Settle() {
				b.distrust(c)
			}
		}
	}
}
