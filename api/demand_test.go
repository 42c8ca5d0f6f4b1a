package api_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/topk-charts/topk"
)

// wanted waits until the refresher can see that exactly these charts were asked
// for since then, the latest first.
func (s *service) wanted(since time.Time, want ...string) {
	s.Helper()
	var got []string
	defer func() {
		if s.Failed() {
			s.Logf("wanted are %v, not %v", got, want)
		}
	}()
	s.eventually("the charts are wanted", func() bool {
		keys, err := s.writer.Wanted(s.Context(), since)
		if err != nil {
			s.Fatal(err)
		}
		got = nil
		for _, k := range keys {
			got = append(got, k.Filter.String()+" "+k.Window.String())
		}
		return slices.Equal(got, want)
	})
}

// A chart that nobody keeps is said to be wanted, and again while it is kept
// for those who ask.
func TestWantedCharts(t *testing.T) {
	s := newService(t)
	s.truth.plays = playsOf(3)
	s.publish(worldwide, topk.LastHour, playsOf(3))
	mix := topk.NewFilter(topk.Term{Dim: topk.DimPlaylist, Value: "mix"})
	ask := func(source string, queries ...string) {
		t.Helper()
		for _, query := range queries {
			if got := s.top(query); got.Source != source {
				t.Errorf("%s: from %s", query, got.Source)
			}
			s.advance(time.Millisecond)
		}
	}
	ask("snapshot", "?window=1h")                                                           // eager
	ask("clickhouse", "?dim=playlist:mix&k=201", "?dim=playlist:mix&from=1000&to=86401000") // no snapshot has it
	s.truth.set(func() { s.truth.err = topk.FieldErrors{{Message: "too many terms"}} })
	s.problem(s.get("/v1/top?dim=album:a,artist:b"), http.StatusBadRequest)
	s.truth.set(func() { s.truth.err = nil })
	ask("clickhouse", "?dim=playlist:mix&window=1h&k=200", "?dim=region:IN", "?dim=genre:pop,region:IN&window=7d")
	s.wanted(serviceStart, "genre:pop,region:IN 7d", "region:IN 24h", "playlist:mix 1h")

	// Also while ClickHouse is too busy or away.
	s.truth.set(func() { s.truth.err = errAway })
	s.problem(s.get("/v1/top?dim=artist:x&window=today"), http.StatusServiceUnavailable)
	s.wanted(serviceStart, "artist:x today", "genre:pop,region:IN 7d", "region:IN 24h", "playlist:mix 1h")
	s.truth.set(func() { s.truth.err = nil })

	s.advance(10 * time.Second)
	since := s.clock()
	s.publish(mix, topk.LastHour, playsOf(3))
	ask("snapshot", "?dim=playlist:mix&window=1h&k=5")
	s.wanted(since, "playlist:mix 1h")
}

// Demand neither slows nor fails a request while Redis is away.
func TestWantedWithoutRedis(t *testing.T) {
	s := newService(t)
	s.truth.plays = playsOf(3)
	s.killRedis()
	for _, query := range []string{"?dim=playlist:a", "?dim=playlist:b", "?dim=playlist:a"} {
		if got := s.top(query); got.Source != "clickhouse" {
			t.Errorf("%s: from %s", query, got.Source)
		}
	}
	s.eventually("two are dropped", func() bool { return s.metric("topk_api_wants_dropped_total") == 2 })
}
