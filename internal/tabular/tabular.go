// Package tabular finds and reads files of rows: CSV with a header, NDJSON and
// Parquet, which gzip or zstd may have packed, of this machine and of S3.
// ClickHouse reads them itself where it sees them.
package tabular

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
)

//go:embed *.sql
var files embed.FS

var statements = sqlfile.Parse(files, Source)

// Source is the template "source", as a definition for text/template: the table
// expression of a file, by its Kind.
//
//go:embed source.tmpl
var Source string

// statementTimeout bounds reading one file.
const statementTimeout = 6 * time.Hour

// S3 is how ClickHouse reads from S3. Without Key it asks as anybody.
type S3 struct {
	Endpoint string // of s3:// URLs, as http(s)://host:port; "" for AWS
	Region   string // of AWS; "" for the bucket's default
	Key      string
	Secret   string
	Token    string // of a session; "" for none
}

// Files are those of one load.
type Files struct {
	DB     *sql.DB
	Server *clickhouse.Options // of DB
	S3     S3
	Format string    // of all: csv, ndjson or parquet; "" goes by their names
	Stdin  io.Reader // the file "-"; nil when there is none
	Send   bool      // also files that ClickHouse sees are sent to it
	Log    *slog.Logger
}

// Open prepares to read files by the ClickHouse of a URL, as l says, which has no
// DB yet. Close is to be called.
func Open(url string, l Files) (*Files, error) {
	var err error
	if l.Server, err = clickhouse.ParseDSN(url); err != nil {
		return nil, fmt.Errorf("ClickHouse URL: %w", err)
	}
	l.Server.ReadTimeout = statementTimeout
	l.DB = clickhouse.OpenDB(l.Server)
	return &l, nil
}

// Close drops the connections.
func (l *Files) Close() error { return l.DB.Close() }

// A File is one that was found.
type File struct {
	Path  string // or URL
	Print string // of the content: a checksum, or the store's etag
	Size  uint64 // bytes

	remote bool
	unseen bool // by ClickHouse
}

// Sent tells whether statements get the file by Post, since ClickHouse does not
// see it.
func (f File) Sent() bool { return f.unseen }

// Formats are those of files, by what their names end in.
var Formats = map[string]string{
	"csv": "csv", "ndjson": "ndjson", "jsonl": "ndjson", "json": "ndjson", "parquet": "parquet", "pq": "parquet",
}

// EngineFormats are the names ClickHouse has for them. Lines are taken apart by
// the statement, so that a line that is no JSON is a reject and not the end.
var EngineFormats = map[string]string{"csv": "CSVWithNames", "ndjson": "LineAsString", "parquet": "Parquet"}

// FormatOf gives the format of a file, one of Formats.
func (l *Files) FormatOf(f File) (string, error) {
	switch {
	case l.Format != "":
		return l.Format, nil
	case f.Path == stdin:
		return "ndjson", nil
	}
	name := f.Path
	if f.remote {
		if u, err := url.Parse(f.Path); err == nil {
			name = u.Path
		}
	}
	name = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(path.Base(name)), ".gz"), ".zst")
	if format, ok := Formats[strings.TrimPrefix(path.Ext(name), ".")]; ok {
		return format, nil
	}
	return "", invalid("%s: its name does not tell its format: give --format", f.Path)
}

func invalid(format string, args ...any) error {
	return topk.FieldErrors{{Message: fmt.Sprintf(format, args...)}}
}

// Kind is how statements read a file: what the template "source" takes.
func (l *Files) Kind(f File) string {
	switch {
	case f.unseen:
		return "input"
	case !f.remote:
		return "file"
	case l.S3.Key == "":
		return "open"
	case l.S3.Token == "":
		return "signed"
	}
	return "session"
}

// Args bind what the kind needs.
func (l *Files) Args(f File, format, structure string) []any {
	args := []any{clickhouse.Named("path", f.Path), clickhouse.Named("format", format), clickhouse.Named("structure", structure)}
	if f.remote && l.S3.Key != "" {
		args = append(args, clickhouse.Named("key", l.S3.Key), clickhouse.Named("secret", l.S3.Secret))
		if l.S3.Token != "" {
			args = append(args, clickhouse.Named("token", l.S3.Token))
		}
	}
	return args
}

// Find lists the files of all sources, each once, with the prints of what they
// hold.
func (l *Files) Find(ctx context.Context, sources []string) ([]File, error) {
	var found []File
	for _, source := range sources {
		if source == stdin && l.Stdin != nil {
			found = append(found, File{Path: stdin})
			continue
		}
		list := l.local
		if strings.Contains(source, "://") {
			list = l.remote
		}
		files, err := list(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		if len(files) == 0 {
			return nil, invalid("%s: there is no such file", source)
		}
		for _, f := range files {
			if !slices.ContainsFunc(found, func(other File) bool { return other.Path == f.Path }) {
				found = append(found, f)
			}
		}
	}
	return found, nil
}

// local lists files of this machine. What ClickHouse does not see there too is
// sent to it.
func (l *Files) local(ctx context.Context, pattern string) (found []File, err error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, invalid("%v", err)
	}
	for _, p := range paths {
		if p, err = filepath.Abs(p); err != nil {
			return nil, err
		}
		if strings.ContainsAny(p, "*?{}[]") {
			return nil, invalid("%s: names with wildcards cannot be read; rename it", p)
		}
		f := File{Path: p}
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			continue
		}
		f.Size = uint64(info.Size())
		if f.Print, err = checksum(p); err != nil {
			return nil, err
		}
		seen := false
		if err := l.query(ctx, "list.sql", "file", l.Args(f, "One", "auto"), func(rows *sql.Rows) error {
			var path, etag string
			var size uint64
			var changed uint32
			err := rows.Scan(&path, &size, &changed, &etag)
			seen = size == f.Size && int64(changed) == info.ModTime().Unix()
			return err
		}); err != nil {
			l.Log.DebugContext(ctx, "ClickHouse cannot look for the file", "path", p, "error", err)
		}
		f.unseen = !seen || l.Send
		found = append(found, f)
	}
	return found, nil
}

