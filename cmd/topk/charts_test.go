package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
)

// From the HTTP API in to the HTTP API out: plays of all kinds, repeats,
// malformed ones; then every chart equals the brute-force count, ranks and ties
// included, as Redis serves it and as ClickHouse computes it.
func TestChartsEqualTheCountOfPlays(t *testing.T) {
	s := up(t, t.TempDir(), ports(t))
	truth := oracle.New()
	now := time.Now().UTC().Truncate(time.Millisecond)

	for _, song := range rapid.Custom(oracle.Catalog).Example(7) {
		truth.SetSong(song)
		text, err := json.Marshal(song)
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := s.post("/v1/songs", "application/json", string(text)); status/100 != 2 {
			t.Fatalf("%d %s", status, answer)
		}
	}
	users := rapid.Custom(oracle.Users).Example(7)
	var lines strings.Builder
	for user, segments := range users {
		text, err := json.Marshal(topk.UserSegments{UserID: user, Segments: segments})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(text, '\n'))
	}
	s.command(lines.String(), "load", "segments", "-", "--clickhouse-url", s.ch, "--user-pepper-file", filepath.Join(s.data, "pepper"))
	eventually(t, "the users are in the dictionary", 30*time.Second, func() bool {
		return s.clickhouse("SELECT count() FROM dictionary(segments_of_user)") == fmt.Sprint(len(users))
	})

	// Repeats with the very same content: one must be counted, and no matter which.
	plays := rapid.Custom(func(t *rapid.T) []topk.Play { return oracle.Plays(t, now, 1500, 1500) }).Example(7)
	first := map[string]topk.Play{}
	var changed []topk.Play
	var batch []string
	sent, singles := 0, 0
	flush := func() {
		status, answer := s.post("/v1/events/plays", "application/x-ndjson", strings.Join(batch, "\n"))
		if status != http.StatusAccepted {
			t.Fatalf("%d %s", status, answer)
		}
		batch = nil
	}
	for i, p := range plays {
		if original, repeated := first[p.EventID]; repeated && encode(t, original) != encode(t, p) {
			changed = append(changed, p)
			continue
		}
		// The oldest would be too old by the time they are sent.
		if oldest := now.Add(time.Hour - topk.DefaultRules().MaxAge); p.Timestamp.Before(oldest) {
			p.Timestamp = p.Timestamp.Add(time.Hour)
		}
		first[p.EventID] = p
		truth.Add(p, users[p.UserID])
		sent++
		if i%10 == 0 {
			singles++
			if status, answer := s.post("/v1/events/play", "application/json", encode(t, p)); status != http.StatusAccepted {
				t.Fatalf("%d %s", status, answer)
			}
			continue
		}
		batch = append(batch, encode(t, p))
		if i%50 == 3 { // beside the good ones
			batch = append(batch, `{"eventId":"bad"}`, `{"eventId":"bad2","userId":"u","songId":"s","artistId":"a","timestamp":1}`)
		}
		if len(batch) > 200 {
			flush()
		}
	}
	flush()
	want := uint64(len(truth.Plays()))
	s.inLog(want)
	// Repeats with other content come too late: the first one counts.
	for _, p := range changed {
		batch = append(batch, encode(t, p))
	}
	marker := topk.Play{EventID: "marker", UserID: "u1", SongID: "s1", ArtistID: "a1", Timestamp: now.Add(-time.Hour)}
	for i := range 64 { // into every partition, behind the repeats
		p := marker
		p.EventID, p.SongID = fmt.Sprint("marker-", i), fmt.Sprint("marker-song-", i)
		truth.Add(p, users[p.UserID])
		batch = append(batch, encode(t, p))
	}
	flush()
	want += 64
	if want != uint64(len(truth.Plays())) {
		t.Fatalf("the test itself counts %d and %d plays", want, len(truth.Plays()))
	}
	s.inLog(want)
	t.Logf("%d plays sent, %d of them alone, %d repeats with other content, %d unique", sent, singles, len(changed), want)

	windows := []string{"1h", "24h", "7d", "all"}
	eager := valuesOf(truth, users)
	settled := time.Now()
	compared := map[string]int{}
	for _, filter := range eager {
		for _, window := range windows {
			var chart served
			query := url.Values{"dim": {filter.String()}, "window": {window}, "k": {"200"}}
			eventually(t, fmt.Sprintf("%s %s is a snapshot of all plays", filter, window), 30*time.Second, func() bool {
				var err error
				chart, err = s.top(query)
				if err != nil {
					t.Fatal(err)
				}
				return chart.Source == "snapshot" && chart.AsOf.After(settled) && !chart.Stale
			})
			compare(t, truth, filter, chart, topk.SnapshotSize)
			compared["snapshot"]++
		}
	}
	var joined []topk.Filter
	for i := range 60 {
		joined = append(joined, rapid.Custom(oracle.Filter).Example(i))
	}
	for i, filter := range append(eager, joined...) {
		window := append(windows, "30d", "today", "this-week")[i%7]
		query := url.Values{"dim": {filter.String()}, "window": {window}, "k": {"1000"}}
		if i%3 == 0 {
			query.Del("window")
			query.Set("from", fmt.Sprint(now.Add(-50*time.Hour).UnixMilli()))
			query.Set("to", now.Add(-time.Minute).Format(time.RFC3339Nano))
		}
		chart, err := s.top(query)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, truth, filter, chart, topk.MaxK)
		compared[chart.Source]++
	}
	t.Logf("charts compared: %v", compared)
	if compared["snapshot"] == 0 || compared["clickhouse"] == 0 {
		t.Error("both sources should have been compared")
	}
	s.stop()
}

// compare holds a served chart against the count over its own window.
func compare(t *testing.T, truth *oracle.Oracle, filter topk.Filter, chart served, k int) {
	t.Helper()
	want, total := truth.Chart(filter, topk.Span{Start: chart.WindowStart, End: chart.WindowEnd}, k)
	got := make([]topk.Entry, len(chart.Items))
	for i, item := range chart.Items {
		got[i] = topk.Entry{Rank: item.Rank, SongID: item.SongID, Plays: item.Score}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || chart.TotalPlays != total || chart.Dim != filter.String() {
		t.Errorf("%s %s from %s as of %s:\n got %d plays %v\nwant %d plays %v",
			filter, chart.Window, chart.Source, chart.AsOf, chart.TotalPlays, got, total, want)
	}
}

// valuesOf lists a filter for every value that the plays have of the dimensions
// with snapshots.
func valuesOf(truth *oracle.Oracle, users map[string][]string) []topk.Filter {
	values := map[topk.Term]bool{{Dim: topk.DimGlobal}: true}
	for _, p := range truth.Plays() {
		values[topk.Term{Dim: topk.DimRegion, Value: p.Region.Country}] = true
		values[topk.Term{Dim: topk.DimRegion, Value: p.Region.String()}] = true
		values[topk.Term{Dim: topk.DimDevice, Value: p.Device}] = true
		for _, segment := range users[p.UserID] {
			values[topk.Term{Dim: topk.DimSegment, Value: segment}] = true
		}
	}
	for _, genre := range []string{"pop", "rock", "r&b, soul"} {
		values[topk.Term{Dim: topk.DimGenre, Value: genre}] = true
	}
	var filters []topk.Filter
	for term := range values {
		if term.Value != "" || term.Dim == topk.DimGlobal {
			filters = append(filters, topk.NewFilter(term))
		}
	}
	return filters
}
