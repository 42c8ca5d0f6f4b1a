package chdb

import (
	"fmt"
	"unsafe"
)

// Stats is what a statement did. Rows read count what storage gave, rows
// written include those of materialized views, as in X-ClickHouse-Summary.
type Stats struct {
	ResultRows, ResultBytes   uint64
	ReadRows, ReadBytes       uint64
	WrittenRows, WrittenBytes uint64
}

// Add sums the statistics of the chunks of one statement.
func (s *Stats) Add(o Stats) {
	s.ResultRows += o.ResultRows
	s.ResultBytes += o.ResultBytes
	s.ReadRows += o.ReadRows
	s.ReadBytes += o.ReadBytes
	s.WrittenRows += o.WrittenRows
	s.WrittenBytes += o.WrittenBytes
}

// Result is a formatted result, or one chunk of it, in memory of the engine.
type Result struct {
	lib *Library
	p   unsafe.Pointer
	// Data is valid until Close.
	Data  []byte
	Stats Stats
}

func (l *Library) result(p unsafe.Pointer) (*Result, error) {
	if p == nil {
		return nil, fmt.Errorf("chdb: the engine returned no result")
	}
	if text := l.resultError(p); text != "" {
		l.destroyResult(p)
		return nil, parseException(text)
	}
	r := &Result{lib: l, p: p, Stats: Stats{
		ResultRows:   l.resultRowsRead(p),
		ResultBytes:  l.resultBytesRead(p),
		ReadRows:     l.resultStorageRows(p),
		ReadBytes:    l.resultStorageBytes(p),
		WrittenRows:  l.resultRowsWritten(p),
		WrittenBytes: l.resultBytesWritten(p),
	}}
	if n := l.resultLength(p); n > 0 {
		r.Data = unsafe.Slice((*byte)(l.resultBuffer(p)), n)
	}
	return r, nil
}

// Close gives the memory back.
func (r *Result) Close() {
	if r.p != nil {
		r.lib.destroyResult(r.p)
		r.p, r.Data = nil, nil
	}
}
