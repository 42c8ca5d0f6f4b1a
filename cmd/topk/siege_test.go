package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/internal/faults"
	"github.com/topk-charts/topk/internal/oracle"
)

// A siege is a deployment under fire, and the truth about what was sent to it.
type siege struct {
	*testing.T
	*faults.System
	seed   uint64
	truth  *oracle.Oracle
	users  map[string][]string // segments
	pepper []byte
	kafka  *kgo.Client
	epoch  int // of the topic

	mu        sync.Mutex
	plays     []topk.Play       // acknowledged, each once
	rejects   map[string]string // messages that are no plays, and where: partition,offset
	empty     int               // messages without a byte, which leave no row
	repeats   int
	refused   int // items that the gateway refused
	retries   int
	sent      atomic.Int64 // events begun
	messages  atomic.Int64 // malformed ones begun
	width     atomic.Int32 // partitions that are written to
	charts    int          // asked for meanwhile
	unserved  int          // of these, with 503 or without an answer
	recounted int          // snapshots held against the log meanwhile
}

func newSiege(t *testing.T, cfg faults.Config) *siege {
	t.Helper()
	s := deploy(t, cfg)
	s.load()
	return s
}

// deploy starts a deployment without a catalog and segments.
func deploy(t *testing.T, cfg faults.Config) *siege {
	t.Helper()
	seed := *faultSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-faults.seed=%d", seed)
	cfg.Dir = t.TempDir()
	cfg.Topk = faults.Command{Path: os.Args[0], Env: []string{asProgram + "=1"}}
	cfg.Engine = faults.Command{Path: os.Args[0], Env: []string{asEngine + "=1"}}
	if cfg.Partitions == 0 {
		cfg.Partitions = 4
	}
	system, err := faults.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &siege{T: t, System: system, seed: seed, truth: oracle.New(), users: map[string][]string{}, rejects: map[string]string{}}
	t.Cleanup(func() {
		if t.Failed() {
			for _, p := range s.Processes() {
				t.Logf("%s, killed %d times, said last:\n%s", p.Name, p.Kills, p.Log())
			}
		}
		s.Close()
	})
	if s.pepper, err = os.ReadFile(s.PepperFile); err != nil {
		t.Fatal(err)
	}
	s.kafka, err = kgo.NewClient(kgo.SeedBrokers(s.Broker), kgo.DefaultProduceTopic("plays"),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(8<<20),
		kgo.MetadataMinAge(500*time.Millisecond), kgo.RetryBackoffFn(func(int) time.Duration { return 100 * time.Millisecond }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kafka.Close)
	s.width.Store(int32(cfg.Partitions))
	return s
}

// load fills the catalog and the segments.
func (s *siege) load() {
	s.Helper()
	var songs, users bytes.Buffer
	for i := range 60 {
		song := topk.Song{SongID: fmt.Sprint("s", i), Title: "t", ArtistID: fmt.Sprint("a", i%9), Artist: "n",
			Genres: [][]string{{"pop"}, {"rock", "pop"}, {}, {"r&b, soul"}}[i%4], DurationMS: 1}
		s.truth.SetSong(song)
		s.encodeTo(&songs, song)
	}
	for i := range 30 {
		user := topk.UserSegments{UserID: fmt.Sprint("u", i), Segments: [][]string{{"premium"}, {"free"}, {"free", "student"}}[i%3]}
		s.users[user.UserID] = user.Segments
		s.encodeTo(&users, user)
	}
	s.loadFrom(&songs, &users, 60+30)
}

// loadFrom fills the catalog and the segments with rows in all, and waits until
// they are known.
func (s *siege) loadFrom(songs, users io.Reader, rows int) {
	s.Helper()
	for what, lines := range map[string]io.Reader{"catalog": songs, "segments": users} {
		args := []string{"load", what, "-", "--clickhouse-url", s.ClickHouseURL}
		if what == "segments" {
			args = append(args, "--user-pepper-file", s.PepperFile)
		}
		if _, err := s.System.Run(s.Context(), lines, args...); err != nil {
			s.Fatal(err)
		}
	}
	s.become("SELECT (SELECT count() FROM dictionary(segments_of_user)) + (SELECT count() FROM dictionary(song_catalog))", fmt.Sprint(rows))
}

func (s *siege) encodeTo(w *bytes.Buffer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.Fatal(err)
	}
}

