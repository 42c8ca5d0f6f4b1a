package topk_test

import (
	"testing"
	"time"

	"github.com/topk-charts/topk"
)

var benchPlay = []byte(`{"eventId":"0f8c6f0e-6f2b-4b0e-9d5e-0c8f5a3c9a11","userId":"u123456","songId":"s4567890","artistId":"a7890",` +
	`"timestamp":1764000000000,"region":"IN/Mumbai","deviceType":"mobile","context":"playlist:37i9dQZF1DXcBWIGoYBM5M","duration":213}`)

func BenchmarkParsePlay(b *testing.B) {
	now := time.UnixMilli(1764000000000)
	rules := topk.DefaultRules()
	b.SetBytes(int64(len(benchPlay)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := topk.ParsePlay(benchPlay, rules, now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMarshalPlay(b *testing.B) {
	p, err := topk.ParsePlay(benchPlay, topk.DefaultRules(), time.UnixMilli(1764000000000))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.MarshalJSON(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHashUser(b *testing.B) {
	pepper := []byte("a pepper of 32 bytes, more or less")
	b.ReportAllocs()
	for b.Loop() {
		topk.HashUser(pepper, "u123456")
	}
}
