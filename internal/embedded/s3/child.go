package s3

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
	"github.com/versity/versitygw/s3api"
)

// childVariable in its environment makes a process that has this package the
// server, before anything else of it runs: the program as well as test binaries
// start themselves.
const childVariable = "TOPK_EMBEDDED_S3"

// readyLine on its standard output says that the child answers.
const readyLine = "topk: S3 is ready"

// childConfig is the first line of the child's standard input.
type childConfig struct {
	Objects, Attributes string // directories
	Addr                string
	Keys                Keys
}

const (
	maxConnections = 1024
	maxRequests    = 256
	maxParts       = 10_000 // as on AWS
)

// lastWords is what requests get to end when the child is to.
const lastWords = 500 * time.Millisecond

func init() {
	if os.Getenv(childVariable) == "" {
		return
	}
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve is the child: it runs until its standard input ends.
func serve(in io.Reader, out io.Writer) error {
	var cfg childConfig
	decoder := json.NewDecoder(in)
	if err := decoder.Decode(&cfg); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, in) // until whoever has started it is gone
		cancel()
		// Connections that are merely kept open would hold the server up. An object
		// that is half written is a file without a name.
		time.Sleep(lastWords)
		os.Exit(0)
	}()
	// Attributes of objects in a directory of their own: not every file system
	// has extended attributes.
	attributes, err := meta.NewSideCar(cfg.Attributes)
	if err != nil {
		return fmt.Errorf("attributes: %w", err)
	}
	options := posix.PosixOpts{SideCarDir: cfg.Attributes, ValidateBucketNames: true, NewDirPerm: 0o700, NewFilePerm: 0o600}
	backend, err := posix.New(cfg.Objects, attributes, options)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	return embedgw.RunVersityGW(ctx, backend, &embedgw.Config{
		RootUserAccess: cfg.Keys.ID, RootUserSecret: cfg.Keys.Secret,
		Region: Region, Ports: []string{cfg.Addr},
		MaxConnections: maxConnections, MaxRequests: maxRequests, MultipartMaxParts: maxParts,
		KeepAlive: true, Quiet: true, DisableACLs: true,
		S3Options: []s3api.Option{s3api.WithOnListen(func() { fmt.Fprintln(out, readyLine) })},
	})
}
