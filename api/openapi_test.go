package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// newDocumentedServer has every route there is, and no Redis.
func newDocumentedServer(t *testing.T, limits ...Limits) *Server {
	t.Helper()
	clock := func() time.Time { return time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC) }
	store, err := snapshot.Open(t.Context(), "redis://127.0.0.1:1", snapshot.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	publisher, err := NewPublisher(PublisherConfig{Brokers: []string{"127.0.0.1:1"}, Topic: "plays"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Close)
	ingest, err := NewIngest(IngestConfig{
		Publisher: publisher, Rules: topk.DefaultRules(), Pepper: []byte("a pepper for the tests"), Clock: clock,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Queries: twoSongs{}, Snapshots: store, Ingest: ingest, Page: http.NotFoundHandler(), Clock: clock,
		Events: oneEvent{}, Rejects: oneReject{}, Jobs: oneJob{}, Registry: prometheus.NewRegistry(),
	}
	if len(limits) > 0 {
		cfg.Limits = limits[0]
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// twoSongs are played, of which the catalog knows one.
type twoSongs struct{ Queries }

func (twoSongs) Chart(_ context.Context, q topk.ChartQuery) (topk.Chart, error) {
	return topk.Chart{
		Filter: q.Filter, Window: q.Window, AsOf: q.Now, Span: q.Window.At(q.Now, topk.DefaultCalendar()), TotalPlays: 3,
		Entries: []topk.Entry{{Rank: 1, SongID: "a", Plays: 2}, {Rank: 2, SongID: "b", Plays: 1}},
	}, nil
}

func (twoSongs) Songs(context.Context, []string) (map[string]topk.Song, error) {
	return map[string]topk.Song{"a": {SongID: "a", Title: "A", Genres: []string{"pop"}}}, nil
}

func (twoSongs) UpsertSongs(context.Context, []topk.Song) error { return nil }

func (twoSongs) SongPlays(_ context.Context, id string, windows []topk.Window, _ time.Time) ([]uint64, error) {
	counts := make([]uint64, len(windows))
	if id != "none" {
		counts[0] = 1
	}
	return counts, nil
}

// oneEvent knows an event that has everything, and cannot say of another.
type oneEvent struct{}

func (oneEvent) Find(_ context.Context, id string, _ *time.Time) (topk.EventTrace, error) {
	here := topk.Arrival{Position: topk.NewPosition(0, "plays", 1, 2)}
	seconds := 0
	switch id {
	case "none":
		return topk.EventTrace{EventID: id}, nil
	case "unsure":
		return topk.EventTrace{EventID: id, Gaps: []string{"something does not answer"}}, nil
	case "bare":
		return topk.EventTrace{EventID: id, State: topk.EventRejected, Where: here, Rejections: []topk.Rejected{{Arrival: here, Reason: "r"}}}, nil
	}
	return topk.EventTrace{
		EventID: id, State: topk.EventCounted, Where: here, Repeats: []topk.Arrival{here}, CountedAgain: []topk.Arrival{here},
		Play: &topk.StoredPlay{Arrival: here, Play: topk.Play{SongID: "s", Duration: &seconds}, Counted: true}, Unread: []topk.Arrival{here},
		Rejections: []topk.Rejected{{Arrival: here, Reason: "r", ReplayedAt: time.Unix(1, 0)}}, Gaps: []string{"there is more"},
	}, nil
}

// oneReject is a message that is not UTF-8, and another.
type oneReject struct{}

func (oneReject) Rejected(context.Context, topk.RejectedFilter, topk.RejectedCursor, int) (topk.RejectedPage, error) {
	return topk.RejectedPage{Messages: []topk.Rejected{
		{Reason: "r", Raw: []byte{0xff}},
		{Reason: "r", Raw: []byte("\x00{}"), EventID: "e", ReplayedAt: time.Unix(1, 0)},
	}, Next: &topk.RejectedCursor{At: time.Unix(1, 0), Source: 1, Offset: 2}}, nil
}

func (oneReject) RejectedReasons(context.Context, topk.RejectedFilter) ([]topk.ReasonCount, error) {
	return []topk.ReasonCount{{Reason: "r", Messages: 2, Replayed: 1}}, nil
}

// oneJob is running, and another has never run.
type oneJob struct{}

func (oneJob) Jobs(context.Context, int) ([]topk.Job, error) {
	return []topk.Job{{Name: "busy", Runs: []topk.JobRun{{ID: "1", Job: "busy", Trigger: topk.ByHand, State: topk.JobRunning, StartedAt: time.Unix(1, 0)}}},
		{Name: "new", Schedule: "@daily", Next: time.Unix(86400, 0)}}, nil
}

func (oneJob) Ask(_ context.Context, job string) (topk.JobRun, error) {
	switch job {
	case "busy":
		return topk.JobRun{}, topk.ErrConflict
	case "new":
		return topk.JobRun{ID: "2", Job: job, Trigger: topk.ByAPI, State: topk.JobRequested}, nil
	}
	return topk.JobRun{}, topk.ErrNotFound
}

func document(t *testing.T, s *Server) (doc map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, documentPath, nil))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestOpenAPIHasEveryRoute(t *testing.T) {
	s := newDocumentedServer(t)
	documented := map[string]bool{}
	for path, item := range document(t, s)["paths"].(map[string]any) {
		for method := range item.(map[string]any) {
			documented[strings.ToUpper(method)+" "+path] = true
		}
	}
	routed := map[string]bool{}
	err := chi.Walk(s.handler.(chi.Router), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		routed[method+" "+route] = true
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for operation := range documented {
		if !routed[operation] {
			t.Errorf("%s is documented, and not there", operation)
		}
		delete(routed, operation)
	}
	for operation := range routed {
		_, path, _ := strings.Cut(operation, " ")
		page := path == "/" || path == "/assets/*" || path == docsPath || strings.HasPrefix(path, docsPath+"/")
		// Ingest takes every method, to refuse all but POST.
		refused := strings.HasPrefix(path, "/v1/events/") && documented["POST "+path]
		if !page && !refused {
			t.Errorf("%s is not documented", operation)
		}
	}
}

// What OpenAPI 3.1 asks of a document, as far as it concerns ours.
func TestOpenAPIIsWellFormed(t *testing.T) {
	doc := document(t, newDocumentedServer(t))
	if doc["openapi"] != "3.1.0" {
		t.Errorf("openapi is %v", doc["openapi"])
	}
	info := doc["info"].(map[string]any)
	if info["title"] == "" || info["version"] == "" {
		t.Errorf("info is %v", info)
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	checkNode(t, "#", doc, schemas)

	seen := map[string]bool{}
	for path, item := range doc["paths"].(map[string]any) {
		for method, value := range item.(map[string]any) {
			where, operation := method+" "+path, value.(map[string]any)
			id, _ := operation["operationId"].(string)
			if id == "" || seen[id] {
				t.Errorf("%s: operationId %q", where, id)
			}
			seen[id] = true
			if operation["summary"] == nil || operation["tags"] == nil {
				t.Errorf("%s: no summary or no tags", where)
			}
			checkParameters(t, where, path, operation)
			checkResponses(t, where, operation)
		}
	}
}

// checkNode looks at every object of the document: references lead somewhere,
// and types are those of JSON Schema.
func checkNode(t *testing.T, where string, node any, schemas map[string]any) {
	t.Helper()
	switch node := node.(type) {
	case []any:
		for _, child := range node {
			checkNode(t, where, child, schemas)
		}
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			name, found := strings.CutPrefix(ref, "#/components/schemas/")
			if !found || schemas[name] == nil {
				t.Errorf("%s: %s leads nowhere", where, ref)
			}
		}
		if typ, ok := node["type"].(string); ok && node["properties"] != nil && typ != "object" {
			t.Errorf("%s: properties of a %s", where, typ)
		}
		if _, ok := node["nullable"]; ok {
			t.Errorf("%s: nullable is of OpenAPI 3.0", where)
		}
		for name, child := range node {
			checkNode(t, where+"/"+name, child, schemas)
		}
	}
}

func checkParameters(t *testing.T, where, path string, operation map[string]any) {
	t.Helper()
	parameters, _ := operation["parameters"].([]any)
	inPaths := 0
	for _, value := range parameters {
		p := value.(map[string]any)
		name, _ := p["name"].(string)
		if name == "" || p["schema"] == nil || !slices.Contains([]any{"query", "header", "path"}, p["in"]) {
			t.Errorf("%s: parameter %v", where, p)
		}
		if p["in"] == "path" {
			inPaths++
			if p["required"] != true || !strings.Contains(path, "{"+name+"}") {
				t.Errorf("%s: parameter %v", where, p)
			}
		}
	}
	if n := strings.Count(path, "{"); n != inPaths {
		t.Errorf("%s: %d of %d parameters of the path", where, inPaths, n)
	}
}

func checkResponses(t *testing.T, where string, operation map[string]any) {
	t.Helper()
	responses := operation["responses"].(map[string]any)
	good := 0
	for status, value := range responses {
		r := value.(map[string]any)
		if r["description"] == nil || r["description"] == "" {
			t.Errorf("%s: %s has no description", where, status)
		}
		if status[0] == '2' {
			good++
		}
		content, _ := r["content"].(map[string]any)
		if status[0] >= '4' && content["application/problem+json"] == nil {
			t.Errorf("%s: %s is no problem: %v", where, status, content)
		}
	}
	if good == 0 {
		t.Errorf("%s: never succeeds", where)
	}
}

// Examples of answers are such answers.
func TestOpenAPIExamplesFitTheirSchemas(t *testing.T) {
	doc := describe(Config{Events: oneEvent{}, Rejects: oneReject{}, Jobs: oneJob{}})
	checked := 0
	for path, item := range doc.Paths {
		if item.Get == nil {
			continue
		}
		for status, response := range item.Get.Responses {
			media := response.Content["application/json"]
			if media == nil || media.Example == nil {
				continue
			}
			text, err := json.Marshal(media.Example)
			if err != nil {
				t.Fatal(err)
			}
			var example any
			if err := json.Unmarshal(text, &example); err != nil {
				t.Fatal(err)
			}
			var result huma.ValidateResult
			huma.Validate(doc.Components.Schemas, media.Schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeReadFromServer, example, &result)
			for _, err := range result.Errors {
				t.Errorf("GET %s %s: %v in %s", path, status, err, text)
			}
			checked++
		}
	}
	if checked < 2 {
		t.Errorf("only %d examples", checked)
	}
	if _, err := decodeCursor(rejectedExample.Cursor); err != nil {
		t.Error(err)
	}
}

// The answers are what the document says of them.
func TestOpenAPIDescribesTheAnswers(t *testing.T) {
	s, doc := newDocumentedServer(t), describe(Config{Events: oneEvent{}, Rejects: oneReject{}, Jobs: oneJob{}})
	for _, c := range []struct {
		method, url, body, path string
		status                  int
	}{
		{"GET", "/v1/top?k=5", "", topPath, 200},
		{"GET", "/v1/top?from=1&to=2", "", topPath, 200},
		{"GET", "/v1/top?k=x", "", topPath, 400},
		{"GET", "/v1/top/stream?k=x", "", streamPath, 400},
		{"GET", "/v1/top?k=1", "", topPath, 200}, // and there is more
		{"GET", "/v1/top?mode=approx", "", topPath, 200},
		{"GET", "/v1/top?rankBy=listeners", "", topPath, 200},
		{"GET", "/v1/top?from=1763856000000&to=1763942400123&compare=previous", "", topPath, 200},
		{"GET", "/v1/top?period=day", "", topPath, 200},
		{"GET", "/v1/top?period=week", "", topPath, 200},
		{"GET", "/v1/top?period=week&date=2025-11-24", "", topPath, 404},
		{"GET", "/v1/top?cursor=" + cursorExample, "", topPath, 200},
		{"GET", "/v1/songs/a", "", songPath, 200},
		{"GET", "/v1/songs/b", "", songPath, 200},
		{"GET", "/v1/songs/none", "", songPath, 404},
		{"GET", "/v1/songs/a?b=c", "", songPath, 400},
		{"POST", "/v1/songs", `{"songId":"a","title":"A","artistId":"x","artist":"X"}`, songsPath, 200},
		{"POST", "/v1/songs", `{}`, songsPath, 400},
		{"GET", "/v1/events/e-1", "", eventPath, 200},
		{"GET", "/v1/events/bare?day=2025-11-20", "", eventPath, 200},
		{"GET", "/v1/events/none", "", eventPath, 404},
		{"GET", "/v1/events/unsure", "", eventPath, 503},
		{"GET", "/v1/events/a%20b?x=y", "", eventPath, 400},
		{"GET", "/v1/admin/rejected", "", rejectedPath, 200},
		{"GET", "/v1/admin/rejected?limit=0", "", rejectedPath, 400},
		{"GET", "/v1/admin/jobs?runs=3", "", jobsPath, 200},
		{"GET", "/v1/admin/jobs?runs=0", "", jobsPath, 400},
		{"POST", "/v1/admin/jobs/new", "", jobPath, 202},
		{"POST", "/v1/admin/jobs/busy", "", jobPath, 409},
		{"POST", "/v1/admin/jobs/none", "", jobPath, 404},
		{"POST", "/v1/admin/jobs/new?x=y", "", jobPath, 400},
		{"GET", "/v1/trending?k=5", "", trendingPath, 200},
		{"GET", "/v1/trending?dim=region:IN&overindex=global", "", trendingPath, 200},
		{"GET", "/v1/trending?overindex=global", "", trendingPath, 400},
		{"GET", "/v1/songs/a/history", "", historyPath, 200},
		{"GET", "/v1/songs/b/history?grain=hour&from=2025-11-24T00:00:00Z", "", historyPath, 200},
		{"GET", "/v1/songs/none/history", "", historyPath, 404},
		{"GET", "/v1/songs/a/history?grain=year", "", historyPath, 400},
		{"GET", "/v1/songs/a/charts", "", songChartsPath, 200},
		{"GET", "/v1/songs/b/charts?period=week&date=2025-11-20", "", songChartsPath, 200},
		{"GET", "/v1/songs/none/charts", "", songChartsPath, 404},
		{"GET", "/v1/songs/a/charts?date=x", "", songChartsPath, 400},
		{"GET", "/v1/charts?k=3", "", chartsPath, 200},
		{"GET", "/v1/charts?dimension=album", "", chartsPath, 400},
		{"GET", "/v1/charts/dates?period=week", "", datesPath, 200},
		{"GET", "/v1/charts/dates?dim=album:1", "", datesPath, 400},
		{"GET", "/v1/artists/x", "", artistPath, 200},
		{"GET", "/v1/artists/none", "", artistPath, 404},
		{"GET", "/v1/artists/x?k=0", "", artistPath, 400},
		{"GET", "/healthz", "", healthPath, 200},
		{"GET", "/readyz", "", readyPath, 200},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(c.method, c.url, strings.NewReader(c.body)))
		operation := doc.Paths[c.path].Get
		if c.method == http.MethodPost {
			operation = doc.Paths[c.path].Post
		}
		response := operation.Responses[strconv.Itoa(c.status)]
		if w.Code != c.status || response == nil || response.Content[w.Header().Get("Content-Type")] == nil {
			t.Errorf("%s %s: %d %s is not documented", c.method, c.url, w.Code, w.Header().Get("Content-Type"))
			continue
		}
		schema := response.Content[w.Header().Get("Content-Type")].Schema
		var answer any
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
			t.Fatal(err)
		}
		var result huma.ValidateResult
		huma.Validate(doc.Components.Schemas, schema, huma.NewPathBuffer([]byte{}, 0), huma.ModeReadFromServer, answer, &result)
		for _, err := range result.Errors {
			t.Errorf("%s %s: %v in %s", c.method, c.url, err, w.Body)
		}
	}
}

// The calls that are limited are those that say so.
func TestOpenAPITellsWhatIsLimited(t *testing.T) {
	s, doc := newDocumentedServer(t, Limits{Rate: 1, RateBurst: 1}), describe(Config{Events: oneEvent{}, Rejects: oneReject{}, Jobs: oneJob{}})
	ask := func(url string) int {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
		return w.Code
	}
	ask(topPath) // all that there is
	limited := 0
	for path, item := range doc.Paths {
		if item.Get == nil {
			continue
		}
		_, told := item.Get.Responses["429"]
		if got := ask(strings.NewReplacer("{", "", "}", "").Replace(path)) == http.StatusTooManyRequests; got != told {
			t.Errorf("%s: limited %t, and documented %t", path, got, told)
		}
		if told {
			limited++
		}
	}
	if limited < 3 {
		t.Errorf("only %d calls are limited", limited)
	}
}
