package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/internal/oracle"
)

// What is trending, how songs and artists do, and which charts there are, from
// the HTTP API in to the HTTP API out: as counting every play gives it.
func TestTrendsEqualTheCountOfPlays(t *testing.T) {
	s := up(t, t.TempDir(), ports(t))
	truth := oracle.New()
	now := time.Now().UTC().Truncate(time.Millisecond)
	catalog := rapid.Custom(oracle.Catalog).Example(3)
	var songs strings.Builder
	for _, song := range catalog {
		truth.SetSong(song)
		text, err := json.Marshal(song)
		if err != nil {
			t.Fatal(err)
		}
		songs.Write(append(text, '\n'))
	}
	if status, answer := s.post("/v1/songs", "application/x-ndjson", songs.String()); status != http.StatusOK {
		t.Fatalf("%d %s", status, answer)
	}
	var plays strings.Builder
	draw := rapid.Custom(func(t *rapid.T) topk.Play { return oracle.Play(t, "-", now.Add(-time.Minute)) })
	for i := range 1500 {
		p := draw.Example(i)
		p.EventID = fmt.Sprint("trend-", i)
		// The oldest would be too old by the time they are sent.
		if oldest := now.Add(time.Hour - topk.DefaultRules().MaxAge); p.Timestamp.Before(oldest) {
			p.Timestamp = p.Timestamp.Add(time.Hour)
		}
		truth.Add(p, nil)
		plays.WriteString(encode(t, p) + "\n")
	}
	if status, answer := s.post("/v1/events/plays", "application/x-ndjson", plays.String()); status != http.StatusAccepted {
		t.Fatalf("%d %s", status, answer)
	}
	s.inLog(1500)
	eventually(t, "the catalog is in the dictionary", 30*time.Second, func() bool {
		return s.clickhouse("SELECT count() FROM dictionary(song_catalog)") == fmt.Sprint(len(catalog))
	})

	ranked := 0
	for _, dim := range []string{"global", "region:IN", "region:IN,genre:pop", "device:mobile", "region:US,device:mobile", "playlist:p1"} {
		for _, query := range []string{"window=1h", "window=24h", "window=7d&k=1000", "window=24h&overindex=global&k=1000"} {
			if dim == "global" && strings.Contains(query, "overindex") {
				continue
			}
			ranked += s.compareTrend(truth, "dim="+url.QueryEscape(dim)+"&"+query)
		}
	}
	if ranked < 100 {
		t.Errorf("only %d songs were compared", ranked)
	}
	for _, song := range catalog {
		s.compareHistory(truth, song.SongID, "grain=hour&from="+fmt.Sprint(now.Add(-7*24*time.Hour).UnixMilli()))
		s.compareHistory(truth, song.SongID, "dim=region:US,device:mobile")
	}
	s.compareCharts(truth, catalog)
	for _, song := range catalog[:3] {
		var got answer.Artist
		if status := s.get("/v1/artists/"+url.PathEscape(song.ArtistID)+"?window=all&dim=region:IN&k=1000", &got); status != http.StatusOK {
			t.Fatalf("%d", status)
		}
		filter := topk.NewFilter(topk.Term{Dim: topk.DimArtist, Value: song.ArtistID}, topk.Term{Dim: topk.DimRegion, Value: "IN"})
		want, total := truth.Chart(filter, spanOf(t, got.Top.WindowStart, got.Top.WindowEnd), topk.MaxK)
		same := got.Name == song.Artist && got.Top.TotalPlays == total && len(got.Top.Items) == len(want)
		for i := 0; same && i < len(want); i++ {
			same = got.Top.Items[i].SongID == want[i].SongID && got.Top.Items[i].Score == want[i].Plays
		}
		if !same {
			t.Errorf("got %+v\nwant %d plays %v", got, total, want)
		}
	}
	s.stop()
}

func spanOf(t *testing.T, from, to string) (span topk.Span) {
	t.Helper()
	var err error
	if span.Start, err = time.Parse(time.RFC3339, from); err != nil {
		t.Fatal(err)
	}
	if span.End, err = time.Parse(time.RFC3339, to); err != nil {
		t.Fatal(err)
	}
	return span
}

