package api_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

func TestFormatIsNegotiated(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(3))
	const js, table, lines = "application/json", "text/csv; charset=utf-8", "application/x-ndjson"
	for _, c := range []struct{ query, accept, want string }{
		{"", "", js},
		{"", "*/*", js},
		{"", "application/json", js},
		{"", "application/*", js},
		{"", "text/*", table},
		{"", "text/csv", table},
		{"", "TEXT/CSV", table},
		{"", "application/x-ndjson", lines},
		{"", "text/html,application/xhtml+xml,*/*;q=0.8", js},
		{"", "text/csv;q=0.5, application/x-ndjson;q=0.7, application/json;q=0.1", lines},
		{"", "application/json;q=0, */*", table},
		{"", "application/json;q=0.2, text/csv", table},
		{"", "text/html", ""},
		{"", "application/json;q=0", ""},
		{"", "nonsense", ""},
		{"format=csv", "application/json", table},
		{"format=json", "text/html", js},
		{"format=ndjson", "text/csv", lines},
	} {
		r := s.get("/v1/top?"+c.query, "Accept", c.accept)
		if varies := slices.Contains(r.header.Values("Vary"), "Accept"); varies != (c.query == "") {
			t.Errorf("%+v: varies by %q", c, r.header.Values("Vary"))
		}
		if c.want == "" {
			if p := s.problem(r, http.StatusNotAcceptable); !strings.Contains(p.Detail, "text/csv") {
				t.Errorf("%+v: %s", c, p.Detail)
			}
			continue
		}
		if r.ok(t); r.header.Get("Content-Type") != c.want {
			t.Errorf("%+v: %s", c, r.header.Get("Content-Type"))
		}
	}
}