// query asks ClickHouse, past all proxies.
func (s *siege) query(sql string) (string, error) { return s.queryContext(s.Context(), sql) }

// queryTimeout bounds one question of a test to ClickHouse.
const queryTimeout = 30 * time.Second

func (s *siege) queryContext(ctx context.Context, sql string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	host, database, _ := strings.Cut(strings.TrimPrefix(s.ClickHouseURL, "http://"), "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+host+"/?database="+database, strings.NewReader(sql))
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", res.Status, text)
	}
	return strings.TrimSpace(string(text)), err
}

func (s *siege) value(sql string) string {
	s.Helper()
	v, err := s.query(sql)
	if err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
	return v
}

// settleTimeout is how long a system may take to be right after the last fault: a
// backlog of the outage may have to be read first.
func settleTimeout() time.Duration { return 3*time.Minute + *faultOutage }

func (s *siege) become(sql, want string) {
	s.Helper()
	s.await(fmt.Sprintf("%s is %s", sql, want), func() error {
		got, err := s.query(sql)
		if err == nil && got != want {
			err = fmt.Errorf("it is %s", got)
		}
		return err
	})
}

func (s *siege) await(what string, holds func() error) {
	s.Helper()
	s.awaitFor(settleTimeout(), what, holds)
}

func (s *siege) awaitFor(timeout time.Duration, what string, holds func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), timeout)
	defer cancel()
	if err := faults.Await(ctx, holds); err != nil {
		s.Fatalf("not so: %s: %v", what, err)
	}
}

// play makes the next play of a stream.
func (s *siege) play(r *rand.Rand) topk.Play {
	ago := time.Duration(r.Int64N(int64(50 * time.Minute)))
	switch r.IntN(20) {
	case 0, 1:
		ago = time.Duration(r.Int64N(int64(23 * time.Hour)))
	case 2:
		ago = time.Duration(r.Int64N(int64(6*24*time.Hour + 22*time.Hour)))
	case 3:
		ago = -time.Duration(r.Int64N(int64(4 * time.Minute)))
	}
	regions := []topk.Region{{}, {Country: "IN"}, {Country: "IN", City: "Mumbai"}, {Country: "US", City: "Washington, D.C."}, {Country: "BR", City: "São Paulo"}}
	contexts := []topk.Context{{}, {Kind: "playlist", ID: "p1"}, {Kind: "playlist", ID: "p:2"}, {Kind: "album", ID: "p1"}, {Kind: "radio", ID: "x"}}
	song := int(r.ExpFloat64()*12) % 62 // two are in no catalog
	return topk.Play{
		EventID: fmt.Sprintf("%x-%d", s.seed, s.sent.Add(1)), UserID: fmt.Sprint("u", r.IntN(31)),
		SongID: fmt.Sprint("s", song), ArtistID: fmt.Sprint("a", song%9), Timestamp: time.Now().Add(-ago).UTC().Truncate(time.Millisecond),
		Region: regions[r.IntN(len(regions))], Device: []string{"", "mobile", "desktop"}[r.IntN(3)], Context: contexts[r.IntN(len(contexts))],
	}
}

// acknowledged takes down plays that must be counted from now on.
func (s *siege) acknowledged(plays ...topk.Play) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range plays {
		s.truth.Add(p, s.users[p.UserID])
	}
	s.plays = append(s.plays, plays...)
}

// earlier picks a play that was acknowledged before.
func (s *siege) earlier(r *rand.Rand) (topk.Play, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.plays) == 0 {
		return topk.Play{}, false
	}
	s.repeats++
	return s.plays[r.IntN(len(s.plays))], true
}

