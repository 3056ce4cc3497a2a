// Package owner decides who holds each socket. It is pure: rows of a dump and
// holders found in /proc go in, owners come out, and it says which inodes
// still want a holder. It reads nothing and knows no file.
package owner

import (
	"encoding/binary"
	"net/netip"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// entry is what the table remembers of a socket. 500,000 of them must fit in
// 30 MB, so strings and namespaces are indexes into small tables, and there
// is no pointer for the garbage collector to follow.
type entry struct {
	key      reading.Cookie // see Key
	inode    uint32         // 0: no struct socket (unaccepted, orphan)
	cgroup   uint32         // index into Table.cgroups
	rmem     uint32
	wmem     uint32
	fwd      int32
	seen     uint32  // scan in which a dump last showed it
	holder   ProcRef // of an unaccepted socket: its queue, see Queues.Unaccepted
	verified uint32  // search in which holder was last confirmed
	owner    Ref     // last owner by descriptor or listener: the last-seen evidence
	changed  uint32  // second in which a queue last changed
	first    uint32  // second in which it was first seen
	ns       uint16
	state    uint8
	flags    uint8
}

const (
	flagMPTCP    = 1 << iota
	flagHidden   // found by a descriptor, never in a dump
	flagSearched // a complete search found no holder
	flagShared   // Table.shared has all its holders
)

// Bytes that an entry and its index slots cost.
const entryCost = 56 + 2*4

func (e *entry) bytes() int64 { return int64(e.rmem) + int64(e.wmem) + int64(e.fwd) }

// chunk size: entries are kept in chunks so that growth copies nothing.
const (
	chunkBits = 12
	chunkSize = 1 << chunkBits
)

// Table is the cookie cache: one entry for each socket of the last scan, keyed
// on Key, bounded in bytes. Beyond the bound, sockets are still tallied by
// Overflow but cannot be attributed, and the count of them is reported.
type Table struct {
	chunks []*[chunkSize]entry
	n      int
	index  []uint32 // open addressing: entry number + 1, keyed on Key
	limit  int      // entries

	cgroups   []uint64 // distinct cgroup ids, index by entry.cgroup
	cgroupIdx map[uint64]uint32
	// cgroupsKept is how many were left when they were last forgotten.
	cgroupsKept int

	next   int // entry that the next row of a dump is expected to be
	scan   uint32
	second uint32
	search uint32

	shared map[reading.Cookie][]share

	// Overflow is what did not fit in this scan; Evicted counts it over the
	// life of the table.
	Overflow reading.Tally
	Evicted  int64
}

// share is one of several holders of a socket.
type share struct {
	proc     ProcRef
	verified uint32
}

// ProcRef is a process of the process table plus one; 0 is none.
type ProcRef uint32

// NewTable returns a table that takes up to maxBytes.
func NewTable(maxBytes int) *Table {
	return &Table{
		limit:     max(maxBytes/entryCost, chunkSize),
		index:     make([]uint32, chunkSize),
		cgroups:   []uint64{0}, // 0: the kernel told none
		cgroupIdx: map[uint64]uint32{0: 0},
		shared:    map[reading.Cookie][]share{},
	}
}

// Len is the number of sockets in the table.
func (t *Table) Len() int { return t.n }

func (t *Table) at(i int) *entry { return &t.chunks[i>>chunkBits][i&(chunkSize-1)] }

// BeginScan starts a scan at a second of a monotonic clock that never goes back.
func (t *Table) BeginScan(second uint32) {
	t.scan++
	t.second = second
	t.next = 0
	t.Overflow = reading.Tally{}
}

// Second is the second that BeginScan was given.
func (t *Table) Second() uint32 { return t.second }

// Add records a row of a dump in namespace ns, an index that the caller keeps
// stable. It reports whether the row is news in this scan: false for one that
// the kernel repeated.
func (t *Table) Add(ns uint16, s *reading.Socket) bool {
	key := Key(s)
	// The kernel lists sockets in the order of its hash table, so the next row is
	// mostly the next entry: looking there first spares two cache misses.
	i, slot := t.next, 0
	if i >= t.n || t.at(i).key != key {
		i, slot = t.find(key)
	}
	if i < 0 {
		if t.n >= t.limit {
			t.Overflow.Add(1, s.Mem.Bytes())
			t.Evicted++
			return true
		}
		i = t.insert(key, slot)
		e := t.at(i)
		e.first, e.changed = t.second, t.second
		t.fill(e, ns, s)
		t.next = i + 1
		return true
	}
	t.next = i + 1
	e := t.at(i)
	if e.seen == t.scan {
		return false
	}
	if e.rmem != s.Mem.RmemAlloc || e.wmem != s.Mem.WmemQueued {
		e.changed = t.second
	}
	t.fill(e, ns, s)
	return true
}

func (t *Table) fill(e *entry, ns uint16, s *reading.Socket) {
	if e.inode != s.Inode {
		// accepted now, or its last descriptor is closed
		e.inode = s.Inode
		e.holder = 0
		e.flags &^= flagSearched
		t.dropShared(e)
	}
	e.seen = t.scan
	e.rmem, e.wmem, e.fwd = s.Mem.RmemAlloc, s.Mem.WmemQueued, s.Mem.FwdAlloc
	e.ns = ns
	e.state = uint8(s.State)
	if t.cgroups[e.cgroup] != s.CgroupID {
		e.cgroup = t.cgroupRef(s.CgroupID)
	}
	e.flags &^= flagHidden
	if s.MPTCP {
		e.flags |= flagMPTCP
	}
}

func (t *Table) cgroupRef(id uint64) uint32 {
	if i, ok := t.cgroupIdx[id]; ok {
		return i
	}
	i := uint32(len(t.cgroups))
	t.cgroups = append(t.cgroups, id)
	t.cgroupIdx[id] = i
	return i
}

// forgetCgroups drops the ids that no socket carries any more, once there are
// many: every job of a timer brings a new one.
func (t *Table) forgetCgroups() {
	const few = 1024
	if len(t.cgroups) < few || len(t.cgroups) < 2*t.cgroupsKept {
		return
	}
	old := t.cgroups
	t.cgroups, t.cgroupIdx = []uint64{0}, map[uint64]uint32{0: 0}
	for i := range t.n {
		e := t.at(i)
		e.cgroup = t.cgroupRef(old[e.cgroup])
	}
	t.cgroupsKept = len(t.cgroups)
}

func (t *Table) dropShared(e *entry) {
	if e.flags&flagShared != 0 {
		delete(t.shared, e.key)
		e.flags &^= flagShared
	}
}

// EndScan forgets sockets that this scan did not show, and returns the bytes of
// the others.
func (t *Table) EndScan() (bytes int64) {
	for i := 0; i < t.n; {
		e := t.at(i)
		if e.seen != t.scan {
			t.dropShared(e)
			t.remove(i)
			continue // the last entry took its place
		}
		bytes += e.bytes()
		i++
	}
	t.forgetCgroups()
	if len(t.index) > chunkSize && 16*t.n < len(t.index) {
		t.rehash(max(len(t.index)/4, chunkSize))
	}
	return bytes + t.Overflow.Bytes
}

// Key identifies a socket in the table: its cookie. Accepted MPTCP sockets all
// have their listener's (measured on 6.18: mptcp_sk_clone_init does not reset
// it as inet_csk_clone_lock does), so theirs is mixed with the addresses, or
// with the inode where a socket has none any more.
func Key(s *reading.Socket) reading.Cookie {
	if !s.MPTCP {
		return s.Cookie
	}
	const mark, prime = 1 << 63, 0x100000001b3 // FNV-1a over what differs
	h := uint64(s.Cookie) ^ 0xcbf29ce484222325
	mix := func(v uint64) { h = (h ^ v) * prime }
	if !s.Remote.IsValid() {
		mix(uint64(s.Inode))
		return reading.Cookie(h | mark)
	}
	for _, a := range [...]netip.AddrPort{s.Local, s.Remote} {
		b := a.Addr().As16()
		mix(binary.NativeEndian.Uint64(b[:8]))
		mix(binary.NativeEndian.Uint64(b[8:]))
		mix(uint64(a.Port()))
	}
	return reading.Cookie(h | mark)
}

// --- hash index on cookie: linear probing, backward-shift deletion ---

func hash(c reading.Cookie) uint64 {
	// Fibonacci hashing: cookies are counters in per-CPU batches.
	return uint64(c) * 0x9e3779b97f4a7c15
}

func (t *Table) slotOf(c reading.Cookie) int {
	return int(hash(c) >> 32 & uint64(len(t.index)-1))
}

// find returns the entry of a cookie, or -1 and the free slot for it.
func (t *Table) find(c reading.Cookie) (i, slot int) {
	mask := len(t.index) - 1
	for slot = t.slotOf(c); ; slot = (slot + 1) & mask {
		ref := t.index[slot]
		if ref == 0 {
			return -1, slot
		}
		if t.at(int(ref-1)).key == c {
			return int(ref - 1), slot
		}
	}
}

func (t *Table) insert(c reading.Cookie, slot int) int {
	if 8*(t.n+1) > 5*len(t.index) {
		t.rehash(2 * len(t.index))
		_, slot = t.find(c)
	}
	i := t.n
	if i>>chunkBits == len(t.chunks) {
		t.chunks = append(t.chunks, new([chunkSize]entry))
	}
	t.n++
	*t.at(i) = entry{key: c}
	t.index[slot] = uint32(i + 1)
	return i
}

func (t *Table) rehash(size int) {
	t.index = make([]uint32, size)
	for i := range t.n {
		t.index[t.freeSlot(t.at(i).key)] = uint32(i + 1)
	}
}

func (t *Table) freeSlot(c reading.Cookie) int {
	mask := len(t.index) - 1
	slot := t.slotOf(c)
	for t.index[slot] != 0 {
		slot = (slot + 1) & mask
	}
	return slot
}

// remove takes entry i out and moves the last one into its place.
func (t *Table) remove(i int) {
	_, slot := t.find(t.at(i).key)
	t.unslot(slot)
	last := t.n - 1
	if i != last {
		moved := t.at(last)
		_, slot := t.find(moved.key)
		t.index[slot] = uint32(i + 1)
		*t.at(i) = *moved
	}
	t.n--
	// one spare chunk stays, so that a table at a chunk's edge does not allocate
	if keep := t.n>>chunkBits + 2; keep < len(t.chunks) {
		clear(t.chunks[keep:])
		t.chunks = t.chunks[:keep]
	}
}

// unslot empties a slot and shifts back what probed over it.
func (t *Table) unslot(slot int) {
	mask := len(t.index) - 1
	for next := (slot + 1) & mask; t.index[next] != 0; next = (next + 1) & mask {
		home := t.slotOf(t.at(int(t.index[next] - 1)).key)
		// movable if home is not in the cyclic range (slot, next]
		if (next-home)&mask >= (next-slot)&mask {
			t.index[slot] = t.index[next]
			slot = next
		}
	}
	t.index[slot] = 0
}
