package api

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/topk-charts/topk"
)

const rejectedPath = "/v1/admin/rejected"

const (
	defaultRejected = 100
	maxRejected     = 1000
	maxReasonFilter = 200 // bytes
)

// Rejects knows the messages that were rejected; *queries.DB does.
type Rejects interface {
	Rejected(ctx context.Context, f topk.RejectedFilter, after topk.RejectedCursor, limit int) (topk.RejectedPage, error)
	RejectedReasons(ctx context.Context, f topk.RejectedFilter) ([]topk.ReasonCount, error)
}

// A rejectedAPI answers GET /v1/admin/rejected.
type rejectedAPI struct {
	rejects Rejects
	gate    *gate
}

// RejectedAnswer is a page of rejected messages.
type RejectedAnswer struct {
	Items   []RejectedMessage `json:"items" nullable:"false" doc:"Newest first"`
	Cursor  string            `json:"cursor,omitempty" doc:"Gives the next page; absent on the last one" example:"AAABmrb0yHsAAAADAAAAAAAS1oc"`
	Reasons []RejectedReason  `json:"reasons,omitempty" doc:"How many of all that were chosen were rejected for each reason, the most frequent 100 first; on the first page only"`
}

// RejectedMessage is one message that is not a play.
type RejectedMessage struct {
	Topic      string `json:"topic" example:"plays"`
	Partition  int32  `json:"partition" minimum:"0" example:"3"`
	Offset     uint64 `json:"offset" minimum:"0" example:"1234567"`
	RejectedAt string `json:"rejectedAt" format:"date-time" doc:"When ClickHouse read it" example:"2025-11-24T16:00:00.123Z"`
	ProducedAt string `json:"producedAt" format:"date-time" doc:"The time of the message in Kafka" example:"2025-11-24T15:59:59.801Z"`
	EventID    string `json:"eventId,omitempty" doc:"When the message has a valid one" example:"e-1"`
	Reason     string `json:"reason" example:"region must be an ISO 3166-1 alpha-2 country, optionally with /city"`
	Raw        string `json:"raw,omitempty" doc:"The message as it was sent, when it is UTF-8" example:"{\"eventId\":\"e-1\",\"region\":\"nowhere\"}"`
	RawBase64  []byte `json:"rawBase64,omitempty" doc:"The message as it was sent, when it is not"`
	ReplayedAt string `json:"replayedAt,omitempty" format:"date-time" doc:"When it was sent again, corrected" example:"2025-11-24T17:00:00.000Z"`
}

func newRejectedMessage(m topk.Rejected) RejectedMessage {
	out := RejectedMessage{
		Topic: m.Topic, Partition: m.Partition(), Offset: m.Offset, RejectedAt: instant(m.At), ProducedAt: instant(m.ProducedAt),
		EventID: m.EventID, Reason: m.Reason, ReplayedAt: instantOrNone(m.ReplayedAt),
	}
	if utf8.Valid(m.Raw) {
		out.Raw = string(m.Raw)
	} else {
		out.RawBase64 = m.Raw
	}
	return out
}

// RejectedReason is how many messages were rejected for a reason.
type RejectedReason struct {
	Reason   string `json:"reason" example:"userId must be the 64 hex digits of its hash"`
	Messages uint64 `json:"messages" minimum:"0" example:"1204"`
	Replayed uint64 `json:"replayed" minimum:"0" doc:"How many of them were sent again" example:"1200"`
}

// list answers GET /v1/admin/rejected.
func (a *rejectedAPI) list(w http.ResponseWriter, r *http.Request) error {
	filter, after, limit, err := parseRejectedRequest(r.URL.RawQuery)
	if err != nil {
		return err
	}
	var page topk.RejectedPage
	var reasons []topk.ReasonCount
	err = a.gate.pass(r.Context(), func(ctx context.Context) (err error) {
		if after == (topk.RejectedCursor{}) {
			if reasons, err = a.rejects.RejectedReasons(ctx, filter); err != nil {
				return err
			}
		}
		page, err = a.rejects.Rejected(ctx, filter, after, limit)
		return err
	})
	if err != nil {
		return err
	}
	answer := RejectedAnswer{Items: make([]RejectedMessage, len(page.Messages))}
	for i, m := range page.Messages {
		answer.Items[i] = newRejectedMessage(m)
	}
	for _, r := range reasons {
		answer.Reasons = append(answer.Reasons, RejectedReason(r))
	}
	if page.Next != nil {
		answer.Cursor = encodeCursor(*page.Next)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/json", http.StatusOK, answer)
	return nil
}

func parseRejectedRequest(rawQuery string) (f topk.RejectedFilter, after topk.RejectedCursor, limit int, err error) {
	q := parseQuery(rawQuery, rejectedParameters)
	limit = defaultRejected
	for name, text := range q.values {
		switch name {
		case "from":
			f.From, _ = q.instant(name)
		case "to":
			f.To, _ = q.instant(name)
		case "reason":
			if f.Reason = text; text == "" || len(text) > maxReasonFilter || !utf8.ValidString(text) {
				q.refuse(name, fmt.Errorf("must be 1 to %d bytes of UTF-8", maxReasonFilter))
			}
		case "partition":
			n, err := strconv.ParseUint(text, 10, 16)
			if err != nil {
				q.refuse(name, errors.New("must be a whole number from 0 to 65535"))
			}
			partition := int32(n)
			f.Partition = &partition
		case "eventId":
			if f.EventID = text; !topk.IsEventID(text) {
				q.refuse(name, fmt.Errorf("must be 1 to %d characters of A-Z a-z 0-9 _ . : -", topk.MaxEventID))
			}
		case "replayed":
			replayed := text == "true"
			if !replayed && text != "false" {
				q.refuse(name, errors.New("must be true or false"))
			}
			f.Replayed = &replayed
		case "limit":
			limit = q.number(name, limit, maxRejected)
		case "cursor":
			if after, err = decodeCursor(text); err != nil {
				q.refuse(name, err)
			}
		}
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		q.refuse("from", errors.New("must be before to"))
	}
	if len(q.problems) > 0 {
		return f, after, 0, badParameters(q.problems)
	}
	return f, after, limit, nil
}

// cursorBytes is the length of a cursor before it is written in base64: the
// time in milliseconds, the source and the offset.
const cursorBytes = 8 + 4 + 8

func encodeCursor(c topk.RejectedCursor) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, cursorBytes), uint64(c.At.UnixMilli()))
	b = binary.BigEndian.AppendUint32(b, c.Source)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(b, c.Offset))
}

func decodeCursor(text string) (topk.RejectedCursor, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != cursorBytes {
		return topk.RejectedCursor{}, errors.New("must be the cursor of a page before")
	}
	at := time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC()
	if at.Year() < 1970 || at.Year() > 2148 { // what ClickHouse has dates for
		return topk.RejectedCursor{}, errors.New("must be the cursor of a page before")
	}
	return topk.RejectedCursor{At: at, Source: binary.BigEndian.Uint32(b[8:]), Offset: binary.BigEndian.Uint64(b[12:])}, nil
}
