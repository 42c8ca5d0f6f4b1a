package page

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/topk-charts/topk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, path string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, path string) string {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%s answers %d", path, w.Code)
	}
	return w.Body.String()
}

func TestHeaders(t *testing.T) {
	for path, contentType := range map[string]string{
		"/":                  "text/html; charset=utf-8",
		"/?country=IN":       "text/html; charset=utf-8",
		"/assets/charts.css": "text/css; charset=utf-8",
		"/assets/charts.js":  "text/javascript; charset=utf-8",
		"/assets/icon.svg":   "image/svg+xml",
	} {
		t.Run(path, func(t *testing.T) {
			res := get(t, path)
			if res.StatusCode != http.StatusOK {
				t.Fatalf("status %d", res.StatusCode)
			}
			for name, want := range map[string]string{
				"Content-Type":            contentType,
				"Content-Security-Policy": contentSecurityPolicy,
				"X-Content-Type-Options":  "nosniff",
				"Referrer-Policy":         "no-referrer",
				"Cache-Control":           "no-cache",
			} {
				if got := res.Header.Get(name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
			etag := res.Header.Get("ETag")
			if again := get(t, path, "If-None-Match", etag); again.StatusCode != http.StatusNotModified {
				t.Errorf("status %d for the ETag %s", again.StatusCode, etag)
			}
			if other := get(t, path, "If-None-Match", `"other"`); other.StatusCode != http.StatusOK {
				t.Errorf("status %d for another ETag", other.StatusCode)
			}
		})
	}
}

func TestPolicyAllowsNothingInline(t *testing.T) {
	if !strings.HasPrefix(contentSecurityPolicy, "default-src 'none';") || strings.Contains(contentSecurityPolicy, "unsafe") {
		t.Errorf("policy %s", contentSecurityPolicy)
	}
	html := body(t, "/")
	for what, pattern := range map[string]string{
		"inline script":   `<script[^>]*>[^<]`,
		"inline style":    `<style|\sstyle=`,
		"event attribute": `\son[a-z]+=`,
	} {
		if found := regexp.MustCompile(pattern).FindString(html); found != "" {
			t.Errorf("%s: %s", what, found)
		}
	}
}

func TestReferencesExistAndAreOurs(t *testing.T) {
	html, css, js := body(t, "/"), body(t, "/assets/charts.css"), body(t, "/assets/charts.js")
	references := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(html, -1)
	references = append(references, regexp.MustCompile(`(?:url\(|@import)\s*["']?([^"')]*)`).FindAllStringSubmatch(css, -1)...)
	if len(references) < 4 {
		t.Fatalf("found the references %v only", references)
	}
	for _, reference := range references {
		switch path := reference[1]; {
		case path == "/openapi.json", path == "/docs", strings.HasPrefix(path, "/v1/"): // the API's
		case !strings.HasPrefix(path, "/assets/"):
			t.Errorf("%s is not ours", path)
		default:
			body(t, path)
		}
	}
	for name, text := range map[string]string{"page": html, "style": css, "script": js} {
		if found := regexp.MustCompile(`(?:https?:)?//[a-z]+\.[a-z]+`).FindString(text); found != "" {
			t.Errorf("the %s speaks of %s", name, found)
		}
	}
}

// The script finds the parts of the page that it fills.
func TestScriptAndPageAgree(t *testing.T) {
	html, js := body(t, "/"), body(t, "/assets/charts.js")
	for _, id := range regexp.MustCompile(`getElementById\("([^"]+)"\)`).FindAllStringSubmatch(js, -1) {
		if strings.Count(html, `id="`+id[1]+`"`) != 1 {
			t.Errorf("the page does not have one #%s", id[1])
		}
	}
	classes := regexp.MustCompile(`class="([^"]+)"`).FindAllStringSubmatch(html, -1)
	has := map[string]bool{}
	for _, list := range classes {
		for _, class := range strings.Fields(list[1]) {
			has[class] = true
		}
	}
	for _, selector := range regexp.MustCompile(`(?:put|querySelector|querySelectorAll|#text)\("([^"]+)"`).FindAllStringSubmatch(js, -1) {
		for _, class := range regexp.MustCompile(`\.([a-z-]+)`).FindAllStringSubmatch(selector[1], -1) {
			if !has[class[1]] {
				t.Errorf("nothing on the page has the class %s of %q", class[1], selector[1])
			}
		}
	}
}

// What the page can ask for, the API takes.
func TestChoicesAreTheDomains(t *testing.T) {
	html := body(t, "/")
	options := regexp.MustCompile(`<option value="([^"]+)">`).FindAllStringSubmatch(html, -1)
	if len(options) != len(topk.Countries()) {
		t.Errorf("%d countries to choose from, want %d", len(options), len(topk.Countries()))
	}
	for _, option := range options {
		if _, err := topk.ParseFilter("region:" + option[1]); err != nil {
			t.Error(err)
		}
	}
	windows := regexp.MustCompile(`name="window" value="([^"]+)"`).FindAllStringSubmatch(html, -1)
	if len(windows) != 4 {
		t.Errorf("windows %v", windows)
	}
	for _, window := range windows {
		if _, err := topk.ParseWindow(window[1]); err != nil {
			t.Error(err)
		}
	}
}

func TestOtherRequests(t *testing.T) {
	for _, path := range []string{"/nothing", "/assets/", "/assets/index.html", "/assets/page.go", "/index.html"} {
		if res := get(t, path); res.StatusCode != http.StatusNotFound {
			t.Errorf("%s answers %d", path, res.StatusCode)
		}
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST answers %d", w.Code)
	}
	w = httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("ETag") == "" {
		t.Errorf("HEAD answers %d with %d bytes", w.Code, w.Body.Len())
	}
}
