package simulate

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/topk-charts/topk"
)

// A Target is a running system to send plays to and to read charts from.
type Target struct {
	// URL of the API, such as http://127.0.0.1:8080. Required.
	URL string
	// Header goes with every request: credentials, a request id prefix.
	Header http.Header
	// Transport is nil for one of our own, which is closed in the end.
	Transport http.RoundTripper
	// RetryFor bounds how long one request is repeated while the system is
	// unreachable or says "later"; 0 means DefaultRetryFor.
	RetryFor time.Duration
}

// DefaultRetryFor outlasts the restart of any part of the system.
const DefaultRetryFor = 2 * time.Minute

// Bounds of one exchange.
const (
	requestTimeout = 30 * time.Second
	maxAnswer      = 16 << 20 // bytes of an answer that are read
	maxProblem     = 4 << 10  // bytes of an error answer that are quoted
	firstBackoff   = 100 * time.Millisecond
	lastBackoff    = 5 * time.Second
	maxRetryAfter  = time.Minute // a server that asks for more gets this
)

// A connection is a Target made ready for requests.
type connection struct {
	base     string
	header   http.Header
	client   *http.Client
	retryFor time.Duration
	close    func()
}

// connect checks the target; conns is how many requests may be under way.
func (t Target) connect(conns int) (*connection, error) {
	u, err := url.Parse(t.URL)
	if err != nil {
		return nil, fmt.Errorf("target URL: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("target URL %q must be like http://127.0.0.1:8080", t.URL)
	}
	c := &connection{
		base:     strings.TrimSuffix(u.String(), "/"),
		header:   t.Header,
		retryFor: t.RetryFor,
		close:    func() {},
	}
	if c.retryFor <= 0 {
		c.retryFor = DefaultRetryFor
	}
	transport := t.Transport
	if transport == nil {
		own := &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConns:        conns,
			MaxIdleConnsPerHost: conns,
			MaxConnsPerHost:     conns,
			IdleConnTimeout:     time.Minute,
			ForceAttemptHTTP2:   true,
		}
		transport, c.close = own, own.CloseIdleConnections
	}
	c.client = &http.Client{Transport: transport, Timeout: requestTimeout}
	return c, nil
}

// An Encoding compresses what is sent.
type Encoding string

// The encodings the gateway reads.
const (
	Plain Encoding = ""
	Gzip  Encoding = "gzip"
	Zstd  Encoding = "zstd"
)

// ParseEncoding reads identity (HTTP's word for none), gzip or zstd.
func ParseEncoding(s string) (Encoding, error) {
	switch s {
	case "identity":
		return Plain, nil
	case string(Gzip), string(Zstd):
		return Encoding(s), nil
	}
	return Plain, fmt.Errorf("unknown encoding %q; use identity, gzip or zstd", s)
}

// compress gives the encoded body.
func (e Encoding) compress(body []byte) ([]byte, error) {
	var out bytes.Buffer
	var w io.WriteCloser
	switch e {
	case Plain:
		return body, nil
	case Gzip:
		w = gzip.NewWriter(&out)
	case Zstd:
		enc, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		w = enc
	default:
		return nil, fmt.Errorf("unknown encoding %q", e)
	}
	if _, err := w.Write(body); err != nil {
		return nil, fmt.Errorf("%s: %w", e, err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("%s: %w", e, err)
	}
	return out.Bytes(), nil
}

// A batch is NDJSON ready to be sent, with how many plays it holds.
type batch struct {
	body  []byte
	plays int
}

// add appends one play.
func (b *batch) add(play topk.Play) error {
	line, err := json.Marshal(play)
	if err != nil {
		return fmt.Errorf("encode play %s: %w", play.EventID, err)
	}
	b.body = append(append(b.body, line...), '\n')
	b.plays++
	return nil
}

// A Rejection is one play that the gateway would not take, and why.
type Rejection struct {
	Index   int               `json:"index"`
	EventID string            `json:"eventId"`
	Errors  []topk.FieldError `json:"errors"`
}

// An acknowledgement is the answer to a batch.
type acknowledgement struct {
	Accepted uint64      `json:"accepted"`
	Rejected []Rejection `json:"rejected"`
}

// deliver posts a batch until it is acknowledged, and says how often it had to
// repeat it. The event ids stay the same, so that a batch whose answer was lost
// is not counted twice. Answers that a repetition cannot change are errors.
func (c *connection) deliver(ctx context.Context, b batch, encoding Encoding) (acknowledgement, int, error) {
	var ack acknowledgement
	body, err := encoding.compress(b.body)
	if err != nil {
		return ack, 0, err
	}
	giveUp := time.Now().Add(c.retryFor)
	backoff := firstBackoff
	for retries := 0; ; retries++ {
		ack, err = c.post(ctx, body, encoding)
		if err == nil {
			if got := ack.Accepted + uint64(len(ack.Rejected)); got != uint64(b.plays) {
				return ack, retries, fmt.Errorf("sent %d plays but the answer speaks of %d", b.plays, got)
			}
			return ack, retries, nil
		}
		var later *laterError
		if !errors.As(err, &later) || ctx.Err() != nil {
			return ack, retries, err
		}
		wait := later.after
		if wait <= 0 {
			wait = backoff/2 + rand.N(backoff/2) // spread: the others wait too
			backoff = min(2*backoff, lastBackoff)
		}
		if time.Now().Add(wait).After(giveUp) {
			return ack, retries, fmt.Errorf("not acknowledged within %s: %w", c.retryFor, err)
		}
		if !sleep(ctx, wait) {
			return ack, retries, err
		}
	}
}

// A laterError is a failure that may pass.
type laterError struct {
	after time.Duration // as the server asked; 0 when it did not
	cause error
}

func (e *laterError) Error() string { return e.cause.Error() }
func (e *laterError) Unwrap() error { return e.cause }

func (c *connection) post(ctx context.Context, body []byte, encoding Encoding) (acknowledgement, error) {
	var ack acknowledgement
	req, err := c.request(ctx, http.MethodPost, "/v1/events/plays", bytes.NewReader(body))
	if err != nil {
		return ack, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	if encoding != Plain {
		req.Header.Set("Content-Encoding", string(encoding))
	}
	res, err := c.client.Do(req)
	if err != nil {
		return ack, &laterError{cause: fmt.Errorf("post plays: %w", err)}
	}
	defer closeBody(res)
	if res.StatusCode != http.StatusAccepted {
		return ack, statusError("post plays", res)
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&ack); err != nil {
		// The plays may be in; only sending them again can tell.
		return ack, &laterError{cause: fmt.Errorf("read the answer to plays: %w", err)}
	}
	return ack, nil
}

func (c *connection) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	return req, nil
}

// statusError tells what the server said, and whether to come back later.
func statusError(doing string, res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, maxProblem)) // for the message only
	err := fmt.Errorf("%s: %s: %s", doing, res.Status, strings.Join(strings.Fields(string(text)), " "))
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &laterError{after: retryAfter(res.Header.Get("Retry-After"), time.Now()), cause: err}
	}
	return err
}

// retryAfter reads the header's two forms, seconds or a date; 0 when it says
// nothing of use.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil {
		seconds = min(max(seconds, 0), int(maxRetryAfter/time.Second))
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// closeBody reads the rest of a short answer, so that the connection is used
// again.
func closeBody(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, maxProblem)
	_ = res.Body.Close()
}

// sleep waits, and reports whether it was not interrupted.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
