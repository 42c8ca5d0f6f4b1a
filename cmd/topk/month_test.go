package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/internal/oracle"
	"github.com/topk-charts/topk/queries"
)

// Every number that any call of the query API gives, over a month of plays, is
// what a small and slow program counts.
func TestEveryNumberOfAMonth(t *testing.T) {
	m := newMonth(t)
	t.Run("top", m.top)
	t.Run("closed", m.closed)
	t.Run("trending", m.trending)
	t.Run("songs", m.songs)
	t.Run("artists", m.artists)
	t.Run("lists", m.lists)
	m.stop()
}

// A month is a system that holds 31 days of plays, and the truth about them. No
// plays come in while it is asked.
type month struct {
	*system
	*rand.Rand
	truth   *oracle.Oracle
	catalog []topk.Song
	start   time.Time
	filters []topk.Filter
	charts  map[string][]closing // by filter and period
}

const (
	monthDays  = 31
	monthSongs = 60 // of these the last two are in no catalog
	monthUsers = 40
)

func newMonth(t *testing.T) *month {
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-faults.seed=%d", seed)
	m := &month{
		system: up(t, t.TempDir(), ports(t)), Rand: rand.New(rand.NewPCG(seed, 6)), truth: oracle.New(),
		charts: map[string][]closing{},
		start:  time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -monthDays),
	}
	for _, dim := range []string{
		"global", "region:IN", "region:IN/Mumbai", "genre:pop", "segment:free", "device:mobile", "playlist:p1", "album:p1",
		"artist:a3", "region:IN,genre:pop", "playlist:p1,segment:free,region:US", "region:FR",
	} {
		f, err := topk.ParseFilter(dim)
		if err != nil {
			t.Fatal(err)
		}
		m.filters = append(m.filters, f)
	}
	users := m.fill()
	plays := m.write(users)
	eventually(t, "every play is on the charts", time.Minute, func() bool {
		chart, err := m.system.top(url.Values{"window": {"all"}})
		return err == nil && chart.TotalPlays == uint64(plays) && chart.Source == "snapshot"
	})
	eventually(t, "every day is closed", time.Minute, func() bool {
		m.command("", "load", "close", "--once", "--clickhouse-url", m.ch)
		dates := ask[answer.ClosedDates](m, "/v1/charts/dates", url.Values{"k": {"1000"}}).Dates
		return len(dates) == len(m.closings(topk.Filter{}, topk.Daily))
	})
	return m
}

// fill makes the catalog and the users' segments.
func (m *month) fill() map[string][]string {
	m.t.Helper()
	var songs, lines strings.Builder
	for i := range monthSongs - 2 {
		song := topk.Song{
			SongID: fmt.Sprint("s", i), Title: fmt.Sprint("Title ", i), ArtistID: fmt.Sprint("a", i%9), Artist: fmt.Sprint("Artist ", i%9),
			Genres: [][]string{{"pop"}, {"rock", "pop"}, {}, {"rock"}}[i%4], DurationMS: uint32(1000 * i),
		}
		m.catalog = append(m.catalog, song)
		m.truth.SetSong(song)
		text, err := json.Marshal(song)
		if err != nil {
			m.t.Fatal(err)
		}
		songs.Write(append(text, '\n'))
	}
	if status, text := m.post("/v1/songs", "application/x-ndjson", songs.String()); status != http.StatusOK {
		m.t.Fatalf("%d %s", status, text)
	}
	users := map[string][]string{}
	for i := range monthUsers {
		user := topk.UserSegments{UserID: fmt.Sprint("u", i), Segments: [][]string{{"premium"}, {"free"}, {"free", "student"}, {}}[i%4]}
		users[user.UserID] = user.Segments
		text, err := json.Marshal(user)
		if err != nil {
			m.t.Fatal(err)
		}
		lines.Write(append(text, '\n'))
	}
	m.command(lines.String(), "load", "segments", "-", "--clickhouse-url", m.ch, "--user-pepper-file", m.data+"/pepper")
	eventually(m.t, "the catalog is known", time.Minute, func() bool {
		return m.clickhouse("SELECT count() FROM dictionary(song_catalog)") == fmt.Sprint(len(m.catalog))
	})
	return users
}

