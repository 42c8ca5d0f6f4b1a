package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

// maxWhole bounds a result in a format that cannot be streamed.
const maxWhole = "268435456"

// run executes one statement and writes its result.
func (e *engine) run(ctx context.Context, req *request, resp *response) error {
	st := req.statement
	switch {
	case st.kind == "":
		return raise(codeSyntaxError, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): Empty query")
	case st.outfile:
		return raise(codeIntoOutfile, "INTO_OUTFILE_NOT_ALLOWED", "INTO OUTFILE is not allowed")
	case st.infile:
		return raise(codeUnknownTypeOfQuery, "UNKNOWN_TYPE_OF_QUERY", "Query has infile and was sent directly to server")
	case st.input && !st.hasData:
		return raise(codeNotImplemented, "NOT_IMPLEMENTED", "The table function input takes data, after a FORMAT clause")
	}
	traits := traitsOf(req.format)
	selects := isSelect(st.kind)
	if selects && traits.chunking == wholeOnly && req.session.settings["max_result_bytes"] == "" {
		req.session.settings["max_result_bytes"] = maxWhole
	}
	c, err := e.pool.get(req.session)
	if err != nil {
		return err
	}
	stop := e.killWhenDone(ctx, c)
	switch {
	case st.hasData && strings.EqualFold(st.format, "Values") && len(req.params) > 0:
		err = e.insertValues(c, req, resp)
	case st.input:
		err = e.insertInput(c, req, resp)
	case st.hasData && !st.selects:
		err = e.insert(c, req, resp)
	case selects && traits.chunking != wholeOnly:
		err = e.stream(c, req, resp, traits)
	default:
		err = e.whole(c, req, resp)
	}
	stop()
	// After an error the engine may go on listing the statement as running until
	// its connection closes.
	e.pool.put(c, err == nil && isStateless(st.kind))
	if err != nil && ctx.Err() != nil {
		return errors.Join(err, ctx.Err())
	}
	return err
}

func isSelect(kind string) bool {
	switch kind {
	case "SELECT", "WITH", "FROM", "(":
		return true
	}
	return false
}

// isStateless tells statements that leave the session as it was. Any other
// may be SET, USE or a temporary table, which must not outlive the request.
func isStateless(kind string) bool {
	switch kind {
	case "INSERT", "SHOW", "DESCRIBE", "DESC", "EXISTS", "EXPLAIN":
		return true
	}
	return isSelect(kind)
}

// insert streams data into an INSERT.
func (e *engine) insert(c *conn, req *request, resp *response) error {
	in, err := c.Insert(req.statement.text, req.statement.format, req.params...)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.Copy(in, req.data); err != nil {
		return readError(err)
	}
	req.drain()
	resp.stats, err = in.Done()
	return err
}

// insertInput runs an INSERT whose data goes through the table function input().
// The library has none: the data is a file for as long as the statement runs,
// which a format may also read out of order.
func (e *engine) insertInput(c *conn, req *request, resp *response) (err error) {
	file, err := os.CreateTemp(e.spool, "input-")
	if err != nil {
		return fmt.Errorf("keep the data of input(): %w", err)
	}
	defer func() { err = errors.Join(err, os.Remove(file.Name())) }()
	_, err = io.Copy(file, req.data)
	if closed := file.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return readError(err)
	}
	req.drain()
	st := &req.statement
	before, call := st.text[:st.inputAt], st.text[st.inputAt:]
	arguments := call[strings.IndexByte(call, '(')+1:]
	st.text = before + "file(" + quoteString(file.Name()) + ", " + quoteString(st.format) + ", " + arguments
	return e.whole(c, req, resp)
}

// insertValues runs an INSERT … VALUES with its data as one statement: with
// parameters among them, the values are expressions of the statement.
func (e *engine) insertValues(c *conn, req *request, resp *response) error {
	data, err := io.ReadAll(io.LimitReader(req.data, maxStatement+1))
	if err != nil {
		return readError(err)
	}
	if len(data) > maxStatement {
		return raise(codeTooLarge, "TOO_MANY_BYTES", "VALUES with parameters are limited to %d bytes", maxStatement)
	}
	req.statement.text += "VALUES " + string(data)
	return e.whole(c, req, resp)
}

// stream writes the result of a SELECT as it comes.
func (e *engine) stream(c *conn, req *request, resp *response, traits formatTraits) error {
	s, err := c.Stream(req.statement.text, req.format, req.params...)
	if err != nil {
		if isNotStreamable(err) {
			return e.whole(c, req, resp)
		}
		return err
	}
	defer s.Close()
	resp.format = req.format
	encode := req.encoder()
	for first := true; ; first = false {
		chunk, err := s.Next()
		if err != nil {
			return err
		}
		if chunk == nil {
			return nil
		}
		resp.stats.Add(chunk.Stats)
		data := chunk.Data
		if !first && traits.header != nil {
			data = data[traits.header(data):]
		}
		if data, err = encode(data); err == nil {
			_, err = resp.Write(data)
		}
		chunk.Close()
		if err != nil {
			return err
		}
	}
}

// isNotStreamable tells the refusal of a statement that looked like a SELECT.
func isNotStreamable(err error) bool {
	var e *chdb.Exception
	return errors.As(err, &e) && strings.Contains(e.Text, "Streaming query is not supported")
}

// whole runs any other statement.
func (e *engine) whole(c *conn, req *request, resp *response) error {
	if a, err := c.Classify(req.statement.text); err != nil {
		return err
	} else if a.Statements > 1 {
		return raise(codeSyntaxError, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed)")
	}
	r, err := c.Query(req.statement.text, req.format, req.params...)
	if err != nil {
		return err
	}
	defer r.Close()
	resp.stats = r.Stats
	if len(r.Data) == 0 {
		return nil
	}
	resp.format = req.format
	data, err := req.encoder()(r.Data)
	if err != nil {
		return err
	}
	_, err = resp.Write(data)
	return err
}

// encoder rewrites chunks for the client where its protocol revision needs it.
func (req *request) encoder() func([]byte) ([]byte, error) {
	if strings.EqualFold(req.format, formatNative) && req.revision > 0 {
		return (&nativeEncoder{revision: req.revision}).encode
	}
	return func(data []byte) ([]byte, error) { return data, nil }
}