// post sends batches to the gateway until ctx ends, each until it is answered
// with 202, as a client must.
func (s *siege) post(ctx context.Context, r *rand.Rand) {
	client := &http.Client{Timeout: 15 * time.Second}
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		var body bytes.Buffer
		var fresh []topk.Play
		good, bad := 0, 0
		for range 1 + r.IntN(60) {
			switch r.IntN(20) {
			case 0:
				fmt.Fprintf(&body, `{"eventId":"bad-%d","userId":"u","songId":"s","artistId":"a","timestamp":1}`+"\n", bad)
				bad++
			case 1:
				body.WriteString("nonsense\n")
				bad++
			case 2:
				if p, ok := s.earlier(r); ok {
					s.encodeTo(&body, p)
					good++
				}
			default:
				p := s.play(r)
				s.encodeTo(&body, p)
				fresh = append(fresh, p)
				if good++; r.IntN(30) == 0 { // twice in one batch
					s.encodeTo(&body, p)
					good++
				}
			}
		}
		for attempt := 0; ; attempt++ {
			err := s.postOnce(client, body.Bytes(), good, bad)
			if err == nil {
				break
			}
			if errors.Is(err, errWrong) || attempt > 1000 {
				s.Errorf("batch: %v", err)
				return
			}
			s.mu.Lock()
			s.retries++
			s.mu.Unlock()
			pause(s.Context(), 50*time.Millisecond)
		}
		s.acknowledged(fresh...)
		if err := s.postTooMuch(client, r); err != nil {
			s.Errorf("a play that is too large: %v", err)
			return
		}
		s.mu.Lock()
		s.refused += bad
		s.mu.Unlock()
		pause(ctx, 30*time.Millisecond)
	}
}

