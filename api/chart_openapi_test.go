package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
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
	if err != nil || req.after.last.SongID != "s456" {
		t.Errorf("%+v, %v", req, err)
	}
}
