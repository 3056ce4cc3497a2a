package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Enterer runs functions inside other network namespaces.
type Enterer struct {
	home  *os.File
	inode uint32
	dev   [2]uint32 // of nsfs, where every namespace is: major, minor
}

// NewEnterer remembers the calling process's namespace as the one to return to.
func NewEnterer() (*Enterer, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	st, err := statCached(int(home.Fd()))
	if err != nil {
		return nil, errors.Join(&os.PathError{Op: "stat", Path: home.Name(), Err: err}, home.Close())
	}
	return &Enterer{home: home, inode: uint32(st.Ino), dev: [2]uint32{st.Dev_major, st.Dev_minor}}, nil
}

// Close releases the namespace.
func (e *Enterer) Close() error { return e.home.Close() }

// Do runs f on a thread inside the namespace that ns stands for (setns(2), which
// needs CAP_SYS_ADMIN there and here). A thread that cannot return is thrown
// away: it must never run anything else in a foreign namespace.
func (e *Enterer) Do(ns *os.File, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(netns.NsHandle(ns.Fd())); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err := f()
		if netns.Set(netns.NsHandle(e.home.Fd())) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// errAnother says that a path leads to something else than the namespace looked
// for.
var errAnother = errors.New("it is another file by now")

// open opens the namespace with this inode, if it is at the end of path. Other
// users say what a path below /proc/PID/fd leads to, at any moment: to open a
// FIFO would hang, to open a device may do anything. So it is only pointed at
// first, which no driver notices (O_PATH), and opened when it is known to be
// what it should be.
func (e *Enterer) open(path string, inode uint32) (*os.File, error) {
	at, err := openRetry(path, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(at)
	st, err := statCached(at)
	if err != nil {
		return nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Ino != uint64(inode) || [2]uint32{st.Dev_major, st.Dev_minor} != e.dev {
		return nil, &os.PathError{Op: "open", Path: path, Err: errAnother}
	}
	fd, err := openRetry(fmt.Sprintf("/proc/thread-self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("reopen %s: %w", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func openRetry(path string, flags int) (fd int, err error) {
	for {
		if fd, err = unix.Open(path, flags, 0); err != unix.EINTR {
			return fd, err
		}
	}
}

// statCached asks for inode and device. It never waits for a file system that
// answers over a network or from another process (FUSE), as fstat(2) and
// fstatfs(2) do.
func statCached(fd int) (st unix.Statx_t, err error) {
	const flags = unix.AT_EMPTY_PATH | unix.AT_STATX_DONT_SYNC
	err = unix.Statx(fd, "", flags, unix.STATX_INO, &st)
	return st, err
}
