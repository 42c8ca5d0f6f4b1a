// Package s3 runs an S3 server, versitygw over a directory, as a child process
// of the same program: it changes the working directory of its process and
// there can be only one, which is no way to live in a process with others.
package s3

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Config says where the server listens and keeps its data.
type Config struct {
	Dir  string
	Addr string // host:port; port 0 takes a free one
	Log  *slog.Logger
}

// Keys are what a client signs its requests with.
type Keys struct{ ID, Secret string }

// Server is a running server. It ends with this process, however that ends:
// the child lives for as long as its standard input is open.
type Server struct {
	addr   string
	keys   Keys
	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{} // closed when the child is gone
	exit   error         // why, valid after exited
	failed chan error
	stop   chan struct{} // closed when the child is meant to go
}

// Region is the one that the server is in.
const Region = "us-east-1"

// startAttempts is how often another free port is tried when the one found was
// taken before the child got to it.
const startAttempts = 5

// Start runs the server and waits until it answers. Its keys are made at the
// first start and kept in the directory.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	for _, dir := range []string{objects(cfg.Dir), attributes(cfg.Dir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("create the data directory of S3: %w", err)
		}
	}
	keys, err := ensureKeys(filepath.Join(cfg.Dir, "keys.json"))
	if err != nil {
		return nil, fmt.Errorf("keys of S3: %w", err)
	}
	for attempt := 1; ; attempt++ {
		s, err := start(ctx, keys, cfg)
		if err == nil || attempt == startAttempts || !strings.HasSuffix(cfg.Addr, ":0") || ctx.Err() != nil {
			return s, err
		}
	}
}

func start(ctx context.Context, keys Keys, cfg Config) (_ *Server, err error) {
	addr, err := freeAddr(cfg.Addr)
	if err != nil {
		return nil, err
	}
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &Server{addr: addr, keys: keys, exited: make(chan struct{}), failed: make(chan error, 1), stop: make(chan struct{})}
	s.cmd = exec.Command(path)
	s.cmd.Env = append(os.Environ(), childVariable+"=1")
	s.cmd.WaitDelay = time.Second
	stdin, err := s.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	s.stdin = stdin
	stdout, out := io.Pipe()
	s.cmd.Stdout, s.cmd.Stderr = out, out
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start S3: %w", err)
	}
	ready := make(chan struct{})
	lastLine := make(chan string, 1)
	go func() { lastLine <- follow(stdout, ready, cfg.Log) }()
	go func() {
		s.exit = s.cmd.Wait()
		_ = out.Close()
		s.exit = fmt.Errorf("%w: %s", orExited(s.exit), <-lastLine)
		close(s.exited)
		select {
		case <-s.stop:
		default:
			s.failed <- fmt.Errorf("S3 ended by itself: %w", s.exit)
		}
	}()
	// By the pipe, not by arguments or the environment, which others can read.
	if err := json.NewEncoder(stdin).Encode(childConfig{
		Objects: objects(cfg.Dir), Attributes: attributes(cfg.Dir), Addr: addr, Keys: keys,
	}); err != nil {
		return nil, errors.Join(fmt.Errorf("configure S3: %w", err), s.Close(ctx))
	}
	select {
	case <-ready:
		return s, nil
	case <-s.exited:
		return nil, fmt.Errorf("S3 did not start: %w", s.exit)
	case <-ctx.Done():
		return nil, errors.Join(fmt.Errorf("S3 is not ready: %w", ctx.Err()), s.Close(ctx))
	}
}

// follow logs what the child says, tells when it is ready, and gives its last
// words.
func follow(r io.Reader, ready chan<- struct{}, log *slog.Logger) (last string) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if lines.Text() == readyLine {
			close(ready)
			continue
		}
		last = lines.Text()
		log.Debug("S3", "says", last)
	}
	_, _ = io.Copy(io.Discard, r) // after a line too long: the child must not block
	return last
}

func orExited(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// URL is where clients find the server, http://host:port.
func (s *Server) URL() string { return "http://" + s.addr }

// Keys are those of the one account there is.
func (s *Server) Keys() Keys { return s.keys }

// Failed delivers an error when the server ended by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Close lets the server answer what it was asked and end; when ctx ends, it is
// killed.
func (s *Server) Close(ctx context.Context) error {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	_ = s.stdin.Close()
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	return fmt.Errorf("S3 had to be killed: %w", ctx.Err())
}

func objects(dir string) string    { return filepath.Join(dir, "objects") }
func attributes(dir string) string { return filepath.Join(dir, "attributes") }

// ensureKeys reads the keys, which it makes at the first start.
func ensureKeys(path string) (Keys, error) {
	var keys Keys
	text, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(text, &keys); err != nil {
			return Keys{}, fmt.Errorf("%s: %w", path, err)
		}
		return keys, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return Keys{}, err
	}
	keys = Keys{ID: "topk" + rand.Text()[:12], Secret: rand.Text()}
	if text, err = json.Marshal(keys); err != nil {
		return Keys{}, err
	}
	// Renamed into place: a kill in between leaves no half a secret.
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		return Keys{}, err
	}
	return keys, os.Rename(path+".new", path)
}

// freeAddr checks that the address is free, and finds a port for port 0.
func freeAddr(addr string) (string, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	addr = ln.Addr().String()
	return addr, ln.Close()
}
