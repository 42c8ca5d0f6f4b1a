package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk/internal/faults"
)

// Charts are asked for without pause while one server after another is taken
// away. Each answer comes from the next best source and says so; what cannot be
// answered says when to come back.
func TestDegradation(t *testing.T) {
	s := deploy(t, faults.Config{Direct: true})
	s.load()
	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	load.Go(func() { s.post(ctx, rand.New(rand.NewPCG(s.seed, 1))) })
	audience := newAudience(s)
	for range 6 {
		load.Go(func() { audience.ask(ctx) })
	}
	t.Cleanup(func() { cancel(); load.Wait() })

	audience.sees("all is well", sights{
		kept: {"snapshot"}, counted: {"clickhouse"},
	})

	s.Refresh.Kill()
	audience.sees("without the refresher", sights{
		kept: {"clickhouse"}, counted: {"clickhouse"},
	})
	audience.start(s.Refresh)
	audience.sees("the refresher is back", sights{
		kept: {"snapshot"}, counted: {"clickhouse"},
	})

	s.Redis.Kill()
	audience.sees("without Redis", sights{
		kept: {"clickhouse"}, counted: {"clickhouse"},
	})
	audience.start(s.Redis)
	audience.sees("Redis is back", sights{
		kept: {"snapshot"}, counted: {"clickhouse"},
	})

	s.ClickHouse.Kill()
	audience.sees("without ClickHouse", sights{
		kept: {"snapshot, stale"}, counted: {unavailable},
	})
	s.Redis.Kill()
	audience.sees("without both", sights{
		kept: {"last-known, stale"}, counted: {unavailable},
	})
	s.Serve.Kill()
	audience.start(s.Serve)
	audience.sees("without both, and without a memory", sights{
		kept: {unavailable}, counted: {unavailable},
	})
	audience.ready(http.StatusServiceUnavailable)

	audience.start(s.ClickHouse)
	audience.start(s.Redis)
	audience.sees("all is back", sights{
		kept: {"snapshot"}, counted: {"clickhouse"},
	})
	audience.ready(http.StatusOK)
}

// The kinds of questions.
const (
	kept    = "kept"    // there are snapshots of these charts
	counted = "counted" // only ClickHouse can answer
)

// unavailable is a 503 as it should be.
const unavailable = "503"

// gone is no answer, as when the API itself is killed.
const gone = "gone"

// sights are the outcomes that are allowed, by the kind of the question.
type sights map[string][]string

// An audience asks for charts and takes down what it sees.
type audience struct {
	*siege
	client *http.Client

	mu   sync.Mutex
	seen map[string]map[string]int // outcomes by kind
}

func newAudience(s *siege) *audience {
	a := &audience{siege: s, client: &http.Client{Timeout: 20 * time.Second}}
	s.Cleanup(a.client.CloseIdleConnections)
	a.forget()
	return a
}

func (a *audience) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen = map[string]map[string]int{kept: {}, counted: {}}
}

// ask asks one question after the other until ctx ends.
func (a *audience) ask(ctx context.Context) {
	questions := map[string][]string{
		kept: {
			"dim=global&window=1h", "dim=region:IN&window=24h", "dim=region:IN/Mumbai&window=7d&k=100",
			"dim=genre:pop&window=all", "dim=segment:free&window=today", "dim=device:mobile&window=this-week",
		},
		counted: {
			"dim=region:IN&from=2020-01-01T00:00:00Z&to=2021-01-01T00:00:00Z",
			"dim=device:mobile,region:IN&from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z",
		},
	}
	for ctx.Err() == nil {
		for kind, queries := range questions {
			for _, query := range queries {
				outcome, err := a.one(ctx, query)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					a.Errorf("GET /v1/top?%s: %v", query, err)
				}
				a.mu.Lock()
				a.seen[kind][outcome]++
				a.mu.Unlock()
			}
		}
		pause(ctx, 10*time.Millisecond)
	}
}

// one asks one question. An error is an answer that must never be given.
func (a *audience) one(ctx context.Context, query string) (outcome string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+"/v1/top?"+query, nil)
	if err != nil {
		return "", err
	}
	res, err := a.client.Do(req)
	if err != nil {
		return gone, nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return gone, nil
	}
	switch res.StatusCode {
	case http.StatusOK:
		var chart served
		if err := json.Unmarshal(body, &chart); err != nil {
			return "", fmt.Errorf("%w: %s", err, body)
		}
		outcome = chart.Source
		if chart.Stale {
			outcome += ", stale"
		}
		return outcome, nil
	case http.StatusServiceUnavailable:
		var problem struct{ Detail string }
		if err := json.Unmarshal(body, &problem); err != nil || problem.Detail == "" || res.Header.Get("Retry-After") == "" {
			return "", fmt.Errorf("503 without a reason or without a time to come back (%v): %s", err, body)
		}
		return unavailable, nil
	}
	return "", fmt.Errorf("%s: %s", res.Status, body)
}

// watchFor is how long nothing else may be seen, once what is expected is.
const watchFor = 2 * time.Second

// sees waits until the audience sees what is allowed and nothing else, for a
// while.
func (a *audience) sees(when string, allowed sights) {
	a.Helper()
	start := time.Now()
	a.await(when, func() error {
		a.forget()
		pause(a.Context(), watchFor)
		a.mu.Lock()
		defer a.mu.Unlock()
		var errs []error
		for kind, outcomes := range a.seen {
			if len(outcomes) == 0 {
				errs = append(errs, fmt.Errorf("nobody asked for %s charts", kind))
			}
			for outcome, n := range outcomes {
				if !slices.Contains(allowed[kind], outcome) {
					errs = append(errs, fmt.Errorf("%d %s charts: %s", n, kind, outcome))
				}
			}
		}
		return errors.Join(errs...)
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Logf("%s: %s after %s", when, fmt.Sprint(maps.Collect(maps.All(a.seen))), time.Since(start).Round(100*time.Millisecond))
}

func (a *audience) start(p *faults.Process) {
	a.Helper()
	if err := p.Start(a.Context()); err != nil {
		a.Fatal(err)
	}
}

// ready asks whether the API says that it can answer.
func (a *audience) ready(want int) {
	a.Helper()
	a.await(fmt.Sprint("/readyz answers ", want), func() error {
		res, err := a.client.Get(a.URL + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != want {
			return errors.New(res.Status)
		}
		return nil
	})
}
