package api

import (
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
)

// eventParameters are both the document of GET /v1/events/{eventId} and what its
// strict parser takes.
var eventParameters = []*huma.Param{
	{
		Name: "eventId", In: inPath, Required: true, Description: "The play's idempotency key",
		Schema:  &huma.Schema{Type: huma.TypeString, Pattern: `^[A-Za-z0-9_.:-]{1,64}$`},
		Example: eventExample.EventID,
	},
	{
		Name: "day", In: inQuery,
		Description: "Search also the plays that came in on this day, in UTC, of the last 90 days. It reads all event ids of the day, " +
			"which takes about a second for ten million.",
		Schema:  &huma.Schema{Type: huma.TypeString, Format: "date"},
		Example: "2025-11-20",
	},
}

// rejectedParameters are those of GET /v1/admin/rejected.
var rejectedParameters = []*huma.Param{
	{
		Name: "from", In: inQuery, Description: "Rejected at this instant or later: integer epoch milliseconds or RFC 3339",
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "2025-11-24T00:00:00Z",
	},
	{
		Name: "to", In: inQuery, Description: "Rejected before this instant: integer epoch milliseconds or RFC 3339",
		Schema: &huma.Schema{Type: huma.TypeString}, Example: "2025-11-25T00:00:00Z",
	},
	{
		Name: "reason", In: inQuery, Description: "Part of the reason, in upper or lower case",
		Schema: &huma.Schema{Type: huma.TypeString, MinLength: pointer(1), MaxLength: pointer(maxReasonFilter)}, Example: "region",
	},
	{
		Name: "partition", In: inQuery, Description: "Of the topic",
		Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(0.0), Maximum: pointer(65535.0)}, Example: 3,
	},
	{
		Name: "eventId", In: inQuery, Description: "Messages of one event",
		Schema: &huma.Schema{Type: huma.TypeString, Pattern: `^[A-Za-z0-9_.:-]{1,64}$`}, Example: eventExample.EventID,
	},
	{
		Name: "replayed", In: inQuery, Description: "Whether it was sent again, corrected; both when absent",
		Schema: &huma.Schema{Type: huma.TypeBoolean}, Example: false,
	},
	{
		Name: "limit", In: inQuery, Description: "How many at most. A page of long messages ends earlier.",
		Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.0), Maximum: pointer(float64(maxRejected)), Default: defaultRejected},
	},
	{
		Name: "cursor", In: inQuery, Description: "That of the page before, whose other parameters must be the same",
		Schema: &huma.Schema{Type: huma.TypeString},
	},
}

// jobsParameters are those of GET /v1/admin/jobs, jobParameters of POST
// /v1/admin/jobs/{name}.
var (
	jobsParameters = []*huma.Param{{
		Name: "runs", In: inQuery, Description: "How many of the last runs of each job",
		Schema: &huma.Schema{Type: huma.TypeInteger, Minimum: pointer(1.0), Maximum: pointer(float64(MaxJobRuns)), Default: defaultJobRuns},
	}}
	jobParameters = []*huma.Param{{
		Name: "name", In: inPath, Required: true, Description: "Of a job that has a schedule",
		Schema:  &huma.Schema{Type: huma.TypeString, MinLength: pointer(1), MaxLength: pointer(maxJobName)},
		Example: "reconcile",
	}}
)

