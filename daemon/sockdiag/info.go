package sockdiag

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TCPInfo is the part of struct tcp_info (include/uapi/linux/tcp.h) that says
// whether a connection moves. Pointers are values that came with later kernels.
type TCPInfo struct {
	RTO, RTT, RTTVar           uint32 // microseconds
	Unacked, Retrans, SndCwnd  uint32 // segments
	TotalRetrans               uint32 // segments
	LastDataSent, LastDataRecv uint32 // milliseconds ago
	BytesAcked, BytesReceived  *uint64
	DeliveryRate               *uint64 // bytes per second
}

// Info asks for the TCP_INFO of one connection. It takes the socket's lock: it
// is for the few that a person looks at, not for a sweep.
func (c *Conn) Info(ctx context.Context, s *reading.Socket) (*TCPInfo, error) {
	payload, err := c.get(ctx, findRequest(s.Local, s.Remote, s.Interface, s.Cookie, extInfo))
	if err != nil {
		return nil, err
	}
	if len(payload) < sizeofMsg {
		return nil, fmt.Errorf("read tcp_info: %w", errTruncated)
	}
	if reading.State(payload[1]) == reading.Listen && s.State != reading.Listen {
		return nil, ErrNotFound // as in Find; a row without a cookie does not protect from it
	}
	for attrs := payload[sizeofMsg:]; len(attrs) > 0; {
		kind, value, rest, err := nextAttr(attrs)
		if err != nil {
			return nil, fmt.Errorf("read tcp_info: %w", err)
		}
		if kind == netlink.INET_DIAG_INFO {
			return parseTCPInfo(value)
		}
		attrs = rest
	}
	return nil, fmt.Errorf("read tcp_info: %w", ErrNotFound)
}

// parseTCPInfo reads struct tcp_info as far as this kernel fills it: it has
// grown several times.
func parseTCPInfo(b []byte) (*TCPInfo, error) {
	const floor = 104 // up to tcpi_total_retrans, Linux 2.6
	if len(b) < floor {
		return nil, fmt.Errorf("read tcp_info: %w: %d bytes", errTruncated, len(b))
	}
	u32 := func(at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	u64 := func(at int) *uint64 {
		if len(b) < at+8 {
			return nil
		}
		v := binary.NativeEndian.Uint64(b[at:])
		return &v
	}
	return &TCPInfo{
		RTO: u32(8), Unacked: u32(24), Retrans: u32(36),
		LastDataSent: u32(44), LastDataRecv: u32(52),
		RTT: u32(68), RTTVar: u32(72), SndCwnd: u32(80), TotalRetrans: u32(100),
		BytesAcked: u64(120), BytesReceived: u64(128), DeliveryRate: u64(160),
	}, nil
}
