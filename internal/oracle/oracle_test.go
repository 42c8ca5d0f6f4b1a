package oracle_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/oracle"
)

var now = time.Date(2025, 11, 24, 16, 7, 30, 123_000_000, time.UTC)

func play(eventID, song string, change func(*topk.Play)) topk.Play {
	p := topk.Play{EventID: eventID, UserID: "u", SongID: song, ArtistID: "ignored", Timestamp: now}
	if change != nil {
		change(&p)
	}
	return p
}

func seconds(n int) *int { return &n }

// small is a world that fits in the head.
func small(options ...oracle.Option) *oracle.Oracle {
	o := oracle.New(options...)
	o.SetSong(topk.Song{SongID: "s1", ArtistID: "a1", Genres: []string{"pop", "rock"}})
	o.SetSong(topk.Song{SongID: "s2", ArtistID: "a2", Genres: []string{"pop"}})
	o.Add(play("e1", "s1", func(p *topk.Play) {
		p.Region, p.Device = topk.Region{Country: "IN", City: "Mumbai"}, "mobile"
		p.Context, p.Duration = topk.Context{Kind: "playlist", ID: "x"}, seconds(29)
	}), []string{"premium"})
	o.Add(play("e1", "s2", nil), nil) // a repeat, with other content
	o.Add(play("e2", "s2", func(p *topk.Play) {
		p.Region, p.Context = topk.Region{Country: "IN"}, topk.Context{Kind: "album", ID: "x"}
		p.Timestamp, p.Duration = now.Add(-time.Hour), seconds(30)
	}), []string{"premium", "student"})
	o.Add(play("e3", "s3", func(p *topk.Play) { p.Context = topk.Context{Kind: "radio", ID: "x"} }), nil)
	return o
}

func TestChart(t *testing.T) {
	all := topk.AllTime.At(now, topk.DefaultCalendar())
	tests := []struct {
		filter string
		want   []string
	}{
		{"global", []string{"s3", "s2", "s1"}}, // ties: the greater songId first
		{"region:IN", []string{"s2", "s1"}},
		{"region:IN/Mumbai", []string{"s1"}},
		{"region:US", nil},
		{"genre:pop", []string{"s2", "s1"}},
		{"genre:rock", []string{"s1"}},
		{"artist:a1", []string{"s1"}},
		{"artist:ignored", nil},
		{"segment:premium", []string{"s2", "s1"}},
		{"segment:student", []string{"s2"}},
		{"device:mobile", []string{"s1"}},
		{"playlist:x", []string{"s1"}},
		{"album:x", []string{"s2"}},
		{"region:IN,genre:rock", []string{"s1"}},
		{"genre:rock,segment:student", nil},
	}
	for _, tt := range tests {
		f, err := topk.ParseFilter(tt.filter)
		if err != nil {
			t.Fatal(err)
		}
		entries, total := small().Chart(f, all, 10)
		var got []string
		for i, e := range entries {
			got = append(got, e.SongID)
			if e.Rank != i+1 || e.Plays != 1 {
				t.Errorf("%s: entry %d is %+v", tt.filter, i, e)
			}
		}
		if !slices.Equal(got, tt.want) || total != uint64(len(tt.want)) {
			t.Errorf("%s: got %v of %d plays, want %v", tt.filter, got, total, tt.want)
		}
	}
}

func TestChartOfASpan(t *testing.T) {
	w, err := topk.Between(now.Add(-time.Hour), now)
	if err != nil {
		t.Fatal(err)
	}
	entries, total := small().Chart(topk.Filter{}, w.At(now, topk.DefaultCalendar()), 10)
	if want := []topk.Entry{{Rank: 1, SongID: "s2", Plays: 1}}; !slices.Equal(entries, want) || total != 1 {
		t.Errorf("got %v of %d plays, want %v", entries, total, want)
	}
}

func TestMinPlaySecondsLeavesOutShortPlays(t *testing.T) {
	o := small(oracle.WithMinPlaySeconds(30))
	entries, total := o.Chart(topk.Filter{}, topk.AllTime.At(now, topk.DefaultCalendar()), 10)
	want := []topk.Entry{{Rank: 1, SongID: "s3", Plays: 1}, {Rank: 2, SongID: "s2", Plays: 1}}
	if !slices.Equal(entries, want) || total != 2 {
		t.Errorf("got %v of %d plays, want %v", entries, total, want)
	}
	if len(o.Plays()) != 3 {
		t.Errorf("got %d plays, want 3: short ones are kept", len(o.Plays()))
	}
}

func TestGenreAndArtistFollowTheCatalog(t *testing.T) {
	o := small()
	o.SetSong(topk.Song{SongID: "s1", ArtistID: "a9", Genres: []string{"jazz"}})
	all := topk.AllTime.At(now, topk.DefaultCalendar())
	for _, term := range []topk.Term{{Dim: topk.DimGenre, Value: "jazz"}, {Dim: topk.DimArtist, Value: "a9"}} {
		if entries, _ := o.Chart(topk.NewFilter(term), all, 1); len(entries) != 1 || entries[0].SongID != "s1" {
			t.Errorf("%s: got %v", term, entries)
		}
	}
}

func TestGeneratedPlaysAreAcceptable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		offset := time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "offset"))
		clock := now.Add(offset)
		for _, p := range oracle.Plays(t, clock, 1, 20) {
			data, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			got, err := topk.ParsePlay(data, topk.DefaultRules(), clock)
			if err != nil || !reflect.DeepEqual(got, p) {
				t.Fatalf("%s reads as %+v, %v", data, got, err)
			}
		}
		f := oracle.Filter(t)
		if again, err := topk.ParseFilter(f.String()); err != nil || again.String() != f.String() {
			t.Fatalf("%s reads as %s, %v", f, again, err)
		}
		oracle.Window(t, clock)
	})
}

// The parts of a chart make up the whole: what no other program has to be asked.
func TestChartsAddUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := oracle.New()
		for _, s := range oracle.Catalog(t) {
			o.SetSong(s)
		}
		users := oracle.Users(t)
		for _, p := range oracle.Plays(t, now, 0, 60) {
			o.Add(p, users[p.UserID])
		}
		filter := oracle.Filter(t)
		span := oracle.Window(t, now).At(now, topk.DefaultCalendar())

		entries, total := o.Chart(filter, span, topk.MaxK)
		var sum uint64
		for _, e := range entries {
			sum += e.Plays
		}
		if sum != total {
			t.Fatalf("the entries have %d plays of %d", sum, total)
		}

		middle := span.Start.Add(span.End.Sub(span.Start) / 2)
		_, before := o.Chart(filter, topk.Span{Start: span.Start, End: middle}, 0)
		_, after := o.Chart(filter, topk.Span{Start: middle, End: span.End}, 0)
		if before+after != total {
			t.Fatalf("the halves have %d and %d plays of %d", before, after, total)
		}

		if _, whole := o.Chart(topk.Filter{}, span, 0); whole < total {
			t.Fatalf("%s has %d plays, the globe %d", filter, total, whole)
		}
	})
}
