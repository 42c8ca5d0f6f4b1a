package api

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

// topParameters are both the document of GET /v1/top and what its strict parser
// takes.
var topParameters = []*huma.Param{
	dimParameter,
	{
		Name: "window", In: inQuery,
		Description: "The last hour, 24 hours, 7 or 30 days, from a whole minute to now; everything; or today or this week so far, in UTC. Not with from, to and period.",
		Schema: &huma.Schema{
			Type: huma.TypeString, Enum: []any{"1h", "24h", "7d", "30d", "all", "today", "this-week"}, Default: topk.Last24h.String(),
		},
		Example: "7d",
	},
	{
		Name: "from", In: inQuery,
		Description: "The first instant that counts: integer epoch milliseconds or RFC 3339. With to, instead of window.",
		Schema:      &huma.Schema{Type: huma.TypeString},
		Examples:    map[string]*huma.Example{"ms": {Value: "1763942400000"}, "rfc3339": {Value: "2025-11-24T00:00:00Z"}},
	},
	{
		Name: "to", In: inQuery,
		Description: "The first instant that does not count any more: integer epoch milliseconds or RFC 3339. With from.",
		Schema:      &huma.Schema{Type: huma.TypeString},
		Examples:    map[string]*huma.Example{"ms": {Value: "1764028800000"}, "rfc3339": {Value: "2025-11-25T00:00:00Z"}},
	},
	{
		Name: "period", In: inQuery,
		Description: "The closed chart of a day or week that is over, with each song's movement, peak and streak. Instead of window. " +
			"It is as it was written down after the end of the period (source closed); where that was not done, or when more than " +
			"200 places are asked for, it is computed, with movement only. One that is not over yet is a 404 that says what to ask for instead.",
		Schema:  &huma.Schema{Type: huma.TypeString, Enum: []any{"day", "week"}},
		Example: "week",
	},
	{
		Name: "date", In: inQuery,
		Description: "With period: any day of it, in UTC; the answer names its first day. Otherwise it is the latest period that is over.",
		Schema:      &huma.Schema{Type: huma.TypeString, Format: "date"},
		Example:     "2025-11-21",
	},
	{
		Name: "revision", In: inQuery,
		Description: "With period and date: the chart as it was written down the first time, the second time, …; otherwise as it was " +
			"the last time. A chart is written again when late plays or corrections change it.",
		Schema:  &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.0), Maximum: pointer(float64(maxRevision))},
		Example: 1,
	},
	{
		Name: "k", In: inQuery, Description: "How many places of the chart, or of this page of it",
		Schema:  &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.0), Maximum: pointer(float64(topk.MaxK)), Default: defaultK},
		Example: 50,
	},
	{
		Name: "cursor", In: inQuery,
		Description: "The nextCursor of the page before: gives the places that follow, of the very span of time that the first page " +
			"counted. dim, the window or period, revision and rankBy must stay as they were; k and format may change. Each page is exact " +
			"for its asOf; a song that is played between two pages may move across the border between them.",
		Schema:  &huma.Schema{Type: huma.TypeString, MinLength: pointer(1), MaxLength: pointer(maxCursor)},
		Example: cursorExample,
	},
	{
		Name: "rankBy", In: inQuery,
		Description: "What the score counts: plays, or different listeners. Listeners are counted exactly, for each request.",
		Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{byPlays, byListeners}, Default: byPlays},
		Example:     byListeners,
	},
	{
		Name: "mode", In: inQuery,
		Description: "approx gives estimates, each with its error, for less work over long windows. Not with period, cursor, compare and rankBy=listeners.",
		Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{"exact", "approx"}, Default: "exact"},
		Example:     "approx",
	},
	{
		Name: "compare", In: inQuery,
		Description: "With from and to: gives previousRank and movement against the window of the same length right before. " +
			"Other windows and periods have them unasked.",
		Schema:  &huma.Schema{Type: huma.TypeString, Enum: []any{"previous"}},
		Example: "previous",
	},
	{
		Name: "format", In: inQuery,
		Description: "How the chart is written; it goes before the Accept header.",
		Schema:      &huma.Schema{Type: huma.TypeString, Enum: []any{jsonFormat.name, csvFormat.name, ndjsonFormat.name}},
		Example:     "csv",
	},
	{
		Name: "If-None-Match", In: inHeader, Description: "The ETag of the chart that the client has",
		Schema: &huma.Schema{Type: huma.TypeString},
	},
}

