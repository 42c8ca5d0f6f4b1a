package chdb

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/topk-charts/topk/internal/cache"
)

// libraryVersion is the version of libchdb this binding is made for, the same
// as in scripts/engines.sh.
const libraryVersion = "26.7.3-stable.1"

// Locate returns the path of libchdb.so: path itself when given, else
// TOPK_CHDB_LIB, else where scripts/engines.sh puts it.
func Locate(path string) (string, error) {
	if path == "" {
		path = os.Getenv("TOPK_CHDB_LIB")
	}
	if path == "" {
		dir, err := cache.Dir()
		if err != nil {
			return "", err
		}
		path = filepath.Join(dir, "libchdb-"+libraryVersion, "libchdb.so")
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("find the ClickHouse library: %w", err)
	}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("there is no embedded ClickHouse for %s/%s: "+
			"set TOPK_CLICKHOUSE_URL to a ClickHouse server of yours", runtime.GOOS, runtime.GOARCH)
	}
	return "", fmt.Errorf("the ClickHouse library is missing at %s: run scripts/engines.sh, "+
		"or set TOPK_CLICKHOUSE_URL to a ClickHouse server of yours", path)
}