// monthSource is a source of the log that no partition has.
const monthSource = 1 << 31

// write puts the plays into the log: the gateway takes none as old as these.
func (m *month) write(users map[string][]string) int {
	m.t.Helper()
	var rows strings.Builder
	rows.WriteString("INSERT INTO plays (src, koff, at, ts, eventId, user, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted) FORMAT JSONEachRow\n")
	now := time.Now().UTC()
	n := 0
	for at := m.start; at.Before(now); n++ {
		p := m.play(fmt.Sprint("month-", n), at)
		key, err := queries.UserKey(topk.HashUser([]byte("another pepper"), p.UserID))
		if err != nil {
			m.t.Fatal(err)
		}
		text, err := json.Marshal(map[string]any{
			"src": monthSource, "koff": n, "at": now.Format("2006-01-02 15:04:05.000"), "ts": at.Format("2006-01-02 15:04:05.000"),
			"eventId": p.EventID, "user": key.String(), "songId": p.SongID, "artistId": p.ArtistID,
			"country": p.Region.Country, "region": p.Region.String(), "device": p.Device, "contextKind": p.Context.Kind, "contextId": p.Context.ID,
			"duration": -1, "segments": users[p.UserID], "counted": true,
		})
		if err != nil {
			m.t.Fatal(err)
		}
		rows.Write(append(text, '\n'))
		m.truth.Add(p, users[p.UserID])
		gap := 8 * time.Minute
		if now.Sub(at) < 3*time.Hour {
			gap = 20 * time.Second // so that there is something in the last hour
		}
		at = at.Add(time.Duration(m.Int64N(int64(2 * gap)))).Truncate(time.Millisecond)
	}
	m.clickhouse(rows.String())
	return n
}

// play makes a play. Favourites change from day to day, so that songs enter,
// leave and come back.
func (m *month) play(id string, at time.Time) topk.Play {
	day := int(at.Sub(m.start) / (24 * time.Hour))
	song := (int(m.ExpFloat64()*9) + 7*(day%5)) % monthSongs
	regions := []topk.Region{{}, {Country: "IN"}, {Country: "IN", City: "Mumbai"}, {Country: "US", City: "Washington, D.C."}, {Country: "BR", City: "São Paulo"}}
	contexts := []topk.Context{{}, {Kind: "playlist", ID: "p1"}, {Kind: "album", ID: "p1"}, {Kind: "radio", ID: "x"}}
	return topk.Play{
		EventID: id, UserID: fmt.Sprint("u", m.IntN(monthUsers)), SongID: fmt.Sprint("s", song), ArtistID: fmt.Sprint("a", song%9), Timestamp: at,
		Region: regions[m.IntN(len(regions))], Device: []string{"", "mobile", "desktop"}[m.IntN(3)], Context: contexts[m.IntN(len(contexts))],
	}
}

// ask asks one question, which must be answered.
func ask[T any](m *month, path string, query url.Values) (found T) {
	m.t.Helper()
	res, err := http.Get(m.url + path + "?" + query.Encode())
	if err != nil {
		m.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		m.t.Fatalf("GET %s?%s: %s %s", path, query.Encode(), res.Status, body)
	}
	if err := json.Unmarshal(body, &found); err != nil {
		m.t.Fatalf("GET %s?%s: %v: %s", path, query.Encode(), err, body)
	}
	return found
}

func (m *month) instant(text string) time.Time {
	m.t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		m.t.Fatal(err)
	}
	return at
}

func (m *month) spanOf(start, end string) topk.Span {
	m.t.Helper()
	return topk.Span{Start: m.instant(start), End: m.instant(end)}
}

// entriesOf are the entries that the items say.
func entriesOf(items []answer.Item) []topk.Entry {
	var entries []topk.Entry
	for _, item := range items {
		entries = append(entries, topk.Entry{Rank: item.Rank, SongID: item.SongID, Plays: item.Score})
	}
	return entries
}

