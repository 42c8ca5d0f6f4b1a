package simulate

import (
	"math/rand/v2"
)

// A weighted draws indices in proportion to their weights, in constant time
// whatever their number (Vose's alias method): each slot holds one index and,
// for the rest of its share, another.
type weighted struct {
	keep  []float64 // probability of the slot's own index
	alias []int     // the other one
}

// newWeighted takes at least one weight; all are positive.
func newWeighted(weights []float64) weighted {
	n := len(weights)
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	scaled := make([]float64, n) // mean 1
	var small, large []int
	for i, w := range weights {
		scaled[i] = w * float64(n) / sum
		if scaled[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	out := weighted{keep: make([]float64, n), alias: make([]int, n)}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		out.keep[s], out.alias[s] = scaled[s], l
		scaled[l] -= 1 - scaled[s]
		if scaled[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	// What is left is full but for rounding.
	for _, i := range append(small, large...) {
		out.keep[i], out.alias[i] = 1, i
	}
	return out
}

func (w weighted) draw(rng *rand.Rand) int {
	i := rng.IntN(len(w.keep))
	if rng.Float64() < w.keep[i] {
		return i
	}
	return w.alias[i]
}

// falling gives n weights 1, 1/2, 1/3, …: the first city of a country is its
// largest.
func falling(n int) []float64 {
	weights := make([]float64, n)
	for i := range weights {
		weights[i] = 1 / float64(i+1)
	}
	return weights
}
