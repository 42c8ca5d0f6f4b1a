package loader_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	"github.com/topk-charts/topk/internal/embedded/embeddedtest"
	"github.com/topk-charts/topk/loader"
	"github.com/topk-charts/topk/migrations"
	"github.com/topk-charts/topk/queries"
)

var _ loader.Publisher = (*api.Publisher)(nil)

var replayPepper = []byte("0123456789abcdef")

// A replayer is the chain on real engines, and what was sent to it.
type replayer struct {
	*testing.T
	*embeddedtest.Env
	db        *queries.DB
	publisher *api.Publisher
	kafka     *kgo.Client
	sent      int
}

func newReplayer(t *testing.T) *replayer {
	t.Helper()
	r := &replayer{T: t, Env: embeddedtest.New(t)}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := migrations.Up(ctx, r.DSN, migrations.Wiring{
		Brokers: r.Brokers, Topic: r.Topic, Group: r.Topic, Rules: topk.DefaultRules(),
	}); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.db, err = queries.Open(r.DSN, topk.DefaultCalendar()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.db.Close(); err != nil {
			t.Error(err)
		}
	})
	if r.publisher, err = api.NewPublisher(api.PublisherConfig{Brokers: r.Brokers, Topic: r.Topic}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.publisher.Close)
	r.kafka, err = kgo.NewClient(kgo.SeedBrokers(r.Brokers...), kgo.DefaultProduceTopic(r.Topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.kafka.Close)
	return r
}

func (r *replayer) value(sql string) (v string) {
	r.Helper()
	if err := r.ClickHouse.QueryRow(r.Context(), "SELECT toString(("+sql+"))").Scan(&v); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
	return v
}

func (r *replayer) exec(sql string) {
	r.Helper()
	if err := r.ClickHouse.Exec(r.Context(), sql); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
}

// produce sends messages to partition 0 as another producer does.
func (r *replayer) produce(messages ...string) {
	r.Helper()
	for _, m := range messages {
		if err := r.kafka.ProduceSync(r.Context(), &kgo.Record{Value: []byte(m)}).FirstErr(); err != nil {
			r.Fatal(err)
		}
		r.sent++
	}
}

// settle waits until ClickHouse has read everything.
func (r *replayer) settle() {
	r.Helper()
	embeddedtest.WaitFor(r.Context(), r, "all to be read", func() bool {
		return r.value(`(SELECT uniqExact(src, koff) FROM plays WHERE src < 4) + (SELECT uniqExact(src, koff) FROM plays_rejected)
			+ (SELECT uniqExact(src, koff) FROM plays_duplicates WHERE (src, koff) NOT IN (SELECT src, koff FROM plays))`) == fmt.Sprint(r.sent)
	})
}

func (r *replayer) job(change ...func(*loader.Rejected)) loader.Rejected {
	j := loader.Rejected{Queries: r.db, Publisher: r.publisher, Rules: topk.DefaultRules(), Clock: time.Now}
	for _, f := range change {
		f(&j)
	}
	return j
}

// run runs a job, and gives "sent wrong counted sentBefore".
func (r *replayer) run(j loader.Rejected) string {
	r.Helper()
	report, err := j.Run(r.Context())
	if err != nil {
		r.Fatal(err)
	}
	return r.outcome(j, report)
}

func (r *replayer) outcome(j loader.Rejected, report loader.ReplayReport) string {
	r.Helper()
	if j.Publisher != nil {
		r.sent += report.Sent
	}
	r.settle()
	return fmt.Sprint(report.Sent, report.Wrong, report.Counted, report.SentBefore)
}

