package main

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// bareLoop is the floor: the same request as a dump, its answer received into
// one buffer and not looked at beyond the end mark.
func bareLoop() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return fmt.Errorf("open sock_diag: %w", err)
	}
	defer unix.Close(fd)
	// struct nlmsghdr, struct inet_diag_req: TCPDIAG_GETSOCK with SKMEMINFO,
	// without TIME_WAIT, SYN_RECV and NEW_SYN_RECV.
	const headerSize, requestSize = 16, 60
	b := make([]byte, headerSize+requestSize)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], 18)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	b[16], b[19] = unix.AF_INET, 1<<6
	binary.NativeEndian.PutUint32(b[headerSize+52:], 0x3ffe&^(1<<6|1<<3|1<<12))
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send sock_diag request: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return fmt.Errorf("receive dump: %w", err)
		}
		if n < headerSize {
			return errors.New("receive dump: short answer")
		}
		switch binary.NativeEndian.Uint16(buf[4:]) {
		case unix.NLMSG_DONE:
			return nil
		case unix.NLMSG_ERROR:
			return errors.New("receive dump: the kernel refused")
		}
	}
}
