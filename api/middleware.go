package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/klauspost/compress/gzhttp"
	"github.com/rs/cors"

	"github.com/topk-charts/topk"
)

// requestIDHeader carries a request's name from the client, or from us, through
// every log that has to do with it.
const requestIDHeader = "X-Request-Id"

const maxRequestID = 64

// requestID is the name of the request that w answers: identify has put it
// there, which is cheaper than a context of its own.
func requestID(w http.ResponseWriter) slog.Attr {
	return slog.String("requestId", w.Header().Get(requestIDHeader))
}

// identify takes over the client's request id, or gives one, and echoes it.
func identify(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := r.Header.Get(requestIDHeader)
		if !isRequestID(id) {
			id = rand.Text()
		}
		w.Header().Set(requestIDHeader, id)
		next.ServeHTTP(w, r)
	})
}

// isRequestID reports whether id is short and plain enough to be logged and
// echoed.
func isRequestID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}

// A recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int // 0 while nothing was
	bytes  int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // others only announce the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// observe measures and logs every request, by its route and not its path, which
// has no bound.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.clock()
		seen := &recorder{ResponseWriter: w}
		defer func() {
			elapsed := s.clock().Sub(start)
			status, route := seen.status, routeOf(r)
			if status == 0 {
				status = http.StatusOK // what net/http sends for nothing
			}
			if w.Header().Get("Content-Type") != streamType { // which lasts as long as the client likes
				s.metrics.duration.WithLabelValues(route, strconv.Itoa(status)).Observe(elapsed.Seconds())
			}
			if s.log.Enabled(r.Context(), slog.LevelDebug) {
				s.log.LogAttrs(r.Context(), slog.LevelDebug, "request",
					requestID(w),
					slog.String("method", r.Method),
					slog.String("uri", r.URL.RequestURI()),
					slog.String("route", route),
					slog.Int("status", status),
					slog.Int("bytes", seen.bytes),
					slog.Duration("elapsed", elapsed))
			}
		}()
		next.ServeHTTP(seen, r)
	})
}

// routeOf is the pattern that r was routed by.
func routeOf(r *http.Request) string {
	if pattern := chi.RouteContext(r.Context()).RoutePattern(); pattern != "" {
		return pattern
	}
	return "none"
}

// recoverPanics answers a panic as the failure of one request that it is.
func (s *Server) recoverPanics(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if cause == http.ErrAbortHandler {
				panic(cause) // it asks the server to cut the connection
			}
			s.log.LogAttrs(r.Context(), slog.LevelError, "panic",
				requestID(w),
				slog.String("path", r.URL.Path),
				slog.Any("panic", cause),
				slog.String("stack", string(debug.Stack())))
			if seen, ok := w.(*recorder); ok && seen.status != 0 {
				panic(http.ErrAbortHandler) // half an answer must not look whole
			}
			problemOf(fmt.Errorf("panic: %v", cause)).write(w)
		}()
		next.ServeHTTP(w, r)
	})
}

// limitTime bounds how long a request may wait for the servers behind us, and
// tells them its name.
func limitTime(limit time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(topk.WithRequestID(r.Context(), w.Header().Get(requestIDHeader)), limit)
			defer cancel()
			next.ServeHTTP(w, r.WithContext(ctx))
		})
	}
}

// shareWith lets pages of the origins call the API.
func shareWith(origins []string) func(http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost},
		AllowedHeaders: []string{"Authorization", "Content-Type", "If-None-Match", lastEventIDHeader, "Traceparent", requestIDHeader},
		ExposedHeaders: []string{"ETag", "Link", "Retry-After", rateLimitHeader, rateLimitPolicyHeader, requestIDHeader},
		MaxAge:         int((10 * time.Minute).Seconds()),
	}).Handler
}

// compress packs answers above about one network packet, by zstd or gzip as the
// client prefers. ETags are weak because of it: the bytes differ by coding. A
// stream is left alone: its events must not wait for each other, and a packer's
// memory would be taken for as long as it lasts.
func compress() (func(http.Handler) http.Handler, error) {
	wrap, err := gzhttp.NewWrapper()
	if err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	return func(next http.Handler) http.Handler {
		packed := wrap(next)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == streamPath {
				next.ServeHTTP(w, r)
				return
			}
			packed.ServeHTTP(w, r)
		})
	}, nil
}
