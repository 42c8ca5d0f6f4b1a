package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
)

func TestRateLimit(t *testing.T) {
	s := newService(t, func(c *api.Config) { c.Limits.Rate, c.Limits.RateBurst = 2, 5 })
	s.publish(worldwide, topk.Last24h, playsOf(3))
	for i := range 5 {
		r := s.get("/v1/top")
		want := fmt.Sprintf(`"default";r=%d;t=%d`, 4-i, (i+2)/2)
		if r.status != http.StatusOK || r.header.Get("RateLimit") != want || r.header.Get("RateLimit-Policy") != `"default";q=5;w=3` {
			t.Errorf("request %d: %d %q %q, want %q", i, r.status, r.header.Get("RateLimit"), r.header.Get("RateLimit-Policy"), want)
		}
	}
	r := s.get("/v1/top", "Origin", "https://charts.example")
	s.problem(r, http.StatusTooManyRequests)
	if r.header.Get("RateLimit") != `"default";r=0;t=3` || r.header.Get("Retry-After") != "1" || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", r.header)
	}
	if exposed := strings.ToLower(r.header.Get("Access-Control-Expose-Headers")); !strings.Contains(exposed, "ratelimit,") || !strings.Contains(exposed, "ratelimit-policy") {
		t.Errorf("pages may see %q", exposed)
	}
	for _, path := range []string{"/v1/top/stream", "/v1/songs/a"} {
		s.problem(s.get(path), http.StatusTooManyRequests)
	}
	s.problem(s.get("/v1/top", "X-Forwarded-For", "203.0.113.9"), http.StatusTooManyRequests) // nobody is trusted
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json"} {
		if r := s.get(path); r.status != http.StatusOK || r.header.Get("RateLimit") != "" {
			t.Errorf("%s: %d %v", path, r.status, r.header)
		}
	}
	if n := s.metric("topk_api_rate_limited_total"); n != 4 {
		t.Errorf("%v refused", n)
	}
	s.advance(500 * time.Millisecond)
	if r := s.get("/v1/top"); r.status != http.StatusOK || r.header.Get("RateLimit") != `"default";r=0;t=3` {
		t.Errorf("half a second later %d %v", r.status, r.header)
	}
	s.problem(s.get("/v1/top"), http.StatusTooManyRequests)
	s.advance(time.Hour)
	if r := s.get("/v1/top"); r.header.Get("RateLimit") != `"default";r=4;t=1` {
		t.Errorf("an hour later %v", r.header)
	}
}

func TestRateIsNotLimitedByDefault(t *testing.T) {
	s := newService(t)
	s.publish(worldwide, topk.Last24h, playsOf(3))
	if r := s.get("/v1/top"); r.header.Get("RateLimit") != "" || r.header.Get("RateLimit-Policy") != "" {
		t.Errorf("%v", r.header)
	}
}

// Who is one client: by the connection, and behind trusted proxies by the first
// address that is none of theirs, however long a chain a client makes up.
func TestRateLimitTellsClientsApart(t *testing.T) {
	limited := func(c *api.Config) { c.Limits.Rate, c.Limits.RateBurst, c.Limits.RateClients = 1, 1, 3 }
	for name, c := range map[string]struct {
		trusted  []netip.Prefix
		requests []string // address, forwarded for, whether it is let in
	}{
		"addresses": {nil, []string{
			"192.0.2.1:1", "", "yes", "192.0.2.1:2", "", "no", "192.0.2.2:1", "", "yes", "192.0.2.1:3", "198.51.100.1", "no",
		}},
		"IPv6 networks": {nil, []string{
			"[2001:db8::1]:1", "", "yes", "[2001:db8::ffff:1]:1", "", "no", "[2001:db8:0:1::1]:1", "", "yes", "[::ffff:192.0.2.1]:1", "", "yes", "192.0.2.1:1", "", "no",
		}},
		"no address": {nil, []string{"", "", "yes", "@", "", "yes", "@", "", "no"}},
		"proxies": {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []string{
			"192.0.2.1:1", "198.51.100.1", "yes", "192.0.2.2:1", "198.51.100.1", "no", "192.0.2.1:1", "198.51.100.2", "yes",
			"192.0.2.1:1", "203.0.113.7, 198.51.100.2, 192.0.2.9", "no", // made up before what the proxies say
			"203.0.113.1:1", "198.51.100.3", "yes", "203.0.113.1:1", "198.51.100.4", "no", // not a proxy
		}},
		"proxies that say nothing": {[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, []string{
			"192.0.2.1:1", "", "yes", "192.0.2.1:1", "x, y", "no",
		}},
		"more than are remembered": {nil, []string{
			"192.0.2.1:1", "", "yes", "192.0.2.2:1", "", "yes", "192.0.2.3:1", "", "yes", "192.0.2.4:1", "", "yes",
			"192.0.2.1:1", "", "yes", "192.0.2.4:1", "", "no",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, limited, func(cfg *api.Config) { cfg.Limits.TrustedProxies = c.trusted })
			for i := 0; i < len(c.requests); i += 3 {
				r := httptest.NewRequest(http.MethodGet, "/v1/top?k=0", nil)
				r.RemoteAddr = c.requests[i]
				if c.requests[i+1] != "" {
					r.Header.Set("X-Forwarded-For", c.requests[i+1])
				}
				w := httptest.NewRecorder()
				s.api.ServeHTTP(w, r)
				if let := w.Code != http.StatusTooManyRequests; let != (c.requests[i+2] == "yes") {
					t.Errorf("request %d of %v: %d", i/3, c.requests, w.Code)
				}
			}
		})
	}
}
