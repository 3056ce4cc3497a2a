package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Bounds of the probe: the queue takes about 1 ms to fill, and what the kernel
// destroys is gone before it acknowledges.
const (
	probeTimeout = 5 * time.Second
	probePause   = 10 * time.Millisecond
	probeVanish  = 500 * time.Millisecond
)

// ProbeOrphans finds out by doing whether an orphan that is destroyed vanishes.
// Before "tcp: fix forever orphan socket caused by tcp_abort" (August 2024, in
// stable kernels later) the abort of a zero-window orphan purged its queue and
// its timers, and left the orphan for ever: no such kernel may be asked to
// destroy orphans. No version says so, distributions carry the fix or do not.
//
// The orphan is made and destroyed in a network namespace of its own, on a
// thread that ends with it: CAP_SYS_ADMIN and CAP_NET_ADMIN are needed. An
// error means that it could not be told. Where the answer is no, one orphan
// without memory stays behind, with its namespace.
func ProbeOrphans(ctx context.Context) (vanish bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		vanish, err = probeOrphan(ctx)
	}()
	<-done
	if err != nil {
		return false, fmt.Errorf("probe whether destroyed orphans vanish: %w", err)
	}
	return vanish, nil
}

// probeOrphan moves the calling thread into a new namespace.
func probeOrphan(ctx context.Context) (bool, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return false, os.NewSyscallError("unshare", err)
	}
	if err := loopbackUp(); err != nil {
		return false, fmt.Errorf("bring lo up: %w", err)
	}
	sender, receiver, err := probePair()
	if err != nil {
		return false, err
	}
	defer unix.Close(receiver)
	local, remote, err := ends(sender)
	if err == nil {
		err = probeFill(ctx, sender)
	}
	// With its queue unsent, for the other end does not read.
	unix.Close(sender)
	if err != nil {
		return false, err
	}

	c, err := Open(NewBuffer())
	if err != nil {
		return false, err
	}
	defer c.Close()
	var orphan reading.Socket
	if err := c.Find(ctx, local, remote, 0, &orphan); err != nil {
		return false, err
	}
	if orphan.State != reading.FinWait1 || orphan.Inode != 0 || orphan.Mem.WmemQueued == 0 {
		return false, fmt.Errorf("no orphan was made: it is in %v with %d bytes unsent", orphan.State, orphan.Mem.WmemQueued)
	}
	outcomes, err := c.Destroy(ctx, []reading.Socket{orphan})
	if err == nil {
		err = outcomes[0]
	}
	if err != nil {
		return false, err
	}
	for until := time.Now().Add(probeVanish); ; {
		var left reading.Socket
		err := c.Find(ctx, local, remote, 0, &left)
		switch {
		case errors.Is(err, ErrNotFound):
			return true, nil
		case err != nil:
			return false, err
		case time.Now().After(until):
			return false, nil
		}
		if err := pause(ctx, probePause); err != nil {
			return false, err
		}
	}
}

// probePair connects two sockets with small buffers over lo.
func probePair() (sender, receiver int, err error) {
	const buffer = 4 << 10
	const flags = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	listener, err := unix.Socket(unix.AF_INET, flags, 0)
	if err != nil {
		return 0, 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(listener)
	home := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	err = errors.Join(unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer),
		unix.Bind(listener, home), unix.Listen(listener, 1))
	if err != nil {
		return 0, 0, fmt.Errorf("listen: %w", err)
	}
	at, err := unix.Getsockname(listener)
	if err != nil {
		return 0, 0, os.NewSyscallError("getsockname", err)
	}
	if sender, err = unix.Socket(unix.AF_INET, flags, 0); err != nil {
		return 0, 0, os.NewSyscallError("socket", err)
	}
	err = errors.Join(unix.SetsockoptInt(sender, unix.SOL_SOCKET, unix.SO_SNDBUF, buffer), unix.Connect(sender, at))
	if err == nil {
		receiver, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	if err != nil {
		unix.Close(sender)
		return 0, 0, fmt.Errorf("connect over lo: %w", err)
	}
	return sender, receiver, nil
}

// probeFill writes until neither the window nor the queue has taken anything
// for a few pauses: acknowledgements are still under way after the first EAGAIN.
func probeFill(ctx context.Context, fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	chunk := make([]byte, 4<<10)
	for quiet := 0; quiet < 3; {
		_, err := unix.Write(fd, chunk)
		switch err {
		case nil:
			quiet = 0
		case unix.EAGAIN:
			quiet++
			if err := pause(ctx, probePause); err != nil {
				return err
			}
		default:
			return os.NewSyscallError("write", err)
		}
	}
	return nil
}

func ends(fd int) (local, remote netip.AddrPort, err error) {
	l, err := unix.Getsockname(fd)
	if err != nil {
		return local, remote, os.NewSyscallError("getsockname", err)
	}
	r, err := unix.Getpeername(fd)
	if err != nil {
		return local, remote, os.NewSyscallError("getpeername", err)
	}
	return toAddrPort(l), toAddrPort(r), nil
}

func toAddrPort(sa unix.Sockaddr) netip.AddrPort {
	v4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
}

// loopbackUp brings lo up in the calling thread's namespace (netdevice(7)).
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("ioctl SIOCSIFFLAGS", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
