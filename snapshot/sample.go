package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/topk-charts/topk"
)

// A Key names a chart that has a snapshot.
type Key struct {
	Filter topk.Filter
	Window topk.Window
}

// scanCount is how many keys Redis looks at per answer.
const scanCount = 1000

// Sample gives at most n of the charts that Redis holds, chosen at random. It
// looks at every key, in bounded memory and without holding Redis up.
func (s *Store) Sample(ctx context.Context, n int) ([]Key, error) {
	client, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	sample := lowest{n: n, seed: maphash.MakeSeed()}
	for _, node := range client.Nodes() {
		for cursor := uint64(0); ; {
			entry, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(metaPrefix+"{*}:*").Count(scanCount).Build()).AsScanEntry()
			if err != nil {
				return nil, unavailable(err)
			}
			for _, key := range entry.Elements {
				sample.add(key)
			}
			if cursor = entry.Cursor; cursor == 0 {
				break
			}
		}
	}
	keys := make([]Key, 0, len(sample.kept))
	for _, k := range sample.kept {
		key, err := parseKey(strings.TrimPrefix(k.text, metaPrefix))
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// parseKey reads what keySuffix gives.
func parseKey(suffix string) (Key, error) {
	malformed := func(err error) error { return fmt.Errorf("%w: key %q: %w", errMalformed, suffix, err) }
	inner, braced := strings.CutPrefix(suffix, "{")
	end := strings.LastIndex(inner, "}:") // the filter may hold braces, the window does not
	if !braced || end < 0 {
		return Key{}, malformed(topk.ErrInvalid)
	}
	filter, err := topk.ParseFilter(inner[:end])
	if err != nil {
		return Key{}, malformed(err)
	}
	window, err := topk.ParseWindow(inner[end+2:])
	if err != nil {
		return Key{}, malformed(err)
	}
	return Key{filter, window}, nil
}

// lowest keeps the n texts of the lowest hashes: a random choice, in which a
// text that comes again, as SCAN and replicas give it, is in once.
type lowest struct {
	n    int
	seed maphash.Seed
	kept []hashed // ascending
}

type hashed struct {
	hash uint64
	text string
}

func (l *lowest) add(text string) {
	h := hashed{maphash.String(l.seed, text), text}
	i, found := slices.BinarySearchFunc(l.kept, h, func(a, b hashed) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.text, b.text))
	})
	if found || i >= l.n {
		return
	}
	l.kept = slices.Insert(l.kept, i, h)
	l.kept = l.kept[:min(len(l.kept), l.n)]
}
