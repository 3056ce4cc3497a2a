package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// sizeofMsg is sizeof(struct inet_diag_msg).
const sizeofMsg = 4 + sizeofSockID + 20

var errTruncated = errors.New("truncated netlink message")

// errNoMemory says that a row has no memory information.
var errNoMemory = errors.New("no SKMEMINFO")

// message is one netlink message inside a received buffer.
type message struct {
	kind    uint16
	flags   uint16
	seq     uint32
	payload []byte
}

// nextMessage splits the first message off b. Lengths come from the kernel and
// are checked all the same: a wrong total must never look right.
func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < unix.SizeofNlMsghdr {
		return message{}, nil, errTruncated
	}
	size := binary.NativeEndian.Uint32(b)
	if size < unix.SizeofNlMsghdr || uint64(size) > uint64(len(b)) {
		return message{}, nil, fmt.Errorf("%w: length %d in a buffer of %d", errTruncated, size, len(b))
	}
	m = message{
		kind:    binary.NativeEndian.Uint16(b[4:]),
		flags:   binary.NativeEndian.Uint16(b[6:]),
		seq:     binary.NativeEndian.Uint32(b[8:]),
		payload: b[unix.SizeofNlMsghdr:size],
	}
	return m, b[min(align4(int(size)), len(b)):], nil
}

// errno reads the code of NLMSG_ERROR or NLMSG_DONE: 0, or a negative errno.
// The kernel ends a dump that failed half way with a negative DONE.
func errno(payload []byte) error {
	if len(payload) < 4 {
		return errTruncated
	}
	code := int32(binary.NativeEndian.Uint32(payload))
	if code == 0 {
		return nil
	}
	if code > 0 || code < -4095 {
		return fmt.Errorf("netlink answered error code %d", code)
	}
	return unix.Errno(-code)
}

// parseSocket fills s from the payload of one row: struct inet_diag_msg and its
// attributes. A mini socket of TIME_WAIT, which a dump also shows under the
// FIN_WAIT2 bit, comes out as TimeWait: it is the only row without memory
// information (inet_diag_msg_attrs_fill is for full sockets only). A socket that
// is bound and nothing more comes out as BoundInactive.
// Class, Evidence, Owner and Netns are left alone.
func parseSocket(b []byte, s *reading.Socket) error {
	if len(b) < sizeofMsg {
		return fmt.Errorf("%w: %d bytes of a socket", errTruncated, len(b))
	}
	s.State = reading.State(b[1])
	s.Timer, s.Retrans = b[2], b[3]
	sport, dport := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	switch b[0] {
	case unix.AF_INET:
		s.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:12])), sport)
		s.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[24:28])), dport)
	case unix.AF_INET6:
		s.Local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), sport)
		s.Remote = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), dport)
	default:
		return fmt.Errorf("socket of address family %d", b[0])
	}
	s.Interface = binary.NativeEndian.Uint32(b[40:])
	s.Cookie = reading.Cookie(binary.NativeEndian.Uint32(b[44:])) |
		reading.Cookie(binary.NativeEndian.Uint32(b[48:]))<<32
	s.TimerExpires = binary.NativeEndian.Uint32(b[52:])
	s.Rqueue = binary.NativeEndian.Uint32(b[56:])
	s.Wqueue = binary.NativeEndian.Uint32(b[60:])
	s.UID = binary.NativeEndian.Uint32(b[64:])
	s.Inode = binary.NativeEndian.Uint32(b[68:])

	if s.State == reading.Close && s.Remote.Port() == 0 && !s.MPTCP {
		// What bit 13 asks for comes with its real state (inet_diag_dump_icsk).
		s.State = reading.BoundInactive
	}

	s.Mem = reading.SkMem{}
	s.CgroupID = 0
	hasMem := false
	for attrs := b[sizeofMsg:]; len(attrs) > 0; {
		kind, value, rest, err := nextAttr(attrs)
		if err != nil {
			return err
		}
		switch kind {
		case netlink.INET_DIAG_SKMEMINFO:
			if !parseSkMem(value, &s.Mem) {
				return fmt.Errorf("%w: %d bytes of SKMEMINFO", errTruncated, len(value))
			}
			hasMem = true
		case netlink.INET_DIAG_CGROUP_ID:
			if len(value) < 8 {
				return fmt.Errorf("%w: %d bytes of CGROUP_ID", errTruncated, len(value))
			}
			s.CgroupID = binary.NativeEndian.Uint64(value)
		}
		attrs = rest
	}
	if !hasMem {
		const timerTimeWait = 3 // only mini sockets have it (inet_twsk_diag_fill)
		if s.Timer != timerTimeWait {
			return fmt.Errorf("socket in state %v: %w", s.State, errNoMemory)
		}
		s.State = reading.TimeWait
	}
	return nil
}

// parseSkMem fills m from an array of SK_MEMINFO_* values. Drops came with
// Linux 4.6 and may be absent; the values before it are the floor.
func parseSkMem(b []byte, m *reading.SkMem) bool {
	const floor = 8 * 4
	if len(b) < floor {
		return false
	}
	u32 := func(i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
	*m = reading.SkMem{
		RmemAlloc: u32(0), Rcvbuf: u32(1), WmemAlloc: u32(2), Sndbuf: u32(3),
		FwdAlloc: int32(u32(4)), WmemQueued: u32(5), Optmem: u32(6), Backlog: u32(7),
	}
	if len(b) >= floor+4 {
		m.Drops = u32(8)
	}
	return true
}

// parseMemInfo reads what getsockopt(SO_MEMINFO) gives: the same array
// (sk_get_meminfo in net/core/sock.c).
func parseMemInfo(b []byte) (reading.SkMem, error) {
	var m reading.SkMem
	if !parseSkMem(b, &m) {
		return m, fmt.Errorf("%w: %d bytes of SO_MEMINFO", errTruncated, len(b))
	}
	return m, nil
}

// SkMemOf asks a socket of our own, or one that was fetched, for its memory.
func SkMemOf(fd int) (reading.SkMem, error) {
	var b [16 * 4]byte
	size := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return reading.SkMem{}, fmt.Errorf("ask memory: %w", errno)
	}
	return parseMemInfo(b[:size])
}

// nextAttr splits the first netlink attribute (struct nlattr) off b.
func nextAttr(b []byte) (kind uint16, value, rest []byte, err error) {
	const header = 4
	if len(b) < header {
		return 0, nil, nil, fmt.Errorf("%w: %d bytes of an attribute", errTruncated, len(b))
	}
	size := int(binary.NativeEndian.Uint16(b))
	if size < header || size > len(b) {
		return 0, nil, nil, fmt.Errorf("%w: attribute length %d in %d", errTruncated, size, len(b))
	}
	const typeMask = 0x3fff // without NLA_F_NESTED and NLA_F_NET_BYTEORDER
	kind = binary.NativeEndian.Uint16(b[2:]) & typeMask
	return kind, b[header:size], b[min(align4(size), len(b)):], nil
}

func align4(n int) int { return (n + 3) &^ 3 }
