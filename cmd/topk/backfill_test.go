package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// New files of past plays are found and loaded by themselves, each once, in a
// database in which plays arrive meanwhile.
func TestBackfillOnASchedule(t *testing.T) {
	s := up(t, t.TempDir(), ports(t))
	dir := t.TempDir()
	write := func(name, id string) {
		t.Helper()
		play := `{"eventId":"` + id + `","userId":"u","songId":"s","artistId":"a","timestamp":"2026-01-02T03:04:05Z","region":"IN"}` + "\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(play), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one.ndjson", "past-1")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{
			"load", "schedule", "--listen", "127.0.0.1:0", "--reconcile-schedule", "@every 24h", "--close-schedule", "@every 24h",
			"--backfill-from", filepath.Join(dir, "*.ndjson"), "--backfill-schedule", "@every 1s",
			"--clickhouse-url", s.ch, "--kafka-brokers", s.kafka, "--partitions", "4", "--user-pepper-file", filepath.Join(s.data, "pepper"),
			"--redis-url", "redis://" + s.redis,
		}, strings.NewReader(""), io.Discard, s.log)
	}()
	s.inLog(1)
	write("two.ndjson", "past-2")
	write("again.ndjson", "past-1")
	s.inLog(2)
	eventually(t, "the runs are written down", time.Minute, func() bool {
		return strings.Contains(s.command("", "load", "jobs", "--clickhouse-url", s.ch), "backfill")
	})
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	s.inLog(2)
	s.stop()
}
