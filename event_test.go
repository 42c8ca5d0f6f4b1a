package topk_test

import (
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
)

func TestPosition(t *testing.T) {
	p := topk.NewPosition(3, "plays", 65_535, 1<<40)
	if p.Epoch() != 3 || p.Partition() != 65_535 || p.Source != 3*65536+65535 || p.Offset != 1<<40 {
		t.Errorf("%+v", p)
	}
	if got := topk.NewPosition(0, "plays", 7, 42).String(); got != "topic plays, partition 7, offset 42" {
		t.Error(got)
	}
}

func TestEventIDOf(t *testing.T) {
	for message, want := range map[string]string{
		`{"eventId":"e-1","userId":"u"}`:            "e-1",
		` { "x" : {"eventId":"no"}, "eventId":"e"}`: "e",
		`{"eventId":"\u0065"}`:                      "e",
		`{"eventId":"a","eventId":"b"}`:             "b",
		`{"eventId":"a b"}`:                         "",
		`{"eventId":""}`:                            "",
		`{"eventId":null}`:                          "",
		`{"eventId":7}`:                             "",
		`{"eventid":"e"}`:                           "",
		`{"eventId":"e"`:                            "",
		`[{"eventId":"e"}]`:                         "",
		`nonsense`:                                  "",
		``:                                          "",
		`{"eventId":"` + strings.Repeat("e", 65) + `"}`: "",
	} {
		if got := topk.EventIDOf([]byte(message)); got != want {
			t.Errorf("%s: %q, want %q", message, got, want)
		}
	}
}

// The id of a message is the one that the play has when it is parsed.
func FuzzEventIDOf(f *testing.F) {
	for _, seed := range []string{`{"eventId":"e-1"}`, `{"eventId":"\u0065","eventId":null}`, `{"a":[{}],"eventId":""}`, "{", ""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		play, err := topk.ParsePlay(message, topk.DefaultRules(), time.Unix(0, 0))
		if got := topk.EventIDOf(message); got != play.EventID && !strings.Contains(err.Error(), "UTF-8") {
			t.Errorf("%q, parsed as %q", got, play.EventID)
		}
	})
}