func play(id string, change ...any) string {
	fields := map[string]any{
		"eventId": id, "userId": topk.HashUser(replayPepper, "u"), "songId": "s", "artistId": "a",
		"timestamp": time.Now().UnixMilli(), "region": "IN/Mumbai", "deviceType": "mobile", "context": "playlist:p1", "duration": 100,
	}
	for i := 0; i < len(change); i += 2 {
		if fields[change[i].(string)] = change[i+1]; change[i+1] == nil {
			delete(fields, change[i].(string))
		}
	}
	text, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func dry(j *loader.Rejected) { j.Publisher = nil }

func TestReplayOfRejectedMessages(t *testing.T) {
	r := newReplayer(t)
	recent := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	r.produce(
		play("good"),
		play("rfc3339", "timestamp", recent.Format(time.RFC3339)),
		play("seconds", "timestamp", recent.Unix()),
		play("slash", "context", "playlist/p1"),
		play("region", "region", "India", "deviceType", "Phone"),
		play("clear", "userId", "u"),
		play("clear-too", "userId", "u", "duration", -1),
		play("song", "songId", ""),
		play("old", "timestamp", time.Now().Add(-9*24*time.Hour).UnixMilli()),
		"nonsense",
	)
	r.settle()

	var lines []loader.ReplayLine
	each := func(l loader.ReplayLine) error { lines = append(lines, l); return nil }
	if got := r.run(r.job(dry, func(j *loader.Rejected) { j.Each = each })); got != "3 6 0 0" {
		t.Errorf("a dry run: %s", got)
	}
	if got := r.value("(SELECT count() FROM plays), (SELECT count() FROM rejected_replays)"); got != "(1,0)" {
		t.Errorf("a dry run left (plays, notes) = %s", got)
	}
	if len(lines) != 9 || lines[0].Raw != "nonsense" || lines[0].Play != nil || lines[0].Offset != 9 || len(lines[0].Errors) != 1 ||
		!strings.Contains(lines[1].Errors[0], "backfill") || topk.EventIDOf(lines[8].Play) != "rfc3339" {
		t.Errorf("lines are %+v", lines)
	}

	if got := r.run(r.job(func(j *loader.Rejected) { j.Filter.EventID = "slash" })); got != "1 0 0 0" {
		t.Errorf("one event: %s", got)
	}
	if got := r.run(r.job()); got != "2 6 0 0" {
		t.Errorf("without corrections: %s", got)
	}
	if got := r.run(r.job()); got != "0 6 0 0" {
		t.Errorf("once more: %s", got)
	}
	if got := r.run(r.job(func(j *loader.Rejected) { j.Drop = []string{"region"} })); got != "0 6 0 0" {
		t.Errorf("where something else is wrong too: %s", got)
	}
	if got := r.run(r.job(func(j *loader.Rejected) { j.Drop = loader.Optional })); got != "1 5 0 0" {
		t.Errorf("without optional fields: %s", got)
	}
	if got := r.run(r.job(func(j *loader.Rejected) { j.Drop, j.Pepper = loader.Optional, replayPepper })); got != "2 3 0 0" {
		t.Errorf("with hashed users: %s", got)
	}
	got := r.value(`SELECT arraySort(groupArray((eventId, region, device, duration))) FROM plays WHERE eventId IN ('region', 'clear', 'clear-too')`)
	if want := "[('clear','IN/Mumbai','mobile',100),('clear-too','IN/Mumbai','mobile',-1),('region','','',100)]"; got != want {
		t.Errorf("plays are %s, want %s", got, want)
	}
	if got := r.value("SELECT (uniqExact(user), countIf(ts = '" + recent.Format(time.DateTime) + "')) FROM plays"); got != "(1,2)" {
		t.Errorf("(users, plays of an hour ago) = %s", got)
	}

	// A kill before the note was written: the repeats do not count.
	r.exec("TRUNCATE TABLE rejected_replays")
	if got := r.run(r.job()); got != "3 6 0 0" {
		t.Errorf("after a kill: %s", got)
	}
	if got := r.value("SELECT (count(), uniqExact(eventId)) FROM plays"); got != "(7,7)" {
		t.Errorf("(plays, events) = %s", got)
	}
}

// The event of a rejected message may have been sent again, correctly, so long
// ago that its id is forgotten.
func TestReplayFindsWhatIsCounted(t *testing.T) {
	r := newReplayer(t)
	then := time.Now().UTC().Add(-4 * 24 * time.Hour)
	r.exec(fmt.Sprintf("INSERT INTO plays (src, koff, at, ts, eventId, songId, counted) VALUES (9, 0, '%s', '%[1]s', 'counted', 's', true)",
		then.Format("2006-01-02 15:04:05.000")))
	r.produce(play("counted", "timestamp", then.Format(time.RFC3339)), play("lost", "timestamp", then.Format(time.RFC3339)))
	r.settle()
	if got := r.run(r.job()); got != "1 0 1 0" {
		t.Errorf("%s", got)
	}
	if got := r.value("SELECT arraySort(groupArray(eventId)) FROM plays"); got != "['counted','lost']" {
		t.Errorf("plays are %s", got)
	}
}

// What ClickHouse rejects again is not sent for ever.
func TestReplayThatIsRejectedAgain(t *testing.T) {
	r := newReplayer(t)
	late := topk.Rules{MaxAhead: time.Minute, MaxAge: 30 * 24 * time.Hour} // unlike those of the chain
	job := func(again bool) loader.Rejected {
		return r.job(func(j *loader.Rejected) { j.Rules, j.Again = late, again })
	}
	r.produce(play("old", "timestamp", time.Now().Add(-9*24*time.Hour).UnixMilli()))
	r.settle()
	for i, want := range []string{"1 0 0 0", "0 0 0 1", "0 0 0 1"} {
		if got := r.run(job(false)); got != want {
			t.Errorf("run %d: %s, want %s", i, got, want)
		}
	}
	if got := r.run(job(true)); got != "1 0 0 0" {
		t.Errorf("again: %s", got)
	}
}

// The export of a dry run, edited, is what is sent.
func TestReplayOfEditedMessages(t *testing.T) {
	r := newReplayer(t)
	r.produce(play("song", "songId", ""), play("x", "eventId", nil), "nonsense", play("region", "region", "India"), "{\n\"eventId\":\"e\"}")
	r.settle()
	var export bytes.Buffer
	lines := json.NewEncoder(&export)
	if got := r.run(r.job(dry, func(j *loader.Rejected) { j.Each = func(l loader.ReplayLine) error { return lines.Encode(l) } })); got != "0 5 0 0" {
		t.Fatal(got)
	}
	from := func(text string) (string, error) {
		j := r.job()
		report, err := j.RunFrom(t.Context(), strings.NewReader(text))
		return r.outcome(j, report) + fmt.Sprint(" ", report.ReplayedBefore, report.Uncorrected), err
	}
	if got, err := from(export.String()); got != "0 4 0 0 0 1" || err != nil {
		t.Errorf("as it is: %s %v", got, err)
	}
	edited := strings.NewReplacer(`"songId":""`, `"songId":"s9"`, `"play":{"artistId"`, `"play":{"eventId":"new","artistId"`, `"region":"India"`, `"region":"IN"`).Replace(export.String())
	edited = strings.ReplaceAll(edited, `"eventId":"new","artistId":"a","context":"playlist:p1","deviceType":"mobile","duration":100,"eventId"`, `"artistId":"a","context":"playlist:p1","deviceType":"mobile","duration":100,"eventId"`)
	if got, err := from(edited); got != "3 1 0 0 0 1" || err != nil {
		t.Errorf("edited: %s %v\n%s", got, err, edited)
	}
	if got, err := from(edited + "\n\n"); got != "0 1 0 0 3 1" || err != nil {
		t.Errorf("once more: %s %v", got, err)
	}
	if got := r.value("SELECT arraySort(groupArray((eventId, songId, region))) FROM plays"); got != "[('new','s','IN/Mumbai'),('region','s','IN'),('song','s9','IN/Mumbai')]" {
		t.Errorf("plays are %s", got)
	}

	at := fmt.Sprintf(`{"topic":%q,"partition":0,"offset":`, r.Topic)
	for name, test := range map[string]struct{ text, says string }{
		"not JSON":      {"\nx", "line 2: must be a JSON object"},
		"no offset":     {`{"topic":"t","partition":1}`, "line 1: topic, partition and offset are required"},
		"bad partition": {`{"topic":"t","partition":-1,"offset":0}`, "line 1: partition must be"},
		"not rejected":  {at + `999,"play":{}}`, "line 1: no message was rejected at partition 0, offset 999"},
		"other topic":   {`{"topic":"t","partition":0,"offset":0,"play":{}}`, "no message was rejected"},
		"other epoch":   {at + `0,"epoch":7,"play":{}}`, "no message was rejected"},
		"other event":   {at + `4,"play":` + play("other") + `}`, "line 1: the eventId must stay e"},
	} {
		if got, err := from(test.text); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
	// Without an epoch the position is enough.
	if got, err := from(at + `4,"play":` + play("e") + `}`); got != "1 0 0 0 0 0" || err != nil {
		t.Errorf("by hand: %s %v", got, err)
	}
}

// deaf is a Kafka that acknowledges nothing.
type deaf struct{}

func (deaf) Publish(_ context.Context, plays []topk.Play) []error {
	errs := make([]error, len(plays))
	for i := range errs {
		errs[i] = topk.ErrUnavailable
	}
	return errs
}

func TestReplayThatIsNotAcknowledged(t *testing.T) {
	r := newReplayer(t)
	r.produce(play("slash", "context", "playlist/p1"))
	r.settle()
	report, err := r.job(func(j *loader.Rejected) { j.Publisher = deaf{} }).Run(t.Context())
	if !errors.Is(err, topk.ErrUnavailable) || report.Failed != 1 || report.Sent != 0 {
		t.Errorf("%+v %v", report, err)
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "1 not acknowledged by Kafka") {
		t.Errorf("%s %v", text.String(), err)
	}
	if got := r.run(r.job()); got != "1 0 0 0" {
		t.Errorf("afterwards: %s", got)
	}
}

// A line that is read again after it was written is the same one.
func FuzzReplayLine(f *testing.F) {
	for _, seed := range []string{
		`{"topic":"plays","partition":1,"offset":2,"play":{"eventId":"e"}}`, `{"topic":"t","partition":0,"offset":0,"epoch":1,"play":null,"raw":"x"}`,
		`{"topic":"t","partition":70000,"offset":0}`, `{"offset":-1}`, "[]", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		line, err := loader.ParseReplayLine(text)
		if err != nil {
			return
		}
		if line.Topic == "" || line.Partition < 0 || line.Partition > 0xffff {
			t.Fatalf("%+v", line)
		}
		written, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		again, err := loader.ParseReplayLine(written)
		if err != nil || again.Topic != line.Topic || again.Offset != line.Offset || topk.EventIDOf(again.Play) != topk.EventIDOf(line.Play) {
			t.Errorf("%+v, again %+v, %v", line, again, err)
		}
	})
}

// A play without its optional fields is still a play, if it was one.
func FuzzWithout(f *testing.F) {
	f.Add([]byte(play("e")))
	f.Add([]byte(play("e", "region", "India")))
	f.Add([]byte(`{"eventId":"e","region":1,"region":2}`))
	f.Fuzz(func(t *testing.T, message []byte) {
		now := time.Now()
		whole, err := topk.ParsePlay(message, topk.DefaultRules(), now)
		if err != nil {
			return
		}
		less, err := loader.Without(message, loader.Optional)
		if err != nil {
			t.Fatal(err)
		}
		got, err := topk.ParsePlay(less, topk.DefaultRules(), now)
		if err != nil || got.EventID != whole.EventID || got.SongID != whole.SongID || !got.Timestamp.Equal(whole.Timestamp) ||
			got.Region.String()+got.Device+got.Context.String() != "" || got.Duration != nil {
			t.Errorf("%s: %+v, %v", less, got, err)
		}
	})
}
