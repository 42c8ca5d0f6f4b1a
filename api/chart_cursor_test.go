package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

// walk follows the cursors to the end, and gives all pages as one.
func (s *service) walk(query string, between func()) (all answer.Chart, sources []string) {
	s.Helper()
	cursor := ""
	for range 100 {
		page := s.top("?" + query + cursor)
		if all.Items != nil && (page.WindowStart != all.WindowStart || page.WindowEnd != all.WindowEnd || page.Window != all.Window) {
			s.Errorf("%s: a page over %s, %s to %s", query, page.Window, page.WindowStart, page.WindowEnd)
		}
		page.Items = append(all.Items, page.Items...)
		all, sources = page, append(sources, page.Source)
		if page.NextCursor == "" {
			return all, sources
		}
		cursor = "&cursor=" + url.QueryEscape(page.NextCursor)
		between()
	}
	s.Fatalf("%s: no end", query)
	return all, nil
}

// All pages are the whole chart, whatever happens to the window meanwhile.
func TestCursorsWalkTheChart(t *testing.T) {
	s, l := newLedger(t)
	noon := serviceStart.Add(-24 * time.Hour) // of Sunday
	for i := range 450 {
		l.play(noon, fmt.Sprintf("song-%03d", i), 1+(i*7)%13)
	}
	l.close(t, topk.Daily, noon, serviceStart)
	plays := map[string]uint64{}
	for _, e := range l.count(topk.ChartQuery{Window: topk.Last7d, K: 1000, Now: serviceStart}, nil).Entries {
		plays[e.SongID] = e.Plays
	}
	for query, c := range map[string]struct{ size, pages, closed int }{
		"window=7d&k=100":                                         {100, 5, 0},
		"window=7d&k=90&rankBy=listeners":                         {90, 5, 0},
		"from=2025-11-23T00:00:00Z&to=2025-11-24T00:00:00Z&k=225": {225, 2, 0},
		"period=day&k=150":                                        {150, 3, 1},
		"period=day&k=100":                                        {100, 5, 2},
		"period=day&k=100&dim=artist:x":                           {100, 5, 0},
	} {
		s.publish(worldwide, topk.Last7d, plays)
		all, sources := s.walk(query, func() { s.advance(time.Minute) })
		closed := 0
		for _, source := range sources {
			if source == "closed" {
				closed++
			}
		}
		if len(all.Items) != 450 || len(sources) != c.pages || closed != c.closed {
			t.Errorf("%s: %d items from %v", query, len(all.Items), sources)
			continue
		}
		for i, item := range all.Items {
			if item.Rank != i+1 || item.Score != plays[item.SongID] ||
				i > 0 && topk.CompareEntries(entry(all.Items[i-1]), entry(item)) >= 0 {
				t.Fatalf("%s: %+v is after %+v", query, item, all.Items[max(0, i-1)])
			}
		}
	}
}

func entry(i answer.Item) topk.Entry { return topk.Entry{SongID: i.SongID, Plays: i.Score} }

// The pages of a window that moves are of the first one's span; the asOf is
// each page's own.
func TestPagesOfAMovingWindow(t *testing.T) {
	s, l := newLedger(t)
	for i := range 10 {
		l.play(serviceStart.Add(-30*time.Minute), fmt.Sprint(i), i+1)
	}
	first := s.top("?window=1h&k=4")
	s.advance(45 * time.Minute)
	l.play(s.clock(), "later", 100)
	l.questions()
	second := s.top("?window=1h&k=4&cursor=" + first.NextCursor)
	if got := l.questions(); !reflect.DeepEqual(got, []string{"plays global 2025-11-24T11:00:00.000Z/2025-11-24T12:00:00.001Z 200"}) {
		t.Errorf("asked %q", got)
	}
	if second.Window != "1h" || second.AsOf != "2025-11-24T12:45:00.000Z" || second.WindowEnd != first.WindowEnd || second.Stale ||
		second.Source != "clickhouse" || second.Items[0].SongID != "5" || second.Items[0].Rank != 5 || second.TotalPlays != 55 {
		t.Errorf("%+v", second)
	}
	l.set(func() { l.err = errAway })
	s.publish(worldwide, topk.LastHour, playsOf(1))
	s.problem(s.get("/v1/top?window=1h&k=4&cursor="+first.NextCursor), http.StatusServiceUnavailable)
}

func TestCursorsOfOtherCharts(t *testing.T) {
	s, l := newLedger(t)
	for i := range 10 {
		l.play(serviceStart.Add(-24*time.Hour), fmt.Sprint(i), i+1)
		l.play(day("2025-11-20"), fmt.Sprint(i), i+1)
	}
	l.close(t, topk.Daily, day("2025-11-23"), serviceStart)
	questions := []string{
		"window=24h", "window=7d", "window=24h&dim=artist:x", "window=24h&rankBy=listeners", "period=day", "period=week",
		"from=2025-11-20T00:00:00Z&to=2025-11-24T00:00:00Z", "from=2025-11-20T00:00:00Z&to=2025-11-24T01:00:00Z",
	}
	for _, of := range questions {
		cursor := s.top("?k=3&" + of).NextCursor
		for _, in := range questions {
			if cursor == "" {
				t.Fatalf("%s: no cursor", of)
			}
			r := s.get("/v1/top?" + in + "&k=2&cursor=" + cursor)
			if of == in {
				r.ok(t)
			} else if got := locations(s.problem(r, http.StatusBadRequest)); !reflect.DeepEqual(got, []string{"query.cursor"}) {
				t.Errorf("the cursor %q of %s in %s: %v", cursor, of, in, got)
			}
		}
		for i := range cursor {
			changed := cursor[:i] + string(rune(cursor[i]^1)) + cursor[i+1:]
			if r := s.get("/v1/top?" + of + "&k=2&cursor=" + url.QueryEscape(changed)); r.status >= 500 {
				t.Errorf("%s: %d %s", changed, r.status, r.body)
			}
		}
	}
	cursor := s.top("?period=day&date=2025-11-23&k=3").NextCursor
	for _, query := range []string{"period=day&date=2025-11-22", "period=day&date=2025-11-23&revision=2"} {
		s.problem(s.get("/v1/top?"+query+"&cursor="+cursor), http.StatusBadRequest)
	}
	for _, query := range []string{"period=day", "period=day&date=2025-11-23&revision=1"} {
		s.get("/v1/top?" + query + "&cursor=" + cursor).ok(t)
	}
	s.advance(24 * time.Hour) // and yet it is of the same day
	if got := s.top("?period=day&cursor=" + cursor); got.Date != "2025-11-23" || got.Items[0].Rank != 4 {
		t.Errorf("%+v", got)
	}
}

// What is accepted is what is written, byte for byte.
func FuzzChartCursor(f *testing.F) {
	for _, seed := range []string{"", "AAAA", "ATr7eztHBZxQAAABmrWFP4AAAAGatbwuAQIDAGI", strings.Repeat("A", 200)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if again, err := api.ReadChartCursor(text); err == nil && again != text {
			t.Errorf("%q is read as %q", text, again)
		}
	})
}
