package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
)

const (
	streamPath = "/v1/top/stream"
	streamType = "text/event-stream"

	lastEventIDHeader = "Last-Event-ID"
)

// The events of a stream.
const (
	chartEvent  = "chart"
	changeEvent = "change"
)

// streamRetry is how long clients are told to wait before they come back.
const streamRetry = 2 * time.Second

// stream answers GET /v1/top/stream: the chart, and then what changes, until
// the client leaves, does not read, or the server stops.
func (s *streams) stream(w http.ResponseWriter, r *http.Request) error {
	req, err := parseStreamRequest(r.URL.RawQuery, s.calendar)
	if err != nil {
		return err
	}
	f, err := s.join(req)
	if err != nil {
		return err
	}
	defer s.leave(f)
	starting, cancel := context.WithTimeout(r.Context(), s.limits.RequestTime)
	err = f.started(starting)
	cancel()
	if err != nil {
		return fmt.Errorf("stream of %s: %w", req.key, err)
	}
	header := w.Header()
	header.Set("Content-Type", streamType)
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // asks proxies to pass events on at once
	if r.Method == http.MethodHead {
		return nil
	}
	if err := s.send(w, r, f); errors.Is(err, os.ErrDeadlineExceeded) {
		s.metrics.slow.Inc()
	}
	return nil // the answer has begun, and an error has no place in it
}

// send writes events until something ends the stream. Between two of its writes
// it holds nothing but the id of the version that the client has.
func (s *streams) send(w http.ResponseWriter, r *http.Request, f *feed) error {
	out := http.NewResponseController(w)
	write := func(texts ...[]byte) error {
		// By the clock of sockets. A writer without deadlines is the server's to bound.
		_ = out.SetWriteDeadline(time.Now().Add(s.limits.StreamWrite))
		for _, text := range texts {
			if _, err := w.Write(text); err != nil {
				return err
			}
		}
		return out.Flush()
	}
	if err := write(fmt.Appendf(nil, "retry: %d\n\n", streamRetry.Milliseconds())); err != nil {
		return err
	}
	has := r.Header.Get(lastEventIDHeader)
	heartbeat := time.NewTicker(s.limits.StreamHeartbeat)
	defer heartbeat.Stop()
	for {
		news := f.since(has)
		if len(news.events) > 0 {
			if err := write(news.events...); err != nil {
				return err
			}
			s.metrics.sent(news)
			has = news.newest
		}
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-s.ctx.Done():
			return s.ctx.Err()
		case <-news.more:
		case <-heartbeat.C:
			if err := write([]byte(":\n\n")); err != nil {
				return err
			}
		}
	}
}

func (m streamMetrics) sent(news feedNews) {
	if news.whole {
		m.charts.Inc()
		return
	}
	m.changes.Add(float64(len(news.events)))
}

// streamParameters are those of GET /v1/top that name a chart which moves.
var streamParameters = append(
	slices.DeleteFunc(slices.Clone(topParameters), func(p *huma.Param) bool {
		return p.In != inQuery || !slices.Contains([]string{"dim", "window", "k"}, p.Name)
	}),
	&huma.Param{
		Name: lastEventIDHeader, In: inHeader, Description: "The id of the last event that the client has; browsers send it by themselves",
		Schema: &huma.Schema{Type: huma.TypeString},
	},
)

// parseStreamRequest refuses what names a chart that does not move.
func parseStreamRequest(rawQuery string, calendar topk.Calendar) (*chartRequest, error) {
	if q := parseQuery(rawQuery, streamParameters); len(q.problems) > 0 {
		return nil, badParameters(q.problems)
	}
	return parseChartRequest(rawQuery, calendar)
}

func (d describer) stream() {
	chart, change := d.schema(reflect.TypeFor[answer.Chart]()), d.schema(reflect.TypeFor[answer.ChartChange]())
	d.document.AddOperation(&huma.Operation{
		OperationID: "stream-top", Method: http.MethodGet, Path: streamPath, Tags: []string{"Charts"},
		Summary: "The most played songs, and what changes",
		Description: "Server-sent events, for as long as the client likes. The first event is a chart, and every later one a change of " +
			"the chart before it. A client that comes back with " + lastEventIDHeader + " is sent the changes since, or the chart when it " +
			"has missed too many; nothing when nothing changed. When the chart cannot be kept up to date it is sent as stale, and the " +
			"stream goes on. Comments are sent so that proxies do not take the stream for dead. A client that does not read is cut off.",
		Parameters: streamParameters,
		Responses: d.responses(map[int]*huma.Response{http.StatusOK: {
			Description: "The events",
			Content: map[string]*huma.MediaType{streamType: {Schema: &huma.Schema{
				Type: huma.TypeObject, Description: "Each event of the stream",
				Properties: map[string]*huma.Schema{
					"id":    {Type: huma.TypeString, Description: "The version that the chart has with this event"},
					"event": {Type: huma.TypeString, Enum: []any{chartEvent, changeEvent}},
					"data": {Type: huma.TypeString, Description: "JSON: of a chart as " + chart.Ref + " says, without nextCursor, and of a change as " +
						change.Ref + " says"},
					"retry": {Type: huma.TypeInteger, Description: "How many milliseconds to wait before coming back"},
				},
				AdditionalProperties: false,
			}}},
		}}, http.StatusBadRequest, http.StatusServiceUnavailable),
	})
}