// metadata compares what an answer says of a song with the catalog.
func (m *month) metadata(t *testing.T, songID string, got *answer.Metadata) {
	t.Helper()
	i := slices.IndexFunc(m.catalog, func(s topk.Song) bool { return s.SongID == songID })
	if i < 0 {
		if got != nil {
			t.Errorf("song %s: %+v, but the catalog does not have it", songID, got)
		}
		return
	}
	song := m.catalog[i]
	if got == nil || got.Title != song.Title || got.Artist != song.Artist || got.ArtistID != song.ArtistID ||
		got.DurationMS != song.DurationMS || !slices.Equal(got.Genres, song.Genres) {
		t.Errorf("song %s: %+v, want %+v", songID, got, song)
	}
}

// windows are questions for every kind of window that is not a closed chart.
func (m *month) windows() []url.Values {
	var all []url.Values
	for _, w := range topk.Windows() {
		all = append(all, url.Values{"window": {w.String()}})
	}
	for range 3 {
		from := m.start.Add(time.Duration(m.Int64N(int64(30 * 24 * time.Hour)))).Truncate(time.Millisecond)
		to := from.Add(time.Duration(1 + m.Int64N(int64(5*24*time.Hour)))).Truncate(time.Millisecond)
		all = append(all, url.Values{"from": {fmt.Sprint(from.UnixMilli())}, "to": {to.Format(time.RFC3339Nano)}})
	}
	hour := m.start.Add(77 * time.Hour)
	return append(all, url.Values{"from": {hour.Format(time.RFC3339)}, "to": {hour.Add(26 * time.Hour).Format(time.RFC3339)}})
}

func (m *month) top(t *testing.T) {
	sources := map[string]int{}
	for _, f := range m.filters {
		for _, query := range m.windows() {
			query.Set("dim", f.String())
			query.Set("k", "1000")
			name := query.Encode()
			chart := ask[answer.Chart](m, "/v1/top", query)
			span := m.spanOf(chart.WindowStart, chart.WindowEnd)
			want, total := m.truth.Chart(f, span, topk.MaxK)
			if got := entriesOf(chart.Items); !slices.Equal(got, want) || chart.TotalPlays != total || chart.Stale || chart.NextCursor != "" {
				t.Errorf("%s: %d plays %v, want %d plays %v", name, chart.TotalPlays, got, total, want)
			}
			for _, item := range chart.Items {
				m.metadata(t, item.SongID, item.Metadata)
			}
			sources[chart.Source]++

			query.Set("k", "25")
			m.pages(t, query, f)

			query.Set("k", "1000")
			query.Set("rankBy", "listeners")
			chart = ask[answer.Chart](m, "/v1/top", query)
			want, total = m.truth.Listeners(f, m.spanOf(chart.WindowStart, chart.WindowEnd), topk.MaxK)
			if got := entriesOf(chart.Items); !slices.Equal(got, want) || chart.TotalPlays != total {
				t.Errorf("%s: %d plays, listeners %v, want %d and %v", name, chart.TotalPlays, got, total, want)
			}
			query.Del("rankBy")

			query.Set("mode", "approx")
			m.approx(t, query, f)
			query.Del("mode")

			if query.Has("from") {
				query.Set("compare", "previous")
				chart = ask[answer.Chart](m, "/v1/top", query)
				before := topk.Span{Start: span.Start.Add(-span.End.Sub(span.Start)), End: span.Start}
				previous, _ := m.truth.Chart(f, before, topk.MaxK)
				m.moved(t, name, chart.Items, previous)
			}
		}
	}
	if sources["snapshot"] == 0 || sources["clickhouse"] == 0 {
		t.Errorf("charts came only from %v", sources)
	}
	t.Logf("%v charts", sources)
}

