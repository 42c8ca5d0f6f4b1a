package client

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Problem is an answer that says why there is none, as RFC 9457 problem
// details. One that came from something else than the API, such as a proxy, has
// only a Status and a Title.
type Problem struct {
	Status     int           `json:"status"`
	Title      string        `json:"title"`
	Detail     string        `json:"detail"`
	Errors     []ErrorDetail `json:"errors"`
	RequestID  string        `json:"-"` // the request's name in the API's logs
	RetryAfter time.Duration `json:"-"` // as the API asks, at most a minute; 0 when it does not
}

// An ErrorDetail is one thing that is wrong with a request.
type ErrorDetail struct {
	Location string `json:"location"` // such as query.k
	Message  string `json:"message"`
}

func (p *Problem) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "topk API: %d %s", p.Status, p.Title)
	if p.Detail != "" {
		text.WriteString(": " + p.Detail)
	}
	for _, e := range p.Errors {
		fmt.Fprintf(&text, "; %s %s", e.Location, e.Message)
	}
	if p.RequestID != "" {
		fmt.Fprintf(&text, " (request %s)", p.RequestID)
	}
	return text.String()
}

// Temporary reports whether the same request may be answered a little later.
func (p *Problem) Temporary() bool {
	return p.Status == http.StatusTooManyRequests || p.Status == http.StatusServiceUnavailable
}

// maxProblem is how much of a problem is read.
const maxProblem = 1 << 20

func problemOf(res *http.Response) *Problem {
	p := &Problem{}
	if mediaType, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); mediaType == "application/problem+json" {
		// What cannot be read is left out: the status says most.
		if text, err := io.ReadAll(io.LimitReader(res.Body, maxProblem)); err == nil {
			_ = json.Unmarshal(text, p)
		}
	}
	p.Status = res.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(res.StatusCode)
	}
	p.RequestID = res.Header.Get("X-Request-Id")
	if seconds, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	}
	return p
}
