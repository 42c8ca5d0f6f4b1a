package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/cache"
)

// schemathesisVersion is the same as in scripts/schemathesis.txt.
const schemathesisVersion = "4.32.5"

// Thousands of requests, made from the OpenAPI document by its rules and against
// them, are answered as the document says.
func TestAnswersAsDocumented(t *testing.T) {
	dir, err := cache.Dir()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "schemathesis-"+schemathesisVersion, "bin", "schemathesis")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no %s: run scripts/schemathesis.sh", program)
	}
	config, err := filepath.Abs("testdata/schemathesis.toml")
	if err != nil {
		t.Fatal(err)
	}
	s := up(t, t.TempDir(), ports(t))
	s.documented()

	run := exec.CommandContext(t.Context(), program, "--no-color", "--config-file", config, "run", s.url+"/openapi.json")
	run.Dir = t.TempDir() // it leaves files behind
	out, err := run.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	cases := regexp.MustCompile(`(\d+) generated`).FindSubmatch(out)
	if cases == nil {
		t.Fatalf("it does not say how many cases there were:\n%s", out)
	}
	if n, err := strconv.Atoi(string(cases[1])); err != nil || n < 2000 {
		t.Errorf("only %s cases:\n%s", cases[1], out)
	} else {
		t.Logf("%d cases", n)
	}
	s.stop()
}

// documented puts in what the document's examples ask for.
func (s *system) documented() {
	s.t.Helper()
	var songs, plays strings.Builder
	for i := range 20 {
		fmt.Fprintf(&songs, `{"songId":"s4%02d","title":"Title","artistId":"a789","artist":"Arijit Singh","genres":["pop"],"durationMs":268000}`+"\n", 45+i)
	}
	if status, answer := s.post("/v1/songs", "application/x-ndjson", songs.String()); status != http.StatusOK {
		s.t.Fatalf("%d %s", status, answer)
	}
	n := 0
	for day := range 7 {
		for range 200 {
			p := topk.Play{
				EventID: fmt.Sprint("documented-", n), UserID: fmt.Sprint("u", n%17), SongID: fmt.Sprintf("s4%02d", 45+n*n%23), ArtistID: "a789",
				Timestamp: time.Now().Add(-time.Duration(day)*24*time.Hour + time.Minute - time.Duration(n)*time.Second),
				Region:    topk.Region{Country: "IN", City: "Mumbai"}, Device: "mobile", Context: topk.Context{Kind: "playlist", ID: "37i9dQ"},
			}
			plays.WriteString(encode(s.t, p) + "\n")
			n++
		}
	}
	if status, answer := s.post("/v1/events/plays", "application/x-ndjson", plays.String()); status != http.StatusAccepted {
		s.t.Fatalf("%d %s", status, answer)
	}
	s.inLog(uint64(n))
}
