package chdb

import "unsafe"

// Stream is a SELECT whose result is taken chunk by chunk. Each chunk is a
// complete document of the format, so only formats without head and foot can
// be joined by putting chunks after each other.
type Stream struct {
	conn *Conn
	p    unsafe.Pointer
	done bool
}

// Stream starts a SELECT; the connection is busy until Close.
func (c *Conn) Stream(sql, format string, params ...Param) (*Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.start(c.lib.streamQuery, sql, format, params)
	if err != nil {
		return nil, err
	}
	if text := c.lib.resultError(p); text != "" {
		c.lib.destroyResult(p)
		return nil, parseException(text)
	}
	return &Stream{conn: c, p: p}, nil
}

// Next returns the next chunk, nil at the end. The caller closes it.
func (s *Stream) Next() (*Result, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.done || s.p == nil || s.conn.handle == nil {
		return nil, nil
	}
	r, err := s.conn.lib.result(s.conn.lib.streamFetch(s.conn.handle, s.p))
	if err != nil {
		// Not done: an engine whose stream failed goes on with the query, and
		// lists it for ever, until Close cancels it.
		return nil, err
	}
	if len(r.Data) == 0 {
		s.done = true
		r.Close()
		return nil, nil
	}
	return r, nil
}

// Close cancels what has not been read and frees the stream.
func (s *Stream) Close() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.p == nil {
		return
	}
	if !s.done && s.conn.handle != nil {
		s.conn.lib.streamCancel(s.conn.handle, s.p)
	}
	s.conn.lib.destroyResult(s.p)
	s.p = nil
}
