package api

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const (
	chartsPath = "/v1/charts"
	datesPath  = "/v1/charts/dates"
)

const (
	defaultCharts = 100
	maxCharts     = 1000
	defaultDates  = 30
	maxDates      = 1000
)

// listedDims are the dimensions of whose every value a chart is kept, in the
// order of their names, which is that of their filters.
var listedDims = []topk.Dimension{topk.DimDevice, topk.DimGenre, topk.DimGlobal, topk.DimRegion, topk.DimSegment}

var (
	chartsParameters = []*huma.Param{
		{
			Name: "dimension", In: inQuery, Description: "Only the charts of one dimension; all of them without it",
			Schema:  &huma.Schema{Type: huma.TypeString, Enum: []any{"device", "genre", "global", "region", "segment"}},
			Example: "region",
		},
		{
			Name: "startsWith", In: inQuery, Description: "Only values that start so, such as IN/ for the cities of a country",
			Schema: &huma.Schema{Type: huma.TypeString, MaxLength: pointer(topk.MaxValue)}, Example: "IN/",
		},
		{
			Name: "k", In: inQuery, Description: "How many charts at most",
			Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.0), Maximum: pointer(float64(maxCharts)), Default: defaultCharts},
		},
		{
			Name: "cursor", In: inQuery, Description: "The nextCursor of the page before, whose other parameters must be the same",
			Schema: &huma.Schema{Type: huma.TypeString, MaxLength: pointer(maxChartsCursor)},
		},
	}
	datesParameters = []*huma.Param{
		{
			Name: "dim", In: inQuery, Description: "global, or one region, genre, segment or device: only their charts are written down when a period is over",
			Schema:  &huma.Schema{Type: huma.TypeString, Default: string(topk.DimGlobal), MaxLength: pointer(topk.MaxFilterBytes)},
			Example: "region:IN",
		},
		periodParameter,
		{
			Name: "k", In: inQuery, Description: "How many dates at most",
			Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.0), Maximum: pointer(float64(maxDates)), Default: defaultDates},
		},
		{
			Name: "before", In: inQuery, Description: "Only dates before this one: the last date of an answer gives what follows",
			Schema: &huma.Schema{Type: huma.TypeString, Format: "date"}, Example: "2025-11-21",
		},
	}
)

// A chartListAPI tells which charts there are: GET /v1/charts and
// GET /v1/charts/dates.
type chartListAPI struct {
	queries Queries
	gate    *gate
	names   *memory[[]answer.ChartName] // by dimension, sorted by Dim
}

func newChartListAPI(cfg Config, gate *gate, sources *prometheus.CounterVec) (*chartListAPI, error) {
	names, err := newMemory("charts", sources, gate, cfg, cfg.Limits.ListFor, func(names []answer.ChartName) (bytes int) {
		for _, n := range names {
			bytes += int(reflect.TypeFor[answer.ChartName]().Size()) + len(n.Dim) + len(n.Value)
		}
		return bytes
	})
	if err != nil {
		return nil, err
	}
	return &chartListAPI{queries: cfg.Queries, gate: gate, names: names}, nil
}

// A chartsRequest is what one asks of GET /v1/charts.
type chartsRequest struct {
	dims   []topk.Dimension
	prefix string
	k      int
	after  string // the canonical filter after which to go on; "" from the first
}

// charts answers GET /v1/charts.
func (a *chartListAPI) charts(w http.ResponseWriter, r *http.Request) error {
	req, err := parseChartsRequest(r.URL.RawQuery)
	if err != nil {
		return err
	}
	told := answer.Charts{Items: []answer.ChartName{}}
	for _, dim := range req.dims {
		names, stale, err := a.namesOf(r.Context(), dim)
		if err != nil {
			return err
		}
		told.Stale = told.Stale || stale
		from, found := slices.BinarySearchFunc(names, req.after, func(n answer.ChartName, after string) int { return strings.Compare(n.Dim, after) })
		if found {
			from++
		}
		for _, name := range names[from:] {
			if !strings.HasPrefix(name.Value, req.prefix) {
				continue
			}
			if len(told.Items) == req.k {
				told.NextCursor = encodeChartsCursor(told.Items[req.k-1].Dim)
				break
			}
			told.Items = append(told.Items, name)
		}
		if told.NextCursor != "" {
			break
		}
	}
	w.Header().Set("Cache-Control", "max-age=60")
	writeJSON(w, "application/json", http.StatusOK, told)
	return nil
}

