package board

import (
	"sync"

	"github.com/topk-charts/topk"
)

// A Value is an interned term, such as region:IN, that every board has a chart
// of as soon as it has plays: the terms that are stored per play, but for
// playlists and albums, of which there are too many.
type Value uint32

// Values interns terms. It is safe for concurrent use.
type Values struct {
	mu    sync.RWMutex
	limit int
	ids   map[topk.Term]Value
	terms []topk.Term
}

// NewValues makes room for limit terms: a value costs a chart in every window,
// and anybody may invent the names of cities.
func NewValues(limit int) *Values {
	return &Values{limit: limit, ids: map[topk.Term]Value{}}
}

// Of gives the term's value. ok is false when there is no room for it: its
// charts are left to SQL.
func (v *Values) Of(t topk.Term) (value Value, ok bool) {
	v.mu.RLock()
	value, ok = v.ids[t]
	full := len(v.terms) >= v.limit
	v.mu.RUnlock()
	if ok || full {
		return value, ok
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if value, ok = v.ids[t]; ok || len(v.terms) >= v.limit {
		return value, ok
	}
	value = Value(len(v.terms))
	v.terms = append(v.terms, t)
	v.ids[t] = value
	return value, true
}

// find gives the value of a term that has one.
func (v *Values) find(t topk.Term) (value Value, ok bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	value, ok = v.ids[t]
	return value, ok
}

// Term gives the value's term back.
func (v *Values) Term(value Value) topk.Term {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.terms[value]
}
