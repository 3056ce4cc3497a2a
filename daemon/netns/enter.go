package netns

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Enterer runs functions inside other network namespaces.
type Enterer struct {
	home *os.File
}

// NewEnterer remembers the calling process's namespace as the one to return to.
func NewEnterer() (*Enterer, error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open own network namespace: %w", err)
	}
	return &Enterer{home: home}, nil
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

// inodeOf returns the inode number of an open namespace file.
func inodeOf(f *os.File) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, &os.PathError{Op: "fstat", Path: f.Name(), Err: err}
	}
	return uint32(st.Ino), nil
}
