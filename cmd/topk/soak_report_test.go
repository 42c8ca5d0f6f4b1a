package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/faults"
	"github.com/topk-charts/topk/simulate"
	"github.com/topk-charts/topk/snapshot"
)

// charts are those that Redis holds, as far as known: by window and kind, so
// that each kind is picked as often, few or many as its charts are.
type charts struct {
	mu   sync.Mutex
	keys map[topk.Window]map[string][]snapshot.Key
}

// sampleSize is how many charts are known.
const sampleSize = 4000

// learn takes a sample of the charts, and those that must be there.
func (c *charts) learn(ctx context.Context, store *snapshot.Store) {
	sample, err := store.Sample(ctx, sampleSize)
	if err != nil {
		sample = nil // the next time will do
	}
	for _, w := range topk.Windows() {
		sample = append(sample, snapshot.Key{Window: w})
		for _, term := range []topk.Term{{Dim: topk.DimSegment, Value: "free"}, {Dim: topk.DimSegment, Value: "student"}, {Dim: topk.DimDevice, Value: "tv"}} {
			sample = append(sample, snapshot.Key{Filter: topk.NewFilter(term), Window: w})
		}
	}
	keys := map[topk.Window]map[string][]snapshot.Key{}
	for _, key := range sample {
		if keys[key.Window] == nil {
			keys[key.Window] = map[string][]snapshot.Key{}
		}
		kind := kindOf(key.Filter)
		keys[key.Window][kind] = append(keys[key.Window][kind], key)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = keys
}

func (c *charts) pick(r *rand.Rand) snapshot.Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	windows := topk.Windows()
	kinds := c.keys[windows[r.IntN(len(windows))]]
	names := slices.Sorted(maps.Keys(kinds))
	keys := kinds[names[r.IntN(len(names))]]
	return keys[r.IntN(len(keys))]
}

// kindOf is the dimension of a chart, with cities told from countries, or
// joined.
func kindOf(f topk.Filter) string {
	switch terms := f.Terms(); {
	case len(terms) > 1:
		return "joined"
	case strings.Contains(terms[0].Value, "/") && terms[0].Dim == topk.DimRegion:
		return "city"
	default:
		return string(terms[0].Dim)
	}
}

func eagerly(key snapshot.Key) bool {
	return !slices.Contains([]string{"joined", "playlist", "album", "artist"}, kindOf(key.Filter))
}

// A measurement is what was seen of one refresher.
type measurement struct {
	name          string
	coldStart     map[topk.Window]time.Duration // from the refresher's start
	all           time.Duration                 // until the last snapshots came
	sent          simulate.SendReport
	before, after usage
	watched       time.Duration

	freshness      simulate.ProbeReport
	freshnessError error

	rss, rssPeak                     int           // bytes, of the refresher
	rssClickHouse, rssClickHousePeak int           // bytes
	snapshots                        int           // in Redis before it was flushed
	back                             time.Duration // from the flush

	mu          sync.Mutex
	comparisons int
	wrong       int
	compared    map[string]int // by window
	comparing   time.Duration
	staleness   map[string][]time.Duration // by window, and by window of cities
	computed    int                        // charts that were no snapshots
	unserved    int
}

func (m *measurement) served(err error) {
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.unserved++
	}
}

// age notes how old a chart was when it was there.
func (m *measurement) age(key snapshot.Key, chart served, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if chart.Source != "snapshot" {
		m.computed++
		return
	}
	names := []string{key.Window.String()}
	if kindOf(key.Filter) == "city" {
		names = append(names, key.Window.String()+", cities")
	}
	for _, name := range names {
		m.staleness[name] = append(m.staleness[name], now.Sub(chart.AsOf))
	}
}

// usage is what everything has used up to a moment.
type usage struct {
	at      time.Time
	cpu     map[string]time.Duration // by process
	metrics metrics                  // of the refresher
}

