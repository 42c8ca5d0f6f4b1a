package client

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/topk-charts/topk/api/answer"
)

// connections serves each connection as its own function says.
func connections(t *testing.T, serve ...http.HandlerFunc) (c *Client, has *[]string) {
	t.Helper()
	has = &[]string{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*has = append(*has, r.Header.Get("Last-Event-ID")) // one after the other
		w.Header().Set("Content-Type", "text/event-stream")
		serve[len(*has)-1](w, r)
	}))
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.CloseClientConnections()
		server.Close()
	})
	c, err := New(server.URL, WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	c.backoff = time.Millisecond
	return c, has
}

func event(w http.ResponseWriter, name, id, data string) {
	fmt.Fprintf(w, "event: %s\nid: %s\ndata: %s\n\n", name, id, data)
	_ = http.NewResponseController(w).Flush()
}

// totals gives the totals of the first n charts.
func totals(t *testing.T, c *Client, n int) (totals []uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for chart, err := range c.Stream(ctx, StreamRequest{}) {
		if err != nil {
			t.Fatal(err)
		}
		if totals = append(totals, chart.TotalPlays); len(totals) == n {
			break
		}
	}
	return totals
}

// A connection that nothing comes from is given up; one that beats is not.
func TestStreamGivesUpDeadConnections(t *testing.T) {
	c, has := connections(t, func(w http.ResponseWriter, r *http.Request) {
		event(w, "chart", "v1", `{"totalPlays":1}`)
		<-r.Context().Done()
	}, func(w http.ResponseWriter, r *http.Request) {
		for range 8 {
			time.Sleep(200 * time.Millisecond)
			fmt.Fprint(w, ":\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		event(w, "change", "v2", `{"totalPlays":2}`)
	})
	c.idle = time.Second
	if got := totals(t, c, 2); fmt.Sprint(got) != "[1 2]" || fmt.Sprint(*has) != "[ v1]" {
		t.Errorf("%v over connections with %q", got, *has)
	}
}

// What makes no sense is not built upon.
func TestStreamBeginsAnew(t *testing.T) {
	c, has := connections(t, func(w http.ResponseWriter, r *http.Request) {
		event(w, "change", "v0", `{"totalPlays":9}`) // of nothing
	}, func(w http.ResponseWriter, r *http.Request) {
		event(w, "chart", "v1", `{"totalPlays":1}`)
		event(w, "change", "v2", `{"totalPlays":`)
	}, func(w http.ResponseWriter, r *http.Request) {
		event(w, "chart", "v3", `{"totalPlays":3}`)
		event(w, "other", "v4", `{}`)
	}, func(w http.ResponseWriter, r *http.Request) {
		event(w, "chart", "v5", `{"totalPlays":5}`)
		fmt.Fprint(w, "event: change\nid: v6\ndata: {\"totalPlays\":6}\n") // cut off
	}, func(w http.ResponseWriter, r *http.Request) {
		event(w, "change", "v6", `{"totalPlays":6}`)
	})
	if got := totals(t, c, 4); fmt.Sprint(got) != "[1 3 5 6]" || fmt.Sprintf("%q", *has) != `["" "" "" "" "v5"]` {
		t.Errorf("%v over connections with %q", got, *has)
	}
}

func TestChartsOfAStreamAreIndependent(t *testing.T) {
	s := stream{id: "v", chart: answer.Chart{Items: []answer.Item{{Rank: 1, SongID: "a"}, {Rank: 2, SongID: "b"}}}}
	before := s.chart
	s.chart = s.chart.Apply(answer.ChartChange{Changed: []answer.Item{{Rank: 1, SongID: "c"}}, Removed: []string{"a"}})
	if before.Items[0].SongID != "a" || s.chart.Items[0].SongID != "c" || s.chart.Items[1].SongID != "b" {
		t.Errorf("%+v became %+v", before, s.chart)
	}
}
