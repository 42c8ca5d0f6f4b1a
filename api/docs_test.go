package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

// The reference works without any other host: what it names is here, and the
// browser is told to fetch nothing from elsewhere.
func TestDocsAreComplete(t *testing.T) {
	s := newService(t)
	page := s.get("/docs")
	if page.status != http.StatusOK || page.header.Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(string(page.body), `"/openapi.json"`) {
		t.Fatalf("%d %v %s", page.status, page.header, page.body)
	}
	policy := page.header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; script-src 'self' 'sha256-") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("the policy is %q", policy)
	}
	if again := s.get("/docs", "If-None-Match", page.header.Get("ETag")); again.status != http.StatusNotModified {
		t.Errorf("again %d", again.status)
	}
	named := regexp.MustCompile(`(?:src|href)\s*=\s*"([^"]*)"`).FindAllStringSubmatch(string(page.body), -1)
	if len(named) < 4 {
		t.Fatalf("only %v are named", named)
	}
	for _, match := range named {
		path := match[1]
		if !strings.HasPrefix(path, "/docs/") {
			t.Fatalf("%q is named", path)
		}
		for _, encoding := range []string{"identity", "gzip", "zstd"} {
			asset := s.get(path, "Accept-Encoding", encoding)
			contentType, _, _ := strings.Cut(asset.header.Get("Content-Type"), ";")
			want := map[string]string{".js": "application/javascript", ".css": "text/css", ".png": "image/png"}[path[strings.LastIndexByte(path, '.'):]]
			if asset.status != http.StatusOK || len(asset.body) < 100 || contentType != want || asset.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s by %s: %d, %d bytes, %v", path, encoding, asset.status, len(asset.body), asset.header)
			}
			if encoding != "identity" || contentType != "text/css" {
				continue
			}
			for _, used := range regexp.MustCompile(`url\(([^)]*)\)|@import\s*([^;]*)`).FindAllStringSubmatch(string(asset.body), -1) {
				if source := strings.Trim(used[1]+used[2], `"'`); !strings.HasPrefix(source, "data:") && !strings.HasPrefix(source, "#") {
					t.Errorf("%s fetches %q", path, source)
				}
			}
		}
	}
	for _, path := range []string{"/docs/", "/docs/other.js", "/docs/../server.go"} {
		s.problem(s.get(path), http.StatusNotFound)
	}
}
