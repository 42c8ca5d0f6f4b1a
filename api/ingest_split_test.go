package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
)

func FuzzSplitIngestArray(f *testing.F) {
	for _, s := range []string{
		`[]`, ` [ ] `, `[1]`, `[1 , 2]`, `[{"a":"]}\\\""},[[],{}],"x,]",null , true,-1e9]`, `[{"a":[1,{"b":2}]}]`,
		`[`, `]`, `[1,]`, `[1 2]`, `{}`, `null`, ``, `[1]x`, `["\u005d"]`, "[\"\xff\"]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 8
		var want []json.RawMessage
		isArray := json.Unmarshal(body, &want) == nil && want != nil
		items, err := splitIngestArray(body, most)
		var p *ingestProblem
		switch {
		case err != nil && (!errors.As(err, &p) || items != nil):
			t.Fatalf("%q gives %q beside %v", body, items, err)
		case !isArray && (p == nil || p.status != http.StatusBadRequest):
			t.Fatalf("%q is not an array, but gives %q, %v", body, items, err)
		case isArray && len(want) > most && (p == nil || p.status != http.StatusRequestEntityTooLarge):
			t.Fatalf("%q has %d items, but gives %q, %v", body, len(want), items, err)
		case isArray && len(want) <= most && err != nil:
			t.Fatalf("%q: %v", body, err)
		}
		if err != nil {
			return
		}
		if len(items) != len(want) {
			t.Fatalf("%q has %d items, want %d", body, len(items), len(want))
		}
		for i := range items {
			if !bytes.Equal(items[i], want[i]) {
				t.Fatalf("item %d of %q is %q, want %q", i, body, items[i], want[i])
			}
		}
	})
}

func FuzzSplitIngestLines(f *testing.F) {
	for _, s := range []string{"", "\n", "a", "a\nb", "\r\na\r\n \t\n\nb\n", "a\x00\n\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 8
		items, err := splitIngestLines(body, most)
		var want [][]byte
		for _, line := range bytes.Split(body, []byte("\n")) {
			if line = bytes.Trim(line, " \t\r\n"); len(line) > 0 {
				want = append(want, line)
			}
		}
		if (err != nil) != (len(want) > most) {
			t.Fatalf("%q has %d lines: %v", body, len(want), err)
		}
		if err == nil && !bytes.Equal(bytes.Join(items, []byte("\n")), bytes.Join(want, []byte("\n"))) {
			t.Fatalf("%q gives %q, want %q", body, items, want)
		}
	})
}
