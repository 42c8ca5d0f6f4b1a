package simulate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math/rand/v2"
)

// DefaultUsers is how many users there are unless told otherwise.
const DefaultUsers = 50_000

// MaxUsers bounds the pool: each user costs a few words of memory.
const MaxUsers = 10_000_000

// UserSegments are the segments of one user, as the loader reads them.
type UserSegments struct {
	UserID   string   `json:"userId"`
	Segments []string `json:"segments"`
}

// Segments gives the first n users and their segments. Like a user's home,
// they are a function of the user's id alone, whatever the seed of the plays:
// rows loaded once fit every later run.
func Segments(n int) iter.Seq[UserSegments] {
	return func(yield func(UserSegments) bool) {
		for i := range n {
			id := userID(i)
			if !yield(UserSegments{UserID: id, Segments: segmentsOf(id)}) {
				return
			}
		}
	}
}

// WriteSegments writes the first n users' segments as NDJSON.
func WriteSegments(w io.Writer, n int) error {
	out := bufio.NewWriter(w)
	rows := json.NewEncoder(out)
	for row := range Segments(n) {
		if err := rows.Encode(row); err != nil {
			return fmt.Errorf("write segments: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("write segments: %w", err)
	}
	return nil
}

func userID(i int) string { return fmt.Sprintf("u%07d", i+1) }

// What a user's random numbers are for; each has a stream of its own, so that
// a change to one leaves the others as they were.
const (
	aboutSegments = iota + 1
	aboutHome
)

// userRand gives the user's own random numbers.
func userRand(id string, about uint64) *rand.Rand {
	h := fnv.New64a()
	_, _ = io.WriteString(h, id) // a hash never fails
	return rand.New(rand.NewPCG(h.Sum64(), about))
}

// segmentsOf gives a user's plan and, for some, what else is known of them.
func segmentsOf(id string) []string {
	rng := userRand(id, aboutSegments)
	plan, more := rng.Float64(), rng.Float64()
	if plan < 0.55 {
		if more < 0.15 {
			return []string{"free", "student"}
		}
		return []string{"free"}
	}
	switch {
	case more < 0.20:
		return []string{"premium", "student"}
	case more < 0.50:
		return []string{"premium", "family"}
	default:
		return []string{"premium"}
	}
}

// A population is every user's home, and who lives in each country.
type population struct {
	cities    []string // by user; "" for the whole country
	residents [][]int  // by position of the country: its users
}

// newPopulation settles n users in the countries in proportion to the weights.
// towns are the cities of each country, the largest first.
func newPopulation(towns [][]string, byStreams weighted, n int) population {
	pop := population{cities: make([]string, n), residents: make([][]int, len(towns))}
	inCity := make([]weighted, len(towns))
	for i, names := range towns {
		if len(names) > 0 {
			inCity[i] = newWeighted(falling(len(names)))
		}
	}
	const knownCity = 0.9 // the rest told their country only
	for user := range n {
		rng := userRand(userID(user), aboutHome)
		country := byStreams.draw(rng)
		pop.residents[country] = append(pop.residents[country], user)
		if names := towns[country]; len(names) > 0 && rng.Float64() < knownCity {
			pop.cities[user] = names[inCity[country].draw(rng)]
		}
	}
	return pop
}

// listener draws who plays in a country: some of its residents play much more
// than others. In a country that the pool is too small for, travellers play.
func (p population) listener(rng *rand.Rand, country int) (user int, city string) {
	residents := p.residents[country]
	if len(residents) == 0 {
		return rng.IntN(len(p.cities)), ""
	}
	u := rng.Float64()
	user = residents[int(u*u*float64(len(residents)))]
	return user, p.cities[user]
}
