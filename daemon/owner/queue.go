package owner

import (
	"net/netip"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Queues groups the sockets that wait to be accepted. They have no struct
// socket and so no inode: only their local address says which listener they
// wait for.
type Queues struct {
	listeners map[endpoint][]listener
	index     map[queueKey]ProcRef
	keys      []queueKey // by ProcRef-1
}

type endpoint struct {
	ns   uint16
	addr netip.AddrPort // unmapped; the zero Addr is the wildcard of both families
	v4   bool           // for the wildcard: 0.0.0.0 rather than ::
}

type queueKey struct {
	ns     uint16
	addr   netip.AddrPort
	cgroup uint64
}

type listener struct {
	key    reading.Cookie
	cgroup uint64
}

// NewQueues returns an empty collection for one scan.
func NewQueues() *Queues {
	return &Queues{listeners: map[endpoint][]listener{}, index: map[queueKey]ProcRef{}}
}

// Listen records a listening socket.
func (q *Queues) Listen(ns uint16, s *reading.Socket) {
	e := endpointOf(ns, s.Local)
	q.listeners[e] = append(q.listeners[e], listener{Key(s), s.CgroupID})
}

// Unaccepted records a socket that waits to be accepted.
func (q *Queues) Unaccepted(t *Table, ns uint16, s *reading.Socket) {
	i, _ := t.find(Key(s))
	if i < 0 {
		return
	}
	key := queueKey{ns, netip.AddrPortFrom(s.Local.Addr().Unmap(), s.Local.Port()), s.CgroupID}
	ref, ok := q.index[key]
	if !ok {
		q.keys = append(q.keys, key)
		ref = ProcRef(len(q.keys))
		q.index[key] = ref
	}
	t.at(i).holder = ref
}

func endpointOf(ns uint16, a netip.AddrPort) endpoint {
	addr := a.Addr().Unmap()
	if addr.IsUnspecified() {
		return endpoint{ns: ns, addr: netip.AddrPortFrom(netip.Addr{}, a.Port()), v4: addr.Is4()}
	}
	return endpoint{ns: ns, addr: netip.AddrPortFrom(addr, a.Port())}
}

// candidates are the listeners that a queue may belong to. A child inherits its
// listener's cgroup id, so those that carry the same come first, wherever they
// listen: a connection stays with the listener it came to when a nearer one is
// opened later. Among them, and where none has that id, the order is that of
// inet_lookup_listener: the exact address, IPv4's any, then IPv6's any, which
// takes IPv4 connections too unless IPV6_V6ONLY is set. There may be several
// (SO_REUSEPORT).
func (q *Queues) candidates(k queueKey) []listener {
	port := k.addr.Port()
	wildcard := netip.AddrPortFrom(netip.Addr{}, port)
	tries := []endpoint{{ns: k.ns, addr: k.addr}, {ns: k.ns, addr: wildcard}}
	if k.addr.Addr().Is4() {
		tries = []endpoint{tries[0], {ns: k.ns, addr: wildcard, v4: true}, tries[1]}
	}
	var nearest []listener
	for _, e := range tries {
		all := q.listeners[e]
		if len(nearest) == 0 {
			nearest = all
		}
		var same []listener
		for _, l := range all {
			if l.cgroup == k.cgroup {
				same = append(same, l)
			}
		}
		if len(same) > 0 {
			return same
		}
	}
	return nearest
}

// owners resolves each queue to its listener's owner, by ProcRef-1. A queue
// whose candidates have different owners is ambiguous and stays 0.
func (q *Queues) owners(t *Table, ownerOf func(*entry) Ref) []Ref {
	out := make([]Ref, len(q.keys))
	for i, k := range q.keys {
		for n, l := range q.candidates(k) {
			var ref Ref
			if j, _ := t.find(l.key); j >= 0 {
				ref = ownerOf(t.at(j))
			}
			if n > 0 && ref != out[i] {
				out[i] = 0
				break
			}
			out[i] = ref
		}
	}
	return out
}
