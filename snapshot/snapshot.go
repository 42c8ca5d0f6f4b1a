// Package snapshot keeps the served charts in Redis: one writer publishes the
// first topk.SnapshotSize entries of a chart, any number of API nodes read
// them.
//
// Redis holds nothing that matters: every key expires unless it is written
// again, and a flush costs one refresh. Needs Redis 7 or Valkey, a single
// server or a cluster.
package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/topk-charts/topk"
)

// A Snapshot is a published chart. It is shared between readers: its entries,
// watermark and previous songs must not be modified.
type Snapshot struct {
	topk.Chart
	// Version grows with every publication of the same chart; see Publisher.
	Version uint64
	// Previous is the zero one when none was published.
	Previous Previous

	previousVersion string // of Redis' HASH
}

// Every chart has two keys. The braces make the filter the hash tag, so that
// both lie in one slot of a Redis Cluster and one script may touch them.
//
//	top:{region:IN}:24h   ZSET  songId -> plays
//	meta:{region:IN}:24h  HASH  the fields below
//
// An empty chart has no ZSET (Redis keeps no empty ones) and a HASH of size 0;
// a chart that is not there has neither.

// Beside the charts there is one key for all of them, of charts that are asked
// for and have no snapshot unless somebody does; see Store.Want:
//
//	wanted  ZSET  {playlist:p1}:24h -> epoch ms of the last request

const (
	topPrefix  = "top:"
	metaPrefix = "meta:"
)

// TopKey is the key of a chart's entries.
func TopKey(f topk.Filter, w topk.Window) string { return topPrefix + keySuffix(f, w) }

// MetaKey is the key of everything else about a chart.
func MetaKey(f topk.Filter, w topk.Window) string { return metaPrefix + keySuffix(f, w) }

func keySuffix(f topk.Filter, w topk.Window) string {
	return "{" + f.String() + "}:" + w.String()
}

// The fields of the HASH that every read takes, in this order. Times are epoch
// milliseconds; windowEnd is exclusive; the watermark is a JSON object of source
// to next offset.
//
// size is the number of entries: a ZSET that Redis evicted or that somebody
// edited is thereby told from an empty chart. Besides there is writer, the
// publisher that wrote the version: a publisher may send differences only
// against what it wrote itself.
//
// Ranks of old are in three fields that only some publications write, and a
// chart may lack: previous is a JSON array of the songs of the chart at the last
// boundary, in the order of their ranks; previousAsOf is that instant;
// previousVersion is the version that brought them, by which a reader knows that
// it need not read them again.
var metaFields = []string{
	"version", "asOf", "windowStart", "windowEnd", "totalPlays", "watermark", "size", "previousAsOf", "previousVersion",
}

// errMalformed is a HASH that no publisher wrote.
var errMalformed = errors.New("malformed snapshot")

// decode reads the reply of the read script: the HASH's fields, the ZSET's
// members with scores, best first, and the previous songs, unless they are those
// of known.
func decode(f topk.Filter, w topk.Window, reply []rueidis.RedisMessage, known *Snapshot) (Snapshot, error) {
	if len(reply) != 3 {
		return Snapshot{}, fmt.Errorf("%w: %d parts", errMalformed, len(reply))
	}
	meta, err := reply[0].ToArray()
	if err != nil {
		return Snapshot{}, fmt.Errorf("%w: fields: %w", errMalformed, err)
	}
	members, err := reply[1].AsStrSlice()
	if err != nil {
		return Snapshot{}, fmt.Errorf("%w: entries: %w", errMalformed, err)
	}
	if len(meta) != len(metaFields) || meta[0].IsNil() {
		return Snapshot{}, topk.ErrNotFound
	}

	d := metaDecoder{fields: meta}
	s := Snapshot{Version: d.uint("version")}
	size := d.uint("size")
	s.Chart = topk.Chart{
		Filter:     f,
		Window:     w,
		AsOf:       d.time("asOf"),
		Span:       topk.Span{Start: d.time("windowStart"), End: d.time("windowEnd")},
		TotalPlays: d.uint("totalPlays"),
		Watermark:  d.watermark("watermark"),
	}
	if !meta[len(meta)-1].IsNil() {
		s.previousVersion = d.text("previousVersion")
		if known != nil && known.previousVersion == s.previousVersion {
			s.Previous = known.Previous
		} else {
			s.Previous = d.previous(reply[2])
		}
	}
	if d.err != nil {
		return Snapshot{}, d.err
	}
	// The two keys come from one script, so they can disagree only when one of
	// them was evicted or edited: then the chart is as good as gone.
	if uint64(len(members)) != 2*size {
		return Snapshot{}, topk.ErrNotFound
	}
	if s.Entries, err = decodeEntries(members); err != nil {
		return Snapshot{}, err
	}
	return s, nil
}

// decodeEntries reads alternating members and scores. Redis orders a ZSET by
// score and then by the member's bytes, so the reverse is chart order.
func decodeEntries(members []string) ([]topk.Entry, error) {
	entries := make([]topk.Entry, 0, len(members)/2)
	for i := 0; i+1 < len(members); i += 2 {
		plays, err := strconv.ParseUint(members[i+1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: plays of %q: %w", errMalformed, members[i], err)
		}
		entries = append(entries, topk.Entry{Rank: len(entries) + 1, SongID: members[i], Plays: plays})
	}
	return entries, nil
}

// metaDecoder reads fields by name and keeps the first error.
type metaDecoder struct {
	fields []rueidis.RedisMessage
	err    error
}

func (d *metaDecoder) text(name string) string {
	for i, field := range metaFields {
		if field != name {
			continue
		}
		s, err := d.fields[i].ToString()
		d.keep(name, err)
		return s
	}
	return ""
}

func (d *metaDecoder) keep(name string, err error) {
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("%w: %s: %w", errMalformed, name, err)
	}
}

func (d *metaDecoder) uint(name string) uint64 {
	n, err := strconv.ParseUint(d.text(name), 10, 64)
	d.keep(name, err)
	return n
}

func (d *metaDecoder) time(name string) time.Time {
	ms, err := strconv.ParseInt(d.text(name), 10, 64)
	d.keep(name, err)
	return time.UnixMilli(ms).UTC()
}

func (d *metaDecoder) watermark(name string) topk.Watermark {
	w, err := decodeWatermark(d.text(name))
	d.keep(name, err)
	return w
}

// previous reads the songs that the read script gives beside the fields.
func (d *metaDecoder) previous(songIDs rueidis.RedisMessage) (p Previous) {
	text, err := songIDs.ToString()
	if err == nil {
		err = json.Unmarshal([]byte(text), &p.SongIDs)
	}
	d.keep("previous", err)
	p.AsOf = d.time("previousAsOf")
	return p
}
