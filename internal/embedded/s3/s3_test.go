package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	client "github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func started(t *testing.T, dir string) *Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := Start(ctx, Config{Dir: dir, Addr: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func clientOf(s *Server, secret string) *client.Client {
	return client.New(client.Options{
		BaseEndpoint: aws.String(s.URL()), UsePathStyle: true, Region: Region,
		Credentials: credentials.NewStaticCredentialsProvider(s.Keys().ID, secret, ""),
		HTTPClient:  &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
	})
}

// What was put is there again after a restart, for the same keys and no others.
func TestObjectsStay(t *testing.T) {
	dir := t.TempDir()
	s := started(t, dir)
	bucket, key := aws.String("bucket"), aws.String("a/b=c/object")
	if _, err := clientOf(s, s.Keys().Secret).CreateBucket(t.Context(), &client.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := clientOf(s, s.Keys().Secret).PutObject(t.Context(), &client.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader([]byte("text"))}); err != nil {
		t.Fatal(err)
	}
	keys := s.Keys()
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "keys.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keys' file: %v %v", info.Mode(), err)
	}
	s = started(t, dir)
	defer s.Close(t.Context())
	if s.Keys() != keys {
		t.Error("the keys are others after a restart")
	}
	got, err := clientOf(s, keys.Secret).GetObject(t.Context(), &client.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if text, err := io.ReadAll(got.Body); err != nil || string(text) != "text" {
		t.Errorf("got %q, %v", text, err)
	}
	if _, err := clientOf(s, "another").GetObject(t.Context(), &client.GetObjectInput{Bucket: bucket, Key: key}); err == nil {
		t.Error("another secret opens the bucket as well")
	}
}

// The child tells when it ended by itself.
func TestFailure(t *testing.T) {
	s := started(t, t.TempDir())
	if err := s.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-s.Failed():
		t.Log(err)
	case <-time.After(30 * time.Second):
		t.Error("nobody noticed")
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// The child ends when the pipe from its parent does, which is all that is left of
// one that was killed.
func TestChildFollowsItsParent(t *testing.T) {
	s := started(t, t.TempDir())
	if err := s.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.exited:
	case <-time.After(30 * time.Second):
		t.Error("the child lives on")
	}
	<-s.Failed()
	if conn, err := net.DialTimeout("tcp", s.addr, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody still listens: %v %v", conn, err)
	}
}

func TestAddressInUse(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = Start(t.Context(), Config{Dir: t.TempDir(), Addr: ln.Addr().String(), Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("started: %v", err)
	}
}
