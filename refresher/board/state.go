package board

import (
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// A State is what a board knows of one chart, for people to look at.
type State struct {
	Chart       string         `json:"chart"`
	Window      string         `json:"window"`
	Kept        bool           `json:"kept"` // false: there is nothing to say
	AsOf        time.Time      `json:"asOf"`
	WindowStart time.Time      `json:"windowStart"`
	Watermark   topk.Watermark `json:"watermark"`

	OnDemand    bool        `json:"onDemand"`
	InDoubt     bool        `json:"inDoubt"` // it waits for a count, and is not published
	TotalPlays  uint64      `json:"totalPlays"`
	Counts      *topn.Stats `json:"counts,omitempty"` // of a chart that keeps counts of its own
	PublishedAt time.Time   `json:"publishedAt"`
	Version     uint64      `json:"version"`
	RanksAt     time.Time   `json:"ranksAt"`
	Top         []StateRow  `json:"top"`

	Journal int `json:"journal"` // entries that the board keeps for counts under way
	Early   int `json:"early"`   // plays whose time has not come
}

// A StateRow is one entry of the chart.
type StateRow struct {
	Rank   int    `json:"rank"`
	SongID string `json:"songId"`
	Plays  uint64 `json:"plays"`
}

// State tells what the board knows of a chart.
func (b *Board) State(f topk.Filter) State {
	s := State{
		Chart: f.String(), Window: b.window.String(), AsOf: b.asOf, WindowStart: b.span.Start, Watermark: b.next,
		Journal: len(b.journal), Early: len(b.early.plays),
	}
	c := b.Find(f)
	if c == nil {
		return s
	}
	s.Kept, s.OnDemand, s.InDoubt = true, !c.askedAt.IsZero(), !c.trusted
	s.PublishedAt, s.Version, s.RanksAt = c.at, c.version, c.ranksAt
	if c.counts != nil {
		stats := c.counts.Stats()
		s.Counts, s.TotalPlays = &stats, c.counts.Total()
	}
	if !c.trusted || b.loading != nil {
		return s
	}
	if c.kind == genre {
		b.readGenres()
	}
	top, total := b.top(c)
	s.TotalPlays = total
	for i, e := range top {
		s.Top = append(s.Top, StateRow{Rank: i + 1, SongID: b.Songs.ID(e.Song), Plays: e.Plays})
	}
	return s
}

// A Size is how much a board keeps.
type Size struct {
	Charts, Suspects int
	Entries          int // candidates and pending counts
	Bytes            int
}

// Size adds up what the board keeps.
func (b *Board) Size() Size {
	s := Size{Bytes: b.global.Bytes()}
	for c := range b.All() {
		s.Charts++
		if !c.trusted {
			s.Suspects++
		}
		if c.counts != nil {
			stats := c.counts.Stats()
			s.Entries += stats.Candidates + stats.Pending
			s.Bytes += stats.Bytes
		}
	}
	return s
}
