package topk_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

// printable is every range of characters that is not a control character.
var printable = []*unicode.RangeTable{unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs}

func TestParseFilter(t *testing.T) {
	term := func(dim topk.Dimension, value string) topk.Term { return topk.Term{Dim: dim, Value: value} }
	tests := []struct {
		in, canonical string
		terms         []topk.Term
	}{
		{"global", "global", []topk.Term{term(topk.DimGlobal, "")}},
		{"region:IN", "region:IN", []topk.Term{term(topk.DimRegion, "IN")}},
		{"region:IN/Mumbai", "region:IN/Mumbai", []topk.Term{term(topk.DimRegion, "IN/Mumbai")}},
		{"genre:pop", "genre:pop", []topk.Term{term(topk.DimGenre, "pop")}},
		{"segment:premium", "segment:premium", []topk.Term{term(topk.DimSegment, "premium")}},
		{"playlist:37i9dQ", "playlist:37i9dQ", []topk.Term{term(topk.DimPlaylist, "37i9dQ")}},
		{"album:x", "album:x", []topk.Term{term(topk.DimAlbum, "x")}},
		{"artist:a1", "artist:a1", []topk.Term{term(topk.DimArtist, "a1")}},
		{"device:mobile", "device:mobile", []topk.Term{term(topk.DimDevice, "mobile")}},

		{"region:IN,genre:pop", "genre:pop,region:IN", []topk.Term{term(topk.DimGenre, "pop"), term(topk.DimRegion, "IN")}},
		{"genre:pop,region:IN", "genre:pop,region:IN", []topk.Term{term(topk.DimGenre, "pop"), term(topk.DimRegion, "IN")}},
		{"genre:rock,genre:pop", "genre:pop,genre:rock", []topk.Term{term(topk.DimGenre, "pop"), term(topk.DimGenre, "rock")}},
		{"genre:pop,genre:pop", "genre:pop", []topk.Term{term(topk.DimGenre, "pop")}},
		{"global,genre:pop", "genre:pop", []topk.Term{term(topk.DimGenre, "pop")}},
		{"global,global", "global", []topk.Term{term(topk.DimGlobal, "")}},

		{"album:a%2Cb", "album:a%2Cb", []topk.Term{term(topk.DimAlbum, "a,b")}},
		{"album:a%2cb", "album:a%2Cb", []topk.Term{term(topk.DimAlbum, "a,b")}},
		{"album:100%25", "album:100%25", []topk.Term{term(topk.DimAlbum, "100%")}},
		{"album:100%", "album:100%25", []topk.Term{term(topk.DimAlbum, "100%")}},
		{"album:%252C", "album:%252C", []topk.Term{term(topk.DimAlbum, "%2C")}},
		{"album:%41", "album:%2541", []topk.Term{term(topk.DimAlbum, "%41")}},
		{"region:US/Washington%2C D.C.", "region:US/Washington%2C D.C.", []topk.Term{term(topk.DimRegion, "US/Washington, D.C.")}},
		{"album:a:b/c", "album:a:b/c", []topk.Term{term(topk.DimAlbum, "a:b/c")}},
		{"playlist:" + strings.Repeat("x", 128), "playlist:" + strings.Repeat("x", 128), []topk.Term{term(topk.DimPlaylist, strings.Repeat("x", 128))}},
	}
	for _, tt := range tests {
		f, err := topk.ParseFilter(tt.in)
		if err != nil || f.String() != tt.canonical || !reflect.DeepEqual(f.Terms(), tt.terms) {
			t.Errorf("ParseFilter(%q) = %q %v, %v; want %q %v", tt.in, f, f.Terms(), err, tt.canonical, tt.terms)
		}
	}
}

func TestParseFilterErrors(t *testing.T) {
	unknown := func(name string) string {
		return `unknown dimension "` + name + `"; use one of global, region:IN, region:IN/Mumbai, ` +
			"genre:pop, segment:premium, playlist:ID, album:ID, artist:ID, device:mobile"
	}
	tests := []struct{ in, want string }{
		{"", unknown("")},
		{"Global", unknown("Global")},
		{"song:s1", unknown("song")},
		{" genre:pop", unknown(" genre")},
		{"genre:pop,", unknown("")},
		{",", unknown("")},
		{"genre:pop,b", unknown("b")},
		{"global:x", "global takes no value"},
		{"global:", "global takes no value"},
		{"genre", "genre needs a value, such as genre:…"},
		{"genre:", "genre needs a value, such as genre:…"},
		{"genre:a\x00", "genre must not contain control characters"},
		{"genre:\xff", "genre must be valid UTF-8"},
		{"artist:" + strings.Repeat("x", 129), "artist must be at most 128 bytes, is 129"},
		{"region:in", `region "in" must start with an upper-case ISO 3166-1 alpha-2 country such as IN`},
		{"region:IN/", `region "IN/" city must not be empty`},
		{strings.Repeat("genre:pop,", 6) + "genre:pop", "a filter must have at most 6 terms"},
		{"genre:" + strings.Repeat("x", topk.MaxFilterBytes), "a filter must be at most 4096 bytes"},
	}
	for _, tt := range tests {
		f, err := topk.ParseFilter(tt.in)
		if err == nil || err.Error() != tt.want || !errors.Is(err, topk.ErrInvalid) {
			t.Errorf("ParseFilter(%.40q) = %v\nwant %s", tt.in, err, tt.want)
		}
		if f.String() != "global" {
			t.Errorf("%q came back beside %v", f, err)
		}
	}
}

