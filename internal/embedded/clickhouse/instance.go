package clickhouse

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// instanceID names the data directory to Kafka: a consumer that comes back
// under the same name after kill -9 takes its partitions over at once, and two
// directories on one broker must not share it.
func instanceID(dir string) (string, error) {
	path := filepath.Join(dir, "instance")
	text, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(text)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the instance name of ClickHouse: %w", err)
	}
	id := "topk-" + strings.ToLower(rand.Text()[:16])
	if err := os.WriteFile(path, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write the instance name of ClickHouse: %w", err)
	}
	return id, nil
}
