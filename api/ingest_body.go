package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/semaphore"
)

const ingestJSON = "application/json"

// ingestBatchTypes are a JSON array, and the names that newline-delimited JSON
// goes by.
var ingestBatchTypes = []string{ingestJSON, "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}

// bodyEncodings are the content codings beside identity.
var bodyEncodings = []string{"gzip", "zstd"}

// bodyRules are what a call takes.
type bodyRules struct {
	limit      int64 // bytes, as sent and when decompressed
	mediaTypes []string
}

// receive reads the whole body into memory, within the limits of size, time
// and memory, and decompresses it. The body's memory belongs to the lease.
func (in *Ingest) receive(w http.ResponseWriter, r *http.Request, lease *bodyLease, rules bodyRules) (body []byte, mediaType string, err error) {
	mediaType, err = negotiateBodyType(r, rules.mediaTypes)
	if err != nil {
		return nil, "", err
	}
	encoding, err := negotiateBodyEncoding(r)
	if err != nil {
		return nil, "", err
	}
	if r.ContentLength > rules.limit {
		return nil, "", bodyTooLong(rules.limit)
	}
	body, err = in.readBody(w, r, lease, rules.limit)
	if err != nil || encoding == "" {
		return body, mediaType, err
	}
	body, err = in.unpack(r.Context(), encoding, body, lease, rules.limit)
	return body, mediaType, err
}

// negotiateBodyType gives the body's media type when it is one of allowed. A
// request that names none is taken to be JSON.
func negotiateBodyType(r *http.Request, allowed []string) (string, error) {
	header := r.Header.Get("Content-Type")
	if header == "" {
		return ingestJSON, nil
	}
	mediaType, params, err := mime.ParseMediaType(header)
	charset := strings.ToLower(params["charset"])
	if err != nil || !slices.Contains(allowed, mediaType) || (charset != "" && charset != "utf-8" && charset != "us-ascii") {
		return "", &ingestProblem{
			status: http.StatusUnsupportedMediaType,
			detail: "the Content-Type must be " + strings.Join(allowed, " or ") + ", in UTF-8",
			header: http.Header{"Accept-Post": {strings.Join(allowed, ", ")}},
			closes: true,
		}
	}
	return mediaType, nil
}

// negotiateBodyEncoding gives the body's content coding, "" for none.
func negotiateBodyEncoding(r *http.Request) (string, error) {
	encoding := strings.ToLower(strings.Join(r.Header.Values("Content-Encoding"), ","))
	switch encoding {
	case "", "identity":
		return "", nil
	case "x-gzip": // the same, by RFC 9110
		return "gzip", nil
	}
	if !slices.Contains(bodyEncodings, encoding) {
		return "", &ingestProblem{
			status: http.StatusUnsupportedMediaType,
			detail: "the Content-Encoding must be " + strings.Join(bodyEncodings, " or ") + ", or absent",
			header: http.Header{"Accept-Encoding": {strings.Join(bodyEncodings, ", ")}},
			closes: true,
		}
	}
	return encoding, nil
}

// readBody reads the body as it is sent.
func (in *Ingest) readBody(w http.ResponseWriter, r *http.Request, lease *bodyLease, limit int64) ([]byte, error) {
	if err := in.admit(r.Context(), lease, ingestPlayOverhead+firstBodyRead+bodySlack); err != nil {
		return nil, err
	}
	stop := cutBodyAfter(w, in.limits.BodyTimeout)
	body, err := lease.readAll(r.Body, limit, r.ContentLength)
	inTime := stop()
	var tooLarge *http.MaxBytesError // of a middleware's own limit
	switch {
	case errors.Is(err, errBodyTooLong):
		return nil, bodyTooLong(limit)
	case errors.As(err, &tooLarge):
		return nil, bodyTooLong(tooLarge.Limit)
	case errors.Is(err, errBodyMemory):
		p := in.unavailable(err.Error())
		p.closes = true
		return nil, p
	case !inTime || errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &ingestProblem{
			status: http.StatusRequestTimeout,
			detail: fmt.Sprintf("the body did not arrive within %s", in.limits.BodyTimeout),
			closes: true,
		}
	case err != nil:
		return nil, &ingestProblem{status: http.StatusBadRequest, detail: fmt.Sprintf("the body could not be read: %v", err), closes: true}
	}
	return body, nil
}

// cutBodyAfter makes reads of the request's body fail once limit has passed. stop
// must be called when the body has been read, and says whether that was in
// time; if it was not, the connection is of no more use.
//
// A timer that sets a deadline in the past needs no clock. And a deadline that
// lay in the future would still be there when the body has been read: the
// server then watches the connection by reading, and would take its passing
// for a client that has left.
func cutBodyAfter(w http.ResponseWriter, limit time.Duration) (stop func() (inTime bool)) {
	cut := make(chan struct{})
	timer := time.AfterFunc(limit, func() {
		defer close(cut)
		// A writer that has no deadlines is the server's to bound, by its ReadTimeout.
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
	})
	return func() bool {
		if timer.Stop() {
			return true
		}
		<-cut // w must not be used once the request has been answered
		return false
	}
}

// admit waits for the request's first share of memory.
func (in *Ingest) admit(ctx context.Context, lease *bodyLease, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, in.limits.AdmissionTimeout)
	defer cancel()
	if err := lease.wait(ctx, bytes); err != nil {
		p := in.unavailable(err.Error())
		p.closes = true
		return p
	}
	return nil
}

