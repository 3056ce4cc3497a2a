package scene

import (
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// openSocket makes a stream socket that closes on exec.
func openSocket(family Family, mptcp bool) (int, error) {
	domain, protocol := unix.AF_INET, unix.IPPROTO_TCP
	if family != IPv4 {
		domain = unix.AF_INET6
	}
	if mptcp {
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	return fd, nil
}

// setBuffers sets the sizes that are not 0, beyond net.core.[rw]mem_max where
// CAP_NET_ADMIN allows it.
func setBuffers(fd, send, receive int) error {
	for _, b := range []struct{ size, force, plain int }{
		{send, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
		{receive, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF},
	} {
		if b.size == 0 {
			continue
		}
		// In the kernel the doubled size is an int.
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.force, b.size) == nil {
			continue
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, b.plain, b.size); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

// setReset makes close(2) send a reset and free both queues: no FIN, no orphan
// and no TIME_WAIT (socket(7), SO_LINGER with a time of 0).
func setReset(fd int) error {
	return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// skMem reads SO_MEMINFO (sk_get_meminfo in net/core/sock.c, >= 4.12): 9 words,
// in the order of SK_MEMINFO_* in include/uapi/linux/sock_diag.h.
func skMem(fd int) (reading.SkMem, error) {
	var words [9]uint32
	size := uint32(unsafe.Sizeof(words))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&words)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return reading.SkMem{}, os.NewSyscallError("getsockopt SO_MEMINFO", errno)
	}
	if size < uint32(unsafe.Sizeof(words)) {
		return reading.SkMem{}, fmt.Errorf("getsockopt SO_MEMINFO: %d bytes", size)
	}
	return toSkMem(words), nil
}

func toSkMem(w [9]uint32) reading.SkMem {
	return reading.SkMem{
		RmemAlloc: w[0], Rcvbuf: w[1], WmemAlloc: w[2], Sndbuf: w[3], FwdAlloc: int32(w[4]),
		WmemQueued: w[5], Optmem: w[6], Backlog: w[7], Drops: w[8],
	}
}

// cookieOf reads SO_COOKIE, which also makes the kernel give the socket one.
func cookieOf(fd int) (reading.Cookie, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	return reading.Cookie(c), os.NewSyscallError("getsockopt SO_COOKIE", err)
}

// inodeOf is the number in the "socket:[N]" of /proc/PID/fd.
func inodeOf(fd int) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, os.NewSyscallError("fstat", err)
	}
	return uint32(st.Ino), nil
}

// toSockaddr gives the address in the form that a socket of the family wants.
func toSockaddr(family Family, a netip.AddrPort) unix.Sockaddr {
	if family == IPv4 {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// fromSockaddr keeps a v4-mapped address as it is: so the kernel shows it.
func fromSockaddr(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return fromSockaddr(sa), nil
}

func remoteAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getpeername", err)
	}
	return fromSockaddr(sa), nil
}

// home is the loopback address of a process: 127.x.y.1 by its pid, so that
// many processes have all ephemeral ports for themselves. Two processes on one
// address do no harm: ports are the kernel's choice.
func home(family Family, pid int) netip.Addr {
	v4 := netip.AddrFrom4([4]byte{127, byte(1 + pid>>8%254), byte(pid), 1})
	switch family {
	case IPv6:
		return netip.IPv6Loopback()
	case Mapped:
		return netip.AddrFrom16(v4.As16())
	}
	return v4
}

func wildcard(family Family) netip.Addr {
	if family == IPv4 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
