// Package loader brings data other than live plays into the system: the song
// catalog and the users' segments.
package loader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/tabular"
	"github.com/topk-charts/topk/queries"
)

const (
	batchRows     = 10_000 // staged at once
	forgetTimeout = time.Minute
)

// LoadOptions say what Catalog and Segments load; Files and Sources are required.
type LoadOptions struct {
	Files     *tabular.Files
	Sources   []string // paths and URLs of S3, with wildcards if need be, and - for standard input
	Separator string   // of lists in CSV; "" is |
	Replace   bool     // what no file names is deleted
	Force     bool     // even if that is more than half of what there is
	// Progress is told the rows read so far. nil for none.
	Progress func(rows int)
}

// Loaded is what a load has done. Rows that say what is so already change
// nothing.
type Loaded struct {
	Rows uint64 // of all files
	queries.Changes
}

// songFields are the columns of songs.
var songFields = []field{
	{"songId", text, true}, {"title", text, true}, {"artistId", text, true}, {"artist", text, true},
	{"genres", list, false}, {"durationMs", number, false}, deleted,
}

// Catalog upserts songs, and deletes those whose row says deleted. Of several rows
// with one songId the last counts. All rows are read before anything is written:
// a *BadRows says which are wrong. Charts follow within seconds.
func Catalog(ctx context.Context, db *queries.DB, o LoadOptions) (Loaded, error) {
	load := db.LoadSongs(o.Replace)
	parse := func(object []byte) (topk.Song, error) {
		var row struct {
			topk.Song
			Deleted bool `json:"deleted"`
		}
		errs, err := decode(object, &row)
		if err != nil {
			return row.Song, err
		}
		song := row.Song
		if row.Deleted {
			// Of a song that is deleted only the id must be right, and is kept.
			row.Song = topk.Song{SongID: song.SongID, Title: "-", ArtistID: "-", Artist: "-"}
			song = topk.Song{SongID: song.SongID}
		}
		return song, together(errs, row.Song.Validate())
	}
	return run(ctx, load, songFields, parse, load.StageSongs, o)
}

// userFields are the columns of users' segments.
var userFields = []field{{"userId", text, true}, {"segments", list, true}, deleted}

// Segments upserts users' segments, as Catalog does songs. A user without segments
// is as good as deleted. The users' ids are hashed with the gateway's pepper before
// they leave this process. Plays that come in from then on have the segments.
func Segments(ctx context.Context, db *queries.DB, pepper []byte, o LoadOptions) (Loaded, error) {
	load := db.LoadSegments(o.Replace)
	parse := func(object []byte) (queries.UserSegments, error) {
		var row struct {
			topk.UserSegments
			Deleted bool `json:"deleted"`
		}
		errs, err := decode(object, &row)
		if err != nil {
			return queries.UserSegments{}, err
		}
		if row.Deleted {
			row.Segments = nil
		}
		return queries.UserSegments{UserHash: topk.HashUser(pepper, row.UserID), Segments: row.Segments},
			together(errs, row.Validate())
	}
	return run(ctx, load, userFields, parse, load.StageSegments, o)
}

// together joins the errors of fields, one for each.
func together(errs topk.FieldErrors, err error) error {
	var more topk.FieldErrors
	errors.As(err, &more)
	for _, e := range more {
		if len(errs) == 0 || errs[0].Field != e.Field {
			errs = append(errs, e)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return errs
}

// run stages the rows of all files, and writes them when all are right.
func run[T any](ctx context.Context, load *queries.Load, fields []field, parse func([]byte) (T, error),
	stage func(context.Context, []T) error, o LoadOptions) (loaded Loaded, err error) {
	files, err := o.Files.Find(ctx, o.Sources)
	if err != nil {
		return loaded, err
	}
	defer func() { // else they are gone a day later
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), forgetTimeout)
		defer cancel()
		err = errors.Join(err, load.Forget(ctx))
	}()
	if o.Separator == "" {
		o.Separator = "|"
	}
	batch := make([]T, 0, batchRows)
	flush := func() error {
		err := stage(ctx, batch)
		batch = batch[:0]
		if o.Progress != nil {
			o.Progress(int(loaded.Rows))
		}
		return err
	}
	r := &reader{files: o.Files, fields: fields, separator: o.Separator}
	r.take = func(object []byte) error {
		loaded.Rows++
		row, err := parse(object)
		if err != nil || len(r.bad.Rows) > 0 { // then nothing will be written
			return err
		}
		if batch = append(batch, row); len(batch) == batchRows {
			return flush()
		}
		return nil
	}
	for _, f := range files {
		if err := r.read(ctx, f); err != nil {
			return loaded, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	if len(r.bad.Rows) > 0 {
		return loaded, &r.bad
	}
	if err := flush(); err != nil {
		return loaded, err
	}
	if loaded.Changes, err = load.Changes(ctx); err != nil {
		return loaded, err
	}
	if o.Replace && !o.Force && 2*loaded.Deleted > loaded.Present {
		return loaded, wrong("", "%d of %d would be deleted, which is more than half: nothing was loaded; --force does it", loaded.Deleted, loaded.Present)
	}
	return loaded, load.Write(ctx)
}