// What comes out of the tables is what went in.
func TestFormatsHoldTheSame(t *testing.T) {
	s, l := newLedger(t)
	l.songs["a"] = topk.Song{SongID: "a", Title: `=1+1, "quoted"`, Artist: "@home", ArtistID: "x", Genres: []string{"pop", "k-pop"}, DurationMS: 1000}
	l.songs["=b"] = topk.Song{SongID: "=b", Title: "日本", Artist: "B", ArtistID: "y"}
	l.play(day("2025-11-22"), "=b", 1)
	l.play(day("2025-11-23"), "a", 3)
	l.play(day("2025-11-23"), "=b", 2)
	l.play(day("2025-11-23"), "unknown", 1)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	s.publishWith(topk.Last7d, map[string]uint64{"a": 3, "=b": 2, "unknown": 1}, day("2025-11-23").Add(time.Hour), "=b")
	for _, query := range []string{"period=day", "window=7d", "window=7d&mode=approx", "window=7d&k=2", "from=1&to=2", "from=1763856000000&to=1763942400123&compare=previous"} {
		chart := s.top("?" + query)
		want := chart.Rows()

		var got []answer.Row
		lines := json.NewDecoder(bytes.NewReader(s.get("/v1/top?" + query + "&format=ndjson").ok(t).body))
		lines.DisallowUnknownFields()
		for lines.More() {
			var row answer.Row
			if err := lines.Decode(&row); err != nil {
				t.Fatal(err)
			}
			got = append(got, row)
		}
		if fmt.Sprint(told(got)) != fmt.Sprint(told(want)) {
			t.Errorf("%s: NDJSON %v, want %v", query, told(got), told(want))
		}

		table, err := csv.NewReader(bytes.NewReader(s.get("/v1/top?" + query + "&format=csv").ok(t).body)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		const header = "rank songId score error previousRank movement peakRank peakDate periodsOnChart streak title artist artistId genres durationMs " +
			"dim window asOf windowStart windowEnd source stale"
		if strings.Join(table[0], " ") != header || len(table) != len(want)+1 {
			t.Errorf("%s: %d rows of %q", query, len(table), table[0])
			continue
		}
		for i, row := range want {
			if !reflect.DeepEqual(table[i+1], told(want[i : i+1])[0]) {
				t.Errorf("%s: CSV %q, want %q of %+v", query, table[i+1], told(want[i : i+1])[0], row)
			}
		}
	}
}

// told writes rows as cells, with nothing for what is not known.
func told(rows []answer.Row) (all [][]string) {
	for _, r := range rows {
		var cells []string
		for _, v := range []any{
			r.Rank, r.SongID, r.Score, value(r.Error), value(r.PreviousRank), value(r.Movement), r.PeakRank, r.PeakDate, r.PeriodsOnChart, r.Streak,
		} {
			if cell := fmt.Sprint(v); cell == "<nil>" || cell == "0" && len(cells) >= 4 {
				cells = append(cells, "")
			} else {
				cells = append(cells, cell)
			}
		}
		m := []string{"", "", "", "", ""}
		if r.Metadata != nil {
			m = []string{r.Metadata.Title, r.Metadata.Artist, r.Metadata.ArtistID, strings.Join(r.Metadata.Genres, "|"), fmt.Sprint(r.Metadata.DurationMS)}
		}
		all = append(all, append(append(cells, m...), r.Dim, r.Window, r.AsOf, r.WindowStart, r.WindowEnd, r.Source, fmt.Sprint(r.Stale)))
	}
	return all
}

// The pages of tables are linked by a header.
func TestFormatsLinkTheirPages(t *testing.T) {
	s, l := newLedger(t)
	for i := range 25 {
		l.play(day("2025-11-23"), fmt.Sprintf("%02d", i), i+1)
	}
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	for _, query := range []string{
		"window=7d", "window=7d&dim=artist:x%252Cy", "period=day", "period=day&date=2025-11-23&revision=1", "from=1763856000000&to=1763942400123",
		"from=1763856000000&to=1763942400123&compare=previous&rankBy=listeners",
	} {
		for _, format := range []string{"csv", "ndjson"} {
			next, rows, pages := "/v1/top?k=10&format="+format+"&"+query, 0, 0
			for next != "" && pages < 10 {
				r := s.get(next).ok(t)
				rows, pages = rows+strings.Count(string(r.body), "\n"), pages+1
				next, _, _ = strings.Cut(strings.TrimPrefix(r.header.Get("Link"), "<"), `>; rel="next"`)
			}
			if format == "csv" {
				rows -= pages // headers
			}
			if rows != 25 || pages != 3 {
				t.Errorf("%s as %s: %d rows on %d pages", query, format, rows, pages)
			}
		}
	}
	if link := s.get("/v1/top?k=10&window=7d").header.Get("Link"); link != "" {
		t.Errorf("JSON is linked by %s", link)
	}
}

func TestTopCaching(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-23"), "a", 1)
	l.play(day("2025-11-01"), "a", 1)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	s.publish(worldwide, topk.Last24h, playsOf(3))
	const none, short, year = "no-store", "max-age=60", "public, max-age=31536000, immutable"
	for query, want := range map[string]string{
		"":                                      "max-age=1, stale-while-revalidate=5",
		"rankBy=listeners":                      none,
		"mode=approx":                           none,
		"window=7d":                             none,
		"period=day":                            short,
		"period=day&date=2025-11-23":            short,
		"period=day&date=2025-11-23&revision=1": year,
		"period=day&date=2025-11-22":            none, // computed
		"period=day&date=2025-11-15":            short,
		"period=day&date=2025-11-16":            none, // over for 7 days and a half
		"from=2025-11-01T00:00:00Z&to=2025-11-16T11:59:59Z":                  short,
		"from=2025-11-01T00:00:00Z&to=2025-11-16T12:00:01Z":                  none,
		"from=2025-11-01T00:00:00Z&to=2025-11-02T00:00:00Z&mode=approx":      short,
		"from=2025-11-01T00:00:00Z&to=2025-11-02T00:00:00Z&compare=previous": short,
	} {
		tags := map[string]bool{}
		for _, format := range []string{"json", "csv", "ndjson"} {
			r := s.get("/v1/top?format=" + format + "&" + query).ok(t)
			tag := r.header.Get("ETag")
			if got := r.header.Get("Cache-Control"); got != want {
				t.Errorf("%s: Cache-Control %q, want %q", query, got, want)
			}
			kept := strings.Contains(string(r.body), "snapshot") || strings.Contains(string(r.body), "closed")
			if (tag != "") != kept || tags[tag] && kept {
				t.Errorf("%s as %s: ETag %q", query, format, tag)
			}
			tags[tag] = true
			if !kept {
				continue
			}
			again := s.get("/v1/top?format="+format+"&"+query, "If-None-Match", tag)
			if again.status != http.StatusNotModified || len(again.body) != 0 || again.header.Get("ETag") != tag || again.header.Get("Cache-Control") != want {
				t.Errorf("%s as %s: again %d %v", query, format, again.status, again.header)
			}
		}
	}

	// Another revision is another answer.
	tag := s.get("/v1/top?period=day").header.Get("ETag")
	l.play(day("2025-11-23"), "b", 5)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	s.advance(11 * time.Second)
	if r := s.get("/v1/top?period=day", "If-None-Match", tag).ok(t); !strings.Contains(string(r.body), `"revision":2`) {
		t.Errorf("%s", r.body)
	}
}

// What lacks titles because the catalog could not be asked is not for ever.
func TestClosedChartWithoutTitlesIsNotImmutable(t *testing.T) {
	s, l := newLedger(t)
	l.play(day("2025-11-23"), "a", 1)
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	const query = "/v1/top?period=day&date=2025-11-23&revision=1"
	l.set(func() { l.songsErr = errAway })
	if got := s.get(query).ok(t).header.Get("Cache-Control"); got != "max-age=60" {
		t.Error(got)
	}
	l.set(func() { l.songsErr = nil })
	s.advance(time.Second)
	if got := s.get(query).ok(t).header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
		t.Error(got)
	}
}
