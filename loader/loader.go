// Package loader brings data other than live plays into the system: the song
// catalog and the users' segments.
package loader

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
)

const (
	batchRows = 10_000  // written to ClickHouse at once
	maxLine   = 1 << 20 // bytes of one line of input
)

// Catalog upserts songs from NDJSON, one topk.Song a line. An error names the
// line; the songs of earlier batches are kept, and a second run repeats them
// harmlessly. progress is told the rows written so far.
func Catalog(ctx context.Context, db *queries.DB, in io.Reader, progress func(rows int)) error {
	return load(in, progress, topk.ParseSong, func(songs []topk.Song) error {
		return db.UpsertSongs(ctx, songs)
	})
}

// Segments upserts users' segments from NDJSON, one topk.UserSegments a line.
// The users' ids are hashed with the gateway's pepper before they leave this
// process. Errors and progress as in Catalog.
func Segments(ctx context.Context, db *queries.DB, pepper []byte, in io.Reader, progress func(rows int)) error {
	parse := func(line []byte) (queries.UserSegments, error) {
		u, err := topk.ParseUserSegments(line)
		return queries.UserSegments{UserHash: topk.HashUser(pepper, u.UserID), Segments: u.Segments}, err
	}
	return load(in, progress, parse, func(users []queries.UserSegments) error {
		return db.UpsertSegments(ctx, users)
	})
}

// load parses lines and writes them in batches.
func load[T any](in io.Reader, progress func(int), parse func([]byte) (T, error), write func([]T) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	batch := make([]T, 0, batchRows)
	written := 0
	flush := func() error {
		if err := write(batch); err != nil {
			return err
		}
		written += len(batch)
		batch = batch[:0]
		progress(written)
		return nil
	}
	line := 0
	for lines.Scan() {
		line++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		row, err := parse(text)
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		if batch = append(batch, row); len(batch) == batchRows {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("line %d: %w", line+1, err)
	}
	return flush()
}
