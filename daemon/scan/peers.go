package scan

import (
	"context"
	"net/netip"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// finder looks single connections up in the kernel, for senders whose other end
// is not among the large receivers: only in namespaces whose sockets have the
// remote address as their own. Where it was found is remembered.
func (s *Scanner) finder(ctx context.Context) func(owner.End) (reading.Cookie, bool) {
	// Asking costs some microseconds each; a host with many unrelated remote
	// peers must not pay for all of them.
	const (
		asks   = 4096
		misses = 3 // from one namespace to one remote address, then no more
	)
	type way struct {
		from   uint16
		remote netip.Addr
	}
	left := asks
	found := map[way]uint16{}
	missed := map[way]int{}
	return func(e owner.End) (reading.Cookie, bool) {
		w := way{e.NS, e.Remote.Addr().Unmap()}
		spaces := s.finders.locals.spaces(e.NS, w.remote)
		if at, ok := found[w]; ok {
			spaces = []uint16{at}
		}
		if missed[w] >= misses {
			return 0, false
		}
		var peer reading.Cookie
		var at uint16
		for _, i := range spaces {
			if left <= 0 || int(i) >= len(s.spaces) {
				break
			}
			left--
			c, ok := s.findIn(ctx, s.spaces[i], e)
			switch {
			case !ok:
				continue
			case peer != 0:
				return 0, false // several have these addresses
			}
			peer, at = c, i
			if i == e.NS {
				break // a connection of one namespace ends there
			}
		}
		if peer == 0 {
			missed[w]++
			return 0, false
		}
		found[w] = at
		return peer, true
	}
}

// findIn asks a namespace for the other end of e: the same connection with the
// addresses exchanged.
func (s *Scanner) findIn(ctx context.Context, n *netns.Namespace, e owner.End) (reading.Cookie, bool) {
	conn, err := s.finders.in(s, n)
	if err != nil {
		return 0, false
	}
	var sock reading.Socket
	if err := conn.Find(ctx, e.Remote, e.Local, 0, &sock); err != nil || sock.Cookie == e.Cookie {
		return 0, false
	}
	return sock.Cookie, true
}

// locals knows which addresses the sockets of a sweep have, and where. The zero
// value is empty.
type locals struct {
	at       map[netip.Addr][]uint16
	lastAddr netip.Addr // sockets of one address often follow each other
	lastNS   uint16
	full     bool
}

const (
	maxLocals      = 16_384 // addresses
	maxLocalSpaces = 8      // namespaces with the same one: those of containers may all be alike
)

// add takes the address of a connection. Loopback addresses say nothing: they
// are in every namespace.
func (l *locals) add(ns uint16, s *reading.Socket) {
	if s.State == reading.Listen || s.State == reading.BoundInactive {
		return
	}
	addr := s.Local.Addr().Unmap()
	if addr == l.lastAddr && ns == l.lastNS || addr.IsLoopback() {
		return
	}
	l.lastAddr, l.lastNS = addr, ns
	if l.at == nil {
		l.at = map[netip.Addr][]uint16{}
	}
	in, ok := l.at[addr]
	switch {
	case !ok && len(l.at) >= maxLocals:
		l.full = true
	case len(in) < maxLocalSpaces && !slices.Contains(in, ns):
		l.at[addr] = append(in, ns)
	}
}

// spaces are the namespaces in which a connection from one of them to remote
// may end, that one first.
func (l *locals) spaces(from uint16, remote netip.Addr) []uint16 {
	if remote.IsLoopback() {
		return []uint16{from}
	}
	in, ok := l.at[remote]
	if !ok && !l.full {
		return nil // another host
	}
	list := make([]uint16, 0, len(in)+1)
	if !ok || slices.Contains(in, from) || len(in) == maxLocalSpaces {
		list = append(list, from)
	}
	for _, ns := range in {
		if ns != from {
			list = append(list, ns)
		}
	}
	return list
}

// finders keeps connections open while sockets are looked up, in whatever order
// their namespaces come.
type finders struct {
	conns  map[*netns.Namespace]*sockdiag.Conn
	locals locals
}

// maxFinders bounds the connections open at once: each keeps its namespace
// alive.
const maxFinders = 16

func (f *finders) in(s *Scanner, n *netns.Namespace) (*sockdiag.Conn, error) {
	if conn := f.conns[n]; conn != nil {
		return conn, nil
	}
	if len(f.conns) >= maxFinders {
		f.disconnect()
	}
	conn, err := s.connect(n)
	if err != nil {
		return nil, err
	}
	if f.conns == nil {
		f.conns = map[*netns.Namespace]*sockdiag.Conn{}
	}
	f.conns[n] = conn
	return conn, nil
}

func (f *finders) disconnect() {
	for _, conn := range f.conns {
		conn.Close()
	}
	clear(f.conns)
}

func (f *finders) close() {
	f.disconnect()
	*f = finders{}
}