// pages walks a chart by its cursors.
func (m *month) pages(t *testing.T, query url.Values, f topk.Filter) {
	t.Helper()
	query = maps.Clone(query)
	var got []topk.Entry
	var first answer.Chart
	for page := 0; ; page++ {
		chart := ask[answer.Chart](m, "/v1/top", query)
		if page == 0 {
			first = chart
		}
		if chart.WindowStart != first.WindowStart || chart.WindowEnd != first.WindowEnd || chart.TotalPlays != first.TotalPlays {
			t.Errorf("%s: page %d is of %s to %s with %d plays, the first of %s to %s with %d", query.Encode(), page,
				chart.WindowStart, chart.WindowEnd, chart.TotalPlays, first.WindowStart, first.WindowEnd, first.TotalPlays)
		}
		got = append(got, entriesOf(chart.Items)...)
		if chart.NextCursor == "" || page > monthSongs {
			break
		}
		query.Set("cursor", chart.NextCursor)
	}
	want, _ := m.truth.Chart(f, m.spanOf(first.WindowStart, first.WindowEnd), topk.MaxK)
	if !slices.Equal(got, want) {
		t.Errorf("%s, page by page: %v, want %v", query.Encode(), got, want)
	}
}

func (m *month) approx(t *testing.T, query url.Values, f topk.Filter) {
	t.Helper()
	chart := ask[answer.Chart](m, "/v1/top", query)
	all, total := m.truth.Chart(f, m.spanOf(chart.WindowStart, chart.WindowEnd), math.MaxInt)
	if chart.TotalPlays != total || chart.Mode != "approx" || len(chart.Items) != len(all) {
		t.Errorf("%s: %d songs, %d plays, want %d, %d", query.Encode(), len(chart.Items), chart.TotalPlays, len(all), total)
	}
	for _, item := range chart.Items {
		i := slices.IndexFunc(all, func(e topk.Entry) bool { return e.SongID == item.SongID })
		if i < 0 || item.Error == nil || all[i].Plays > item.Score || all[i].Plays+*item.Error < item.Score {
			t.Errorf("%s: song %s has %d plays with error %v", query.Encode(), item.SongID, item.Score, item.Error)
		}
	}
}

// moved compares movement against the chart before, of which all is known.
func (m *month) moved(t *testing.T, name string, items []answer.Item, previous []topk.Entry) {
	t.Helper()
	for _, item := range items {
		rank := 0
		if i := slices.IndexFunc(previous, func(e topk.Entry) bool { return e.SongID == item.SongID }); i >= 0 {
			rank = previous[i].Rank
		}
		if value(item.PreviousRank) != rank || value(item.Movement) != string(topk.Moved(item.Rank, rank, false)) {
			t.Errorf("%s: song %s at %d was at %d, %s, want %d", name, item.SongID, item.Rank, value(item.PreviousRank), value(item.Movement), rank)
		}
	}
}

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// A closing is a closed chart as it should be.
type closing struct {
	span    topk.Span
	entries []topk.Entry
	total   uint64
	careers map[string]topk.Career
}

// closings are all closed charts of a filter, the oldest first.
func (m *month) closings(f topk.Filter, p topk.Period) []closing {
	name := f.String() + " " + string(p)
	if all, counted := m.charts[name]; counted {
		return all
	}
	type last struct {
		topk.Career
		rank int
		span topk.Span
	}
	lasts := map[string]last{}
	var all []closing
	now := time.Now().Add(-time.Hour)
	for span := p.Containing(m.start, topk.DefaultCalendar()); !span.End.After(now); span = p.After(span) {
		c := closing{span: span, careers: map[string]topk.Career{}}
		c.entries, c.total = m.truth.Chart(f, span, topk.SnapshotSize)
		for _, e := range c.entries {
			before := lasts[e.SongID]
			career := before.Career.Next(before.rank, before.span.End.Equal(span.Start), e.Rank, span.Start)
			c.careers[e.SongID] = career
			lasts[e.SongID] = last{career, e.Rank, span}
		}
		all = append(all, c)
	}
	m.charts[name] = all
	return all
}

