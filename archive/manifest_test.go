package archive_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk/archive"
)

// The pieces of an hour have each of its offsets once, in order, and never more
// plays than allowed, however many of the offsets are plays.
func TestPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.Uint64Range(1, 20).Draw(t, "most")
		var f archive.Facts
		for src := range rapid.Uint32Range(0, 5).Draw(t, "sources") {
			s := archive.Source{Source: src, First: rapid.Uint64Range(0, 1000).Draw(t, "first")}
			s.Plays = rapid.Uint64Range(1, 50).Draw(t, "plays")
			s.Last = s.First + s.Plays - 1 + rapid.Uint64Range(0, 50).Draw(t, "gaps")
			f.Sources = append(f.Sources, s)
		}
		var got, want []string
		for _, piece := range f.Pieces(most) {
			plays := uint64(0)
			for _, span := range piece {
				plays += min(span.To-span.From, f.Sources[span.Source].Plays)
				for offset := span.From; offset < span.To; offset++ {
					got = append(got, fmt.Sprint(span.Source, " ", offset))
				}
			}
			if plays > most || plays == 0 {
				t.Fatalf("a piece may have %d plays: %v", plays, piece)
			}
		}
		for _, s := range f.Sources {
			for offset := s.First; offset <= s.Last; offset++ {
				want = append(want, fmt.Sprint(s.Source, " ", offset))
			}
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Fatalf("pieces of %v: %v", f, got)
		}
	})
}

func TestParseLocation(t *testing.T) {
	tests := []struct{ text, endpoint, want string }{
		{"s3://bucket/a/b", "", "https://s3.eu-west-1.amazonaws.com/bucket/a/b/"},
		{"s3://bucket", "", "https://s3.eu-west-1.amazonaws.com/bucket/"},
		{"s3://bucket/", "http://host:9000/", "http://host:9000/bucket/"},
		{"http://host:9000/bucket/a/", "", "http://host:9000/bucket/a/"},
		{"https://host/bucket", "https://ignored", "https://host/bucket/"},
		{"https://host", "", ""},
		{"https://key:secret@host/bucket", "", ""},
		{"https://host/bucket?secret=1", "", ""},
		{"s3://bucket/{a,b}/*", "", ""},
		{"s3://B", "", ""},
		{"file:///etc", "", ""},
		{"bucket", "", ""},
		{"", "", ""},
	}
	for _, test := range tests {
		l, err := archive.ParseLocation(test.text, test.endpoint, "eu-west-1")
		if (err != nil) != (test.want == "") || err == nil && l.String() != test.want {
			t.Errorf("%q at %q: %q, %v; want %q", test.text, test.endpoint, l, err, test.want)
		}
	}
}

// Whatever can be parsed reads as the same again, and is no glob.
func FuzzParseLocation(f *testing.F) {
	for _, text := range []string{"s3://bucket/a", "https://host:1/bucket/a/b", "s3://b*", "http://[::1]/abc"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := archive.ParseLocation(text, "", "us-east-1")
		if err != nil {
			return
		}
		again, err := archive.ParseLocation(l.String(), "", "us-east-1")
		if err != nil || again != l || strings.ContainsAny(l.Bucket+l.Prefix, "*?{} %") {
			t.Errorf("%q is %+v, then %+v, %v", text, l, again, err)
		}
	})
}

func TestConceal(t *testing.T) {
	l := archive.Location{KeyID: "id", Secret: "a/b+c d'e"}
	cause := errors.New("cause")
	for _, form := range []string{l.Secret, url.QueryEscape(l.Secret), url.PathEscape(l.Secret), `a/b+c d\'e`} {
		err := l.Conceal(fmt.Errorf("Post http://host?param_secret=%s: %w", form, cause))
		if strings.Contains(err.Error(), form) || !errors.Is(err, cause) {
			t.Errorf("%q is shown, or the cause is lost: %v", form, err)
		}
	}
	if err := l.Conceal(cause); err != cause {
		t.Errorf("another error: %v", err)
	}
}
