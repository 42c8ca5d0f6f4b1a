package board

import "container/heap"

// early are plays whose time has not come, the earliest first.
type early struct{ plays plays }

func (e *early) push(p Play) { heap.Push(&e.plays, p) }

// pop gives a play of before end, if there is one.
func (e *early) pop(end int64) (p Play, ok bool) {
	if len(e.plays) == 0 || e.plays[0].TS >= end {
		return Play{}, false
	}
	return heap.Pop(&e.plays).(Play), true
}

type plays []Play

func (p plays) Len() int           { return len(p) }
func (p plays) Less(i, j int) bool { return p[i].TS < p[j].TS }
func (p plays) Swap(i, j int)      { p[i], p[j] = p[j], p[i] }
func (p *plays) Push(x any)        { *p = append(*p, x.(Play)) }
func (p *plays) Pop() any {
	last := len(*p) - 1
	play := (*p)[last]
	(*p)[last] = Play{}
	*p = (*p)[:last]
	return play
}
