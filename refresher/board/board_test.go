package board

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/refresher/topn"
)

// tiny limits make every bound matter within a few plays.
var tiny = topn.Limits{N: 2, Candidates: 3, Complete: 5, Pending: 4}

// A row of the log, as the test keeps it.
type row struct {
	src           uint32
	koff          uint64
	ts            int64
	song          string
	country, city string
	device        string
	place         topk.Term
}

// A world is a log, the boards that follow it, and what SQL would say of it.
type world struct {
	*rapid.T
	cfg     Config
	boards  []*Board
	log     map[uint32][]row // by source, in order
	read    topk.Watermark   // up to where the boards were told
	now     time.Time
	genres  map[string][]string
	counts  map[*Board][]underWay
	checked *tally
}

// A count is under way from when SQL looked until its answer is there.
type underWay struct {
	Count
	result Result
}

// A tally shows what the histories exercised.
type tally struct{ compared, counts, audits, publications int }

var start = time.Date(2026, 11, 26, 23, 58, 40, 0, time.UTC) // the last minutes of a day, of a week and of an hour

func newWorld(t *rapid.T, tally *tally) *world {
	songs := topn.NewSongs(1 << 16)
	w := &world{
		T: t, log: map[uint32][]row{}, read: topk.Watermark{}, now: start, counts: map[*Board][]underWay{}, checked: tally,
		genres: map[string][]string{},
		cfg: Config{
			Calendar: topk.DefaultCalendar(), Songs: songs, Values: NewValues(100), Catalog: NewCatalog(),
			Limits: tiny, MaxAsked: 3, IdleAfter: time.Minute,
		},
	}
	return w
}