func (m *month) closed(t *testing.T) {
	compared := 0
	for _, f := range m.filters {
		for _, p := range topk.Periods() {
			all := m.closings(f, p)
			for i, want := range all {
				if !f.Eager() && i%4 != 1 {
					continue // two statements each
				}
				any := want.span.Start.Add(time.Duration(m.Int64N(int64(want.span.End.Sub(want.span.Start)))))
				query := url.Values{"dim": {f.String()}, "period": {string(p)}, "date": {any.Format(time.DateOnly)}, "k": {"200"}}
				name := query.Encode()
				chart := ask[answer.Chart](m, "/v1/top", query)
				compared++
				if got := entriesOf(chart.Items); !slices.Equal(got, want.entries) || chart.TotalPlays != want.total {
					t.Errorf("%s: %d plays %v, want %d plays %v", name, chart.TotalPlays, got, want.total, want.entries)
				}
				if got := m.spanOf(chart.WindowStart, chart.WindowEnd); got != want.span || chart.Date != want.span.Start.Format(time.DateOnly) {
					t.Errorf("%s: %v of %s, want %v", name, got, chart.Date, want.span)
				}
				if !f.Eager() || len(want.entries) == 0 {
					var previous []topk.Entry
					if i > 0 {
						previous = all[i-1].entries
					}
					if !f.Eager() {
						m.moved(t, name, chart.Items, previous)
					}
					continue
				}
				if chart.Source != "closed" || chart.Revision != 1 {
					t.Errorf("%s: revision %d from %s", name, chart.Revision, chart.Source)
				}
				for _, item := range chart.Items {
					got := topk.Career{PreviousRank: value(item.PreviousRank), Peak: item.PeakRank, PeakDate: m.date(item.PeakDate),
						Periods: item.PeriodsOnChart, Streak: item.Streak, Movement: topk.Movement(value(item.Movement))}
					if want := want.careers[item.SongID]; got != want {
						t.Errorf("%s: song %s: %+v, want %+v", name, item.SongID, got, want)
					}
				}
			}
		}
	}
	t.Logf("%d closed charts", compared)
}

func (m *month) date(text string) time.Time {
	m.t.Helper()
	at, err := time.Parse(time.DateOnly, text)
	if err != nil {
		m.t.Fatal(err)
	}
	return at
}

func (m *month) trending(t *testing.T) {
	baselines := map[string]time.Duration{"1h": 24 * time.Hour, "24h": 7 * 24 * time.Hour, "7d": 28 * 24 * time.Hour}
	for _, f := range m.filters {
		for window, before := range baselines {
			query := url.Values{"dim": {f.String()}, "window": {window}, "k": {"1000"}}
			trend := ask[answer.Trend](m, "/v1/trending", query)
			span, reference := m.spanOf(trend.WindowStart, trend.WindowEnd), m.spanOf(trend.ReferenceStart, trend.ReferenceEnd)
			if reference.End != span.Start || reference.Start != span.Start.Add(-before) {
				t.Errorf("%s: compared with %v", query.Encode(), reference)
			}
			m.compare(t, query, trend, f, span, f, reference)

			ofPlay := slices.ContainsFunc(f.Terms(), func(term topk.Term) bool { return term.Dim != topk.DimGlobal && !term.Dim.OfSong() })
			if !ofPlay {
				continue
			}
			everyone := topk.NewFilter(slices.DeleteFunc(f.Terms(), func(term topk.Term) bool { return !term.Dim.OfSong() })...)
			query.Set("overindex", "global")
			trend = ask[answer.Trend](m, "/v1/trending", query)
			span = m.spanOf(trend.WindowStart, trend.WindowEnd)
			m.compare(t, query, trend, f, span, everyone, span)
		}
	}
}

func (m *month) compare(t *testing.T, query url.Values, trend answer.Trend, f topk.Filter, span topk.Span, reference topk.Filter, before topk.Span) {
	t.Helper()
	played, total := m.truth.Chart(f, span, math.MaxInt)
	expected, referenceTotal := m.truth.Chart(reference, before, math.MaxInt)
	references := map[string]uint64{}
	for _, e := range expected {
		references[e.SongID] = e.Plays
	}
	var want []answer.TrendItem
	for _, e := range played {
		item := answer.TrendItem{SongID: e.SongID, Plays: e.Plays, ReferencePlays: references[e.SongID]}
		if referenceTotal > 0 {
			item.Expected = float64(item.ReferencePlays) / float64(referenceTotal) * float64(total)
		}
		item.Score = (float64(e.Plays) - item.Expected) / math.Sqrt(item.Expected+1)
		want = append(want, item)
	}
	slices.SortFunc(want, func(a, b answer.TrendItem) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.SongID, a.SongID))
	})
	if trend.TotalPlays != total || trend.ReferencePlays != referenceTotal || len(trend.Items) != len(want) {
		t.Errorf("%s: %d songs, %d plays, %d before, want %d, %d, %d", query.Encode(),
			len(trend.Items), trend.TotalPlays, trend.ReferencePlays, len(want), total, referenceTotal)
		return
	}
	for i, got := range trend.Items {
		m.metadata(t, got.SongID, got.Metadata)
		got.Metadata = nil
		if want[i].Rank = i + 1; got != want[i] {
			t.Errorf("%s: %+v, want %+v", query.Encode(), got, want[i])
		}
	}
}

