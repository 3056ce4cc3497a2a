package owner

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Ends keeps the addresses of the sockets with the largest queues, so that a
// slow peer has a name: bounded, whatever the number of sockets.
type Ends struct {
	send, recv endHeap
}

// maxEnds bounds each heap of Ends; minQueue leaves out what cannot matter.
const (
	maxEnds  = 2048
	minQueue = 4096 // bytes
)

// End is one socket with a large queue, its namespace by index.
type End struct {
	Cookie        reading.Cookie // Key of the socket
	NS            uint16
	Local, Remote netip.AddrPort
	Queue         uint32 // bytes
	Interface     uint32
	Peer          reading.Cookie // Key, 0: not on this host, or not found
}

// Offer considers a socket of a dump.
func (e *Ends) Offer(ns uint16, s *reading.Socket) {
	if s.Mem.WmemQueued >= minQueue {
		e.send.offer(ns, s, s.Mem.WmemQueued)
	}
	if s.Mem.RmemAlloc >= minQueue && s.State != reading.Listen {
		e.recv.offer(ns, s, s.Mem.RmemAlloc)
	}
}

// Standing calls yield for each of the sockets whose queues have not changed in
// size for StalledAfter, with the queue in question.
func (e *Ends) Standing(t *Table, yield func(n End, receive bool)) {
	for i, h := range []endHeap{e.recv, e.send} {
		for _, n := range h {
			if j, _ := t.find(n.Cookie); j >= 0 && t.stands(t.at(j)) {
				yield(n, i == 0)
			}
		}
	}
}

// Moves says that a socket that seemed to stand still does not: as much comes
// into its queue as goes out.
func (t *Table) Moves(key reading.Cookie) {
	if i, _ := t.find(key); i >= 0 {
		t.at(i).changed = t.second
	}
}

// stands: its queues have not changed for reading.StalledAfter. Times are whole
// seconds: without one of tolerance a scan every StalledAfter, give or take,
// would see it only the second time.
func (t *Table) stands(e *entry) bool {
	return t.second-e.changed >= uint32(reading.StalledAfter.Seconds())-1
}

// Pair finds for each sender the socket of this host at its other end: first
// among the large receivers, since who does not read has a full queue, then
// by ask, which looks one connection up in the kernel and may be nil. The
// sender's own namespace comes first. A loopback address is the peer only
// there; and where sockets of several other namespaces have the addresses
// that the peer must have (those of containers are often the same), none is.
func (e *Ends) Pair(ask func(End) (reading.Cookie, bool)) []End {
	type key struct {
		local, remote netip.AddrPort
		ns            int
	}
	const anywhere = -1
	const several = reading.Cookie(0)
	receivers := make(map[key]reading.Cookie, 2*len(e.recv))
	put := func(k key, c reading.Cookie) {
		if other, ok := receivers[k]; ok && other != c {
			c = several
		}
		receivers[k] = c
	}
	for _, r := range e.recv {
		k := key{unmapped(r.Local), unmapped(r.Remote), int(r.NS)}
		put(k, r.Cookie)
		if !r.Local.Addr().Unmap().IsLoopback() {
			k.ns = anywhere
			put(k, r.Cookie)
		}
	}
	ends := slices.Clone(e.send)
	slices.SortFunc(ends, func(a, b End) int {
		return cmp.Or(-cmp.Compare(a.Queue, b.Queue), cmp.Compare(a.Cookie, b.Cookie))
	})
	for i := range ends {
		n := &ends[i]
		k := key{unmapped(n.Remote), unmapped(n.Local), int(n.NS)}
		c, ok := receivers[k]
		if !ok {
			k.ns = anywhere
			c, ok = receivers[k]
		}
		if ok {
			n.Peer = c
		} else if ask != nil {
			n.Peer, _ = ask(*n)
		}
	}
	return ends
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// endHeap is a min-heap on Queue.
type endHeap []End

func (h *endHeap) offer(ns uint16, s *reading.Socket, queue uint32) {
	if len(*h) == maxEnds {
		if queue <= (*h)[0].Queue {
			return
		}
		(*h)[0] = endOf(ns, s, queue)
		heap.Fix(h, 0)
		return
	}
	*h = append(*h, endOf(ns, s, queue)) // not heap.Push: it would allocate for each
	heap.Fix(h, len(*h)-1)
}

func endOf(ns uint16, s *reading.Socket, queue uint32) End {
	return End{Cookie: Key(s), NS: ns, Local: s.Local, Remote: s.Remote, Queue: queue, Interface: s.Interface}
}

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, j int) bool { return h[i].Queue < h[j].Queue }
func (h endHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *endHeap) Push(x any)        { *h = append(*h, x.(End)) }
func (h *endHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