func (w *world) song(id string) topn.Song {
	s, err := w.cfg.Songs.Intern(id)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// write appends plays to the log: most of now, some late, some ahead of time.
func (w *world) write() {
	for range rapid.IntRange(0, 12).Draw(w.T, "plays") {
		src := rapid.Uint32Range(0, 2).Draw(w.T, "src")
		late := rapid.SampledFrom([]time.Duration{
			0, 0, 0, time.Second, -2 * time.Second, time.Minute, 59 * time.Minute, time.Hour, 61 * time.Minute, 24 * time.Hour, 25 * time.Hour,
		}).Draw(w.T, "late")
		r := row{src: src, ts: w.now.Add(-late).UnixMilli(), song: rapid.SampledFrom(songIDs).Draw(w.T, "song")}
		if n := len(w.log[src]); n > 0 {
			r.koff = w.log[src][n-1].koff + rapid.Uint64Range(1, 3).Draw(w.T, "gap")
		}
		r.country = rapid.SampledFrom([]string{"", "IN", "SE"}).Draw(w.T, "country")
		if r.country != "" {
			r.city = rapid.SampledFrom([]string{"", r.country + "/a"}).Draw(w.T, "city")
		}
		r.device = rapid.SampledFrom([]string{"", "tv"}).Draw(w.T, "device")
		r.place = rapid.SampledFrom([]topk.Term{{}, {Dim: topk.DimPlaylist, Value: "p"}, {Dim: topk.DimAlbum, Value: "a"}}).Draw(w.T, "place")
		w.log[src] = append(w.log[src], r)
	}
}

// Song ids in an order that is not that of their first use.
var songIDs = []string{"m", "z", "a", "mm", "b", "y", "c", "x"}

func (w *world) play(r row) Play {
	p := Play{Src: r.src, Koff: r.koff, TS: r.ts, Song: w.song(r.song), Place: r.place}
	for _, t := range []topk.Term{{Dim: topk.DimRegion, Value: r.country}, {Dim: topk.DimRegion, Value: r.city}, {Dim: topk.DimDevice, Value: r.device}} {
		if t.Value == "" {
			continue
		}
		v, ok := w.cfg.Values.Of(t)
		if !ok {
			w.Fatalf("no room for %v", t)
		}
		p.Values = append(p.Values, v)
	}
	return p
}

// prefix draws a watermark between the boards' and the end of the log.
func (w *world) prefix() topk.Watermark {
	prefix := topk.Watermark{}
	for src := range uint32(3) {
		rows := w.log[src]
		from := 0
		for from < len(rows) && rows[from].koff < w.read[src] {
			from++
		}
		if n := rapid.IntRange(from, len(rows)).Draw(w.T, "prefix"); n > 0 {
			prefix[src] = max(rows[n-1].koff+1, w.read[src])
		}
	}
	return prefix
}

// brute counts a filter over a prefix and a span, best first.
func (w *world) brute(f topk.Filter, below topk.Watermark, span topk.Span) (entries []topk.Entry, total uint64) {
	counts := map[string]uint64{}
	for src := range uint32(3) {
		for _, r := range w.log[src] {
			if r.koff < below[src] && span.Contains(time.UnixMilli(r.ts)) && w.matches(f, r) {
				counts[r.song]++
				total++
			}
		}
	}
	for song, plays := range counts {
		entries = append(entries, topk.Entry{SongID: song, Plays: plays})
	}
	topk.RankEntries(entries)
	return entries, total
}

func (w *world) matches(f topk.Filter, r row) bool {
	for _, t := range f.Terms() {
		ok := false
		switch t.Dim {
		case topk.DimGlobal:
			ok = true
		case topk.DimRegion:
			ok = t.Value == r.country || t.Value == r.city
		case topk.DimDevice:
			ok = t.Value == r.device
		case topk.DimPlaylist, topk.DimAlbum:
			ok = t == r.place
		case topk.DimGenre:
			ok = slices.Contains(w.genres[r.song], t.Value)
		case topk.DimArtist:
			ok = artistOf(r.song) == t.Value
		}
		if !ok {
			return false
		}
	}
	return true
}

func artistOf(song string) string { return "by-" + song[:1] }

// load starts the boards: each dimension is counted as of a prefix of its own.
func (w *world) load() {
	w.read = w.prefix()
	start := maps.Clone(w.read)
	dims := []topk.Dimension{topk.DimGlobal, topk.DimRegion, topk.DimSegment, topk.DimDevice}
	var below []topk.Watermark
	for range dims {
		below = append(below, w.prefix())
	}
	for _, window := range []topk.Window{topk.LastHour, topk.Last24h, topk.Today, topk.ThisWeek, topk.AllTime} {
		b := New(w.cfg, window)
		b.Load(w.now)
		for i, dim := range dims {
			w.loadDimension(b, dim, below[i])
		}
		var early []Play
		for src := range uint32(3) {
			for _, r := range w.log[src] {
				if r.koff < start[src] && r.ts >= b.Span().End.UnixMilli() {
					early = append(early, w.play(r))
				}
			}
		}
		b.Start(start, early)
		w.boards = append(w.boards, b)
	}
}

func (w *world) loadDimension(b *Board, dim topk.Dimension, below topk.Watermark) {
	values := map[topk.Dimension][]string{topk.DimGlobal: {""}, topk.DimRegion: {"IN", "SE", "IN/a", "SE/a"}, topk.DimDevice: {"tv"}}
	for range rapid.IntRange(1, 2).Draw(w.T, "attempts") { // a statement may be asked again
		l := b.Loader(dim)
		for _, val := range values[dim] {
			entries, total := w.brute(topk.NewFilter(topk.Term{Dim: dim, Value: val}), below, b.Span())
			if total == 0 {
				continue
			}
			floor := uint64(0)
			if dim != topk.DimGlobal && rapid.Bool().Draw(w.T, "floor") {
				floor = entries[len(entries)-1].Plays
			}
			for _, e := range entries {
				// Some of the others are given because of other windows.
				if e.Plays > floor || rapid.Bool().Draw(w.T, "given all the same") {
					l.Row(val, w.song(e.SongID), e.Plays)
				}
			}
			l.Value(val, floor, total)
		}
		l.Done(below)
	}
}

// step tells the boards the next piece of the log, and moves time.
func (w *world) step() {
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{
		time.Millisecond, 250 * time.Millisecond, time.Second, 20 * time.Second, time.Minute, 61 * time.Minute,
	}).Draw(w.T, "later"))
	next := w.prefix()
	batch := Batch{Next: next, AsOf: w.now}
	for src := range uint32(3) {
		for _, r := range w.log[src] {
			if r.koff >= w.read[src] && r.koff < next[src] {
				batch.Plays = append(batch.Plays, w.play(r))
			}
		}
	}
	for _, b := range w.boards {
		for span, ok := b.Leaving(w.now); ok; span, ok = b.Leaving(w.now) {
			if rapid.Bool().Draw(w.T, "in pieces") && span.End.Sub(span.Start) > time.Minute {
				span.End = span.Start.Add(time.Minute)
			}
			var leaving []Play
			for src := range uint32(3) {
				for _, r := range w.log[src] {
					if r.koff < b.Next()[src] && span.Contains(time.UnixMilli(r.ts)) {
						leaving = append(leaving, w.play(r))
					}
				}
			}
			b.Expire(span, leaving)
		}
		b.Advance(batch)
	}
	w.read = next
}

