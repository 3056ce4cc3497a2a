package owner

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// verdict is what attribution says of one socket.
type verdict struct {
	Class    reading.Class
	Evidence reading.Evidence
	Owner    string
}

func (w *world) verdict(r *Result, s *reading.Socket) verdict {
	got := *s
	r.Lookup(&got)
	return verdict{got.Class, got.Evidence, got.Owner}
}

const (
	own   = 7 // a cgroup id that names own.service
	other = 8
	gone  = 9 // one that nothing can resolve
)

// TestEvidence has a row for each way in which a socket can present itself:
// state x inode x holder x cgroup x earlier owner.
func TestEvidence(t *testing.T) {
	const a, b, cg, none = "system/a.service", "system/b.service", "system/own.service", UnresolvedKey
	tests := []struct {
		name    string
		state   reading.State
		inode   uint32
		cgroup  uint64
		holders []int32 // pids: 100 is a.service's, 200 b.service's, 1 PID 1
		earlier int32   // who held it a scan before
		kernel  bool    // a kernel user's address
		vain    bool    // a whole search found no holder
		blind   bool    // some process could not be read
		want    verdict
	}{
		// held
		{name: "held", state: reading.Established, inode: 5, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "held, made by another", state: reading.Established, inode: 5, cgroup: own, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "held in CLOSE_WAIT", state: reading.CloseWait, inode: 5, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "held after shutdown", state: reading.FinWait2, inode: 5, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "listening", state: reading.Listen, inode: 5, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "bound", state: reading.BoundInactive, inode: 5, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "passed on", state: reading.Established, inode: 5, earlier: 200, holders: []int32{100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "held, at a kernel user's address", state: reading.Established, inode: 5, holders: []int32{100}, kernel: true, want: verdict{reading.Owned, reading.FD, a}},
		// several holders: the primary one
		{name: "shared, oldest", state: reading.Established, inode: 5, holders: []int32{200, 100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "shared, cgroup's", state: reading.Established, inode: 5, cgroup: other, holders: []int32{100, 200}, want: verdict{reading.Owned, reading.FD, b}},
		{name: "shared, nobody's cgroup", state: reading.Established, inode: 5, cgroup: own, holders: []int32{200, 100}, want: verdict{reading.Owned, reading.FD, a}},
		{name: "PID 1 beside another", state: reading.Listen, inode: 5, holders: []int32{1, 200}, want: verdict{reading.Owned, reading.FD, b}},
		{name: "PID 1 made it for another", state: reading.Listen, inode: 5, cgroup: 1, holders: []int32{1, 200}, want: verdict{reading.Owned, reading.FD, b}},
		{name: "PID 1 alone", state: reading.Listen, inode: 5, holders: []int32{1}, want: verdict{reading.Owned, reading.FD, "system/init.scope"}},
		{name: "PID 1 alone, its own", state: reading.Listen, inode: 5, cgroup: 1, holders: []int32{1}, want: verdict{reading.Owned, reading.FD, "system/init.scope"}},
		{name: "PID 1 alone, for a unit", state: reading.Listen, inode: 5, cgroup: own, holders: []int32{1}, want: verdict{reading.Owned, reading.CgroupID, cg}},
		// in an accept queue without a known listener
		{name: "unaccepted", state: reading.Established, want: verdict{reading.Unaccepted, reading.Netns, none}},
		{name: "unaccepted with cgroup", state: reading.Established, cgroup: own, want: verdict{reading.Unaccepted, reading.CgroupID, cg}},
		{name: "unaccepted, finished", state: reading.CloseWait, cgroup: own, want: verdict{reading.Unaccepted, reading.CgroupID, cg}},
		// orphans
		{name: "orphan FIN_WAIT1", state: reading.FinWait1, want: verdict{reading.Orphan, reading.Netns, none}},
		{name: "orphan FIN_WAIT2", state: reading.FinWait2, cgroup: own, want: verdict{reading.Orphan, reading.CgroupID, cg}},
		{name: "orphan CLOSING", state: reading.Closing, cgroup: own, want: verdict{reading.Orphan, reading.CgroupID, cg}},
		{name: "orphan LAST_ACK", state: reading.LastAck, cgroup: gone, want: verdict{reading.Orphan, reading.Netns, none}},
		{name: "orphan, seen before", state: reading.FinWait1, cgroup: own, earlier: 200, want: verdict{reading.Orphan, reading.LastSeen, b}},
		// an inode, but no holder
		{name: "not looked for", state: reading.Established, inode: 5, want: verdict{reading.Unresolved, reading.Netns, none}},
		{name: "not looked for, with cgroup", state: reading.Established, inode: 5, cgroup: own, want: verdict{reading.Owned, reading.CgroupID, cg}},
		{name: "not looked for, seen before", state: reading.Established, inode: 5, cgroup: own, earlier: 200, want: verdict{reading.Owned, reading.LastSeen, b}},
		{name: "the kernel's", state: reading.Established, inode: 5, kernel: true, want: verdict{reading.Kernel, reading.KernelUse, "kernel/nfs"}},
		{name: "the kernel's, looked for", state: reading.Established, inode: 5, cgroup: own, kernel: true, vain: true, want: verdict{reading.Kernel, reading.KernelUse, "kernel/nfs"}},
		{name: "in flight", state: reading.Established, inode: 5, vain: true, want: verdict{reading.Unresolved, reading.Netns, none}},
		{name: "in flight, with cgroup", state: reading.Established, inode: 5, cgroup: own, vain: true, want: verdict{reading.Unresolved, reading.CgroupID, cg}},
		{name: "in flight, seen before", state: reading.Established, inode: 5, earlier: 200, vain: true, want: verdict{reading.Unresolved, reading.LastSeen, b}},
		{name: "of an unreadable process", state: reading.Established, inode: 5, cgroup: own, vain: true, blind: true, want: verdict{reading.Owned, reading.CgroupID, cg}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			pids := map[int32]ProcRef{1: w.proc(1, "init.scope"), 100: w.proc(100, "a.service"), 200: w.proc(200, "b.service")}
			w.cgroup(1, "init.scope")
			w.cgroup(own, "own.service")
			w.cgroup(other, "b.service")
			w.complete = !tt.blind
			s := row(5, tt.inode, tt.state, 1000)
			s.CgroupID = tt.cgroup
			if tt.kernel {
				w.kernel[5] = w.book.Put(reading.Owner{Key: "kernel/nfs", Kind: reading.KindKernel})
			}
			if tt.earlier != 0 {
				before := *s
				before.Inode, before.State = 4, reading.Established
				w.scan(&before)
				w.hold(4, pids[tt.earlier])
				w.attribute()
			}
			w.scan(s)
			var holders []ProcRef
			for _, pid := range tt.holders {
				holders = append(holders, pids[pid])
			}
			w.hold(tt.inode, holders...)
			if tt.vain {
				w.table.BeginSearch().GaveUp(^uint32(0))
			}
			r := w.attribute()
			if diff := cmp.Diff(tt.want, w.verdict(r, s)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := r.Classes[tt.want.Class]; got != (reading.Tally{Sockets: 1, Bytes: 1000}) {
				t.Errorf("class %v sums to %+v", tt.want.Class, got)
			}
		})
	}
}

// TestHiddenEvidence: a hidden socket is found by a descriptor; when its process
// ends before it is named, nothing claims it.
func TestHiddenEvidence(t *testing.T) {
	w := newWorld(t)
	p := w.proc(100, "a.service")
	s := row(5, 50, reading.Close, 1000)
	w.scan()
	w.table.AddHidden(0, s, p)
	if got, want := w.verdict(w.attribute(), s), (verdict{reading.Hidden, reading.FD, "system/a.service"}); got != want {
		t.Errorf("held: %+v, want %+v", got, want)
	}
	w.procs[p-1].Alive = false
	if got, want := w.verdict(w.attribute(), s), (verdict{reading.Hidden, reading.LastSeen, "system/a.service"}); got != want {
		t.Errorf("its process ended: %+v, want %+v", got, want)
	}
	s = row(6, 60, reading.Close, 1000)
	w.table.AddHidden(0, s, p)
	if got, want := w.verdict(w.attribute(), s), (verdict{reading.Hidden, reading.Netns, UnresolvedKey}); got != want {
		t.Errorf("never named: %+v, want %+v", got, want)
	}
}

// TestHolderEnds: a dead process, or one that was read without showing the
// socket, holds nothing any more.
func TestHolderEnds(t *testing.T) {
	w := newWorld(t)
	a, b := w.proc(100, "a.service"), w.proc(200, "b.service")
	s := row(5, 50, reading.Established, 1000)
	w.scan(s)
	w.hold(50, a, b)
	if o := owner(t, w.attribute(), "system/a.service"); !o.Shared || o.HolderCount != 2 {
		t.Errorf("shared %v by %d, want true by 2", o.Shared, o.HolderCount)
	}
	w.procs[a-1].Alive = false
	o := owner(t, w.attribute(), "system/b.service")
	if o.Shared || o.HolderCount != 1 || o.Sum.Sockets != 1 {
		t.Errorf("after a ended, b: shared %v, %d holders, %d sockets; want false, 1, 1", o.Shared, o.HolderCount, o.Sum.Sockets)
	}
	search := w.table.BeginSearch()
	w.procs[b-1].Read = search.Number()
	if got, want := w.verdict(w.attribute(), s), (verdict{reading.Owned, reading.LastSeen, "system/b.service"}); got != want {
		t.Errorf("b was read and has it no more: %+v, want %+v", got, want)
	}
	if matter, all := w.table.Wants(); matter != 1 || all != 1 {
		t.Errorf("%d, %d sockets want a holder, want 1, 1", matter, all)
	}
	// A reference beyond the processes of this scan is nobody.
	w.table.entryOf(5).holder = 99
	w.attribute()
}

// TestSums: where memory is counted, what is unread, stalled, young.
func TestSums(t *testing.T) {
	w := newWorld(t)
	p := w.proc(100, "a.service")
	connected, sender, orphan := row(1, 11, reading.Established, 1000), row(2, 12, reading.CloseWait, 0), row(3, 13, reading.Established, 70)
	connected.Mem.FwdAlloc = -24
	sender.Mem.WmemQueued = 500
	w.scan(connected, sender, orphan)
	s := w.table.BeginSearch()
	for _, inode := range []uint32{11, 12, 13} {
		s.Found(p, inode)
	}
	o := owner(t, w.attribute(), "system/a.service")
	if *o.Young != o.Sum.Bytes || *o.Stalled != 0 || *o.StalledReceive != (reading.Tally{}) {
		t.Errorf("just seen: young %d of %d, stalled %d", *o.Young, o.Sum.Bytes, *o.Stalled)
	}
	w.second += uint32(reading.StalledAfter.Seconds())
	orphan = row(3, 0, reading.FinWait1, 80) // closed, its queue moved
	w.scan(connected, sender, orphan)
	o = owner(t, w.attribute(), "system/a.service")
	type sums struct {
		Sum, Receive, Send, Reserved, Unread, Stalled, Young int64
		StalledReceive, StalledSend                          reading.Tally
		Established, CloseWait, FinWait1                     int64
	}
	got := sums{
		o.Sum.Bytes, o.Receive, o.Send, o.Reserved, o.Unread, *o.Stalled, *o.Young, *o.StalledReceive, *o.StalledSend,
		o.States[reading.Established], o.States[reading.CloseWait], o.States[reading.FinWait1],
	}
	want := sums{
		1556, 1080, 500, -24, 1000, 976 + 500, 0,
		reading.Tally{Sockets: 1, Bytes: 1000},
		reading.Tally{Sockets: 1, Bytes: 500},
		1, 1, 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]reading.NetnsID{{Inode: 1}}, o.Netns); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

// TestOverflowIsUnresolved: what the table had no room for is in the sums.
func TestOverflowIsUnresolved(t *testing.T) {
	w := newWorld(t)
	rows := make([]*reading.Socket, chunkSize+10)
	for i := range rows {
		rows[i] = row(reading.Cookie(i+1), 0, reading.FinWait1, 10)
	}
	w.scan(rows...)
	r := w.attribute()
	o := owner(t, r, UnresolvedKey)
	if want := (reading.Tally{Sockets: chunkSize + 10, Bytes: 10*chunkSize + 100}); r.Seen != want || o.Sum != want {
		t.Errorf("seen %+v, unresolved %+v; want %+v", r.Seen, o.Sum, want)
	}
	if got := o.Evidence[reading.NoEvidence].Sockets; got != 10 {
		t.Errorf("%d sockets without any evidence, want 10", got)
	}
	last := *rows[len(rows)-1]
	r.Lookup(&last)
	if last.Owner != UnresolvedKey || last.Class != reading.Unresolved {
		t.Errorf("one that had no room: %+v", last)
	}
}

// TestLookupAfterFailedScan: a scan that failed half way leaves rows that no
// attribution has judged; they are nobody's, and nothing panics.
func TestLookupAfterFailedScan(t *testing.T) {
	w := newWorld(t)
	p := w.proc(100, "a.service")
	w.cgroup(own, "own.service")
	w.scan(row(1, 11, reading.Established, 1))
	w.hold(11, p)
	r := w.attribute()
	w.table.BeginScan(200)
	s := row(2, 0, reading.FinWait1, 1)
	s.CgroupID = own
	w.table.Add(0, s)
	if got, want := w.verdict(r, s), (verdict{reading.Unresolved, reading.NoEvidence, UnresolvedKey}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestHolders(t *testing.T) {
	w := newWorld(t)
	var rows []*reading.Socket
	for i := range uint32(reading.MaxHolders + 4) {
		rows = append(rows, row(reading.Cookie(i+1), i+1, reading.Established, 100+i))
	}
	w.scan(rows...)
	s := w.table.BeginSearch()
	for i := range uint32(len(rows)) {
		s.Found(w.proc(int32(1000+i), "a.service"), i+1)
	}
	o := owner(t, w.attribute(), "system/a.service")
	if o.HolderCount != len(rows) || len(o.Holders) != reading.MaxHolders {
		t.Errorf("%d holders, %d listed; want %d, %d", o.HolderCount, len(o.Holders), len(rows), reading.MaxHolders)
	}
	if first := o.Holders[0].PID; first != 1000+len(rows)-1 {
		t.Errorf("first holder %d, want the one of most bytes", first)
	}
}

// TestPeers: who is at the other end of the send queues.
func TestPeers(t *testing.T) {
	w := newWorld(t)
	a, b := w.proc(100, "a.service"), w.proc(200, "b.service")
	w.scan(row(1, 11, reading.Established, 1), row(2, 12, reading.Established, 1))
	w.hold(11, a)
	w.hold(12, b)
	remote := netip.MustParseAddrPort("[::ffff:192.0.2.7]:443")
	w.ends = []End{
		{Cookie: 1, Peer: 2, Remote: remote, Queue: 9000},
		{Cookie: 1, Peer: 99, Remote: remote, Queue: 300}, // on this host, but gone
		{Cookie: 1, Remote: remote, Queue: 5000},
		{Cookie: 1, Remote: netip.AddrPortFrom(remote.Addr(), 444), Queue: 5000},
		{Cookie: 77, Remote: remote, Queue: 1 << 20}, // gone itself
	}
	for i := range byte(9) {
		w.ends = append(w.ends, End{Cookie: 1, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, i}), 1), Queue: uint32(i) + 1})
	}
	o := owner(t, w.attribute(), "system/a.service")
	want := []reading.Peer{
		{Address: "192.0.2.7", Tally: reading.Tally{Sockets: 2, Bytes: 10_000}},
		{Owner: "system/b.service", Tally: reading.Tally{Sockets: 1, Bytes: 9000}},
		{Owner: UnresolvedKey, Tally: reading.Tally{Sockets: 1, Bytes: 300}},
		{Address: "198.51.100.8", Tally: reading.Tally{Sockets: 1, Bytes: 9}},
		{Address: "198.51.100.7", Tally: reading.Tally{Sockets: 1, Bytes: 8}},
	}
	if diff := cmp.Diff(want, o.Peers); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
