package api

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/topk-charts/topk/api/answer"
)

// BenchmarkStream is one version of a chart of 10 songs, of which 3 changed,
// told to followers over real connections: from its publication until the last
// has it.
func BenchmarkStream(b *testing.B) {
	for _, followers := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(followers, " followers"), func(b *testing.B) {
			chart := func(n int) answer.Chart {
				c := answer.Chart{Dim: "region:IN", Window: "24h", Source: fromSnapshot, TotalPlays: uint64(n)}
				for i := range 10 {
					item := answer.Item{Rank: i + 1, SongID: fmt.Sprint("song-", i), Score: 1000, Metadata: &answer.Metadata{
						Title: "A title of usual length", Artist: "An artist", ArtistID: "artist-1", Genres: []string{"pop"}, DurationMS: 200_000,
					}}
					if i < 3 {
						item.Score += uint64(n)
					}
					c.Items = append(c.Items, item)
				}
				return c
			}
			s, url := newBenchStreams(b)
			req, err := parseStreamRequest("k=10", s.calendar)
			if err != nil {
				b.Fatal(err)
			}
			f, err := s.join(req)
			if err != nil {
				b.Fatal(err)
			}
			defer s.leave(f)
			if err := f.started(b.Context()); err != nil {
				b.Fatal(err)
			}
			f.publish(chart(0))
			var told sync.WaitGroup
			told.Add(followers)
			for range followers {
				conn, err := net.Dial("tcp", url)
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { conn.Close() })
				fmt.Fprintf(conn, "GET %s?k=10 HTTP/1.1\r\nHost: x\r\n\r\n", streamPath)
				go func() {
					lines := bufio.NewScanner(conn)
					for lines.Scan() {
						if bytes.HasPrefix(lines.Bytes(), []byte("data: ")) {
							told.Done()
						}
					}
				}()
			}
			told.Wait()
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				told.Add(followers)
				n++
				f.publish(chart(n))
				told.Wait()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*followers), "ns/event")
		})
	}
}

// newBenchStreams serves streams whose feeds only move as they are told.
func newBenchStreams(b *testing.B) (*streams, string) {
	s := newStreaming(b, Limits{StreamPoll: time.Hour, StreamCompute: time.Hour})
	return s.api.streams, strings.TrimPrefix(s.url, "http://")
}
