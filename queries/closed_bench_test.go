package queries_test

import (
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

var (
	closedCharts = flag.Int("closed.charts", 200, "how many charts of 200 songs each a date of BenchmarkClosed has")
	closedDates  = flag.Int("closed.dates", 5, "how many dates it has")
)

// cpuTime is what this process, ClickHouse with it, has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkClosed tells what closing a date costs beside counting, and what the
// questions about closed charts take: -closed.charts 5000 -closed.dates 30 is a
// month of a million entries a day, half of which change from day to day.
func BenchmarkClosed(b *testing.B) {
	c := newChain(b)
	close := func(number int, closedAt time.Time) (took [4]time.Duration) {
		c.exec("TRUNCATE TABLE closing_counts")
		c.exec(`
			INSERT INTO closing_counts (dim, val, closedAt, rank, songId, plays, totalPlays)
			SELECT
				if(chart = 0, 'global', 'region') AS dim, if(chart = 0, '', 'C' || toString(chart)) AS val, {closedAt:DateTime64(3, 'UTC')},
				number % 200 + 1 AS rank,
				-- Half of a chart's songs stay where they are; the others come and go.
				'song' || leftPad(toString(if(rank % 2 = 0, rank, 200 + cityHash64(chart, rank, {date:UInt32}) % 500)), 18, '0') AS songId,
				1000 - rank AS plays, 200000 AS totalPlays
			FROM (SELECT number, intDiv(number, 200) AS chart FROM numbers({n:UInt64}))`,
			clickhouse.Named("closedAt", closedAt.Format("2006-01-02 15:04:05.000")), clickhouse.Named("date", uint32(number)),
			clickhouse.Named("n", uint64(*closedCharts*200)))
		start := begin.Add(time.Duration(number) * day)
		closing := queries.Closing{Period: topk.Daily, Span: topk.Span{Start: start, End: start.Add(day)}, ClosedAt: closedAt}
		for i, step := range []func() error{
			func() error { return c.db.WriteEntries(b.Context(), closing) },
			func() error { _, _, err := c.db.Changes(b.Context(), closing); return err },
			func() error {
				return c.db.PublishCharts(b.Context(), closing, queries.Counted{Entries: uint64(*closedCharts * 200)})
			},
		} {
			start := time.Now()
			cpu := cpuTime(b)
			if err := step(); err != nil {
				b.Fatal(err)
			}
			took[i] = time.Since(start)
			took[3] += cpuTime(b) - cpu
		}
		return took
	}
	for number := range *closedDates {
		took := close(number, begin.Add(time.Duration(number+1)*day))
		b.Logf("date %d: entries %s, changes %s, charts %s; CPU %s", number, took[0], took[1], took[2], took[3])
	}
	last := *closedDates - 1
	b.Logf("again, with nothing changed: %v", close(last, begin.Add(time.Duration(last+1)*day+time.Hour)))
	var rows, bytes uint64
	if err := c.env.ClickHouse.QueryRow(b.Context(), `SELECT sum(rows), sum(bytes_on_disk) FROM system.parts
		WHERE database = currentDatabase() AND table = 'closed_entries' AND active`).Scan(&rows, &bytes); err != nil {
		b.Fatal(err)
	}
	b.Logf("%d entries of %.1f bytes", rows, float64(bytes)/float64(rows))

	date := begin.Add(time.Duration(last) * day)
	chart := topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: "C7"})
	song := fmt.Sprintf("song%018d", 2) // on every chart
	for name, ask := range map[string]func() error{
		"Closed":      func() error { _, err := c.db.Closed(b.Context(), chart, topk.Daily, date, 0); return err },
		"ClosedDates": func() error { _, err := c.db.ClosedDates(b.Context(), chart, topk.Daily, time.Time{}, 100); return err },
		"SongPlaces":  func() error { _, err := c.db.SongPlaces(b.Context(), song, topk.Daily, time.Time{}); return err },
		"SongPlaces of a rare song": func() error {
			_, err := c.db.SongPlaces(b.Context(), "song000000000000000333", topk.Daily, date)
			return err
		},
		"SongRanks": func() error {
			_, err := c.db.SongRanks(b.Context(), song, chart, topk.Daily, topk.Span{Start: begin, End: date.Add(day)})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := ask(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
