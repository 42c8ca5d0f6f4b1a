package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/topk-charts/topk/internal/embedded/chdb"
	"github.com/topk-charts/topk/internal/embedded/clickhouse"
	"github.com/topk-charts/topk/internal/embedded/kafka"
)

// The engines that RunEngine knows.
const (
	clickhouseEngine = "clickhouse"
	kfakeEngine      = "kfake"
	proxiesEngine    = "proxies"
)

// RunEngine runs one engine until the process is killed: the test binary calls
// it when it finds itself started by Start.
func RunEngine(args []string) error {
	if len(args) != 3 {
		return errors.New("usage: ENGINE DIRECTORY ADDRESS")
	}
	engine, dir, addr := args[0], args[1], args[2]
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if engine == proxiesEngine {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()).Listen(host, port)
		return nil
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	var failed <-chan error
	switch engine {
	case kfakeEngine:
		if _, err := kafka.Start(kafka.Config{Dir: dir, Listener: listener, Log: log}); err != nil {
			return err
		}
	case clickhouseEngine:
		path, err := chdb.Locate("")
		if err != nil {
			return err
		}
		lib, err := chdb.Load(path)
		if err != nil {
			return err
		}
		server, err := clickhouse.Start(clickhouse.Config{Library: lib, Dir: dir, Listener: listener, Log: log})
		if err != nil {
			return err
		}
		failed = server.Failed()
	default:
		return fmt.Errorf("no engine %q", engine)
	}
	select {
	case err := <-failed:
		return err
	case <-context.Background().Done():
		return nil
	}
}
