package queries_test

import (
	"flag"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

var benchPlays = flag.Int("plays", 200_000, "how many plays the log of a benchmark holds")

// fullLog is a chain whose log and rollups hold -plays plays of 30 days and a
// million songs in 60 countries and 3,780 cities; few songs and places have
// most of the plays.
func fullLog(b *testing.B) *chain {
	b.Helper()
	c := newChain(b)
	c.exec("SYSTEM STOP VIEW rollup_hour_fill")
	c.exec("SYSTEM STOP VIEW rollup_day_fill")
	const days = 30
	for day := range days {
		c.exec(`
			INSERT INTO plays (src, koff, at, ts, songId, country, region, device, segments, counted)
			WITH
				toUInt32(pow(1000000, randCanonical(1))) AS popular,
				if(rand(2) % 2 = 0, popular, rand(3) % 1000000) AS song,
				toUInt32(pow(3781, randCanonical(4))) - 1 AS city,
				now64(3) - toIntervalDay({back:UInt32}) - toIntervalMillisecond(86400000 - intDiv(86400000 * number, {n:UInt64})) AS t
			SELECT
				number % 16 AS src, intDiv({day:UInt32} * {n:UInt64} + number, 16) AS koff, t AS at,
				t - toIntervalMillisecond(rand(5) % 3000) AS ts, 'song' || leftPad(toString(song), 7, '0') AS songId,
				'C' || toString(city % 60) AS country, country || '/' || toString(city) AS region,
				['mobile', 'desktop', 'smart-tv', 'speaker'][rand(6) % 4 + 1] AS device,
				[['premium', 'free', 'student'][rand(7) % 3 + 1]] AS segments, true AS counted
			FROM numbers({n:UInt64})`,
			clickhouse.Named("day", uint32(day)), clickhouse.Named("back", uint32(days-1-day)), clickhouse.Named("n", uint64(*benchPlays/days)))
	}
	for _, rollup := range []struct{ name, grain, partition string }{
		{"rollup_hour", "toStartOfHour", "day"}, {"rollup_day", "toStartOfDay", "month"},
	} {
		// As the fill does, a day at a time.
		for day := range days + 1 {
			c.exec(`
				INSERT INTO `+rollup.name+` (dim, val, songId, ts, plays, wm, wmAt, `+rollup.partition+`)
				SELECT row.1, row.2, row.3, row.4, sum(row.5), max(row.6), max(row.7), today()
				FROM
				(
					SELECT
						`+rollup.grain+`(ts) AS start,
						arrayConcat(
							arrayMap(chart -> (chart.1, chart.2, songId, start, 1, 0, toDateTime64(0, 3, 'UTC')), charts),
							[('_wm', toString(src), '', toDateTime(0, 'UTC'), 0, koff + 1, at)]) AS rows
					FROM play_charts
					WHERE toDate(at) = today() - {back:UInt32}
				)
				ARRAY JOIN rows AS row
				GROUP BY ALL`, clickhouse.Named("back", uint32(days-day)))
		}
	}
	return c
}

// countRows reads counts and forgets them.
type countRows struct{ rows int }

func (r *countRows) Begin()                           { r.rows = 0 }
func (r *countRows) Row(string, string, []uint64)     { r.rows++ }
func (r *countRows) Floor(string, []uint64, []uint64) {}

// BenchmarkCounts is the cold start of a follower: -plays 20000000 is what the
// design's target is about.
func BenchmarkCounts(b *testing.B) {
	c := fullLog(b)
	for _, dim := range storedDims {
		b.Run(string(dim), func(b *testing.B) {
			var read countRows
			for b.Loop() {
				if _, err := c.db.Counts(b.Context(), dim, allWindows, time.Now(), &read); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(read.rows), "rows/op")
		})
	}
}

// BenchmarkArrivals is one poll of a follower that has read everything, and one
// that finds 300 plays.
func BenchmarkArrivals(b *testing.B) {
	c := fullLog(b)
	pos, err := c.db.Counts(b.Context(), topk.DimGlobal, allWindows[:1], time.Now(), &countRows{})
	if err != nil {
		b.Fatal(err)
	}
	for src, next := range pos.Next {
		c.next[src] = next
	}
	plays := randomPlays(1, 300)
	poll := func(b *testing.B) {
		if pos, _, err = c.db.Arrivals(b.Context(), pos, 10_000, func(queries.Play) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("none", func(b *testing.B) {
		for b.Loop() {
			poll(b)
		}
	})
	b.Run("300", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			c.append(3, plays...)
			b.StartTimer()
			poll(b)
		}
	})
}
