package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/tmaxmax/go-sse"

	"github.com/topk-charts/topk/api/answer"
)

// A StreamRequest asks to be told of a chart as it moves.
type StreamRequest struct {
	Dim    string
	Window string // a named one
	K      int
}

// maxEvent is the longest event that is read: a whole chart.
const maxEvent = 4 << 20

// Stream gives the chart, and again whenever it changed, until ctx ends. When
// the connection is lost, or the API cannot answer now, it comes back by itself,
// with pauses that grow to 10 s, and goes on with what it missed; how fresh the
// chart is its AsOf and Stale tell. An error, of a request that the API refuses,
// is the last thing it gives.
func (c *Client) Stream(ctx context.Context, r StreamRequest) iter.Seq2[answer.Chart, error] {
	path := "/v1/top/stream" + query{}.text("dim", r.Dim).text("window", r.Window).number("k", r.K).encode()
	return func(yield func(answer.Chart, error) bool) {
		s := stream{client: c, path: path}
		for wait := c.backoff; ; {
			told, err := s.follow(ctx, yield)
			var problem *Problem
			switch {
			case errors.Is(err, errEnough) || ctx.Err() != nil:
				return
			case errors.As(err, &problem) && problem.Status/100 == 4 && !problem.Temporary():
				yield(answer.Chart{}, err)
				return
			case told:
				wait = c.backoff
			}
			pause := wait
			if problem != nil {
				pause = max(wait, problem.RetryAfter)
			}
			if !sleep(ctx, pause) {
				return
			}
			wait = min(2*wait, lastBackoff)
		}
	}
}

// errEnough is for a caller who does not want more.
var errEnough = errors.New("enough")

// A stream is what is known of a chart between two connections.
type stream struct {
	client *Client
	path   string
	id     string // of the version that is known; empty for none
	chart  answer.Chart
}

// follow reads one connection to its end, and reports whether it told anything.
func (s *stream) follow(ctx context.Context, yield func(answer.Chart, error) bool) (told bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := s.client.request(ctx, http.MethodGet, s.path, nil)
	if err != nil {
		return false, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.id != "" {
		req.Header.Set("Last-Event-ID", s.id)
	}
	// A connection may die without a word. This also bounds the answer's start.
	dead := time.AfterFunc(s.client.idle, cancel)
	defer dead.Stop()
	res, err := s.client.http.Do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return false, problemOf(res)
	}
	body := &watched{res.Body, func() { dead.Reset(s.client.idle) }}
	for event, err := range sse.Read(body, &sse.ReadConfig{MaxEventSize: maxEvent}) {
		if err != nil {
			return told, err
		}
		if err := s.apply(event); err != nil {
			s.id = "" // begin anew
			return told, err
		}
		told = true
		if !yield(s.chart, nil) {
			return told, errEnough
		}
	}
	return told, io.EOF
}

func (s *stream) apply(event sse.Event) error {
	switch event.Type {
	case "chart":
		var chart answer.Chart
		if err := json.Unmarshal([]byte(event.Data), &chart); err != nil {
			return fmt.Errorf("chart: %w", err)
		}
		s.chart = chart
	case "change":
		var change answer.ChartChange
		if err := json.Unmarshal([]byte(event.Data), &change); err != nil {
			return fmt.Errorf("change: %w", err)
		}
		if s.id == "" {
			return errors.New("a change of nothing")
		}
		s.chart = s.chart.Apply(change)
	default:
		return fmt.Errorf("unknown event %q", event.Type)
	}
	s.id = event.LastEventID
	return nil
}

// watched tells of every read that brings something.
type watched struct {
	io.Reader
	alive func()
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.alive()
	}
	return n, err
}