func (s *soak) usage(refresher *faults.Process) usage {
	s.Helper()
	u := usage{at: time.Now(), cpu: map[string]time.Duration{"the test itself": s.cpu(os.Getpid())}}
	for _, p := range []*faults.Process{s.ClickHouse, s.Redis, s.Serve, s.Kafka} {
		u.cpu[p.Name] = s.cpu(p.PID())
	}
	u.cpu["refresher"] = s.cpu(refresher.PID())
	res, err := http.Get(s.RefreshURL + "/metrics")
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	u.metrics = parseMetrics(string(text))
	return u
}

// clockTick is the unit of times in /proc, the same on every Linux.
const clockTick = 10 * time.Millisecond

// cpu is the time that a process has run, its children left out.
func (s *soak) cpu(pid int) time.Duration {
	s.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		s.Fatal(err)
	}
	// The name, in parentheses, may hold anything.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	var ticks int
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			s.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * clockTick
}

// memory is what a process has in memory, and the most it had, in bytes.
func (s *soak) memory(p *faults.Process) (now, peak int) {
	s.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		s.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for name, value := range map[string]*int{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, found := strings.CutPrefix(line, name); found {
				if _, err := fmt.Sscan(rest, value); err != nil {
					s.Fatal(err)
				}
				*value <<= 10 // from kB
			}
		}
	}
	return now, peak
}

// metrics are values by the name and labels, as Prometheus writes them.
type metrics map[string]float64

func parseMetrics(text string) metrics {
	m := metrics{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if !strings.Contains(line, "{") {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		} else {
			name += "}"
		}
		if n, err := strconv.ParseFloat(value, 64); err == nil && !strings.HasPrefix(line, "#") {
			m[name] = n
		}
	}
	return m
}

// series gives those of a metric, sorted.
func (m metrics) series(name string) []string {
	var all []string
	for key := range m {
		if key == name || strings.HasPrefix(key, name+"{") {
			all = append(all, key)
		}
	}
	slices.Sort(all)
	return all
}

// sum adds up all series of a metric; false when there are none.
func (m metrics) sum(name string) (sum float64, is bool) {
	for _, key := range m.series(name) {
		sum, is = sum+m[key], true
	}
	return sum, is
}

// A figure is one line of the report about one measurement.
type figure struct {
	what, text string
	number     float64 // to compare measurements by; 0 when that makes no sense
}

// figures are the lines of the report.
func (m *measurement) figures() []figure {
	var all []figure
	add := func(what string, number float64, format string, args ...any) {
		all = append(all, figure{what, fmt.Sprintf(format, args...), number})
	}
	for _, w := range topk.Windows() {
		if took, is := m.coldStart[w]; is {
			add("start to snapshots of "+w.String(), took.Seconds(), "%.1f s", took.Seconds())
		}
	}
	if m.all > 0 {
		add("start to all snapshots", m.all.Seconds(), "%.1f s", m.all.Seconds())
	}
	if m.sent.Sent > 0 {
		m.loadFigures(add)
	}
	add("memory of the refresher at the end, at most", float64(m.rss), "%d MB, %d MB", m.rss>>20, m.rssPeak>>20)
	add("memory of ClickHouse at the end, at most", 0, "%d MB, %d MB", m.rssClickHouse>>20, m.rssClickHousePeak>>20)
	add("snapshots in Redis, back after a flush", m.back.Seconds(), "%d, %.1f s", m.snapshots, m.back.Seconds())
	return all
}

