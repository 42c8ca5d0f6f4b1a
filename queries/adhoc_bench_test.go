package queries_test

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

// make bench-adhoc sets these; without them TestAdhocLatency is a short form
// that shows that every kind of question is answered.
var (
	adhocPlays  = flag.Int("adhoc.plays", 60_000, "plays per day")
	adhocSongs  = flag.Int("adhoc.songs", 10_000, "songs that are played")
	adhocCities = flag.Int("adhoc.cities", 300, "cities with listeners")
	adhocDays   = flag.Int("adhoc.days", 1, "whole days with plays, before the one under way")
	adhocRounds = flag.Int("adhoc.rounds", 2, "how often each question is asked")
	adhocOnly   = flag.String("adhoc.only", "", "only questions that begin with this, such as: city 24h")
	adhocURL    = flag.String("adhoc.url", "", "a database that such a run has filled already, with the same flags")
)

// TestAdhocLatency asks for charts that are not kept, of days of plays, and
// prints how long each kind takes.
func TestAdhocLatency(t *testing.T) {
	db, now := adhocLog(t)
	var table strings.Builder
	fmt.Fprintf(&table, "| question | window | p50 ms | p95 ms |\n|---|---|---|---|\n")
	for _, q := range adhocQuestions() {
		for _, w := range q.windows {
			if !strings.HasPrefix(q.name+" "+w.name, *adhocOnly) {
				continue
			}
			var took []time.Duration
			for round := range *adhocRounds + 1 {
				at := now.Add(-time.Duration(round) * 7 * time.Minute)
				chart := topk.ChartQuery{Filter: q.filter(round), Window: w.at(t, at), K: 100, Now: now}
				start := time.Now()
				total, err := q.ask(t.Context(), db, chart)
				if err != nil {
					t.Fatalf("%s %s: %v", q.name, w.name, err)
				}
				if total == 0 && *adhocPlays > 10_000_000 {
					t.Errorf("%s %s counts nothing", chart.Filter, chart.Window)
				}
				if round > 0 { // the first reads from disk
					took = append(took, time.Since(start))
				}
			}
			slices.Sort(took)
			row := fmt.Sprintf("| %s | %s | %.0f | %.0f |", q.name, w.name,
				took[len(took)/2].Seconds()*1000, took[len(took)*95/100].Seconds()*1000)
			t.Log(row) // it takes long
			fmt.Fprintln(&table, row)
		}
	}
	t.Logf("%d plays a day, %d whole days, %d songs, %d cities; %d rounds\n%s",
		*adhocPlays, *adhocDays, *adhocSongs, *adhocCities, *adhocRounds, &table)
}

// An adhocWindow is one of a shape: a rolling one, or one that ends at or before
// an instant.
type adhocWindow struct {
	name string
	at   func(t testing.TB, now time.Time) topk.Window
}

