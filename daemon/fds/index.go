// Package fds knows the processes of the host and finds which of them hold a
// socket. Its index is incremental: a process is read again when it is new,
// when its number of descriptors changed, or when its turn comes.
package fds

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
)

// Process is one process of the index. Its place in the index, an
// owner.ProcRef, does not change while it lives or a socket names it.
type Process struct {
	PID   int32
	Netns uint32 // inode of its network namespace, 0 where it could not be read

	// Start is field 22 of /proc/PID/stat; 0 until the process is identified.
	Start      uint64
	Identified bool
	// Own marks this very process: it fetches descriptors of others for a
	// moment and must never be taken for their owner.
	Own bool

	// Thread stands for the process in /proc where its main thread has ended
	// and others live on; 0 for all other processes. See Task.
	Thread int32

	Alive   bool
	seen    uint32 // turn in which /proc last listed it
	checked uint32 // turn in which Netns was last read
	Count   int64  // descriptors at the last reading, in all tables, -1 before it
	tables  []Table
	Sockets int       // sockets wanted that it held at the last reading
	Read    uint32    // search that last read all its descriptors
	ReadAt  time.Time // of that reading, or of the first one that was interrupted
	Tried   time.Time // when it was last read to the end, or that was tried in vain
	// Interrupted counts the readings since then that had to end halfway.
	Interrupted int
	Unread      error // why its descriptors could not be read, nil where they could
	unsure      bool  // Unread is from Verify
}

// Task is the id by which /proc shows the process's namespaces: its pid, or
// that of a thread where the main one has ended.
func (p *Process) Task() int32 {
	if p.Thread != 0 {
		return p.Thread
	}
	return p.PID
}

// Index is the process table. It is not safe for concurrent use; Walk starts
// goroutines of its own and ends them.
type Index struct {
	fs    procfs.FS
	pids  *procfs.PIDs
	list  []int32
	procs []Process
	byPID map[int32]owner.ProcRef
	free  []owner.ProcRef
	turn  uint32
	self  int32
	sized bool   // the size of a descriptor directory is its number of entries
	kcmp  bool   // kcmp(2) can be asked
	dents []byte // for Changed, where sized is false
	next  int    // where the next round of rechecks starts
}

// Open opens an index over a proc file system. The index is empty until
// Refresh.
func Open(fs procfs.FS) (*Index, error) {
	pids, err := fs.OpenPIDs()
	if err != nil {
		return nil, fmt.Errorf("open process index: %w", err)
	}
	return &Index{
		fs: fs, pids: pids, byPID: map[int32]owner.ProcRef{}, self: int32(os.Getpid()),
		sized: sized(fs), kcmp: canKcmp(fs),
	}, nil
}

// Close closes the index.
func (x *Index) Close() error { return x.pids.Close() }

// recheck is how many known processes a refresh looks at again: one may have
// moved to another namespace, or have ended and left its pid to another.
const recheck = 256

// Refresh lists the processes, learns the namespace of new ones and rechecks
// some of the others in turn.
func (x *Index) Refresh() error {
	x.turn++
	var err error
	if x.list, err = x.pids.Append(x.list[:0]); err != nil {
		return fmt.Errorf("refresh process index: %w", err)
	}
	for _, pid := range x.list {
		ref, ok := x.byPID[pid]
		if !ok {
			x.add(pid)
			continue
		}
		x.Proc(ref).seen = x.turn
	}
	for i := range x.procs {
		if p := &x.procs[i]; p.Alive && p.seen != x.turn {
			x.dead(owner.ProcRef(i + 1))
		}
	}
	for range min(recheck, len(x.procs)) {
		x.next = (x.next + 1) % len(x.procs)
		if p := &x.procs[x.next]; p.Alive && p.checked != x.turn {
			x.check(owner.ProcRef(x.next + 1))
		}
	}
	return nil
}

// Settled says that no socket names a dead process any more: an attribution has
// dropped them. Only then may their places be given to others.
func (x *Index) Settled() {
	for i := range x.procs {
		if p := &x.procs[i]; !p.Alive && p.PID != 0 {
			*p = Process{}
			x.free = append(x.free, owner.ProcRef(i+1))
		}
	}
}

