package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"
)

// Config says where the engines listen and keep their data.
type Config struct {
	// DataDir holds everything; one process at a time uses it.
	DataDir string
	// ClickHouseAddr, KafkaAddr and RedisAddr are host:port on loopback; port
	// 0 takes a free one.
	ClickHouseAddr, KafkaAddr, RedisAddr string
	// S3Addr is the same of S3; "" runs none.
	S3Addr string
	// LibPath is libchdb.so; empty looks at TOPK_CHDB_LIB and then into the
	// cache folder that scripts/engines.sh fills.
	LibPath string
	Log     *slog.Logger
}

// lastWords is how long the redis-server of a process that was killed may take
// to follow it.
const lastWords = time.Second

// awaitFree waits until nobody listens on the address.
func awaitFree(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		ln, err := net.Listen("tcp", addr)
		if err == nil {
			return ln.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-retry.C:
		}
	}
}

// listen opens the address of an engine.
func listen(engine, addr, flag string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, listenError(engine, addr, flag, err)
	}
	return ln, nil
}

func listenError(engine, addr, flag string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s cannot listen on %s, another program does: stop it or choose another address with %s",
			engine, addr, flag)
	}
	return fmt.Errorf("%s cannot listen on %s (choose another address with %s): %w", engine, addr, flag, err)
}
