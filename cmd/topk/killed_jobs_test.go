package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api/answer"
	"github.com/topk-charts/topk/internal/oracle"
)

// Each job is killed at random moments, started again until it gets to its end,
// and has then done what one that was never killed does.
func TestJobsSurviveKills(t *testing.T) {
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-faults.seed=%d", seed)
	j := &killedJobs{T: t, Rand: rand.New(rand.NewPCG(seed, 7)), system: up(t, t.TempDir(), ports(t)), truth: oracle.New()}
	j.backfill()
	j.closeCharts()
	j.archiveAndRestore()
	j.stop()
}

type killedJobs struct {
	*testing.T
	*rand.Rand
	*system
	truth *oracle.Oracle
	first time.Time // day with plays
}

// killed runs a command until it ends well, after so many kills: early ones
// first, since a run that gets far leaves little to the next.
func (j *killedJobs) killed(s *system, env []string, longest time.Duration, args ...string) {
	j.Helper()
	kills := max(1, *faultKills/12)
	for kill := 0; ; kill++ {
		command := exec.CommandContext(j.Context(), os.Args[0], args...)
		command.Env = append(append(os.Environ(), asProgram+"=1"), env...)
		var out transcript
		command.Stdout, command.Stderr = &out, &out
		if err := command.Start(); err != nil {
			j.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- command.Wait() }()
		after := time.Duration(j.Int64N(int64(longest) * int64(kill+1) / int64(kills+1)))
		if kill >= kills {
			after = 5 * time.Minute
		}
		select {
		case err := <-ended:
			// One that was killed between its last statement and its end is done, and
			// a restore says so in its way.
			done := kill > 0 && strings.Contains(out.String(), "the database has plays already")
			if err != nil && !done {
				j.Fatalf("topk %s: %v\n%s", strings.Join(args, " "), err, &out)
			}
			j.Logf("topk %s: killed %d times", strings.Join(args[:2], " "), kill)
			return
		case <-time.After(after):
			if kill >= kills {
				j.Fatalf("topk %s does not end:\n%s", strings.Join(args, " "), &out)
			}
			if err := command.Process.Kill(); err != nil {
				j.Fatal(err)
			}
			<-ended
		}
		// The lock of a killed process expires after a minute: no need to wait.
		for _, lock := range []string{"backfilling", "closing", "archiving", "migrating", "running_" + args[1]} {
			s.clickhouse("DROP TABLE IF EXISTS " + lock + " SYNC")
		}
	}
}

func (j *killedJobs) servers(s *system) []string {
	return []string{"TOPK_CLICKHOUSE_URL=" + s.ch, "TOPK_KAFKA_BROKERS=" + s.kafka, "TOPK_USER_PEPPER_FILE=" + s.data + "/pepper"}
}

// backfill loads ten days, of which some go through Kafka.
func (j *killedJobs) backfill() {
	j.Helper()
	file := filepath.Join(j.TempDir(), "history.ndjson")
	text := j.command("", "simulate", "history", "--days", "10", "--plays", "3000", "--users", "500", "--charts", "../../testdata/weekly-charts-72-regions-with-genre.csv")
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		p, err := topk.ParsePlay(lines.Bytes(), topk.Rules{MaxAge: 365 * 24 * time.Hour, MaxAhead: time.Minute}, time.Now())
		if err != nil {
			j.Fatal(err)
		}
		if day := p.Timestamp.Truncate(24 * time.Hour); j.first.IsZero() || day.Before(j.first) {
			j.first = day
		}
		j.truth.Add(p, nil)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		j.Fatal(err)
	}
	j.killed(j.system, j.servers(j.system), 6*time.Second, "load", "backfill", file)
	plays := len(j.truth.Plays())
	j.inLog(uint64(plays))
	j.sameCharts(j.system)
}

// sameCharts compares charts of the ten days with the truth.
func (j *killedJobs) sameCharts(s *system) {
	j.Helper()
	end := j.first.AddDate(0, 0, 10)
	for _, dim := range []string{"global", "region:IN", "region:US", "device:mobile", "playlist:top-hits"} {
		f, err := topk.ParseFilter(dim)
		if err != nil {
			j.Fatal(err)
		}
		want, total := j.truth.Chart(f, topk.Span{Start: j.first, End: end}, topk.MaxK)
		chart, err := s.top(url.Values{"dim": {dim}, "from": {j.first.Format(time.RFC3339)}, "to": {end.Format(time.RFC3339)}, "k": {"1000"}})
		if err != nil {
			j.Fatal(err)
		}
		var got []topk.Entry
		for _, item := range chart.Items {
			got = append(got, topk.Entry{Rank: item.Rank, SongID: item.SongID, Plays: item.Score})
		}
		if total == 0 || chart.TotalPlays != total || !slices.Equal(got, want) {
			j.Errorf("%s: %d plays, want %d; %d songs, want %d", dim, chart.TotalPlays, total, len(got), len(want))
		}
	}
}

