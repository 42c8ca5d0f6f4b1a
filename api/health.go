package api

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

const (
	healthPath  = "/healthz"
	readyPath   = "/readyz"
	metricsPath = "/metrics"
)

// HealthAnswer says that all is well.
type HealthAnswer struct {
	Status string `json:"status" enum:"ok" example:"ok"`
}

// healthy says that the process lives and serves. It asks nobody else: a
// process is not to be restarted because ClickHouse is away.
func healthy(w http.ResponseWriter, _ *http.Request) error {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, HealthAnswer{Status: "ok"})
	return nil
}

// readiness says whether everything behind the API answers within the limit, or
// what does not. Why is for the log.
func readiness(checks map[string]Check, limit time.Duration, log *slog.Logger) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		failed := runChecks(r.Context(), checks, limit)
		if len(failed) == 0 {
			return healthy(w, r)
		}
		names := slices.Sorted(maps.Keys(failed))
		p := &problem{
			status:     http.StatusServiceUnavailable,
			detail:     "does not answer: " + strings.Join(names, ", "),
			retryAfter: time.Second,
		}
		for _, name := range names {
			log.WarnContext(r.Context(), "not ready", requestID(w), "check", name, "error", failed[name])
			p.errors = append(p.errors, &huma.ErrorDetail{Location: name, Message: "does not answer"})
		}
		return p
	}
}

// runChecks runs all checks at once and gives the errors of those that failed.
func runChecks(ctx context.Context, checks map[string]Check, limit time.Duration) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var running sync.WaitGroup
	var mu sync.Mutex
	failed := map[string]error{}
	for name, check := range checks {
		running.Go(func() {
			if err := check(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[name] = err
			}
		})
	}
	running.Wait()
	return failed
}