// postTooMuch sends a play that is larger than the gateway takes, now and then.
func (s *siege) postTooMuch(client *http.Client, r *rand.Rand) error {
	if r.IntN(20) != 0 {
		return nil
	}
	p := s.play(r)
	p.SongID = strings.Repeat("x", 80<<10)
	var body bytes.Buffer
	s.encodeTo(&body, p)
	res, err := client.Post(s.ProxiedURL+"/v1/events/play", "application/json", &body)
	if err != nil {
		return nil // the gateway is away
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge && res.StatusCode < http.StatusInternalServerError && res.StatusCode != http.StatusRequestTimeout {
		return errors.New(res.Status)
	}
	return nil
}

// pause spaces out attempts.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

var errWrong = errors.New("a wrong answer")

func (s *siege) postOnce(client *http.Client, body []byte, good, bad int) error {
	res, err := client.Post(s.ProxiedURL+"/v1/events/plays", "application/x-ndjson", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	switch res.StatusCode {
	case http.StatusAccepted:
	case http.StatusServiceUnavailable, http.StatusRequestTimeout:
		return errors.New(res.Status)
	default:
		return fmt.Errorf("%w: %s %s", errWrong, res.Status, text)
	}
	var answer struct {
		Accepted int
		Rejected []any
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Accepted != good || len(answer.Rejected) != bad {
		return fmt.Errorf("%w: %d accepted of %d, %d rejected of %d: %v", errWrong, answer.Accepted, good, len(answer.Rejected), bad, err)
	}
	return nil
}

// produce writes to chosen partitions what the gateway never would, until ctx
// ends.
func (s *siege) produce(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		n := int(s.messages.Add(1))
		var records []*kgo.Record
		var rejects []*kgo.Record
		var fresh []topk.Play
		add := func(value []byte) {
			records = append(records, &kgo.Record{Partition: r.Int32N(s.width.Load()), Value: value})
		}
		for range 1 + r.IntN(6) {
			if p, ok := s.earlier(r); ok { // anywhere, also twice side by side
				add(s.message(p, ""))
				add(s.message(p, ""))
			}
		}
		if reject := s.malformed(r, n); reject == "" {
			s.mu.Lock()
			s.empty++
			s.mu.Unlock()
			add(nil)
		} else {
			add([]byte(reject))
			rejects = append(rejects, records[len(records)-1])
		}
		if n%50 == 20 { // unknown fields may be of any size
			p := s.play(r)
			fresh = append(fresh, p)
			add(s.message(p, strings.Repeat("x", 2<<20)))
		}
		// Its acknowledgement may take until the broker is back.
		if err := s.kafka.ProduceSync(context.WithoutCancel(ctx), records...).FirstErr(); err != nil {
			s.Errorf("produce: %v", err)
			return
		}
		s.acknowledged(fresh...)
		s.mu.Lock()
		for _, record := range rejects {
			s.rejects[string(record.Value)] = place(record)
		}
		s.mu.Unlock()
		pause(ctx, 100*time.Millisecond)
	}
}

// place is where Kafka has put a record.
func place(r *kgo.Record) string { return fmt.Sprintf("%d,%d", r.Partition, r.Offset) }

// message is a play as the gateway writes it to Kafka.
func (s *siege) message(p topk.Play, padding string) []byte {
	p.UserID = topk.HashUser(s.pepper, p.UserID)
	text, err := p.MarshalJSON()
	if err != nil {
		s.Error(err)
	}
	if padding != "" {
		text = append(text[:len(text)-1], fmt.Sprintf(`,"padding":%q}`, padding)...)
	}
	return text
}

// malformed makes messages that are no plays, each another one; "" is the
// message without a byte.
func (s *siege) malformed(r *rand.Rand, n int) string {
	p := s.play(r)
	p.EventID = fmt.Sprint("malformed-", n)
	valid := string(s.message(p, ""))
	with := func(field, value string) string {
		return strings.Replace(valid, "{", fmt.Sprintf(`{"%s":%s,`, field, value), 1)
	}
	without := func(field string) string {
		return strings.Replace(valid, `"`+field+`"`, fmt.Sprintf(`"x%d"`, n), 1)
	}
	old := p
	old.Timestamp = time.Now().Add(-9 * 24 * time.Hour)
	ahead := p
	ahead.Timestamp = time.Now().Add(3 * time.Hour)
	all := []string{
		"", fmt.Sprint("nonsense ", n), fmt.Sprintf("[%d]", n), valid + valid, valid[:len(valid)-5], strings.Replace(valid, "malformed", "mal\xff", 1),
		fmt.Sprintf(`{"n":%d}`, n), without("eventId"), without("userId"), without("songId"), without("artistId"), without("timestamp"),
		strings.Replace(valid, topk.HashUser(s.pepper, p.UserID), p.UserID, 1), string(s.message(old, "")), string(s.message(ahead, "")),
		fmt.Sprintf("nul \x00 %d", n), strings.Replace(valid, `"songId":"`, fmt.Sprintf(`"songId":"%070d`, n), 1),
		strings.Replace(with("x", "1"), `"timestamp":`, `"timestamp":"soon`+fmt.Sprint(n)+`","was":`, 1),
	}
	return all[n%len(all)]
}

// read asks for charts until ctx ends: what is served must make sense at any
// moment, and what cannot be served must say when to come back.
func (s *siege) read(ctx context.Context, r *rand.Rand) {
	client := &http.Client{Timeout: 15 * time.Second}
	defer client.CloseIdleConnections()
	for ; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		dim := []string{"global", "region:IN", "region:IN/Mumbai", "genre:pop", "segment:free", "device:mobile", "playlist:p1", "artist:a1", "region:IN,genre:pop"}[r.IntN(9)]
		window := []string{"1h", "24h", "7d", "all", "today"}[r.IntN(5)]
		err := s.readOnce(client, dim, window)
		s.mu.Lock()
		s.charts++
		if err != nil {
			s.unserved++
		}
		s.mu.Unlock()
		if errors.Is(err, errWrong) {
			s.Errorf("%s %s: %v", dim, window, err)
			return
		}
	}
}

func (s *siege) readOnce(client *http.Client, dim, window string) error {
	res, err := client.Get(s.URL + "/v1/top?" + url.Values{"dim": {dim}, "window": {window}, "k": {"100"}}.Encode())
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "" {
		return errors.New(res.Status)
	}
	var chart served
	if err := json.Unmarshal(text, &chart); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s: %s", errWrong, res.Status, text)
	}
	var sum uint64
	entries := make([]topk.Entry, len(chart.Items))
	for i, item := range chart.Items {
		entries[i] = topk.Entry{Rank: item.Rank, SongID: item.SongID, Plays: item.Score}
		sum += item.Score
	}
	ordered := slices.Clone(entries)
	topk.RankEntries(ordered)
	if !slices.Equal(entries, ordered) || sum > chart.TotalPlays || len(entries) < 100 && sum != chart.TotalPlays {
		return fmt.Errorf("%w: %s", errWrong, text)
	}
	return nil
}

// underFire runs the clients of the system while storm does its worst.
func (s *siege) underFire(storm func(r *rand.Rand)) {
	ctx, stop := context.WithCancel(s.Context())
	var clients sync.WaitGroup
	for i := range uint64(2) {
		clients.Go(func() { s.post(ctx, rand.New(rand.NewPCG(s.seed, i))) })
	}
	clients.Go(func() { s.produce(ctx, rand.New(rand.NewPCG(s.seed, 10))) })
	clients.Go(func() { s.read(ctx, rand.New(rand.NewPCG(s.seed, 11))) })
	clients.Go(func() { s.recount(ctx, rand.New(rand.NewPCG(s.seed, 13))) })
	storm(rand.New(rand.NewPCG(s.seed, 12)))
	stop()
	clients.Wait()
	if s.Failed() {
		s.FailNow()
	}
}

