package embedded_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/topk-charts/topk/internal/embedded"
)

// childDirEnv makes the test binary run engines on a directory instead of
// tests, as a process that can be killed.
const childDirEnv = "TOPK_EMBEDDED_TEST_CHILD"

// addresses are where the engines of a child listen.
type addresses struct {
	ClickHouse, Redis string
	Kafka             []string
}

// runChild runs engines until its input ends.
func runChild(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	engines, err := embedded.Start(ctx, embedded.Config{
		DataDir:        dir,
		ClickHouseAddr: os.Getenv(childDirEnv + "_CLICKHOUSE"),
		KafkaAddr:      os.Getenv(childDirEnv + "_KAFKA"),
		RedisAddr:      os.Getenv(childDirEnv + "_REDIS"),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = json.NewEncoder(os.Stdout).Encode(addresses{engines.ClickHouseURL(), engines.RedisURL(), engines.KafkaBrokers()})
	_, _ = io.Copy(io.Discard, os.Stdin)
	ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := engines.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// child is a process with engines.
type child struct {
	addresses
	t     *testing.T
	dir   string
	cmd   *exec.Cmd
	stdin io.Closer
	ended bool
}

// startChild starts a process on dir, on the ports of an earlier one if given.
func startChild(t *testing.T, dir string, at addresses) *child {
	t.Helper()
	c := &child{t: t, dir: dir, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childDirEnv+"="+dir,
		childDirEnv+"_CLICKHOUSE="+hostOf(at.ClickHouse),
		childDirEnv+"_KAFKA="+hostOf(append(at.Kafka, "")[0]),
		childDirEnv+"_REDIS="+hostOf(at.Redis))
	c.cmd.Stderr = os.Stderr
	var err error
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.kill() })
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatal("the child did not start:", err)
	}
	if err := json.Unmarshal(line, &c.addresses); err != nil {
		t.Fatal(err)
	}
	return c
}

// kill ends the process as nothing can prepare for.
func (c *child) kill() {
	if !c.ended {
		c.ended = true
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	}
}

// close ends the process in order.
func (c *child) close() {
	c.t.Helper()
	c.ended = true
	_ = c.stdin.Close()
	if err := c.cmd.Wait(); err != nil {
		c.t.Error("the child did not end well:", err)
	}
}

// inProcessOfItsOwn runs the calling test in another process, so that it can
// run again in this one, and reports true here and false there.
func inProcessOfItsOwn(t *testing.T) bool {
	t.Helper()
	const env = childDirEnv + "_ONE"
	if os.Getenv(env) != "" {
		return false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return true
}

// hostOf is the host:port of a URL, or any free port.
func hostOf(url string) string {
	for i := len(url) - 1; i >= 0; i-- {
		if url[i] == '/' {
			return url[i+1:]
		}
	}
	if url == "" {
		return "127.0.0.1:0"
	}
	return url
}
