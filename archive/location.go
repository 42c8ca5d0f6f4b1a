package archive

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk/internal/sqlfile"
)

// A Location is where an archive is, and what opens it.
type Location struct {
	Endpoint string // of S3, http(s)://host[:port]
	Bucket   string
	Prefix   string // of all keys; "" or ending in /
	Region   string
	// KeyID and Secret sign requests, here as well as in ClickHouse. Without them
	// each looks for its own, in its environment or the role of its machine.
	KeyID, Secret string
}

// ParseLocation reads s3://bucket/prefix, of the S3 at the endpoint or else that
// of AWS in the region, or http(s)://host/bucket/prefix.
func ParseLocation(text, endpoint, region string) (Location, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return Location{}, fmt.Errorf("must be s3://bucket/prefix or https://host/bucket/prefix, not %q", text)
	}
	l := Location{Region: region}
	path := strings.Trim(u.Path, "/")
	switch u.Scheme {
	case "s3":
		l.Bucket = u.Host
		if l.Endpoint = strings.TrimSuffix(endpoint, "/"); l.Endpoint == "" {
			l.Endpoint = "https://s3." + region + ".amazonaws.com"
		}
	case "http", "https":
		l.Endpoint = u.Scheme + "://" + u.Host
		l.Bucket, path, _ = strings.Cut(path, "/")
	default:
		return Location{}, fmt.Errorf("must begin with s3:// or https://, not %q", text)
	}
	if l.Prefix = path; l.Prefix != "" {
		l.Prefix += "/"
	}
	if !plainBucket.MatchString(l.Bucket) || !plainPrefix.MatchString(l.Prefix) {
		return Location{}, fmt.Errorf("bucket and prefix may have only letters, digits, . _ - and /, not %q", text)
	}
	return l, nil
}

// What needs no quoting in URLs, and is no glob to ClickHouse.
var (
	plainBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	plainPrefix = regexp.MustCompile(`^[A-Za-z0-9._/-]*$`)
)

// String is the location without its secret.
func (l Location) String() string { return l.Endpoint + "/" + l.Bucket + "/" + l.Prefix }

// args are what statements need to reach an object: values, so that no text of
// a statement, which ClickHouse shows and logs, ever holds the secret.
func (l Location) args(key string) []any {
	args := []any{clickhouse.Named("url", l.String()+key)}
	if l.signed() {
		args = append(args, clickhouse.Named("keyID", l.KeyID), clickhouse.Named("secret", l.Secret))
	}
	return args
}

func (l Location) signed() bool { return l.KeyID != "" }

// conceal takes the secret out of an error's text.
func (l Location) conceal(err error) error { return sqlfile.Conceal(err, l.Secret) }
