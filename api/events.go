package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
)

const eventPath = "/v1/events/{eventId}"

// Events finds out what has become of an event; *events.Finder does.
type Events interface {
	// Find looks in the plays of the last 48 hours and, when it is given, of a
	// day; in the rejects and repeats of the last 14 days; and in what ClickHouse
	// has not read yet. What it could not look at are Gaps of the trace.
	Find(ctx context.Context, eventID string, day *time.Time) (topk.EventTrace, error)
}

// An eventAPI answers GET /v1/events/{eventId}.
type eventAPI struct {
	events Events
	gate   *gate
}

// EventAnswer is where one event is.
type EventAnswer struct {
	EventID string `json:"eventId" example:"0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11"`
	State   string `json:"state" enum:"accepted,counted,stored,rejected" doc:"accepted: Kafka has it, and ClickHouse has not read it yet. counted: in the charts. stored: in the log, but too short to count. rejected: it breaks a rule" example:"counted"`
	EventPlace
	Play         *EventPlay       `json:"play,omitempty" doc:"When it is counted or stored"`
	Repeats      []EventPlace     `json:"repeats" nullable:"false" doc:"Further messages of the event. None of them counts: they are duplicates of the position above"`
	CountedAgain []EventPlace     `json:"countedAgain,omitempty" doc:"Messages that came more than 48 hours later and so counted again"`
	Rejections   []EventRejection `json:"rejections" nullable:"false" doc:"Messages of the event that were rejected in the last 14 days, newest first"`
	Unread       []EventPlace     `json:"unread,omitempty" doc:"Messages that ClickHouse has not read yet. They are not looked for once the event is in the log"`
	Incomplete   []string         `json:"incomplete,omitempty" doc:"What could not be looked at, so that what is missing here may be there" example:"[\"ClickHouse does not answer, so it cannot be said whether the event was counted or rejected before\"]"`
}

// EventPlace is where one message is.
type EventPlace struct {
	Topic     string `json:"topic" example:"plays"`
	Partition int32  `json:"partition" minimum:"0" example:"3"`
	Offset    uint64 `json:"offset" minimum:"0" example:"1234567"`
	At        string `json:"at" format:"date-time" doc:"When ClickHouse read it; when Kafka took it, while ClickHouse has not read it" example:"2025-11-24T16:00:00.123Z"`
}

func newEventPlace(a topk.Arrival) EventPlace {
	return EventPlace{Topic: a.Topic, Partition: a.Partition(), Offset: a.Offset, At: instant(a.At)}
}

func newEventPlaces(arrivals []topk.Arrival) []EventPlace {
	places := make([]EventPlace, len(arrivals))
	for i, a := range arrivals {
		places[i] = newEventPlace(a)
	}
	return places
}

// EventPlay is the play as the log has it. Whose it was is not told.
type EventPlay struct {
	SongID     string   `json:"songId" example:"s456"`
	ArtistID   string   `json:"artistId" example:"a789"`
	Timestamp  string   `json:"timestamp" format:"date-time" example:"2025-11-24T16:00:00.000Z"`
	Region     string   `json:"region,omitempty" example:"IN/Mumbai"`
	DeviceType string   `json:"deviceType,omitempty" example:"mobile"`
	Context    string   `json:"context,omitempty" example:"playlist:37i9dQ"`
	Duration   *int     `json:"duration,omitempty" doc:"Seconds listened" example:"213"`
	Segments   []string `json:"segments" nullable:"false" doc:"The user's when the play came in" example:"[\"premium\"]"`
	Counted    bool     `json:"counted" doc:"False for a play that was too short"`
}

func newEventPlay(p *topk.StoredPlay) *EventPlay {
	if p == nil {
		return nil
	}
	return &EventPlay{
		SongID: p.SongID, ArtistID: p.ArtistID, Timestamp: instant(p.Timestamp), Region: p.Region.String(),
		DeviceType: p.Device, Context: p.Context.String(), Duration: p.Duration,
		Segments: append([]string{}, p.Segments...), Counted: p.Counted,
	}
}

