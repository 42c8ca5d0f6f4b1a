package topk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// A Dimension is one way to cut the charts.
type Dimension string

// The dimensions, in the order of design section 3.
const (
	DimGlobal   Dimension = "global"
	DimRegion   Dimension = "region"
	DimGenre    Dimension = "genre"
	DimSegment  Dimension = "segment"
	DimPlaylist Dimension = "playlist"
	DimAlbum    Dimension = "album"
	DimArtist   Dimension = "artist"
	DimDevice   Dimension = "device"
)

// Dimensions lists every dimension.
func Dimensions() []Dimension {
	return []Dimension{DimGlobal, DimRegion, DimGenre, DimSegment, DimPlaylist, DimAlbum, DimArtist, DimDevice}
}

// OfSong reports whether the dimension is a function of the song, taken from
// the catalog when a chart is computed, and not a property of the play.
func (d Dimension) OfSong() bool { return d == DimGenre || d == DimArtist }

// A Term restricts a chart to one value of one dimension.
type Term struct {
	Dim   Dimension
	Value string // "" for global only
}

// String gives the term as the filter grammar writes it, such as region:IN.
func (t Term) String() string {
	if t.Dim == DimGlobal {
		return string(DimGlobal)
	}
	return string(t.Dim) + ":" + termEscaper.Replace(t.Value)
}

// City reports whether the term is of a city: a region within a country.
func (t Term) City() bool { return t.Dim == DimRegion && strings.Contains(t.Value, "/") }

// A comma separates terms, so inside a value it is written %2C, and % is %25.
var (
	termEscaper   = strings.NewReplacer("%", "%25", ",", "%2C")
	termUnescaper = strings.NewReplacer("%25", "%", "%2C", ",", "%2c", ",")
)

// Limits of a filter. MaxFilterBytes has room for MaxFilterTerms of the longest
// terms with every byte escaped, so that the canonical form of a filter is
// never too long to be read back.
const (
	MaxFilterBytes = 4096
	MaxFilterTerms = 6
)

// A Filter says which plays a chart counts: those that satisfy every term.
// The zero Filter is the global chart. Filters are canonical: terms sorted,
// without repeats, so two filters of equal String count the same plays.
type Filter struct {
	terms []Term
	text  string // the canonical form; "" of the zero Filter
}

// NewFilter makes the canonical filter of the terms. The values are taken as
// they are; use ParseFilter for input from outside.
func NewFilter(terms ...Term) Filter {
	kept := slices.DeleteFunc(slices.Clone(terms), func(t Term) bool { return t.Dim == DimGlobal })
	slices.SortFunc(kept, func(a, b Term) int {
		return cmp.Or(cmp.Compare(a.Dim, b.Dim), cmp.Compare(a.Value, b.Value))
	})
	f := Filter{terms: slices.Compact(kept)}
	parts := make([]string, len(f.terms))
	for i, t := range f.terms {
		parts[i] = t.String()
	}
	f.text = strings.Join(parts, ",")
	return f
}

// ParseFilter reads the grammar of design section 3: "global", "region:IN",
// "region:IN/Mumbai", "genre:pop", … or several joined by commas, all of which
// must hold. Inside a value "," is written %2C and "%" is written %25.
func ParseFilter(s string) (Filter, error) {
	if len(s) > MaxFilterBytes {
		return Filter{}, invalid(fmt.Sprintf("a filter must be at most %d bytes", MaxFilterBytes))
	}
	parts := strings.Split(s, ",")
	if len(parts) > MaxFilterTerms {
		return Filter{}, invalid(fmt.Sprintf("a filter must have at most %d terms", MaxFilterTerms))
	}
	terms := make([]Term, 0, len(parts))
	for _, part := range parts {
		t, err := parseTerm(part)
		if err != nil {
			return Filter{}, err
		}
		terms = append(terms, t)
	}
	return NewFilter(terms...), nil
}

func parseTerm(s string) (Term, error) {
	name, value, hasValue := strings.Cut(s, ":")
	dim := Dimension(name)
	if !slices.Contains(Dimensions(), dim) {
		return Term{}, invalid(fmt.Sprintf("unknown dimension %q; use one of global, region:IN, region:IN/Mumbai, "+
			"genre:pop, segment:premium, playlist:ID, album:ID, artist:ID, device:mobile", name))
	}
	if dim == DimGlobal {
		if hasValue {
			return Term{}, invalid("global takes no value")
		}
		return Term{Dim: DimGlobal}, nil
	}
	value = termUnescaper.Replace(value)
	if !hasValue || value == "" {
		return Term{}, invalid(fmt.Sprintf("%s needs a value, such as %s:…", dim, dim))
	}
	if dim == DimRegion {
		if _, err := ParseRegion(value); err != nil {
			return Term{}, invalid(fmt.Sprintf("region %q %v", value, err))
		}
	} else if err := checkText(value, MaxValue); err != nil {
		return Term{}, invalid(fmt.Sprintf("%s %v", dim, err))
	}
	return Term{Dim: dim, Value: value}, nil
}

// Terms gives the filter's terms, sorted; a single global term when there is
// none else.
func (f Filter) Terms() []Term {
	if len(f.terms) == 0 {
		return []Term{{Dim: DimGlobal}}
	}
	return slices.Clone(f.terms)
}

// OfSongs is the filter without its terms of the play: what it says of songs.
func (f Filter) OfSongs() Filter {
	return NewFilter(slices.DeleteFunc(f.Terms(), func(t Term) bool { return !t.Dim.OfSong() })...)
}

// Eager reports whether every value's chart is kept fresh, in every named
// window, whether it is asked for or not: those of one term, but for playlists,
// albums and artists, of which there are too many.
func (f Filter) Eager() bool {
	if len(f.terms) > 1 {
		return false
	}
	switch f.Terms()[0].Dim {
	case DimPlaylist, DimAlbum, DimArtist:
		return false
	}
	return true
}

// String gives the canonical form; ParseFilter reads it back.
func (f Filter) String() string {
	if f.text == "" {
		return string(DimGlobal)
	}
	return f.text
}
