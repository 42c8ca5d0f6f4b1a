package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-chi/chi/v5"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
)

const (
	ingestTopic  = "plays"
	ingestPepper = "a pepper for the tests"
	onePlay      = "/v1/events/play"
	manyPlays    = "/v1/events/plays"
)

var ingestNow = time.Date(2025, 11, 24, 16, 0, 0, 0, time.UTC)

// A gateway is ingest behind a real server, before a real (in-process) broker.
type gateway struct {
	*testing.T
	broker   *kfake.Cluster
	server   *httptest.Server
	registry *prometheus.Registry
	limits   api.IngestLimits
}

// A gatewayConfig is what a test may want to have otherwise.
type gatewayConfig struct {
	limits    api.IngestLimits
	publisher api.PublisherConfig
}

func newGateway(t *testing.T, change ...func(*gatewayConfig)) *gateway {
	t.Helper()
	leaks := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, leaks) })
	g := &gateway{T: t, registry: prometheus.NewRegistry()}
	g.broker = startBroker(t, t.TempDir(), 0)

	cfg := gatewayConfig{
		limits: api.DefaultIngestLimits(),
		publisher: api.PublisherConfig{
			Brokers: g.broker.ListenAddrs(), Topic: ingestTopic, Timeout: 10 * time.Second, Registerer: g.registry,
		},
	}
	for _, f := range change {
		f(&cfg)
	}
	publisher, err := api.NewPublisher(cfg.publisher)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(publisher.Close)
	g.limits = cfg.limits
	ingest, err := api.NewIngest(api.IngestConfig{
		Publisher: publisher, Rules: topk.DefaultRules(), Pepper: []byte(ingestPepper),
		Clock: func() time.Time { return ingestNow }, Limits: cfg.limits, Registerer: g.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	router := chi.NewRouter()
	ingest.Routes(router)
	g.server = httptest.NewServer(router)
	t.Cleanup(g.server.Close)
	return g
}

// startBroker starts a broker on the log in dir; port 0 is any.
func startBroker(t *testing.T, dir string, port int) *kfake.Cluster {
	t.Helper()
	broker, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.SeedTopics(4, ingestTopic), kfake.DataDir(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(broker.Close)
	return broker
}

// A received is a response that has been read.
type received struct {
	status int
	header http.Header
	closes bool // the connection
	body   []byte
}

// post sends a body with headers given as pairs.
func (g *gateway) post(path string, body []byte, headers ...string) received {
	g.Helper()
	return g.do(http.MethodPost, path, bytes.NewReader(body), headers...)
}

func (g *gateway) do(method, path string, body io.Reader, headers ...string) received {
	g.Helper()
	req, err := http.NewRequestWithContext(g.Context(), method, g.server.URL+path, body)
	if err != nil {
		g.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := g.server.Client().Do(req)
	if err != nil {
		g.Fatal(err)
	}
	return readAnswer(g, resp)
}

func readAnswer(t testing.TB, resp *http.Response) received {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return received{resp.StatusCode, resp.Header, resp.Close, body}
}

// stream sends a body of any length over a connection of its own, as a client
// that reads the answer while it still sends.
func (g *gateway) stream(path string, body io.Reader, headers ...string) received {
	g.Helper()
	conn, err := net.Dial("tcp", g.server.Listener.Addr().String())
	if err != nil {
		g.Fatal(err)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	defer conn.Close()
	if closer, ok := body.(io.Closer); ok {
		defer closer.Close() // whoever waits for more of it
	}

	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n", path)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(conn, "%s: %s\r\n", headers[i], headers[i+1])
	}
	fmt.Fprint(conn, "\r\n")
	sending.Go(func() {
		chunks := httputil.NewChunkedWriter(conn)
		if _, err := io.CopyBuffer(chunks, struct{ io.Reader }{body}, make([]byte, 32<<10)); err != nil {
			return // the gateway had enough
		}
		_ = chunks.Close()
		fmt.Fprint(conn, "\r\n")
	})
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		g.Fatal(err)
	}
	return readAnswer(g, resp)
}

// problem reads an answer as problem details of that status.
func (g *gateway) problem(a received, status int) huma.ErrorModel {
	g.Helper()
	if a.status != status || a.header.Get("Content-Type") != "application/problem+json" {
		g.Fatalf("got %d %s %.500s, want a problem of %d", a.status, a.header.Get("Content-Type"), a.body, status)
	}
	var p huma.ErrorModel
	if err := json.Unmarshal(a.body, &p); err != nil {
		g.Fatal(err)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		g.Errorf("the problem is %+v", p)
	}
	if status == http.StatusServiceUnavailable {
		if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 {
			g.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
		}
	}
	return p
}

// accepted reads the answer to a batch.
func (g *gateway) accepted(a received) api.PlaysAccepted {
	g.Helper()
	if a.status != http.StatusAccepted || a.header.Get("Content-Type") != "application/json" {
		g.Fatalf("got %d %.500s, want 202", a.status, a.body)
	}
	var accepted api.PlaysAccepted
	if err := json.Unmarshal(a.body, &accepted); err != nil {
		g.Fatal(err)
	}
	return accepted
}

// stored is how many records the broker has.
func (g *gateway) stored() (records int64) {
	for _, p := range g.broker.PartitionInfos(ingestTopic) {
		records += p.HighWatermark
	}
	return records
}

// records reads every record of the topic.
func (g *gateway) records() []*kgo.Record {
	g.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(g.broker.ListenAddrs()...), kgo.ConsumeTopics(ingestTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		g.Fatal(err)
	}
	defer client.Close()
	var records []*kgo.Record
	for want := g.stored(); int64(len(records)) < want; {
		fetches := client.PollFetches(g.Context())
		if err := fetches.Err(); err != nil {
			g.Fatal(err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// metric gives the value of a counter or gauge.
func (g *gateway) metric(name string, labels ...string) float64 {
	g.Helper()
	families, err := g.registry.Gather()
	if err != nil {
		g.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			matches := true
			for i, label := range m.GetLabel() {
				matches = matches && i < len(labels) && label.GetValue() == labels[i]
			}
			if matches {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

// eventually waits for a condition that a request in the background brings about.
func (g *gateway) eventually(what string, condition func() bool) {
	g.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			g.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// event gives a valid event as JSON, with fields replaced by raw JSON, given
// as pairs; an empty value leaves the field out.
func event(id string, replace ...string) string {
	fields := [][2]string{
		{"eventId", strconv.Quote(id)},
		{"userId", `"user-of-` + id + `"`},
		{"songId", `"song-of-` + id + `"`},
		{"artistId", `"a789"`},
		{"timestamp", strconv.FormatInt(ingestNow.UnixMilli(), 10)},
	}
	for i := 0; i < len(replace); i += 2 {
		fields = append(fields, [2]string{replace[i], replace[i+1]})
	}
	values := map[string]string{}
	var order []string
	for _, f := range fields {
		if _, known := values[f[0]]; !known {
			order = append(order, f[0])
		}
		values[f[0]] = f[1]
	}
	var parts []string
	for _, name := range order {
		if values[name] != "" {
			parts = append(parts, strconv.Quote(name)+":"+values[name])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func events(prefix string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = event(fmt.Sprintf("%s-%d", prefix, i))
	}
	return list
}

func array(items ...string) []byte { return []byte("[" + strings.Join(items, ",") + "]") }

func gzipped(t testing.TB, body []byte) []byte {
	t.Helper()
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

func zstded(t testing.TB, body []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(body, nil)
}

func TestIngestPlayReachesKafkaInItsNormalForm(t *testing.T) {
	g := newGateway(t)
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	sent := event("e-1", "userId", `"Ünique user 42"`, "songId", `"s,456"`, "timestamp", `"2025-11-24T21:30:00.123+05:30"`,
		"region", `"IN/Mumbai"`, "deviceType", `"mobile"`, "context", `"playlist/37i9dQ"`, "duration", "213", "unknown", `{"userId":"Ünique user 42"}`)

	a := g.post(onePlay, []byte(sent), "traceparent", traceparent)
	if a.status != http.StatusAccepted || strings.TrimSpace(string(a.body)) != `{"eventId":"e-1"}` {
		t.Fatalf("got %d %s", a.status, a.body)
	}

	records := g.records()
	if len(records) != 1 {
		t.Fatalf("got %d records", len(records))
	}
	r := records[0]
	want := `{"eventId":"e-1","userId":"` + topk.HashUser([]byte(ingestPepper), "Ünique user 42") + `","songId":"s,456","artistId":"a789",` +
		`"timestamp":1764000000123,"region":"IN/Mumbai","deviceType":"mobile","context":"playlist:37i9dQ","duration":213}`
	if string(r.Value) != want {
		t.Errorf("the value is %s\nwant %s", r.Value, want)
	}
	if string(r.Key) != "s,456" {
		t.Errorf("the key is %q, want the song", r.Key)
	}
	if want := []kgo.RecordHeader{{Key: "traceparent", Value: []byte(traceparent)}}; !reflect.DeepEqual(r.Headers, want) {
		t.Errorf("the headers are %v, want %v", r.Headers, want)
	}
}

func TestIngestRawUserIDLeavesNowhere(t *testing.T) {
	const secret = "raw-user-id"
	g := newGateway(t)
	field := `"` + secret + `"`
	answers := []received{
		g.post(onePlay, []byte(event("e-1", "userId", field))),
		g.post(onePlay, []byte(event("e-2", "userId", field, "songId", "7"))),
		g.post(manyPlays, array(event("e-3", "userId", field), event("e-4", "userId", field, "region", `"XX"`))),
		g.post(manyPlays, []byte(event("e-5", "userId", field)+"\n"), "Content-Type", "application/x-ndjson"),
	}
	for _, a := range answers {
		if bytes.Contains(a.body, []byte(secret)) {
			t.Errorf("the answer has the user: %s", a.body)
		}
	}
	records := g.records()
	if len(records) != 3 {
		t.Fatalf("got %d records, want 3", len(records))
	}
	for _, r := range records {
		if all := fmt.Sprintf("%s %s %s", r.Key, r.Value, r.Headers); strings.Contains(all, secret) {
			t.Errorf("the record has the user: %s", all)
		}
	}
	families, err := g.registry.Gather()
	if err != nil || strings.Contains(fmt.Sprint(families), secret) {
		t.Errorf("the metrics have the user, or %v", err)
	}
}

func TestIngestTraceparent(t *testing.T) {
	g := newGateway(t)
	const valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	for _, sent := range []string{valid, "", "garbage", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"} {
		if a := g.post(onePlay, []byte(event("e")), "traceparent", sent); a.status != http.StatusAccepted {
			t.Fatalf("traceparent %q: %d %s", sent, a.status, a.body)
		}
	}
	seen := map[string]int{}
	for _, r := range g.records() {
		seen[string(r.Headers[0].Value)]++
	}
	if len(seen) != 4 || seen[valid] != 1 {
		t.Errorf("got %v, want the valid one and 3 different new ones", seen)
	}
	for value := range seen {
		if parts := strings.Split(value, "-"); len(parts) != 4 || len(parts[1]) != 32 || len(parts[2]) != 16 {
			t.Errorf("%q is not a traceparent", value)
		}
	}
}

func TestIngestSameSongSamePartition(t *testing.T) {
	g := newGateway(t)
	var items []string
	for i := range 50 {
		items = append(items, event(fmt.Sprintf("e-%d", i), "songId", strconv.Quote(fmt.Sprintf("s-%d", i%5))))
	}
	g.accepted(g.post(manyPlays, array(items...)))
	partitions := map[string]int32{}
	for _, r := range g.records() {
		if p, ok := partitions[string(r.Key)]; ok && p != r.Partition {
			t.Errorf("%s is in partitions %d and %d", r.Key, p, r.Partition)
		}
		partitions[string(r.Key)] = r.Partition
	}
	if len(partitions) != 5 {
		t.Errorf("got the songs %v", partitions)
	}
}

// TestIngestPlayRules sees that each rule of a play reaches the client; the
// rules themselves have their tests beside topk.ParsePlay.
func TestIngestPlayRules(t *testing.T) {
	g := newGateway(t)
	tests := []struct {
		name, body string
		want       []string // locations of the errors
	}{
		{"eventId", event("e", "eventId", `"a b"`), []string{"body.eventId"}},
		{"userId", event("e", "userId", `""`), []string{"body.userId"}},
		{"songId", event("e", "songId", ""), []string{"body.songId"}},
		{"artistId", event("e", "artistId", "null"), []string{"body.artistId"}},
		{"timestamp", event("e", "timestamp", `"yesterday"`), []string{"body.timestamp"}},
		{"too far ahead", event("e", "timestamp", strconv.FormatInt(ingestNow.Add(5*time.Minute+time.Millisecond).UnixMilli(), 10)), []string{"body.timestamp"}},
		{"too old", event("e", "timestamp", strconv.FormatInt(ingestNow.Add(-7*24*time.Hour-time.Millisecond).UnixMilli(), 10)), []string{"body.timestamp"}},
		{"region", event("e", "region", `"in"`), []string{"body.region"}},
		{"deviceType", event("e", "deviceType", `"TV"`), []string{"body.deviceType"}},
		{"context", event("e", "context", `"x"`), []string{"body.context"}},
		{"duration", event("e", "duration", "86401"), []string{"body.duration"}},
		{"nothing", "{}", []string{"body.eventId", "body.userId", "body.songId", "body.artistId", "body.timestamp"}},
		{"not an object", "[]", []string{"body"}},
		{"null", "null", []string{"body"}},
		{"empty", "", []string{"body"}},
		{"truncated", event("e")[:40], []string{"body"}},
		{"two plays", event("e") + event("f"), []string{"body"}},
		{"not UTF-8", strings.Replace(event("e"), "user", "\xff", 1), []string{"body"}},
		{"deep nesting", strings.Repeat("[", 60_000), []string{"body"}},
		{"deep nesting inside", event("e", "x", strings.Repeat("[", 30_000)+strings.Repeat("]", 30_000)), []string{"body"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := g.problem(g.post(onePlay, []byte(tt.body)), http.StatusBadRequest)
			var got []string
			for _, e := range p.Errors {
				if e.Message == "" || e.Value != nil {
					t.Errorf("the error is %+v", e)
				}
				got = append(got, e.Location)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got errors of %v, want %v", got, tt.want)
			}
		})
	}
	if n := g.stored(); n != 0 {
		t.Errorf("%d bad plays were stored", n)
	}
	if n := g.metric("topk_ingest_plays_total", "rejected"); n != float64(len(tests)) {
		t.Errorf("%v plays are counted as rejected, want %d", n, len(tests))
	}
	if n := g.metric("topk_ingest_request_duration_seconds", "400", "play"); n != float64(len(tests)) {
		t.Errorf("%v requests are observed, want %d", n, len(tests))
	}
}

func TestIngestLimitsOfAPlay(t *testing.T) {
	g := newGateway(t)
	exactly := func(n int) []byte {
		e := event("e", "pad", `"`+"x"+`"`)
		return []byte(strings.Replace(e, `"x"`, `"`+strings.Repeat("x", n-len(e)+1)+`"`, 1))
	}
	if a := g.post(onePlay, exactly(64<<10)); a.status != http.StatusAccepted {
		t.Errorf("64 KiB: got %d %s", a.status, a.body)
	}
	p := g.problem(g.post(onePlay, exactly(64<<10+1)), http.StatusRequestEntityTooLarge)
	if !strings.Contains(p.Detail, "65536 bytes") {
		t.Errorf("the limit is not named: %s", p.Detail)
	}
	g.problem(g.post(onePlay, gzipped(t, exactly(64<<10+1)), "Content-Encoding", "gzip"), http.StatusRequestEntityTooLarge)
	g.problem(g.post(onePlay, zstded(t, exactly(64<<10+1)), "Content-Encoding", "zstd"), http.StatusRequestEntityTooLarge)
	g.problem(g.stream(onePlay, bytes.NewReader(exactly(64<<10+1))), http.StatusRequestEntityTooLarge)
	if a := g.stream(onePlay, bytes.NewReader(exactly(64<<10))); a.status != http.StatusAccepted {
		t.Errorf("64 KiB in chunks: got %d %s", a.status, a.body)
	}
}

func TestIngestMethods(t *testing.T) {
	g := newGateway(t)
	for _, path := range []string{onePlay, manyPlays} {
		for _, method := range []string{"GET", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			a := g.do(method, path, strings.NewReader(event("e")))
			g.problem(a, http.StatusMethodNotAllowed)
			if a.header.Get("Allow") != "POST" {
				t.Errorf("%s %s: Allow is %q", method, path, a.header.Get("Allow"))
			}
		}
	}
}

func TestIngestContentTypes(t *testing.T) {
	g := newGateway(t)
	good := event("e")
	tests := []struct {
		path, contentType string
		status            int
	}{
		{onePlay, "application/json", 202},
		{onePlay, "application/json; charset=utf-8", 202},
		{onePlay, "Application/JSON;charset=UTF-8", 202},
		{onePlay, "", 202},
		{onePlay, "application/json; charset=utf-16", 415},
		{onePlay, "application/x-ndjson", 415},
		{onePlay, "text/plain", 415},
		{onePlay, "application/x-www-form-urlencoded", 415},
		{onePlay, "nonsense/", 415},
		{manyPlays, "application/x-ndjson", 202},
		{manyPlays, "application/ndjson; charset=utf-8", 202},
		{manyPlays, "application/jsonl", 202},
		{manyPlays, "application/x-jsonlines", 202},
		{manyPlays, "text/csv", 415},
		{manyPlays, "multipart/form-data; boundary=x", 415},
	}
	for _, tt := range tests {
		a := g.post(tt.path, []byte(good), "Content-Type", tt.contentType)
		if a.status != tt.status {
			t.Errorf("%s of %q: got %d %s, want %d", tt.path, tt.contentType, a.status, a.body, tt.status)
			continue
		}
		if tt.status == 415 {
			p := g.problem(a, 415)
			if !strings.Contains(p.Detail, "application/json") || !strings.Contains(a.header.Get("Accept-Post"), "application/json") {
				t.Errorf("the allowed types are not named: %s, %v", p.Detail, a.header)
			}
		}
	}
}

func TestIngestContentEncodings(t *testing.T) {
	g := newGateway(t)
	one, many := []byte(event("e")), array(events("b", 3)...)
	tests := []struct {
		encoding string
		pack     func(testing.TB, []byte) []byte
		status   int
	}{
		{"gzip", gzipped, 202},
		{"GZIP", gzipped, 202},
		{"x-gzip", gzipped, 202},
		{"zstd", zstded, 202},
		{"identity", nil, 202},
		{"br", nil, 415},
		{"deflate", nil, 415},
		{"gzip, gzip", nil, 415},
	}
	for _, tt := range tests {
		pack := tt.pack
		if pack == nil {
			pack = func(_ testing.TB, body []byte) []byte { return body }
		}
		for range 2 { // the second uses a decompressor again
			for path, body := range map[string][]byte{onePlay: one, manyPlays: many} {
				a := g.post(path, pack(t, body), "Content-Encoding", tt.encoding)
				if a.status != tt.status {
					t.Errorf("%s of %s: got %d %s, want %d", path, tt.encoding, a.status, a.body, tt.status)
					continue
				}
				if a.status == 415 {
					p := g.problem(a, 415)
					if !strings.Contains(p.Detail, "gzip or zstd") || a.header.Get("Accept-Encoding") != "gzip, zstd" {
						t.Errorf("the allowed encodings are not named: %s, %v", p.Detail, a.header)
					}
				}
			}
		}
	}
	if n := g.stored(); n != 2*5*(1+3) {
		t.Errorf("got %d records", n)
	}
}

func TestIngestBrokenCompression(t *testing.T) {
	g := newGateway(t)
	body := array(events("e", 2000)...)
	for name, packed := range map[string][]byte{"gzip": gzipped(t, body), "zstd": zstded(t, body)} {
		flipped := bytes.Clone(packed)
		flipped[len(flipped)/2] ^= 0xff
		for what, broken := range map[string][]byte{
			"not compressed": body, "empty": {}, "truncated": packed[:len(packed)/2], "header only": packed[:6],
			"flipped": flipped, "trailing bytes": append(bytes.Clone(packed), "garbage"...),
		} {
			if a := g.post(manyPlays, broken, "Content-Encoding", name); a.status != http.StatusBadRequest {
				t.Errorf("%s, %s: got %d %.100s, want 400", name, what, a.status, a.body)
			}
		}
		if a := g.post(manyPlays, packed, "Content-Encoding", name); a.status != http.StatusAccepted {
			t.Errorf("%s: a good body after broken ones: %d %s", name, a.status, a.body)
		}
	}
	if n := g.stored(); n != 2*2000 {
		t.Errorf("got %d records, want only those of the good bodies", n)
	}
}

func TestIngestBatchNamesBadPlaysAndTakesGoodOnes(t *testing.T) {
	items := []string{
		event("good-1"),
		event("bad-1", "songId", "7", "region", `"XX"`),
		`"not a play"`,
		event("good-2"),
		event("big", "pad", strconv.Quote(strings.Repeat("x", 64<<10))),
		"{}",
		event("good-1"), // again: downstream counts it once
		event("e", "eventId", `"bad id"`),
	}
	want := api.PlaysAccepted{Accepted: 3, Rejected: []api.RejectedPlay{
		{Index: 1, EventID: "bad-1", Errors: []*huma.ErrorDetail{
			{Message: "must be a string", Location: "body[1].songId"},
			{Message: "must start with an upper-case ISO 3166-1 alpha-2 country such as IN", Location: "body[1].region"},
		}},
		{Index: 2, Errors: []*huma.ErrorDetail{{Message: "must be one JSON object", Location: "body[2]"}}},
		{Index: 4, Errors: []*huma.ErrorDetail{{Message: fmt.Sprintf("must be at most 65536 bytes, is %d", len(items[4])), Location: "body[4]"}}},
		{Index: 5, Errors: []*huma.ErrorDetail{
			{Message: "is required", Location: "body[5].eventId"},
			{Message: "is required", Location: "body[5].userId"},
			{Message: "is required", Location: "body[5].songId"},
			{Message: "is required", Location: "body[5].artistId"},
			{Message: "is required", Location: "body[5].timestamp"},
		}},
		{Index: 7, Errors: []*huma.ErrorDetail{
			{Message: "must be 1 to 64 characters of A-Z a-z 0-9 _ . : -", Location: "body[7].eventId"},
		}},
	}}
	bodies := []struct {
		name, contentType string
		body              []byte
	}{
		{"array", "application/json", array(items...)},
		{"array with space", "application/json", []byte("\n [ " + strings.Join(items, " ,\n ") + "\t]\n")},
		{"lines", "application/x-ndjson", []byte(strings.Join(items, "\n"))},
		{"lines with blank ones", "application/x-ndjson", []byte("\n\r\n" + strings.Join(items, "\r\n \t\r\n\n") + "\n\n")},
	}
	for _, tt := range bodies {
		t.Run(tt.name, func(t *testing.T) {
			g := newGateway(t)
			a := g.post(manyPlays, tt.body, "Content-Type", tt.contentType)
			if got := g.accepted(a); !reflect.DeepEqual(got, want) {
				t.Errorf("got %s", a.body)
			}
			if n := g.stored(); n != 3 {
				t.Errorf("got %d records, want 3", n)
			}
			for result, n := range map[string]float64{"accepted": 3, "rejected": 5, "failed": 0} {
				if got := g.metric("topk_ingest_plays_total", result); got != n {
					t.Errorf("%v plays are counted as %s, want %v", got, result, n)
				}
			}
		})
	}
}

func TestIngestBatchLineThatIsNotJSONSpoilsNoOther(t *testing.T) {
	g := newGateway(t)
	body := event("e-1") + "\n" + event("e-2")[:30] + "\nnonsense\n" + event("e-3")
	got := g.accepted(g.post(manyPlays, []byte(body), "Content-Type", "application/x-ndjson"))
	if got.Accepted != 2 || len(got.Rejected) != 2 || got.Rejected[0].Index != 1 || got.Rejected[1].Index != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestIngestEmptyBatch(t *testing.T) {
	g := newGateway(t)
	for contentType, body := range map[string]string{"application/json": " [ ] ", "application/x-ndjson": "\n \n"} {
		a := g.post(manyPlays, []byte(body), "Content-Type", contentType)
		if strings.TrimSpace(string(a.body)) != `{"accepted":0,"rejected":[]}` {
			t.Errorf("%s: got %d %s", contentType, a.status, a.body)
		}
	}
}

func TestIngestBatchThatCannotBeRead(t *testing.T) {
	g := newGateway(t)
	good := event("e")
	for name, body := range map[string]string{
		"empty":           "",
		"blank":           " \n",
		"one play":        good,
		"lines":           good + "\n" + good,
		"truncated":       "[" + good + "," + good[:50],
		"not closed":      "[" + good,
		"trailing comma":  "[" + good + ",]",
		"no comma":        "[" + good + good + "]",
		"trailing text":   "[" + good + "] x",
		"two arrays":      "[" + good + "][" + good + "]",
		"a missing quote": "[" + strings.Replace(good, `"e"`, `"e`, 1) + "," + good + "]",
		"null":            "null",
		"a bare word":     "[nul]",
		"deep nesting":    strings.Repeat("[", 1<<20),
		"deep objects":    strings.Repeat(`{"a":`, 1<<20),
		"a byte order":    "\xef\xbb\xbf[" + good + "]",
	} {
		p := g.problem(g.post(manyPlays, []byte(body)), http.StatusBadRequest)
		if !strings.Contains(p.Detail, "JSON") {
			t.Errorf("%s: the problem is %q", name, p.Detail)
		}
	}
	if n := g.stored(); n != 0 {
		t.Errorf("%d plays of bodies that could not be read were stored", n)
	}
}

func TestIngestLimitsOfABatch(t *testing.T) {
	g := newGateway(t, func(c *gatewayConfig) { c.limits.MaxBatchPlays, c.limits.MaxBatchBytes = 100, 256<<10 })
	lines := []string{"Content-Type", "application/x-ndjson"}
	full := events("e", 100)
	if got := g.accepted(g.post(manyPlays, array(full...))); got.Accepted != 100 {
		t.Errorf("100 plays: %+v", got)
	}
	if got := g.accepted(g.post(manyPlays, []byte(strings.Join(full, "\n")+"\n\n"), lines...)); got.Accepted != 100 {
		t.Errorf("100 lines: %+v", got)
	}
	stored := g.stored()
	tooMany := append(full, event("one more"))
	for _, a := range []received{
		g.post(manyPlays, array(tooMany...)),
		g.post(manyPlays, []byte(strings.Join(tooMany, "\n")), lines...),
		g.post(manyPlays, []byte("["+strings.Repeat("1,", 100_000)+"1]")),
	} {
		if p := g.problem(a, http.StatusRequestEntityTooLarge); !strings.Contains(p.Detail, "100 plays") {
			t.Errorf("the limit is not named: %s", p.Detail)
		}
	}
	long := []byte(event("e") + strings.Repeat(" ", 256<<10))
	for _, a := range []received{
		g.post(manyPlays, long, lines...),
		g.stream(manyPlays, bytes.NewReader(long), lines...),
		g.post(manyPlays, gzipped(t, long), append(lines, "Content-Encoding", "gzip")...),
		g.post(manyPlays, zstded(t, long), append(lines, "Content-Encoding", "zstd")...),
	} {
		if p := g.problem(a, http.StatusRequestEntityTooLarge); !strings.Contains(p.Detail, "262144 bytes") {
			t.Errorf("the limit is not named: %s", p.Detail)
		}
	}
	if g.stored() != stored {
		t.Error("plays of refused batches were stored")
	}
}

// endless repeats a text for limit bytes.
type endless struct {
	text  []byte
	limit int64
	sent  int64
}

func (e *endless) Read(b []byte) (n int, err error) {
	for n < len(b) && e.sent < e.limit {
		m := copy(b[n:min(int64(len(b)), int64(n)+e.limit-e.sent)], e.text[e.sent%int64(len(e.text)):])
		n, e.sent = n+m, e.sent+int64(m)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// bomb gives a body that decompresses to size zeros.
func bomb(t *testing.T, encoding string, size int64) []byte {
	t.Helper()
	var packed bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&packed)
	if encoding == "zstd" {
		encoder, err := zstd.NewWriter(&packed)
		if err != nil {
			t.Fatal(err)
		}
		w = encoder
	}
	if _, err := io.CopyN(w, &endless{text: make([]byte, 1<<16), limit: size}, size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return packed.Bytes()
}

// TestIngestMemoryIsBounded sends what is meant to exhaust the gateway, all of
// it at once and twice over, and watches the heap meanwhile.
func TestIngestMemoryIsBounded(t *testing.T) {
	const (
		huge    = 100 << 20
		allowed = 96 << 20 // the budget and its garbage
	)
	g := newGateway(t, func(c *gatewayConfig) {
		c.limits.MaxBatchBytes = 4 << 20
		c.limits.MaxInFlightBytes = 32 << 20
		c.limits.AdmissionTimeout = 20 * time.Second
	})
	lines := []string{"Content-Type", "application/x-ndjson"}
	attacks := map[string]struct {
		body    func() io.Reader
		headers []string
		status  int
	}{
		"endless lines":   {func() io.Reader { return &endless{text: []byte(event("e") + "\n"), limit: huge} }, lines, 413},
		"one endless one": {func() io.Reader { return &endless{text: []byte("x"), limit: huge} }, lines, 413},
		"endless array":   {func() io.Reader { return &endless{text: []byte("[1,"), limit: huge} }, nil, 413},
		"deep nesting":    {func() io.Reader { return &endless{text: []byte("["), limit: 4 << 20} }, nil, 400},
		"blank lines":     {func() io.Reader { return &endless{text: []byte("\n"), limit: huge} }, lines, 413},
		"tiny items":      {func() io.Reader { return &endless{text: []byte("1\n"), limit: 4 << 20} }, lines, 413},
	}
	for _, encoding := range []string{"gzip", "zstd"} {
		packed := bomb(t, encoding, 512<<20)
		attack := attacks["endless lines"]
		attack.body = func() io.Reader { return bytes.NewReader(packed) }
		attack.headers = []string{"Content-Type", "application/x-ndjson", "Content-Encoding", encoding}
		attacks[encoding+" bomb"] = attack
	}

	base, stop := watchHeap(t)
	var attackers sync.WaitGroup
	for name, attack := range attacks {
		for range 2 {
			attackers.Go(func() {
				a := g.stream(manyPlays, attack.body(), attack.headers...)
				if a.status != attack.status && a.status != http.StatusServiceUnavailable {
					t.Errorf("%s: got %d %.200s, want %d", name, a.status, a.body, attack.status)
				}
			})
		}
	}
	attackers.Wait()
	if peak := stop(); peak > base+allowed {
		t.Errorf("the heap grew from %d to %d MiB", base>>20, peak>>20)
	}
	if n := g.stored(); n != 0 {
		t.Errorf("%d plays of refused bodies were stored", n)
	}
	g.eventually("the budget is given back", func() bool { return g.metric("topk_ingest_in_flight_bytes") == 0 })
	if a := g.post(onePlay, []byte(event("after"))); a.status != http.StatusAccepted {
		t.Errorf("a play after the attacks: %d %s", a.status, a.body)
	}
}

// watchHeap gives the heap's size now and, from stop, the greatest since.
func watchHeap(t *testing.T) (base uint64, stop func() (peak uint64)) {
	t.Helper()
	read := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	runtime.GC()
	base = read()
	peak := base
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				peak = max(peak, read())
			case <-done:
				return
			}
		}
	})
	return base, func() uint64 {
		close(done)
		watching.Wait()
		return max(peak, read())
	}
}

func TestIngestZstdWindowIsBounded(t *testing.T) {
	g := newGateway(t)
	// A frame header that asks for a window of 2 GiB, and one raw block.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x11, 0x00, 0x00, '[', ']'}
	base, stop := watchHeap(t)
	p := g.problem(g.post(manyPlays, frame, "Content-Encoding", "zstd"), http.StatusBadRequest)
	if !strings.Contains(p.Detail, "window") {
		t.Errorf("the problem is %q", p.Detail)
	}
	if peak := stop(); peak > base+32<<20 {
		t.Errorf("the heap grew from %d to %d MiB", base>>20, peak>>20)
	}
}

func TestIngestSlowBody(t *testing.T) {
	g := newGateway(t, func(c *gatewayConfig) { c.limits.BodyTimeout = 50 * time.Millisecond })
	for _, path := range []string{onePlay, manyPlays} {
		body, feed := io.Pipe()
		var feeding sync.WaitGroup
		feeding.Go(func() { _, _ = io.WriteString(feed, `[{"eventId":`) }) // and no more
		a := g.stream(path, body)
		if p := g.problem(a, http.StatusRequestTimeout); !strings.Contains(p.Detail, "50ms") {
			t.Errorf("the problem is %q", p.Detail)
		}
		if !a.closes {
			t.Error("the connection is kept")
		}
		feeding.Wait()
		feed.Close()
	}
	// The timer does not touch a connection whose body came in time: it can
	// wait for as long again, and be used again.
	for range 3 {
		if a := g.post(onePlay, []byte(event("e"))); a.status != http.StatusAccepted {
			t.Fatalf("got %d %s", a.status, a.body)
		}
		<-time.After(2 * g.limits.BodyTimeout)
	}
}

func TestIngestBodyThatEndsEarly(t *testing.T) {
	g := newGateway(t)
	conn, err := net.Dial("tcp", g.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: gateway\r\nContent-Length: 1000\r\n\r\n%s", onePlay, event("e"))
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	g.problem(readAnswer(t, resp), http.StatusBadRequest)
	if n := g.stored(); n != 0 {
		t.Errorf("half a body was stored")
	}
}

func TestIngestMemoryBudgetIsShared(t *testing.T) {
	g := newGateway(t, func(c *gatewayConfig) {
		c.limits.MaxBatchPlays, c.limits.MaxBatchBytes = 10, 64<<10
		c.limits.MaxInFlightBytes = 199 << 10
		c.limits.AdmissionTimeout = 20 * time.Millisecond
	})
	// Requests that have sent nearly all of their bodies hold nearly all of the budget.
	good := event("held")
	var holders sync.WaitGroup
	var feeds []*io.PipeWriter
	for range 3 {
		body, feed := io.Pipe()
		feeds = append(feeds, feed)
		holders.Go(func() {
			if got := g.accepted(g.stream(manyPlays, body, "Content-Type", "application/x-ndjson")); got.Accepted != 1 {
				t.Errorf("a request that was waited for: %+v", got)
			}
		})
		if _, err := io.WriteString(feed, good+strings.Repeat(" ", 60<<10)); err != nil {
			t.Fatal(err)
		}
	}
	g.eventually("the budget is taken", func() bool { return g.metric("topk_ingest_in_flight_bytes") > 193<<10 })

	a := g.post(onePlay, []byte(event("e")))
	if p := g.problem(a, http.StatusServiceUnavailable); !strings.Contains(p.Detail, "too many bytes") {
		t.Errorf("the problem is %q", p.Detail)
	}
	for i, feed := range feeds {
		feed.Close()
		held := float64(len(feeds)-1-i) * (64<<10 + 512)
		g.eventually("its share is given back", func() bool { return g.metric("topk_ingest_in_flight_bytes") == held })
	}
	holders.Wait()
	if a := g.post(onePlay, []byte(event("e"))); a.status != http.StatusAccepted {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func impatient(c *gatewayConfig) { c.publisher.Timeout = 300 * time.Millisecond }

// refuseProduce makes the broker refuse what clients try again, in some
// partitions or all, as one without enough in-sync replicas does.
func (g *gateway) refuseProduce(partitions ...int32) *kfake.FaultHandle {
	return g.broker.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Produce}, Partitions: partitions, Err: kerr.NotEnoughReplicas, Count: -1,
	})
}

func TestIngestWithoutEnoughReplicas(t *testing.T) {
	g := newGateway(t, impatient)
	fault := g.refuseProduce()
	p := g.problem(g.post(onePlay, []byte(event("e"))), http.StatusServiceUnavailable)
	if !strings.Contains(p.Detail, "same eventId") {
		t.Errorf("the problem is %q", p.Detail)
	}
	if n := g.metric("topk_ingest_plays_total", "failed"); n != 1 {
		t.Errorf("%v plays are counted as failed", n)
	}
	fault.Remove()
	g.eventually("the play is taken once there are", func() bool { return g.post(onePlay, []byte(event("e"))).status == http.StatusAccepted })
}

func TestIngestBatchOfWhichKafkaTakesAPart(t *testing.T) {
	g := newGateway(t, impatient)
	fault := g.refuseProduce(0)
	batch := array(append(events("e", 100), "{}")...)
	p := g.problem(g.post(manyPlays, batch), http.StatusServiceUnavailable)
	if !strings.Contains(p.Detail, "of 100 plays") || !strings.Contains(p.Detail, "the whole batch again with the same eventIds") {
		t.Errorf("the problem is %q", p.Detail)
	}
	part := g.stored()
	if part == 0 || part >= 100 {
		t.Fatalf("%d plays were stored, want a part", part)
	}
	accepted, failed := g.metric("topk_ingest_plays_total", "accepted"), g.metric("topk_ingest_plays_total", "failed")
	if accepted != float64(part) || accepted+failed != 100 {
		t.Errorf("%v are counted as accepted and %v as failed, %d were stored", accepted, failed, part)
	}

	fault.Remove()
	var a received
	g.eventually("the whole batch is taken", func() bool { a = g.post(manyPlays, batch); return a.status == http.StatusAccepted })
	if got := g.accepted(a); got.Accepted != 100 || len(got.Rejected) != 1 {
		t.Errorf("got %+v", got)
	}
	unique := map[string]bool{}
	for _, r := range g.records() {
		unique[string(r.Key)] = true
	}
	if len(unique) != 100 {
		t.Errorf("got %d unique plays, want 100", len(unique))
	}
}

func TestIngestWhileKafkaIsAway(t *testing.T) {
	g := newGateway(t, impatient)
	address, err := net.ResolveTCPAddr("tcp", g.broker.ListenAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	g.broker.Close()
	for range 2 {
		start := time.Now()
		g.problem(g.post(onePlay, []byte(event("e"))), http.StatusServiceUnavailable)
		g.problem(g.post(manyPlays, array(events("b", 50)...)), http.StatusServiceUnavailable)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("the answers took %s", took)
		}
		g.broker = startBroker(t, dir, address.Port)
		g.eventually("plays are taken again", func() bool { return g.post(onePlay, []byte(event("e"))).status == http.StatusAccepted })
		g.broker.Close()
	}
}

func TestIngestWhenKafkaNeverAnswers(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	accepting.Go(func() {
		var conns []net.Conn
		for {
			conn, err := mute.Accept()
			if err != nil {
				for _, c := range conns {
					c.Close()
				}
				return
			}
			conns = append(conns, conn)
		}
	})
	g := newGateway(t, impatient, func(c *gatewayConfig) { c.publisher.Brokers = []string{mute.Addr().String()} })
	start := time.Now()
	g.problem(g.post(manyPlays, array(events("e", 100)...)), http.StatusServiceUnavailable)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the answer took %s", took)
	}
	mute.Close()
	accepting.Wait()
}

func TestIngestBufferBeforeKafkaIsBounded(t *testing.T) {
	g := newGateway(t, impatient, func(c *gatewayConfig) { c.publisher.MaxBufferedBytes = 20 << 10 })
	fault := g.refuseProduce()
	for i := range 5 {
		g.problem(g.post(manyPlays, array(events(fmt.Sprintf("e%d", i), 20)...)), http.StatusServiceUnavailable)
		if buffered := g.metric("topk_kafka_producer_buffered_produce_records_total"); buffered > 40 {
			t.Fatalf("%v records are buffered", buffered)
		}
	}
	fault.Remove()
	// A batch larger than the whole buffer takes all of it.
	g.eventually("a large batch is taken", func() bool {
		return g.post(manyPlays, array(events("large", 500)...)).status == http.StatusAccepted
	})
}

func TestIngestClientThatLeavesFailsNoOther(t *testing.T) {
	g := newGateway(t)
	fault := g.refuseProduce()
	leaver, leave := context.WithCancel(t.Context())
	defer leave()
	var clients sync.WaitGroup
	send := func(ctx context.Context, id string) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.server.URL+onePlay,
			strings.NewReader(event(id, "songId", `"the same partition"`)))
		if err != nil {
			return err
		}
		resp, err := g.server.Client().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("%s: %s", id, resp.Status)
		}
		return nil
	}
	buffered := func() float64 { return g.metric("topk_kafka_producer_buffered_produce_records_total") }
	clients.Go(func() {
		if err := send(leaver, "left"); !errors.Is(err, context.Canceled) {
			t.Errorf("the one who left got %v", err)
		}
	})
	g.eventually("the first play is buffered", func() bool { return buffered() == 1 })
	clients.Go(func() {
		if err := send(t.Context(), "stayed"); err != nil {
			t.Error(err)
		}
	})
	g.eventually("the second play is buffered", func() bool { return buffered() == 2 })
	leave()
	g.eventually("the gateway sees the client leave", func() bool { return g.metric("topk_ingest_plays_total", "failed") == 1 })
	fault.Remove()
	clients.Wait()
}

func TestIngestMetrics(t *testing.T) {
	g := newGateway(t)
	g.post(onePlay, []byte(event("e-1")))
	g.post(onePlay, []byte("{}"))
	g.post(manyPlays, array(event("e-2"), event("e-3"), "{}"))
	for _, tt := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"topk_ingest_plays_total", []string{"accepted"}, 3},
		{"topk_ingest_plays_total", []string{"rejected"}, 2},
		{"topk_ingest_plays_total", []string{"failed"}, 0},
		{"topk_ingest_request_duration_seconds", []string{"202", "play"}, 1},
		{"topk_ingest_request_duration_seconds", []string{"400", "play"}, 1},
		{"topk_ingest_request_duration_seconds", []string{"202", "plays"}, 1},
		{"topk_ingest_produce_duration_seconds", nil, 2},
	} {
		g.eventually(tt.name, func() bool { return g.metric(tt.name, tt.labels...) == tt.want })
	}
}

func TestNewIngestRefusesBadConfigs(t *testing.T) {
	publisher, err := api.NewPublisher(api.PublisherConfig{Brokers: []string{"127.0.0.1:1"}, Topic: ingestTopic, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	valid := api.IngestConfig{Publisher: publisher, Rules: topk.DefaultRules(), Pepper: []byte(ingestPepper), Clock: time.Now}
	if _, err := api.NewIngest(valid); err != nil {
		t.Fatal(err)
	}
	for want, breakIt := range map[string]func(*api.IngestConfig){
		"publisher":        func(c *api.IngestConfig) { c.Publisher = nil },
		"clock":            func(c *api.IngestConfig) { c.Clock = nil },
		"pepper":           func(c *api.IngestConfig) { c.Pepper = []byte("short") },
		"rules":            func(c *api.IngestConfig) { c.Rules = topk.Rules{} },
		"room for a play":  func(c *api.IngestConfig) { c.Limits.MaxBatchBytes = 1 },
		"MaxInFlightBytes": func(c *api.IngestConfig) { c.Limits.MaxInFlightBytes = 1 << 20 },
		"every time":       func(c *api.IngestConfig) { c.Limits.BodyTimeout = 0 },
	} {
		cfg := valid
		cfg.Limits = api.DefaultIngestLimits()
		breakIt(&cfg)
		if _, err := api.NewIngest(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error about %s", err, want)
		}
	}
}

func TestIngestDescription(t *testing.T) {
	publisher, err := api.NewPublisher(api.PublisherConfig{Brokers: []string{"127.0.0.1:1"}, Topic: ingestTopic, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer publisher.Close()
	ingest, err := api.NewIngest(api.IngestConfig{Publisher: publisher, Rules: topk.DefaultRules(), Pepper: []byte(ingestPepper), Clock: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	doc := huma.DefaultConfig("topk", "test").OpenAPI
	ingest.Describe(doc)
	if _, err := json.Marshal(doc); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{onePlay, manyPlays} {
		op := doc.Paths[path].Post
		for _, status := range []int{202, 400, 401, 403, 405, 408, 413, 415, 429, 503} {
			response := op.Responses[strconv.Itoa(status)]
			if response == nil || response.Description == "" {
				t.Errorf("%s does not describe %d", path, status)
				continue
			}
			for _, media := range response.Content {
				validate(t, doc, media.Schema, media.Example, true)
			}
		}
		for _, media := range op.RequestBody.Content {
			if media.Example != nil {
				validate(t, doc, media.Schema, media.Example, true)
			}
		}
	}

	// The schema and the parser agree on what a schema can say.
	play := doc.Components.Schemas.Map()["PlayEvent"]
	for body, want := range map[string]bool{
		event("e"): true,
		event("e", "region", "null", "deviceType", "null", "context", "null", "duration", "null", "x", "1"): true,
		event("e", "timestamp", `"2025-11-24T16:00:00Z"`, "region", `"IN/Mumbai"`, "context", `"album/x"`):  true,
		event("e", "eventId", `"a b"`):    false,
		event("e", "userId", `""`):        false,
		event("e", "songId", "7"):         false,
		event("e", "artistId", ""):        false,
		event("e", "timestamp", "true"):   false,
		event("e", "region", `"in"`):      false,
		event("e", "deviceType", `"TV"`):  false,
		event("e", "context", `"x"`):      false,
		event("e", "duration", "1.5"):     false,
		event("e", "duration", "86401"):   false,
		event("e", "duration", `"213"`):   false,
		event("e", "timestamp", `"noon"`): false,
	} {
		var value any
		if err := json.Unmarshal([]byte(body), &value); err != nil {
			t.Fatal(err)
		}
		validate(t, doc, play, value, want)
		if _, err := topk.ParsePlay([]byte(body), topk.DefaultRules(), ingestNow); (err == nil) != want {
			t.Errorf("%s: the parser says %v, the schema %v", body, err, want)
		}
	}
}

// validate wants value, in the form JSON gives it, to be valid or not.
func validate(t *testing.T, doc *huma.OpenAPI, schema *huma.Schema, value any, want bool) {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	var result huma.ValidateResult
	huma.Validate(doc.Components.Schemas, schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, plain, &result)
	if (len(result.Errors) == 0) != want {
		t.Errorf("%s: want valid = %v, got %v", data, want, result.Errors)
	}
}
