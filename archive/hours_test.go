package archive_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/archive"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
)

const hour = time.Hour

func days(all ...time.Time) []time.Time { return all }

// An erased user leaves the archive as well, by a next revision of the hours it
// was in, and no other.
func TestErasureReachesTheArchive(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.history(3, 2, 240)
	a := w.open(location(bucket)).WithTheCurrentHour()
	w.archive(a)
	before := manifests(t, bucket)
	last := w.now.Add(-2 * hour).UTC().Truncate(hour)
	w.exec("ALTER TABLE plays DELETE WHERE toStartOfHour(at) = '" + last.Format(time.DateTime) + "' AND koff % 5 = 0 SETTINGS mutations_sync = 2")
	w.exec("INSERT INTO rewrites (reason) VALUES ('erasure of a user')")
	report := w.archive(a)
	if report.Revisions != 1 {
		t.Fatalf("%+v", report)
	}
	m := a.ManifestOf(t, last)
	if m.Revision != 2 || len(m.Objects) == 0 {
		t.Errorf("the hour's manifest: %+v", m)
	}
	changed := 0
	for key, text := range manifests(t, bucket) {
		if text != before[key] && strings.HasPrefix(key, "plays/") {
			changed++
		}
	}
	if changed != 1 {
		t.Errorf("%d manifests have changed, want 1", changed)
	}
	for key := range objects(t, bucket) {
		if strings.Contains(key, last.Format("date=2006-01-02/hour=15")) && strings.Contains(key, "-r1-") {
			t.Errorf("%s has the erased plays", key)
		}
	}
	if again := w.archive(a); again.Hours != 0 {
		t.Errorf("archived again: %+v", again)
	}
	fresh := newWorld(t, true)
	fresh.restore(fresh.open(location(bucket)), fresh.whole())
	if got, want := fresh.print("plays"), w.print("plays"); got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
}

// A block that came in after its hour was archived gives a next revision.
func TestVeryLateBlock(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.history(2, 2, 90)
	a := w.open(location(bucket))
	w.archive(a)
	at := w.now.Add(-2 * hour)
	w.append(1, at.UTC().Truncate(hour).Add(hour-time.Millisecond), plays(9, 20, at)...)
	if report := w.archive(a); report.Revisions != 1 {
		t.Errorf("%+v", report)
	}
	m := a.ManifestOf(t, at.UTC().Truncate(hour))
	if m.Revision != 2 || m.Plays != 110 {
		t.Errorf("the hour: %+v", m)
	}
}

