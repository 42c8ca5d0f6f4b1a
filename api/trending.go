package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const trendingPath = "/v1/trending"

var trendParameters = []*huma.Param{
	documented(topParameters, "dim"),
	{
		Name: "window", In: inQuery, Description: "The last hour, 24 hours or 7 days, from a whole minute to now",
		Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"24h", "1h", "7d"}, Default: topk.Last24h.String()},
	},
	documented(topParameters, "k"),
	{
		Name: "overindex", In: inQuery,
		Description: "global compares with everyone's plays in the same window, instead of with the time before: dim must then have a " +
			"region, segment, device, playlist or album, which is left out of the reference; its genres and artists stay.",
		Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{string(topk.Everywhere)}},
	},
}

// A trendAPI answers GET /v1/trending.
type trendAPI struct {
	queries     Queries
	catalog     *catalog
	clock       topk.Clock
	calendar    topk.Calendar
	log         *slog.Logger
	comparisons *memory[topk.Comparison]
}

func newTrendAPI(cfg Config, gate *gate, catalog *catalog, sources *prometheus.CounterVec) (*trendAPI, error) {
	comparisons, err := newMemory("trending", sources, gate, cfg, cfg.Limits.TrendFor, func(c topk.Comparison) int {
		return len(c.Items) * int(reflect.TypeFor[topk.Rise]().Size()+16)
	})
	if err != nil {
		return nil, err
	}
	return &trendAPI{
		queries: cfg.Queries, catalog: catalog, clock: cfg.Clock, calendar: cfg.Calendar, log: cfg.Log, comparisons: comparisons,
	}, nil
}

// trending answers GET /v1/trending.
func (a *trendAPI) trending(w http.ResponseWriter, r *http.Request) error {
	asked, err := a.parse(r.URL.RawQuery)
	if err != nil {
		return err
	}
	k := asked.K
	// How many songs it gives hardly changes what a comparison costs: who wants
	// 10 shares with who wants 50.
	if asked.K = topk.SnapshotSize; k > asked.K {
		asked.K = topk.MaxK
	}
	key := strings.Join([]string{asked.Filter.String(), asked.Window.String(), string(asked.Reference), strconv.Itoa(asked.K)}, " ")
	found, stale, err := a.comparisons.get(r.Context(), key, func(ctx context.Context) (topk.Comparison, error) {
		asked.Now = a.clock()
		return a.queries.Compare(ctx, asked)
	})
	if err != nil {
		return fmt.Errorf("trending %s: %w", key, err)
	}
	told := a.answer(r.Context(), found, asked.Reference, k, stale)
	w.Header().Set("Cache-Control", "max-age=5")
	if stale {
		w.Header().Set("Cache-Control", "no-store")
	}
	writeJSON(w, "application/json", http.StatusOK, told)
	return nil
}

func (a *trendAPI) parse(rawQuery string) (topk.ComparisonQuery, error) {
	q := parseQuery(rawQuery, trendParameters)
	asked := topk.ComparisonQuery{Filter: q.filter(), Reference: topk.Baseline, K: q.number("k", defaultK, topk.MaxK)}
	name := q.choice("window", topk.Last24h.String(), topk.LastHour.String(), topk.Last7d.String())
	if q.given("overindex") {
		asked.Reference = topk.Reference(q.choice("overindex", string(topk.Everywhere)))
	}
	if len(q.problems) == 0 {
		var err error
		if asked.Window, err = topk.ParseWindow(name); err != nil {
			q.refuse("window", err)
		} else if _, _, err := asked.Sides(a.calendar); err != nil {
			q.refuse("overindex", err)
		}
	}
	if len(q.problems) > 0 {
		return asked, badParameters(q.problems)
	}
	return asked, nil
}

// answer puts the first k songs of a comparison and their metadata together.
func (a *trendAPI) answer(ctx context.Context, found topk.Comparison, reference topk.Reference, k int, stale bool) answer.Trend {
	rises := found.Items[:min(k, len(found.Items))]
	ids := make([]string, len(rises))
	for i, rise := range rises {
		ids[i] = rise.SongID
	}
	songs, err := a.catalog.find(ctx, ids)
	if err != nil {
		// Songs without titles are better than none.
		a.log.DebugContext(ctx, "songs without metadata", "trending", found.Filter, "error", err)
	}
	items := make([]answer.TrendItem, len(rises))
	for i, rise := range rises {
		items[i] = answer.TrendItem{
			Rank: rise.Rank, SongID: rise.SongID, Score: rise.Score, Plays: rise.Plays, Expected: rise.Expected, ReferencePlays: rise.ReferencePlays,
		}
		if song, known := songs[rise.SongID]; known {
			items[i].Metadata = newMetadata(song)
		}
	}
	return answer.Trend{
		Dim: found.Filter.String(), Window: found.Window.String(), Reference: string(reference), AsOf: instant(found.AsOf),
		WindowStart: instant(found.Span.Start), WindowEnd: instant(found.Span.End), Stale: stale,
		ReferenceDim: found.ReferenceFilter.String(), ReferenceStart: instant(found.ReferenceSpan.Start), ReferenceEnd: instant(found.ReferenceSpan.End),
		TotalPlays: found.TotalPlays, ReferencePlays: found.ReferencePlays, Items: items,
	}
}

var trendExample = answer.Trend{
	Dim: "region:IN", Window: "24h", Reference: string(topk.Baseline), AsOf: "2025-11-24T16:00:00.000Z",
	WindowStart: "2025-11-23T16:00:00.000Z", WindowEnd: "2025-11-24T16:00:00.001Z",
	ReferenceDim: "region:IN", ReferenceStart: "2025-11-16T16:00:00.000Z", ReferenceEnd: "2025-11-23T16:00:00.000Z",
	TotalPlays: 1000, ReferencePlays: 7000,
	Items: []answer.TrendItem{{
		Rank: 1, SongID: "s456", Score: 14, Plays: 50, Expected: 8, ReferencePlays: 56,
		Metadata: &answer.Metadata{Title: "Kesariya", Artist: "Arijit Singh", ArtistID: "a789", Genres: []string{"pop"}, DurationMS: 268_000},
	}},
}

func (d describer) trending() {
	found := d.answer("The songs", d.schema(reflect.TypeFor[answer.Trend]()))
	found.Content["application/json"].Example = trendExample
	found.Headers = map[string]*huma.Param{"Cache-Control": textHeader("How long the answer may be given again")}
	d.nullableMetadata("TrendItem")
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-trending", Method: http.MethodGet, Path: trendingPath, Tags: []string{"Charts"},
		Summary: "The songs that are played more than they were, or more than elsewhere",
		Description: "A song's expected plays are its share of the reference's plays, times all plays in the window. The reference is the " +
			"same dim over the time right before the window: 24 hours before 1h, 7 days before 24h, 28 days before 7d; or, with " +
			"overindex=global, everyone's plays in the same window. The score is (plays - expected) / sqrt(expected + 1): by how many " +
			"standard deviations of chance the plays exceed what was to be expected. Songs without plays in the window have none. The " +
			"order is by score, and of equal ones by songId, both descending. All counts are exact for asOf.",
		Parameters: trendParameters,
		Responses:  d.responses(map[int]*huma.Response{http.StatusOK: found}, http.StatusBadRequest, http.StatusServiceUnavailable),
	})
}
