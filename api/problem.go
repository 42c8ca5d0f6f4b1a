package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/topk-charts/topk"
)

// A problem is an error that says how it is answered: as RFC 9457 problem
// details.
type problem struct {
	status     int
	detail     string
	errors     []*huma.ErrorDetail
	retryAfter time.Duration // 0 for none
	cause      error         // for the log only
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.detail + ": " + p.cause.Error()
	}
	return p.detail
}

func (p *problem) Unwrap() error { return p.cause }

// statusClientGone is what access logs call a request whose client left before
// the answer; nobody receives it.
const statusClientGone = 499

// problemOf says how err is answered. What a server behind us said is for the
// log: it may name hosts.
func problemOf(err error) *problem {
	var known *problem
	var fields topk.FieldErrors
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &fields):
		return &problem{status: http.StatusBadRequest, detail: fields.Error(), cause: err}
	case errors.Is(err, context.Canceled):
		return &problem{status: statusClientGone, detail: "the client left", cause: err}
	case errors.Is(err, topk.ErrInvalid):
		return &problem{status: http.StatusBadRequest, detail: err.Error()}
	case errors.Is(err, topk.ErrNotFound):
		return &problem{status: http.StatusNotFound, detail: "there is no such thing", cause: err}
	case errors.Is(err, topk.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return &problem{
			status:     http.StatusServiceUnavailable,
			detail:     "this cannot be answered now; try again",
			retryAfter: time.Second,
			cause:      err,
		}
	}
	return &problem{status: http.StatusInternalServerError, detail: "something went wrong here", cause: err}
}

// badParameters is the answer to a request whose parameters are wrong, each
// named with its reason.
func badParameters(details []*huma.ErrorDetail) *problem {
	return &problem{status: http.StatusBadRequest, detail: "parameters are not as they should be", errors: details}
}

// fieldDetails gives a topk.FieldErrors as error details below location.
func fieldDetails(location string, err error) []*huma.ErrorDetail {
	var fields topk.FieldErrors
	if !errors.As(err, &fields) {
		return []*huma.ErrorDetail{{Location: location, Message: err.Error()}}
	}
	details := make([]*huma.ErrorDetail, len(fields))
	for i, f := range fields {
		details[i] = &huma.ErrorDetail{Location: location, Message: f.Message}
		if f.Field != "" {
			details[i].Location += "." + f.Field
		}
	}
	return details
}

func (p *problem) write(w http.ResponseWriter) {
	if p.retryAfter > 0 {
		seconds := int64((p.retryAfter + time.Second - 1) / time.Second)
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	details := make([]error, len(p.errors))
	for i, e := range p.errors {
		details[i] = e
	}
	w.Header().Del("ETag")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, "application/problem+json", p.status, huma.NewError(p.status, p.detail, details...))
}

func writeJSON(w http.ResponseWriter, contentType string, status int, body any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(body) // fails when the client has left, who needs no answer
}

// An endpoint answers a request, or leaves the answer to its error.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// handle makes a handler of an endpoint. Here its errors end: answered, and
// logged when they are ours.
func (s *Server) handle(answer endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := answer(w, r)
		if err == nil {
			return
		}
		p := problemOf(err)
		if level := p.level(); s.log.Enabled(r.Context(), level) {
			s.log.LogAttrs(r.Context(), level, "request failed",
				requestID(w),
				slog.String("path", r.URL.Path),
				slog.Int("status", p.status),
				slog.Any("error", err))
		}
		p.write(w)
	}
}

func (p *problem) level() slog.Level {
	switch {
	case p.status == http.StatusServiceUnavailable:
		return slog.LevelWarn
	case p.status >= http.StatusInternalServerError:
		return slog.LevelError
	}
	return slog.LevelDebug
}
