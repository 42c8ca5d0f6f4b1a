package simulate

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/topk-charts/topk"
)

// A fakeGateway takes plays as the real one does, and answers badly when told.
type fakeGateway struct {
	now topk.Clock
	// trouble, when not nil, may answer in the gateway's stead. It sees how
	// many requests there were before; stored says whether the plays got in.
	trouble func(w http.ResponseWriter, request int) (stored, answered bool)

	mu       sync.Mutex
	requests int
	events   map[string]int // eventId -> how often it came
	songs    map[string]int // songId -> distinct plays
	arrivals []time.Time    // of requests
}

func (g *fakeGateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v1/events/plays" {
		http.NotFound(w, r)
		return
	}
	body, err := decoded(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	g.arrivals = append(g.arrivals, g.now())
	request := g.requests
	g.requests++
	g.mu.Unlock()
	stored, answered := true, false
	if g.trouble != nil {
		stored, answered = g.trouble(w, request)
	}
	if !stored {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	ack := acknowledgement{Rejected: []Rejection{}}
	lines := bufio.NewScanner(body)
	for i := 0; lines.Scan(); i++ {
		play, err := topk.ParsePlay(lines.Bytes(), topk.DefaultRules(), g.now())
		if err != nil {
			ack.Rejected = append(ack.Rejected, Rejection{Index: i, EventID: play.EventID, Errors: err.(topk.FieldErrors)})
			continue
		}
		ack.Accepted++
		if g.events == nil {
			g.events, g.songs = map[string]int{}, map[string]int{}
		}
		if g.events[play.EventID]++; g.events[play.EventID] == 1 {
			g.songs[play.SongID]++
		}
	}
	if answered {
		return
	}
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(ack)
}

func decoded(r *http.Request) (io.Reader, error) {
	switch r.Header.Get("Content-Encoding") {
	case "gzip":
		return gzip.NewReader(r.Body)
	case "zstd":
		d, err := zstd.NewReader(r.Body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		defer d.Close()
		body, err := io.ReadAll(d)
		return bytes.NewReader(body), err
	}
	return r.Body, nil
}

func (g *fakeGateway) distinct() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.events)
}

// inProcess calls a handler without a network, so that synctest's clock rules
// over all of it.
type inProcess struct{ handler http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.handler.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

func inProcessTarget(h http.Handler) Target {
	return Target{URL: "http://gateway.test", Transport: inProcess{h}}
}

// numbered is a source of distinct plays.
func numbered(now topk.Clock) func() topk.Play {
	n := 0
	return func() topk.Play {
		n++
		return topk.Play{EventID: fmt.Sprint("e", n), UserID: "u", SongID: "s", ArtistID: "a", Timestamp: now()}
	}
}

// Over real connections that fail in every way, no play is lost and none is
// sent under another id.
func TestSendLosesNothing(t *testing.T) {
	for _, encoding := range []Encoding{Plain, Gzip, Zstd} {
		t.Run("encoding "+string(encoding), func(t *testing.T) {
			t.Parallel()
			gateway := &fakeGateway{now: time.Now}
			gateway.trouble = func(w http.ResponseWriter, request int) (stored, answered bool) {
				switch request {
				case 0:
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusTooManyRequests)
					return false, true
				case 2:
					w.WriteHeader(http.StatusServiceUnavailable)
					return false, true
				case 4: // the answer gets lost on its way
					panicConnection(w)
					return true, true
				case 5: // half of the answer
					w.Header().Set("Content-Length", "100")
					w.WriteHeader(http.StatusAccepted)
					_, _ = io.WriteString(w, `{"accepted":`)
					return true, true
				case 6:
					w.WriteHeader(http.StatusBadGateway)
					return false, true
				}
				return true, false
			}
			server := httptest.NewServer(gateway)
			defer server.Close()

			const n = 10_500
			report, err := Send(t.Context(), numbered(time.Now), SendOptions{
				Target: Target{URL: server.URL}, Plays: n, BatchPlays: 500, Encoding: encoding,
			})
			if err != nil {
				t.Fatal(err)
			}
			if gateway.distinct() != n || report.Sent != n || report.Accepted != n || report.Rejected != 0 ||
				report.Unacknowledged != 0 || report.Retried != 5*500 || report.Batches != n/500 {
				t.Errorf("the gateway has %d of %d plays; report %+v", gateway.distinct(), n, report)
			}
			if report.AckP50 <= 0 || report.AckP50 > report.AckP95 || report.AckP95 > report.AckMax {
				t.Errorf("latencies %s, %s, %s", report.AckP50, report.AckP95, report.AckMax)
			}
		})
	}
}

