package api

import (
	"net/netip"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Select is the answer to q that s, the answer for all sockets, holds: those
// that want matches (the filter of q, of package filter), the biggest so many.
// owners are of the same reading. TCPInfo is in it only where it is in s.
func (s *Sockets) Select(owners *Owners, q SocketQuery, want func(map[string]*reading.Owner) func(*reading.Socket) bool) *Sockets {
	index := make(map[string]*reading.Owner, len(owners.Owners))
	for i := range owners.Owners {
		index[owners.Owners[i].Key] = owners.Owners[i].reread()
	}
	match := want(index)
	doc := *s
	doc.Filter, doc.Matched, doc.Truncated, doc.Sockets = q.Filter, reading.Tally{}, reading.Tally{}, []Socket{}
	for i := range s.Sockets {
		if match(s.Sockets[i].reread()) {
			doc.Matched.Add(1, s.Sockets[i].Bytes)
			doc.Sockets = append(doc.Sockets, s.Sockets[i])
		}
	}
	doc.keep(q.Limit)
	return &doc
}

// reread is what SocketFrom had of a socket, as far as a filter asks for it. A
// word that is not known is the first of its kind.
func (s *Socket) reread() *reading.Socket {
	out := &reading.Socket{
		Cookie: reading.Cookie(s.Cookie), Netns: reading.NetnsID{Inode: s.Netns.Inode}, MPTCP: s.MPTCP,
		Local: address(s.Local), Remote: address(s.Remote), Inode: s.Inode, UID: s.UID,
		Mem: reading.SkMem(s.SkMem), Rqueue: s.RecvQ, Wqueue: s.SendQ, Owner: s.Owner,
	}
	out.State, _ = reading.ParseState(s.State)
	out.Class, _ = reading.ParseClass(s.Class)
	for e := range reading.NumEvidence {
		if e.String() == s.Evidence {
			out.Evidence = e
		}
	}
	if h := s.Holder; h != nil {
		out.Holder = &reading.Holder{PID: h.PID, StartTime: h.StartTime, Command: h.Command}
	}
	return out
}

func address(text *string) netip.AddrPort {
	if text == nil {
		return netip.AddrPort{}
	}
	a, _ := netip.ParseAddrPort(*text) // what is none is not valid, as one that is not known
	return a
}

// reread is what ownerFrom had of an owner, as far as a filter asks for it.
func (o *Owner) reread() *reading.Owner {
	out := &reading.Owner{Key: o.Key, Name: o.Name, Unit: text(o.Unit), Cgroup: text(o.Cgroup)}
	if c := o.Container; c != nil {
		out.Container = &reading.Container{ID: c.ID, Name: text(c.Name)}
	}
	if p := o.Pod; p != nil {
		out.Pod = &reading.Pod{Namespace: text(p.Namespace), Name: text(p.Name), UID: p.UID}
	}
	return out
}

// text is the inverse of known.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
