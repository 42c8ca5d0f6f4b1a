package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

// Config says where the server keeps its data and how much runs at once.
type Config struct {
	Library  *chdb.Library
	Dir      string       // of data and configuration
	Listener net.Listener // taken over
	Log      *slog.Logger
	// MaxQueries run at once, 16 by default; others wait for at most
	// QueueTimeout, 10 s by default, and then fail with code 202.
	MaxQueries   int
	QueueTimeout time.Duration
	// MaxIdle connections of the engine are kept for reuse, 32 by default.
	MaxIdle int
}

// Server is ClickHouse's HTTP interface over libchdb.
type Server struct {
	engine       *engine
	http         *http.Server
	addr         string
	slots        chan struct{} // of statements that run
	seats        chan struct{} // of requests that are read, wait or run
	queueTimeout time.Duration
	log          *slog.Logger
	cancel       context.CancelFunc // ends the statements that run
	failed       chan error
	running      sync.WaitGroup // of the goroutines of this server
}

// Start boots the engine and serves it.
func Start(cfg Config) (*Server, error) {
	if cfg.MaxQueries <= 0 {
		cfg.MaxQueries = 16
	}
	if cfg.QueueTimeout <= 0 {
		cfg.QueueTimeout = 10 * time.Second
	}
	if cfg.MaxIdle <= 0 {
		cfg.MaxIdle = 32
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e, err := startEngine(cfg.Library, cfg.Dir, cfg.MaxIdle)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{
		engine:       e,
		addr:         cfg.Listener.Addr().String(),
		slots:        make(chan struct{}, cfg.MaxQueries),
		seats:        make(chan struct{}, cfg.MaxQueries+maxWaiting),
		queueTimeout: cfg.QueueTimeout,
		log:          cfg.Log,
		cancel:       cancel,
		failed:       make(chan error, 1),
	}
	s.http = &http.Server{
		Handler:           s.routes(),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 20, // URLs carry statements and parameters
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	s.running.Go(func() { (&reloader{engine: e, log: cfg.Log}).run(ctx) })
	s.running.Go(func() {
		if err := s.http.Serve(cfg.Listener); !errors.Is(err, http.ErrServerClosed) {
			s.failed <- fmt.Errorf("serve ClickHouse: %w", err)
		}
	})
	return s, nil
}

// URL is where clients find the server.
func (s *Server) URL() string { return "http://" + s.addr }

// Failed delivers an error when the server stopped by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Close waits for the statements that run, until ctx ends; then it cancels
// them. It always waits for the engine to stop.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	s.cancel()
	if err != nil {
		// The handlers end now that their statements are killed, but their
		// connections may not read the answer: cut them.
		wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
		defer cancel()
		if err := s.http.Shutdown(wait); err != nil {
			_ = s.http.Close()
		}
	}
	s.running.Wait()
	// Every slot taken: no statement is left.
	for range cap(s.slots) {
		s.slots <- struct{}{}
	}
	s.engine.close()
	return nil
}

// maxWaiting is how many requests may wait with their statements in memory.
const maxWaiting = 256

// killTimeout is how long cancelled statements have to answer.
const killTimeout = 5 * time.Second

func (s *Server) routes() http.Handler {
	ok := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		_, _ = fmt.Fprint(w, "Ok.\n")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", ok)
	mux.HandleFunc("/replicas_status", ok)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			s.query(w, r)
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD, POST")
			http.Error(w, "Send queries by POST or GET", http.StatusMethodNotAllowed)
		case r.URL.Query().Has("query"):
			s.query(w, r)
		default:
			ok(w, r)
		}
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "There is no handle "+r.URL.Path+"\n\nUse / or /ping for health checks.\n"+
			"Send queries from your program with POST method or GET /?query=...", http.StatusNotFound)
	})
	return mux
}

func (s *Server) query(w http.ResponseWriter, r *http.Request) {
	resp := newResponse(w, s.engine.version)
	// A deadline of this request must not end the next one on the connection.
	defer func() { _ = resp.control.SetWriteDeadline(time.Time{}) }()
	id := r.URL.Query().Get("query_id")
	if id == "" {
		id = uuid.NewString()
	}
	h := w.Header()
	h.Set("X-ClickHouse-Server-Display-Name", "topk")
	h.Set("X-ClickHouse-Query-Id", id)
	h.Set("X-ClickHouse-Timezone", "UTC")
	if err := s.serveQuery(r, resp); err != nil {
		s.log.DebugContext(r.Context(), "query failed", "queryId", id, "error", err)
		resp.fail(err)
	}
}

func (s *Server) serveQuery(r *http.Request, resp *response) error {
	select {
	case s.seats <- struct{}{}:
		defer func() { <-s.seats }()
	default:
		return s.busy()
	}
	req, body, err := parseRequest(r, resp)
	if body != nil {
		defer body.Close()
	}
	if err != nil {
		return err
	}
	if err := s.acquire(r.Context()); err != nil {
		return err
	}
	defer func() { <-s.slots }()
	if err := s.engine.run(r.Context(), req, resp); err != nil {
		return err
	}
	return resp.finish()
}

// acquire waits for one of the slots.
func (s *Server) acquire(ctx context.Context) error {
	select {
	case s.slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(s.queueTimeout)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return s.busy()
	}
}

func (s *Server) busy() error {
	return raise(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES",
		"Too many simultaneous queries. Maximum: %d", cap(s.slots))
}
