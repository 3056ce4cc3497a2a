package fds

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
)

// Descriptor is a descriptor of a socket or a network namespace.
type Descriptor struct {
	FD    int32
	Inode uint32
	// TID is the thread whose table has it, 0 for that of the main thread,
	// which nearly all threads share.
	TID int32
}

// Task is the id by which the kernel finds the descriptor of process pid: that
// of the thread, or pid itself. /proc has each thread under its id, too, though
// it does not list them (proc_pid_lookup).
func (d Descriptor) Task(pid int32) int32 {
	if d.TID != 0 {
		return d.TID
	}
	return pid
}

// Path is the link of the descriptor of process pid in the proc file system at
// root.
func (d Descriptor) Path(root string, pid int32) string {
	return tableDir(root, pid, d.TID) + "/" + strconv.Itoa(int(d.FD))
}

// Found is what reading one process gave.
type Found struct {
	Proc    owner.ProcRef
	Skipped bool         // not read: as many descriptors as at its last reading
	Count   int64        // open descriptors, in all its tables
	Tables  []Table      // that were read to their end
	Sockets []Descriptor // that Wanted asked for
	Others  []Descriptor // TCP and MPTCP sockets that no dump showed, if asked
	Netns   []Descriptor // descriptors of network namespaces
	// ThreadNetns has one thread for each network namespace that a thread is
	// in and the process is not, if Wanted asked for threads.
	ThreadNetns []ThreadNetns
	// Err: its descriptors could not be read, or not all. What was read by then
	// holds all the same.
	Err error
	// Partial: the reading was interrupted; Err is the cause of the context.
	Partial bool
}

// ThreadNetns is the network namespace of a thread, /proc/TID/ns/net.
type ThreadNetns struct {
	TID   int32
	Inode uint32
}

// Wanted says what a walk looks for. Holds is called from several goroutines.
type Wanted struct {
	Holds func(inode uint32) bool
	// SkipUnchanged leaves out processes that have as many descriptors as at
	// their last reading.
	SkipUnchanged bool
	// Others asks for TCP sockets that Holds does not know, too: the
	// candidates for hidden ones.
	Others bool
	// Threads asks for threads with a descriptor table (CLONE_FILES) or a
	// network namespace of their own. Where a process is known to have such
	// tables they are read in any case.
	Threads bool
}

// Walk reads the descriptors of processes in order, with as many workers, and
// calls yield for each, in no particular order. It ends early when yield
// returns false or ctx ends; every worker has ended when it returns. When ctx
// ends, what was read by then is still yielded, in part where it was in the
// middle of a process (Found.Partial). A process that ended meanwhile is
// yielded with an error that procfs.Gone knows.
func (x *Index) Walk(ctx context.Context, order []owner.ProcRef, workers int, want Wanted, yield func(Found) bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		next    atomic.Int64
		wg      sync.WaitGroup
		results = make(chan Found, 64)
	)
	type target struct {
		pid    int32
		tables []Table
	}
	targets := make([]target, len(order))
	for i, ref := range order {
		p := x.Proc(ref)
		targets[i] = target{p.PID, p.tables}
	}
	for range max(1, min(workers, len(order))) {
		wg.Go(func() {
			w := walker{fs: x.fs, sized: x.sized, kcmp: x.kcmp, want: want, dents: make([]byte, 32<<10)}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(order) {
					return
				}
				t := targets[i]
				found := Found{Skipped: true}
				if !want.SkipUnchanged || len(t.tables) == 0 || w.changed(t.pid, t.tables) {
					found = w.read(ctx, t.pid, want.Threads || len(t.tables) > 1)
				}
				found.Proc = order[i]
				results <- found // received until all workers have ended
			}
		})
	}
	go func() { wg.Wait(); close(results) }()
	stopped := false
	for found := range results {
		if !stopped && !yield(found) {
			stopped = true
			cancel()
		}
	}
}

// Record notes the outcome of reading a process. One that was interrupted
// counts as a holder of what was found, but not as read.
func (x *Index) Record(f Found, search uint32, now time.Time) {
	p := x.Proc(f.Proc)
	if f.Partial {
		p.Interrupted++
		p.Sockets = max(p.Sockets, len(f.Sockets))
		if p.ReadAt.IsZero() {
			p.ReadAt = now
		}
		return
	}
	p.Tried, p.Interrupted = now, 0
	p.Unread, p.unsure = f.Err, false
	if f.Err != nil {
		return
	}
	p.Count, p.Sockets, p.Read, p.ReadAt = f.Count, len(f.Sockets), search, now
	p.tables = f.Tables
}

// GiveUp notes that a process cannot be read to its end, and why.
func (x *Index) GiveUp(ref owner.ProcRef, why error, now time.Time) {
	p := x.Proc(ref)
	p.Unread, p.Tried, p.Interrupted = why, now, 0
}

