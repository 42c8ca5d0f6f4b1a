package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

const (
	// firstLook is how much of a body is read to find where an INSERT's data
	// begins; the data itself is streamed.
	firstLook = 64 << 10
	// maxStatement bounds a statement with everything inside it. The engine's
	// max_query_size bounds what it parses well below.
	maxStatement = 16 << 20
	// maxTrailer bounds what is read of a body after the data in it.
	maxTrailer = 64 << 10
)

// request is one statement with all that belongs to it.
type request struct {
	session   session
	statement statement
	data      io.Reader // of an INSERT
	// drain reads the end of the body once the data is taken: a decoder may
	// stop before it, and only then does net/http watch for a client that goes
	// away.
	drain    func()
	params   []chdb.Param
	format   string // of the result
	revision uint64 // client_protocol_version
	queryID  string
}

// reserved are the URL parameters that are not settings.
var reserved = map[string]bool{
	"query": true, "database": true, "default_format": true, "query_id": true, "compress": true, "decompress": true,
	"user": true, "password": true, "quota_key": true, "client_protocol_version": true, "wait_end_of_query": true,
	"buffer_size": true, "stacktrace": true, "session_timeout": true, "session_check": true, "close_session": true,
}

// parseRequest reads the URL, the headers and as much of the body as belongs
// to the statement.
func parseRequest(r *http.Request, resp *response) (*request, io.Closer, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, nil, raise(codeBadRequestArgument, "BAD_ARGUMENTS", "Cannot parse the URL parameters: %v", err)
	}
	if err := authenticate(r, q); err != nil {
		return nil, nil, err
	}
	for _, name := range []string{"session_id", "role"} {
		if q.Has(name) {
			return nil, nil, raise(codeNotImplemented, "NOT_IMPLEMENTED",
				"The embedded server has no support for the URL parameter '%s'", name)
		}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		return nil, nil, raise(codeNotImplemented, "NOT_IMPLEMENTED", "The embedded server takes no external tables")
	}

	req := &request{queryID: q.Get("query_id")}
	req.session = session{database: q.Get("database"), settings: map[string]string{}}
	if req.session.database == "" {
		req.session.database = r.Header.Get("X-ClickHouse-Database")
	}
	for name, values := range q {
		value := values[len(values)-1]
		if param, ok := strings.CutPrefix(name, "param_"); ok {
			req.params = append(req.params, chdb.Param{Name: param, Value: value})
		} else if !reserved[name] {
			req.session.settings[name] = value
		}
	}
	// As on a server: what comes by GET changes nothing.
	if r.Method != http.MethodPost && req.session.settings["readonly"] != "1" {
		req.session.settings["readonly"] = "2"
	}
	if v := q.Get("client_protocol_version"); v != "" {
		if req.revision, err = strconv.ParseUint(v, 10, 32); err != nil {
			return nil, nil, raise(codeBadRequestArgument, "BAD_ARGUMENTS", "Bad client_protocol_version '%s'", v)
		}
	}
	if isTrue(q.Get("compress")) {
		resp.blockMethod = q.Get("network_compression_method")
		if resp.blockMethod == "" {
			resp.blockMethod = "LZ4"
		}
	} else if v := q.Get("enable_http_compression"); v == "" || isTrue(v) {
		resp.encoding = chooseEncoding(r.Header.Get("Accept-Encoding"))
	}
	if isTrue(q.Get("wait_end_of_query")) {
		resp.holdLimit = heldBackWhole
	}

	raw := deadlineReader{r.Body, resp.control}
	body, err := decodeContent(r.Header.Get("Content-Encoding"), raw)
	if err != nil {
		if r.ContentLength != 0 {
			return nil, nil, err
		}
		body = io.NopCloser(strings.NewReader("")) // an empty body is no gzip either
	}
	var data io.Reader = body
	if isTrue(q.Get("decompress")) {
		data = newBlockReader(body)
	}
	if err := req.readStatement(q.Get("query"), data); err != nil {
		return nil, body, err
	}
	req.drain = func() { _, _ = io.CopyN(io.Discard, raw, maxTrailer) }
	if !req.statement.hasData {
		req.drain()
	}

	req.format = req.statement.format
	if req.format == "" || req.statement.hasData {
		req.format = firstOf(r.Header.Get("X-ClickHouse-Format"), q.Get("default_format"), formatDefault)
	}
	return req, body, nil
}

// readStatement takes the statement from the URL parameter, a line break and
// the body, in that order, up to where the data of an INSERT begins.
func (req *request) readStatement(param string, body io.Reader) error {
	if param != "" {
		param += "\n"
		// The common way to insert: the statement here, the body all data,
		// read only as fast as the engine takes it.
		if st, ok := parseStatement(param, false); ok && st.hasData {
			req.statement = st
			req.data = io.MultiReader(strings.NewReader(param[st.dataStart:]), body)
			return nil
		}
	}
	text := []byte(param)
	for limit := firstLook; ; limit = maxStatement {
		rest, err := io.ReadAll(io.LimitReader(body, int64(limit-len(text)+1)))
		text = append(text, rest...)
		if err != nil {
			return readError(err)
		}
		more := len(text) > limit
		if st, ok := parseStatement(string(text), more); ok {
			req.statement = st
			req.data = io.MultiReader(bytes.NewReader(text[min(st.dataStart, len(text)):]), body)
			return nil
		}
		if limit == maxStatement {
			return raise(codeSyntaxError, "SYNTAX_ERROR",
				"Syntax error: the statement is longer than %d bytes", maxStatement)
		}
	}
}

// readError says why a body could not be read.
func readError(err error) error {
	var e *chdb.Exception
	if errors.As(err, &e) {
		return err
	}
	return fmt.Errorf("%w: %w", raise(codeCannotReadRequest, "UNEXPECTED_END_OF_FILE",
		"Cannot read the request body: %v", err), err)
}

// authenticate knows one user, as an untouched server does.
func authenticate(r *http.Request, q url.Values) error {
	user, password, ok := r.BasicAuth()
	if !ok {
		user = firstOf(r.Header.Get("X-ClickHouse-User"), q.Get("user"))
		password = firstOf(r.Header.Get("X-ClickHouse-Key"), q.Get("password"))
	}
	if (user == "" || user == "default") && password == "" {
		return nil
	}
	return raise(codeAuthentication, "AUTHENTICATION_FAILED",
		"%s: Authentication failed: the embedded server has only the user default, without password", user)
}

func isTrue(v string) bool { return v == "1" || strings.EqualFold(v, "true") }

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
