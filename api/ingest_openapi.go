package api

import (
	"net/http"
	"reflect"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
)

// Describe adds the ingest calls to the OpenAPI document. Their handlers are
// not huma's, which would read and validate bodies in its own way.
func (in *Ingest) Describe(doc *huma.OpenAPI) {
	schemas := doc.Components.Schemas
	schemas.Map()["PlayEvent"] = in.playEventSchema()
	playEvent := &huma.Schema{Ref: "#/components/schemas/PlayEvent"}
	headers := ingestHeaders()

	doc.AddOperation(&huma.Operation{
		OperationID: "send-play",
		Method:      http.MethodPost,
		Path:        ingestPlayPath,
		Tags:        []string{"Events"},
		Summary:     "Send one play",
		Description: "Answers once Kafka has the play on all in-sync replicas. After a 503, or no answer at all, " +
			"send it again with the same eventId: it is counted once.",
		Parameters: headers,
		RequestBody: &huma.RequestBody{
			Required: true,
			Content:  map[string]*huma.MediaType{ingestJSON: {Schema: playEvent, Example: ingestPlayExample("e-1")}},
		},
		Responses: in.responses(schemas, &huma.Response{
			Description: "Kafka has the play",
			Content: map[string]*huma.MediaType{ingestJSON: {
				Schema:  schemas.Schema(reflect.TypeFor[PlayAccepted](), true, ""),
				Example: PlayAccepted{EventID: "e-1"},
			}},
		}),
	})

	doc.AddOperation(&huma.Operation{
		OperationID: "send-plays",
		Method:      http.MethodPost,
		Path:        ingestPlaysPath,
		Tags:        []string{"Events"},
		Summary:     "Send many plays",
		Description: "A JSON array, or newline-delimited JSON (blank lines are ignored). A play that breaks a rule is named in " +
			"the answer and does not spoil the others. After a 503, or no answer at all, send the whole batch again with the " +
			"same eventIds: no play is counted twice.",
		Parameters:  headers,
		RequestBody: &huma.RequestBody{Required: true, Content: in.batchContent(playEvent)},
		Responses: in.responses(schemas, &huma.Response{
			Description: "The body could be read, and Kafka has the accepted plays",
			Content: map[string]*huma.MediaType{ingestJSON: {
				Schema: schemas.Schema(reflect.TypeFor[PlaysAccepted](), true, ""),
				Example: PlaysAccepted{Accepted: 1, Rejected: []RejectedPlay{{
					Index: 1, EventID: "e-2", Errors: []*huma.ErrorDetail{{Message: "is required", Location: "body[1].songId"}},
				}}},
			}},
		}),
	})
}

func (in *Ingest) batchContent(playEvent *huma.Schema) map[string]*huma.MediaType {
	content := map[string]*huma.MediaType{ingestJSON: {
		Schema:  &huma.Schema{Type: huma.TypeArray, Items: playEvent, MaxItems: &in.limits.MaxBatchPlays},
		Example: []any{ingestPlayExample("e-1"), ingestPlayExample("e-2")},
	}}
	for _, lines := range ingestBatchTypes[1:] {
		content[lines] = &huma.MediaType{Schema: &huma.Schema{
			Type:        huma.TypeString,
			Description: "One PlayEvent in each line",
		}}
	}
	return content
}

