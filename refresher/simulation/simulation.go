package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/topk-charts/topk/refresher/topn"
)

// A dimension cuts the charts; the order is that of a window's charts.
type dimension int

const (
	byCountry dimension = iota
	byDevice
	bySegment
	byCity
	dimensions
)

func (d dimension) String() string { return [...]string{"country", "device", "segment", "city"}[d] }

// A kept chart is one that is kept twice.
type kept struct {
	dim     dimension
	name    string
	chart   *topn.Chart
	truth   truth
	rebases [causes]int
}

// A cause is why a chart had to be rebased.
type cause int

const (
	riser     cause = iota // a song that was no candidate has half the plays of the N-th, at least
	highFloor              // the floor has come closer than that to the N-th
	causes
)

// truth is a brute-force count: dense for large charts, a map for cities.
type truth struct {
	dense  []uint32
	sparse map[topn.Song]uint32
	total  uint64
}

func (t *truth) add(song topn.Song, n int) {
	t.total += uint64(n) // -1 wraps to a subtraction
	if t.dense != nil {
		t.dense[song] += uint32(n)
		return
	}
	if now := t.sparse[song] + uint32(n); now > 0 {
		t.sparse[song] = now
	} else {
		delete(t.sparse, song)
	}
}

func (t *truth) each(do func(topn.Song, uint64)) {
	for song, plays := range t.dense {
		if plays > 0 {
			do(topn.Song(song), uint64(plays))
		}
	}
	for song, plays := range t.sparse {
		do(song, uint64(plays))
	}
}

// top finds the first n of the songs with at least so many plays.
func (t *truth) top(songs *topn.Songs, n int, least uint64) []topn.Count {
	var all []topn.Count
	t.each(func(song topn.Song, plays uint64) {
		if plays >= least {
			all = append(all, topn.Count{Song: song, Plays: plays})
		}
	})
	slices.SortFunc(all, func(a, b topn.Count) int {
		return cmp.Or(cmp.Compare(b.Plays, a.Plays), cmp.Compare(songs.ID(b.Song), songs.ID(a.Song)))
	})
	return all[:min(n, len(all))]
}

func (t *truth) clear() {
	clear(t.dense)
	clear(t.sparse)
	t.total = 0
}

// A window holds the charts of one window.
type window struct {
	name   string
	length int // minutes; 0 for today
	charts []*kept
	global topn.Dense
	truth  truth // of global
}

// A simulation is the state of all charts at the end of a minute.
type simulation struct {
	config
	generator *generator
	songs     *topn.Songs
	windows   []*window
	cityChart [cities]int // position in a window's charts; nowhere when not kept
	now       int         // the minute that begins; any large number of days at first
	buffer    []play

	plays, updates          uint64
	updating, settling      time.Duration // CPU
	genres                  time.Duration // CPU
	passes                  int           // over the global counts, for genres
	comparisons, mismatches int
}

const (
	firstMinute = 1000 * minutesPerDay
	genres      = 50
)

func newSimulation(cfg config) (*simulation, error) {
	s := &simulation{config: cfg, generator: newGenerator(cfg), songs: topn.NewSongs(cfg.Songs), now: firstMinute}
	for i := range uint64(cfg.Songs) {
		// Ids in another order than the songs, some alike in their first bytes.
		h := s.generator.hash(i, 5)
		if _, err := s.songs.Intern(fmt.Sprintf("%04x-song-%012x%06x", h>>52, h&(1<<48-1), i)); err != nil {
			return nil, err
		}
	}
	for _, name := range cfg.Windows {
		lengths := map[string]int{"1h": 60, "24h": minutesPerDay, "7d": 7 * minutesPerDay, "today": 0}
		length, known := lengths[name]
		if !known {
			return nil, fmt.Errorf("unknown window %q", name)
		}
		w := &window{name: name, length: length, truth: truth{dense: make([]uint32, cfg.Songs)}}
		for dim, n := range map[dimension]int{byCountry: countries, byDevice: devices, bySegment: segments} {
			for i := range n {
				w.charts = append(w.charts, s.newKept(dim, i))
			}
		}
		slices.SortStableFunc(w.charts, func(a, b *kept) int { return cmp.Compare(a.dim, b.dim) })
		for _, city := range s.sample() {
			s.cityChart[city] = len(w.charts)
			w.charts = append(w.charts, s.newKept(byCity, city))
		}
		s.windows = append(s.windows, w)
	}
	if len(s.windows) == 0 {
		return nil, errors.New("no window")
	}
	return s, nil
}

