package topk_test

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

func TestRankEntries(t *testing.T) {
	entries := []topk.Entry{
		{SongID: "a", Plays: 2}, {SongID: "é", Plays: 2}, {SongID: "B", Plays: 2}, {SongID: "ab", Plays: 2},
		{SongID: "z", Plays: 1}, {SongID: "c", Plays: 10}, {SongID: "0", Plays: 0},
	}
	want := []topk.Entry{
		{Rank: 1, SongID: "c", Plays: 10},
		// Of equal plays the greater bytes come first: é is 0xC3 0xA9, and a prefix is less.
		{Rank: 2, SongID: "é", Plays: 2}, {Rank: 3, SongID: "ab", Plays: 2}, {Rank: 4, SongID: "a", Plays: 2}, {Rank: 5, SongID: "B", Plays: 2},
		{Rank: 6, SongID: "z", Plays: 1}, {Rank: 7, SongID: "0", Plays: 0},
	}
	topk.RankEntries(entries)
	if !slices.Equal(entries, want) {
		t.Errorf("got %v\nwant %v", entries, want)
	}
	topk.RankEntries(nil)
}

// zrevrange orders as Redis does: it keeps members by score, then by bytes,
// and ZREVRANGE walks that order from its end.
func zrevrange(entries []topk.Entry) []topk.Entry {
	set := slices.Clone(entries)
	slices.SortFunc(set, func(a, b topk.Entry) int {
		switch {
		case a.Plays < b.Plays:
			return -1
		case a.Plays > b.Plays:
			return 1
		}
		return slices.Compare([]byte(a.SongID), []byte(b.SongID))
	})
	slices.Reverse(set)
	for i := range set {
		set[i].Rank = i + 1
	}
	return set
}

func TestChartOrderIsTotalAndRedisOrder(t *testing.T) {
	entry := rapid.Custom(func(t *rapid.T) topk.Entry {
		return topk.Entry{
			SongID: rapid.StringOfN(rapid.SampledFrom([]rune("aAbé日0")), 1, 3, -1).Draw(t, "song"),
			Plays:  rapid.Uint64Range(0, 3).Draw(t, "plays"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		entries := rapid.SliceOfDistinct(entry, func(e topk.Entry) string { return e.SongID }).Draw(t, "entries")
		for _, a := range entries {
			for _, b := range entries {
				ab, ba := topk.CompareEntries(a, b), topk.CompareEntries(b, a)
				if ab != -ba || (ab == 0) != (a == b) {
					t.Fatalf("%v and %v compare as %d and %d", a, b, ab, ba)
				}
			}
		}
		ranked := rapid.Permutation(entries).Draw(t, "shuffled")
		topk.RankEntries(ranked)
		if want := zrevrange(entries); !slices.Equal(ranked, want) {
			t.Fatalf("got %v\nwant %v", ranked, want)
		}
	})
}

func TestWatermarkCovers(t *testing.T) {
	tests := []struct {
		w, other topk.Watermark
		want     bool
	}{
		{nil, nil, true},
		{topk.Watermark{1: 5}, nil, true},
		{nil, topk.Watermark{1: 0}, true},
		{nil, topk.Watermark{1: 1}, false},
		{topk.Watermark{1: 5}, topk.Watermark{1: 5}, true},
		{topk.Watermark{1: 5}, topk.Watermark{1: 6}, false},
		{topk.Watermark{1: 5, 2: 1}, topk.Watermark{1: 4}, true},
		{topk.Watermark{1: 5}, topk.Watermark{1: 4, 2: 1}, false},
	}
	for _, tt := range tests {
		if got := tt.w.Covers(tt.other); got != tt.want {
			t.Errorf("%v.Covers(%v) = %v", tt.w, tt.other, got)
		}
	}
}