// EventRejection is a message that was not a play.
type EventRejection struct {
	EventPlace
	Reason     string `json:"reason" example:"region must be an ISO 3166-1 alpha-2 country, optionally with /city"`
	ReplayedAt string `json:"replayedAt,omitempty" format:"date-time" doc:"When it was sent again, corrected" example:"2025-11-24T17:00:00.000Z"`
}

func newEventRejection(r topk.Rejected) EventRejection {
	return EventRejection{EventPlace: newEventPlace(r.Arrival), Reason: r.Reason, ReplayedAt: instantOrNone(r.ReplayedAt)}
}

func instantOrNone(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return instant(t)
}

// find answers GET /v1/events/{eventId}.
func (a *eventAPI) find(w http.ResponseWriter, r *http.Request) error {
	id, day, err := parseEventRequest(r)
	if err != nil {
		return err
	}
	var trace topk.EventTrace
	err = a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		trace, err = a.events.Find(ctx, id, day)
		return err
	})
	if err != nil {
		return fmt.Errorf("find event %s: %w", id, err)
	}
	if trace.State == topk.EventUnknown {
		return noEvent(trace, day)
	}
	answer := EventAnswer{
		EventID: trace.EventID, State: string(trace.State), EventPlace: newEventPlace(trace.Where),
		Play: newEventPlay(trace.Play), Repeats: newEventPlaces(trace.Repeats),
		CountedAgain: newEventPlaces(trace.CountedAgain), Rejections: make([]EventRejection, len(trace.Rejections)),
		Unread: newEventPlaces(trace.Unread), Incomplete: trace.Gaps,
	}
	for i, rejected := range trace.Rejections {
		answer.Rejections[i] = newEventRejection(rejected)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, answer)
	return nil
}

func parseEventRequest(r *http.Request) (id string, day *time.Time, err error) {
	q := parseQuery(r.URL.RawQuery, eventParameters)
	id, _ = pathID(r, "eventId", topk.MaxEventID)
	if !topk.IsEventID(id) {
		q.problems = append(q.problems, &huma.ErrorDetail{
			Location: "path.eventId", Message: fmt.Sprintf("must be 1 to %d characters of A-Z a-z 0-9 _ . : -", topk.MaxEventID),
		})
	}
	if text, given := q.values["day"]; given {
		on, err := time.Parse(time.DateOnly, text)
		if err != nil || on.Year() < 1970 || on.Year() > 2148 { // what ClickHouse has dates for
			q.refuse("day", errors.New("must be a day as YYYY-MM-DD"))
		}
		day = &on
	}
	if len(q.problems) > 0 {
		return "", nil, badParameters(q.problems)
	}
	return id, day, nil
}

// noEvent says that an event was not found, and where it was looked for.
func noEvent(t topk.EventTrace, day *time.Time) *problem {
	if len(t.Gaps) > 0 {
		return &problem{
			status:     http.StatusServiceUnavailable,
			detail:     "the event was not found, but may exist: " + strings.Join(t.Gaps, "; "),
			retryAfter: 2 * time.Second,
		}
	}
	var detail strings.Builder
	fmt.Fprintf(&detail, "no event %s is among the plays that came in during the last 48 hours", t.EventID)
	if day != nil {
		fmt.Fprintf(&detail, " or on %s (UTC)", day.Format(time.DateOnly))
	}
	detail.WriteString(", the messages rejected or repeated in the last 14 days, and those that wait to be read")
	if day == nil {
		detail.WriteString("; ?day=YYYY-MM-DD searches the plays that came in on a day of the last 90")
	}
	if t.Orphan != nil {
		fmt.Fprintf(&detail, ". Its id was taken by %s, which is not in the log: it was erased, or the log is being exchanged at this moment", t.Orphan)
	}
	return &problem{status: http.StatusNotFound, detail: detail.String()}
}