// Whatever is damaged is named, and nothing is restored.
func TestDamagedArchiveIsRefused(t *testing.T) {
	w := newWorld(t, true)
	w.history(3, 2, 240)
	fresh := newWorld(t, true)
	tests := []struct {
		name   string
		damage func(text []byte) []byte // nil deletes the file
		key    string                   // a part of it
	}{
		{"an object is cut off", func(b []byte) []byte { return b[:len(b)/2] }, ".parquet"},
		{"an object has other bytes", func(b []byte) []byte {
			for i := range b[len(b)/4 : len(b)/2] { // a single one may be of no row
				b[len(b)/4+i] ^= 0xff
			}
			return b
		}, ".parquet"},
		{"an object is gone", nil, ".parquet"},
		{"a manifest is gone", nil, "plays/"},
		{"the last manifest is gone", nil, "LAST"},
		{"a manifest is cut off", func(b []byte) []byte { return b[:len(b)/2] }, "plays/"},
		{"a manifest counts other plays", func(b []byte) []byte { return bytes.Replace(b, []byte(`"plays": 240`), []byte(`"plays": 239`), 1) }, "plays/"},
		{"a manifest names another column", func(b []byte) []byte { return bytes.Replace(b, []byte(`"koff"`), []byte(`"koff) SELECT"`), 1) }, "plays/"},
		{"a manifest is of another hour", func(b []byte) []byte { return bytes.Replace(b, []byte(`:00:00Z"`), []byte(`:00:01Z"`), 1) }, "plays/"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			bucket := embeddedtest.NewBucket(t)
			w.archive(w.open(location(bucket)))
			last := w.now.Add(-2 * hour).UTC()
			middle := w.now.Add(-3 * hour).UTC()
			folder := middle.Format("plays/date=2006-01-02/hour=15/")
			name := "manifest.json"
			switch test.key {
			case ".parquet":
				name = "plays-r1-0.parquet"
			case "LAST":
				folder = last.Add(hour).Format("plays/date=2006-01-02/hour=15/")
				if _, err := os.Stat(filepath.Join(bucket.Dir, "topk", folder)); err != nil {
					folder = last.Format("plays/date=2006-01-02/hour=15/")
				}
			}
			path := filepath.Join(bucket.Dir, "topk", folder, name)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if test.damage == nil {
				err = os.Remove(path)
			} else {
				damaged := test.damage(bytes.Clone(text))
				if bytes.Equal(damaged, text) {
					t.Fatal("nothing was damaged")
				}
				err = os.WriteFile(path, damaged, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = fresh.open(location(bucket)).Restore(t.Context(), fresh.whole())
			if !errors.Is(err, archive.ErrDamaged) {
				t.Errorf("restored: %v", err)
			}
			t.Log(err)
			if n := fresh.value("SELECT count() FROM plays"); n != "0" {
				t.Fatalf("%s plays were restored", n)
			}
		})
	}
}

// The secret is in no text that ClickHouse shows, nor in errors. (And an insert of
// a restore is seen for what it is, which the next restore waits for.)
func TestSecretIsNotShown(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.history(2, 2, 300)
	l := location(bucket)
	fresh := newWorld(t, true)
	restorer := fresh.open(l)
	inserting := false
	stop, shown := make(chan struct{}), map[string]bool{}
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			var all []string
			if err := w.env.ClickHouse.QueryRow(t.Context(), "SELECT groupArray(query) FROM system.processes").Scan(&all); err != nil {
				t.Error(err)
				return
			}
			for _, text := range all {
				shown[text] = true
			}
			inserting = restorer.Inserting(t) > 0 || inserting
		}
	})
	w.archive(w.open(l))
	fresh.restore(restorer, fresh.whole())
	close(stop)
	watching.Wait()
	if !inserting {
		t.Error("the inserts of a restore were not seen")
	}
	seen := 0
	for text := range shown {
		if strings.Contains(text, "s3(") && !strings.Contains(text, "system.processes") {
			seen++
		}
		if strings.Contains(text, l.Secret) {
			t.Errorf("a statement shows the secret: %s", text)
		}
	}
	if seen == 0 {
		t.Error("no statement with s3() was seen")
	}

	// A ClickHouse that is away: an HTTP client's error has the whole URL. And an
	// S3 that is, and one that does not know the key.
	w.append(0, w.now.Add(-hour), plays(11, 10, w.now)...)
	l.Secret = "not/the+secret'of anybody"
	away := l
	away.Endpoint = "http://127.0.0.1:1"
	for _, broken := range []*archive.Archive{w.open(l), w.open(away), w.openAt("http://127.0.0.1:1/db", location(bucket))} {
		_, err := broken.Run(t.Context(), nil)
		if err == nil {
			t.Error("it worked")
			continue
		}
		if strings.Contains(err.Error(), l.Secret) || strings.Contains(err.Error(), bucket.Keys.Secret) || strings.Contains(err.Error(), "anybody") {
			t.Errorf("an error shows the secret: %v", err)
		}
	}
}

// Plays that stream in meanwhile are in a later hour, and disturb nothing.
func TestArchiveWhilePlaysStreamIn(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.history(3, 2, 240)
	stop := make(chan struct{})
	var streaming sync.WaitGroup
	streaming.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				w.produce(int32(i%4), plays(1000+i, 10, w.now)...)
			}
		}
	})
	a := w.open(location(bucket))
	report := w.archive(a)
	again := w.archive(a)
	close(stop)
	streaming.Wait()
	if report.Plays != 720 || again.Hours != 0 {
		t.Errorf("archived %+v and %+v", report, again)
	}
	w.exact()
	before := manifests(t, bucket)
	w.archive(a)
	if !maps.Equal(before, manifests(t, bucket)) {
		t.Error("the archive has changed")
	}
}

// Two logs never share an archive, so a system that was begun anew cannot spoil
// the archive that it is to be restored from.
func TestArchiveOfAnotherLog(t *testing.T) {
	bucket := embeddedtest.NewBucket(t)
	w := newWorld(t, true)
	w.history(1, 2, 90)
	w.archive(w.open(location(bucket)))
	before := objects(t, bucket)
	other := newWorld(t, true)
	a := other.open(location(bucket))
	for range 2 { // without plays, and with some
		if _, err := a.Run(t.Context(), nil); !errors.Is(err, topk.ErrInvalid) {
			t.Errorf("archived: %v", err)
		}
		other.history(1, 2, 90)
	}
	if !maps.Equal(before, objects(t, bucket)) {
		t.Error("the archive was changed")
	}
}
