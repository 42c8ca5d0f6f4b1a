package redis_test

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/topk-charts/topk/internal/embedded/redis"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, dir string) *redis.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := redis.Start(ctx, redis.Config{Dir: dir, Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *redis.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
}

// do sends one command and returns the last line of a short answer.
func do(t *testing.T, s *redis.Server, command string) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(command + "\r\nQUIT\r\n")); err != nil {
		t.Fatal(err)
	}
	var last string
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if lines.Text() == "+OK" && last != "" {
			break // of QUIT
		}
		last = lines.Text()
	}
	return last
}

func TestStartAgain(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	do(t, s, "SET kept yes")
	stop(t, s)
	stop(t, s)
	select {
	case err := <-s.Failed():
		t.Error("a close is no failure:", err)
	default:
	}
	if got := do(t, start(t, dir), "GET kept"); got != "yes" {
		t.Errorf("got %q", got)
	}
}

func TestPortInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = redis.Start(t.Context(), redis.Config{Dir: t.TempDir(), Addr: ln.Addr().String()})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("error is %v", err)
	}
}

// TestDoesNotStart wants the reason in redis-server's words.
func TestDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	do(t, s, "SET kept yes")
	stop(t, s)
	breakLog(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := redis.Start(ctx, redis.Config{Dir: dir, Addr: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "redis-server did not start") ||
		!strings.Contains(err.Error(), "Bad file format") {
		t.Errorf("error is %v", err)
	}
}

func TestCloseInNoTime(t *testing.T) {
	s := start(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// It may be killed or just be fast; it must be gone.
	_ = s.Close(ctx)
	if conn, err := net.Dial("tcp", s.Addr()); err == nil {
		_ = conn.Close()
		t.Error("it still answers")
	}
}