func (s *simulation) newKept(dim dimension, i int) *kept {
	k := &kept{dim: dim, name: fmt.Sprint(dim, " ", i), chart: topn.NewChart(s.songs, s.limits())}
	if dim == byCity {
		k.truth.sparse = map[topn.Song]uint32{}
	} else {
		k.truth.dense = make([]uint32, s.Songs)
	}
	return k
}

// sample gives every so manieth city in the order of their sizes, and marks
// the others as not kept.
func (s *simulation) sample() []int {
	g := s.generator
	all := make([]int, cities)
	size := make([]float64, cities)
	for c := range countries {
		for _, i := range g.inCountry[c] {
			size[g.firstCity[c]+int(i)] += g.weight[c]
		}
	}
	for i := range all {
		all[i] = i
		s.cityChart[i] = nowhere
	}
	slices.SortStableFunc(all, func(a, b int) int { return cmp.Compare(size[b], size[a]) })
	var kept []int
	for i := min(s.Cities, cities) / 2; i < cities; i += s.Cities {
		kept = append(kept, all[i])
	}
	return kept
}

// each calls do for every chart of w that the play counts in.
func (s *simulation) each(w *window, p play, do func(*kept)) {
	do(w.charts[p.country])
	do(w.charts[countries+int(p.device)])
	do(w.charts[countries+devices+int(p.segment)])
	if p.another != nowhere {
		do(w.charts[countries+devices+int(p.another)])
	}
	if p.city != nowhere {
		if at := s.cityChart[p.city]; at != nowhere {
			do(w.charts[at])
		}
	}
}

// fill counts the plays that the windows hold at the start, by brute force, and
// starts all charts from that, as a cold start does.
func (s *simulation) fill(ctx context.Context, show func(string)) {
	longest := 0
	for _, w := range s.windows {
		longest = max(longest, w.length)
	}
	first := s.now - longest
	for minute := first; minute < s.now && ctx.Err() == nil; minute++ {
		s.buffer = s.generator.minute(minute, s.buffer[:0])
		for _, w := range s.windows {
			if minute >= s.now-w.length {
				s.count(w, s.buffer, 1)
			}
		}
		show(fmt.Sprintf("windows filled to %.0f %%", 100*float64(minute-first)/float64(longest)))
	}
	for _, w := range s.windows {
		w.truth.each(w.global.Put)
		for _, k := range w.charts {
			k.chart.Reset(topn.Count{}, k.truth.total)
			k.truth.each(k.chart.Put)
			k.chart.Settle()
		}
	}
}

// count counts plays by brute force: n is 1 for those that enter, -1 for those
// that leave.
func (s *simulation) count(w *window, plays []play, n int) {
	for _, p := range plays {
		w.truth.add(p.song, n)
		s.each(w, p, func(k *kept) { k.truth.add(p.song, n) })
	}
}

// minute lets a minute pass: its plays enter, tick by tick, then others leave.
func (s *simulation) minute() {
	s.buffer = s.generator.minute(s.now, s.buffer[:0])
	s.plays += uint64(len(s.buffer))
	for tick := range s.Ticks {
		entering := s.buffer[tick*len(s.buffer)/s.Ticks : (tick+1)*len(s.buffer)/s.Ticks]
		for _, w := range s.windows {
			s.enter(w, entering)
		}
	}
	s.now++
	for _, w := range s.windows {
		if w.length > 0 {
			s.buffer = s.generator.minute(s.now-1-w.length, s.buffer[:0])
			s.leave(w, s.buffer)
		} else if s.now%minutesPerDay == 0 {
			w.midnight()
		}
	}
	if s.now%s.Check == 0 {
		s.compare()
	}
}