// cursorExample is of the chart that is given when nothing is asked for.
const cursorExample = "AY3bplPsdXEJAAABmrFxjAAAAAGatpfoASoKAHM0NTY"

var dimParameter = &huma.Param{
	Name: "dim", In: inQuery,
	Description: "Which plays count: global, region:IN, region:IN/Mumbai, genre:pop, segment:premium, playlist:ID, album:ID, " +
		"artist:ID, device:mobile, or several joined by commas, all of which must hold. Within a value a comma is written %2C and " +
		"a percent sign %25, each of which is then escaped once more as part of the URL.",
	Schema:  &huma.Schema{Type: huma.TypeString, Default: string(topk.DimGlobal), MaxLength: pointer(topk.MaxFilterBytes)},
	Example: "region:IN",
}

// charts describes GET /v1/top.
func (d describer) charts() {
	chart := d.answer("The chart", d.schema(reflect.TypeFor[answer.Chart]()))
	d.schema(reflect.TypeFor[answer.Row]()) // which the description of the lines names
	d.nullableMetadata("Item")
	d.nullableMetadata("Row")
	chart.Content[csvFormat.mediaType] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeString, Description: "A header, and a line for each item. Cells are not changed to keep spreadsheets from " +
			"taking one for a formula: import them as text. What is not known is empty, and genres are joined by |."},
		Example: csvExample,
	}
	chart.Content[ndjsonFormat.mediaType] = &huma.MediaType{
		Schema: &huma.Schema{Type: huma.TypeString, Description: "A Row in each line, for each item"},
	}
	lifetime := textHeader("How long the answer may be given again: max-age=1, stale-while-revalidate=5 for snapshots; a year, immutable, for " +
		"closed charts of a date and revision; max-age=60 for the latest revision, and for what is computed over a window that ended 8 days ago; no-store else")
	chart.Headers = map[string]*huma.Param{
		"ETag":          textHeader("The version of the snapshot or closed chart; absent when the chart is neither"),
		"Cache-Control": lifetime,
		"Link":          textHeader("Of CSV and NDJSON: where the places that follow are, as rel=\"next\"; absent when the chart ends here"),
		"Vary":          textHeader("Accept, unless format is given"),
	}
	unchanged := &huma.Response{
		Description: "The client has this version already",
		Headers:     map[string]*huma.Param{"ETag": textHeader("The version of the snapshot or closed chart"), "Cache-Control": lifetime},
	}
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-top", Method: http.MethodGet, Path: topPath, Tags: []string{"Charts"},
		Summary: "The most played songs",
		Description: "Exact for its asOf. A chart that nobody ever played is an empty one. The order is by plays, and of equal " +
			"plays by songId, both descending.",
		Parameters: topParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: chart, http.StatusNotModified: unchanged},
			http.StatusBadRequest, http.StatusNotFound, http.StatusNotAcceptable, http.StatusServiceUnavailable),
	})
}

const csvExample = "rank,songId,score,error,previousRank,movement,peakRank,peakDate,periodsOnChart,streak," +
	"title,artist,artistId,genres,durationMs,dim,window,asOf,windowStart,windowEnd,source,stale\n" +
	"1,s456,42,,2,up,,,,,Kesariya,Arijit Singh,a789,pop|bollywood,268000,region:IN,24h," +
	"2025-11-24T16:00:00.000Z,2025-11-23T16:00:00.000Z,2025-11-24T16:00:00.001Z,snapshot,false\n"
