package backfill_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/backfill"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/internal/tabular"
)

// Objects are read by ClickHouse, with keys that appear nowhere; one that is
// written anew has changed.
func TestS3(t *testing.T) {
	s := newSystem(t)
	bucket := embeddedtest.NewBucket(t)
	put := func(key string, content []byte) {
		t.Helper()
		path := s.file("object", content)
		s.exec(fmt.Sprintf("INSERT INTO FUNCTION s3('%s/%s/%s', '%s', '%s', 'RawBLOB', 'x String', 'none') SELECT * FROM file('%s', 'RawBLOB', 'x String') SETTINGS s3_truncate_on_insert = 1",
			bucket.Endpoint, bucket.Name, key, bucket.Keys.ID, bucket.Keys.Secret, path))
	}
	packed := func(name string, content []byte) []byte {
		text, err := os.ReadFile(s.file(name, content))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	put("2025/a.csv", csvOf(rowsOf(10, old)))
	put("2025/b-b.ndjson.gz", packed("b.ndjson.gz", ndjson(rowsOf(20, old))))
	put("2025/c.txt", []byte("no plays"))
	parquet, err := os.ReadFile(s.parquet("c.parquet", rowsOf(25, old), "*"))
	if err != nil {
		t.Fatal(err)
	}
	put("2025/deep/c.parquet", parquet)
	o := backfill.Options{S3: tabular.S3{Endpoint: bucket.Endpoint, Key: bucket.Keys.ID, Secret: bucket.Keys.Secret}}
	load := func(sources ...string) backfill.Report {
		t.Helper()
		o.Sources = sources
		report, err := s.try(o)
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	all := "s3://" + bucket.Name + "/2025/*.{csv,gz}"
	if r := load(all); r.Appended != 20 || len(r.Files) != 2 {
		t.Errorf("%+v", r)
	}
	if r := load(all, bucket.Endpoint+"/"+bucket.Name+"/2025/a.csv"); r.Rows != 0 || len(r.Files) != 2 {
		t.Errorf("again: %+v", r)
	}
	put("2025/a.csv", csvOf(rowsOf(22, old)))
	if r := load("s3://"+bucket.Name+"/2025/a.csv", "s3://"+bucket.Name+"/2025/**/c.parquet"); r.Appended != 5 || len(r.Changed) != 1 {
		t.Errorf("changed: %+v", r)
	}
	s.exact(25)

	o.Sources = []string{"s3://" + bucket.Name + "/none/*"}
	if _, err := s.try(o); !errors.Is(err, topk.ErrInvalid) {
		t.Errorf("no such object: %v", err)
	}
	o.Sources, o.S3.Secret, o.S3.Token = []string{"s3://" + bucket.Name + "/2025/a.csv"}, "a-wrong-secret", "a-token"
	if _, err := s.try(o); err == nil || strings.Contains(err.Error(), o.S3.Secret) || strings.Contains(err.Error(), o.S3.Token) {
		t.Errorf("wrong keys: %v", err)
	}
	o.S3.Key = ""
	if _, err := s.try(o); err == nil {
		t.Error("as anybody")
	}
}
