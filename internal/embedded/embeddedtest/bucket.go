package embeddedtest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/topk-charts/topk/internal/embedded/s3"
)

// A Bucket is an empty one of S3.
type Bucket struct {
	Endpoint string // http://host:port
	Name     string
	Keys     s3.Keys
	Region   string
	Dir      string // where its objects lie as files, to be damaged
}

// NewBucket gives a test a bucket of its own, and starts S3 for the first one
// that asks.
func NewBucket(t testing.TB) Bucket {
	t.Helper()
	Engines(t) // they have the directory
	shared.Lock()
	defer shared.Unlock()
	dir := filepath.Join(shared.dir, "s3")
	if shared.s3 == nil {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		server, err := s3.Start(ctx, s3.Config{Dir: dir, Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal("embeddedtest:", err)
		}
		shared.s3 = server
	}
	name := fmt.Sprintf("bucket-%d", names.Add(1))
	bucket := Bucket{
		Endpoint: shared.s3.URL(), Name: name, Keys: shared.s3.Keys(), Region: s3.Region,
		Dir: filepath.Join(dir, "objects", name),
	}
	if err := os.Mkdir(bucket.Dir, 0o700); err != nil {
		t.Fatal("embeddedtest:", err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(bucket.Dir); err != nil {
			t.Error("embeddedtest:", err)
		}
	})
	return bucket
}