// sql begins counts, and ends some of those under way.
func (w *world) sql() {
	for _, b := range w.boards {
		for range rapid.IntRange(0, 3).Draw(w.T, "counts begun") {
			count, ok := b.NextCount(rapid.Bool().Draw(w.T, "audit"))
			if !ok {
				break
			}
			w.counts[b] = append(w.counts[b], underWay{count, w.count(count)})
		}
		w.counts[b] = slices.DeleteFunc(w.counts[b], func(c underWay) bool {
			switch rapid.SampledFrom([]string{"ends", "goes on", "fails"}).Draw(w.T, "count") {
			case "goes on":
				return false
			case "fails":
				b.Uncounted(c.Count)
				return true
			}
			b.Counted(c.Count, c.result)
			return true
		})
	}
}

// count is SQL's answer: of a prefix of the log that is not behind the board's.
func (w *world) count(c Count) Result {
	below := w.prefix()
	entries, total := w.brute(c.Filter, below, c.Window.At(c.AsOf, w.cfg.Calendar))
	r := Result{Total: total, Below: below}
	for _, e := range entries[:min(len(entries), tiny.Complete+1)] {
		r.Rows = append(r.Rows, topn.Count{Song: w.song(e.SongID), Plays: e.Plays})
	}
	r.Rest = len(r.Rows) > tiny.Complete
	w.checked.counts++
	return r
}

// check compares every chart that may be published with brute force.
func (w *world) check() {
	for _, b := range w.boards {
		if b.Loading() {
			continue
		}
		for c := range b.All() {
			if !c.trusted || c.kind == genre && b.genresAt != b.asOf {
				continue
			}
			entries, total := w.brute(c.Filter, b.Next(), b.Span())
			top, got := b.top(c)
			if w.checked.compared++; got != total {
				w.Fatalf("%s %s at %s of %v: %d plays, want %d", c.Filter, b.Window(), b.AsOf(), b.Next(), got, total)
			}
			want := entries[:min(len(entries), tiny.N)]
			if len(top) != len(want) {
				w.Fatalf("%s %s: %d entries, want %d", c.Filter, b.Window(), len(top), len(want))
			}
			for i, e := range want {
				if w.cfg.Songs.ID(top[i].Song) != e.SongID || top[i].Plays != e.Plays {
					w.Fatalf("%s %s at %s of %v: rank %d is %s with %d plays, want %s with %d", c.Filter, b.Window(), b.AsOf(), b.Next(),
						i+1, w.cfg.Songs.ID(top[i].Song), top[i].Plays, e.SongID, e.Plays)
				}
			}
		}
		audits, wrong := b.Audited()
		if len(wrong) > 0 {
			w.Fatalf("audits found %v to be wrong", wrong)
		}
		w.checked.audits += audits
	}
}