// verdict waits until everything has been read and holds the log, the rollups,
// the rejects and every chart against the truth.
func (s *siege) verdict() {
	s.Helper()
	for _, p := range s.Processes() {
		if err := p.Ended(); err != nil {
			s.Fatal(err)
		}
	}
	s.awaitRead()
	s.checkLog()
	s.checkRejects()
	for rollup, grain := range map[string]time.Duration{"rollup_hour": time.Hour, "rollup_day": 24 * time.Hour} {
		s.checkRollup(rollup, grain)
	}
	snapshots, computed := s.checkCharts()
	if out, err := s.check(); err != nil {
		s.Errorf("topk check: %v\n%s", err, out)
	}
	if s.Failed() {
		s.FailNow()
	}
	kills := []string{}
	for _, p := range s.Processes() {
		kills = append(kills, fmt.Sprintf("%s %d", p.Name, p.Kills))
	}
	s.Logf("killed: %s; %d plays acknowledged, %d repeats, %d rejected by ClickHouse and %d by the gateway, %d batches sent again; "+
		"%d charts asked for meanwhile, %d of them not served, and %d snapshots recounted; afterwards %d snapshots and %d computed charts compared: 0 lost, 0 double, 0 wrong",
		strings.Join(kills, ", "), len(s.plays), s.repeats, len(s.rejects), s.refused, s.retries, s.charts, s.unserved, s.recounted, snapshots, computed)
}

// awaitRead waits until every message of Kafka is accounted for in ClickHouse, as
// a play, a repeat or a reject, and the rollups have counted all plays. (What the
// consumer has committed does not tell: a commit that a broker refused is only
// made up for by the next message.)
func (s *siege) awaitRead() {
	s.Helper()
	admin := kadm.NewClient(s.kafka)
	s.await("every message is accounted for", func() error {
		ends, err := admin.ListEndOffsets(s.Context(), "plays")
		if err != nil {
			return err
		}
		var messages int64
		ends.Each(func(end kadm.ListedOffset) { messages += end.Offset })
		accounted, err := s.query(fmt.Sprintf(`SELECT uniqExact(src, koff)
			FROM (SELECT src, koff FROM plays UNION ALL SELECT src, koff FROM plays_duplicates UNION ALL SELECT src, koff FROM plays_rejected)
			WHERE bitShiftRight(src, 16) = %d`, s.epoch))
		if err == nil && accounted != fmt.Sprint(messages-int64(s.empty)) {
			err = fmt.Errorf("%s of %d messages are, besides %d empty ones", accounted, messages, s.empty)
		}
		return err
	})
	for _, rollup := range []string{"rollup_hour", "rollup_day"} {
		s.become("SELECT count() FROM plays WHERE koff >= (SELECT maxMap(map(toUInt32OrZero(val), wm)) FROM "+rollup+" WHERE dim = '_wm')[src]", "0")
	}
}

func (s *siege) checkLog() {
	s.Helper()
	want := map[string]bool{}
	for _, p := range s.plays {
		want[p.EventID] = true
	}
	double, lost, foreign := 0, len(want), 0
	seen := map[string]bool{}
	for id := range strings.SplitSeq(s.value("SELECT eventId FROM plays"), "\n") {
		switch {
		case seen[id]:
			double++
		case want[id]:
			lost--
		default:
			foreign++
		}
		seen[id] = true
	}
	if double+lost+foreign > 0 {
		s.Errorf("the log: %d lost, %d double, %d that nobody sent", lost, double, foreign)
	}
}

func (s *siege) checkRejects() {
	s.Helper()
	wrong := 0
	rows := strings.Fields(s.value("SELECT hex(raw), partition, koff, reason != '' FROM plays_rejected FINAL FORMAT CSV"))
	got := map[string]bool{}
	for _, row := range rows {
		got[row] = true
	}
	for raw, place := range s.rejects {
		if !got[fmt.Sprintf(`"%X",%s,1`, raw, place)] {
			wrong++
			s.Errorf("%.200q of %s was not kept", raw, place)
		}
	}
	if len(rows) != len(s.rejects) || wrong > 0 {
		s.Errorf("%d rejects are kept of %d, %d of them other ones", len(rows), len(s.rejects), wrong)
	}
}

