package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const documentPath = "/openapi.json"

const (
	inQuery  = "query"
	inHeader = "header"
	inPath   = "path"
)

var songParameters = []*huma.Param{{
	Name: "songId", In: inPath, Required: true,
	Schema: &huma.Schema{Type: huma.TypeString, MinLength: pointer(1), MaxLength: pointer(topk.MaxSongID)},
}}

func pointer[T any](v T) *T { return &v }

// describe writes the OpenAPI document. The types of the answers are read off
// the Go types that are sent. The handlers are plain ones: reading parameters
// and writing answers by reflection costs a seventh of what serving a ready
// chart does.
func describe(cfg Config) *huma.OpenAPI {
	document := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:       "topk",
			Version:     "1.0.0",
			Description: "Exact Top-K song charts. Errors are RFC 9457 problems; every answer has an X-Request-Id.",
		},
		Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)},
	}
	d := describer{document: document}
	d.charts()
	d.stream()
	d.trending()
	d.songs()
	d.history()
	d.artists()
	d.chartList()
	if cfg.Events != nil {
		d.events()
	}
	if cfg.Rejects != nil {
		d.rejected()
	}
	if cfg.Jobs != nil {
		d.jobs()
	}
	d.operations()
	d.rateLimits()
	if cfg.Ingest != nil {
		cfg.Ingest.Describe(document)
	}
	return document
}

// documentHandler serves the document, which does not change any more.
func documentHandler(document *huma.OpenAPI) (http.HandlerFunc, error) {
	text, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("OpenAPI document: %w", err)
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = w.Write(text) // fails when the client has left
	}, nil
}

// A describer writes the document of this package's own routes.
type describer struct{ document *huma.OpenAPI }

func (d describer) songs() {
	found := d.answer("The song", d.schema(reflect.TypeFor[answer.Song]()))
	d.nullableMetadata("Song")
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-song", Method: http.MethodGet, Path: songPath, Tags: []string{"Songs"},
		Summary:    "One song and how often it was played",
		Parameters: songParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: found},
			http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	})

	song := songSchema()
	d.document.Components.Schemas.Map()["CatalogSong"] = song
	ref := &huma.Schema{Ref: "#/components/schemas/CatalogSong"}
	lines := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "One CatalogSong in each line"}}
	d.document.AddOperation(&huma.Operation{
		OperationID: "upsert-songs", Method: http.MethodPost, Path: songsPath, Tags: []string{"Songs"},
		Summary:     "Add songs to the catalog, or replace them",
		Description: "Either all songs are written or none. Other API nodes show the change within a minute.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{OneOf: []*huma.Schema{
				ref, {Type: huma.TypeArray, Items: ref},
			}}},
			"application/x-ndjson": lines,
		}},
		Responses: d.responses(map[int]*huma.Response{
			http.StatusOK: d.answer("The songs are written", d.schema(reflect.TypeFor[SongsUpserted]())),
		}, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusServiceUnavailable),
	})
}

// noControls is the pattern of text without control characters.
const noControls = `^[^\x00-\x1f\x7f-\x9f]*$`

func songSchema() *huma.Schema {
	text := func(limit int) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, MinLength: pointer(1), MaxLength: pointer(limit), Pattern: noControls}
	}
	s := &huma.Schema{
		Type:        huma.TypeObject,
		Description: "One entry of the catalog. Lengths are in bytes of UTF-8; control characters are not allowed, and unknown fields are ignored.",
		Required:    []string{"songId", "title", "artistId", "artist"},
		Properties: map[string]*huma.Schema{
			"songId":     text(topk.MaxSongID),
			"title":      text(topk.MaxTitle),
			"artistId":   text(topk.MaxArtistID),
			"artist":     text(topk.MaxTitle),
			"genres":     {Type: huma.TypeArray, Items: text(topk.MaxValue), MaxItems: pointer(topk.MaxGenres), Nullable: true},
			"durationMs": {Type: huma.TypeInteger, Minimum: pointer(0.0), Maximum: pointer(float64(1<<32 - 1)), Nullable: true},
		},
		AdditionalProperties: true,
		Examples: []any{topk.Song{
			SongID: "s456", Title: "Kesariya", ArtistID: "a789", Artist: "Arijit Singh", Genres: []string{"pop"}, DurationMS: 268_000,
		}},
	}
	s.PrecomputeMessages()
	return s
}

func (d describer) operations() {
	ok := d.schema(reflect.TypeFor[HealthAnswer]())
	add := func(id, path, summary string, responses map[string]*huma.Response) {
		d.document.AddOperation(&huma.Operation{
			OperationID: id, Method: http.MethodGet, Path: path, Tags: []string{"Operations"}, Summary: summary, Responses: responses,
		})
	}
	add("get-health", healthPath, "Whether the process lives",
		d.responses(map[int]*huma.Response{http.StatusOK: d.answer("It does", ok)}))
	add("get-readiness", readyPath, "Whether the servers behind it answer",
		d.responses(map[int]*huma.Response{http.StatusOK: d.answer("All of them do", ok)}, http.StatusServiceUnavailable))
	add("get-metrics", metricsPath, "Metrics, as Prometheus reads them",
		d.responses(map[int]*huma.Response{http.StatusOK: {
			Description: "The metrics",
			Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}}))
	add("get-openapi", documentPath, "This document",
		d.responses(map[int]*huma.Response{http.StatusOK: {
			Description: "OpenAPI 3.1",
			Content:     map[string]*huma.MediaType{"application/openapi+json": {Schema: &huma.Schema{Type: huma.TypeObject}}},
		}}))
}

func (d describer) schema(t reflect.Type) *huma.Schema {
	return d.document.Components.Schemas.Schema(t, true, t.Name())
}

// nullableMetadata allows null for a song's metadata, which huma does not for
// types of their own.
func (d describer) nullableMetadata(schema string) {
	schemas := d.document.Components.Schemas.Map()
	metadata := *schemas["Metadata"]
	metadata.Nullable = true
	metadata.Description = schemas[schema].Properties["metadata"].Description
	schemas[schema].Properties["metadata"] = &metadata
}

func (d describer) answer(description string, schema *huma.Schema) *huma.Response {
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{"application/json": {Schema: schema}},
	}
}

// responses adds the problems that a call may answer with.
func (d describer) responses(good map[int]*huma.Response, problems ...int) map[string]*huma.Response {
	all := map[string]*huma.Response{}
	for status, response := range good {
		all[strconv.Itoa(status)] = response
	}
	for _, status := range append(problems, http.StatusInternalServerError) {
		response := &huma.Response{
			Description: http.StatusText(status),
			Content: map[string]*huma.MediaType{
				"application/problem+json": {Schema: d.schema(reflect.TypeFor[huma.ErrorModel]())},
			},
		}
		if status == http.StatusServiceUnavailable {
			response.Headers = map[string]*huma.Param{
				"Retry-After": {Description: "Seconds to wait", Schema: &huma.Schema{Type: huma.TypeInteger}},
			}
		}
		all[strconv.Itoa(status)] = response
	}
	return all
}

func textHeader(description string) *huma.Param {
	return &huma.Param{Description: description, Schema: &huma.Schema{Type: huma.TypeString}}
}
