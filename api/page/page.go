// Package page is the charts page: one HTML document with its style, script
// and icon, embedded. It needs no build step and nothing from elsewhere, and
// talks only to the API it is served with.
package page

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"time"

	"github.com/topk-charts/topk"
)

//go:embed static
var static embed.FS

// contentSecurityPolicy lets the page load its own files and call its own API,
// and nothing else: no inline script or style, no frames, no forms.
const contentSecurityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// contentTypes of the embedded files. They are written down, because what the
// system's tables say differs from machine to machine.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// A file is ready to be served.
type file struct {
	name        string
	contentType string
	etag        string
	body        []byte
}

// Handler serves the page at / and its files under /assets/.
func Handler() http.Handler {
	mux := http.NewServeMux()
	for _, f := range load() {
		pattern := "GET /assets/" + f.name
		if f.name == "index.html" {
			pattern = "GET /{$}"
		}
		mux.Handle(pattern, f)
	}
	return mux
}

// load reads the embedded files. They are part of the program, so that one
// which is missing or cannot be rendered is a bug of the build.
func load() []file {
	entries, err := fs.ReadDir(static, "static")
	if err != nil {
		panic(fmt.Sprintf("page: %v", err))
	}
	var files []file
	for _, entry := range entries {
		body, err := fs.ReadFile(static, path.Join("static", entry.Name()))
		if err != nil {
			panic(fmt.Sprintf("page: %v", err))
		}
		if entry.Name() == "index.html" {
			body = render(string(body))
		}
		contentType, known := contentTypes[path.Ext(entry.Name())]
		if !known {
			panic(fmt.Sprintf("page: no content type for %s", entry.Name()))
		}
		sum := sha256.Sum256(body)
		files = append(files, file{
			name:        entry.Name(),
			contentType: contentType,
			etag:        `"` + hex.EncodeToString(sum[:12]) + `"`,
			body:        body,
		})
	}
	return files
}

// render fills the countries into the document: the list of the domain, so
// that the page offers what the API takes.
func render(document string) []byte {
	var out bytes.Buffer
	page := template.Must(template.New("page").Parse(document))
	if err := page.Execute(&out, struct{ Countries []string }{topk.Countries()}); err != nil {
		panic(fmt.Sprintf("page: %v", err))
	}
	return out.Bytes()
}

// ServeHTTP answers with the file, or 304 to a browser that has it. Browsers
// ask every time (no-cache): the files are small, keep their names from one
// release to the next, and must fit each other.
func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Security-Policy", contentSecurityPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
