package api_test

import (
	"encoding/json"
	"iter"
	"net/http"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/api/answer"
)

// A stream goes on through all of the sources, as GET /v1/top does.
func TestStreamFallsBack(t *testing.T) {
	s := newService(t, func(c *api.Config) {
		c.Limits.StreamPoll, c.Limits.StreamCompute = time.Millisecond, time.Millisecond
	})
	s.publish(worldwide, topk.Last24h, map[string]uint64{"a": 2, "b": 1})
	res, err := http.Get(s.url + "/v1/top/stream?window=24h&k=2")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	next, stop := iter.Pull2(sse.Read(res.Body, nil))
	defer stop()
	var chart answer.Chart
	until := func(what string, holds func() bool) {
		t.Helper()
		for !holds() {
			event, err, open := next()
			if !open || err != nil {
				t.Fatalf("%s: the stream ended: %v", what, err)
			}
			var change answer.ChartChange
			switch event.Type {
			case "chart":
				err = json.Unmarshal([]byte(event.Data), &chart)
			case "change":
				err = json.Unmarshal([]byte(event.Data), &change)
				chart = chart.Apply(change)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	until("the snapshot", func() bool { return chart.Source == "snapshot" && len(chart.Items) == 2 })
	s.advance(time.Second)
	s.publish(worldwide, topk.Last24h, map[string]uint64{"a": 2, "b": 3})
	s.advance(time.Second) // only then is the copy in this process too old
	until("the next one", func() bool { return chart.Items[0].SongID == "b" && chart.TotalPlays == 5 })

	s.truth.set(func() { s.truth.plays = map[string]uint64{"c": 7} })
	s.killRedis()
	s.advance(time.Second)
	until("ClickHouse", func() bool { return chart.Source == "clickhouse" && chart.Items[0].SongID == "c" && !chart.Stale })
	s.truth.set(func() { s.truth.err = errAway })
	until("what was known last", func() bool { return chart.Source == "last-known" && chart.Items[0].SongID == "b" && chart.Stale })
	s.truth.set(func() { s.truth.err = nil })
	until("ClickHouse again", func() bool { return chart.Source == "clickhouse" && chart.Items[0].SongID == "c" && !chart.Stale })
}