// compareTrend holds a comparison against the counts of its two sides, to the
// last bit, and gives how many songs it has.
func (s *system) compareTrend(truth *oracle.Oracle, query string) int {
	s.t.Helper()
	var got answer.Trend
	if status := s.get("/v1/trending?"+query, &got); status != http.StatusOK {
		s.t.Fatalf("%s: %d", query, status)
	}
	filter, err := topk.ParseFilter(got.Dim)
	if err != nil {
		s.t.Fatal(err)
	}
	reference, err := topk.ParseFilter(got.ReferenceDim)
	if err != nil {
		s.t.Fatal(err)
	}
	entries, total := truth.Chart(filter, spanOf(s.t, got.WindowStart, got.WindowEnd), math.MaxInt)
	expected, referenceTotal := truth.Chart(reference, spanOf(s.t, got.ReferenceStart, got.ReferenceEnd), math.MaxInt)
	want := make([]answer.TrendItem, len(entries))
	for i, e := range entries {
		want[i] = answer.TrendItem{SongID: e.SongID, Plays: e.Plays}
		for _, r := range expected {
			if r.SongID == e.SongID {
				want[i].ReferencePlays, want[i].Expected = r.Plays, float64(r.Plays)/float64(referenceTotal)*float64(total)
			}
		}
		want[i].Score = (float64(e.Plays) - float64(want[i].Expected)) / math.Sqrt(float64(want[i].Expected)+1)
	}
	slices.SortFunc(want, func(a, b answer.TrendItem) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.SongID, a.SongID))
	})
	want = want[:min(len(want), max(10, len(got.Items)))]
	for i := range want {
		want[i].Rank = i + 1
	}
	for i := range got.Items {
		got.Items[i].Metadata = nil
	}
	if got.TotalPlays != total || got.ReferencePlays != referenceTotal || fmt.Sprint(got.Items) != fmt.Sprint(want) {
		s.t.Errorf("%s:\n got %d of %d %v\nwant %d of %d %v", query, got.TotalPlays, got.ReferencePlays, got.Items, total, referenceTotal, want)
	}
	return len(got.Items)
}

// compareHistory holds a song's steps against the count of each.
func (s *system) compareHistory(truth *oracle.Oracle, songID, query string) {
	s.t.Helper()
	var got answer.History
	if status := s.get("/v1/songs/"+url.PathEscape(songID)+"/history?"+query, &got); status != http.StatusOK {
		s.t.Fatalf("%s: %d", query, status)
	}
	filter, err := topk.ParseFilter(got.Dim)
	if err != nil {
		s.t.Fatal(err)
	}
	asOf := spanOf(s.t, got.AsOf, got.AsOf).End
	for i, point := range got.Points {
		if i > 0 && point.Start != got.Points[i-1].End {
			s.t.Errorf("%s: a gap before %s", query, point.Start)
		}
		span := spanOf(s.t, point.Start, point.End)
		if complete := !asOf.Before(span.End); complete != point.Complete {
			s.t.Errorf("%s: %+v as of %s", query, point, got.AsOf)
		}
		if end := asOf.Add(time.Millisecond); end.Before(span.End) {
			span.End = end
		}
		var want uint64
		entries, _ := truth.Chart(filter, span, math.MaxInt)
		for _, e := range entries {
			if e.SongID == songID {
				want = e.Plays
			}
		}
		if point.Plays != want {
			s.t.Errorf("%s %s: %+v, want %d plays", songID, query, point, want)
		}
	}
}

// compareCharts holds the list of charts against the values that were played.
func (s *system) compareCharts(truth *oracle.Oracle, catalog []topk.Song) {
	s.t.Helper()
	terms := map[topk.Term]bool{{Dim: topk.DimGlobal}: true}
	for _, p := range truth.Plays() {
		terms[topk.Term{Dim: topk.DimRegion, Value: p.Region.Country}] = true
		terms[topk.Term{Dim: topk.DimRegion, Value: p.Region.String()}] = true
		terms[topk.Term{Dim: topk.DimDevice, Value: p.Device}] = true
	}
	for _, song := range catalog {
		for _, genre := range song.Genres {
			terms[topk.Term{Dim: topk.DimGenre, Value: genre}] = true
		}
	}
	var want []string
	for term := range terms {
		if term.Value != "" || term.Dim == topk.DimGlobal {
			want = append(want, term.String())
		}
	}
	slices.Sort(want)
	eventually(s.t, "the rollup of days has every value", 30*time.Second, func() bool {
		return s.clickhouse("SELECT sum(plays) FROM rollup_day WHERE dim = 'global'") == fmt.Sprint(len(truth.Plays()))
	})
	var got []string
	for cursor := ""; ; {
		var page answer.Charts
		if status := s.get("/v1/charts?k=4"+cursor, &page); status != http.StatusOK {
			s.t.Fatalf("%d", status)
		}
		for _, item := range page.Items {
			got = append(got, item.Dim)
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("charts %q, want %q", got, want)
	}
}
