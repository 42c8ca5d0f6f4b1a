package snapshot_test

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

func publish(t *testing.T, p *snapshot.Publisher, want error, c snapshot.Change) {
	t.Helper()
	if err := p.Publish(t.Context(), []snapshot.Change{c})[0].Err; !errors.Is(err, want) {
		t.Fatalf("got the error %v, want %v", err, want)
	}
}

// A difference is applied only onto its base as its publisher wrote it; else
// Redis is left as it was.
func TestBehind(t *testing.T) {
	base := chart(global, 1, map[string]uint64{"a": 1, "b": 2})
	next := chart(global, 3, map[string]uint64{"a": 1, "c": 2})
	for name, harm := range map[string]func(*testing.T, *server, *snapshot.Store){
		"flushed":         func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "FLUSHALL") },
		"entries evicted": func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "DEL", "top:{global}:24h") },
		"meta evicted":    func(t *testing.T, s *server, _ *snapshot.Store) { s.do(t, "DEL", "meta:{global}:24h") },
		"older replica": func(t *testing.T, s *server, _ *snapshot.Store) {
			s.do(t, "HSET", "meta:{global}:24h", "version", strconv.FormatInt(noon.UnixMilli(), 10))
		},
		"another writer": func(t *testing.T, _ *server, store *snapshot.Store) {
			put(t, publisher(t, store, snapshot.PublisherOptions{}), chart(global, 2, map[string]uint64{"x": 1}))
		},
		"the base of another writer": func(t *testing.T, s *server, store *snapshot.Store) {
			s.do(t, "FLUSHALL")
			put(t, publisher(t, store, snapshot.PublisherOptions{}), base)
		},
	} {
		t.Run(name, func(t *testing.T) {
			redis := startServer(t)
			store := open(t, redis.url(), snapshot.Options{})
			p := store.NewPublisher(snapshot.PublisherOptions{})
			publish(t, p, nil, snapshot.Whole(base))
			harm(t, redis, store)
			before, _ := store.Get(t.Context(), global, topk.Last24h)
			publish(t, p, snapshot.ErrBehind, difference(base, next))
			if after, _ := store.Get(t.Context(), global, topk.Last24h); !reflect.DeepEqual(after, before) {
				t.Errorf("behind, but %+v became %+v", before, after)
			}
			publish(t, p, nil, snapshot.Whole(next))
			wantChart(t, store, next)
			publish(t, p, snapshot.ErrStale, difference(base, next)) // its answer was lost
		})
	}
}

// A chart that was affirmed has its new instant, span, total and watermark, and
// the entries it had.
func TestAffirmed(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := store.NewPublisher(snapshot.PublisherOptions{})
	c := chart(india, 1, map[string]uint64{"a": 1, "b": 2})
	publish(t, p, nil, snapshot.Whole(c))
	for version := 2; version < 5; version++ {
		next := c
		next.AsOf = noon.Add(time.Duration(version) * time.Hour)
		next.Span = topk.Last24h.At(next.AsOf, topk.DefaultCalendar())
		next.TotalPlays += 7
		next.Watermark = topk.Watermark{1: uint64(version)}
		publish(t, p, nil, difference(c, next))
		wantChart(t, store, next)
		c = next
	}
}

// A difference that does not add up is not served, and the next one finds out.
func TestDifferenceThatDoesNotAddUp(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	p := store.NewPublisher(snapshot.PublisherOptions{})
	first, second := chart(global, 1, map[string]uint64{"a": 1, "b": 2}), chart(global, 2, map[string]uint64{"a": 2, "b": 2})
	publish(t, p, nil, snapshot.Whole(first))
	wrong := difference(first, second)
	wrong.Size = 3
	publish(t, p, nil, wrong)
	wantGetError(t, store, global, topk.ErrNotFound)
	third := chart(global, 3, map[string]uint64{"a": 3, "b": 2})
	publish(t, p, snapshot.ErrBehind, difference(second, third))
	publish(t, p, nil, snapshot.Whole(third))
	wantChart(t, store, third)
}