// walker reads descriptor tables with buffers of its own.
type walker struct {
	fs    procfs.FS
	sized bool // see Index
	kcmp  bool
	want  Wanted
	dents []byte
	link  [80]byte
}

// read lists the descriptors of a process.
func (w *walker) read(ctx context.Context, pid int32, threads bool) (f Found) {
	main := int32(0)
	f.Err = w.list(ctx, pid, main, &f)
	if f.Count == 0 && !f.Partial && !procfs.Gone(f.Err) {
		// Nothing to see: its main thread may have ended and others live on.
		if tid := instead(w.fs, pid); tid != 0 {
			main, f.Tables = tid, nil
			f.Err = w.list(ctx, pid, main, &f)
		}
	}
	if threads && f.Err == nil {
		f.Err = w.threads(ctx, pid, main, &f)
	}
	return f
}

// instead returns a living thread of a process whose main thread has ended, 0
// where that is not the case.
func instead(fs procfs.FS, pid int32) int32 {
	if st, err := fs.Stat(int(pid)); err != nil || !st.MainEnded() {
		return 0
	}
	tid, err := fs.LivingThread(int(pid))
	if err != nil {
		return 0
	}
	return int32(tid)
}

// list reads one descriptor table of a process.
//
// It uses readlink rather than stat, which never asks the file system behind a
// descriptor (proc_fd_link, d_path): a dead NFS server does not hang it. Only
// descriptors that were sockets a moment before are asked more; see isTCP.
func (w *walker) list(ctx context.Context, pid, tid int32, f *Found) error {
	dir := tableDir(w.fs.Root(), pid, tid)
	fd, err := openDir(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	table := Table{TID: tid, Last: -1}
	for {
		n, err := unix.Getdents(fd, w.dents)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "getdents", Path: dir, Err: err}
		}
		if n == 0 {
			f.Tables = append(f.Tables, table)
			return nil
		}
		if ctx.Err() != nil {
			f.Partial = true
			return context.Cause(ctx)
		}
		before := table.Count
		err = w.entries(fd, pid, w.dents[:n], &table, f)
		f.Count += table.Count - before
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
	}
}

// entries looks at the descriptors in a getdents64 buffer.
func (w *walker) entries(dirfd int, pid int32, b []byte, table *Table, f *Found) error {
	for name, err := range procfs.Dirents(b) {
		if err != nil {
			return err
		}
		if n, ok := decimal(name); ok { // neither . nor ..
			table.add(int32(n))
			w.descriptor(dirfd, pid, name, Descriptor{FD: int32(n), TID: table.TID}, f)
		}
	}
	return nil
}

// descriptor looks at one. The name is passed to the kernel where it lies, with
// its NUL: a string for each would be the largest cost of a walk.
func (w *walker) descriptor(dirfd int, pid int32, name []byte, d Descriptor, f *Found) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dirfd), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&w.link[0])), uintptr(len(w.link)), 0, 0)
	if errno != 0 {
		return // closed meanwhile
	}
	link := w.link[:n]
	var ok bool
	if d.Inode, ok = linkInode(link, "socket:["); ok {
		switch {
		case w.want.Holds(d.Inode):
			f.Sockets = append(f.Sockets, d)
		case w.want.Others && isTCP(d.Path(w.fs.Root(), pid)):
			f.Others = append(f.Others, d)
		}
	} else if d.Inode, ok = linkInode(link, "net:["); ok {
		f.Netns = append(f.Netns, d)
	}
}

// isTCP asks a socket for its protocol without taking it from its process:
// the attribute system.sockprotoname of its inode (sockfs_xattr_get in
// net/socket.c). It follows the link, so it asks whatever the descriptor stands
// for by now: if the process put a file of a dead NFS server in the place of
// the socket since readlink, this waits for that server. There is no way
// around: fgetxattr refuses descriptors opened with O_PATH.
func isTCP(path string) bool {
	var name [16]byte
	n, err := unix.Getxattr(path, "system.sockprotoname", name[:])
	if err != nil {
		return false
	}
	for n > 0 && name[n-1] == 0 {
		n--
	}
	switch string(name[:n]) {
	case "TCP", "TCPv6", "MPTCP", "MPTCPv6":
		return true
	}
	return false
}

// linkInode parses "socket:[123]", the text of a descriptor without a path
// (simple_dname, ns_dname).
func linkInode(link []byte, prefix string) (uint32, bool) {
	if len(link) < len(prefix)+2 || string(link[:len(prefix)]) != prefix || link[len(link)-1] != ']' {
		return 0, false
	}
	return decimal(link[len(prefix) : len(link)-1])
}

// decimal parses a number up to a NUL or the end.
func decimal(b []byte) (uint32, bool) {
	n := uint64(0)
	for i, c := range b {
		switch {
		case c == 0 && i > 0:
			return uint32(n), true
		case c < '0' || c > '9':
			return 0, false
		}
		if n = n*10 + uint64(c-'0'); n > 1<<32-1 {
			return 0, false
		}
	}
	return uint32(n), len(b) > 0
}