func (s *simulation) enter(w *window, plays []play) {
	s.move(w, plays, 1, w.global.Add, (*topn.Chart).Add)
}

func (s *simulation) leave(w *window, plays []play) {
	s.move(w, plays, -1, w.global.Expire, (*topn.Chart).Expire)
}

// move counts plays that enter (n is 1) or leave (-1), both ways.
func (s *simulation) move(w *window, plays []play, n int, world func(topn.Song), chart func(*topn.Chart, topn.Song)) {
	start := cpuTime()
	for _, p := range plays {
		world(p.song)
		s.updates++
		s.each(w, p, func(k *kept) { chart(k.chart, p.song); s.updates++ })
	}
	s.updating += cpuTime() - start
	s.count(w, plays, n)
	s.settle(w)
}

func (w *window) midnight() {
	w.global = topn.Dense{}
	w.truth.clear()
	for _, k := range w.charts {
		k.chart.Reset(topn.Count{}, 0)
		k.truth.clear()
	}
}

// settle settles all charts and rebases those that ask for it.
func (s *simulation) settle(w *window) {
	start := cpuTime()
	var failed []*kept
	for _, k := range w.charts {
		if !k.chart.Settle() {
			failed = append(failed, k)
		}
	}
	s.settling += cpuTime() - start
	for _, k := range failed {
		// What is pending has been played and is still in the window.
		if stats := k.chart.Stats(); 2*stats.Floor.Plays <= stats.NthPlays {
			k.rebases[riser]++
		} else {
			k.rebases[highFloor]++
		}
		s.rebase(k)
	}
}

// rebase gives a chart what the statement of a rebase answers: one row more
// than can be candidates, in chart order.
func (s *simulation) rebase(k *kept) {
	best := topn.NewRanking(s.songs, s.Complete+1)
	k.truth.each(best.Offer)
	rows := best.Sorted()
	var floor topn.Count
	if len(rows) > s.Complete {
		floor, rows = rows[s.Complete], rows[:s.Complete]
	}
	k.chart.Reset(floor, k.truth.total)
	for _, row := range rows {
		k.chart.Put(row.Song, row.Plays)
	}
	if !k.chart.Settle() {
		s.mismatches++ // a rebase must always do
	}
}

// compare compares every chart with brute force. They are settled.
func (s *simulation) compare() {
	n := s.limits().N
	for _, w := range s.windows {
		for _, k := range w.charts {
			top := k.chart.Top()
			least := uint64(1)
			if len(top) == n {
				least = top[n-1].Plays
			}
			s.compared(k.chart.Total() == k.truth.total && slices.Equal(top, k.truth.top(s.songs, n, least)))
		}
		s.compareGlobal(w)
	}
}

// compareGlobal reads the charts of the world and of genres off the dense
// counts, in one pass, and compares the first with brute force and all counts.
func (s *simulation) compareGlobal(w *window) {
	n := s.limits().N
	start := cpuTime()
	world := topn.NewRanking(s.songs, n)
	var byGenre [genres]*topn.Ranking
	for i := range byGenre {
		byGenre[i] = topn.NewRanking(s.songs, n)
	}
	for song, plays := range w.global.All() {
		world.Offer(song, plays)
		byGenre[song%genres].Offer(song, plays)
	}
	s.genres += cpuTime() - start
	s.passes++
	equal := w.global.Total() == w.truth.total && w.global.Inconsistent() == 0
	for song, plays := range w.truth.dense {
		equal = equal && w.global.Count(topn.Song(song)) == uint64(plays)
	}
	s.compared(equal && slices.Equal(world.Sorted(), w.truth.top(s.songs, n, 1)))
}

func (s *simulation) compared(equal bool) {
	s.comparisons++
	if !equal {
		s.mismatches++
	}
}

func (s *simulation) rebases() int {
	sum := 0
	for _, w := range s.windows {
		for _, k := range w.charts {
			for _, n := range k.rebases {
				sum += n
			}
		}
	}
	return sum
}

// cpuTime is the time that this process has run, which other work on the
// machine does not stretch.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err) // the arguments are right
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
