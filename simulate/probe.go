package simulate

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/topk-charts/topk"
	"golang.org/x/sync/errgroup"
)

// ProbeOptions say how freshness is measured.
type ProbeOptions struct {
	Target Target
	// Clock gives the probing plays their time. Required.
	Clock topk.Clock
	// Duration is how long plays are posted; 0 means one minute.
	Duration time.Duration
	// Every is the time between two plays; 0 means 100 ms.
	Every time.Duration
	// Poll is the time between two reads of the chart, and so the resolution of
	// the measurement; 0 means 20 ms.
	Poll time.Duration
	// Country is where the probing plays come from; "" means AQ, Antarctica,
	// which no other play names.
	Country string
	// CountryOnly leaves out the global chart, into which the probe has to push
	// its song with many plays.
	CountryOnly bool
	// Settle is how long to wait, after the last play, for the last ones to
	// show; 0 means 10 s.
	Settle time.Duration
	// EnterWithin is how long the song may take to come far enough up the
	// global chart; 0 means one minute.
	EnterWithin time.Duration
}

// These keep all plays of a probe inside the chart's window of one hour, so
// that its song's count only rises.
const (
	maxProbe     = 30 * time.Minute
	maxProbeWait = 10 * time.Minute // before, and after
)

func (o ProbeOptions) withDefaults() ProbeOptions {
	o.Duration = cmp.Or(o.Duration, time.Minute)
	o.Every = cmp.Or(o.Every, 100*time.Millisecond)
	o.Poll = cmp.Or(o.Poll, 20*time.Millisecond)
	o.Country = cmp.Or(o.Country, "AQ")
	o.Settle = cmp.Or(o.Settle, 10*time.Second)
	o.EnterWithin = cmp.Or(o.EnterWithin, time.Minute)
	return o
}

func (o ProbeOptions) validate() error {
	var errs []error
	if o.Clock == nil {
		errs = append(errs, errors.New("a clock is required"))
	}
	if _, err := topk.ParseRegion(o.Country); err != nil {
		errs = append(errs, fmt.Errorf("country %q %w", o.Country, err))
	}
	for _, d := range []struct {
		name     string
		value    time.Duration
		from, to time.Duration
	}{
		{"duration", o.Duration, time.Millisecond, maxProbe},
		{"time between plays", o.Every, time.Millisecond, time.Minute},
		{"time between polls", o.Poll, time.Millisecond, time.Minute},
		{"time to settle", o.Settle, time.Millisecond, maxProbeWait},
		{"time to enter the chart", o.EnterWithin, time.Millisecond, maxProbeWait},
	} {
		if d.value < d.from || d.value > d.to {
			errs = append(errs, fmt.Errorf("%s must be %s to %s, is %s", d.name, d.from, d.to, d.value))
		}
	}
	return errors.Join(errs...)
}

// Freshness is how long plays took from their acknowledgement until the served
// chart counted them.
type Freshness struct {
	Dim     string // the chart: region:AQ or global, both of window 1h
	Samples uint64 // acknowledged posts that showed, or were waited for to the end
	// Unseen are those that never showed. They are in the quantiles with the
	// time that was waited for them, so that losing plays does not look fast.
	Unseen             uint64
	FailedPolls        uint64 // reads of the chart without an answer
	P50, P95, P99, Max time.Duration
}

// String gives the measurement on one line.
func (f Freshness) String() string {
	ms := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) }
	return fmt.Sprintf("%s 1h: p50 %s, p95 %s, p99 %s, max %s of %d plays; %d never seen, %d failed polls",
		f.Dim, ms(f.P50), ms(f.P95), ms(f.P99), ms(f.Max), f.Samples, f.Unseen, f.FailedPolls)
}

// ProbeReport is the freshness of a country's chart and of the global one.
type ProbeReport struct {
	Country Freshness
	Global  Freshness // zero when it was left out
}

// String gives a line for each chart that was measured.
func (r ProbeReport) String() string {
	if r.Global.Dim == "" {
		return r.Country.String()
	}
	return r.Country.String() + "\n" + r.Global.String()
}