func (m *month) songs(t *testing.T) {
	for i := range monthSongs {
		id := fmt.Sprint("s", i)
		song := ask[answer.Song](m, "/v1/songs/"+id, nil)
		m.metadata(t, id, song.Metadata)
		for _, w := range topk.Windows() {
			got, given := song.Plays[w.String()]
			if !given {
				continue
			}
			if want := m.playsOf(id, topk.Filter{}, w.At(m.instant(song.AsOf), topk.DefaultCalendar())); got != want {
				t.Errorf("song %s: %d plays in %s, want %d", id, got, w, want)
			}
		}
		if i%20 == 0 {
			m.history(t, id)
			m.places(t, id)
		}
	}
}

func (m *month) playsOf(id string, f topk.Filter, span topk.Span) uint64 {
	entries, _ := m.truth.Chart(f, span, math.MaxInt)
	for _, e := range entries {
		if e.SongID == id {
			return e.Plays
		}
	}
	return 0
}

func (m *month) history(t *testing.T, id string) {
	for _, f := range m.filters {
		for _, grain := range []topk.Grain{topk.HourGrain, topk.DayGrain, topk.WeekGrain} {
			from, to := m.start.Add(50*time.Hour), m.start.Add(220*time.Hour)
			query := url.Values{"dim": {f.String()}, "grain": {string(grain)}, "from": {from.Format(time.RFC3339)}, "to": {to.Format(time.RFC3339)}}
			history := ask[answer.History](m, "/v1/songs/"+id+"/history", query)
			ranks := map[time.Time]int{}
			for _, p := range topk.Periods() {
				if string(p) != string(grain) || !f.Eager() {
					continue
				}
				for _, c := range m.closings(f, p) {
					for _, e := range c.entries {
						if e.SongID == id {
							ranks[c.span.Start] = e.Rank
						}
					}
				}
			}
			var last time.Time
			for _, point := range history.Points {
				span := m.spanOf(point.Start, point.End)
				if !last.IsZero() && !last.Equal(span.Start) {
					t.Errorf("%s: from %v to %v there is nothing", query.Encode(), last, span.Start)
				}
				last = span.End
				if want := m.playsOf(id, f, span); point.Plays != want || value(point.Rank) != ranks[span.Start] || !point.Complete {
					t.Errorf("song %s, %s, from %s: %d plays at rank %d, want %d at %d", id, query.Encode(), point.Start,
						point.Plays, value(point.Rank), want, ranks[span.Start])
				}
			}
			if len(history.Points) == 0 || m.instant(history.Points[0].Start).After(from) || last.Before(to) {
				t.Errorf("song %s, %s: %d points, to %v", id, query.Encode(), len(history.Points), last)
			}
		}
	}
}