// panicConnection breaks the connection off.
func panicConnection(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	conn.Close()
}

func TestSendHoldsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gateway := &fakeGateway{now: time.Now}
		var progress []SendReport
		report, err := Send(t.Context(), numbered(time.Now), SendOptions{
			Target: inProcessTarget(gateway), Rate: 1157, Duration: 10 * time.Second,
			OnProgress: func(r SendReport) { progress = append(progress, r) },
		})
		if err != nil {
			t.Fatal(err)
		}
		if report.Sent != 11_570 || report.Accepted != 11_570 || report.Elapsed != 10*time.Second || report.Batches != 100 {
			t.Errorf("report %+v", report)
		}
		if len(progress) < 20 {
			t.Fatalf("%d progress reports in 10 s", len(progress))
		}
		if half := progress[len(progress)/2]; half.Rate() < 1100 || half.Rate() > 1200 {
			t.Errorf("half way the rate is %.0f", half.Rate())
		}
		if last := progress[len(progress)-1]; last.Accepted != report.Accepted {
			t.Errorf("the last progress report is %+v", last)
		}
	})
}

func TestSendEndsAtItsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gateway := &fakeGateway{now: time.Now}
		report, err := Send(t.Context(), numbered(time.Now), SendOptions{
			Target: inProcessTarget(gateway), Rate: 100, Plays: 251, Duration: time.Hour,
		})
		if err != nil || report.Accepted != 251 || report.Elapsed != 2600*time.Millisecond {
			t.Errorf("report %+v, error %v", report, err)
		}
	})
}

// After a stall at most a second's worth of plays comes at once.
func TestSendDoesNotFloodAfterAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gateway := &fakeGateway{now: time.Now, trouble: func(w http.ResponseWriter, request int) (stored, answered bool) {
			if request == 0 {
				time.Sleep(20 * time.Second)
			}
			return true, false
		}}
		report, err := Send(t.Context(), numbered(time.Now), SendOptions{
			Target: inProcessTarget(gateway), Rate: 1000, Duration: 25 * time.Second, Connections: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		// 0.1 s of plays in the stalled batch and 0.1 s in the one behind it, a
		// second's worth to catch up, and the 5 s that remain.
		if report.Accepted < 6000 || report.Accepted > 6500 {
			t.Errorf("%d plays accepted", report.Accepted)
		}
	})
}

func TestSendHonoursRetryAfter(t *testing.T) {
	for name, value := range map[string]func(time.Time) string{
		"seconds": func(time.Time) string { return "7" },
		"date":    func(now time.Time) string { return now.Add(7 * time.Second).UTC().Format(http.TimeFormat) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gateway := &fakeGateway{now: time.Now, trouble: func(w http.ResponseWriter, request int) (stored, answered bool) {
					if request > 0 {
						return true, false
					}
					w.Header().Set("Retry-After", value(time.Now()))
					w.WriteHeader(http.StatusServiceUnavailable)
					return false, true
				}}
				report, err := Send(t.Context(), numbered(time.Now), SendOptions{Target: inProcessTarget(gateway), Plays: 1})
				if err != nil || report.Accepted != 1 || report.Retried != 1 {
					t.Fatalf("report %+v, error %v", report, err)
				}
				if waited := gateway.arrivals[1].Sub(gateway.arrivals[0]); waited != 7*time.Second {
					t.Errorf("came back after %s", waited)
				}
			})
		})
	}
}

func TestSendBacksOffAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gateway := &fakeGateway{now: time.Now, trouble: func(w http.ResponseWriter, _ int) (stored, answered bool) {
			http.Error(w, "kafka is away", http.StatusServiceUnavailable)
			return false, true
		}}
		target := inProcessTarget(gateway)
		target.RetryFor = time.Minute
		report, err := Send(t.Context(), numbered(time.Now), SendOptions{Target: target, Plays: 1})
		if err == nil || !strings.Contains(err.Error(), "kafka is away") || !strings.Contains(err.Error(), "1m0s") {
			t.Errorf("error %v", err)
		}
		if report.Unacknowledged != 1 || report.Elapsed > time.Minute || report.Elapsed < 50*time.Second {
			t.Errorf("report %+v", report)
		}
		if gateway.requests < 12 || gateway.requests > 40 {
			t.Errorf("%d requests in a minute", gateway.requests)
		}
	})
}

