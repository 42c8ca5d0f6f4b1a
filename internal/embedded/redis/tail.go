package redis

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// tail passes the child's output on and keeps its last line, which says why it
// ended.
type tail struct {
	log *slog.Logger

	mu   sync.Mutex
	line []byte // not ended yet
	text string // of the last line that ended
}

// maxLine bounds what is kept of a line that does not end.
const maxLine = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for part := range bytes.Lines(p) {
		t.line = append(t.line, part...)
		if !bytes.HasSuffix(part, []byte("\n")) && len(t.line) < maxLine {
			continue
		}
		if text := strings.TrimSpace(string(t.line)); text != "" {
			t.text = text
			if t.log != nil {
				t.log.Debug(text)
			}
		}
		t.line = t.line[:0]
	}
	return len(p), nil
}

func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text
}
