package chdb

import (
	"errors"
	"runtime"
	"sync"
	"unsafe"
)

// ErrClosed is returned by a connection after Close.
var ErrClosed = errors.New("chdb: connection is closed")

// errRefused comes without a reason: the engine writes that to standard error.
var errRefused = errors.New("the ClickHouse library refused to connect, for the reason it gave on standard error")

// Conn is one session of the engine. It runs one statement at a time; its
// methods must not be called concurrently, except Close, which waits.
type Conn struct {
	lib    *Library
	mu     sync.Mutex     // held by each call into the engine
	owner  unsafe.Pointer // chdb_connection *, what chdb_close_conn takes
	handle unsafe.Pointer // chdb_connection
}

// Param is a value for a {Name:Type} placeholder. Value is TSV-escaped text
// and \N for NULL, the same as in the HTTP interface.
type Param struct{ Name, Value string }

// Connect opens a session. Arguments are those of the command line: --path and
// other server options count for the connection that boots the engine, setting
// names such as --max_threads=4 for this connection only.
func (l *Library) Connect(args ...string) (*Conn, error) {
	argv := make([]*byte, 0, len(args)+2)
	for _, a := range append([]string{"clickhouse"}, args...) {
		argv = append(argv, cString(a))
	}
	argv = append(argv, nil)
	owner := l.connect(int32(len(argv)-1), unsafe.Pointer(unsafe.SliceData(argv)))
	runtime.KeepAlive(argv)
	if owner == nil {
		return nil, errRefused
	}
	handle := *(*unsafe.Pointer)(owner)
	if handle == nil {
		return nil, errRefused
	}
	return &Conn{lib: l, owner: owner, handle: handle}, nil
}

// Close ends the session; the last one to close stops the engine, which waits
// for its background work.
func (c *Conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner == nil {
		return
	}
	c.lib.closeConn(c.owner)
	c.owner, c.handle = nil, nil
}

// Query runs one statement to its end and returns the whole result. The caller
// closes it.
func (c *Conn) Query(sql, format string, params ...Param) (*Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.result(c.start(c.lib.query, sql, format, params))
}

// result takes ownership of a result of the engine.
func (c *Conn) result(p unsafe.Pointer, err error) (*Result, error) {
	if err != nil {
		return nil, err
	}
	return c.lib.result(p)
}

func (c *Conn) start(fn queryFunc, sql, format string, params []Param) (unsafe.Pointer, error) {
	if c.handle == nil {
		return nil, ErrClosed
	}
	names, nameSizes := make([]*byte, len(params)), make([]uintptr, len(params))
	values, valueSizes := make([]*byte, len(params)), make([]uintptr, len(params))
	for i, p := range params {
		// NUL-terminated as well as counted: the engine must never see nil,
		// which the data of an empty Go string may be.
		names[i], nameSizes[i] = cString(p.Name), uintptr(len(p.Name))
		values[i], valueSizes[i] = cString(p.Value), uintptr(len(p.Value))
	}
	text, out := cString(sql), cString(format)
	p := fn(c.handle,
		unsafe.Pointer(text), uintptr(len(sql)),
		unsafe.Pointer(out), uintptr(len(format)),
		unsafe.Pointer(unsafe.SliceData(names)), unsafe.Pointer(unsafe.SliceData(nameSizes)),
		unsafe.Pointer(unsafe.SliceData(values)), unsafe.Pointer(unsafe.SliceData(valueSizes)),
		uintptr(len(params)))
	runtime.KeepAlive(names)
	runtime.KeepAlive(nameSizes)
	runtime.KeepAlive(values)
	runtime.KeepAlive(valueSizes)
	runtime.KeepAlive(text)
	runtime.KeepAlive(out)
	if p == nil {
		return nil, errors.New("chdb: the engine returned no result")
	}
	return p, nil
}

func cString(s string) *byte {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return &b[0]
}
