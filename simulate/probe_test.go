package simulate

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/topk-charts/topk"
)

// A fakeSystem acknowledges plays at once and counts each some time later. It
// runs in a synctest bubble, so the times are exact.
type fakeSystem struct {
	// delay of the n-th play; negative means it is never counted.
	delay func(n int) time.Duration
	// crowd gives the plays of the other songs of the global chart by rank; nil
	// for an empty chart.
	crowd func(rank int) uint64

	mu     sync.Mutex
	plays  int
	scores map[string]map[string]uint64 // dim -> songId -> plays counted
}

func (s *fakeSystem) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/top" {
		s.top(w, r.URL.Query(), r.Header.Get("If-None-Match"))
		return
	}
	var ack acknowledgement
	lines := bufio.NewScanner(r.Body)
	for lines.Scan() {
		play, err := topk.ParsePlay(lines.Bytes(), topk.DefaultRules(), time.Now())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ack.Accepted++
		s.take(play)
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(ack)
}

func (s *fakeSystem) take(play topk.Play) {
	s.mu.Lock()
	delay := s.delay(s.plays)
	s.plays++
	s.mu.Unlock()
	if delay < 0 {
		return
	}
	time.AfterFunc(delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		dims := []string{"global"}
		if play.Region.Country != "" {
			dims = append(dims, "region:"+play.Region.Country)
		}
		for _, dim := range dims {
			if s.scores == nil {
				s.scores = map[string]map[string]uint64{}
			}
			if s.scores[dim] == nil {
				s.scores[dim] = map[string]uint64{}
			}
			s.scores[dim][play.SongID]++
		}
	})
}

func (s *fakeSystem) top(w http.ResponseWriter, query url.Values, known string) {
	type item struct {
		SongID string `json:"songId"`
		Score  uint64 `json:"score"`
	}
	if query.Get("window") != "1h" || query.Get("k") != strconv.Itoa(topk.SnapshotSize) {
		http.Error(w, "unexpected query", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	items := []item{}
	for song, n := range s.scores[query.Get("dim")] {
		items = append(items, item{song, n})
	}
	s.mu.Unlock()
	if s.crowd != nil && query.Get("dim") == "global" {
		for rank := range topk.SnapshotSize {
			items = append(items, item{fmt.Sprint("other", rank), s.crowd(rank)})
		}
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.SongID, a.SongID))
	})
	body, _ := json.Marshal(map[string]any{"items": items[:min(len(items), topk.SnapshotSize)]})
	etag := fmt.Sprintf("%q", fmt.Sprintf("%x", body))
	w.Header().Set("ETag", etag)
	if etag == known {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(body)
}

// settleTimers lets plays that are still to be counted be counted, as a bubble
// must not end before its timers.
func settleTimers() { time.Sleep(time.Hour) }

func within(t *testing.T, what string, got, from, to time.Duration) {
	t.Helper()
	if got < from || float64(got) > 1.02*float64(to) { // of buckets that grow by 2 %
		t.Errorf("%s is %s, want %s to %s", what, got, from, to)
	}
}

func TestProbeMeasuresTheTimeToTheChart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer settleTimers()
		system := &fakeSystem{delay: func(int) time.Duration { return 300 * time.Millisecond }}
		report, err := Probe(t.Context(), ProbeOptions{
			Target: inProcessTarget(system), Clock: time.Now, Duration: 20 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		for dim, f := range map[string]Freshness{"region:AQ": report.Country, "global": report.Global} {
			if f.Dim != dim || f.Samples < 195 || f.Samples > 200 || f.Unseen != 0 || f.FailedPolls != 0 {
				t.Errorf("%s: %+v", dim, f)
			}
			within(t, dim+" p50", f.P50, 300*time.Millisecond, 320*time.Millisecond)
			within(t, dim+" max", f.Max, 300*time.Millisecond, 320*time.Millisecond)
		}
	})
}

// One slow play in ten must show in p95 and must not in p50.
func TestProbeShowsSlowPlays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer settleTimers()
		system := &fakeSystem{delay: func(n int) time.Duration {
			if n%10 == 9 {
				return 90 * time.Millisecond
			}
			return 10 * time.Millisecond
		}}
		report, err := Probe(t.Context(), ProbeOptions{
			Target: inProcessTarget(system), Clock: time.Now, Duration: 20 * time.Second, CountryOnly: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		within(t, "p50", report.Country.P50, 10*time.Millisecond, 30*time.Millisecond)
		within(t, "p95", report.Country.P95, 90*time.Millisecond, 110*time.Millisecond)
		if report.Global != (Freshness{}) {
			t.Errorf("measured the global chart: %+v", report.Global)
		}
	})
}

// A chart full of popular songs that all rise faster than the probe's: the song
// is pushed in, and again whenever it sinks.
func TestProbeStaysOnACrowdedChart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer settleTimers()
		start := time.Now()
		system := &fakeSystem{
			delay: func(int) time.Duration { return 200 * time.Millisecond },
			crowd: func(rank int) uint64 {
				return uint64(5000-10*rank) + uint64(100*time.Since(start).Seconds())
			},
		}
		report, err := Probe(t.Context(), ProbeOptions{
			Target: inProcessTarget(system), Clock: time.Now, Duration: 20 * time.Second,
		})
		if err != nil {
			t.Fatal(err)
		}
		if report.Global.Samples < 195 || report.Global.Unseen != 0 {
			t.Errorf("global: %+v", report.Global)
		}
		within(t, "p50", report.Global.P50, 200*time.Millisecond, 220*time.Millisecond)
		within(t, "max", report.Global.Max, 200*time.Millisecond, 220*time.Millisecond)
		// Enough to be on the chart, and to stay; not so many as to top it.
		if plays := system.plays; plays < 5500 || plays > 9000 {
			t.Errorf("%d plays", plays)
		}
	})
}

// A play that is lost holds up all that come after it: the measurement must not
// look fast.
func TestProbeTellsOfLostPlays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer settleTimers()
		system := &fakeSystem{delay: func(n int) time.Duration {
			if n == 50 {
				return -1
			}
			return 100 * time.Millisecond
		}}
		report, err := Probe(t.Context(), ProbeOptions{
			Target: inProcessTarget(system), Clock: time.Now, Duration: 10 * time.Second, Settle: 5 * time.Second,
			CountryOnly: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		if f := report.Country; f.Unseen != 1 || f.Samples < 98 || f.Max < 5*time.Second {
			t.Errorf("%s: %+v", f, f)
		}
	})
}

func TestProbeFailsWhenTheChartDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		system := &fakeSystem{delay: func(int) time.Duration { return -1 }}
		_, err := Probe(t.Context(), ProbeOptions{Target: inProcessTarget(system), Clock: time.Now})
		if err == nil || !strings.Contains(err.Error(), "counted 0 of 1 plays within 1m0s") {
			t.Errorf("error %v", err)
		}
	})
}

func TestProbeStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer settleTimers()
		system := &fakeSystem{delay: func(int) time.Duration { return 0 }}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		start := time.Now()
		report, err := Probe(ctx, ProbeOptions{Target: inProcessTarget(system), Clock: time.Now})
		if err != nil || report.Country.Samples < 45 || time.Since(start) > 6*time.Second {
			t.Errorf("after %s: %+v, error %v", time.Since(start), report, err)
		}
	})
}

func TestProbeRefusesBadOptions(t *testing.T) {
	_, err := Probe(t.Context(), ProbeOptions{Duration: time.Hour, Every: -1, Country: "Atlantis"})
	for _, want := range []string{"clock", "duration", "time between plays", "Atlantis"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not speak of %s", err, want)
		}
	}
}
