package owner

import (
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Search looks for the holders of the table's sockets. Holds may be asked from
// several goroutines; Found must be called from one, and from none while the
// table changes.
type Search struct {
	t      *Table
	index  []uint32 // open addressing: entry number + 1, keyed on inode
	mask   uint32
	number uint32

	// Wanted counts the sockets that want a holder, Matter those of them that
	// hold memory or listen, Overdue those of these that an earlier scan has
	// seen already: most of the others are gone before they could be found.
	Wanted, Matter, Overdue int
}

// BeginSearch builds the inode index of the sockets in the table.
func (t *Table) BeginSearch() *Search {
	t.search++
	size := uint32(chunkSize)
	for size < 2*uint32(t.n) {
		size *= 2
	}
	s := &Search{t: t, index: make([]uint32, size), mask: size - 1, number: t.search}
	for i := range t.n {
		e := t.at(i)
		if e.inode == 0 {
			continue
		}
		slot := s.slotOf(e.inode)
		for s.index[slot] != 0 {
			slot = (slot + 1) & s.mask
		}
		s.index[slot] = uint32(i + 1)
		s.count(e, 1)
	}
	return s
}

func (s *Search) count(e *entry, n int) {
	if !e.wanted() {
		return
	}
	s.Wanted += n
	if e.matters() {
		s.Matter += n
		if e.first < s.t.second {
			s.Overdue += n
		}
	}
}

// wanted: it has no holder, and no complete search has looked for one in vain.
func (e *entry) wanted() bool {
	return e.inode != 0 && e.holder == 0 && e.flags&flagSearched == 0
}

// Number identifies the search: processes that it read in full carry it in
// Proc.Read.
func (s *Search) Number() uint32 { return s.number }

// Wants reports without building a search how many sockets have no holder and
// were not searched for in vain before: those that matter, and all.
func (t *Table) Wants() (matter, all int) {
	for i := range t.n {
		e := t.at(i)
		if !e.wanted() {
			continue
		}
		all++
		if e.matters() {
			matter++
		}
	}
	return matter, all
}

// matters: it holds memory, or owns the sockets in its accept queue.
func (e *entry) matters() bool {
	return e.bytes() != 0 || reading.State(e.state) == reading.Listen
}

// inodes are handed out in sequence (get_next_ino), so spread them.
func (s *Search) slotOf(inode uint32) uint32 { return inode * 0x9e3779b1 >> 7 & s.mask }

// Holds reports whether a socket of the table has this inode.
func (s *Search) Holds(inode uint32) bool {
	for slot := s.slotOf(inode); s.index[slot] != 0; slot = (slot + 1) & s.mask {
		if s.t.at(int(s.index[slot]-1)).inode == inode {
			return true
		}
	}
	return false
}

// Found records that a process holds a descriptor of the sockets with this
// inode: an MPTCP socket and its subflows share one.
func (s *Search) Found(p ProcRef, inode uint32) {
	for slot := s.slotOf(inode); s.index[slot] != 0; slot = (slot + 1) & s.mask {
		e := s.t.at(int(s.index[slot] - 1))
		if e.inode != inode {
			continue
		}
		switch {
		case e.holder == 0:
			s.count(e, -1)
			e.holder, e.verified = p, s.number
			e.flags &^= flagSearched
		default:
			s.t.confirm(e, p, s.number)
		}
	}
}

// confirm records that p, the holder that is known or a further one, holds it.
func (t *Table) confirm(e *entry, p ProcRef, search uint32) {
	if e.holder == p {
		e.verified = search
	}
	if e.holder != p || e.flags&flagShared != 0 {
		t.addShare(e, p, search)
	}
}

// addShare records p beside the other holders.
func (t *Table) addShare(e *entry, p ProcRef, search uint32) {
	list := t.shared[e.key]
	if e.flags&flagShared == 0 {
		list = append(list, share{e.holder, e.verified})
		e.flags |= flagShared
	}
	for i := range list {
		if list[i].proc == p {
			list[i].verified = search
			return
		}
	}
	t.shared[e.key] = append(list, share{p, search})
}

// GaveUp marks what no process holds after every one was read, so that the next
// scan does not read them all again for it. Sockets that were first seen later
// than second, when the reading began, are left out.
func (s *Search) GaveUp(second uint32) {
	for i := range s.t.n {
		if e := s.t.at(i); e.inode != 0 && e.holder == 0 && e.first <= second {
			e.flags |= flagSearched
		}
	}
}

// AddHidden records a socket that no dump shows: found through a descriptor of
// p. Further holders of the same socket are recorded as shares.
func (t *Table) AddHidden(ns uint16, s *reading.Socket, p ProcRef) {
	i, _ := t.find(Key(s))
	if i >= 0 && t.at(i).seen == t.scan && t.at(i).flags&flagHidden == 0 {
		return // the dump had it: not hidden
	}
	if i < 0 || t.at(i).seen != t.scan {
		t.Add(ns, s)
		if i, _ = t.find(Key(s)); i < 0 {
			return // the table is full
		}
		// Whoever still holds it is told anew in each scan.
		t.dropShared(t.at(i))
		t.at(i).holder = 0
	}
	e := t.at(i)
	e.flags |= flagHidden
	if e.holder == 0 {
		e.holder = p
	}
	t.confirm(e, p, t.search)
}

// SearchAgain lets the next search look also for the holders that an earlier one
// did not find: a descriptor in flight over SCM_RIGHTS arrives, and one may
// have passed from a process not yet read to one already read.
func (t *Table) SearchAgain() {
	for i := range t.n {
		t.at(i).flags &^= flagSearched
	}
}
