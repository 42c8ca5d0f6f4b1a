package backfill

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
)

// S3 is how ClickHouse reads from S3. Without Key it asks as anybody.
type S3 struct {
	Endpoint string // of s3:// URLs, as http(s)://host:port; "" for AWS
	Region   string // of AWS; "" for the bucket's default
	Key      string
	Secret   string
	Token    string // of a session; "" for none
}

// A file is one of those that are loaded.
type file struct {
	number uint32 // of the run, from 1
	path   string // or URL
	print  string
	size   uint64
	remote bool
	upload bool // ClickHouse does not see it
}

// fields are those of a play, in the order in which stage.sql takes them.
var fields = []string{"eventId", "userId", "songId", "artistId", "timestamp", "region", "deviceType", "context", "duration"}

// Formats are those of files, by what their names end in.
var Formats = map[string]string{
	"csv": "csv", "ndjson": "ndjson", "jsonl": "ndjson", "json": "ndjson", "parquet": "parquet", "pq": "parquet",
}

// engineFormats are the names ClickHouse has for them. Lines are taken apart by
// the statement, so that a line that is no JSON is a reject and not the end.
var engineFormats = map[string]string{"csv": "CSVWithNames", "ndjson": "LineAsString", "parquet": "Parquet"}

func (b *backfill) formatOf(f file) (string, error) {
	if b.Format != "" {
		return b.Format, nil
	}
	name := f.path
	if f.remote {
		if u, err := url.Parse(f.path); err == nil {
			name = u.Path
		}
	}
	name = strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(path.Base(name)), ".gz"), ".zst")
	if format, ok := Formats[strings.TrimPrefix(path.Ext(name), ".")]; ok {
		return format, nil
	}
	return "", invalid("%s: its name does not tell its format: give --format", f.path)
}

func invalid(format string, args ...any) error {
	return topk.FieldErrors{{Message: fmt.Sprintf(format, args...)}}
}

// kind is how stage.sql reads a file.
func (b *backfill) kind(f file) string {
	switch {
	case f.upload:
		return "input"
	case !f.remote:
		return "file"
	case b.S3.Key == "":
		return "open"
	case b.S3.Token == "":
		return "signed"
	}
	return "session"
}

// readArgs bind what the kind needs.
func (b *backfill) readArgs(f file, format, structure string) []any {
	args := []any{clickhouse.Named("path", f.path), clickhouse.Named("format", format), clickhouse.Named("structure", structure)}
	if f.remote && b.S3.Key != "" {
		args = append(args, clickhouse.Named("key", b.S3.Key), clickhouse.Named("secret", b.S3.Secret))
		if b.S3.Token != "" {
			args = append(args, clickhouse.Named("token", b.S3.Token))
		}
	}
	return args
}

// find lists the files of all sources, each once, with the prints of what they
// hold.
func (b *backfill) find(ctx context.Context) ([]file, error) {
	var found []file
	for _, source := range b.Sources {
		list := b.local
		if strings.Contains(source, "://") {
			list = b.remote
		}
		files, err := list(ctx, source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", source, err)
		}
		if len(files) == 0 {
			return nil, invalid("%s: there is no such file", source)
		}
		for _, f := range files {
			if !slices.ContainsFunc(found, func(other file) bool { return other.path == f.path }) {
				f.number = uint32(len(found) + 1)
				found = append(found, f)
			}
		}
	}
	return found, nil
}

