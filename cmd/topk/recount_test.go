package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

// recount takes snapshots out of Redis until ctx ends, and holds each against
// the plays in the log below its watermark: a chart must be right at any moment,
// not only when all is quiet again.
func (s *siege) recount(ctx context.Context, r *rand.Rand) {
	store, err := snapshot.Open(ctx, s.RedisURL, snapshot.Options{Clock: time.Now, CopyFor: -1})
	if err != nil {
		s.Errorf("recount: %v", err)
		return
	}
	defer store.Close()
	filters := []string{
		"global", "region:IN", "region:IN/Mumbai", "region:US", "genre:pop", "genre:rock", "segment:free", "segment:premium", "device:mobile",
		"playlist:p1", "artist:a1", "region:IN,genre:pop",
	}
	windows := topk.Windows()
	for ; ctx.Err() == nil; pause(ctx, 100*time.Millisecond) {
		filter, err := topk.ParseFilter(filters[r.IntN(len(filters))])
		if err == nil {
			_, err = s.recountOne(ctx, store, snapshot.Key{Filter: filter, Window: windows[r.IntN(len(windows))]})
		}
		if err != nil {
			s.Error(err)
			return
		}
	}
}

// recountOne takes one snapshot out of Redis and holds it against the log. It
// did not when there is none, or when a server is away or ctx ends.
func (s *siege) recountOne(ctx context.Context, store *snapshot.Store, key snapshot.Key) (did bool, err error) {
	snap, err := store.Get(ctx, key.Filter, key.Window)
	switch {
	case errors.Is(err, topk.ErrNotFound), errors.Is(err, topk.ErrUnavailable), ctx.Err() != nil:
		return false, nil
	case err != nil:
		return false, fmt.Errorf("snapshot %s %s: %w", key.Filter, key.Window, err)
	}
	entries, total, err := s.bruteForce(ctx, snap.Chart)
	var away *url.Error
	switch {
	case errors.As(err, &away), ctx.Err() != nil: // ClickHouse is killed
		return false, nil
	case err != nil:
		return false, fmt.Errorf("recount %s %s: %w", key.Filter, key.Window, err)
	}
	if !slices.Equal(snap.Entries, entries) || snap.TotalPlays != total {
		return true, fmt.Errorf("%w: snapshot %s %s as of %s below %v:\n got %d plays %v\nwant %d plays %v", errWrong, key.Filter, key.Window,
			snap.AsOf, snap.Watermark, snap.TotalPlays, snap.Entries, total, entries)
	}
	s.mu.Lock()
	s.recounted++
	s.mu.Unlock()
	return true, nil
}

// bruteForce counts a chart play by play, without rollups.
func (s *siege) bruteForce(ctx context.Context, chart topk.Chart) (entries []topk.Entry, total uint64, err error) {
	var conditions []string
	for _, term := range chart.Filter.Terms() {
		conditions = append(conditions, condition(term))
	}
	text, err := s.queryContext(ctx, fmt.Sprintf(`
		SELECT songId, count() AS n, sum(n) OVER () AS total
		FROM plays
		WHERE counted AND koff < %s[src] AND %s
		  AND ts >= fromUnixTimestamp64Milli(%d, 'UTC') AND ts < fromUnixTimestamp64Milli(%d, 'UTC')
		GROUP BY songId
		ORDER BY n DESC, songId DESC
		LIMIT %d
		SETTINGS max_threads = 1
		FORMAT TSVRaw`,
		literal(chart.Watermark), strings.Join(conditions, " AND "), chart.Span.Start.UnixMilli(), chart.Span.End.UnixMilli(), topk.SnapshotSize))
	if err != nil || text == "" {
		return nil, 0, err
	}
	for line := range strings.SplitSeq(text, "\n") {
		cells := strings.Split(line, "\t")
		plays, err := strconv.ParseUint(cells[1], 10, 64)
		if err != nil {
			return nil, 0, err
		}
		if total, err = strconv.ParseUint(cells[2], 10, 64); err != nil {
			return nil, 0, err
		}
		entries = append(entries, topk.Entry{Rank: len(entries) + 1, SongID: cells[0], Plays: plays})
	}
	return entries, total, nil
}

// literal writes a watermark in SQL.
func literal(wm topk.Watermark) string {
	srcs, nexts := make([]string, 0, len(wm)), make([]string, 0, len(wm))
	for src, next := range wm {
		srcs, nexts = append(srcs, fmt.Sprint(src)), append(nexts, fmt.Sprint(next))
	}
	return fmt.Sprintf("mapFromArrays(CAST('[%s]', 'Array(UInt32)'), CAST('[%s]', 'Array(UInt64)'))",
		strings.Join(srcs, ","), strings.Join(nexts, ","))
}

// condition is what a play must be to count for the term.
func condition(term topk.Term) string {
	value := "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(term.Value) + "'"
	switch term.Dim {
	case topk.DimGlobal:
		return "true"
	case topk.DimRegion:
		return fmt.Sprintf("(country = %[1]s OR region = %[1]s)", value)
	case topk.DimGenre:
		return fmt.Sprintf("songId IN (SELECT songId FROM songs FINAL WHERE has(genres, %s))", value)
	case topk.DimArtist:
		return fmt.Sprintf("songId IN (SELECT songId FROM songs FINAL WHERE artistId = %s)", value)
	case topk.DimSegment:
		return fmt.Sprintf("has(segments, %s)", value)
	case topk.DimDevice:
		return "device = " + value
	default:
		return fmt.Sprintf("contextKind = '%s' AND contextId = %s", term.Dim, value)
	}
}