// unpack decompresses a body that is wholly in memory, so that a slow client
// holds no decompressor, of which there are as many as processors.
func (in *Ingest) unpack(ctx context.Context, encoding string, packed []byte, lease *bodyLease, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, in.limits.AdmissionTimeout)
	defer cancel()
	select {
	case u := <-in.unpackers:
		defer func() { in.unpackers <- u }()
		body, err := u.unpack(encoding, packed, lease, limit)
		lease.shrink(int64(cap(packed)))
		switch {
		case errors.Is(err, errBodyTooLong):
			return nil, bodyTooLong(limit)
		case errors.Is(err, errBodyMemory):
			return nil, in.unavailable(err.Error())
		case err != nil:
			return nil, &ingestProblem{status: http.StatusBadRequest, detail: fmt.Sprintf("the body is not valid %s: %v", encoding, err)}
		}
		return body, nil
	case <-ctx.Done():
		return nil, in.unavailable("too many compressed bodies are being handled")
	}
}

// bodyUnpackers are the decompressors that are free.
type bodyUnpackers chan *bodyUnpacker

func newBodyUnpackers() bodyUnpackers {
	free := make(bodyUnpackers, runtime.GOMAXPROCS(0))
	for range cap(free) {
		free <- &bodyUnpacker{}
	}
	return free
}

// A bodyUnpacker decompresses one body after another.
type bodyUnpacker struct {
	packed bytes.Reader
	gzip   *gzip.Reader
	zstd   *zstd.Decoder
}

// bodyZstdWindow is the window that RFC 8878 recommends every decoder to support;
// a frame may ask for terabytes.
const bodyZstdWindow = 8 << 20

func (u *bodyUnpacker) unpack(encoding string, packed []byte, lease *bodyLease, limit int64) ([]byte, error) {
	u.packed.Reset(packed)
	defer u.packed.Reset(nil) // let go of the body
	src, err := u.reader(encoding)
	if err != nil {
		return nil, err
	}
	return lease.readAll(src, limit, -1)
}

func (u *bodyUnpacker) reader(encoding string) (src io.Reader, err error) {
	switch {
	case encoding == "gzip" && u.gzip == nil:
		u.gzip, err = gzip.NewReader(&u.packed)
		return u.gzip, err
	case encoding == "gzip":
		return u.gzip, u.gzip.Reset(&u.packed)
	case u.zstd == nil:
		u.zstd, err = zstd.NewReader(&u.packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(bodyZstdWindow), zstd.WithDecodeBuffersBelow(0))
		return u.zstd, err
	default:
		return u.zstd, u.zstd.Reset(&u.packed)
	}
}

var (
	errBodyTooLong = errors.New("the body is too long")
	errBodyMemory  = errors.New("too many bytes are being handled")
)

func bodyTooLong(limit int64) *ingestProblem {
	return &ingestProblem{
		status: http.StatusRequestEntityTooLarge,
		detail: fmt.Sprintf("the body must be at most %d bytes, also when decompressed", limit),
		closes: true,
	}
}

// A bodyBudget bounds the memory of all requests together.
type bodyBudget struct {
	sem   *semaphore.Weighted
	inUse atomic.Int64
}

func newBodyBudget(bytes int64) *bodyBudget { return &bodyBudget{sem: semaphore.NewWeighted(bytes)} }

// A bodyLease is one request's share of the budget. Only the first part may be
// waited for: requests that hold some and wait for more would block each other
// for good.
type bodyLease struct {
	budget *bodyBudget
	held   int64
	spare  int64 // of it, what grow has not given out yet
}

// wait takes the first part.
func (l *bodyLease) wait(ctx context.Context, bytes int64) error {
	if err := l.budget.sem.Acquire(ctx, bytes); err != nil {
		return errBodyMemory
	}
	l.spare = bytes
	l.took(bytes)
	return nil
}

// grow gives out more of the lease, and makes it larger if it has to and can
// at once.
func (l *bodyLease) grow(bytes int64) error {
	spare := min(bytes, l.spare)
	if more := bytes - spare; more > 0 {
		if !l.budget.sem.TryAcquire(more) {
			return errBodyMemory
		}
		l.took(more)
	}
	l.spare -= spare
	return nil
}

func (l *bodyLease) took(bytes int64) {
	l.held += bytes
	l.budget.inUse.Add(bytes)
}

// shrink gives some back.
func (l *bodyLease) shrink(bytes int64) {
	l.held -= bytes
	l.budget.inUse.Add(-bytes)
	l.budget.sem.Release(bytes)
}

// release gives back everything.
func (l *bodyLease) release() { l.shrink(l.held) }

const (
	firstBodyRead = 4 << 10 // of a body of unknown length
	bodySlack     = 512     // room to see that a body has ended
)

// readAll reads src to its end, and takes memory for it as it comes. length is
// the announced one, or negative; a client cannot take memory by announcing.
func (l *bodyLease) readAll(src io.Reader, limit, length int64) ([]byte, error) {
	if length < 0 || length > firstBodyRead {
		length = firstBodyRead
	}
	var body []byte
	for {
		if len(body) == cap(body) {
			grown := min(max(int64(2*cap(body)), length+bodySlack), limit+bodySlack)
			if err := l.grow(grown - int64(cap(body))); err != nil {
				return nil, err
			}
			body = append(make([]byte, 0, grown), body...)
		}
		n, err := src.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		switch {
		case int64(len(body)) > limit:
			return nil, errBodyTooLong
		case err == io.EOF:
			return body, nil
		case err != nil:
			return nil, err
		}
	}
}