func checksum(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// remote lists objects of S3, as ClickHouse finds them.
func (l *Files) remote(ctx context.Context, pattern string) ([]File, error) {
	address, err := l.S3.resolve(pattern)
	if err != nil {
		return nil, err
	}
	base, key, err := splitObject(address)
	if err != nil {
		return nil, err
	}
	f := File{Path: address, remote: true}
	var found []File
	err = l.query(ctx, "list.sql", l.Kind(f), l.Args(f, "One", "auto"), func(rows *sql.Rows) error {
		var path, etag string
		var size uint64
		var changed uint32
		if err := rows.Scan(&path, &size, &changed, &etag); err != nil {
			return err
		}
		object := File{Path: address, Size: size, remote: true, Print: "etag:" + strings.Trim(etag, `"`)}
		if strings.ContainsAny(key, "*?{}[]") { // the path of what it stands for begins with the bucket
			object.Path = base + strings.TrimPrefix(path, bucketOf(base, path))
		}
		if etag == "" {
			object.Print = "changed:" + time.Unix(int64(changed), 0).UTC().Format(time.RFC3339)
		}
		found = append(found, object)
		return nil
	})
	return found, err
}

// resolve makes an address that ClickHouse takes of an s3:// URL.
func (s S3) resolve(address string) (string, error) {
	rest, isS3 := strings.CutPrefix(address, "s3://")
	switch {
	case !isS3:
		if !strings.HasPrefix(address, "http://") && !strings.HasPrefix(address, "https://") {
			return "", invalid("must be a path, s3://BUCKET/KEY or http(s)://HOST/BUCKET/KEY")
		}
		return address, nil
	case s.Endpoint != "":
		return strings.TrimSuffix(s.Endpoint, "/") + "/" + rest, nil
	}
	bucket, key, _ := strings.Cut(rest, "/")
	if bucket == "" || key == "" {
		return "", invalid("must be s3://BUCKET/KEY")
	}
	host := "s3"
	if s.Region != "" {
		host += "." + s.Region
	}
	return "https://" + host + ".amazonaws.com/" + bucket + "/" + key, nil
}

// splitObject gives the URL of the server, with a slash, and the rest, which is
// bucket and key, or the key where the bucket is part of the host's name.
func splitObject(address string) (base, key string, err error) {
	scheme, rest, _ := strings.Cut(address, "://")
	host, key, ok := strings.Cut(rest, "/")
	if !ok || key == "" || strings.Contains(host, "@") {
		return "", "", invalid("must name a host and an object, without a password")
	}
	return scheme + "://" + host + "/", key, nil
}

// bucketOf is the part of a path that ClickHouse lists which is in the host's
// name already.
func bucketOf(base, path string) string {
	_, host, _ := strings.Cut(base, "://")
	bucket, _, _ := strings.Cut(path, "/")
	if bucket != "" && strings.HasPrefix(host, bucket+".") {
		return bucket + "/"
	}
	return ""
}

// Columns gives the columns of a file, and their types.
func (l *Files) Columns(ctx context.Context, f File, format string) (map[string]string, error) {
	types := map[string]string{}
	switch {
	case f.unseen && format != "csv":
		return nil, invalid("%s: ClickHouse does not see this file, and only CSV and NDJSON can be sent to it: "+
			"put it where it reads, for a server its user_files directory, or into S3", f.Path)
	case f.unseen:
		names, err := header(f.Path)
		for _, name := range names {
			types[name] = "String"
		}
		return types, err
	}
	err := l.query(ctx, "columns.sql", l.Kind(f), l.Args(f, EngineFormats[format], "auto"), func(rows *sql.Rows) error {
		var name, kind string
		err := rows.Scan(&name, &kind)
		types[name] = kind
		return err
	})
	return types, err
}

// query runs a statement of a file, and hands each row to read.
func (l *Files) query(ctx context.Context, name string, choice any, args []any, read func(*sql.Rows) error) error {
	return l.conceal(statements.Query(ctx, l.DB, statementTimeout, name, choice, args, read))
}

func (l *Files) rows(ctx context.Context, name string, choice any, args []any) (*sql.Rows, error) {
	text, err := statements.Render(name, choice)
	if err != nil {
		return nil, err
	}
	rows, err := l.DB.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, l.conceal(err))
	}
	return rows, nil
}

func (l *Files) conceal(err error) error { return sqlfile.Conceal(err, l.S3.Secret, l.S3.Token) }
