package snapshot_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

func playlist(id string) topk.Filter {
	return topk.NewFilter(topk.Term{Dim: topk.DimPlaylist, Value: id})
}

// names gives the charts as text.
func names(keys []snapshot.Key) []string {
	text := make([]string, len(keys))
	for i, k := range keys {
		text[i] = k.Filter.String() + " " + k.Window.String()
	}
	return text
}

func wantWanted(t *testing.T, p *snapshot.Publisher, since time.Time, want ...string) {
	t.Helper()
	var got []string
	eventually(t, fmt.Sprint("wanted are ", want), func() bool {
		keys, err := p.Wanted(t.Context(), since)
		if err != nil {
			t.Fatal(err)
		}
		got = names(keys)
		return slices.Equal(got, want)
	})
}

func TestWanted(t *testing.T) {
	redis := startServer(t)
	now := &clock{now: noon}
	store := open(t, redis.url(), snapshot.Options{Clock: now.Now})
	p := store.NewPublisher(snapshot.PublisherOptions{})
	wantWanted(t, p, noon)

	odd := topk.NewFilter(topk.Term{Dim: topk.DimPlaylist, Value: "}:{,%"}, topk.Term{Dim: topk.DimRegion, Value: "IN"})
	for _, f := range []topk.Filter{playlist("1"), odd, playlist("2")} {
		store.Want(f, topk.LastHour)
		now.advance(time.Second)
	}
	wantWanted(t, p, noon, "playlist:2 1h", "playlist:}:{%2C%25,region:IN 1h", "playlist:1 1h")
	wantWanted(t, p, noon.Add(time.Second), "playlist:2 1h", "playlist:}:{%2C%25,region:IN 1h")
	wantWanted(t, p, noon.Add(time.Minute))
	if ttl, err := strconv.Atoi(redis.do(t, "PTTL", "wanted")); err != nil || ttl <= 0 {
		t.Errorf("TTL %d, %v", ttl, err)
	}

	// Neither says it again at once, nor the sooner of two processes later.
	store.Want(playlist("1"), topk.LastHour)
	behind := open(t, redis.url(), snapshot.Options{Clock: func() time.Time { return noon.Add(-time.Hour) }})
	behind.Want(playlist("2"), topk.LastHour)
	behind.Want(playlist("0"), topk.LastHour)
	wantWanted(t, p, noon.Add(-2*time.Hour), "playlist:2 1h", "playlist:}:{%2C%25,region:IN 1h", "playlist:1 1h", "playlist:0 1h")
	now.advance(7 * time.Second) // 10 s after the first time
	store.Want(playlist("1"), topk.LastHour)
	wantWanted(t, p, noon, "playlist:1 1h", "playlist:2 1h", "playlist:}:{%2C%25,region:IN 1h")

	// What is never kept.
	fixed, err := topk.Between(noon, noon.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	store.Want(global, fixed)
	long := strings.Repeat("x", topk.MaxValue)
	store.Want(topk.NewFilter(
		topk.Term{Dim: topk.DimPlaylist, Value: long}, topk.Term{Dim: topk.DimAlbum, Value: long},
		topk.Term{Dim: topk.DimArtist, Value: long}, topk.Term{Dim: topk.DimGenre, Value: long},
	), topk.LastHour)
	store.Want(playlist("last"), topk.AllTime)
	wantWanted(t, p, noon.Add(10*time.Second), "playlist:last all", "playlist:1 1h")
	if n := store.WantsDropped(); n != 1 {
		t.Errorf("%d dropped, want the long one", n)
	}
}

func TestWantedThatAreNoCharts(t *testing.T) {
	redis := startServer(t)
	p := open(t, redis.url(), snapshot.Options{}).NewPublisher(snapshot.PublisherOptions{})
	redis.do(t, "ZADD", "wanted", "1", "text", "2", "{playlist:p}:24h", "3", "{playlist:p}:2h", "4", "{tempo:fast}:24h", "5", "{")
	wantWanted(t, p, time.UnixMilli(0), "playlist:p 24h")
	if n := redis.do(t, "ZCARD", "wanted"); n != "1" {
		t.Errorf("%s are left", n)
	}
	redis.do(t, "SET", "wanted", "text")
	if _, err := p.Wanted(t.Context(), noon); err == nil {
		t.Error("a string was read as demand")
	}
}

func TestWantedIsBounded(t *testing.T) {
	redis := startServer(t)
	store := open(t, redis.url(), snapshot.Options{})
	members := []string{"ZADD", "wanted"}
	for i := range 10_000 {
		members = append(members, strconv.Itoa(i+1), fmt.Sprintf("{playlist:old%d}:24h", i))
	}
	redis.do(t, members...)
	store.Want(playlist("new"), topk.Last24h)
	p := store.NewPublisher(snapshot.PublisherOptions{})
	eventually(t, "the new one is the first of 10,000", func() bool {
		keys, err := p.Wanted(t.Context(), time.UnixMilli(0))
		if err != nil {
			t.Fatal(err)
		}
		return len(keys) == 10_000 && keys[0].Filter.String() == "playlist:new" && redis.do(t, "ZSCORE", "wanted", "{playlist:old0}:24h") == ""
	})
}

// Many who want many charts at once are heard, as far as the queue has room.
func TestWantFromManySides(t *testing.T) {
	store := open(t, startServer(t).url(), snapshot.Options{})
	var asking sync.WaitGroup
	for range 10 {
		asking.Go(func() {
			for i := range 90 {
				store.Want(playlist(fmt.Sprint(i)), topk.Last24h)
			}
		})
	}
	asking.Wait()
	p := store.NewPublisher(snapshot.PublisherOptions{})
	eventually(t, "all are wanted", func() bool {
		keys, err := p.Wanted(t.Context(), noon)
		return err == nil && len(keys) == 90
	})
	if n := store.WantsDropped(); n != 0 {
		t.Errorf("%d dropped", n)
	}
}

// Without Redis nobody waits, what was wanted is counted as dropped, and demand
// is heard again once it is back.
func TestWantWithoutRedis(t *testing.T) {
	redis := startServer(t)
	now := &clock{now: noon}
	store := open(t, redis.url(), snapshot.Options{Clock: now.Now, WriteTimeout: 100 * time.Millisecond})
	p := store.NewPublisher(snapshot.PublisherOptions{})
	redis.kill()
	if _, err := p.Wanted(t.Context(), noon); !errors.Is(err, topk.ErrUnavailable) {
		t.Errorf("wanted: %v", err)
	}
	const many = 5000 // more than wait for Redis
	for i := range uint64(many) {
		store.Want(playlist(fmt.Sprint(i)), topk.Last24h)
	}
	eventually(t, "all are dropped", func() bool { return store.WantsDropped() == many })
	redis.start(t)
	eventually(t, "demand is heard again", func() bool {
		now.advance(10 * time.Second)
		store.Want(playlist("1"), topk.Last24h)
		keys, err := p.Wanted(t.Context(), noon)
		return err == nil && slices.Equal(names(keys), []string{"playlist:1 24h"})
	})
	store.Close()
	store.Want(playlist("2"), topk.Last24h)
	store.Close() // which does no harm
}

func BenchmarkWant(b *testing.B) {
	store := open(b, startServer(b).url(), snapshot.Options{})
	f := playlist("37i9dQZF1DX0XUfTFmNBRM")
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			store.Want(f, topk.Last24h)
		}
	})
}
