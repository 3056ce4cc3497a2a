// Package netns finds the network namespaces of the host, reads their
// counters and runs code in them. The pool of TCP memory is one for the whole
// host, but sockets are listed and most counters kept per namespace.
package netns

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Namespace is one network namespace.
type Namespace struct {
	ID   reading.NetnsID
	Home bool // the daemon's own

	pid     int32  // a process in it, 0 where there is none
	mount   string // a bind mount of it, "" where there is none
	keeper  keeper // a process with a descriptor of it
	touched uint32
	asked   bool // for ID.Cookie

	files   files
	last    procfs.TCPExt
	hasLast bool
	inuse   int64
	problem error // why it cannot be read, nil where it can
}

// keeper holds a namespace open by a descriptor.
type keeper struct{ pid, fd int32 }

// files are kept open: opening them anew would cost five times as much. An open
// file of /proc/net pins its namespace, so Refresh closes them as soon as
// neither process nor mount nor descriptor holds it.
type files struct {
	sockstat  *procfs.SockstatFile
	sockstat6 *procfs.Sockstat6File
	netstat   *procfs.NetstatFile
}

func (f *files) close() {
	_ = f.sockstat.Close()
	_ = f.sockstat6.Close()
	_ = f.netstat.Close()
	*f = files{}
}

// Table knows the namespaces. Sample and Totals may be called while another
// goroutine scans: everything else belongs to that one.
type Table struct {
	fs     procfs.FS
	enter  *Enterer
	mounts []*mounts

	mu    sync.Mutex // guards what follows, and the namespaces
	list  map[uint32]*Namespace
	order []*Namespace // by inode
	home  uint32
	turn  uint32
	next  int
	total procfs.TCPExt // since the table was opened
}

// Open opens a table over a proc file system; the namespaces that bind mounts
// keep are looked for in this process's mount namespace and in that of PID 1.
func Open(fs procfs.FS) (*Table, error) {
	enter, err := NewEnterer()
	if err != nil {
		return nil, err
	}
	t := &Table{fs: fs, enter: enter, list: map[uint32]*Namespace{}}
	if t.home, err = inodeOf(enter.home); err != nil {
		return nil, errors.Join(err, enter.Close())
	}
	own, err := openMounts(fs.Root()+"/self/mountinfo", "")
	if err != nil {
		return nil, errors.Join(err, enter.Close())
	}
	t.mounts = append(t.mounts, own)
	if !sameFile(fs.Root()+"/self/ns/mnt", fs.Root()+"/1/ns/mnt") {
		if first, err := openMounts(fs.Root()+"/1/mountinfo", fs.Root()+"/1/root"); err == nil {
			t.mounts = append(t.mounts, first)
		}
	}
	return t, nil
}

func sameFile(a, b string) bool {
	var x, y unix.Stat_t
	if unix.Stat(a, &x) != nil || unix.Stat(b, &y) != nil {
		return true // cannot be told, so cannot be read either
	}
	return x.Ino == y.Ino && x.Dev == y.Dev
}

// Close closes everything that the table holds open.
func (t *Table) Close() error {
	for _, n := range t.list {
		n.files.close()
	}
	for _, m := range t.mounts {
		_ = m.Close()
	}
	return t.enter.Close()
}

// Member is a process as Refresh needs it.
type Member struct {
	PID   int32
	Netns uint32
}

// Refresh takes the processes of the host and finds its namespaces. One that no
// process, mount or descriptor holds any more is let go of.
func (t *Table) Refresh(members func(yield func(Member) bool)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++
	t.touch(t.home).Home = true
	for m := range members {
		if m.Netns == 0 {
			continue
		}
		if n := t.touch(m.Netns); n.pid == 0 {
			n.pid = m.PID
		}
	}
	var errs []error
	for _, m := range t.mounts {
		list, err := m.refresh()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for inode, path := range list {
			t.touch(inode).mount = path
		}
	}
	for inode, n := range t.list {
		if n.touched == t.turn || t.kept(n) {
			continue
		}
		n.files.close()
		delete(t.list, inode)
		t.order = nil
	}
	if t.order == nil {
		t.sort()
	}
	for _, n := range t.order {
		t.learnCookie(n)
	}
	return errors.Join(errs...)
}

func (t *Table) sort() {
	t.order = slices.SortedFunc(maps.Values(t.list), func(a, b *Namespace) int {
		return cmp.Compare(a.ID.Inode, b.ID.Inode)
	})
}

// touch finds or makes the namespace and clears, once a turn, what held it.
func (t *Table) touch(inode uint32) *Namespace {
	n, ok := t.list[inode]
	if !ok {
		n = &Namespace{ID: reading.NetnsID{Inode: inode}}
		t.list[inode] = n
		t.order = nil
	}
	if n.touched != t.turn {
		n.touched = t.turn
		n.pid, n.mount = 0, ""
	}
	return n
}

// kept: a descriptor that was seen still stands for the namespace.
func (t *Table) kept(n *Namespace) bool {
	if n.keeper.pid == 0 {
		return false
	}
	n.pid, n.mount = 0, ""
	link, err := os.Readlink(t.keeperPath(n.keeper))
	return err == nil && link == n.link()
}

// link is the text of a link to the namespace (nsfs, ns_get_name).
func (n *Namespace) link() string { return fmt.Sprintf("net:[%d]", n.ID.Inode) }

func (t *Table) keeperPath(k keeper) string {
	return fmt.Sprintf("%s/%d/fd/%d", t.fs.Root(), k.pid, k.fd)
}

// Keep records a descriptor of a namespace, found while reading a process. It
// reports whether the namespace was not known before.
func (t *Table) Keep(inode uint32, pid, fd int32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, ok := t.list[inode]
	if !ok {
		n = t.touch(inode)
		t.sort()
	}
	n.keeper = keeper{pid, fd}
	t.learnCookie(n)
	return !ok
}

// All lists the namespaces by inode.
func (t *Table) All() []*Namespace {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.order)
}

// open opens the namespace through whatever holds it.
func (t *Table) open(n *Namespace) (*os.File, error) {
	var paths []string
	if n.pid != 0 {
		paths = append(paths, t.fs.Root()+"/"+strconv.Itoa(int(n.pid))+"/ns/net")
	}
	if n.mount != "" {
		paths = append(paths, n.mount)
	}
	if n.keeper.pid != 0 {
		paths = append(paths, t.keeperPath(n.keeper))
	}
	errs := []error{fmt.Errorf("open network namespace %d: nothing holds it any more", n.ID.Inode)}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		inode, err := inodeOf(f)
		if err == nil && inode == n.ID.Inode {
			return f, nil
		}
		_ = f.Close()
		errs = append(errs, fmt.Errorf("open %s: it is another namespace by now", path))
	}
	return nil, errors.Join(errs...)
}

// Gone reports whether nothing holds the namespace any more by which it could
// be opened; one that may not be opened is not gone.
func (t *Table) Gone(n *Namespace) bool {
	if n.Home {
		return false
	}
	f, err := t.open(n)
	if err == nil {
		_ = f.Close()
		return false
	}
	return !errors.Is(err, fs.ErrPermission)
}

// Do runs f on a thread inside the namespace.
func (t *Table) Do(n *Namespace, f func() error) error {
	if n.Home {
		return f()
	}
	ns, err := t.open(n)
	if err != nil {
		return err
	}
	defer ns.Close()
	return t.enter.Do(ns, f)
}
