package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/topk-charts/topk"
	"github.com/topk-charts/topk/snapshot"
)

const defaultK = 10

// What a chart may rank songs by.
const (
	byPlays     = "plays"
	byListeners = "listeners"
)

// A chartRequest is what one asks of GET /v1/top. It is shared between requests
// and must not be changed.
type chartRequest struct {
	filter   topk.Filter
	window   topk.Window  // the zero one when there is a period
	period   topk.Period  // "" for none
	date     time.Time    // the first day of the period; zero for the latest that is over
	revision int          // of the closed chart; 0 for the latest
	k        int          // 1 to topk.MaxK
	after    *chartCursor // nil for the first page
	rankBy   string       // byPlays or byListeners
	approx   bool         // estimates will do
	compare  bool         // with the window right before; only with fixed windows
	format   *chartFormat // nil for what the Accept header says
	key      string       // snapshot.TopKey of filter and window
}

// newChartRequest asks for the first k places, by plays.
func newChartRequest(f topk.Filter, w topk.Window, k int) *chartRequest {
	return &chartRequest{filter: f, window: w, k: k, rankBy: byPlays, key: snapshot.TopKey(f, w)}
}

// parseChartRequest is strict: a parameter that is misspelt, given twice, or at
// odds with another would otherwise give the wrong chart without a word.
func parseChartRequest(rawQuery string, calendar topk.Calendar) (*chartRequest, error) {
	q := parseQuery(rawQuery, topParameters)
	q.contradictions()
	req := &chartRequest{}
	if q.given("period") {
		q.closed(req, calendar)
	} else {
		req.window = q.window()
	}
	req.filter = q.filter()
	req.k = q.number("k", defaultK, topk.MaxK)
	req.rankBy = q.choice("rankBy", byPlays, byListeners)
	req.approx = q.choice("mode", "exact", "approx") == "approx"
	req.compare = q.given("compare") && q.choice("compare", "previous") == "previous"
	if req.compare && len(q.problems) == 0 {
		if _, err := windowBefore(req.window); err != nil {
			q.refuse("compare", errors.New("there is no window of that length before from"))
		}
	}
	if name, given := q.values["format"]; given {
		if req.format = formatOf(name); req.format == nil {
			q.refuse("format", errors.New("must be json, csv or ndjson"))
		}
	}
	if text, given := q.values["cursor"]; given && len(q.problems) == 0 {
		if err := req.continueAt(text, calendar); err != nil {
			q.refuse("cursor", err)
		}
	}
	if len(q.problems) > 0 {
		return nil, badParameters(q.problems)
	}
	req.key = snapshot.TopKey(req.filter, req.window)
	return req, nil
}

// contradictions refuses parameters that do not go together, each by name.
func (q *query) contradictions() {
	contradict := false
	for _, pair := range [][2]string{
		{"period", "window"}, {"period", "from"}, {"period", "to"}, {"compare", "window"}, {"compare", "period"},
		{"mode=approx", "rankBy=listeners"}, {"mode=approx", "cursor"}, {"mode=approx", "period"}, {"mode=approx", "compare"},
		{"revision", "rankBy=listeners"},
	} {
		contradict = q.apart(pair[0], pair[1]) || contradict
	}
	if contradict {
		return
	}
	q.require("date", "period")
	q.require("revision", "period")
	q.require("revision", "date") // or the same URL would be another chart tomorrow
	q.require("compare", "from")
}

// filter reads dim.
func (q *query) filter() (f topk.Filter) {
	if dim, given := q.values["dim"]; given {
		var err error
		if f, err = topk.ParseFilter(dim); err != nil {
			q.refuse("dim", err)
		}
	}
	return f
}

// window reads the window, which is either named or has two ends.
func (q *query) window() (w topk.Window) {
	name, named := q.values["window"]
	from, to := q.given("from"), q.given("to")
	var err error
	switch {
	case named && (from || to):
		q.apart("window", "from")
		q.apart("window", "to")
	case named:
		if w, err = topk.ParseWindow(name); err != nil {
			q.refuse("window", err)
		}
	case !from && !to:
		return topk.Last24h
	case !from || !to:
		q.require("from", "to")
		q.require("to", "from")
	default:
		from, fromOK := q.instant("from")
		to, toOK := q.instant("to")
		if !fromOK || !toOK {
			return w
		}
		if w, err = topk.Between(from, to); err != nil {
			q.refuse("from", err)
		}
	}
	return w
}

// instant reads integer epoch milliseconds or an RFC 3339 time.
func (q *query) instant(name string) (t time.Time, ok bool) {
	text := q.values[name]
	if ms, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.UnixMilli(ms).UTC(), true
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.refuse(name, errors.New("must be integer epoch milliseconds or an RFC 3339 time, in which + is written %2B"))
	}
	return t.UTC(), err == nil
}

