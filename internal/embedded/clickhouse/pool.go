package clickhouse

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/topk-charts/topk/internal/embedded/chdb"
)

// pool keeps idle connections by session. How many are in use is bounded by
// the slots of the server, how many are idle by maxIdle.
type pool struct {
	open    func(tag string) (*chdb.Conn, error)
	maxIdle int
	tags    atomic.Uint64

	mu     sync.Mutex
	idle   []*conn // the least recently used first
	closed bool
}

// get returns a connection in the state of s.
func (p *pool) get(s session) (*conn, error) {
	key := s.key()
	if c := p.take(key); c != nil {
		return c, nil
	}
	tag := fmt.Sprintf("embedded-%d", p.tags.Add(1))
	raw, err := p.open(tag)
	if err != nil {
		return nil, err
	}
	for _, sql := range s.statements(tag) {
		r, err := raw.Query(sql, formatDefault)
		if err != nil {
			raw.Close()
			return nil, err
		}
		r.Close()
	}
	return &conn{Conn: raw, key: key, tag: tag}, nil
}

func (p *pool) take(key string) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.idle) - 1; i >= 0; i-- {
		if c := p.idle[i]; c.key == key {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			return c
		}
	}
	return nil
}

// put takes a connection back, unless something ran on it that changed its
// state.
func (p *pool) put(c *conn, reusable bool) {
	if victim := p.keep(c, reusable); victim != nil {
		victim.Close()
	}
}

// keep returns the connection to close: c itself, or the one idle longest.
func (p *pool) keep(c *conn, reusable bool) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !reusable || p.closed {
		return c
	}
	p.idle = append(p.idle, c)
	if len(p.idle) <= p.maxIdle {
		return nil
	}
	victim := p.idle[0]
	p.idle = append(p.idle[:0], p.idle[1:]...)
	return victim
}

func (p *pool) close() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range idle {
		c.Close()
	}
}
