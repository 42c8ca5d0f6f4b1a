package check

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/sqlfile"
	"github.com/topk-charts/topk/snapshot"
)

const (
	// catalogSettles is how long the catalog must not have changed for a chart
	// by genre or artist to be judged: the chart and the check read it at
	// different moments, and the chart from a copy.
	catalogSettles = time.Minute
	// aheadOfTime bounds how much later than its arrival a play's event time is.
	aheadOfTime = 25 * time.Hour
)

// checkCharts counts charts that are being served anew.
func (r *run) checkCharts(ctx context.Context) error {
	if r.opts.Charts == 0 {
		return nil
	}
	sample, err := r.Snapshots.Sample(ctx, r.opts.Charts)
	if err != nil {
		return err
	}
	skipped := map[string]int{}
	for i, key := range sample {
		why, err := r.checkChart(ctx, key)
		if err != nil {
			return fmt.Errorf("%s %s: %w", key.Filter, key.Window, err)
		}
		if why != "" {
			skipped[why]++
			r.report.Charts.Skipped++
		}
		r.progress(i+1, len(sample))
	}
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		r.note("%d charts were skipped: %s", skipped[why], why)
	}
	if len(sample) == 0 {
		r.note("Redis holds no charts, so none was compared: is a refresher running?")
	}
	return nil
}

// checkChart counts one chart anew, at its own instant and watermark. It may be
// replaced meanwhile: that does not matter. skipped says why it cannot be
// judged.
func (r *run) checkChart(ctx context.Context, key snapshot.Key) (skipped string, err error) {
	served, err := r.Snapshots.Get(ctx, key.Filter, key.Window)
	if errors.Is(err, topk.ErrNotFound) {
		return "they were gone before they were read", nil
	}
	if err != nil {
		return "", err
	}
	complete := r.now.Add(-kept)
	truth, facts, err := r.bruteForce(ctx, served.Chart)
	switch {
	case err != nil:
		return "", err
	case facts.foreign:
		return "they were computed from another log than this one", nil
	case served.Span.Start.Before(complete) && facts.firstPlay.Before(complete) && facts.logFirst.Before(complete):
		return "their window reaches back further than the log", nil
	case ofSong(served.Filter) && !facts.catalogChanged.Before(served.AsOf.Add(-catalogSettles)):
		return "the catalog has changed, which moves charts by genre and artist", nil
	}
	r.report.Charts.Compared++
	r.report.Charts.Entries += len(truth.Entries)
	if what := chartDifference(served.Chart, truth); what != "" {
		r.report.Charts.Wrong++
		if r.report.Charts.Wrong <= listed {
			r.differs(fmt.Sprintf("%s %s as of %s", served.Filter, served.Window, served.AsOf.Format(time.RFC3339Nano)), "%s", what)
		}
	}
	return "", nil
}

func ofSong(f topk.Filter) bool {
	return slices.ContainsFunc(f.Terms(), func(t topk.Term) bool { return t.Dim.OfSong() })
}

// facts decide whether a chart can be judged.
type facts struct {
	catalogChanged time.Time
	firstPlay      time.Time // the first day with plays; 1970 when there are none
	logFirst       time.Time // when the first one came in that the log has
	foreign        bool      // its watermark is beyond the log
}

// bruteForce counts the chart from the plays below its watermark.
func (r *run) bruteForce(ctx context.Context, chart topk.Chart) (topk.Chart, facts, error) {
	truth := chart
	truth.Entries, truth.TotalPlays = nil, 0
	var dims []topk.Dimension
	oldest := chart.Span.Start.Add(-aheadOfTime)
	if oldest.Unix() < 0 {
		oldest = time.UnixMilli(0)
	}
	args := append(watermarkArgs("srcs", "nexts", chart.Watermark), sqlfile.Instant("from", chart.Span.Start), sqlfile.Instant("to", chart.Span.End),
		sqlfile.Instant("oldest", oldest), clickhouse.Named("k", uint32(topk.SnapshotSize)))
	for _, t := range chart.Filter.Terms() {
		if t.Dim != topk.DimGlobal {
			args = append(args, clickhouse.Named("v"+strconv.Itoa(len(dims)), t.Value))
			dims = append(dims, t.Dim)
		}
	}
	var known facts
	err := r.query(ctx, "brute.sql", struct{ Terms []topk.Dimension }{dims}, args, func(rows *sql.Rows) error {
		var song string
		var plays, total uint64
		var f facts
		if err := rows.Scan(&song, &plays, &total, &f.catalogChanged, &f.firstPlay, &f.logFirst, &f.foreign); err != nil {
			return err
		}
		if song == "" {
			known = f
			return nil
		}
		truth.Entries, truth.TotalPlays = append(truth.Entries, topk.Entry{SongID: song, Plays: plays}), total
		return nil
	})
	topk.RankEntries(truth.Entries)
	return truth, known, err
}

// chartDifference says how a served chart differs from the truth; "" when it
// does not.
func chartDifference(served, truth topk.Chart) string {
	if served.TotalPlays != truth.TotalPlays {
		return fmt.Sprintf("served with %d plays in all, the log has %d", served.TotalPlays, truth.TotalPlays)
	}
	for i := range min(len(served.Entries), len(truth.Entries)) {
		if served.Entries[i] != truth.Entries[i] {
			return fmt.Sprintf("rank %d is served as %s with %d plays, and is %s with %d", i+1,
				served.Entries[i].SongID, served.Entries[i].Plays, truth.Entries[i].SongID, truth.Entries[i].Plays)
		}
	}
	if len(served.Entries) != len(truth.Entries) {
		return fmt.Sprintf("served with %d entries, and has %d", len(served.Entries), len(truth.Entries))
	}
	return ""
}