// Probe measures freshness as a user has it. One after the other it posts plays
// of a song of its own, and reads the chart of the last hour until the song's
// score has reached the number of plays acknowledged so far. As plays are
// posted one after the other, a score of n means that the first n are counted:
// the time from the n-th acknowledgement to the answer with that score is the
// freshness, rounded up to the next poll.
//
// A country that nothing else plays in shows any song at once. For the global
// chart the song is first played often enough to be well inside the served top,
// and again whenever it sinks; those plays are acknowledged and measured like
// the others, a batch as one.
func Probe(ctx context.Context, opts ProbeOptions) (ProbeReport, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return ProbeReport{}, fmt.Errorf("probe freshness: %w", err)
	}
	conn, err := opts.Target.connect(4) // a post and a poll for each chart
	if err != nil {
		return ProbeReport{}, fmt.Errorf("probe freshness: %w", err)
	}
	defer conn.close()

	country := newProbing(opts, conn, topk.Region{Country: opts.Country}, false)
	var global *probing
	both, running := errgroup.WithContext(ctx)
	both.Go(func() error { return country.run(running) })
	if !opts.CountryOnly {
		// Without a region, so that the plays stay out of every country.
		global = newProbing(opts, conn, topk.Region{}, true)
		both.Go(func() error { return global.run(running) })
	}
	err = both.Wait()
	report := ProbeReport{Country: country.report()}
	if global != nil {
		report.Global = global.report()
	}
	if err != nil {
		return report, fmt.Errorf("probe freshness: %w", err)
	}
	return report, nil
}

// A probing is the measurement of one chart: one goroutine posts, another
// polls.
type probing struct {
	opts   ProbeOptions
	conn   *connection
	region topk.Region
	path   string // of the chart
	dim    string
	songID string
	climbs bool // the chart is contested: the song has to be pushed up

	posted uint64 // plays posted; by the posting goroutine only

	mu      sync.Mutex
	acked   uint64        // plays acknowledged
	score   uint64        // as last served; 0 when the song is not on the chart
	wanted  uint64        // plays that would bring the song to a safe rank; 0 when it is there
	pending []pendingPost // acknowledged but not yet on the chart, in order
	seen    histogram
	unseen  uint64
	failed  uint64
}

// A pendingPost waits until the score has reached the plays.
type pendingPost struct {
	plays   uint64
	ackedAt time.Time
}

func newProbing(opts ProbeOptions, conn *connection, region topk.Region, climbs bool) *probing {
	filter := topk.NewFilter()
	if region.Country != "" {
		filter = topk.NewFilter(topk.Term{Dim: topk.DimRegion, Value: region.String()})
	}
	query := url.Values{
		"dim":    {filter.String()},
		"window": {topk.LastHour.String()},
		"k":      {strconv.Itoa(topk.SnapshotSize)},
	}
	return &probing{
		opts:   opts,
		conn:   conn,
		region: region,
		path:   "/v1/top?" + query.Encode(),
		dim:    filter.String(),
		songID: "probe-" + rand.Text(),
		climbs: climbs,
	}
}

func (p *probing) run(ctx context.Context) error {
	posting, stop := context.WithCancel(ctx)
	var polling sync.WaitGroup
	polling.Go(func() { p.poll(posting) })
	defer polling.Wait()
	defer stop()

	err := p.enter(ctx)
	if err == nil {
		err = p.post(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return nil // told to stop: report what there is
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.dim, err)
	}
	p.settle(ctx)
	return nil
}

// Ranks at which the global song is, and from which it is pushed again.
const (
	safeRank = topk.SnapshotSize / 2
	edgeRank = topk.SnapshotSize * 3 / 4
)

// enter plays the song until the chart shows it at a safe rank. None of this is
// measured.
func (p *probing) enter(ctx context.Context) error {
	if !p.climbs {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.EnterWithin)
	defer cancel()
	chart, err := p.firstChart(ctx)
	if err != nil {
		return err
	}
	p.observe(chart)
	for {
		n := p.missing()
		if p.posted == 0 {
			n = max(n, 1)
		}
		if err := p.postPlays(ctx, n, false); err != nil {
			return fmt.Errorf("enter the chart: %w", err)
		}
		if p.currentScore() >= p.posted && p.missing() == 0 {
			return nil
		}
		if !sleep(ctx, p.opts.Poll) {
			return fmt.Errorf("the chart counted %d of %d plays within %s", p.currentScore(), p.posted, p.opts.EnterWithin)
		}
	}
}

// firstChart reads the chart, waiting for a system that has just started.
func (p *probing) firstChart(ctx context.Context) (servedChart, error) {
	for {
		chart, _, err := p.read(ctx, "")
		if err == nil {
			return chart, nil
		}
		if !sleep(ctx, p.opts.Poll) {
			return servedChart{}, fmt.Errorf("read the chart: %w", err)
		}
	}
}

// post plays the song once every so often, and more when it sinks.
func (p *probing) post(ctx context.Context) error {
	end := time.NewTimer(p.opts.Duration)
	defer end.Stop()
	ticker := time.NewTicker(p.opts.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-ticker.C:
		}
		if err := p.postPlays(ctx, 1+p.missing(), true); err != nil {
			return err
		}
	}
}

// maxPushed bounds one post.
const maxPushed = 1000

