package owner

import (
	"cmp"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Proc is what attribution needs to know of a process; its index plus one is
// the ProcRef.
type Proc struct {
	Owner  Ref
	Alive  bool
	PID    int32
	Read   uint32 // search that last read all its descriptors
	UID    *uint32
	Holder reading.Holder
}

// Inputs are the indexes that Attribute joins with the table.
type Inputs struct {
	Procs  []Proc
	Queues *Queues
	Ends   []End // from Ends.Pair
	// Cgroup names the owner of a cgroup id, 0 where nobody is known.
	Cgroup func(id uint64) Ref
	// KernelUse holds the cookies whose address is a kernel user's, with who
	// uses it: positive evidence for sockets that no process holds.
	KernelUse map[reading.Cookie]Ref
	// Namespaces by the index that Table.Add was given.
	Namespaces []reading.NetnsID
	// Complete: every process was read, so that a socket without a holder is
	// not merely one that nobody looked for.
	Complete bool
}

// Totals sums the attribution over all owners.
type Totals struct {
	Classes [reading.NumClasses]reading.Tally
	Seen    reading.Tally
	Named   int64 // bytes
}

// attribution is one pass over the table.
type attribution struct {
	t      *Table
	b      *Book
	in     Inputs
	scan   uint32
	cgroup []Ref // by entry.cgroup
	queues []Ref
	accs   []acc // by Ref
	procs  []procAcc
	out    Totals
}

// acc is the running sum of one owner.
type acc struct {
	reading.Owner
	ns      []uint16
	foreign []ProcRef // holders of shared sockets that belong to other owners
	stalled int64
	young   int64
	recv    reading.Tally // stalled receive queues
	send    reading.Tally // stalled send queues
	peers   map[peerKey]reading.Tally
}

type peerKey struct{ owner, address string }

type procAcc struct {
	bytes int64
	holds bool
}

// Result is an attribution: good until the table changes.
type Result struct {
	Owners []reading.Owner // biggest first; reference 0 is the one with Kind unresolved
	Totals
	a *attribution
}

// Lookup fills class, evidence, owner and primary holder of a socket that a
// later dump shows. One that the scan did not see is unresolved.
func (r *Result) Lookup(s *reading.Socket) {
	s.Class, s.Evidence, s.Owner, s.Holder = reading.Unresolved, reading.NoEvidence, UnresolvedKey, nil
	i, _ := r.a.t.find(Key(s))
	if i < 0 || r.a.t.scan != r.a.scan {
		return // unknown, or a later scan failed half way: its rows are not judged yet
	}
	e := r.a.t.at(i)
	var ref Ref
	if s.Class, s.Evidence, ref = r.a.judge(e); ref != 0 {
		s.Owner = r.a.b.Get(ref).Key
	}
	if s.Evidence == reading.FD {
		s.Holder = &r.a.in.Procs[e.holder-1].Holder
	}
}

// Attribute names the owner of every socket in the table and sums them up.
func Attribute(t *Table, b *Book, in Inputs) *Result {
	a := &attribution{
		t: t, b: b, in: in, scan: t.scan,
		procs: make([]procAcc, len(in.Procs)),
	}
	a.cgroup = make([]Ref, len(t.cgroups))
	for i, id := range t.cgroups {
		if id != 0 {
			a.cgroup[i] = in.Cgroup(id)
		}
	}
	// Inputs.Cgroup may have put owners into the book.
	a.accs = make([]acc, len(b.owners)+1)
	a.queues = in.Queues.owners(t, a.liveOwner)
	for i := range t.n {
		a.add(t.at(i))
	}
	a.overflow()
	a.pair()
	return &Result{Owners: a.owners(), Totals: a.out, a: a}
}

// liveOwner is the owner of a socket by descriptor, or by its cgroup where no
// process is known.
func (a *attribution) liveOwner(e *entry) Ref {
	if _, ref := a.held(e); ref != 0 {
		return ref
	}
	return a.cgroup[e.cgroup]
}

// held is the owner by descriptor, 0 where no process holds the socket. What
// PID 1 alone holds it keeps for another, a socket unit or a descriptor store:
// the cgroup knows for whom.
func (a *attribution) held(e *entry) (reading.Evidence, Ref) {
	p := a.holder(e)
	if p == 0 {
		return reading.NoEvidence, 0
	}
	proc := &a.in.Procs[p-1]
	if by := a.cgroup[e.cgroup]; proc.PID == 1 && by != 0 && by != proc.Owner {
		return reading.CgroupID, by
	}
	return reading.FD, proc.Owner
}

// add judges one socket and adds it up.
func (a *attribution) add(e *entry) {
	class, evidence, ref := a.judge(e)
	bytes := e.bytes()
	a.out.Classes[class].Add(1, bytes)
	a.out.Seen.Add(1, bytes)
	if ref != 0 {
		a.out.Named += bytes
	}
	if evidence == reading.FD {
		a.hold(e, e.holder)
	}

	o := &a.accs[ref]
	o.Sum.Add(1, bytes)
	o.Classes[class].Add(1, bytes)
	o.Evidence[evidence].Add(1, bytes)
	o.Receive += int64(e.rmem)
	o.Send += int64(e.wmem)
	o.Reserved += int64(e.fwd)
	if int(e.state) < len(o.States) {
		o.States[e.state]++
	}
	if class == reading.Owned || class == reading.Unaccepted || class == reading.Hidden {
		o.Unread += int64(e.rmem)
	}
	if a.t.stands(e) {
		if e.rmem != 0 {
			o.recv.Add(1, int64(e.rmem))
		}
		if e.wmem != 0 {
			o.send.Add(1, int64(e.wmem))
		}
		if e.rmem|e.wmem != 0 {
			o.stalled += bytes
		}
	}
	if a.t.second-e.first < uint32(reading.StalledAfter.Seconds())-1 {
		o.young += bytes
	}
	if len(o.ns) == 0 || o.ns[len(o.ns)-1] != e.ns && !slices.Contains(o.ns, e.ns) {
		o.ns = append(o.ns, e.ns)
	}
}

// judge decides class, evidence and owner of a socket: the table of evidence in
// order, best first.
func (a *attribution) judge(e *entry) (reading.Class, reading.Evidence, Ref) {
	if e.flags&flagHidden != 0 {
		if p := a.holder(e); p != 0 {
			e.owner = a.in.Procs[p-1].Owner
			return reading.Hidden, reading.FD, e.owner
		}
		return a.lastKnown(e, reading.Hidden)
	}
	if e.inode == 0 {
		if IsOrphanState(reading.State(e.state)) {
			return a.lastKnown(e, reading.Orphan)
		}
		if q := e.holder; q != 0 && int(q) <= len(a.queues) && a.queues[q-1] != 0 {
			e.owner = a.queues[q-1]
			return reading.Unaccepted, reading.Listener, e.owner
		}
		return a.lastKnown(e, reading.Unaccepted)
	}
	switch evidence, ref := a.held(e); evidence {
	case reading.FD:
		e.owner = ref
		return reading.Owned, evidence, ref
	case reading.CgroupID:
		return reading.Owned, evidence, ref
	}
	if ref := a.in.KernelUse[e.key]; ref != 0 {
		return reading.Kernel, reading.KernelUse, ref
	}
	if e.flags&flagSearched != 0 && a.in.Complete {
		// Every descriptor was looked at and none is this socket: in flight
		// over SCM_RIGHTS, an io_uring fixed file, or the kernel's own.
		return a.lastKnown(e, reading.Unresolved)
	}
	return a.lastKnown(e, reading.Owned)
}

// lastKnown falls back from an earlier owner to the cgroup to the namespace.
func (a *attribution) lastKnown(e *entry, class reading.Class) (reading.Class, reading.Evidence, Ref) {
	if e.owner != 0 {
		return class, reading.LastSeen, e.owner
	}
	if ref := a.cgroup[e.cgroup]; ref != 0 {
		return class, reading.CgroupID, ref
	}
	if class == reading.Owned {
		class = reading.Unresolved
	}
	return class, reading.Netns, 0
}

// IsOrphanState reports whether a socket with no struct socket behind it is an
// orphan: in one of these states it was closed by its process (tcp_close), in
// any other it was never accepted. Inode 0 alone does not say which.
func IsOrphanState(s reading.State) bool {
	switch s {
	case reading.FinWait1, reading.FinWait2, reading.Closing, reading.LastAck, reading.Close:
		return true
	}
	return false
}

// valid: the process lives, and was not read since without showing the socket.
func (a *attribution) valid(p ProcRef, verified uint32) bool {
	if p == 0 || int(p) > len(a.in.Procs) {
		return false
	}
	proc := &a.in.Procs[p-1]
	return proc.Alive && proc.Read <= verified
}

// holder is the primary holder of a socket: of several, without PID 1, the one
// whose owner is the socket's cgroup's, else the oldest. PID 1 holds socket units
// and descriptor stores for others: it is primary only when alone, even where
// it made the socket.
func (a *attribution) holder(e *entry) ProcRef {
	if e.flags&flagShared == 0 {
		if a.valid(e.holder, e.verified) {
			return e.holder
		}
		if e.inode != 0 {
			e.holder = 0
		}
		return 0
	}
	live := slices.DeleteFunc(a.t.shared[e.key], func(s share) bool { return !a.valid(s.proc, s.verified) })
	if len(live) == 0 {
		a.t.dropShared(e)
		e.holder = 0
		return 0
	}
	a.t.shared[e.key] = live
	best := live[0]
	for _, s := range live[1:] {
		if a.prefer(e, s.proc, best.proc) {
			best = s
		}
	}
	e.holder, e.verified = best.proc, best.verified
	if len(live) == 1 {
		a.t.dropShared(e)
	}
	return best.proc
}

func (a *attribution) prefer(e *entry, p, q ProcRef) bool {
	by, x, y := a.cgroup[e.cgroup], &a.in.Procs[p-1], &a.in.Procs[q-1]
	if (x.PID == 1) != (y.PID == 1) {
		return y.PID == 1
	}
	if by != 0 && (x.Owner == by) != (y.Owner == by) {
		return x.Owner == by
	}
	return cmp.Or(cmp.Compare(x.Holder.StartTime, y.Holder.StartTime), cmp.Compare(x.PID, y.PID)) < 0
}

// hold records the holders of a socket with its owner.
func (a *attribution) hold(e *entry, primary ProcRef) {
	a.procs[primary-1].bytes += e.bytes()
	a.procs[primary-1].holds = true
	if e.flags&flagShared == 0 {
		return
	}
	o := &a.accs[e.owner]
	for _, s := range a.t.shared[e.key] {
		a.procs[s.proc-1].holds = true
		if p := &a.in.Procs[s.proc-1]; p.Owner != e.owner {
			// PID 1 keeps the socket of a socket unit: that is no second user.
			o.Shared = o.Shared || p.PID != 1
			if !slices.Contains(o.foreign, s.proc) {
				o.foreign = append(o.foreign, s.proc)
			}
		}
	}
}

// overflow adds what the table had no room for to nobody.
func (a *attribution) overflow() {
	v := a.t.Overflow
	if v.Sockets == 0 {
		return
	}
	a.out.Classes[reading.Unresolved].Add(v.Sockets, v.Bytes)
	a.out.Seen.Add(v.Sockets, v.Bytes)
	o := &a.accs[0]
	o.Sum.Add(v.Sockets, v.Bytes)
	o.Classes[reading.Unresolved].Add(v.Sockets, v.Bytes)
	o.Evidence[reading.NoEvidence].Add(v.Sockets, v.Bytes)
}

// pair names the other end of each large send queue.
func (a *attribution) pair() {
	for _, end := range a.in.Ends {
		i, _ := a.t.find(end.Cookie)
		if i < 0 {
			continue
		}
		_, _, ref := a.judge(a.t.at(i))
		o := &a.accs[ref]
		key := peerKey{address: end.Remote.Addr().Unmap().String()}
		if end.Peer != 0 {
			key = peerKey{owner: UnresolvedKey} // many ports, one peer
			if j, _ := a.t.find(end.Peer); j >= 0 {
				if _, _, ref := a.judge(a.t.at(j)); ref != 0 {
					key.owner = a.b.Get(ref).Key
				}
			}
		}
		if o.peers == nil {
			o.peers = map[peerKey]reading.Tally{}
		}
		sum := o.peers[key]
		sum.Add(1, int64(end.Queue))
		o.peers[key] = sum
	}
}
