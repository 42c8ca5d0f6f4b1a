package embeddedtest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

func TestMain(m *testing.M) { embeddedtest.Main(m) }

func TestNew(t *testing.T) {
	for range 3 {
		t.Run("env", func(t *testing.T) {
			t.Parallel()
			env := embeddedtest.New(t)
			var database string
			if err := env.ClickHouse.QueryRow(t.Context(), "SELECT currentDatabase()").Scan(&database); err != nil {
				t.Fatal(err)
			}
			if database != env.Database {
				t.Errorf("current database is %s, want %s", database, env.Database)
			}
		})
	}
}

// TestMissingEngine runs a test of this binary where there is no library: it
// must fail, not be skipped, and say what to do.
func TestMissingEngine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestNew$")
	cmd.Env = append(os.Environ(), "TOPK_CACHE="+t.TempDir(), "TOPK_CHDB_LIB=")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "run scripts/engines.sh") || !strings.Contains(string(out), "FAIL") {
		t.Errorf("ended with %v:\n%s", err, out)
	}
}
