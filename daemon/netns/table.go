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
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Namespace is one network namespace. The goroutine that scans owns it; what
// Sample reads and writes is guarded by the table's mutex.
type Namespace struct {
	ID   reading.NetnsID
	Home bool // the daemon's own

	holders
	touched uint32
	asked   bool    // for ID.Cookie
	failed  holders // with these it could not be entered or read
	retry   uint32  // the turn in which it is tried with the same ones again

	files   files
	last    procfs.TCPExt
	hasLast bool
	inuse   int64
	mptcp   *int64 // nil: not read yet, or the kernel has no MPTCP
	problem error  // why it cannot be read, nil where it can
}

// holders are what holds a namespace, and leads to it.
type holders struct {
	pid     int32              // a process in it, 0 where there is none
	mount   string             // a bind mount of it, "" where there is none
	keepers [maxKeepers]keeper // processes with a descriptor of it, the latest first
}

// maxKeepers is how many descriptors of one namespace are remembered. Whoever
// holds one may put another file into its place at any moment: a single one
// could hide a namespace that others keep.
const maxKeepers = 4

// keeper holds a namespace open by a descriptor, or is a thread in it.
type keeper struct{ pid, fd int32 }

// aThread in the place of a descriptor.
const aThread = -1

// Table knows the namespaces. Sample and Totals may be called while another
// goroutine scans: everything else belongs to that one.
type Table struct {
	fs     procfs.FS
	enter  *Enterer
	opener func(path string, inode uint32) (*os.File, error)
	mounts []*mounts
	list   map[uint32]*Namespace
	stale  bool // order is not what list has
	home   uint32
	turn   uint32

	// mu is never held while a path is opened or a namespace entered, so that
	// Sample does not wait for either.
	mu       sync.Mutex
	order    []*Namespace // by inode
	next     int          // in order, for sockstat
	nextStat int          // in order, for netstat
	budget   time.Duration
	total    procfs.TCPExt // since the table was opened
}

