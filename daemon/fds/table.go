package fds

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
)

// Table is a descriptor table of a process, as far as it tells whether it
// changed.
type Table struct {
	TID   int32 // thread by which it is reached, 0 for the main one
	Count int64 // open descriptors
	Last  int32 // the highest of them, -1 for none or where it was not asked
}

func (t *Table) add(fd int32) {
	t.Count++
	t.Last = max(t.Last, fd)
}

// changed reports whether any of the tables looks another than it did.
func (w *walker) changed(pid int32, tables []Table) bool {
	for _, t := range tables {
		now, err := w.tally(pid, t.TID)
		switch {
		case err != nil && t.TID == 0:
			return false // gone, or unreadable as before
		case err != nil:
			return true // that thread ended: another may have the table
		case now.Count != t.Count || !w.sized && now.Last != t.Last:
			return true
		}
	}
	return false
}

// tally asks how many descriptors a table has. Linux 6.2 and later says so in
// the size of the directory (proc_fd_getattr in fs/proc/fd.c); earlier ones
// must list it, which without readlink costs a third of a reading.
func (w *walker) tally(pid, tid int32) (Table, error) {
	dir := tableDir(w.fs.Root(), pid, tid)
	t := Table{TID: tid, Last: -1}
	if w.sized {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err != nil {
			return t, &os.PathError{Op: "stat", Path: dir, Err: err}
		}
		t.Count = st.Size
		return t, nil
	}
	fd, err := openDir(dir)
	if err != nil {
		return t, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Getdents(fd, w.dents)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return t, &os.PathError{Op: "getdents", Path: dir, Err: err}
		case n == 0:
			return t, nil
		}
		for name, err := range procfs.Dirents(w.dents[:n]) {
			if err != nil {
				return t, &os.PathError{Op: "list", Path: dir, Err: err}
			}
			if fd, ok := decimal(name); ok {
				t.add(int32(fd))
			}
		}
	}
}

// sized reports whether the size of a descriptor directory is the number of
// descriptors: asked of ourselves, who have some.
func sized(fs procfs.FS) bool {
	var st unix.Stat_t
	return unix.Stat(fs.Root()+"/self/fd", &st) == nil && st.Size > 0
}

func tableDir(root string, pid, tid int32) string { return taskDir(root, pid, tid) + "/fd" }

// taskDir is the directory of a thread, 0 for the process itself.
func taskDir(root string, pid, tid int32) string {
	dir := root + "/" + strconv.Itoa(int(pid))
	if tid != 0 {
		dir += "/task/" + strconv.Itoa(int(tid))
	}
	return dir
}

func openDir(dir string) (int, error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		return fd, nil
	}
}
