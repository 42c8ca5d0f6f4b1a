package embedded_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The tests of this package start engines of their own, and none of those that
// embeddedtest shares: a process has one set at a time.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDirEnv); dir != "" {
		os.Exit(runChild(dir))
	}
	goleak.VerifyTestMain(m)
}