func TestZeroFilterIsGlobal(t *testing.T) {
	var zero topk.Filter
	for _, f := range []topk.Filter{zero, topk.NewFilter(), topk.NewFilter(topk.Term{Dim: topk.DimGlobal})} {
		if f.String() != "global" || !slices.Equal(f.Terms(), []topk.Term{{Dim: topk.DimGlobal}}) {
			t.Errorf("got %q, %v", f, f.Terms())
		}
	}
}

func TestFilterDoesNotShareItsTerms(t *testing.T) {
	terms := []topk.Term{{Dim: topk.DimRegion, Value: "IN"}, {Dim: topk.DimGenre, Value: "pop"}}
	f := topk.NewFilter(terms...)
	if terms[0].Dim != topk.DimRegion {
		t.Error("NewFilter sorted its argument")
	}
	f.Terms()[0].Value = "rock"
	if f.String() != "genre:pop,region:IN" {
		t.Errorf("the terms can be changed from outside: %s", f)
	}
}

func TestDimensions(t *testing.T) {
	for _, d := range topk.Dimensions() {
		if want := d == topk.DimGenre || d == topk.DimArtist; d.OfSong() != want {
			t.Errorf("%s.OfSong() = %v", d, d.OfSong())
		}
		in := string(d) + ":IN"
		if d == topk.DimGlobal {
			in = "global"
		}
		if f, err := topk.ParseFilter(in); err != nil || f.String() != in {
			t.Errorf("%s: %q, %v", in, f, err)
		}
	}
}

func validTerm(t *rapid.T) topk.Term {
	dim := rapid.SampledFrom(topk.Dimensions()).Draw(t, "dimension")
	switch dim {
	case topk.DimGlobal:
		return topk.Term{Dim: dim}
	case topk.DimRegion:
		r := topk.Region{Country: rapid.SampledFrom(topk.Countries()).Draw(t, "country")}
		if rapid.Bool().Draw(t, "has city") {
			r.City = text(topk.MaxCity).Draw(t, "city")
		}
		return topk.Term{Dim: dim, Value: r.String()}
	default:
		return topk.Term{Dim: dim, Value: text(topk.MaxValue).Draw(t, "value")}
	}
}

func TestFilterRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		terms := rapid.SliceOfN(rapid.Custom(validTerm), 0, topk.MaxFilterTerms).Draw(t, "terms")
		f := topk.NewFilter(terms...)
		again, err := topk.ParseFilter(f.String())
		if err != nil || again.String() != f.String() || !slices.Equal(again.Terms(), f.Terms()) {
			t.Fatalf("%v: %q reads as %q, %v", terms, f, again, err)
		}
		shuffled := rapid.Permutation(terms).Draw(t, "shuffled")
		if other := topk.NewFilter(append(shuffled, shuffled...)...); other.String() != f.String() {
			t.Fatalf("the order or repeats of %v matter: %q and %q", terms, other, f)
		}
	})
}

func TestTheLongestFilterReadsBack(t *testing.T) {
	var parts []string
	for i := range topk.MaxFilterTerms {
		parts = append(parts, "playlist:"+strings.Repeat("%", topk.MaxValue-1)+string(rune('a'+i)))
	}
	f, err := topk.ParseFilter(strings.Join(parts, ","))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := topk.ParseFilter(f.String()); err != nil || again.String() != f.String() {
		t.Errorf("%d bytes do not read back: %v", len(f.String()), err)
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{
		"global", "region:IN", "region:IN/Mumbai,genre:pop", "album:a%2Cb,album:100%", "genre:,", "album:%252C,global",
		"region:US/Washington%2c D.C.", "playlist:a:b/c,device:mobile,segment:premium,artist:é",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		filter, err := topk.ParseFilter(s)
		if err != nil {
			if !errors.Is(err, topk.ErrInvalid) {
				t.Fatalf("%q: %v is not ErrInvalid", s, err)
			}
			return
		}
		canonical := filter.String()
		again, err := topk.ParseFilter(canonical)
		if err != nil || again.String() != canonical || !slices.Equal(again.Terms(), filter.Terms()) {
			t.Fatalf("%q is %q, which reads as %q, %v", s, canonical, again, err)
		}
		if !slices.IsSortedFunc(filter.Terms(), func(a, b topk.Term) int {
			return strings.Compare(string(a.Dim)+"\x00"+a.Value, string(b.Dim)+"\x00"+b.Value)
		}) {
			t.Fatalf("%q is not sorted", canonical)
		}
	})
}

func TestEagerFilters(t *testing.T) {
	for filter, want := range map[string]bool{
		"global": true, "region:IN": true, "region:IN/Mumbai": true, "genre:pop": true, "segment:free": true, "device:tv": true,
		"playlist:p": false, "album:a": false, "artist:x": false, "genre:pop,region:IN": false, "global,region:IN": true,
	} {
		f, err := topk.ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Eager(); got != want {
			t.Errorf("%s: %t", filter, got)
		}
	}
}