// closed reads what names a closed chart.
func (q *query) closed(req *chartRequest, calendar topk.Calendar) {
	var err error
	if req.period, err = topk.ParsePeriod(q.values["period"]); err != nil {
		q.refuse("period", err)
	}
	if text, given := q.values["date"]; given {
		day, err := time.Parse(time.DateOnly, text)
		if err == nil {
			span := req.period.Containing(day, calendar)
			req.date = span.Start
			_, err = topk.Between(span.Start, span.End)
		}
		if err != nil {
			q.refuse("date", errors.New("must be YYYY-MM-DD, and lie between 1970 and 2106"))
		}
	}
	req.revision = q.number("revision", 0, maxRevision)
}

const maxRevision = 1<<31 - 1

// continueAt makes the request one for what follows the cursor, which must be of
// the same question.
func (req *chartRequest) continueAt(text string, calendar topk.Calendar) error {
	c, err := parseChartCursor(text)
	if err != nil {
		return err
	}
	foreign := c.question != req.fingerprint()
	if span := spanOf(c.window); req.period != "" {
		foreign = foreign || span != req.period.Containing(span.Start, calendar) || !req.date.IsZero() && req.date != span.Start ||
			req.revision != 0 && req.revision != c.revision
		req.date = span.Start
	} else {
		foreign = foreign || c.revision != 0 || req.window.Fixed() && req.window != c.window
	}
	if foreign {
		return errors.New("is of another chart: dim, the window or period, revision and rankBy must be those of the page before")
	}
	req.after = &c
	return nil
}

// counted is the window that is counted: that of the first page also when it
// moves on.
func (req *chartRequest) counted() topk.Window {
	if req.after != nil {
		return req.after.window
	}
	return req.window
}

// offset is how many places come before the page.
func (req *chartRequest) offset() int {
	if req.after == nil {
		return 0
	}
	return req.after.last.Rank
}

// kept reports whether it is for a chart of which there may be a snapshot.
func (req *chartRequest) kept() bool {
	return req.period == "" && !req.window.Fixed() && req.rankBy == byPlays && !req.approx && req.after == nil
}

// fits reports whether a chart's first SnapshotSize places hold all that is
// asked for: enough of them, or all there are.
func (req *chartRequest) fits(chart topk.Chart) bool {
	return req.offset()+req.k <= topk.SnapshotSize || len(chart.Entries) < topk.SnapshotSize
}

// span is that of the period that is asked for. The error is a problem when it
// is not over.
func (req *chartRequest) span(now time.Time, calendar topk.Calendar) (topk.Span, error) {
	current := req.period.Containing(now, calendar)
	latest := req.period.Before(current)
	if req.date.IsZero() {
		return latest, nil
	}
	span := req.period.Containing(req.date, calendar)
	if !span.End.After(current.Start) {
		return span, nil
	}
	instead := "date=" + latest.Start.Format(time.DateOnly) + ", the latest that is over"
	if span == current {
		soFar := topk.Today
		if req.period == topk.Weekly {
			soFar = topk.ThisWeek
		}
		instead = fmt.Sprintf("window=%s for the time so far, or for %s", soFar, instead)
	}
	return span, &problem{
		status: http.StatusNotFound,
		detail: fmt.Sprintf("the %s of %s ends at %s; ask for %s", req.period, span.Start.Format(time.DateOnly), instant(span.End), instead),
	}
}

// windowBefore is the fixed window of the same length right before.
func windowBefore(w topk.Window) (topk.Window, error) {
	span := spanOf(w)
	return topk.Between(span.Start.Add(-span.End.Sub(span.Start)), span.Start)
}

// spanOf is the span of a fixed window, the same at every instant.
func spanOf(w topk.Window) topk.Span { return w.At(time.Time{}, topk.Calendar{}) }

// next is the query string of the page after the cursor.
func (req *chartRequest) next(cursor string, format *chartFormat) string {
	values := url.Values{
		"dim": {req.filter.String()}, "k": {strconv.Itoa(req.k)}, "rankBy": {req.rankBy}, "cursor": {cursor}, "format": {format.name},
	}
	switch {
	case req.period != "":
		values.Set("period", string(req.period))
	case req.window.Fixed():
		span := spanOf(req.window)
		values.Set("from", instant(span.Start))
		values.Set("to", instant(span.End))
	default:
		values.Set("window", req.window.String())
	}
	if req.revision != 0 {
		values.Set("date", req.date.Format(time.DateOnly))
		values.Set("revision", strconv.Itoa(req.revision))
	}
	if req.compare {
		values.Set("compare", "previous")
	}
	return values.Encode()
}