func TestSendEndsOnAnAnswerThatWillNotChange(t *testing.T) {
	gateway := &fakeGateway{now: time.Now, trouble: func(w http.ResponseWriter, _ int) (stored, answered bool) {
		http.Error(w, `{"title":"unknown key"}`, http.StatusUnauthorized)
		return false, true
	}}
	_, err := Send(t.Context(), numbered(time.Now), SendOptions{Target: inProcessTarget(gateway)})
	if err == nil || !strings.Contains(err.Error(), "unknown key") || !strings.Contains(err.Error(), "401") {
		t.Errorf("error %v", err)
	}
}

func TestSendCountsRejections(t *testing.T) {
	gateway := &fakeGateway{now: time.Now}
	next := numbered(time.Now)
	report, err := Send(t.Context(), func() topk.Play {
		play := next()
		if len(play.EventID) == 3 { // e10 to e99
			play.SongID = ""
		}
		return play
	}, SendOptions{Target: inProcessTarget(gateway), Plays: 150})
	if err != nil || report.Accepted != 60 || report.Rejected != 90 || len(report.Rejections) != maxRejections {
		t.Errorf("report %+v, error %v", report, err)
	}
	if s := report.String(); !strings.Contains(s, "rejected e10: ") {
		t.Errorf("report reads %s", s)
	}
}

func TestSendStopsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		hanging := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		report, err := Send(ctx, numbered(time.Now), SendOptions{
			Target: inProcessTarget(hanging), Rate: 1000, Connections: 2, Grace: 4 * time.Second,
		})
		if err != nil {
			t.Errorf("being told to stop is an error: %v", err)
		}
		if report.Elapsed != 7*time.Second || report.Sent == 0 || report.Unacknowledged != report.Sent {
			t.Errorf("report %+v", report)
		}
	})
}

// A batch under way when the context ends is still acknowledged.
func TestSendWaitsForBatchesUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
		defer cancel()
		gateway := &fakeGateway{now: time.Now, trouble: func(http.ResponseWriter, int) (stored, answered bool) {
			time.Sleep(2 * time.Second)
			return true, false
		}}
		report, err := Send(ctx, numbered(time.Now), SendOptions{Target: inProcessTarget(gateway), Rate: 100})
		if err != nil || report.Accepted != 20 || report.Unacknowledged != 0 || report.Elapsed > 5*time.Second {
			t.Errorf("report %+v, error %v", report, err)
		}
	})
}

func TestSendRefusesBadOptions(t *testing.T) {
	_, err := Send(t.Context(), nil, SendOptions{
		Rate: -1, Duration: -1, Connections: -1, BatchEvery: -1, BatchPlays: -1, Grace: -1,
	})
	for _, want := range []string{"rate", "duration", "connections", "batches", "a batch", "grace"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not speak of %s", err, want)
		}
	}
	for _, url := range []string{"", "127.0.0.1:8080", "ftp://host", "http://"} {
		if _, err := Send(t.Context(), nil, SendOptions{Target: Target{URL: url}}); err == nil {
			t.Errorf("took the URL %q", url)
		}
	}
}

func TestParseEncoding(t *testing.T) {
	for s, want := range map[string]Encoding{"identity": Plain, "gzip": Gzip, "zstd": Zstd} {
		if got, err := ParseEncoding(s); err != nil || got != want {
			t.Errorf("ParseEncoding(%q) = %q, %v", s, got, err)
		}
	}
	if _, err := ParseEncoding("br"); err == nil {
		t.Error("took br")
	}
}

func TestPlainProgressWritesLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	update, done := Progress(out, SendOptions{})
	for second := range 12 {
		update(SendReport{Elapsed: time.Duration(second) * time.Second, Accepted: uint64(1000 * second)})
	}
	done()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) != 2 ||
		!strings.Contains(lines[1], "10 s: 10000 plays accepted, 1000/s") {
		t.Errorf("progress reads:\n%s", text)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h histogram
	if h.quantile(0.5) != 0 {
		t.Error("a quantile of nothing")
	}
	for ms := 1; ms <= 1000; ms++ {
		h.add(time.Duration(ms) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 500 * time.Millisecond, 0.95: 950 * time.Millisecond, 1: time.Second} {
		if got := h.quantile(q); got < want || float64(got) > 1.021*float64(want) {
			t.Errorf("quantile %v is %s, want %s", q, got, want)
		}
	}
	h.add(1000 * time.Hour)
	if h.quantile(1) > h.max || h.max != 1000*time.Hour {
		t.Errorf("max %s, last quantile %s", h.max, h.quantile(1))
	}
}
