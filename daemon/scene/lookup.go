package scene

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// From include/uapi/linux/inet_diag.h and sock_diag.h.
const (
	sockDiagByFamily  = 20
	inetDiagSkMemInfo = 7
	noCookie          = ^uint64(0)
	reqSize           = 56 // struct inet_diag_req_v2
	msgSize           = 72 // struct inet_diag_msg
	timerTimeWait     = 3  // idiag_timer of a mini socket (inet_twsk_diag_fill)
)

// errNoSocket says that no socket has these addresses.
var errNoSocket = errors.New("no such socket")

// found is the part of struct inet_diag_msg that the truth needs.
type found struct {
	state  reading.State
	mini   bool
	inode  uint32
	cookie reading.Cookie
	mem    *reading.SkMem
}

// lookup asks for the one TCP socket with these addresses, in the namespace of
// the calling thread. Unlike a dump it goes straight to the hash bucket
// (inet_diag_find_one_icsk in net/ipv4/inet_diag.c), so it costs the same on a
// host with many sockets. A cookie of 0 accepts any.
func lookup(local, remote netip.AddrPort, cookie reading.Cookie) (found, error) {
	req := nl.NewNetlinkRequest(sockDiagByFamily, 0)
	req.AddRawData(lookupRequest(local, remote, cookie))
	msgs, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		return found{}, errNoSocket
	case err != nil:
		return found{}, fmt.Errorf("look up %v to %v: %w", local, remote, err)
	case len(msgs) != 1 || len(msgs[0]) < msgSize:
		return found{}, fmt.Errorf("look up %v to %v: %d answers", local, remote, len(msgs))
	}
	f, err := parseFound(msgs[0])
	if err == nil && f.state == reading.Listen {
		// Without a connection of that name the kernel answers with the listener.
		return found{}, errNoSocket
	}
	return f, err
}

func lookupRequest(local, remote netip.AddrPort, cookie reading.Cookie) []byte {
	b := make([]byte, reqSize)
	b[0] = unix.AF_INET6
	if local.Addr().Is4() {
		b[0] = unix.AF_INET
	}
	b[1] = unix.IPPROTO_TCP
	b[2] = 1 << (inetDiagSkMemInfo - 1)
	binary.BigEndian.PutUint16(b[8:], local.Port())
	binary.BigEndian.PutUint16(b[10:], remote.Port())
	copy(b[12:28], local.Addr().AsSlice())
	copy(b[28:44], remote.Addr().AsSlice())
	c := uint64(cookie)
	if c == 0 {
		c = noCookie
	}
	binary.NativeEndian.PutUint32(b[48:], uint32(c))
	binary.NativeEndian.PutUint32(b[52:], uint32(c>>32))
	return b
}

// parseFound reads a message of at least msgSize bytes.
func parseFound(b []byte) (found, error) {
	f := found{
		state:  reading.State(b[1]),
		mini:   b[2] == timerTimeWait,
		cookie: reading.Cookie(binary.NativeEndian.Uint32(b[44:])) | reading.Cookie(binary.NativeEndian.Uint32(b[48:]))<<32,
		inode:  binary.NativeEndian.Uint32(b[68:]),
	}
	attrs, err := nl.ParseRouteAttr(b[msgSize:])
	if err != nil {
		return f, fmt.Errorf("parse sock_diag answer: %w", err)
	}
	for _, a := range attrs {
		if a.Attr.Type != inetDiagSkMemInfo || len(a.Value) < 9*4 {
			continue
		}
		var words [9]uint32
		for i := range words {
			words[i] = binary.NativeEndian.Uint32(a.Value[4*i:])
		}
		mem := toSkMem(words)
		f.mem = &mem
	}
	return f, nil
}
