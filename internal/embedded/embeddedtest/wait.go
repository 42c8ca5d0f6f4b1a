package embeddedtest

import (
	"context"
	"testing"
	"time"
)

// WaitFor polls ok until it is true, and fails the test when ctx ends first or
// half a minute has passed.
func WaitFor(ctx context.Context, t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s: %v", what, ctx.Err())
		case <-tick.C:
		}
	}
}
