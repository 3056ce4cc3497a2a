// Package fds knows the processes of the host and finds which of them hold a
// socket. Its index is incremental: a process is read again when it is new,
// when its number of descriptors changed, or when its turn comes.
package fds

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

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

	Alive   bool
	seen    uint32 // turn in which /proc last listed it
	checked uint32 // turn in which Netns was last read
	Count   int64  // descriptors at the last reading, -1 before it
	Sockets int    // sockets wanted that it held at the last reading
	Read    uint32 // search that last read all its descriptors
	ReadAt  time.Time
	Tried   time.Time // when it was last read, or that was tried in vain
	Unread  error // why its descriptors could not be read, nil where they could
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
	next  int // where the next round of rechecks starts
}

// Open opens an index over a proc file system. The index is empty until
// Refresh.
func Open(fs procfs.FS) (*Index, error) {
	pids, err := fs.OpenPIDs()
	if err != nil {
		return nil, fmt.Errorf("open process index: %w", err)
	}
	return &Index{fs: fs, pids: pids, byPID: map[int32]owner.ProcRef{}, self: int32(os.Getpid())}, nil
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
	p.Netns = x.netnsOf(pid)
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
	p.Netns = x.netnsOf(p.PID)
	return !p.Identified || x.Verify(ref)
}

// Verify reads the start time of an identified process again. A pid that was
// given to another process becomes a new entry, and the old one is dead.
func (x *Index) Verify(ref owner.ProcRef) bool {
	p := x.Proc(ref)
	if !p.Alive {
		return false
	}
	st, err := x.fs.Stat(int(p.PID))
	if err == nil && st.StartTime == p.Start && !st.Zombie() {
		return true
	}
	pid := p.PID
	x.dead(ref)
	if err == nil && !st.Zombie() {
		x.add(pid)
	}
	return false
}

// netnsOf returns the inode of a process's network namespace, 0 where it
// cannot be read (another user's process, a zombie).
func (x *Index) netnsOf(pid int32) uint32 {
	var buf [64]byte
	n, err := unix.Readlink(x.fs.Root()+"/"+strconv.Itoa(int(pid))+"/ns/net", buf[:])
	if err != nil {
		return 0
	}
	inode, ok := linkInode(buf[:n], "net:[")
	if !ok {
		return 0
	}
	return inode
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
// its last reading.
func (x *Index) Changed(p *Process) bool {
	return changed(x.fs.Root(), p.PID, p.Count)
}

// changed asks for the number of descriptors without listing them. Kernels
// before 6.2 do not tell (proc_fd_getattr): it then counts as changed.
func changed(root string, pid int32, count int64) bool {
	var st unix.Stat_t
	if err := unix.Stat(root+"/"+strconv.Itoa(int(pid))+"/fd", &st); err != nil {
		return false // gone, or unreadable as before
	}
	return st.Size == 0 || st.Size != count
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