// checkRollup counts every dimension, value, song and hour or day.
func (s *siege) checkRollup(rollup string, grain time.Duration) {
	s.Helper()
	want := map[string]int{}
	for _, p := range s.plays {
		count := func(dim, value string) {
			if value != "" || dim == "global" {
				want[fmt.Sprintf("%s\t%s\t%s\t%d", dim, value, p.SongID, p.Timestamp.Truncate(grain).Unix())]++
			}
		}
		count("global", "")
		count("region", p.Region.Country)
		if p.Region.City != "" {
			count("region", p.Region.String())
		}
		count("device", p.Device)
		for _, segment := range s.users[p.UserID] {
			count("segment", segment)
		}
		if p.Context.Kind == "playlist" || p.Context.Kind == "album" {
			count(p.Context.Kind, p.Context.ID)
		}
	}
	wrong := 0
	for row := range strings.SplitSeq(s.value("SELECT dim, val, songId, toUnixTimestamp(ts), sum(plays) FROM "+rollup+
		" WHERE dim != '_wm' GROUP BY dim, val, songId, ts FORMAT TSVRaw"), "\n") {
		i := strings.LastIndexByte(row, '\t')
		if key := row[:max(i, 0)]; fmt.Sprint(want[key]) != row[i+1:] {
			wrong++
		} else {
			delete(want, key)
		}
	}
	if wrong+len(want) > 0 {
		s.Errorf("%s: %d counts are wrong and %d missing", rollup, wrong, len(want))
	}
}

// checkCharts compares every snapshot, and some charts that are computed.
func (s *siege) checkCharts() (snapshots, computed int) {
	s.Helper()
	api := &system{t: s.T, url: s.URL}
	settled := time.Now()
	defer func() { s.note("every chart is right and fresh %s later", time.Since(settled).Round(time.Millisecond)) }()
	fresh := func(filter topk.Filter, window topk.Window) {
		var chart served
		s.await(fmt.Sprintf("%s %s is a fresh snapshot", filter, window), func() (err error) {
			chart, err = api.top(url.Values{"dim": {filter.String()}, "window": {window.String()}, "k": {"200"}})
			if err == nil && (chart.Source != "snapshot" || chart.Stale || !chart.AsOf.After(settled)) {
				err = fmt.Errorf("from %s as of %s, stale: %v", chart.Source, chart.AsOf, chart.Stale)
			}
			return err
		})
		compare(s.T, s.truth, filter, chart, topk.SnapshotSize)
		snapshots++
	}
	for _, filter := range valuesOf(s.truth, s.users) {
		for _, window := range topk.Windows() {
			fresh(filter, window)
		}
	}
	onDemand := []topk.Filter{}
	for _, dim := range []string{"playlist:p1", "playlist:p:2", "album:p1", "artist:a3", "region:IN,genre:pop", "device:mobile,segment:free", "region:US,artist:a1,genre:rock"} {
		filter, err := topk.ParseFilter(dim)
		if err != nil {
			s.Fatal(err)
		}
		onDemand = append(onDemand, filter)
	}
	windows := []topk.Window{topk.LastHour, topk.Today, topk.Last30d, topk.AllTime}
	for _, filter := range onDemand {
		for _, window := range windows {
			ask := url.Values{"dim": {filter.String()}, "window": {window.String()}, "k": {fmt.Sprint(topk.MaxK)}}
			chart, err := api.top(ask)
			if err != nil {
				s.Fatal(err)
			}
			compare(s.T, s.truth, filter, chart, topk.MaxK)
			computed++
			ask.Set("k", "1") // which a snapshot could answer, so it is asked for
			if _, err := api.top(ask); err != nil {
				s.Fatal(err)
			}
		}
	}
	for _, filter := range onDemand {
		for _, window := range windows {
			fresh(filter, window)
		}
	}
	return snapshots, computed
}

// count is how many plays were acknowledged.
func (s *siege) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.plays)
}

// note tells what happens, on the terminal at once when it is a long run.
func (s *siege) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf("%7d plays acknowledged; ", len(s.plays)) + fmt.Sprintf(format, args...)
	s.Log(line)
	if *faultKills > 20 {
		fmt.Fprintln(os.Stderr, line)
	}
}
