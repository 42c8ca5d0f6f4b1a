// Package client asks the query API, and sends plays to the gateway.
//
// What is answered are the types of package answer. What is refused is a
// *Problem:
//
//	chart, err := api.Top(ctx, client.TopRequest{Dim: "region:IN", Window: "7d"})
//	var problem *client.Problem
//	if errors.As(err, &problem) && problem.Status == http.StatusNotFound {
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/topk-charts/topk"
)

// A Client speaks to one API. It is safe for concurrent use.
type Client struct {
	base     string
	http     *http.Client
	header   http.Header
	timeout  time.Duration
	retryFor time.Duration
	idle     time.Duration
	backoff  time.Duration
}

// An Option changes a Client that New makes.
type Option func(*Client)

// WithHTTPClient makes it use c, whose Timeout should be 0: it would end
// streams. The default is http.DefaultClient.
func WithHTTPClient(c *http.Client) Option { return func(client *Client) { client.http = c } }

// WithHeader sends a header with every request, such as Authorization.
func WithHeader(name, value string) Option {
	return func(client *Client) { client.header.Set(name, value) }
}

// WithTimeout bounds one exchange. The default is 30 s. Streams have no end.
func WithTimeout(d time.Duration) Option { return func(client *Client) { client.timeout = d } }

// WithRetryFor bounds for how long a request is repeated while the API says that
// it cannot answer now (503), or that there were too many (429). Only what
// changes nothing is repeated. The default is 10 s; 0 is for not at all.
func WithRetryFor(d time.Duration) Option { return func(client *Client) { client.retryFor = d } }

// Bounds of an exchange.
const (
	maxAnswer     = 16 << 20 // bytes of an answer that are read
	firstBackoff  = 250 * time.Millisecond
	lastBackoff   = 10 * time.Second
	maxRetryAfter = time.Minute // an API that asks for more gets this
	maxIdle       = time.Minute // a stream beats every 15 s
)

// New makes a client of the API at baseURL, such as http://127.0.0.1:8080.
func New(baseURL string, options ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return nil, fmt.Errorf("topk API: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("topk API: the URL must be like http://127.0.0.1:8080, not %q", u.Redacted())
	}
	c := &Client{
		base: strings.TrimSuffix(u.String(), "/"), http: http.DefaultClient, header: http.Header{},
		timeout: 30 * time.Second, retryFor: 10 * time.Second, idle: maxIdle, backoff: firstBackoff,
	}
	for _, change := range options {
		change(c)
	}
	return c, nil
}

// get reads an answer, and asks again while the API has no answer now.
func (c *Client) get(ctx context.Context, path string, query query, answer any) error {
	giveUp := time.Now().Add(c.retryFor)
	for backoff := c.backoff; ; backoff = min(2*backoff, lastBackoff) {
		err := c.exchange(ctx, http.MethodGet, path+query.encode(), "", nil, answer)
		var problem *Problem
		if !errors.As(err, &problem) || !problem.Temporary() {
			return err
		}
		wait := backoff
		if problem.RetryAfter > 0 {
			wait = problem.RetryAfter
		}
		if time.Now().Add(wait).After(giveUp) || !sleep(ctx, wait) {
			return err
		}
	}
}

// exchange does one request. The error is a *Problem when the API refuses it.
func (c *Client) exchange(ctx context.Context, method, path, contentType string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err // it names the request
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return problemOf(res)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("longer than %d bytes", maxAnswer)
	}
	if err == nil {
		err = json.Unmarshal(text, answer)
	}
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return nil
}

func (c *Client) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	return req, nil
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

// A PlayAccepted tells that a play is in Kafka for good.
type PlayAccepted struct {
	EventID string `json:"eventId"`
}

// SendPlay hands a play to the gateway. It is not repeated, but may be: with the
// same EventID it is counted once.
func (c *Client) SendPlay(ctx context.Context, play topk.Play) (accepted PlayAccepted, err error) {
	body, err := json.Marshal(play)
	if err != nil {
		return accepted, fmt.Errorf("encode play %s: %w", play.EventID, err)
	}
	return accepted, c.exchange(ctx, http.MethodPost, "/v1/events/play", "application/json", body, &accepted)
}

// PlaysAccepted tells which plays of a batch are in Kafka for good: all but the
// rejected ones.
type PlaysAccepted struct {
	Accepted int            `json:"accepted"`
	Rejected []RejectedPlay `json:"rejected"`
}

// A RejectedPlay breaks rules; sending it again does not help.
type RejectedPlay struct {
	Index   int           `json:"index"` // in the batch, from 0
	EventID string        `json:"eventId"`
	Errors  []ErrorDetail `json:"errors"`
}

// SendPlays hands plays to the gateway in one request, which bad plays do not
// spoil for the good ones. It is not repeated, but may be: plays with the same
// EventIDs are counted once.
func (c *Client) SendPlays(ctx context.Context, plays []topk.Play) (accepted PlaysAccepted, err error) {
	body, err := json.Marshal(plays)
	if err != nil {
		return accepted, fmt.Errorf("encode plays: %w", err)
	}
	return accepted, c.exchange(ctx, http.MethodPost, "/v1/events/plays", "application/json", body, &accepted)
}
