package victims

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims/victimstest"
)

// namespaceOf names the namespace of a process by its inode alone.
func namespaceOf(t *testing.T, pid int) (reading.NetnsID, int) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &st); err != nil {
		t.Fatal(err)
	}
	return reading.NetnsID{Inode: uint32(st.Ino)}, pid
}

// within runs functions in the namespace of a process, on threads that end.
func within(t *testing.T, pid int) func(func() error) error {
	return func(f func() error) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			file, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err == nil {
				defer file.Close()
				err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
			}
			if err == nil {
				err = f()
			}
			done <- err
		}()
		return <-done
	}
}

func loDown() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// connected connects two sockets in the calling thread's namespace.
func connected() (fds []int, err error) {
	for range 2 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		fds = append(fds, fd)
	}
	home := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(fds[1], home), unix.Listen(fds[1], 1)); err != nil {
		return nil, err
	}
	at, err := unix.Getsockname(fds[1])
	if err == nil {
		err = unix.Connect(fds[0], at)
	}
	return fds, err
}

// disconnect is connect(2) to AF_UNSPEC, which package unix does not offer.
func disconnect(fd int) error {
	var sa unix.RawSockaddr
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if errno != 0 {
		return errno
	}
	return nil
}

// fill writes until nothing more is taken.
func fill(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	for {
		switch _, err := unix.Write(fd, chunk); err {
		case nil:
		case unix.EAGAIN:
			return nil
		default:
			return err
		}
	}
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// socketOf finds the row of a descriptor of the test.
func socketOf(t *testing.T, n victimstest.Place, fd int) scene.Socket {
	t.Helper()
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	row, ok := n.Rows(t)[reading.Cookie(cookie)]
	if !ok {
		t.Fatalf("no row with cookie %d", cookie)
	}
	return scene.Socket{Cookie: row.Cookie, State: row.State, Class: reading.Owned}
}
