package backfill_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/topk-charts/topk/backfill"
)

var benchRows = flag.Int("backfill.rows", 200_000, "plays of the file that the benchmark loads")

// A backfill of a Parquet file, and before each the plain INSERT SELECT of the
// very same file into one table that is like the log. Figures are per play:
// `ratio` is the plain insert's time to that of everything until charts have the
// plays, `ratio-log` to that until they are in the log.
func BenchmarkBackfill(b *testing.B) {
	s := newBenchSystem(b)
	var plain, all, rollups time.Duration
	phases := map[string]time.Duration{}
	rows := 0
	for b.Loop() {
		path := filepath.Join(s.dir, fmt.Sprintf("bench-%d.parquet", rows))
		s.exec(fmt.Sprintf(`INSERT INTO FUNCTION file('%s', 'Parquet')
			SELECT concat('bench-', toString(generateUUIDv4())) AS eventId, concat('user-', toString(cityHash64(number, 1) %% 100000)) AS userId,
				concat('song-', toString(toUInt64(pow(100000, randCanonical())))) AS songId, concat('artist-', toString(cityHash64(songId) %% 5000)) AS artistId,
				toUnixTimestamp64Milli(now64(3)) - 9 * 86400000 - toInt64(cityHash64(number, 2) %% (21 * 86400000)) AS timestamp,
				['IN/Mumbai', 'US/New York', 'US', 'DE/Berlin', 'BR'][1 + cityHash64(number, 3) %% 5] AS region, ['mobile', 'tv', 'desktop'][1 + cityHash64(number, 4) %% 3] AS deviceType,
				concat('playlist:p', toString(cityHash64(number, 5) %% 1000)) AS context, toInt32(cityHash64(number, 6) %% 300) AS duration
			FROM numbers(%d)`, path, *benchRows))
		s.exec("DROP TABLE IF EXISTS plain SYNC")
		s.exec("CREATE TABLE plain ENGINE = MergeTree ORDER BY timestamp AS SELECT * FROM file('" + path + "', 'Parquet') LIMIT 0")
		began := time.Now()
		s.exec("INSERT INTO plain SELECT * FROM file('" + path + "', 'Parquet')")
		plain += time.Since(began)
		began = time.Now()
		report, err := s.try(backfill.Options{Sources: []string{path}})
		if err != nil || report.Appended != uint64(*benchRows) {
			b.Fatalf("%d appended: %v", report.Appended, err)
		}
		all += time.Since(began)
		for _, phase := range report.Phases {
			phases[phase.Name] += phase.Took
			if phase.Name == "wait for the rollups" {
				rollups += phase.Took
			}
		}
		rows += *benchRows
	}
	perPlay := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(rows) }
	b.ReportMetric(perPlay(plain), "µs-plain/play")
	b.ReportMetric(perPlay(all), "µs/play")
	b.ReportMetric(float64(plain)/float64(all), "ratio")
	b.ReportMetric(float64(plain)/float64(all-rollups), "ratio-log")
	b.ReportMetric(0, "ns/op")
	for name, took := range phases {
		b.Logf("%s: %.2f µs/play", name, perPlay(took))
	}
}
