package scene

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// netnsDir is on a tmpfs: what a killed program leaves does not outlive a boot.
const netnsDir = "/run"

// Netns is a network namespace with lo up. Nothing but the bind mount at Path
// keeps it: no process and no descriptor of this one.
type Netns struct {
	reading.NetnsID
	Path string // of the bind mount
}

// MakeNetns makes a namespace and mounts it in /run. It needs CAP_SYS_ADMIN
// and CAP_NET_ADMIN. Remove it with Remove.
func MakeNetns() (*Netns, error) {
	for _, path := range abandoned(netnsDir) {
		_ = (&Netns{Path: path}).Remove() // what cannot be cleared up is not in the way
	}
	name, err := litterName()
	if err != nil {
		return nil, fmt.Errorf("make netns: %w", err)
	}
	return MakeNetnsAt(filepath.Join(netnsDir, name))
}

// MakeNetnsAt is MakeNetns with a path of the caller's choice, which must not exist.
func MakeNetnsAt(path string) (*Netns, error) {
	ns := &Netns{Path: path}
	done := make(chan error, 1)
	onOwnThread(func() { done <- ns.make() })
	if err := <-done; err != nil {
		return nil, fmt.Errorf("make netns: %w", err)
	}
	return ns, nil
}

// make runs on a thread that ends afterwards.
func (ns *Netns) make() error {
	// Checked first: unshare cannot be taken back.
	f, err := os.OpenFile(ns.Path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	if err := ns.mount(); err != nil {
		_ = os.Remove(ns.Path)
		return err
	}
	return nil
}

func (ns *Netns) mount() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	own := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	n, err := inode(own)
	if err != nil {
		return err
	}
	ns.Inode = uint32(n)
	if ns.Cookie, err = netnsCookie(); err != nil {
		return err
	}
	if err := unix.Mount(own, ns.Path, "", unix.MS_BIND, ""); err != nil {
		return &os.PathError{Op: "mount", Path: ns.Path, Err: err}
	}
	return nil
}

// netnsCookie is SO_NETNS_COOKIE (>= 5.14) of the calling thread's namespace,
// 0 where the kernel has none.
func netnsCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err == unix.ENOPROTOOPT {
		return 0, nil
	}
	return cookie, os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
}

// Do runs f on a thread inside the namespace and waits for it. The thread ends
// with f: goroutines that f starts run outside.
func (ns *Netns) Do(f func() error) error {
	done := make(chan error, 1)
	onOwnThread(func() {
		err := ns.enter()
		if err == nil {
			err = f()
		}
		done <- err
	})
	return <-done
}

// enter moves the calling thread.
func (ns *Netns) enter() error {
	h, err := netns.GetFromPath(ns.Path)
	if err == nil {
		defer func() { _ = h.Close() }()
		err = netns.Set(h)
	}
	if err != nil {
		return fmt.Errorf("enter netns %s: %w", ns.Path, err)
	}
	return nil
}

// Remove takes the mount away. The namespace lives on while something else is
// in it.
func (ns *Netns) Remove() error {
	if err := unix.Unmount(ns.Path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return &os.PathError{Op: "unmount", Path: ns.Path, Err: err}
	}
	if err := os.Remove(ns.Path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