func (m *measurement) loadFigures(add func(what string, number float64, format string, args ...any)) {
	steady := m.after.at.Sub(m.before.at).Seconds()
	add("plays acknowledged, a second", 0, "%d, %.0f", m.sent.Accepted, m.sent.Rate())
	add("acknowledged within p50, p95", 0, "%s, %s", m.sent.AckP50.Round(time.Millisecond), m.sent.AckP95.Round(time.Millisecond))
	add("snapshots compared", 0, "%d", m.comparisons)
	for _, window := range slices.Sorted(maps.Keys(m.compared)) {
		add("  of "+window, 0, "%d", m.compared[window])
	}
	add("wrong", 0, "%d", m.wrong)
	for _, name := range slices.Sorted(maps.Keys(m.staleness)) {
		ages := m.staleness[name]
		slices.Sort(ages)
		p95 := ages[len(ages)*95/100]
		add("age when served p50, p95, max: "+name, p95.Seconds(), "%.2f, %.2f, %.2f s of %d", ages[len(ages)/2].Seconds(), p95.Seconds(), ages[len(ages)-1].Seconds(), len(ages))
	}
	add("charts not served, served by SQL", 0, "%d, %d", m.unserved, m.computed)
	if m.freshnessError != nil {
		add("acknowledged to visible", 0, "%v", m.freshnessError)
	} else {
		for _, f := range []simulate.Freshness{m.freshness.Country, m.freshness.Global} {
			add("acknowledged to visible p50, p95, max: "+f.Dim+" 1h", f.P95.Seconds(), "%.2f, %.2f, %.2f s of %d, unseen %d", f.P50.Seconds(), f.P95.Seconds(), f.Max.Seconds(), f.Samples, f.Unseen)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.after.cpu)) {
		cores := (m.after.cpu[name] - m.before.cpu[name]).Seconds() / steady
		add("cores: "+name, cores, "%.3f", cores)
	}
	both := (m.after.cpu["refresher"] + m.after.cpu["clickhouse"] - m.before.cpu["refresher"] - m.before.cpu["clickhouse"]).Seconds() / steady
	add("cores: refresher and clickhouse", both, "%.3f", both)
	add("  of which comparisons at most", 0, "%.3f", m.comparing.Seconds()/m.watched.Seconds())
	for _, name := range []string{"topk_refresher_arrivals_total", "topk_refresher_published_total", "topk_refresher_changed_entries_total",
		"topk_refresher_rebase_seconds_count", "topk_refresher_wrong_charts_total"} {
		after, is := m.after.metrics.sum(name)
		if !is {
			add(name, 0, "-")
			continue
		}
		before, _ := m.before.metrics.sum(name)
		add(name+", a second", 0, "%.0f, %.3f", after-before, (after-before)/steady)
	}
	for _, series := range m.after.metrics.series("topk_refresher_rebase_seconds_count") {
		if n := m.after.metrics[series] - m.before.metrics[series]; n > 0 {
			add("  "+strings.TrimPrefix(series, "topk_refresher_rebase_seconds_count"), 0, "%.0f", n)
		}
	}
	for _, name := range []string{"topk_refresher_entries", "topk_refresher_bytes", "topk_refresher_cold_start_seconds"} {
		if _, is := m.after.metrics.sum(name); !is {
			add(name, 0, "-")
		}
		for _, series := range m.after.metrics.series(name) {
			add(series, 0, "%.10g", m.after.metrics[series])
		}
	}
}

// report is a table with a column for each measurement, and how the last
// compares with the first.
func report(all []*measurement) string {
	var order []string
	cells := map[string][]figure{}
	for column, m := range all {
		for _, f := range m.figures() {
			if cells[f.what] == nil {
				order = append(order, f.what)
				cells[f.what] = make([]figure, len(all))
			}
			cells[f.what][column] = f
		}
	}
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 3, ' ', 0)
	for _, m := range all {
		fmt.Fprintf(table, "\t%s", m.name)
	}
	fmt.Fprintln(table)
	for _, what := range order {
		fmt.Fprint(table, what)
		for _, f := range cells[what] {
			fmt.Fprintf(table, "\t%s", f.text)
		}
		if first, last := cells[what][0].number, cells[what][len(all)-1].number; len(all) > 1 && first > 0 && last > 0 {
			fmt.Fprintf(table, "\t%.1f times", last/first)
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush() // a strings.Builder takes everything
	return text.String()
}
