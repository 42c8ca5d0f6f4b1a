package topk

import (
	"slices"

	"golang.org/x/text/language"
)

// Countries lists the ISO 3166-1 alpha-2 codes, sorted. The ClickHouse chain
// is given the same list, so that both ends of Kafka agree.
func Countries() []string { return slices.Clone(countries) }

var countries = func() []string {
	var codes []string
	for a := byte('A'); a <= 'Z'; a++ {
		for b := byte('A'); b <= 'Z'; b++ {
			code := string([]byte{a, b})
			// ParseRegion also takes aliases such as UK: those are not codes.
			if r, err := language.ParseRegion(code); err == nil && r.IsCountry() && r.Canonicalize().String() == code {
				codes = append(codes, code)
			}
		}
	}
	return codes
}()

func isCountry(code string) bool {
	_, found := slices.BinarySearch(countries, code)
	return found
}
