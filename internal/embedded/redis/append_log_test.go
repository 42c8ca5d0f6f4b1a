package redis_test

import (
	"os"
	"path/filepath"
	"testing"
)

// breakLog writes nonsense into the append-only files.
func breakLog(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.aof"))
	if err != nil || len(files) == 0 {
		t.Fatal("no append-only files", err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte("nonsense, no commands\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