var (
	eventExample = EventAnswer{
		EventID: "0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11", State: string(topk.EventCounted),
		EventPlace: EventPlace{Topic: "plays", Partition: 3, Offset: 1234567, At: "2025-11-24T16:00:00.123Z"},
		Play: &EventPlay{
			SongID: "s456", ArtistID: "a789", Timestamp: "2025-11-24T16:00:00.000Z", Region: "IN/Mumbai", DeviceType: "mobile",
			Context: "playlist:37i9dQ", Duration: pointer(213), Segments: []string{"premium"}, Counted: true,
		},
		Repeats:    []EventPlace{{Topic: "plays", Partition: 5, Offset: 1200411, At: "2025-11-24T16:00:07.510Z"}},
		Rejections: []EventRejection{},
	}
	rejectedExample = RejectedAnswer{
		Items: []RejectedMessage{{
			Topic: "plays", Partition: 3, Offset: 1234567, RejectedAt: "2025-11-24T16:00:00.123Z", ProducedAt: "2025-11-24T15:59:59.801Z",
			EventID: "e-1", Reason: "region must be an ISO 3166-1 alpha-2 country, optionally with /city",
			Raw: `{"eventId":"e-1","userId":"0c51…","songId":"s456","artistId":"a789","timestamp":1764000000000,"region":"India"}`,
		}},
		Cursor:  "AAABmrb0yHsAAAADAAAAAAAS1oc",
		Reasons: []RejectedReason{{Reason: "region must be an ISO 3166-1 alpha-2 country, optionally with /city", Messages: 1204}},
	}
	jobsExample = JobsAnswer{Items: []JobAnswer{{
		Name: "close", Schedule: "TZ=Europe/Berlin 30 4 * * *", Next: "2025-11-25T03:30:00.000Z",
		Runs: []JobRun{{
			ID: "019ac1b2-7e30-7c1a-9d7e-4f1b0a2c3d4e", Job: "close", State: string(topk.JobSucceeded), Trigger: string(topk.BySchedule),
			Host: "loader-1", AskedAt: "2025-11-24T03:30:00.000Z", StartedAt: "2025-11-24T03:30:04.120Z", EndedAt: "2025-11-24T03:31:10.480Z",
			Seconds: 66.36, Rows: 1204, Detail: "1 dates counted: 1204 charts closed, 0 revised",
		}},
	}}}
)

func (d describer) events() {
	found := d.answer("What has become of it", d.schema(reflect.TypeFor[EventAnswer]()))
	found.Content["application/json"].Example = eventExample
	d.document.AddOperation(&huma.Operation{
		OperationID: "get-event", Method: http.MethodGet, Path: eventPath, Tags: []string{"Events"},
		Summary: "Where one event is",
		Description: "Looks at the plays that came in during the last 48 hours (or on the day), at what was rejected or repeated in the " +
			"last 14 days, and at what Kafka has that ClickHouse has not read yet. An event that was answered with 202 is found at every " +
			"moment from then on. 404 says where it was looked for; 503, that it may be where it could not be looked for now.",
		Parameters: eventParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: found},
			http.StatusBadRequest, http.StatusNotFound, http.StatusServiceUnavailable),
	})
}

func (d describer) rejected() {
	page := d.answer("A page of them", d.schema(reflect.TypeFor[RejectedAnswer]()))
	page.Content["application/json"].Example = rejectedExample
	d.document.AddOperation(&huma.Operation{
		OperationID: "list-rejected", Method: http.MethodGet, Path: rejectedPath, Tags: []string{"Operations"},
		Summary: "The messages that could not be counted",
		Description: "Of the last 14 days, newest first, with the reason and the bytes. Messages of other producers may hold user ids in " +
			"the clear. topk load rejected corrects them and sends them again.",
		Parameters: rejectedParameters,
		Responses:  d.responses(map[int]*huma.Response{http.StatusOK: page}, http.StatusBadRequest, http.StatusServiceUnavailable),
	})
}

func (d describer) jobs() {
	all := d.answer("Every job", d.schema(reflect.TypeFor[JobsAnswer]()))
	all.Content["application/json"].Example = jobsExample
	d.document.AddOperation(&huma.Operation{
		OperationID: "list-jobs", Method: http.MethodGet, Path: jobsPath, Tags: []string{"Operations"},
		Summary: "The scheduled jobs and their last runs",
		Description: "Runs are kept for 400 days. Jobs that look for work every few seconds have runs here only when they did something, " +
			"or began to fail.",
		Parameters: jobsParameters,
		Responses:  d.responses(map[int]*huma.Response{http.StatusOK: all}, http.StatusBadRequest, http.StatusServiceUnavailable),
	})
	d.document.AddOperation(&huma.Operation{
		OperationID: "run-job", Method: http.MethodPost, Path: jobPath, Tags: []string{"Operations"},
		Summary: "Run a job now",
		Description: "One of the processes that run jobs takes it within seconds, and runs it once; its run has the id that is answered. " +
			"409 when the job is running or asked for already: asking twice does not run it twice. A request that no process takes " +
			"within an hour lapses.",
		Parameters: jobParameters,
		Responses: d.responses(map[int]*huma.Response{
			http.StatusAccepted: d.answer("It is asked for", d.schema(reflect.TypeFor[JobRun]())),
		}, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable),
	})
}
