package clickhouse

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

const (
	// heldBack is how much of a result is kept before the status is sent, so
	// that an error in short results has its proper status.
	heldBack = 64 << 10
	// heldBackWhole is the same for wait_end_of_query=1.
	heldBackWhole = 16 << 20
	// ioTimeout is how long a client may neither send nor take a byte.
	ioTimeout = 60 * time.Second
)

// response writes a result: it holds back the beginning, compresses what the
// client asked to have compressed and reports errors before or in the body.
type response struct {
	w       http.ResponseWriter
	control *http.ResponseController
	version string
	started time.Time

	format      string
	encoding    string // Content-Encoding
	blockMethod string // of compress=1, else empty
	holdLimit   int

	held      bytes.Buffer
	committed bool
	tag       string
	encoder   io.WriteCloser // to the client
	body      io.Writer      // to encoder, in compressed blocks where asked for
	stats     chdb.Stats
}

func newResponse(w http.ResponseWriter, version string) *response {
	return &response{
		w: w, control: http.NewResponseController(w), version: version,
		started: time.Now(), holdLimit: heldBack,
	}
}

// Write takes the next part of the formatted result.
func (r *response) Write(p []byte) (int, error) {
	if !r.committed {
		if r.held.Len()+len(p) <= r.holdLimit {
			return r.held.Write(p)
		}
		if err := r.commit(false); err != nil {
			return 0, err
		}
	}
	return r.body.Write(p)
}

// commit sends the status and what was held back, all there is when ended.
func (r *response) commit(ended bool) error {
	h := r.w.Header()
	h.Set("X-ClickHouse-Summary", r.summary())
	if r.format != "" {
		h.Set("Content-Type", traitsOf(r.format).contentType)
		h.Set("X-ClickHouse-Format", r.format)
	}
	if ended && r.held.Len() == 0 {
		r.encoding, r.blockMethod = "", "" // an empty body is empty in any encoding
	} else {
		// Names what an error after this point will be framed by.
		r.tag = rand.Text()[:16]
		h.Set("X-ClickHouse-Exception-Tag", r.tag)
	}
	if r.encoding != "" {
		h.Set("Content-Encoding", r.encoding)
	}
	var err error
	if r.encoder, err = encodeContent(r.encoding, deadlineWriter{r.w, r.control}); err != nil {
		return err
	}
	r.body = r.encoder
	if r.blockMethod != "" {
		r.body = newBlockWriter(r.encoder, r.blockMethod)
	}
	r.committed = true
	r.w.WriteHeader(http.StatusOK)
	_, err = r.body.Write(r.held.Bytes())
	r.held = bytes.Buffer{}
	return err
}

// finish ends a result without error.
func (r *response) finish() error {
	if !r.committed {
		if err := r.commit(true); err != nil {
			return err
		}
	}
	return r.encoder.Close()
}

// fail reports an error: as the response when nothing was sent yet, else as
// the block that clients look for at the end of a broken body.
func (r *response) fail(err error) {
	e := exception(err, r.version)
	if r.committed {
		_, _ = fmt.Fprintf(r.body, "\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n",
			r.tag, e.Text, len(e.Text)+1, r.tag)
		_ = r.encoder.Close()
		return
	}
	h := r.w.Header()
	h.Set("Content-Type", "text/plain; charset=UTF-8")
	h.Set("X-ClickHouse-Exception-Code", strconv.Itoa(e.Code))
	h.Set("X-ClickHouse-Summary", r.summary())
	r.w.WriteHeader(httpStatus(e.Code))
	_, _ = io.WriteString(deadlineWriter{r.w, r.control}, e.Text+"\n")
}

func (r *response) summary() string {
	u := func(n uint64) string { return strconv.FormatUint(n, 10) }
	text, err := json.Marshal(struct {
		ReadRows        string `json:"read_rows"`
		ReadBytes       string `json:"read_bytes"`
		WrittenRows     string `json:"written_rows"`
		WrittenBytes    string `json:"written_bytes"`
		TotalRowsToRead string `json:"total_rows_to_read"`
		ResultRows      string `json:"result_rows"`
		ResultBytes     string `json:"result_bytes"`
		ElapsedNs       string `json:"elapsed_ns"`
	}{
		u(r.stats.ReadRows), u(r.stats.ReadBytes), u(r.stats.WrittenRows), u(r.stats.WrittenBytes), "0",
		u(r.stats.ResultRows), u(r.stats.ResultBytes), strconv.FormatInt(time.Since(r.started).Nanoseconds(), 10),
	})
	if err != nil {
		return "{}" // strings only: cannot happen
	}
	return string(text)
}

// deadlineWriter gives up on a client that takes nothing for ioTimeout, which
// would otherwise hold a connection of the engine for ever.
type deadlineWriter struct {
	w       io.Writer
	control *http.ResponseController
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.control.SetWriteDeadline(time.Now().Add(ioTimeout))
	return d.w.Write(p)
}

// deadlineReader gives up on a client that sends nothing for ioTimeout.
type deadlineReader struct {
	r       io.Reader
	control *http.ResponseController
}

func (d deadlineReader) Read(p []byte) (int, error) {
	_ = d.control.SetReadDeadline(time.Now().Add(ioTimeout))
	n, err := d.r.Read(p)
	if err != nil {
		// From the end of the body on, net/http reads on to notice a client
		// that goes away: no deadline for that.
		_ = d.control.SetReadDeadline(time.Time{})
	}
	return n, err
}
