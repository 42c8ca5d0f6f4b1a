package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"pgregory.net/rapid"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/faults"
	"github.com/topk-charts/topk/internal/oracle"
)

var faultSteps = flag.Int("faults.steps", 25, "steps of the metamorphic test")

// A step is one thing that users, operators or bad luck may do, at any time and
// in any order.
type step struct {
	name   string
	weight int
	do     func(s *siege, r *rand.Rand)
}

var steps = []step{
	{"send", 8, (*siege).send},
	{"send again", 4, (*siege).sendAgain},
	{"produce what is no play", 2, (*siege).sendMalformed},
	{"kill", 6, (*siege).killOne},
	{"flush Redis", 2, (*siege).flushRedis},
	{"backfill", 2, (*siege).backfill},
	{"replay", 1, (*siege).replay},
	{"break and repair a rollup", 2, (*siege).repair},
	{"ask for a chart", 6, (*siege).ask},
}

// Any sequence of steps leaves the system as a model says, which only counts
// plays. The sequence is made from the seed, which makes it again.
func TestMetamorphic(t *testing.T) {
	s := newSiege(t, faults.Config{})
	r := rand.New(rand.NewPCG(s.seed, 20))
	var choices []step
	for _, st := range steps {
		for range st.weight {
			choices = append(choices, st)
		}
	}
	done := map[string]int{}
	s.send(r)
	for i := range *faultSteps {
		st := choices[r.IntN(len(choices))]
		s.note("step %d: %s", i+1, st.name)
		st.do(s, r)
		done[st.name]++
		if t.Failed() {
			t.FailNow()
		}
	}
	s.verdict()
	t.Logf("steps: %v", done)
}

// send posts a batch of new plays, some of them late.
func (s *siege) send(r *rand.Rand) {
	var fresh []topk.Play
	for range 1 + r.IntN(300) {
		fresh = append(fresh, s.play(r))
	}
	s.deliver(fresh)
	s.acknowledged(fresh...)
}

// sendAgain repeats plays through the gateway, and in partitions that are not
// theirs.
func (s *siege) sendAgain(r *rand.Rand) {
	var again []topk.Play
	for range 1 + r.IntN(50) {
		p, _ := s.earlier(r)
		again = append(again, p)
		s.put(&kgo.Record{Partition: r.Int32N(s.width.Load()), Value: s.message(p, "")})
	}
	s.deliver(again)
}

func (s *siege) sendMalformed(r *rand.Rand) {
	for range 1 + r.IntN(20) {
		raw := s.malformed(r, int(s.messages.Add(1)))
		record := &kgo.Record{Partition: r.Int32N(s.width.Load()), Value: []byte(raw)}
		s.put(record)
		if raw == "" {
			s.empty++
		} else {
			s.rejects[raw] = place(record)
		}
	}
}

func (s *siege) put(record *kgo.Record) {
	if err := s.kafka.ProduceSync(s.Context(), record).FirstErr(); err != nil {
		s.Fatal(err)
	}
}

// deliver posts plays until they are acknowledged.
func (s *siege) deliver(plays []topk.Play) {
	var body bytes.Buffer
	for _, p := range plays {
		s.encodeTo(&body, p)
	}
	client := &http.Client{Timeout: 15 * time.Second}
	defer client.CloseIdleConnections()
	s.await("the plays are acknowledged", func() error { return s.postOnce(client, body.Bytes(), len(plays), 0) })
}

// killOne kills a process, which comes back at once, or once something else was
// sent.
func (s *siege) killOne(r *rand.Rand) {
	p := s.Processes()[r.IntN(len(s.Processes()))]
	s.note("   of %s", p.Name)
	p.Kill()
	if (p == s.ClickHouse || p == s.Redis || p == s.Refresh) && r.IntN(2) == 0 {
		s.send(r)
	}
	if err := p.Start(s.Context()); err != nil {
		s.Fatal(err)
	}
}

func (s *siege) flushRedis(*rand.Rand) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.RedisURL, "redis://"))
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	answer := make([]byte, len("+OK"))
	if _, err := conn.Write([]byte("FLUSHALL\r\n")); err != nil {
		s.Fatal(err)
	}
	if _, err := conn.Read(answer); err != nil || string(answer) != "+OK" {
		s.Fatalf("Redis answers %q: %v", answer, err)
	}
}

// backfills are sources of their own, far from those of Kafka.
const firstBackfill = 1 << 31

