package snapshot_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server is a redis-server process of one test, which may flush it, kill it
// and start it again. It ends with the test, and with the test's process if
// that dies first.
type server struct {
	port int
	args []string
	cmd  *exec.Cmd
}

// startServer runs an empty server that keeps nothing on disk.
func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	s := &server{
		port: freePort(t),
		args: append([]string{"--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()}, args...),
	}
	s.start(t)
	t.Cleanup(s.kill)
	return s
}

// url is where a client finds the server.
func (s *server) url() string { return fmt.Sprintf("redis://127.0.0.1:%d/0", s.port) }

// kill ends the server as kill -9 does.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	// Both fail only when it has ended already.
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// start runs the server, which must not be running, on the same port, and
// waits until it answers.
func (s *server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command("redis-server", append([]string{"--port", strconv.Itoa(s.port)}, s.args...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatalf("start redis-server: %v", err)
	}
	eventually(t, "redis-server answers", func() bool {
		client, err := s.dial()
		if err != nil {
			return false
		}
		client.Close()
		return true
	})
}

// do runs one command on the server and gives its reply as text, "" for none.
func (s *server) do(t testing.TB, command ...string) string {
	t.Helper()
	client, err := s.dial()
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer client.Close()
	reply, err := client.Do(context.Background(), client.B().Arbitrary(command...).Build()).ToMessage()
	if err != nil && !rueidis.IsRedisNil(err) {
		t.Fatalf("%v: %v", command, err)
	}
	if reply.IsNil() {
		return ""
	}
	if text, err := reply.ToString(); err == nil {
		return text
	}
	if n, err := reply.ToInt64(); err == nil {
		return strconv.FormatInt(n, 10)
	}
	return reply.String()
}

func (s *server) dial() (rueidis.Client, error) {
	return rueidis.NewClient(rueidis.ClientOption{
		InitAddress:       []string{fmt.Sprintf("127.0.0.1:%d", s.port)},
		ForceSingleClient: true,
		DisableCache:      true,
	})
}

// eventually waits until the condition holds, and fails the test when it does
// not within half a minute.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
