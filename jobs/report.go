package jobs

import (
	"fmt"
	"sync"
)

// A Report is what a run says of itself while it goes on. It is safe for
// concurrent use.
type Report struct {
	progress func(doing string, done, total int64)

	mu          sync.Mutex
	rows, bytes uint64
	detail      string
}

// Progress says what is being done, and how much of it is; a total of 0 is not
// known.
func (r *Report) Progress(doing string, done, total int64) {
	if r.progress != nil {
		r.progress(doing, done, total)
	}
}

// AddRows counts rows that were written, sent or repaired.
func (r *Report) AddRows(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows += n
}

// AddBytes counts bytes that were read or written.
func (r *Report) AddBytes(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bytes += n
}

// Say says in a few words what the run has done; the last word counts.
func (r *Report) Say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.detail = fmt.Sprintf(format, args...)
}

func (r *Report) read() (rows, bytes uint64, detail string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rows, r.bytes, r.detail
}
