package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const artistPath = "/v1/artists/{artistId}"

var artistParameters = []*huma.Param{
	{
		Name: "artistId", In: inPath, Required: true,
		Schema:  &huma.Schema{Type: huma.TypeString, MinLength: pointer(1), MaxLength: pointer(topk.MaxArtistID)},
		Example: "a789",
	},
	documented(topParameters, "dim"),
	{
		Name: "window", In: inQuery, Description: "That of the top songs, as for the charts",
		Schema: documented(topParameters, "window").Schema,
	},
	{
		Name: "k", In: inQuery, Description: "How many songs",
		Schema: documented(topParameters, "k").Schema,
	},
}

// An artistAPI answers GET /v1/artists/{artistId}.
type artistAPI struct {
	queries Queries
	charts  *chartAPI
	facts   *memory[topk.Artist]
}

func newArtistAPI(cfg Config, gate *gate, charts *chartAPI, sources *prometheus.CounterVec) (*artistAPI, error) {
	facts, err := newMemory("artists", sources, gate, cfg, cfg.Limits.CatalogFor, func(artist topk.Artist) int {
		bytes := len(artist.Name)
		for _, genre := range artist.Genres {
			bytes += len(genre) + 16
		}
		return bytes
	})
	if err != nil {
		return nil, err
	}
	return &artistAPI{queries: cfg.Queries, charts: charts, facts: facts}, nil
}

// artist answers GET /v1/artists/{artistId}. An artist's songs are those that
// the catalog says are, so there are no plays of one that it does not know.
func (a *artistAPI) artist(w http.ResponseWriter, r *http.Request) error {
	q := parseQuery(r.URL.RawQuery, artistParameters)
	id, ok := pathID(r, "artistId", topk.MaxArtistID)
	filter := topk.NewFilter(append(q.filter().Terms(), topk.Term{Dim: topk.DimArtist, Value: id})...)
	if len(filter.Terms()) > topk.MaxFilterTerms {
		q.refuse("dim", fmt.Errorf("must have at most %d terms beside the artist", topk.MaxFilterTerms-1))
	}
	window, k := q.window(), q.number("k", defaultK, topk.MaxK)
	if len(q.problems) > 0 {
		return badParameters(q.problems)
	}
	if !ok {
		return noArtist(id)
	}
	// With the edition, so that what is written to the catalog here shows at once.
	key := strconv.FormatUint(a.charts.catalog.edition.Load(), 10) + " " + id
	facts, _, err := a.facts.get(r.Context(), key, func(ctx context.Context) (topk.Artist, error) { return a.queries.Artist(ctx, id) })
	if errors.Is(err, topk.ErrNotFound) {
		return noArtist(id)
	}
	if err != nil {
		return fmt.Errorf("artist %q: %w", id, err)
	}
	top, err := a.charts.chart(r.Context(), newChartRequest(filter, window, k))
	if err != nil {
		return fmt.Errorf("top songs of artist %q: %w", id, err)
	}
	told := answer.Artist{ArtistID: id, Name: facts.Name, Genres: facts.Genres, Songs: facts.Songs, Top: top}
	if told.Genres == nil {
		told.Genres = []string{}
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, told)
	return nil
}

func noArtist(id string) *problem {
	return &problem{status: http.StatusNotFound, detail: fmt.Sprintf("no song of an artist %q is in the catalog", id)}
}

var artistExample = answer.Artist{
	ArtistID: "a789", Name: "Arijit Singh", Genres: []string{"pop"}, Songs: 312,
	Top: answer.Chart{
		Dim: "artist:a789", Window: "24h", AsOf: "2025-11-24T16:00:00.000Z", WindowStart: "2025-11-23T16:00:00.000Z", WindowEnd: "2025-11-24T16:00:00.001Z",
		Source: fromClickHouse, Mode: "exact", RankBy: "plays", TotalPlays: 1204,
		Items: []answer.Item{{Rank: 1, SongID: "s456", Score: 42, Metadata: metadataExample}},
	},
}

func (d describer) artists() {
	found := d.answer("The artist", d.schema(reflect.TypeFor[answer.Artist]()))
	found.Content["application/json"].Example = artistExample
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-artist", Method: http.MethodGet, Path: artistPath, Tags: []string{"Songs"},
		Summary: "One artist and the artist's top songs",
		Description: "The name is that of the song that was written to the catalog last; genres and the number of songs are those of all of them. " +
			"The top songs are the chart of artist:ID, joined with dim.",
		Parameters: artistParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: found},
			http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	})
}
