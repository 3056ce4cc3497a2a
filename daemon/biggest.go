package daemon

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// biggest keeps the sockets with the most bytes of those added.
type biggest struct {
	room int
	heap smallestFirst
	left int64 // had no room
}

func (b *biggest) add(s *reading.Socket) {
	switch {
	case len(b.heap) < b.room:
		heap.Push(&b.heap, *s)
	case s.Mem.Bytes() > b.heap[0].Mem.Bytes():
		b.left++
		b.heap[0] = *s
		heap.Fix(&b.heap, 0)
	default:
		b.left++
	}
}

// sorted gives them, the biggest first.
func (b *biggest) sorted() []reading.Socket {
	list := []reading.Socket(b.heap)
	slices.SortFunc(list, func(x, y reading.Socket) int {
		return cmp.Or(cmp.Compare(y.Mem.Bytes(), x.Mem.Bytes()), cmp.Compare(x.Cookie, y.Cookie))
	})
	return list
}

type smallestFirst []reading.Socket

func (h smallestFirst) Len() int           { return len(h) }
func (h smallestFirst) Less(i, j int) bool { return h[i].Mem.Bytes() < h[j].Mem.Bytes() }
func (h smallestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *smallestFirst) Push(x any)        { *h = append(*h, x.(reading.Socket)) }
func (h *smallestFirst) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
