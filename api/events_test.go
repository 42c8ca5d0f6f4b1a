package api_test

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/api"
	finding "github.com/topk-charts/topk/events"
	"github.com/topk-charts/topk/queries"
)

var (
	_ api.Events  = (*finding.Finder)(nil)
	_ api.Rejects = (*queries.DB)(nil)
)

// A file knows events and rejects, and what it was asked.
type file struct {
	trace   topk.EventTrace
	page    topk.RejectedPage
	reasons []topk.ReasonCount
	err     error
	asked   []string
}

func (f *file) Find(_ context.Context, id string, day *time.Time) (topk.EventTrace, error) {
	f.asked = append(f.asked, fmt.Sprint(id, " ", day))
	f.trace.EventID = id
	return f.trace, f.err
}

func (f *file) Rejected(_ context.Context, filter topk.RejectedFilter, after topk.RejectedCursor, limit int) (topk.RejectedPage, error) {
	partition, replayed := "", ""
	if filter.Partition != nil {
		partition = fmt.Sprint(*filter.Partition)
	}
	if filter.Replayed != nil {
		replayed = fmt.Sprint(*filter.Replayed)
	}
	f.asked = append(f.asked, fmt.Sprintf("%d %d %q p%s e%s r%s %v %d", filter.From.Unix(), filter.To.Unix(), filter.Reason, partition,
		filter.EventID, replayed, after, limit))
	return f.page, f.err
}

func (f *file) RejectedReasons(context.Context, topk.RejectedFilter) ([]topk.ReasonCount, error) {
	return f.reasons, f.err
}

func newOffice(t *testing.T) (*service, *file) {
	t.Helper()
	f := &file{}
	return newService(t, func(c *api.Config) { c.Events, c.Rejects = f, f }), f
}

func TestEvent(t *testing.T) {
	s, f := newOffice(t)
	at := func(second int, partition int32, offset int64) topk.Arrival {
		return topk.Arrival{Position: topk.NewPosition(1, "plays", partition, offset), At: serviceStart.Add(time.Duration(second) * time.Second)}
	}
	seconds := 213
	region, err := topk.ParseRegion("IN/Mumbai")
	if err != nil {
		t.Fatal(err)
	}
	f.trace = topk.EventTrace{
		State: topk.EventCounted, Where: at(1, 3, 42),
		Play: &topk.StoredPlay{Arrival: at(1, 3, 42), Counted: true, Segments: []string{"premium"}, Play: topk.Play{
			SongID: "s", ArtistID: "a", UserID: "secret", Timestamp: serviceStart, Region: region, Device: "mobile",
			Context: topk.Context{Kind: "playlist", ID: "p"}, Duration: &seconds,
		}},
		Repeats:    []topk.Arrival{at(2, 4, 7)},
		Rejections: []topk.Rejected{{Arrival: at(0, 5, 1), Reason: "region must be", ReplayedAt: serviceStart.Add(time.Second)}},
	}
	r := s.get("/v1/events/e-1")
	want := `{"eventId":"e-1","state":"counted","topic":"plays","partition":3,"offset":42,"at":"2025-11-24T12:00:01.000Z",` +
		`"play":{"songId":"s","artistId":"a","timestamp":"2025-11-24T12:00:00.000Z","region":"IN/Mumbai","deviceType":"mobile",` +
		`"context":"playlist:p","duration":213,"segments":["premium"],"counted":true},` +
		`"repeats":[{"topic":"plays","partition":4,"offset":7,"at":"2025-11-24T12:00:02.000Z"}],` +
		`"rejections":[{"topic":"plays","partition":5,"offset":1,"at":"2025-11-24T12:00:00.000Z","reason":"region must be","replayedAt":"2025-11-24T12:00:01.000Z"}]}`
	if r.status != http.StatusOK || strings.TrimSpace(string(r.body)) != want || r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s\nwant %s", r.status, r.body, want)
	}

	f.trace = topk.EventTrace{State: topk.EventAccepted, Where: at(1, 0, 0), Unread: []topk.Arrival{at(1, 0, 0)}, Gaps: []string{"a gap"}}
	want = `{"eventId":"a:b.c_d","state":"accepted","topic":"plays","partition":0,"offset":0,"at":"2025-11-24T12:00:01.000Z","repeats":[],"rejections":[],` +
		`"unread":[{"topic":"plays","partition":0,"offset":0,"at":"2025-11-24T12:00:01.000Z"}],"incomplete":["a gap"]}`
	for _, path := range []string{"/v1/events/a:b.c_d", "/v1/events/a%3Ab%2Ec_d?day=2025-11-20"} {
		if r := s.get(path); r.status != http.StatusOK || strings.TrimSpace(string(r.body)) != want {
			t.Errorf("%d %s\nwant %s", r.status, r.body, want)
		}
	}
	if got := []string{"e-1 <nil>", "a:b.c_d <nil>", "a:b.c_d 2025-11-20 00:00:00 +0000 UTC"}; !reflect.DeepEqual(f.asked, got) {
		t.Errorf("asked for %q", f.asked)
	}
}