// namesOf gives the charts of one dimension, sorted.
func (a *chartListAPI) namesOf(ctx context.Context, dim topk.Dimension) ([]answer.ChartName, bool, error) {
	if dim == topk.DimGlobal {
		return []answer.ChartName{{Dim: string(dim), Dimension: string(dim)}}, false, nil
	}
	names, stale, err := a.names.get(ctx, string(dim), func(ctx context.Context) ([]answer.ChartName, error) {
		values, err := a.queries.Values(ctx, dim)
		if err != nil {
			return nil, err
		}
		names := make([]answer.ChartName, len(values))
		for i, value := range values {
			names[i] = answer.ChartName{Dim: topk.Term{Dim: dim, Value: value}.String(), Dimension: string(dim), Value: value}
		}
		slices.SortFunc(names, func(a, b answer.ChartName) int { return strings.Compare(a.Dim, b.Dim) })
		return names, nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("charts of %s: %w", dim, err)
	}
	return names, stale, nil
}

func parseChartsRequest(rawQuery string) (chartsRequest, error) {
	q := parseQuery(rawQuery, chartsParameters)
	req := chartsRequest{dims: listedDims, prefix: q.values["startsWith"], k: q.number("k", defaultCharts, maxCharts)}
	if name, given := q.values["dimension"]; given {
		switch dim := topk.Dimension(name); {
		case slices.Contains(listedDims, dim):
			req.dims = []topk.Dimension{dim}
		case slices.Contains(topk.Dimensions(), dim):
			q.refuse("dimension", fmt.Errorf("must be one whose charts can be listed: every %s has a chart, ask for it by dim=%s:ID", dim, dim))
		default:
			q.refuse("dimension", errors.New("must be device, genre, global, region or segment"))
		}
	}
	if len(req.prefix) > topk.MaxValue {
		q.refuse("startsWith", fmt.Errorf("must be at most %d bytes", topk.MaxValue))
	}
	if cursor, given := q.values["cursor"]; given {
		var err error
		if req.after, err = decodeChartsCursor(cursor); err != nil {
			q.refuse("cursor", err)
		}
	}
	if len(q.problems) > 0 {
		return req, badParameters(q.problems)
	}
	return req, nil
}

// maxChartsCursor is the length of the cursor of the longest term, with every
// byte of its value escaped, in base64.
const maxChartsCursor = (len("segment:")+3*topk.MaxValue+2)/3*4 + 4

// encodeChartsCursor names the chart after which to go on.
func encodeChartsCursor(dim string) string { return base64.RawURLEncoding.EncodeToString([]byte(dim)) }

func decodeChartsCursor(text string) (dim string, err error) {
	wrong := errors.New("must be the nextCursor of a page before")
	if len(text) > maxChartsCursor {
		return "", wrong
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return "", wrong
	}
	f, err := topk.ParseFilter(string(b))
	if err != nil || f.String() != string(b) || !f.Eager() {
		return "", wrong
	}
	return f.String(), nil
}

// dates answers GET /v1/charts/dates.
func (a *chartListAPI) dates(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery, datesParameters)
	filter, k := q.filter(), q.number("k", defaultDates, maxDates)
	period := topk.Period(q.choice("period", string(topk.Daily), string(topk.Weekly)))
	before, _ := q.date("before")
	if !filter.Eager() {
		q.refuse("dim", fmt.Errorf("must be global, or one region, genre, segment or device: other charts are not written down when a %s is over. "+
			"%s?dim=…&period=%s&date=… counts them on request, of any date", period, topPath, period))
	}
	if len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	var dates []topk.ClosedDate
	err := a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		dates, err = a.queries.ClosedDates(ctx, filter, period, before, k)
		return err
	})
	if err != nil {
		return fmt.Errorf("dates of %s: %w", filter, err)
	}
	told := answer.ClosedDates{Dim: filter.String(), Period: string(period), Dates: make([]answer.ClosedDate, len(dates))}
	for i, d := range dates {
		told.Dates[i] = answer.ClosedDate{
			Date: d.Date.Format(time.DateOnly), WindowStart: instant(d.Span.Start), WindowEnd: instant(d.Span.End),
			Revision: d.Revision, ClosedAt: instant(d.ClosedAt), TotalPlays: d.TotalPlays,
		}
	}
	w.Header().Set("Cache-Control", "max-age=60")
	writeJSON(w, "application/json", http.StatusOK, told)
	return nil
}

var (
	chartsExample = answer.Charts{
		Items: []answer.ChartName{
			{Dim: "region:IN", Dimension: "region", Value: "IN"}, {Dim: "region:IN/Mumbai", Dimension: "region", Value: "IN/Mumbai"},
		},
		NextCursor: encodeChartsCursor("region:IN/Mumbai"),
	}
	datesExample = answer.ClosedDates{
		Dim: "region:IN", Period: "week",
		Dates: []answer.ClosedDate{{
			Date: "2025-11-14", WindowStart: "2025-11-14T00:00:00.000Z", WindowEnd: "2025-11-21T00:00:00.000Z",
			Revision: 1, ClosedAt: "2025-11-21T00:10:03.201Z", TotalPlays: 81_204,
		}},
	}
)

func (d describer) chartList() {
	charts := d.answer("A page of them", d.schema(reflect.TypeFor[answer.Charts]()))
	charts.Content["application/json"].Example = chartsExample
	d.document.AddOperation(&huma.Operation{
		OperationID: "list-charts", Method: http.MethodGet, Path: chartsPath, Tags: []string{"Charts"},
		Summary: "Which charts are kept",
		Description: "Of every region, segment and device that was ever played, of every genre of the catalog, and the global one, in the order " +
			"of dim in bytes; of each dimension the first 100,000. New ones appear within about a minute. Playlists, albums and artists are " +
			"not listed: each has a chart, as has every combination.",
		Parameters: chartsParameters,
		Responses:  d.responses(map[int]*huma.Response{http.StatusOK: charts}, http.StatusBadRequest, http.StatusServiceUnavailable),
	})
	dates := d.answer("The dates", d.schema(reflect.TypeFor[answer.ClosedDates]()))
	dates.Content["application/json"].Example = datesExample
	d.document.AddOperation(&huma.Operation{
		OperationID: "list-chart-dates", Method: http.MethodGet, Path: datesPath, Tags: []string{"Charts"},
		Summary:     "Of which days or weeks there is a closed chart",
		Description: "The latest first, with the latest revision of each.",
		Parameters:  datesParameters,
		Responses:   d.responses(map[int]*huma.Response{http.StatusOK: dates}, http.StatusBadRequest, http.StatusServiceUnavailable),
	})
}
