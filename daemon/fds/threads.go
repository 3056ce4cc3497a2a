package fds

import (
	"context"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
)

// threads reads what the threads of a process have of their own: descriptor
// tables that main (0: the main thread) does not share, and network
// namespaces. /proc/PID/fd and /proc/PID/ns/net are the main thread's alone.
func (w *walker) threads(ctx context.Context, pid, main int32, f *Found) error {
	if w.single(pid) {
		return nil
	}
	tids, err := w.fs.AppendThreads(nil, int(pid))
	if err != nil {
		if procfs.Gone(err) {
			return nil
		}
		return err
	}
	home, _ := netnsOf(w.fs.Root(), pid, main)
	known := []int32{main} // a thread of each table, in the order of kcmp
	for _, tid := range tids {
		if ctx.Err() != nil {
			f.Partial = true
			return context.Cause(ctx)
		}
		if tid == pid || tid == main {
			continue
		}
		w.threadNetns(pid, tid, home, f)
		i, own := w.ownTable(pid, tid, known)
		if !own {
			continue
		}
		known = slices.Insert(known, i, tid)
		tables := len(f.Tables)
		if err := w.list(ctx, pid, tid, f); err != nil && !procfs.Gone(err) {
			return err
		}
		// A thread that is about to end has an empty one.
		if len(f.Tables) > tables && f.Tables[tables].Count == 0 {
			f.Tables = f.Tables[:tables]
		}
	}
	return nil
}

// single reports whether a process surely has one thread: the directory of its
// threads has a link for each, besides its own two (proc_task_getattr).
func (w *walker) single(pid int32) bool {
	var st unix.Stat_t
	return unix.Stat(taskDir(w.fs.Root(), pid, 0)+"/task", &st) == nil && st.Nlink == 2+1
}

func (w *walker) threadNetns(pid, tid int32, home uint32, f *Found) {
	inode, err := netnsOf(w.fs.Root(), pid, tid)
	if err != nil || inode == home {
		return
	}
	if !slices.ContainsFunc(f.ThreadNetns, func(n ThreadNetns) bool { return n.Inode == inode }) {
		f.ThreadNetns = append(f.ThreadNetns, ThreadNetns{tid, inode})
	}
}

// ownTable reports whether a thread has another table than all those known, and
// its place among them.
//
// Where kcmp(2) cannot be asked, a table counts as another if it has another
// size. A copy that happens to have as many descriptors as the original is then
// taken for the same.
func (w *walker) ownTable(pid, tid int32, known []int32) (place int, own bool) {
	if w.kcmp {
		var errno unix.Errno
		i, found := slices.BinarySearchFunc(known, tid, func(a, b int32) int {
			if a == 0 {
				a = pid
			}
			order, e := kcmpFiles(a, b)
			if e != 0 {
				errno = e
			}
			return order
		})
		switch errno {
		case 0:
			return i, !found
		case unix.ESRCH:
			return 0, false // it ended
		}
	}
	now, err := w.tally(pid, tid)
	if err != nil {
		return 0, false
	}
	return len(known), !slices.ContainsFunc(known, func(other int32) bool {
		t, err := w.tally(pid, other)
		return err == nil && t.Count == now.Count && t.Last == now.Last
	})
}

// kcmpFiles compares the descriptor tables of two threads: 0 for the same one,
// otherwise an order of its own that does not change (kcmp_ptr in
// kernel/kcmp.c).
func kcmpFiles(a, b int32) (int, unix.Errno) {
	const kcmpFiles = 2 // KCMP_FILES, enum kcmp_type in include/uapi/linux/kcmp.h
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpFiles, 0, 0, 0)
	switch {
	case errno != 0:
		return 0, errno
	case r == 1:
		return -1, 0
	case r == 2:
		return 1, 0
	}
	return 0, 0
}

// canKcmp reports whether kcmp works here and the ids in this proc file system
// are those of our own pid namespace, which it needs.
func canKcmp(fs procfs.FS) bool {
	self, err := os.Readlink(fs.Root() + "/self")
	if err != nil || self != strconv.Itoa(os.Getpid()) {
		return false
	}
	order, errno := kcmpFiles(int32(os.Getpid()), int32(os.Getpid()))
	return errno == 0 && order == 0
}

// netnsOf returns the inode of the network namespace of a thread, 0 for the
// main one.
func netnsOf(root string, pid, tid int32) (uint32, error) {
	var buf [64]byte
	path := taskDir(root, pid, tid) + "/ns/net"
	n, err := unix.Readlink(path, buf[:])
	if err != nil {
		return 0, &os.PathError{Op: "readlink", Path: path, Err: err}
	}
	inode, ok := linkInode(buf[:n], "net:[")
	if !ok {
		return 0, &os.PathError{Op: "readlink", Path: path, Err: unix.EINVAL}
	}
	return inode, nil
}