// playEventSchema says the rules of design section 2, as far as JSON Schema can.
func (in *Ingest) playEventSchema() *huma.Schema {
	text := func(description string, maxLength int) *huma.Schema {
		one := 1
		return &huma.Schema{Type: huma.TypeString, Description: description, MinLength: &one, MaxLength: &maxLength}
	}
	pattern := func(description, pattern string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Description: description, Pattern: pattern}
	}
	optional := func(s *huma.Schema) *huma.Schema { s.Nullable = true; return s }
	zero, longest := 0.0, float64(topk.MaxDuration)
	s := &huma.Schema{
		Type:        huma.TypeObject,
		Description: "One listen to one song by one user. Unknown fields are ignored, null means absent.",
		Required:    []string{"eventId", "userId", "songId", "artistId", "timestamp"},
		Properties: map[string]*huma.Schema{
			"eventId": pattern("The idempotency key: repeats within 48 hours count once. A UUID is recommended.", `^[A-Za-z0-9_.:-]{1,64}$`),
			"userId":  text("At most 128 bytes. It is hashed before it is kept anywhere.", topk.MaxUserID),
			"songId":  text("At most 64 bytes, no control characters", topk.MaxSongID),
			"artistId": text("At most 64 bytes, no control characters. Charts take the artist from the song catalog.",
				topk.MaxArtistID),
			"timestamp": {
				Description: "When the song was played: epoch milliseconds (integers below 10^11 are seconds) or RFC 3339. " +
					"At most " + in.rules.MaxAhead.String() + " ahead of the server's clock and " + in.rules.MaxAge.String() + " old.",
				OneOf: []*huma.Schema{
					{Type: huma.TypeInteger, Format: "int64"},
					{Type: huma.TypeString, Format: "date-time"},
				},
			},
			"region":     optional(pattern("ISO 3166-1 alpha-2 country, optionally with a city of at most 64 bytes", `^[A-Z]{2}(/.{1,64})?$`)),
			"deviceType": optional(pattern("A short lower-case word", `^[a-z][a-z0-9_-]{0,31}$`)),
			"context": optional(pattern("Where it was played from: playlist:ID, album:ID or another kind:ID, of at most 128 bytes; "+
				"/ is accepted for the first :", `^[a-z][a-z0-9_-]{0,31}[:/].{1,128}$`)),
			"duration": optional(&huma.Schema{
				Type: huma.TypeInteger, Minimum: &zero, Maximum: &longest,
				Description: "Whole seconds listened. A deployment may not count short plays.",
			}),
		},
		AdditionalProperties: true,
		Examples:             []any{ingestPlayExample("0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11")},
	}
	s.PrecomputeMessages()
	return s
}

func ingestPlayExample(eventID string) map[string]any {
	return map[string]any{
		"eventId": eventID, "userId": "u123", "songId": "s456", "artistId": "a789", "timestamp": 1764000000000,
		"region": "IN/Mumbai", "deviceType": "mobile", "context": "playlist:37i9dQ", "duration": 213,
	}
}

func ingestHeaders() []*huma.Param {
	return []*huma.Param{
		{
			Name: "Content-Encoding", In: "header", Description: "How the body is compressed",
			Schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"gzip", "zstd", "identity"}},
		},
		{
			Name: "traceparent", In: "header", Description: "W3C trace context; it is kept with the plays",
			Schema: &huma.Schema{Type: huma.TypeString},
		},
	}
}

// responses are the accepted one and every problem, those of the server in
// front of ingest included.
func (in *Ingest) responses(schemas huma.Registry, accepted *huma.Response) map[string]*huma.Response {
	model := schemas.Schema(reflect.TypeFor[huma.ErrorModel](), true, "")
	responses := map[string]*huma.Response{strconv.Itoa(http.StatusAccepted): accepted}
	for status, description := range map[int]string{
		http.StatusBadRequest:            "The body could not be read, or the play breaks the rules of its fields, all of which are named",
		http.StatusUnauthorized:          "No valid key or token",
		http.StatusForbidden:             "The key or token may not send plays",
		http.StatusMethodNotAllowed:      "Not a POST",
		http.StatusRequestTimeout:        "The body did not arrive in time",
		http.StatusRequestEntityTooLarge: "The body is too long, or has too many plays",
		http.StatusUnsupportedMediaType:  "The Content-Type or Content-Encoding is not one of those allowed",
		http.StatusTooManyRequests:       "The key's rate limit is reached",
		http.StatusServiceUnavailable:    "Kafka did not acknowledge in time, or the gateway is full; send the same again",
	} {
		response := &huma.Response{
			Description: description,
			Content: map[string]*huma.MediaType{"application/problem+json": {
				Schema:  model,
				Example: huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: description},
			}},
		}
		if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
			response.Headers = map[string]*huma.Param{"Retry-After": {
				Description: "Seconds to wait", Schema: &huma.Schema{Type: huma.TypeInteger},
			}}
		}
		responses[strconv.Itoa(status)] = response
	}
	return responses
}