// closeCharts writes the charts of those days down.
func (j *killedJobs) closeCharts() {
	j.Helper()
	eventually(j.T, "the rollups have the first day", time.Minute, func() bool {
		return j.clickhouse("SELECT sum(plays) FROM rollup_day WHERE dim = 'global'") == fmt.Sprint(len(j.truth.Plays()))
	})
	j.killed(j.system, j.servers(j.system), 4*time.Second, "load", "close", "--once")
	m := &month{system: j.system, truth: j.truth, start: j.first, charts: map[string][]closing{}}
	compared := 0
	for _, dim := range []string{"global", "region:IN", "region:GB", "device:tv"} {
		f, err := topk.ParseFilter(dim)
		if err != nil {
			j.Fatal(err)
		}
		for _, p := range topk.Periods() {
			for _, want := range m.closings(f, p) {
				date := want.span.Start.Format(time.DateOnly)
				chart := ask[answer.Chart](m, "/v1/top", url.Values{"dim": {dim}, "period": {string(p)}, "date": {date}, "k": {"200"}})
				if got := entriesOf(chart.Items); chart.Source != "closed" || chart.TotalPlays != want.total || !slices.Equal(got, want.entries) {
					j.Errorf("%s of %s %s, from %s: %d plays, want %d", dim, p, date, chart.Source, chart.TotalPlays, want.total)
				}
				for _, item := range chart.Items {
					if career := want.careers[item.SongID]; value(item.PreviousRank) != career.PreviousRank || item.Streak != career.Streak ||
						item.PeakRank != career.Peak || item.PeriodsOnChart != career.Periods || value(item.Movement) != string(career.Movement) {
						j.Errorf("%s of %s %s: %+v, want %+v", dim, p, date, item, career)
					}
				}
				compared++
			}
		}
	}
	if compared < 40 {
		j.Errorf("only %d closed charts were compared", compared)
	}
}

// archiveAndRestore archives plays that came in hours ago, and restores them
// into an empty system.
func (j *killedJobs) archiveAndRestore() {
	j.Helper()
	// As if all had come in during some hours that are over.
	j.clickhouse("CREATE TABLE moved AS plays")
	j.clickhouse(`INSERT INTO moved SELECT * REPLACE (toStartOfHour(now64(3)) - INTERVAL 5 HOUR + INTERVAL intDiv(koff, 5) SECOND AS at, toUInt32(1) AS src, rowNumberInAllBlocks() AS koff)
		FROM (SELECT * FROM plays ORDER BY ts) SETTINGS max_threads = 1`)
	source := up(j.T, j.TempDir(), ports(j.T))
	rows := j.clickhouse("SELECT * FROM moved FORMAT JSONEachRow")
	source.clickhouse("INSERT INTO plays FORMAT JSONEachRow\n" + rows)
	source.inLog(uint64(len(j.truth.Plays())))
	keys, err := os.ReadFile(source.data + "/s3/keys.json")
	if err != nil {
		j.Fatal(err)
	}
	var key struct{ ID, Secret string }
	if err := json.Unmarshal(keys, &key); err != nil {
		j.Fatal(err)
	}
	archive := []string{"TOPK_ARCHIVE_URL=http://" + source.s3 + "/killed", "AWS_ACCESS_KEY_ID=" + key.ID, "AWS_SECRET_ACCESS_KEY=" + key.Secret}
	j.killed(source, append(j.servers(source), archive...), 3*time.Second, "load", "archive", "--once")

	restored := up(j.T, j.TempDir(), ports(j.T))
	j.killed(restored, append(j.servers(restored), archive...), 6*time.Second, "load", "restore")
	const print = "SELECT count(), sum(cityHash64(src, koff, at, ts, eventId, user, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)) FROM plays"
	if got, want := restored.clickhouse(print), source.clickhouse(print); got != want {
		j.Errorf("the restored log is %s, want %s", got, want)
	}
	eventually(j.T, "the rollups have counted the log", time.Minute, func() bool {
		return restored.clickhouse("SELECT sum(plays) FROM rollup_day WHERE dim = 'global'") == fmt.Sprint(len(j.truth.Plays()))
	})
	j.sameCharts(restored)
	source.stop()
	restored.stop()
}
