package snapshot_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// A sample is of charts that are there, each once; it changes from time to time
// and reaches every one.
func TestSample(t *testing.T) {
	srv := startServer(t)
	store := open(t, srv.url(), snapshot.Options{})
	if keys, err := store.Sample(t.Context(), 5); err != nil || len(keys) != 0 {
		t.Errorf("of an empty Redis: %v, %v", keys, err)
	}
	p := publisher(t, store, snapshot.PublisherOptions{})
	var published []string
	for i := range 30 {
		f := topk.NewFilter(topk.Term{Dim: topk.DimPlaylist, Value: fmt.Sprintf("p}:%d,{%%", i)})
		c := chart(f, 1, map[string]uint64{"s": 1})
		put(t, p, c)
		published = append(published, f.String()+" "+c.Window.String())
	}
	reached := map[string]bool{}
	for round := 0; len(reached) < len(published) && round < 1000; round++ {
		keys, err := store.Sample(t.Context(), 5)
		if err != nil {
			t.Fatal(err)
		}
		names := map[string]bool{}
		for _, k := range keys {
			name := k.Filter.String() + " " + k.Window.String()
			names[name], reached[name] = true, true
			if !slices.Contains(published, name) {
				t.Errorf("%s was not published", name)
			}
		}
		if len(names) != 5 {
			t.Fatalf("a sample of 5 has %v", names)
		}
	}
	if len(reached) != len(published) {
		t.Errorf("only %d of %d charts are ever drawn", len(reached), len(published))
	}
	if keys, err := store.Sample(t.Context(), 100); err != nil || len(keys) != 30 {
		t.Errorf("all of them: %d, %v", len(keys), err)
	}
}