func (x *Index) add(pid int32) {
	p := Process{PID: pid, Alive: true, seen: x.turn, checked: x.turn, Own: pid == x.self, Count: -1}
	x.learnNetns(&p)
	var ref owner.ProcRef
	if n := len(x.free); n > 0 {
		ref = x.free[n-1]
		x.free = x.free[:n-1]
		x.procs[ref-1] = p
	} else {
		x.procs = append(x.procs, p)
		ref = owner.ProcRef(len(x.procs))
	}
	x.byPID[pid] = ref
}

func (x *Index) dead(ref owner.ProcRef) {
	p := x.Proc(ref)
	p.Alive = false
	if x.byPID[p.PID] == ref {
		delete(x.byPID, p.PID)
	}
}

// check reads a known process again and reports whether it is still the same.
func (x *Index) check(ref owner.ProcRef) bool {
	p := x.Proc(ref)
	p.checked = x.turn
	x.learnNetns(p)
	return !p.Identified || x.Verify(ref)
}

// Verify reads the start time of an identified process again. A pid that was
// given to another process becomes a new entry, and the old one is dead. If the
// start time cannot be read, which says nothing about the process (EMFILE,
// ENOMEM), it stays what it is and Unread has the reason.
func (x *Index) Verify(ref owner.ProcRef) bool {
	p := x.Proc(ref)
	if !p.Alive {
		return false
	}
	st, err := x.fs.Stat(int(p.PID))
	switch {
	case procfs.Gone(err):
		x.dead(ref)
		return false
	case err != nil:
		if p.Unread == nil {
			p.Unread, p.unsure = fmt.Errorf("verify process: %w", err), true
		}
		return true
	case st.StartTime == p.Start && !st.Zombie():
		if p.unsure {
			p.Unread, p.unsure = nil, false
		}
		return true
	}
	pid := p.PID
	x.dead(ref)
	if !st.Zombie() {
		x.add(pid)
	}
	return false
}

// learnNetns reads the network namespace of a process, from another thread
// where the main one has ended: it then is in none.
func (x *Index) learnNetns(p *Process) {
	inode, err := netnsOf(x.fs.Root(), p.PID, 0)
	p.Thread = 0
	if procfs.Gone(err) {
		if p.Thread = instead(x.fs, p.PID); p.Thread != 0 {
			inode, err = netnsOf(x.fs.Root(), p.PID, p.Thread)
		}
	}
	// ENOMEM says nothing; a zombie and another user's process have none to see.
	if err == nil || procfs.Gone(err) || errors.Is(err, fs.ErrPermission) {
		p.Netns = inode
	}
}

// Proc returns the process behind a reference. The pointer is valid until the
// next Refresh or Verify.
func (x *Index) Proc(ref owner.ProcRef) *Process { return &x.procs[ref-1] }

// Len is the number of places in the index, dead and free ones included.
func (x *Index) Len() int { return len(x.procs) }

// Living counts the processes that are alive.
func (x *Index) Living() int { return len(x.byPID) }

// All calls yield for each living process.
func (x *Index) All(yield func(owner.ProcRef, *Process) bool) {
	for i := range x.procs {
		if x.procs[i].Alive && !yield(owner.ProcRef(i+1), &x.procs[i]) {
			return
		}
	}
}

// Changed reports whether a process has another number of descriptors than at
// its last reading; on kernels that do not tell it (before 6.2), another number
// or another highest one.
func (x *Index) Changed(p *Process) bool {
	w := walker{fs: x.fs, sized: x.sized}
	if !x.sized {
		if x.dents == nil {
			x.dents = make([]byte, 32<<10)
		}
		w.dents = x.dents
	}
	tables := p.tables
	if tables == nil {
		tables = []Table{{Count: -1}} // never read
	}
	return w.changed(p.PID, tables)
}

// Order lists the living processes in the order in which a search should read
// them, so that it can end as soon as every socket that matters has its owner:
// new processes first, then those with few descriptors. A server with 10,000
// connections comes late: it costs as much as hundreds of others.
func (x *Index) Order() []owner.ProcRef {
	order := make([]owner.ProcRef, 0, len(x.byPID))
	for ref, p := range x.All {
		if !p.Own {
			order = append(order, ref)
		}
	}
	slices.SortFunc(order, func(a, b owner.ProcRef) int {
		p, q := x.Proc(a), x.Proc(b)
		return cmp.Or(cmp.Compare(p.Count, q.Count), cmp.Compare(p.PID, q.PID)) // -1: never read
	})
	return order
}