// Open opens a table over a proc file system; the namespaces that bind mounts
// keep are looked for in this process's mount namespace and in that of PID 1.
func Open(fs procfs.FS) (*Table, error) {
	enter, err := NewEnterer()
	if err != nil {
		return nil, err
	}
	t := &Table{
		fs: fs, enter: enter, opener: enter.open, home: enter.inode,
		list: map[uint32]*Namespace{}, budget: netstatBudget,
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
	t.turn++
	t.touch(t.home)
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
	var gone []*Namespace
	for inode, n := range t.list {
		kept := t.kept(n)
		if n.touched == t.turn || kept {
			continue
		}
		delete(t.list, inode)
		t.stale = true
		gone = append(gone, n)
	}
	t.publish()
	for _, n := range gone {
		t.replace(n, files{}, nil)
	}
	for _, n := range t.order {
		t.learn(n)
	}
	return errors.Join(errs...)
}

// publish shows Sample the list.
func (t *Table) publish() {
	if !t.stale {
		return
	}
	order := slices.SortedFunc(maps.Values(t.list), func(a, b *Namespace) int {
		return cmp.Compare(a.ID.Inode, b.ID.Inode)
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.order, t.stale = order, false
}

// touch finds or makes the namespace and clears, once a turn, what held it.
func (t *Table) touch(inode uint32) *Namespace {
	n, ok := t.list[inode]
	if !ok {
		n = &Namespace{ID: reading.NetnsID{Inode: inode}, Home: inode == t.home}
		t.list[inode] = n
		t.stale = true
	}
	if n.touched != t.turn {
		n.touched = t.turn
		n.pid, n.mount = 0, ""
	}
	return n
}

// kept: a descriptor that was seen still stands for the namespace. Others are
// forgotten.
func (t *Table) kept(n *Namespace) bool {
	if n.touched != t.turn {
		n.pid, n.mount = 0, ""
	}
	var still [maxKeepers]keeper
	count := 0
	for _, k := range n.keepers {
		if k.pid == 0 {
			break
		}
		if link, err := os.Readlink(t.keeperPath(k)); err == nil && link == n.link() {
			still[count] = k
			count++
		}
	}
	n.keepers = still
	return count > 0
}

// learn asks for the namespace's cookie and opens its counters, both once.
// Where that fails it is tried again when another process, mount or descriptor
// holds the namespace, and else only now and then.
func (t *Table) learn(n *Namespace) {
	const rest = 64 // turns
	if n.asked && n.files.sockstat != nil {
		return
	}
	if n.retry != 0 && t.turn < n.retry && n.failed == n.holders {
		return
	}
	n.retry = 0
	if !n.asked {
		n.asked = t.learnCookie(n)
	}
	if n.files.sockstat == nil {
		f, err := t.openFiles(n)
		t.replace(n, f, err)
	}
	if !n.asked || n.files.sockstat == nil {
		n.failed, n.retry = n.holders, t.turn+rest
	}
}

// replace gives the namespace other files.
func (t *Table) replace(n *Namespace, f files, problem error) {
	t.mu.Lock()
	f, n.files, n.problem = n.files, f, problem
	t.mu.Unlock()
	f.close()
}

// link is the text of a link to the namespace (nsfs, ns_get_name).
func (n *Namespace) link() string { return fmt.Sprintf("net:[%d]", n.ID.Inode) }

func (t *Table) keeperPath(k keeper) string {
	if k.fd == aThread {
		return fmt.Sprintf("%s/%d/ns/net", t.fs.Root(), k.pid)
	}
	return fmt.Sprintf("%s/%d/fd/%d", t.fs.Root(), k.pid, k.fd)
}

// Keep records a descriptor of a namespace, found while reading a process, or
// one of its threads that has a table of its own: pid may be a thread's. It
// reports whether the namespace was not known before.
func (t *Table) Keep(inode uint32, pid, fd int32) bool {
	n, ok := t.list[inode]
	if !ok {
		n = t.touch(inode)
		t.publish()
	}
	if k := (keeper{pid, fd}); !slices.Contains(n.keepers[:], k) {
		copy(n.keepers[1:], n.keepers[:])
		n.keepers[0] = k
		if n.pid == 0 && n.mount == "" { // else it cannot be of help
			t.learn(n)
		}
	}
	return !ok
}

// KeepThread records a thread in another namespace than its process's main
// thread, as Keep does a descriptor.
func (t *Table) KeepThread(inode uint32, tid int32) bool { return t.Keep(inode, tid, aThread) }

// All lists the namespaces by inode.
func (t *Table) All() []*Namespace { return slices.Clone(t.order) }

// open opens the namespace through whatever holds it.
func (t *Table) open(n *Namespace) (*os.File, error) {
	var paths []string
	if n.pid != 0 {
		paths = append(paths, t.fs.Root()+"/"+strconv.Itoa(int(n.pid))+"/ns/net")
	}
	if n.mount != "" {
		paths = append(paths, n.mount)
	}
	for _, k := range n.keepers {
		if k.pid != 0 {
			paths = append(paths, t.keeperPath(k))
		}
	}
	failed := &openError{inode: n.ID.Inode}
	for _, path := range paths {
		f, err := t.opener(path, n.ID.Inode)
		if err == nil {
			return f, nil
		}
		failed.errs = append(failed.errs, err)
	}
	return nil, failed
}

// openError says why a namespace could not be opened, for each of the paths.
type openError struct {
	inode uint32
	errs  []error
}

func (e *openError) Error() string {
	err := errors.Join(e.errs...)
	if err == nil {
		err = errors.New("nothing holds it any more")
	}
	return fmt.Sprintf("open network namespace %d: %v", e.inode, err)
}

func (e *openError) Unwrap() []error { return e.errs }

// gone: each path is known to lead there no more. A daemon out of descriptors
// or memory knows nothing of the kind.
func (e *openError) gone() bool {
	return !slices.ContainsFunc(e.errs, func(err error) bool {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) && !errors.Is(err, errAnother)
	})
}

// Gone reports whether nothing holds the namespace any more by which it could
// be opened; one that cannot be opened for any other reason is not gone.
func (t *Table) Gone(n *Namespace) bool {
	if n.Home {
		return false
	}
	f, err := t.open(n)
	if err == nil {
		_ = f.Close()
		return false
	}
	failed, ok := errors.AsType[*openError](err)
	return ok && failed.gone()
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