// Both keys expire a TTL after the last publication, or a little earlier, and
// none is ever without an expiry.
func TestDifferencesPutTheExpiryOff(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	p := store.NewPublisher(snapshot.PublisherOptions{TTL: time.Hour})
	expiry := func(key string) int64 {
		at, err := strconv.ParseInt(redis.do(t, "PEXPIRETIME", key), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	publishAt := func(c topk.Chart, after time.Duration, plays map[string]uint64) topk.Chart {
		t.Helper()
		next := chart(global, int(after.Milliseconds()), plays)
		publish(t, p, nil, difference(c, next))
		return next
	}
	c := chart(global, 0, nil)
	publish(t, p, nil, snapshot.Whole(c))
	// The ZSET comes to be, goes, and comes again within a part of the TTL.
	for i, plays := range []map[string]uint64{{"a": 1}, {"a": 1, "b": 1}, {}, {"c": 1}, {"d": 1}} {
		c = publishAt(c, time.Duration(i+1)*time.Second, plays)
		if top, meta := expiry("top:{global}:24h"), expiry("meta:{global}:24h"); meta < 0 || len(plays) > 0 && top != meta {
			t.Errorf("step %d: expiries %d and %d", i, top, meta)
		}
	}
	for _, key := range []string{"top:{global}:24h", "meta:{global}:24h"} {
		redis.do(t, "PEXPIRE", key, "10000")
	}
	soon := expiry("top:{global}:24h")
	if c = publishAt(c, 299*time.Second, map[string]uint64{"d": 1}); expiry("top:{global}:24h") != soon {
		t.Error("put off within a part of the TTL") // which costs more than all the rest
	}
	publishAt(c, 300*time.Second, map[string]uint64{"d": 1})
	if top, meta := expiry("top:{global}:24h"), expiry("meta:{global}:24h"); top <= soon+time.Minute.Milliseconds() || top != meta {
		t.Errorf("expiries %d and %d, before %d", top, meta, soon)
	}
}

// What was there before stays until another boundary replaces it, in Redis and
// for readers that have it.
func TestPrevious(t *testing.T) {
	redis := startServer(t)
	store, fresh := open(t, redis.url(), snapshot.Options{}), open(t, redis.url(), snapshot.Options{})
	p, other := store.NewPublisher(snapshot.PublisherOptions{}), store.NewPublisher(snapshot.PublisherOptions{})
	thursday := &snapshot.Previous{AsOf: noon.Add(-24 * time.Hour), SongIDs: []string{"b", "<a>", "日本"}}
	corrected := &snapshot.Previous{AsOf: thursday.AsOf, SongIDs: []string{"a"}}
	friday := &snapshot.Previous{AsOf: noon, SongIDs: []string{}}
	var last topk.Chart
	for i, step := range []struct {
		by    *snapshot.Publisher
		whole bool
		with  *snapshot.Previous
		want  snapshot.Previous
	}{
		{by: p, whole: true},
		{by: p, with: thursday, want: *thursday},
		{by: p, want: *thursday},
		{by: p, whole: true, want: *thursday},
		{by: other, whole: true, want: *thursday},
		{by: other, whole: true, with: corrected, want: *corrected},
		{by: other, with: friday, want: *friday},
		{by: other, want: *friday},
	} {
		c := chart(global, i+1, map[string]uint64{"a": uint64(i)})
		change := snapshot.Whole(c)
		if !step.whole {
			change = difference(last, c)
		}
		change.Previous = step.with
		publish(t, step.by, nil, change)
		last = c
		for _, s := range []*snapshot.Store{store, open(t, redis.url(), snapshot.Options{})} {
			wantChart(t, s, c)
			got, err := s.Get(t.Context(), global, topk.Last24h)
			if err != nil || !reflect.DeepEqual(got.Previous, step.want) && !(got.Previous.AsOf.Equal(step.want.AsOf) && len(got.Previous.SongIDs)+len(step.want.SongIDs) == 0) {
				t.Errorf("step %d: %+v, %v; want %+v", i, got.Previous, err, step.want)
			}
		}
	}
	for field, want := range map[string]string{"previous": "[]", "previousAsOf": "1763985600000"} {
		if got := redis.do(t, "HGET", "meta:{global}:24h", field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	redis.do(t, "HSET", "meta:{global}:24h", "previous", "text", "previousVersion", "1")
	if got, err := fresh.Get(t.Context(), global, topk.Last24h); err == nil {
		t.Errorf("malformed, but %+v", got)
	}
	redis.do(t, "FLUSHALL")
	publish(t, p, nil, snapshot.Whole(last))
	if got, err := store.Get(t.Context(), global, topk.Last24h); err != nil || got.Previous.SongIDs != nil {
		t.Errorf("after a flush: %+v, %v", got.Previous, err)
	}
}

func TestRemove(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	mine := store.NewPublisher(snapshot.PublisherOptions{Batch: 3})
	other := store.NewPublisher(snapshot.PublisherOptions{})
	var keys []snapshot.Key
	var first topk.Chart
	for i := range 10 {
		c := chart(playlist(fmt.Sprint(i)), 1, map[string]uint64{"a": 1})
		publish(t, mine, nil, snapshot.Whole(c))
		keys = append(keys, snapshot.Key{Filter: c.Filter, Window: c.Window})
		first = c
	}
	theirs := first
	theirs.AsOf = theirs.AsOf.Add(time.Second)
	theirs.Span = theirs.Window.At(theirs.AsOf, topk.DefaultCalendar())
	publish(t, other, nil, snapshot.Whole(theirs))
	redis.do(t, "SCRIPT", "FLUSH")
	redis.do(t, "DEL", "meta:{playlist:3}:24h") // of which the entries are left

	for range 2 { // to repeat it does no harm
		if err := mine.Remove(t.Context(), keys); err != nil {
			t.Fatal(err)
		}
		if n := redis.do(t, "DBSIZE"); n != "2" {
			t.Errorf("%s keys are left, want those of the other's chart", n)
		}
	}
	wantChart(t, store, theirs)

	redis.kill()
	if err := mine.Remove(t.Context(), keys); !errors.Is(err, topk.ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
}
