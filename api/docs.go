package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/swaggest/swgui/v5emb"
)

const docsPath = "/docs"

// docs is the reference of the API: Swagger UI over our OpenAPI document. All of
// it is part of the program.
type docs struct {
	page   string
	etag   string
	policy string
	assets []string // that the page names, by their paths
	ui     http.Handler
}

// What the page has, in the form in which the library writes it.
var (
	docsInline = regexp.MustCompile(`(?s)<(script|style)>(.*?)</(?:script|style)>`)
	docsAsset  = regexp.MustCompile(`(?:src|href)="(` + docsPath + `/[^"]+)"`)
)

// newDocs renders the page. Its scripts and styles are allowed one by one, by
// their hashes, so that nothing else runs in it; and it may ask only our API.
func newDocs() (*docs, error) {
	d := &docs{ui: v5emb.New("topk", documentPath, docsPath)}
	w := httptest.NewRecorder()
	d.ui.ServeHTTP(w, httptest.NewRequest(http.MethodGet, docsPath, nil))
	d.page = w.Body.String()
	sum := sha256.Sum256(w.Body.Bytes())
	d.etag = `"` + hex.EncodeToString(sum[:12]) + `"`
	for _, match := range docsAsset.FindAllStringSubmatch(d.page, -1) {
		d.assets = append(d.assets, match[1])
	}
	allowed := map[string]string{}
	for _, match := range docsInline.FindAllStringSubmatch(d.page, -1) {
		sum := sha256.Sum256([]byte(match[2]))
		allowed[match[1]] += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	if len(d.assets) == 0 || len(allowed) == 0 {
		return nil, errors.New("the page of the API reference is not as it was")
	}
	d.policy = "default-src 'none'; script-src 'self'" + allowed["script"] + "; style-src 'self'" + allowed["style"] +
		"; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	return d, nil
}

func (d *docs) routes(r chi.Router) {
	r.Get(docsPath, d.index)
	for _, path := range d.assets {
		r.Get(path, d.asset)
	}
}

func (d *docs) index(w http.ResponseWriter, r *http.Request) {
	d.protect(w)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", d.policy)
	w.Header().Set("ETag", d.etag)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(d.page))
}

func (d *docs) asset(w http.ResponseWriter, r *http.Request) {
	d.protect(w)
	d.ui.ServeHTTP(w, r)
}

// protect sets what the charts page has too.
func (d *docs) protect(w http.ResponseWriter) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Cache-Control", "no-cache")
}