// backfill appends plays under a source of their own, repeats among them.
func (s *siege) backfill(r *rand.Rand) {
	s.awaitRead() // a repeat of what is still on its way would be a race
	var rows bytes.Buffer
	var fresh []topk.Play
	for i := range 1 + r.IntN(200) {
		p := s.play(r)
		if i%10 == 9 {
			p, _ = s.earlier(r)
		} else {
			fresh = append(fresh, p)
		}
		if err := json.NewEncoder(&rows).Encode(map[string]any{
			"koff": i, "ts": p.Timestamp.UnixMilli(), "eventId": p.EventID, "user": topk.HashUser(s.pepper, p.UserID), "songId": p.SongID, "artistId": p.ArtistID,
			"country": p.Region.Country, "region": p.Region.String(), "device": p.Device, "contextKind": p.Context.Kind, "contextId": p.Context.ID,
			"segments": append([]string{}, s.users[p.UserID]...),
		}); err != nil {
			s.Fatal(err)
		}
	}
	s.value(fmt.Sprintf(`INSERT INTO landing (src, koff, at, key, ts, eventId, user, songId, artistId, country, region, device, contextKind, contextId, duration, segments, counted)
		SELECT %d, koff, greatest(now64(3, 'UTC'), (SELECT max(at) FROM plays)), reinterpretAsUInt128(sipHash128(eventId)), fromUnixTimestamp64Milli(ts, 'UTC'), eventId,
			reinterpretAsUInt128(unhex(substring(user, 1, 32))), songId, artistId, country, region, device, contextKind, contextId, -1, segments, true
		FROM format(JSONEachRow, 'koff UInt64, ts Int64, eventId String, user String, songId String, artistId String, country String, region String, device String, contextKind String, contextId String, segments Array(String)',
			$rows$%s$rows$)`, firstBackfill+s.sent.Add(1), rows.String()))
	s.acknowledged(fresh...)
}

// replay rebuilds everything from the topic.
func (s *siege) replay(*rand.Rand) {
	if _, err := s.System.Run(s.Context(), nil, append([]string{"load", "replay"}, s.ChainFlags()...)...); err != nil {
		s.Fatal(err)
	}
	s.epoch++
}

// repair damages a rollup, which check must find, and make right.
func (s *siege) repair(r *rand.Rand) {
	s.awaitRead()
	rollup := []string{"rollup_hour", "rollup_day"}[r.IntN(2)]
	partition := map[string]string{"rollup_hour": "day", "rollup_day": "week"}[rollup]
	s.value(fmt.Sprintf("INSERT INTO %[1]s (dim, val, songId, ts, plays, %[2]s) SELECT dim, val, songId, ts, plays, %[2]s FROM %[1]s WHERE dim != '_wm' ORDER BY sipHash64(songId, %[3]d) LIMIT %[4]d",
		rollup, partition, r.Int32(), 1+r.IntN(20)))
	if out, err := s.check(); err == nil || !strings.Contains(out, rollup) {
		s.Fatalf("a damaged %s was not found: %v\n%s", rollup, err, out)
	}
	// Charts that were computed before it are still wrong then, for a moment.
	if out, _ := s.check("--repair"); !strings.Contains(out, "Repaired: "+rollup) {
		s.Fatalf("%s was not repaired:\n%s", rollup, out)
	}
	s.await("all is exact again", func() error {
		_, err := s.check()
		return err
	})
}

// check runs topk check.
func (s *siege) check(flags ...string) (string, error) {
	return s.System.Run(s.Context(), nil, append([]string{
		"check", "--clickhouse-url", s.ClickHouseURL, "--kafka-brokers", s.Broker, "--redis-url", s.RedisURL}, flags...)...)
}

// ask compares a chart of any kind, once all that was sent is read.
func (s *siege) ask(r *rand.Rand) {
	s.awaitRead()
	seed := int(r.Int32())
	filter := rapid.Custom(oracle.Filter).Example(seed)
	window := rapid.Custom(func(t *rapid.T) topk.Window { return oracle.Window(t, time.Now()) }).Example(seed)
	query := url.Values{"dim": {filter.String()}, "k": {"1000"}}
	if name := window.String(); window.Fixed() {
		from, to, _ := strings.Cut(name, "/")
		query.Set("from", from)
		query.Set("to", to)
	} else {
		query.Set("window", name)
	}
	api := &system{t: s.T, url: s.URL}
	asked := time.Now()
	var chart served
	s.await(fmt.Sprintf("%s %s is served", filter, window), func() (err error) {
		chart, err = api.top(query)
		if err == nil && chart.Source == "snapshot" && !chart.AsOf.After(asked) {
			return errors.New("not yet")
		}
		return err
	})
	compare(s.T, s.truth, filter, chart, topk.MaxK)
}