// ask has some charts on demand.
func (w *world) ask() {
	filter := rapid.SampledFrom([]string{
		"playlist:p", "album:a", "artist:by-m", "region:IN,device:tv", "genre:pop,region:IN", "genre:pop,genre:rock", "playlist:p,region:SE/a", "artist:by-m,genre:pop", "region:IN", "genre:pop",
	}).Draw(w.T, "asked for")
	f, err := topk.ParseFilter(filter)
	if err != nil {
		w.Fatal(err)
	}
	for _, b := range w.boards {
		b.Ask(f, w.now)
		b.Idle(w.now)
	}
}

// tag changes the catalog. What SQL knows of it and the boards do is the same
// here: the charts wait until that is so.
func (w *world) tag() {
	id := rapid.SampledFrom(songIDs).Draw(w.T, "tagged song")
	w.genres[id] = rapid.SliceOfDistinct(rapid.SampledFrom([]string{"pop", "rock"}), rapid.ID[string]).Draw(w.T, "genres")
	w.cfg.Catalog.Put([]Tag{{Song: w.song(id), Artist: artistOf(id), Genres: w.genres[id]}})
	for _, b := range w.boards {
		b.retag()
	}
}

// publish has Redis take or refuse what is due, and holds what it has then
// against brute force.
func (w *world) publish(redis map[*Chart]map[string]uint64) {
	for _, b := range w.boards {
		due := b.Due()
		slices.SortFunc(due, func(a, b Publication) int { return strings.Compare(a.Chart.Filter.String(), b.Chart.Filter.String()) })
		for _, p := range due {
			w.checked.publications++
			held := redis[p.Chart]
			if p.Base == 0 {
				held = map[string]uint64{}
			}
			if rapid.IntRange(0, 9).Draw(w.T, "refused") == 0 {
				b.Refused(&p)
				continue
			}
			for _, song := range p.Removed {
				delete(held, w.cfg.Songs.ID(song))
			}
			for _, e := range p.Set {
				held[w.cfg.Songs.ID(e.Song)] = e.Plays
			}
			redis[p.Chart] = held
			b.Published(&p)
			entries, total := w.brute(p.Chart.Filter, b.Next(), b.Span())
			want := map[string]uint64{}
			for _, e := range entries[:min(len(entries), tiny.N)] {
				want[e.SongID] = e.Plays
			}
			if fmt.Sprint(held) != fmt.Sprint(want) || p.Total != total || p.Size != len(want) {
				w.Fatalf("%s %s: Redis has %v of %d, want %v of %d", p.Chart.Filter, b.Window(), held, p.Total, want, total)
			}
		}
	}
}

// Whatever the order of plays, counts by SQL, corrections of the catalog and
// steps of time: every chart that is served is brute force, and what Redis was
// told adds up to it.
func TestBoardsAreBruteForce(t *testing.T) {
	var tally tally
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, &tally)
		for _, id := range songIDs {
			w.genres[id] = nil
			w.cfg.Catalog.Put([]Tag{{Song: w.song(id), Artist: artistOf(id)}})
		}
		w.tag()
		w.write()
		w.load()
		redis := map[*Chart]map[string]uint64{}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"plays", "plays", "plays", "sql", "sql", "ask", "tag", "publish"}).Draw(t, "what") {
			case "plays":
				w.write()
				w.step()
			case "sql":
				w.sql()
			case "ask":
				w.ask()
			case "tag":
				w.tag()
			case "publish":
				w.publish(redis)
			}
			w.check()
		}
	})
	t.Logf("%+v", tally)
	if tally.compared == 0 || tally.counts == 0 || tally.audits == 0 || tally.publications == 0 {
		t.Errorf("the histories left something out: %+v", tally)
	}
}
