package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

func (q twoSongs) Listeners(ctx context.Context, query topk.ChartQuery) (topk.Chart, error) {
	return q.Chart(ctx, query)
}

func (q twoSongs) Approx(ctx context.Context, query topk.ChartQuery) (topk.ApproxChart, error) {
	chart, err := q.Chart(ctx, query)
	return topk.ApproxChart{Chart: chart, Errors: []uint64{0, 1}}, err
}

// Closed has days only.
func (q twoSongs) Closed(ctx context.Context, f topk.Filter, p topk.Period, date time.Time, revision int) (topk.ClosedChart, error) {
	if p != topk.Daily {
		return topk.ClosedChart{}, topk.ErrNotFound
	}
	w, err := topk.Between(date, date.Add(24*time.Hour))
	if err != nil {
		return topk.ClosedChart{}, err
	}
	chart, err := q.Chart(ctx, topk.ChartQuery{Filter: f, Window: w, Now: date.Add(25 * time.Hour)})
	return topk.ClosedChart{Chart: chart, Period: p, Date: date, Revision: max(revision, 1), Careers: []topk.Career{
		{PreviousRank: 2, Peak: 1, PeakDate: date, Periods: 2, Streak: 2, Movement: topk.Up},
		{Peak: 2, PeakDate: date, Periods: 1, Streak: 1, Movement: topk.New},
	}}, err
}

// Each line of NDJSON is a Row, and what does not suit anyone is a problem.
func TestOpenAPIDescribesOtherFormats(t *testing.T) {
	s, doc := newDocumentedServer(t), describe(Config{})
	ask := func(query, accept string) *httptest.ResponseRecorder {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/v1/top"+query, nil)
		r.Header.Set("Accept", accept)
		s.ServeHTTP(w, r)
		mediaType, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
		response := doc.Paths[topPath].Get.Responses[strconv.Itoa(w.Code)]
		if response == nil || response.Content[mediaType] == nil {
			t.Errorf("%s as %s: %d %s is not documented", query, accept, w.Code, mediaType)
		}
		return w
	}
	if w := ask("", "image/png"); w.Code != http.StatusNotAcceptable {
		t.Errorf("%d", w.Code)
	}
	if w := ask("?period=day", "text/csv"); strings.Split(w.Body.String(), "\n")[0] != strings.Split(csvExample, "\n")[0] {
		t.Errorf("%s", w.Body)
	}
	for _, query := range []string{"", "?period=day", "?mode=approx"} {
		lines := strings.Split(strings.TrimSpace(ask(query, "application/x-ndjson").Body.String()), "\n")
		if len(lines) != 2 {
			t.Errorf("%s: %q", query, lines)
		}
		for _, line := range lines {
			var row any
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			var result huma.ValidateResult
			huma.Validate(doc.Components.Schemas, doc.Components.Schemas.Map()["Row"], huma.NewPathBuffer([]byte{}, 0), huma.ModeReadFromServer, row, &result)
			for _, err := range result.Errors {
				t.Errorf("%s: %v in %s", query, err, line)
			}
		}
	}
}

func TestCursorExample(t *testing.T) {
	req, err := parseChartRequest("cursor="+cursorExample, topk.DefaultCalendar())
	if err != nil || req.after.last.SongID != "s456" || req.after.question != newChartRequest(topk.Filter{}, topk.Last24h, 1).fingerprint() {
		t.Errorf("%+v, %v", req, err)
	}
}

// Calls that tell of a chart in their own way get it as GET /v1/top gives it.
func TestChartForOtherCalls(t *testing.T) {
	clock := func() time.Time { return time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC) }
	store, err := snapshot.Open(t.Context(), "redis://127.0.0.1:1", snapshot.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	cfg := Config{Queries: twoSongs{}, Snapshots: store, Clock: clock, Registry: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)}
	cfg.Limits = cfg.Limits.withDefaults()
	metrics := newAPIMetrics(cfg.Registry)
	gate := newGate(1, time.Minute, time.Minute, metrics.querying)
	catalog, err := newCatalog(cfg.Queries, gate, clock, cfg.Limits, metrics)
	if err != nil {
		t.Fatal(err)
	}
	charts, err := newChartAPI(cfg, gate, catalog, metrics)
	if err != nil {
		t.Fatal(err)
	}
	artist := topk.NewFilter(topk.Term{Dim: topk.DimArtist, Value: "x"})
	got, err := charts.chart(t.Context(), newChartRequest(artist, topk.Last7d, 1))
	if err != nil || got.Dim != "artist:x" || got.Window != "7d" || got.Source != fromClickHouse || got.RankBy != byPlays ||
		len(got.Items) != 1 || got.Items[0].Metadata.Title != "A" || got.NextCursor == "" {
		t.Errorf("%+v, %v", got, err)
	}
}
