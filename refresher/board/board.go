// Package board keeps every chart of one window exact while plays come in and
// leave. It does no I/O and knows no clock: it is told the plays of the log in
// order, and what the time is.
//
// A Board is at one place of the log (a watermark) and one instant, and its
// charts are the brute-force count over the plays below the watermark whose
// time lies in the window at that instant. It moves in steps:
//
//  1. Leaving says which span of event time leaves the window; every play of it
//     below the watermark goes to Expire, which may be done in several pieces.
//  2. Advance takes the next plays of the log. One whose time has not come waits,
//     one that is older than the window is dropped.
//
// Charts whose bounds do not hold any more (see package topn), and charts that
// are new, are counted by SQL as of the board's instant, while the board goes
// on: it keeps what happens meanwhile in a journal. The count is of a prefix of
// the log of its own; it waits until the board has passed that prefix, and then
// takes what the journal has beyond it. The same is done with all charts at
// once when the board is loaded.
package board

import (
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// A Play is one counted play of the log.
type Play struct {
	Src    uint32
	Koff   uint64
	TS     int64 // event time, epoch ms
	Song   topn.Song
	Values []Value   // the eager values that it counts in
	Place  topk.Term // what it was played from, a playlist or an album; zero for none
}

// A Batch is the next piece of the log. It is shared by the boards and must not
// be modified.
type Batch struct {
	Plays []Play
	Next  topk.Watermark // the place in the log after it
	AsOf  time.Time
}

// Config is what the boards have in common.
type Config struct {
	Calendar topk.Calendar
	Songs    *topn.Songs
	Values   *Values
	Catalog  *Catalog
	Limits   topn.Limits
	// MaxAsked bounds the charts that are kept because somebody asked for them.
	MaxAsked int
	// IdleAfter is how long such a chart is kept after it was last asked for.
	IdleAfter time.Duration
}

// A Board is the charts of one window. It is not safe for concurrent use.
type Board struct {
	Config
	window topk.Window

	next topk.Watermark
	asOf time.Time
	span topk.Span

	global  *topn.Dense       // the count of every song: genres and artists are read off it
	whole   *Chart            // the global chart
	eager   []*Chart          // by Value; nil where there is none yet
	genres  map[string]*Chart // read off the dense counts
	asked   map[string]*Chart // by filter; on demand
	places  map[topk.Term][]*Chart
	crosses map[Value][]*Chart // on demand, by one of their values

	early    early
	loading  *load
	journal  []entry // what happened since the oldest hold
	holds    []*hold
	counted  []*hold // those of counts that wait for the board to pass them
	suspect  []*Chart
	scrub    int       // the eager chart that was audited last
	retagged time.Time // when the catalog changed, until charts were put in line for it
	catalog  uint64    // version of the catalog that the charts follow
	genresAt time.Time // of when the charts of genres are

	audits int           // charts that were held against a count of them
	wrong  []topk.Filter // those that were not what was counted
}

// New makes a board that is to be loaded.
func New(cfg Config, window topk.Window) *Board {
	b := &Board{
		Config: cfg, window: window, global: &topn.Dense{}, genres: map[string]*Chart{},
		asked: map[string]*Chart{}, places: map[topk.Term][]*Chart{}, crosses: map[Value][]*Chart{},
	}
	b.whole = b.newChart(topk.NewFilter(), sparse)
	return b
}

// Window is the board's window.
func (b *Board) Window() topk.Window { return b.window }

// AsOf is the instant that the charts are of, Span the window then, and Next
// the first offset per source that they do not count.
func (b *Board) AsOf() time.Time      { return b.asOf }
func (b *Board) Span() topk.Span      { return b.span }
func (b *Board) Next() topk.Watermark { return b.next }

// Leaving gives the span of event time that leaves the window until asOf. The
// plays in it below Next must be handed to Expire before Advance; ok is false
// when there are none.
func (b *Board) Leaving(asOf time.Time) (span topk.Span, ok bool) {
	to := b.window.At(asOf, b.Calendar).Start
	if !b.rolling() || !b.span.Start.Before(to) {
		return topk.Span{}, false
	}
	return topk.Span{Start: b.span.Start, End: to}, true
}

func (b *Board) rolling() bool {
	return b.window != topk.AllTime && b.window != topk.Today && b.window != topk.ThisWeek
}

// Expire takes the plays of the leaving span, or of its first part, off the
// charts. The plays may be in any order.
func (b *Board) Expire(span topk.Span, plays []Play) {
	for _, p := range plays {
		b.happen(entry{p, left})
	}
	b.span.Start = span.End
}

// Advance moves the board to the end of a batch.
func (b *Board) Advance(batch Batch) {
	span := b.window.At(batch.AsOf, b.Calendar)
	if b.loading == nil && b.window.Boundary(batch.AsOf, b.Calendar).After(b.asOf) {
		b.rememberRanks()
	}
	if !b.rolling() && span.Start.After(b.span.Start) {
		b.begin()
	}
	b.asOf, b.span = batch.AsOf, span
	end := span.End.UnixMilli()
	for p, due := b.early.pop(end); due; p, due = b.early.pop(end) {
		b.arrive(p)
	}
	for _, p := range batch.Plays {
		if p.TS >= end {
			b.early.push(p)
			continue
		}
		b.arrive(p)
	}
	b.next = batch.Next
	b.settle()
}

// arrive counts a play whose time has come.
func (b *Board) arrive(p Play) {
	if p.TS < b.span.Start.UnixMilli() {
		b.happen(entry{p, late})
		return
	}
	b.happen(entry{p, came})
}

// begin empties a window to date when its next period begins: what was counted
// is of the last one, since plays ahead of their time wait.
func (b *Board) begin() {
	b.global = &topn.Dense{}
	for c := range b.All() {
		if c.counts != nil {
			c.count(topn.NewChart(b.Songs, b.Limits))
		}
		c.trusted, c.stirred = true, true
		c.turn++ // a count under way is of the last period
	}
	b.suspect = nil
	if b.loading != nil {
		b.loading.begun = true
	}
}

// What may become of a play.
type fate uint8

const (
	came fate = iota // it entered the window
	left             // it left the window, which it had been counted in
	late             // it came when it was out of the window already
)

// An entry of the journal.
type entry struct {
	Play
	fate fate
}

// happen applies an entry to the charts, and keeps it for those being counted.
func (b *Board) happen(e entry) {
	if len(b.holds) > 0 {
		b.journal = append(b.journal, e)
	}
	if b.loading != nil {
		return
	}
	switch e.fate {
	case came:
		b.global.Add(e.Song)
		b.whole.add(e.Song)
		b.each(&e.Play, (*Chart).add)
	case left:
		b.global.Expire(e.Song)
		b.whole.expire(e.Song)
		b.each(&e.Play, (*Chart).expire)
	}
}

// each does something to every chart that counts the play, but for the global
// one and those that are read off the dense counts.
func (b *Board) each(p *Play, do func(*Chart, topn.Song)) {
	for _, v := range p.Values {
		do(b.chartOf(v), p.Song)
		for _, c := range b.crosses[v] {
			if c.counts != nil && b.matches(c, p) {
				do(c, p.Song)
			}
		}
	}
	if len(b.places) > 0 && p.Place.Value != "" {
		for _, c := range b.places[p.Place] {
			if b.matches(c, p) {
				do(c, p.Song)
			}
		}
	}
}

// chartOf gives the chart of an eager value. One that has none yet had no plays
// in the window: its chart begins empty, and complete.
func (b *Board) chartOf(v Value) *Chart {
	for int(v) >= len(b.eager) {
		b.eager = append(b.eager, nil)
	}
	if b.eager[v] == nil {
		b.eager[v] = b.newChart(topk.NewFilter(b.Values.Term(v)), sparse)
	}
	return b.eager[v]
}

// settle checks the bounds of every chart that a play came to or left.
func (b *Board) settle() {
	if b.loading != nil {
		b.finishLoading()
		return
	}
	b.retag()
	for c := range b.All() {
		if c.counts == nil || !c.unsettled {
			continue
		}
		c.unsettled = false
		if c.trusted && !c.counts.Settle() {
			b.distrust(c)
		}
	}
	b.takeCounts()
}

// distrust has a chart counted anew; it is not published until then.
func (b *Board) distrust(c *Chart) {
	if c.trusted {
		c.trusted = false
		b.suspect = append(b.suspect, c)
	}
}

// settles is how long SQL's copy of the catalog may be behind ours.
const settles = 5 * time.Second

// retag follows the catalog. Charts that cross plays with songs' genres or
// artists were counted by what it said before: they are counted anew, as soon as
// SQL has the change too.
func (b *Board) retag() {
	if version := b.Catalog.Version(); version != b.catalog {
		b.catalog, b.retagged, b.genresAt = version, b.asOf, time.Time{}
		for _, c := range b.asked {
			c.songs, c.stirred = nil, true
			if c.counts != nil && c.ofSongs {
				c.trusted = false
				c.turn++
			}
		}
	}
	if b.retagged.IsZero() || b.asOf.Sub(b.retagged) < settles {
		return
	}
	b.retagged = time.Time{}
	for _, c := range b.asked {
		if c.counts != nil && c.ofSongs && !c.trusted {
			b.suspect = append(b.suspect, c)
		}
	}
}

// Audited gives how many charts were held against a count of them since it was
// last asked, and those that were something else. They are right now.
func (b *Board) Audited() (audits int, wrong []topk.Filter) {
	audits, wrong = b.audits, b.wrong
	b.audits, b.wrong = 0, nil
	return audits, wrong
}