func TestEventThatIsNotFound(t *testing.T) {
	s, f := newOffice(t)
	if p := s.problem(s.get("/v1/events/e"), http.StatusNotFound); !strings.Contains(p.Detail, "48 hours") || !strings.Contains(p.Detail, "?day=") {
		t.Error(p.Detail)
	}
	if p := s.problem(s.get("/v1/events/e?day=2025-11-20"), http.StatusNotFound); !strings.Contains(p.Detail, "on 2025-11-20") {
		t.Error(p.Detail)
	}
	orphan := topk.NewPosition(0, "plays", 2, 77)
	f.trace.Orphan = &orphan
	if p := s.problem(s.get("/v1/events/e"), http.StatusNotFound); !strings.Contains(p.Detail, "partition 2, offset 77") {
		t.Error(p.Detail)
	}
	f.trace.Gaps = []string{"this is away", "that too"}
	r := s.get("/v1/events/e")
	if p := s.problem(r, http.StatusServiceUnavailable); !strings.Contains(p.Detail, "this is away; that too") || r.header.Get("Retry-After") == "" {
		t.Errorf("%s %v", p.Detail, r.header)
	}
	f.err = errAway
	s.problem(s.get("/v1/events/e"), http.StatusServiceUnavailable)

	asked := len(f.asked)
	for path, want := range map[string][]string{
		"/v1/events/a%20b":                       {"path.eventId"},
		"/v1/events/" + strings.Repeat("e", 65):  {"path.eventId"},
		"/v1/events/%ff":                         {"path.eventId"},
		"/v1/events/e?day=yesterday":             {"query.day"},
		"/v1/events/e?day=2025-11-31":            {"query.day"},
		"/v1/events/e?day=9999-01-01":            {"query.day"},
		"/v1/events/e?day=":                      {"query.day"},
		"/v1/events/e?on=2025-11-20":             {"query.on"},
		"/v1/events/e?day=2025-11-20&day=":       {"query.day"},
		"/v1/events/a%20b?day=2025-11-20T00:00Z": {"path.eventId", "query.day"},
	} {
		if got := locations(s.problem(s.get(path), http.StatusBadRequest)); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	if len(f.asked) != asked {
		t.Errorf("bad requests were asked: %q", f.asked[asked:])
	}
}

func TestRejected(t *testing.T) {
	s, f := newOffice(t)
	message := topk.Rejected{
		Arrival: topk.Arrival{Position: topk.NewPosition(0, "plays", 3, 42), At: serviceStart}, ProducedAt: serviceStart.Add(-time.Second),
		EventID: "e", Reason: "why", Raw: []byte("{\"a\":\"\x00é\"}"), ReplayedAt: serviceStart.Add(time.Minute),
	}
	binary := topk.Rejected{Arrival: topk.Arrival{At: serviceStart}, ProducedAt: serviceStart, Reason: "why", Raw: []byte{0xff, 0}}
	next := topk.RejectedCursor{At: serviceStart.Add(123 * time.Millisecond), Source: 65539, Offset: 1 << 50}
	f.page = topk.RejectedPage{Messages: []topk.Rejected{message, binary}, Next: &next}
	f.reasons = []topk.ReasonCount{{Reason: "why", Messages: 12, Replayed: 1}}

	var got api.RejectedAnswer
	r := s.get("/v1/admin/rejected")
	s.into(r, &got)
	want := `{"items":[{"topic":"plays","partition":3,"offset":42,"rejectedAt":"2025-11-24T12:00:00.000Z","producedAt":"2025-11-24T11:59:59.000Z",` +
		`"eventId":"e","reason":"why","raw":"{\"a\":\"\u0000é\"}","replayedAt":"2025-11-24T12:01:00.000Z"},` +
		`{"topic":"","partition":0,"offset":0,"rejectedAt":"2025-11-24T12:00:00.000Z","producedAt":"2025-11-24T12:00:00.000Z","reason":"why","rawBase64":"/wA="}],` +
		`"cursor":"` + got.Cursor + `","reasons":[{"reason":"why","messages":12,"replayed":1}]}`
	if strings.TrimSpace(string(r.body)) != want || got.Cursor == "" {
		t.Errorf("%s\nwant %s", r.body, want)
	}
	f.page = topk.RejectedPage{}
	if r := s.get("/v1/admin/rejected?cursor=" + got.Cursor + "&from=1764000000000&to=2025-11-25T00:00:00Z&reason=a%20%25%27&partition=3&eventId=e-1&replayed=false&limit=7"); r.status != http.StatusOK || strings.TrimSpace(string(r.body)) != `{"items":[]}` {
		t.Errorf("%d %s", r.status, r.body)
	}
	s.get("/v1/admin/rejected?replayed=true")
	zero := topk.RejectedCursor{}
	if want := []string{
		fmt.Sprintf(`%d %[1]d "" p e r %v 100`, time.Time{}.Unix(), zero),
		fmt.Sprintf(`1764000000 1764028800 "a %%'" p3 ee-1 rfalse %v 7`, next),
		fmt.Sprintf(`%d %[1]d "" p e rtrue %v 100`, time.Time{}.Unix(), zero),
	}; !reflect.DeepEqual(f.asked, want) {
		t.Errorf("asked\n%q, want\n%q", f.asked, want)
	}

	for query, want := range map[string]string{
		"from=x": "from", "to=": "to", "from=2&to=1": "from", "reason=": "reason", "reason=%ff": "reason",
		"reason=" + strings.Repeat("r", 201): "reason", "partition=-1": "partition", "partition=65536": "partition",
		"eventId=a%20b": "eventId", "replayed=yes": "replayed", "limit=0": "limit", "limit=1001": "limit", "limit=x": "limit",
		"cursor=x": "cursor", "cursor=" + got.Cursor + "A": "cursor", "cursor=_____________________________": "cursor", "page=2": "page", "limit=1&limit=2": "limit",
	} {
		if got := locations(s.problem(s.get("/v1/admin/rejected?"+query), http.StatusBadRequest)); !reflect.DeepEqual(got, []string{"query." + want}) {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	f.err = errAway
	s.problem(s.get("/v1/admin/rejected"), http.StatusServiceUnavailable)
}

// No request, however odd, is anything but answered or refused.
func FuzzRejectedQuery(f *testing.F) {
	for _, seed := range []string{"", "limit=5", "cursor=AAABmrb0yHsAAAADAAAAAAAS1oc", "from=1&to=2&replayed=true", "%", "a=b;c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		first, err := api.ParseRejectedQuery(query)
		if err != nil || first == (topk.RejectedCursor{}) {
			return
		}
		if again, err := api.ParseRejectedQuery("cursor=" + api.EncodeCursor(first)); err != nil || !again.At.Equal(first.At) || again.Source != first.Source || again.Offset != first.Offset {
			t.Errorf("%v, then %v, %v", first, again, err)
		}
	})
}