// local lists files of this machine. What ClickHouse does not see there too is
// sent to it.
func (b *backfill) local(ctx context.Context, pattern string) (found []file, err error) {
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
		f := file{path: p}
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			continue
		}
		f.size = uint64(info.Size())
		if f.print, err = checksum(p); err != nil {
			return nil, err
		}
		seen := false
		if err := b.query(ctx, "list.sql", "file", b.readArgs(f, "One", "auto"), func(rows *sql.Rows) error {
			var path, etag string
			var size uint64
			var changed uint32
			err := rows.Scan(&path, &size, &changed, &etag)
			seen = size == f.size && int64(changed) == info.ModTime().Unix()
			return err
		}); err != nil {
			b.Log.DebugContext(ctx, "ClickHouse cannot look for the file", "path", p, "error", err)
		}
		f.upload = !seen || b.sendFiles
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
func (b *backfill) remote(ctx context.Context, pattern string) ([]file, error) {
	address, err := b.S3.resolve(pattern)
	if err != nil {
		return nil, err
	}
	base, key, err := splitObject(address)
	if err != nil {
		return nil, err
	}
	f := file{path: address, remote: true}
	var found []file
	err = b.query(ctx, "list.sql", b.kind(f), b.readArgs(f, "One", "auto"), func(rows *sql.Rows) error {
		var path, etag string
		var size uint64
		var changed uint32
		if err := rows.Scan(&path, &size, &changed, &etag); err != nil {
			return err
		}
		object := file{path: address, size: size, remote: true, print: "etag:" + strings.Trim(etag, `"`)}
		if strings.ContainsAny(key, "*?{}[]") { // the path of what it stands for begins with the bucket
			object.path = base + strings.TrimPrefix(path, bucketOf(base, path))
		}
		if etag == "" {
			object.print = "changed:" + time.Unix(int64(changed), 0).UTC().Format(time.RFC3339)
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

// A column is where stage.sql finds a field.
type column struct {
	N       int  // its place
	Instant bool // it is a time, not text
	Blank   bool // an empty text means that there is none
}

// structure says what columns to read of a file, as ClickHouse writes it. A field
// that is required must be there: else the file is not what it is taken for.
func (b *backfill) structure(ctx context.Context, f file, format string) (text string, columns []column, err error) {
	if format == "ndjson" {
		return "line String", nil, nil
	}
	types, err := b.columns(ctx, f, format)
	if err != nil {
		return "", nil, err
	}
	var wrong topk.FieldErrors
	var parts []string
	for i, field := range fields {
		name := b.columnOf(field)
		kind, there := types[name]
		_, mapped := b.Columns[field]
		if !there && (i < 5 || mapped) {
			wrong = append(wrong, topk.FieldError{Field: field, Message: fmt.Sprintf("has no column %q in %s: map it by --map %s=COLUMN", name, f.path, field)})
		}
		c := column{N: i + 1, Blank: format == "csv"}
		as := "Nullable(String)"
		if c.Instant = format == "parquet" && field == "timestamp" && strings.Contains(kind, "Date"); c.Instant {
			as = "Nullable(DateTime64(3, 'UTC'))"
		}
		parts = append(parts, "`"+strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(name)+"` "+as)
		columns = append(columns, c)
	}
	if wrong != nil {
		return "", nil, wrong
	}
	return strings.Join(parts, ", "), columns, nil
}

// columns gives the columns of a file, and their types.
func (b *backfill) columns(ctx context.Context, f file, format string) (map[string]string, error) {
	types := map[string]string{}
	switch {
	case f.upload && format != "csv":
		return nil, invalid("%s: ClickHouse does not see this file, and only CSV and NDJSON can be sent to it: "+
			"put it where it reads, for a server its user_files directory, or into S3", f.path)
	case f.upload:
		names, err := header(f.path)
		for _, name := range names {
			types[name] = "String"
		}
		return types, err
	}
	err := b.query(ctx, "columns.sql", b.kind(f), b.readArgs(f, engineFormats[format], "auto"), func(rows *sql.Rows) error {
		var name, kind string
		err := rows.Scan(&name, &kind)
		types[name] = kind
		return err
	})
	return types, err
}

func (b *backfill) columnOf(field string) string {
	if name, ok := b.Columns[field]; ok {
		return name
	}
	return field
}

// CheckColumns says what is wrong with a mapping.
func CheckColumns(columns map[string]string) error {
	used := map[string]string{}
	for field, name := range columns {
		if other, twice := used[name]; twice {
			return invalid("--map: column %s is both %s and %s", name, other, field)
		}
		used[name] = field
		if !slices.Contains(fields, field) {
			return invalid("--map %s=%s: a play has no field %s, only %s", field, name, field, strings.Join(fields, ", "))
		}
	}
	return nil
}