func between(t testing.TB, from, to time.Time) topk.Window {
	t.Helper()
	w, err := topk.Between(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

var (
	rolling24h = adhocWindow{"24h", func(testing.TB, time.Time) topk.Window { return topk.Last24h }}
	rolling7d  = adhocWindow{"7d", func(testing.TB, time.Time) topk.Window { return topk.Last7d }}
	anywhere   = adhocWindow{"24 hours until anywhere", func(t testing.TB, now time.Time) topk.Window { return between(t, now.Add(-24*time.Hour), now) }}
	wholeDay   = adhocWindow{"a whole day", func(t testing.TB, now time.Time) topk.Window {
		midnight := now.Truncate(24 * time.Hour)
		return between(t, midnight.Add(-24*time.Hour), midnight)
	}}
	ninetyMinutes = adhocWindow{"90 minutes", func(t testing.TB, now time.Time) topk.Window {
		return between(t, now.Add(-90*time.Minute), now)
	}}
)

// An adhocQuestion is a kind of question; %d in its filter is a number from 1 to
// values, another one each time.
type adhocQuestion struct {
	name    string
	dim     string
	values  int
	windows []adhocWindow
	ask     func(ctx context.Context, db *queries.DB, q topk.ChartQuery) (total uint64, err error)
}

func (q adhocQuestion) filter(round int) topk.Filter {
	dim := q.dim
	if n := strings.Count(dim, "%"); n > 0 {
		dim = fmt.Sprintf(dim, slices.Repeat([]any{1 + round%q.values}, n)...)
	}
	var terms []topk.Term
	for part := range strings.SplitSeq(dim, ",") {
		name, value, _ := strings.Cut(part, ":")
		terms = append(terms, topk.Term{Dim: topk.Dimension(name), Value: value})
	}
	return topk.NewFilter(terms...)
}

func adhocQuestions() []adhocQuestion {
	chart := func(ctx context.Context, db *queries.DB, q topk.ChartQuery) (uint64, error) {
		c, err := db.Chart(ctx, q)
		return c.TotalPlays, err
	}
	beyond := func(ctx context.Context, db *queries.DB, q topk.ChartQuery) (uint64, error) {
		q.After = &topk.Entry{Plays: uint64(*adhocPlays) / 200_000, SongID: "song"}
		return chart(ctx, db, q)
	}
	listeners := func(ctx context.Context, db *queries.DB, q topk.ChartQuery) (uint64, error) {
		c, err := db.Listeners(ctx, q)
		return c.TotalPlays, err
	}
	approx := func(ctx context.Context, db *queries.DB, q topk.ChartQuery) (uint64, error) {
		c, err := db.Approx(ctx, q)
		return c.TotalPlays, err
	}
	all := []adhocWindow{rolling24h, anywhere, wholeDay, ninetyMinutes, rolling7d}
	day := all[:1]
	return []adhocQuestion{
		{"global", "global", 1, all, chart},
		{"the greatest country", "region:C0", 1, all, chart},
		{"country", "region:C%d", 59, all, chart},
		{"city", "region:C%d/%d", 4, all, chart},
		{"genre", "genre:genre%d", 19, all, chart},
		{"segment", "segment:premium", 1, all, chart},
		{"device", "device:mobile", 1, all, chart},
		{"playlist", "playlist:list%d", 100, all, chart},
		{"artist", "artist:artist%d", 100, all, chart},
		{"region and device", "region:C0,device:mobile", 1, all, chart},
		{"region and segment", "region:C1,segment:premium", 1, all, chart},
		{"region and genre", "region:C0,genre:genre%d", 19, all, chart},
		{"a page beyond rank 1000, global", "global", 1, day, beyond},
		{"listeners, global", "global", 1, []adhocWindow{rolling24h, ninetyMinutes}, listeners},
		{"listeners, the greatest country", "region:C0", 1, []adhocWindow{rolling24h, ninetyMinutes}, listeners},
		{"approximate, global", "global", 1, all, approx},
	}
}

// adhocLog is a database of whole days of plays and a part of the day after
// them, and the instant to which it reaches. Few songs, places and playlists have
// most of the plays; one in a hundred comes hours late. The rollups are some
// seconds behind, as they are.
func adhocLog(t *testing.T) (db *queries.DB, now time.Time) {
	t.Helper()
	today := time.Now().UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour)
	now = today.Add(7*time.Hour + 40*time.Minute + 17*time.Second)
	if *adhocURL != "" {
		db, err := queries.Open(*adhocURL, topk.DefaultCalendar())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db, now
	}
	c := newChain(t)
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	c.exec(`
		INSERT INTO songs (songId, title, artistId, artist, genres, durationMs)
		SELECT
			'song' || leftPad(toString(number), 7, '0') AS songId,
			'Title ' || songId,
			'artist' || toString(cityHash64(number) % {artists:UInt64}) AS artistId,
			'Name of ' || artistId,
			arrayDistinct(arrayMap(i -> 'genre' || toString(cityHash64(number, i) % 20), range(if(cityHash64(number) % 3 = 0, 2, 1)))),
			200000
		FROM numbers({songs:UInt64})`,
		clickhouse.Named("songs", uint64(*adhocSongs)), clickhouse.Named("artists", uint64(max(1, *adhocSongs/10))))
	c.exec("SYSTEM RELOAD DICTIONARY song_catalog")
	for d := range *adhocDays + 1 {
		start := today.Add(time.Duration(d-*adhocDays) * 24 * time.Hour)
		end := start.Add(24 * time.Hour)
		if d == *adhocDays {
			end = now
		}
		c.adhocDay(d, start, end)
	}
	var log, hour, day float64
	if err := c.env.ClickHouse.QueryRow(t.Context(), `
		WITH (SELECT count() FROM plays) AS n
		SELECT sumIf(bytes_on_disk, table = 'plays') / n, sumIf(bytes_on_disk, table = 'rollup_hour') / n, sumIf(bytes_on_disk, table = 'rollup_day') / n
		FROM system.parts WHERE active AND database = currentDatabase()`).Scan(&log, &hour, &day); err != nil {
		t.Fatal(err)
	}
	t.Logf("bytes on disk a play: the log %.1f, by the hour %.1f, by the day %.1f", log, hour, day)
	return c.db, now
}

// adhocTail is how far the rollups are behind at the end.
const adhocTail = 5 * time.Second

// adhocBlock is how many plays are written at once.
const adhocBlock = 2_000_000

// adhocDay writes the plays that come in from start to end, a day or less, and
// what the rollups make of them.
func (c *chain) adhocDay(day int, start, end time.Time) {
	c.Helper()
	plays := int(float64(*adhocPlays) * end.Sub(start).Hours() / 24)
	for first := 0; first < plays; first += adhocBlock {
		c.exec(`
			INSERT INTO plays (src, koff, at, ts, eventId, user, songId, artistId, country, region, device,
				contextKind, contextId, duration, segments, counted)
			WITH
				-- pow(n, random) is drawn by the law of Zipf.
				toUInt32(if(rand(1) % 4 > 0, pow({songs:UInt64}, randCanonical(2)) - 1, rand(3) % {songs:UInt64})) AS song,
				toUInt32(pow(60, randCanonical(4))) - 1 AS country_,
				toUInt32(pow({cities:UInt64}, randCanonical(5))) - 1 AS city,
				fromUnixTimestamp64Milli({start:Int64}, 'UTC') + toIntervalMillisecond(intDiv(86400000 * number, {perDay:UInt64})) AS came,
				rand(6) % 10 AS kind
			SELECT
				number % 16 AS src,
				{day:UInt64} * {perDay:UInt64} + intDiv(number, 16) AS koff,
				came AS at,
				came - toIntervalMillisecond(if(rand(7) % 100 = 0, rand(8) % 21600000, rand(8) % 3000)) AS ts,
				toString(generateUUIDv4()) AS eventId,
				reinterpretAsUInt128(MD5(toString(rand(9) % 5000000))) AS user,
				'song' || leftPad(toString(song), 7, '0') AS songId,
				'artist' || toString(cityHash64(song::UInt64) % {artists:UInt64}) AS artistId,
				'C' || toString(country_) AS country,
				country || '/' || toString(city) AS region,
				['mobile', 'desktop', 'smart-tv', 'speaker'][least(4, toUInt32(pow(5, randCanonical(10))))] AS device,
				multiIf(kind < 6, 'playlist', kind < 8, 'album', '') AS contextKind,
				multiIf(kind < 6, 'list' || toString(toUInt32(pow(20000, randCanonical(11)))), kind < 8, 'album' || toString(intDiv(song, 10)), '') AS contextId,
				toInt32(30 + rand(12) % 300) AS duration,
				multiIf(rand(13) % 10 < 4, ['premium'], rand(13) % 10 < 6, ['premium', 'student'], ['free']) AS segments,
				true AS counted
			FROM numbers({first:UInt64}, {n:UInt64})`,
			clickhouse.Named("day", uint64(day)), clickhouse.Named("start", start.UnixMilli()), clickhouse.Named("perDay", uint64(*adhocPlays)),
			clickhouse.Named("first", uint64(first)), clickhouse.Named("n", uint64(min(adhocBlock, plays-first))),
			clickhouse.Named("songs", uint64(*adhocSongs)), clickhouse.Named("artists", uint64(max(1, *adhocSongs/10))),
			clickhouse.Named("cities", uint64(max(1, *adhocCities/60))))
	}
	for _, rollup := range []struct {
		name, grain, partition, of string
		step                       time.Duration
	}{{"rollup_hour", "toStartOfHour", "day", "toDate", 6 * time.Hour}, {"rollup_day", "toStartOfDay", "week", "toMonday", 12 * time.Hour}} {
		for from := start; from.Before(end); from = from.Add(rollup.step) {
			to := from.Add(rollup.step)
			if !to.Before(end) && day == *adhocDays {
				to = end.Add(-adhocTail)
			}
			// As the fill does it, of more plays at a time.
			c.exec(`
				INSERT INTO `+rollup.name+` (dim, val, songId, ts, plays, wm, wmAt, `+rollup.partition+`)
				SELECT row.1, row.2, row.3, row.4, sum(row.5), max(row.6), max(row.7), `+rollup.of+`(fromUnixTimestamp64Milli({from:Int64}, 'UTC'))
				FROM
				(
					SELECT
						`+rollup.grain+`(ts) AS start,
						arrayConcat(
							arrayMap(chart -> (chart.1, chart.2, songId, start, 1, 0, toDateTime64(0, 3, 'UTC')), charts),
							[('_wm', toString(src), '', toDateTime(0, 'UTC'), 0, koff + 1, at)]) AS rows
					FROM play_charts
					WHERE at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
				)
				ARRAY JOIN rows AS row
				GROUP BY ALL
				SETTINGS max_memory_usage = 0`,
				clickhouse.Named("from", from.UnixMilli()), clickhouse.Named("to", to.UnixMilli()))
		}
	}
}
