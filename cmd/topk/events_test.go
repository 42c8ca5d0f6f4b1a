package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// get asks the API and reads the answer into answer, unless it is nil.
func (s *system) get(path string, answer any) int {
	s.t.Helper()
	res, err := http.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			s.t.Fatalf("%s: %v: %s", path, err, text)
		}
	}
	return res.StatusCode
}

// An event is found from its acknowledgement on; one that is rejected is found
// with its reason, corrected, sent again, and then counts.
func TestWhereAnEventIs(t *testing.T) {
	at := ports(t)
	s := up(t, t.TempDir(), at)
	defer s.stop()
	kafka := at[5] // --kafka-listen
	type found struct {
		State, Topic string
		Offset       uint64
		Play         *struct{ SongID, Region string }
		Repeats      []struct{ Offset uint64 }
		Rejections   []struct{ Reason, ReplayedAt string }
	}
	find := func(id string) (event found) {
		s.get("/v1/events/"+id, &event)
		return event
	}
	message := func(id, region string) string {
		return fmt.Sprintf(`{"eventId":%q,"userId":"u","songId":"s","artistId":"a","timestamp":%d,"region":%q}`, id, time.Now().UnixMilli(), region)
	}
	if status := s.get("/v1/events/e-1", nil); status != http.StatusNotFound {
		t.Errorf("before it was sent: %d", status)
	}
	for range 2 {
		if status, answer := s.post("/v1/events/play", "application/json", message("e-1", "IN")); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, answer)
		}
		if event := find("e-1"); event.State != "accepted" && event.State != "counted" {
			t.Errorf("right after it was sent: %+v", event)
		}
	}
	eventually(t, "it is counted, and its repeat known", time.Minute, func() bool {
		event := find("e-1")
		return event.State == "counted" && len(event.Repeats) == 1
	})
	if event := find("e-1"); event.Topic != "plays" || event.Play.SongID != "s" || event.Play.Region != "IN" {
		t.Errorf("%+v", event)
	}

	// Another producer, which knows no hashes.
	client, err := kgo.NewClient(kgo.SeedBrokers(kafka), kgo.DefaultProduceTopic("plays"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, m := range []string{message("e-2", "IN"), message("e-3", "India"), "\x00\xff"} {
		if err := client.ProduceSync(t.Context(), kgo.StringRecord(m)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are rejected", time.Minute, func() bool {
		return s.clickhouse("SELECT uniqExact(src, koff) FROM plays_rejected") == "3"
	})
	var rejected struct {
		Items   []struct{ EventID, Raw, RawBase64, Reason string }
		Reasons []struct{ Messages int }
	}
	if status := s.get("/v1/admin/rejected?reason=userid", &rejected); status != http.StatusOK || len(rejected.Items) != 2 || len(rejected.Reasons) != 2 {
		t.Errorf("%d %+v", status, rejected)
	}
	if event := find("e-3"); event.State != "rejected" || len(event.Rejections) != 1 {
		t.Errorf("%+v", event)
	}

	load := func(args ...string) string {
		return s.command("", append([]string{"load", "rejected", "--clickhouse-url", s.ch, "--kafka-brokers", kafka,
			"--user-pepper-file", filepath.Join(s.data, "pepper")}, args...)...)
	}
	var line struct {
		Topic string
		Play  struct{ EventID, UserID string }
	}
	export := load("--dry-run", "--json", "--hash-users", "--event-id", "e-2", "--since", "1h")
	if err := json.Unmarshal([]byte(export), &line); err != nil || line.Topic != "plays" || line.Play.EventID != "e-2" || len(line.Play.UserID) != 64 {
		t.Errorf("%s %v", export, err)
	}
	if text := load("--once", "--hash-users", "--drop", "region"); !strings.Contains(text, "3 rejected: 2 sent again, 1 still wrong") {
		t.Error(text)
	}
	eventually(t, "they are counted", time.Minute, func() bool { return s.clickhouse("SELECT count() FROM plays WHERE counted") == "3" })
	if event := find("e-3"); event.State != "counted" || len(event.Rejections) != 1 || event.Rejections[0].ReplayedAt == "" || event.Play.Region != "" {
		t.Errorf("%+v", event)
	}
	if text := load("--once", "--hash-users", "--drop", "region"); !strings.Contains(text, "1 rejected: 0 sent again, 1 still wrong") {
		t.Error(text)
	}
}

func TestLoadRejectedRefusesClearly(t *testing.T) {
	for says, args := range map[string][]string{
		"needs --once":                     {},
		"--json goes with --dry-run":       {"--once", "--json"},
		`--drop: "songId" is not one of`:   {"--once", "--drop", "region,songId"},
		"--from names its messages":        {"--once", "--from", "x", "--reason", "y"},
		"--since must be a time":           {"--once", "--since", "yesterday"},
		"--partition must be from 0":       {"--once", "--partition=-1"},
		`--event-id: "a b" is no event id`: {"--once", "--event-id", "a b"},
		"no such file":                     {"--once", "--from", "/nowhere/x.ndjson"},
		"hashed with a secret":             {"--once", "--hash-users", "--user-pepper", ""},
	} {
		var out bytes.Buffer
		if err := run(t.Context(), append([]string{"load", "rejected"}, args...), strings.NewReader(""), &out, io.Discard); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v, want it to say %q", args, err, says)
		}
	}
}
