// Package redis runs the system's redis-server as a child process.
package redis

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrMissing says that there is no redis-server to start.
var ErrMissing = errors.New("redis-server is not installed: run scripts/engines.sh, " +
	"or set TOPK_REDIS_URL to a Redis of yours")

// Config says where the server listens and keeps its data.
type Config struct {
	Dir  string
	Addr string // host:port; port 0 takes a free one
	Log  *slog.Logger
}

// Server is a running redis-server. It dies with this process, however that
// ends.
type Server struct {
	addr   string
	cmd    *exec.Cmd
	output *tail
	exited chan struct{} // closed when the child is gone
	exit   error         // why, valid after exited
	failed chan error
	stop   chan struct{} // closed when the child is meant to go
}

// startAttempts is how often another free port is tried when the one found was
// taken before redis-server got to it.
const startAttempts = 5

// Start runs redis-server and waits until it answers.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, ErrMissing
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the data directory of Redis: %w", err)
	}
	for attempt := 1; ; attempt++ {
		s, err := start(ctx, path, cfg)
		if err == nil || attempt == startAttempts || !strings.HasSuffix(cfg.Addr, ":0") || ctx.Err() != nil {
			return s, err
		}
	}
}

func start(ctx context.Context, path string, cfg Config) (*Server, error) {
	host, port, err := freePort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	s := &Server{
		addr:   net.JoinHostPort(host, port),
		output: &tail{log: cfg.Log},
		exited: make(chan struct{}),
		failed: make(chan error, 1),
		stop:   make(chan struct{}),
	}
	// Snapshots are a cache, so a second may be lost; keeping the rest lets
	// old charts be served while the refresher starts cold.
	s.cmd = exec.Command(path, "-", "--bind", host, "--port", port, "--dir", cfg.Dir, "--daemonize", "no",
		"--save", "", "--appendonly", "yes", "--appendfsync", "everysec",
		"--maxmemory", "1gb", "--maxmemory-policy", "noeviction", "--loglevel", "notice", "--logfile", "")
	s.cmd.Stdin = strings.NewReader("") // the configuration is all on the command line
	s.cmd.Stdout, s.cmd.Stderr = s.output, s.output
	s.cmd.SysProcAttr = childAttributes()
	s.cmd.WaitDelay = time.Second
	if err := s.run(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	if err := s.ready(ctx); err != nil {
		_ = s.Close(ctx)
		return nil, err
	}
	return s, nil
}

// run starts the child and a goroutine that waits for it.
func (s *Server) run() error {
	started := make(chan error)
	go func() {
		// The kernel ties the child to the thread that forked it, not to the
		// process: this thread has to last as long as the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := s.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		s.exit = s.cmd.Wait()
		close(s.exited)
		select {
		case <-s.stop:
		default:
			s.failed <- fmt.Errorf("redis-server ended by itself: %w", s.why())
		}
	}()
	return <-started
}

// ready waits until the child answers. It asks who answers, too: another Redis
// may hold the port.
func (s *Server) ready(ctx context.Context) error {
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		pid, err := s.ping(ctx)
		switch {
		case err == nil && pid == s.cmd.Process.Pid:
			return nil
		case err == nil:
			return fmt.Errorf("another Redis (process %d) answers on %s: stop it or choose another address", pid, s.addr)
		}
		select {
		case <-s.exited:
			return fmt.Errorf("redis-server did not start: %w", s.why())
		case <-ctx.Done():
			return fmt.Errorf("redis-server is not ready (%w): %w", err, ctx.Err())
		case <-retry.C:
		}
	}
}

// ping returns the process id of the server that is ready on the address.
func (s *Server) ping(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	if _, err := conn.Write([]byte("PING\r\nINFO server\r\nQUIT\r\n")); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(conn)
	if lines.Scan() && lines.Text() != "+PONG" {
		return 0, errors.New(lines.Text()) // such as -LOADING
	}
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "process_id:"); ok {
			return strconv.Atoi(id)
		}
	}
	return 0, errors.Join(errors.New("no answer"), lines.Err())
}

// why tells the reason of the exit in the words of the child.
func (s *Server) why() error {
	if last := s.output.last(); last != "" {
		return fmt.Errorf("%w: %s", orExited(s.exit), last)
	}
	return orExited(s.exit)
}

func orExited(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// URL is where clients find the server.
func (s *Server) URL() string { return "redis://" + s.addr }

// Failed delivers an error when the server ended by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Close lets the server write its data and end; when ctx ends, it is killed.
func (s *Server) Close(ctx context.Context) error {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	return fmt.Errorf("redis-server had to be killed: %w", ctx.Err())
}

// freePort checks that the address is free, and finds a port for port 0, which
// redis-server does not know.
func freePort(addr string) (host, port string, err error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", "", err
	}
	addr = ln.Addr().String()
	if err := ln.Close(); err != nil {
		return "", "", err
	}
	return net.SplitHostPort(addr)
}
