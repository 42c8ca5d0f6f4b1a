package chdb

import (
	"errors"
	"runtime"
	"unsafe"
)

// Insert is an INSERT fed chunk by chunk; chunks may end anywhere in a row.
type Insert struct {
	conn *Conn
	p    unsafe.Pointer
}

// Insert starts an INSERT statement, given without FORMAT clause and without
// data; the connection is busy until Close.
func (c *Conn) Insert(sql, format string, params ...Param) (*Insert, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := c.start(c.lib.streamInsert, sql, format, params)
	if err != nil {
		return nil, err
	}
	if text := c.lib.streamInsertError(p); text != "" {
		c.lib.destroyInsertStream(p)
		return nil, parseException(text)
	}
	return &Insert{conn: c, p: p}, nil
}

// Write appends data and blocks while the engine is behind.
func (s *Insert) Write(data []byte) (int, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.p == nil {
		return 0, ErrClosed
	}
	if len(data) == 0 {
		return 0, nil
	}
	state := s.conn.lib.streamAppend(s.p, unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data)))
	runtime.KeepAlive(data)
	if state != 0 {
		if text := s.conn.lib.streamInsertError(s.p); text != "" {
			return 0, parseException(text)
		}
		return 0, errors.New("chdb: the insert has ended")
	}
	return len(data), nil
}

// Done ends the data and commits it.
func (s *Insert) Done() (Stats, error) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.p == nil {
		return Stats{}, ErrClosed
	}
	r, err := s.conn.lib.result(s.conn.lib.streamDone(s.p))
	if err != nil {
		return Stats{}, err
	}
	defer r.Close()
	return r.Stats, nil
}

// Close cancels the insert unless it is done, and frees it. Blocks already
// written stay, as with any interrupted INSERT.
func (s *Insert) Close() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.p == nil {
		return
	}
	s.conn.lib.destroyInsertStream(s.p)
	s.p = nil
}