// postPlays posts n plays in batches, and notes when each was acknowledged.
func (p *probing) postPlays(ctx context.Context, n uint64, measured bool) error {
	for n > 0 {
		var b batch
		for range min(n, maxPushed) {
			if err := b.add(p.play()); err != nil {
				return err
			}
		}
		ack, _, err := p.conn.deliver(ctx, b, Plain)
		if err != nil {
			return err
		}
		if len(ack.Rejected) > 0 {
			return fmt.Errorf("a probing play was rejected: %v", ack.Rejected[0].Errors)
		}
		p.acknowledge(uint64(b.plays), measured)
		n -= uint64(b.plays)
	}
	return nil
}

func (p *probing) play() topk.Play {
	p.posted++
	return topk.Play{
		EventID:   p.songID + "-" + strconv.FormatUint(p.posted, 10),
		UserID:    "probe",
		SongID:    p.songID,
		ArtistID:  "probe",
		Timestamp: p.opts.Clock().UTC().Truncate(time.Millisecond),
		Region:    p.region,
	}
}

func (p *probing) acknowledge(plays uint64, measured bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked += plays
	if measured {
		p.pending = append(p.pending, pendingPost{plays: p.acked, ackedAt: time.Now()})
	}
}

// settle waits for the last plays to show, and counts those that do not.
func (p *probing) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.Settle)
	defer cancel()
	for p.waiting() > 0 && sleep(ctx, p.opts.Poll) {
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, post := range p.pending {
		p.seen.add(time.Since(post.ackedAt))
		p.unseen++
	}
	p.pending = nil
}

// poll reads the chart again and again until ctx is done.
func (p *probing) poll(ctx context.Context) {
	ticker := time.NewTicker(p.opts.Poll)
	defer ticker.Stop()
	etag := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		chart, tag, err := p.read(ctx, etag)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNotModified):
			p.resolve() // a play may be acknowledged after it was already shown
		case err != nil:
			p.mu.Lock()
			p.failed++
			p.mu.Unlock()
		default:
			etag = tag
			p.observe(chart)
			p.resolve()
		}
	}
}

// A servedChart is what the probe reads of an answer of the API.
type servedChart struct {
	Items []struct {
		SongID string `json:"songId"`
		Score  uint64 `json:"score"`
	} `json:"items"`
}

var errNotModified = errors.New("not modified")

func (p *probing) read(ctx context.Context, etag string) (servedChart, string, error) {
	var chart servedChart
	req, err := p.conn.request(ctx, http.MethodGet, p.path, nil)
	if err != nil {
		return chart, "", err
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	res, err := p.conn.client.Do(req)
	if err != nil {
		return chart, "", err
	}
	defer closeBody(res)
	switch {
	case res.StatusCode == http.StatusNotModified && etag != "":
		return chart, "", errNotModified
	case res.StatusCode != http.StatusOK:
		return chart, "", statusError("read the chart", res)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&chart); err != nil {
		return chart, "", fmt.Errorf("read the chart: %w", err)
	}
	return chart, res.Header.Get("ETag"), nil
}

// observe notes the song's score, and how many plays it is short of a safe
// rank when it is near the edge of the chart.
func (p *probing) observe(chart servedChart) {
	at := -1
	for i, item := range chart.Items {
		if item.SongID == p.songID {
			at = i
			break
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.score = 0
	if at >= 0 {
		p.score = chart.Items[at].Score
	}
	p.wanted = 0
	if full := len(chart.Items) >= edgeRank; p.climbs && full && (at < 0 || at >= edgeRank) {
		p.wanted = chart.Items[safeRank-1].Score + 1
	}
}

// resolve ends the wait of the plays that the chart counts now.
func (p *probing) resolve() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	reached := slices.IndexFunc(p.pending, func(post pendingPost) bool { return post.plays > p.score })
	if reached < 0 {
		reached = len(p.pending)
	}
	for _, post := range p.pending[:reached] {
		p.seen.add(now.Sub(post.ackedAt))
	}
	p.pending = slices.Delete(p.pending, 0, reached)
}

// missing is how many plays the song needs to be at a safe rank, beyond those
// that are acknowledged already.
func (p *probing) missing() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted <= p.acked {
		return 0
	}
	return p.wanted - p.acked
}

func (p *probing) currentScore() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.score
}

func (p *probing) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending)
}

func (p *probing) report() Freshness {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Freshness{
		Dim:         p.dim,
		Samples:     p.seen.total,
		Unseen:      p.unseen,
		FailedPolls: p.failed,
		P50:         p.seen.quantile(0.50),
		P95:         p.seen.quantile(0.95),
		P99:         p.seen.quantile(0.99),
		Max:         p.seen.max,
	}
}
