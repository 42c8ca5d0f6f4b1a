// Package embeddedtest gives tests real engines: started once per test binary
// on free ports, with a fresh database, topic and Redis database per test.
//
//	func TestMain(m *testing.M) { embeddedtest.Main(m) }
//
//	func TestSomething(t *testing.T) {
//		env := embeddedtest.New(t)
//		…
//	}
package embeddedtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/topk-charts/topk/internal/embedded"
	"github.com/topk-charts/topk/internal/embedded/s3"
)

const (
	startTimeout = time.Minute
	closeTimeout = 30 * time.Second
)

// shared are the engines of this test binary.
var shared struct {
	sync.Mutex
	main    bool // Main runs, and will close what is started
	dir     string
	engines *embedded.Engines
	err     error
	s3      *s3.Server // started for the first test that asks for a bucket
}

// Main runs the tests, stops the engines if a test has started them, and exits;
// it fails when goroutines are left, options telling which may be. The threads
// of the ClickHouse library are no goroutines: they end with the process.
func Main(m *testing.M, options ...goleak.Option) {
	shared.Lock()
	shared.main = true
	shared.Unlock()
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "embeddedtest:", err)
		code = 1
	}
	if code == 0 {
		if err := goleak.Find(options...); err != nil {
			fmt.Fprintln(os.Stderr, "embeddedtest:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Engines returns the engines of the test binary, started at the first call.
func Engines(t testing.TB) *embedded.Engines {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	switch {
	case !shared.main:
		t.Fatal("embeddedtest: TestMain of this package has to call embeddedtest.Main")
	case shared.engines == nil && shared.err == nil:
		shared.err = start()
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	select {
	case shared.err = <-shared.engines.Failed():
		t.Fatal(shared.err)
	default:
	}
	return shared.engines
}

func start() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if shared.dir, err = os.MkdirTemp("", "topk-test-"); err != nil {
		return err
	}
	shared.engines, err = embedded.Start(ctx, embedded.Config{
		DataDir:        shared.dir,
		ClickHouseAddr: "127.0.0.1:0",
		KafkaAddr:      "127.0.0.1:0",
		RedisAddr:      "127.0.0.1:0",
	})
	return err
}

func stop() (err error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.s3 != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		defer func() { err = errors.Join(err, shared.s3.Close(ctx)) }()
	}
	if shared.engines != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		err = shared.engines.Close(ctx)
	}
	if shared.dir != "" {
		if rmErr := os.RemoveAll(shared.dir); err == nil {
			err = rmErr
		}
	}
	return err
}