// places compares the closed charts that a song is on.
func (m *month) places(t *testing.T, id string) {
	for _, p := range topk.Periods() {
		date := m.start.AddDate(0, 0, 10)
		query := url.Values{"period": {string(p)}, "date": {date.Format(time.DateOnly)}}
		found := ask[answer.SongCharts](m, "/v1/songs/"+id+"/charts", query)
		got := map[string]answer.SongChart{}
		for _, c := range found.Charts {
			got[c.Dim] = c
		}
		for _, f := range m.filters {
			if !f.Eager() {
				continue
			}
			var want answer.SongChart
			for _, c := range m.closings(f, p) {
				career, on := c.careers[id]
				if !c.span.Contains(date) || !on {
					continue
				}
				rank := slices.IndexFunc(c.entries, func(e topk.Entry) bool { return e.SongID == id })
				want = answer.SongChart{Dim: f.String(), Revision: 1, Rank: rank + 1, Plays: c.entries[rank].Plays, Movement: string(career.Movement),
					PeakRank: career.Peak, PeakDate: career.PeakDate.Format(time.DateOnly), PeriodsOnChart: career.Periods, Streak: career.Streak}
				if career.PreviousRank > 0 {
					want.PreviousRank = &career.PreviousRank
				}
			}
			have := got[f.String()]
			if value(have.PreviousRank) != value(want.PreviousRank) {
				t.Errorf("song %s on %s: was at %d, want %d", id, f, value(have.PreviousRank), value(want.PreviousRank))
			}
			have.PreviousRank, want.PreviousRank = nil, nil
			if have != want {
				t.Errorf("song %s on %s of %s: %+v, want %+v", id, f, query.Encode(), have, want)
			}
		}
	}
}

func (m *month) artists(t *testing.T) {
	for i := range 9 {
		id := fmt.Sprint("a", i)
		artist := ask[answer.Artist](m, "/v1/artists/"+id, url.Values{"window": {"7d"}, "dim": {"region:IN"}, "k": {"1000"}})
		genres := map[string]bool{}
		songs := 0
		for _, song := range m.catalog {
			if song.ArtistID == id {
				songs++
				for _, genre := range song.Genres {
					genres[genre] = true
				}
			}
		}
		if artist.Name != fmt.Sprint("Artist ", i) || artist.Songs != songs || len(artist.Genres) != len(genres) {
			t.Errorf("artist %s: %q with %d songs, genres %v", id, artist.Name, artist.Songs, artist.Genres)
		}
		f := topk.NewFilter(topk.Term{Dim: topk.DimArtist, Value: id}, topk.Term{Dim: topk.DimRegion, Value: "IN"})
		want, total := m.truth.Chart(f, m.spanOf(artist.Top.WindowStart, artist.Top.WindowEnd), topk.MaxK)
		if got := entriesOf(artist.Top.Items); !slices.Equal(got, want) || artist.Top.TotalPlays != total {
			t.Errorf("artist %s: %d plays %v, want %d plays %v", id, artist.Top.TotalPlays, got, total, want)
		}
	}
}

func (m *month) lists(t *testing.T) {
	want := []string{
		"device:desktop", "device:mobile", "genre:pop", "genre:rock", "global", "region:BR", "region:BR/São Paulo", "region:IN",
		"region:IN/Mumbai", "region:US", "region:US/Washington%2C D.C.", "segment:free", "segment:premium", "segment:student",
	}
	var got []string
	query := url.Values{"k": {"3"}}
	for page := 0; page < 10; page++ {
		charts := ask[answer.Charts](m, "/v1/charts", query)
		for _, c := range charts.Items {
			got = append(got, c.Dim)
		}
		if charts.NextCursor == "" {
			break
		}
		query.Set("cursor", charts.NextCursor)
	}
	if !slices.Equal(got, want) {
		t.Errorf("charts: %v, want %v", got, want)
	}
	for _, f := range m.filters {
		if !f.Eager() {
			continue
		}
		for _, p := range topk.Periods() {
			var want []string
			for _, c := range slices.Backward(m.closings(f, p)) {
				if len(c.entries) > 0 {
					want = append(want, fmt.Sprint(c.span.Start.Format(time.DateOnly), " ", c.total))
				}
			}
			var got []string
			for _, d := range ask[answer.ClosedDates](m, "/v1/charts/dates", url.Values{"dim": {f.String()}, "period": {string(p)}, "k": {"1000"}}).Dates {
				got = append(got, fmt.Sprint(d.Date, " ", d.TotalPlays))
			}
			if !slices.Equal(got, want) {
				t.Errorf("dates of %s %s: %v, want %v", f, p, got, want)
			}
		}
	}
}
