package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/throttled/throttled/v2"
	"github.com/throttled/throttled/v2/store/memstore"
)

// The header fields of draft-ietf-httpapi-ratelimit-headers: what is left, and
// what is allowed. As Go writes them; names of headers have no case.
const (
	rateLimitHeader       = "Ratelimit"
	rateLimitPolicyHeader = "Ratelimit-Policy"
)

// An allowance limits how often one client may ask: on average so many times a
// second, after a pause a burst of more. Each process counts for itself.
type allowance struct {
	limiter throttled.RateLimiterCtx
	policy  []string // a header; it is shared and must not be changed
	detail  string
	refused prometheus.Counter
}

// manyTries is how often a count is tried that others change at the same time.
const manyTries = 100

// limitRate gives the middleware of the routes that are limited, which does
// nothing when there is no limit.
func limitRate(cfg Config) (func(http.Handler) http.Handler, error) {
	limits := cfg.Limits
	if limits.Rate == 0 {
		return func(next http.Handler) http.Handler { return next }, nil
	}
	store, err := memstore.New(limits.RateClients)
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	store.SetTimeNow(cfg.Clock)
	limiter, err := throttled.NewGCRARateLimiterCtx(throttled.WrapStoreWithContext(store),
		throttled.RateQuota{MaxRate: throttled.PerSec(limits.Rate), MaxBurst: limits.RateBurst - 1})
	if err != nil {
		return nil, fmt.Errorf("rate limit: %w", err)
	}
	limiter.SetMaxCASAttemptsLimit(manyTries)
	// The time that it takes to use a burst up and be given it back is the window.
	window := (limits.RateBurst + limits.Rate - 1) / limits.Rate
	a := &allowance{
		limiter: limiter,
		policy:  []string{fmt.Sprintf(`"default";q=%d;w=%d`, limits.RateBurst, window)},
		detail:  fmt.Sprintf("more than %d requests a second from one address, or %d at once", limits.Rate, limits.RateBurst),
		refused: promauto.With(cfg.Registry).NewCounter(prometheus.CounterOpts{
			Name: "topk_api_rate_limited_total",
			Help: "Requests refused because their client sent too many.",
		}),
	}
	if len(limits.TrustedProxies) == 0 {
		return a.limit, nil
	}
	trusted := make([]string, len(limits.TrustedProxies))
	for i, prefix := range limits.TrustedProxies {
		trusted[i] = prefix.String()
	}
	forwarded := middleware.ClientIPFromXFF(trusted...)
	return func(next http.Handler) http.Handler { return forwarded(a.limit(next)) }, nil
}

func (a *allowance) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limited, state, err := a.limiter.RateLimitCtx(r.Context(), clientOf(r.Context(), r.RemoteAddr), 1)
		if err != nil { // who could not be counted is not refused
			next.ServeHTTP(w, r)
			return
		}
		header := w.Header()
		header[rateLimitPolicyHeader] = a.policy
		header[rateLimitHeader] = []string{remaining(state)}
		if limited {
			a.refused.Inc()
			(&problem{status: http.StatusTooManyRequests, detail: a.detail, retryAfter: max(state.RetryAfter, time.Nanosecond)}).write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// remaining is what is left, and when all of it is back.
func remaining(state throttled.RateLimitResult) string {
	text := make([]byte, 0, 40)
	text = append(text, `"default";r=`...)
	text = strconv.AppendInt(text, int64(state.Remaining), 10)
	text = append(text, ";t="...)
	text = strconv.AppendInt(text, int64((state.ResetAfter+time.Second-1)/time.Second), 10)
	return string(text)
}

// clientOf names the client: by the address that the trusted proxies tell, or
// that the connection comes from. Of IPv6 it is the network, as one client has
// more addresses than could be counted.
func clientOf(ctx context.Context, remote string) string {
	address := middleware.GetClientIPAddr(ctx)
	if !address.IsValid() {
		connected, err := netip.ParseAddrPort(remote)
		if err != nil {
			return remote
		}
		address = connected.Addr()
	}
	address = address.Unmap()
	bytes := address.AsSlice()
	if address.Is6() {
		bytes = bytes[:8] // a /64
	}
	return string(bytes)
}

// rateLimits adds the limit to the calls that are described so far and have it:
// all that ask for what is on the charts.
func (d describer) rateLimits() {
	refused := d.responses(nil, http.StatusTooManyRequests)[strconv.Itoa(http.StatusTooManyRequests)]
	refused.Description = "More requests came from one address than are allowed"
	refused.Headers = map[string]*huma.Param{
		"Retry-After":      {Description: "Seconds to wait", Schema: &huma.Schema{Type: huma.TypeInteger}},
		"RateLimit":        textHeader("How many requests are left (r), and in how many seconds all of them are back (t)"),
		"RateLimit-Policy": textHeader("How many requests may come at once (q), and in how many seconds they are given back (w)"),
	}
	for _, item := range d.document.Paths {
		if item.Get == nil || slices.Contains(item.Get.Tags, "Operations") || slices.Contains(item.Get.Tags, "Events") {
			continue
		}
		item.Get.Responses[strconv.Itoa(http.StatusTooManyRequests)] = refused
	}
}
