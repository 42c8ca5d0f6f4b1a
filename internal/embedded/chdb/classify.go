package chdb

import (
	"errors"
	"runtime"
	"unsafe"
)

// Class says what a statement does to state that outlives it.
type Class uint32

// Classes in ascending order of restriction.
const (
	ReadOnly       Class = iota // SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK
	Mutating                    // INSERT, CREATE, ALTER, DROP, …
	MutatingGlobal              // functions, users, named collections
	Control                     // USE, SET, SYSTEM, KILL, BACKUP, …
	Unknown                     // does not parse
)

// Analysis is what the parser says about a text without running it.
type Analysis struct {
	Statements int // 0 when the text does not parse
	Class      Class
}

type analysisV1 struct{ structSize, statementCount, flags, class uint32 }

// Classify parses sql with the settings of the connection.
func (c *Conn) Classify(sql string) (Analysis, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handle == nil {
		return Analysis{}, ErrClosed
	}
	out := &analysisV1{}
	out.structSize = uint32(unsafe.Sizeof(*out))
	text := cString(sql)
	state := c.lib.classify(c.handle, unsafe.Pointer(text), uintptr(len(sql)), nil, 0, unsafe.Pointer(out))
	runtime.KeepAlive(text)
	runtime.KeepAlive(out)
	if state != 0 {
		return Analysis{}, errors.New("chdb: the statement could not be classified")
	}
	return Analysis{Statements: int(out.statementCount), Class: Class(out.class)}, nil
}
