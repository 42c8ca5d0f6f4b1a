package oracle

import (
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
)

// The sets that the generators draw from are small, so that songs tie, filters
// match and eventIds repeat; and their members are awkward: order by bytes
// differs from order by letters or numbers, values hold what grammars and SQL
// give a meaning to, and one ID is used in several kinds.
var (
	songIDs   = []string{"s1", "s10", "s2", "S2", "a", "é", "日本", "it's", "a,b", "100%", `q"\`, "uncataloged"}
	artistIDs = []string{"a1", "a2", "s1", "x, y"}
	genres    = []string{"pop", "rock", "r&b, soul"}
	userIDs   = []string{"u1", "u2", "u3", "u'4", "ü5"}
	segments  = []string{"premium", "free", "a,b"}
	devices   = []string{"", "mobile", "desktop", "smart-tv"}
	regions   = []topk.Region{
		{}, {Country: "IN"}, {Country: "IN", City: "Mumbai"}, {Country: "IN", City: "Delhi"},
		{Country: "US", City: "Washington, D.C."}, {Country: "US", City: "IN"}, {Country: "BR", City: "São Paulo"},
	}
	contexts = []topk.Context{
		{}, {Kind: "playlist", ID: "p1"}, {Kind: "playlist", ID: "a:b/c"}, {Kind: "album", ID: "p1"}, {Kind: "radio", ID: "p1"},
	}
	durations = []int{0, 1, 29, 30, 31, topk.MaxDuration}
)

// Catalog draws a catalog of most songs that Play draws, so that some plays are
// of songs without one.
func Catalog(t *rapid.T) []topk.Song {
	var songs []topk.Song
	for _, id := range songIDs[:len(songIDs)-1] {
		artist := rapid.SampledFrom(artistIDs).Draw(t, "artist of "+id)
		songs = append(songs, topk.Song{
			SongID: id, Title: "The song " + id, ArtistID: artist, Artist: "The artist " + artist,
			Genres:     subset(t, genres, "genres of "+id),
			DurationMS: rapid.Uint32Range(1, 600_000).Draw(t, "length of "+id),
		})
	}
	return songs
}

// Users draws the segments of every user that Play draws.
func Users(t *rapid.T) map[string][]string {
	users := map[string][]string{}
	for _, id := range userIDs {
		users[id] = subset(t, segments, "segments of "+id)
	}
	return users
}

// Play draws a play that is acceptable at now under topk.DefaultRules, with
// the given EventID.
func Play(t *rapid.T, eventID string, now time.Time) topk.Play {
	p := topk.Play{
		EventID:   eventID,
		UserID:    rapid.SampledFrom(userIDs).Draw(t, "user"),
		SongID:    rapid.SampledFrom(songIDs).Draw(t, "song"),
		ArtistID:  rapid.SampledFrom(artistIDs).Draw(t, "artist"), // not always the catalog's
		Timestamp: eventTime(t, now),
		Region:    rapid.SampledFrom(regions).Draw(t, "region"),
		Device:    rapid.SampledFrom(devices).Draw(t, "device"),
		Context:   rapid.SampledFrom(contexts).Draw(t, "context"),
	}
	if rapid.Bool().Draw(t, "has duration") {
		seconds := rapid.SampledFrom(durations).Draw(t, "duration")
		p.Duration = &seconds
	}
	return p
}

// Plays draws minLen to maxLen plays. About one in eight repeats an earlier
// EventID: half of those are the same play again, half are a different one.
func Plays(t *rapid.T, now time.Time, minLen, maxLen int) []topk.Play {
	plays := make([]topk.Play, rapid.IntRange(minLen, maxLen).Draw(t, "plays"))
	for i := range plays {
		if i == 0 || rapid.IntRange(0, 7).Draw(t, "repeat") != 7 {
			plays[i] = Play(t, fmt.Sprintf("e-%d", i), now)
			continue
		}
		earlier := plays[rapid.IntRange(0, i-1).Draw(t, "of")]
		if plays[i] = earlier; rapid.Bool().Draw(t, "changed") {
			plays[i] = Play(t, earlier.EventID, now)
		}
	}
	return plays
}

// Filter draws a filter of up to three terms, most of which match some of the
// plays that Play draws.
func Filter(t *rapid.T) topk.Filter {
	return topk.NewFilter(rapid.SliceOfN(rapid.Custom(Term), 0, 3).Draw(t, "filter")...)
}

// Term draws a term of a Filter.
func Term(t *rapid.T) topk.Term {
	dim := rapid.SampledFrom(topk.Dimensions()).Draw(t, "dimension")
	var values []string
	switch dim {
	case topk.DimGlobal:
		return topk.Term{Dim: dim}
	case topk.DimRegion:
		values = []string{"IN", "US", "BR", "DE", "IN/Mumbai", "IN/Delhi", "US/Washington, D.C.", "US/IN", "US/Mumbai"}
	case topk.DimGenre:
		values = append([]string{"jazz"}, genres...)
	case topk.DimSegment:
		values = append([]string{"student"}, segments...)
	case topk.DimPlaylist, topk.DimAlbum:
		values = []string{"p1", "a:b/c", "p2"}
	case topk.DimArtist:
		values = append([]string{"a9"}, artistIDs...)
	case topk.DimDevice:
		values = append([]string{"watch"}, devices[1:]...)
	}
	return topk.Term{Dim: dim, Value: rapid.SampledFrom(values).Draw(t, "value")}
}

// Window draws a named window, or a fixed one whose ends lie near now and
// mostly on or beside the bounds of minutes, hours and days.
func Window(t *rapid.T, now time.Time) topk.Window {
	named := []topk.Window{topk.LastHour, topk.Last24h, topk.Last7d, topk.Last30d, topk.AllTime, topk.Today, topk.ThisWeek}
	if i := rapid.IntRange(0, 2*len(named)-1).Draw(t, "window"); i < len(named) {
		return named[i]
	}
	from, to := edge(t, now), edge(t, now)
	if to.Before(from) {
		from, to = to, from
	}
	if to.Equal(from) {
		to = to.Add(time.Millisecond)
	}
	w, err := topk.Between(from, to)
	if err != nil {
		t.Fatalf("a window from %v to %v: %v", from, to, err)
	}
	return w
}

// eventTime draws an edge that is acceptable as a play's time at now.
func eventTime(t *rapid.T, now time.Time) time.Time {
	rules := topk.DefaultRules()
	oldest, newest := now.Add(-rules.MaxAge), now.Add(rules.MaxAhead).Truncate(time.Millisecond)
	if ceil := oldest.Truncate(time.Millisecond); ceil.Before(oldest) {
		oldest = ceil.Add(time.Millisecond)
	}
	ts := edge(t, now)
	if ts.Before(oldest) {
		return oldest.UTC()
	}
	if ts.After(newest) {
		return newest.UTC()
	}
	return ts
}

// edge draws an instant of the last 7 days or the next 5 minutes, in whole
// milliseconds: mostly one where a window, a rollup's grain or a rule ends, or
// the millisecond before or after it.
func edge(t *rapid.T, now time.Time) time.Time {
	rules := topk.DefaultRules()
	back := rapid.Int64Range(-rules.MaxAhead.Milliseconds(), rules.MaxAge.Milliseconds()).Draw(t, "ms ago")
	ts := now.Add(-time.Duration(back) * time.Millisecond)
	grain := rapid.SampledFrom([]time.Duration{time.Millisecond, time.Minute, time.Hour, 24 * time.Hour}).Draw(t, "grain")
	beside := rapid.IntRange(-1, 1).Draw(t, "beside")
	return ts.UTC().Truncate(grain).Add(time.Duration(beside) * time.Millisecond)
}

// subset draws any of the values, in their order.
func subset(t *rapid.T, values []string, label string) []string {
	chosen := []string{}
	for _, v := range values {
		if rapid.Bool().Draw(t, label) {
			chosen = append(chosen, v)
		}
	}
	return chosen
}
