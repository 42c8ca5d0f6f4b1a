package refresher

import (
	"context"
	"errors"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/queries"
	"github.com/topk-charts/topk/refresher/board"
	"github.com/topk-charts/topk/refresher/topn"
)

// maxRead is how many plays of a source are read at once.
const maxRead = 20_000

// read follows the log from a position, and hands each piece to every keeper.
// It ends when history is rewritten.
func (r *Refresher) read(ctx context.Context, pos queries.LogPosition, asOf time.Time, values *board.Values, keepers []*keeper) error {
	ticks := time.NewTicker(r.Tick)
	defer ticks.Stop()
	away := false
	for {
		now := r.Clock().UTC().Truncate(time.Millisecond)
		if !now.After(asOf) { // clocks may be set back; versions may not
			now = asOf.Add(time.Millisecond)
		}
		batch, next, more, err := r.readBatch(ctx, pos, now, values)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, queries.ErrRewritten), errors.Is(err, topn.ErrFull):
			return err
		case err != nil:
			r.metrics.failures.WithLabelValues("read").Inc()
			if !away {
				r.Log.WarnContext(ctx, "the log cannot be read; charts stand still until it can", "error", err)
			}
			away = true
			pause(ctx, retryAfter)
			continue
		}
		if away {
			away = false
			r.Log.InfoContext(ctx, "the log is read again")
		}
		pos, asOf = next, now
		r.metrics.arrivals.Add(float64(len(batch.Plays)))
		for _, k := range keepers {
			select {
			case <-ctx.Done():
				return nil
			case k.batches <- batch:
			}
		}
		if more {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (r *Refresher) readBatch(ctx context.Context, pos queries.LogPosition, now time.Time, values *board.Values) (board.Batch, queries.LogPosition, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	batch := board.Batch{AsOf: now}
	next, more, err := r.DB.Arrivals(ctx, pos, maxRead, func(p queries.Play) error {
		play, err := r.play(p, values)
		batch.Plays = append(batch.Plays, play)
		return err
	})
	batch.Next = next.Next
	r.metrics.reads.Observe(r.Clock().Sub(now).Seconds())
	return batch, next, more, err
}

// leaving reads the plays of a span below a watermark.
func (r *Refresher) leaving(ctx context.Context, span topk.Span, below topk.Watermark, values *board.Values) (plays []board.Play, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	err = r.DB.Leaving(ctx, span, below, func(p queries.Play) error {
		play, err := r.play(p, values)
		plays = append(plays, play)
		return err
	})
	return plays, err
}

// play is a row of the log as the boards take it.
func (r *Refresher) play(p queries.Play, values *board.Values) (board.Play, error) {
	song, err := r.songs.Intern(p.SongID)
	play := board.Play{Src: p.Src, Koff: p.Koff, TS: p.TS, Song: song, Values: make([]board.Value, 0, 4)}
	add := func(dim topk.Dimension, val string) {
		if val == "" {
			return
		}
		if v, ok := values.Of(topk.Term{Dim: dim, Value: val}); ok {
			play.Values = append(play.Values, v)
		}
	}
	add(topk.DimRegion, p.Country)
	if p.Region != p.Country {
		add(topk.DimRegion, p.Region)
	}
	add(topk.DimDevice, p.Device)
	for _, segment := range p.Segments {
		add(topk.DimSegment, segment)
	}
	if dim := topk.Dimension(p.ContextKind); dim == topk.DimPlaylist || dim == topk.DimAlbum {
		play.Place = topk.Term{Dim: dim, Value: p.ContextID}
	}
	return play, err
}
