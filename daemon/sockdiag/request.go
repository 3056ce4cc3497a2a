package sockdiag

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	// TCPDIAG_GETSOCK of include/uapi/linux/inet_diag.h: the legacy request. It
	// dumps IPv4 and IPv6 in one walk of the hash table, where
	// SOCK_DIAG_BY_FAMILY answers AF_UNSPEC with ENOENT and needs two.
	tcpdiagGetsock = 18
	sockDiagByFam  = 20 // SOCK_DIAG_BY_FAMILY

	sizeofSockID = 48 // struct inet_diag_sockid
	ipprotoMPTCP = 262

	extSkMem = 1 << (netlink.INET_DIAG_SKMEMINFO - 1)
	extInfo  = 1 << (netlink.INET_DIAG_INFO - 1)
)

// sweepStates leaves out TIME_WAIT and SYN_RECV: both hold no memory, and
// there can be 100,000s of the first. It keeps LISTEN, whose rows own the
// unaccepted sockets, and BOUND_INACTIVE.
const sweepStates = (1<<reading.NumStates - 2) &^
	(1<<reading.TimeWait | 1<<reading.SynRecv | 1<<reading.NewSynRecv)

// sockID is struct inet_diag_sockid: ports and addresses in network order,
// interface and cookie in the host's.
type sockID struct {
	src, dst netip.AddrPort
	iface    uint32
	cookie   reading.Cookie
}

func (id sockID) put(b []byte) {
	binary.BigEndian.PutUint16(b[0:], id.src.Port())
	binary.BigEndian.PutUint16(b[2:], id.dst.Port())
	putAddr(b[4:20], id.src.Addr())
	putAddr(b[20:36], id.dst.Addr())
	binary.NativeEndian.PutUint32(b[36:], id.iface)
	binary.NativeEndian.PutUint32(b[40:], uint32(id.cookie))
	binary.NativeEndian.PutUint32(b[44:], uint32(id.cookie>>32))
}

func putAddr(b []byte, a netip.Addr) {
	if a.Is4() {
		a4 := a.As4()
		copy(b, a4[:])
		return
	}
	if a.IsValid() {
		a16 := a.As16()
		copy(b, a16[:])
	}
}

// legacyRequest is struct inet_diag_req: one walk for both families. The
// kernel ignores its family field in a dump.
type legacyRequest struct {
	ext    uint8
	states uint32
}

// sizeofLegacy is sizeof(struct inet_diag_req).
const sizeofLegacy = 4 + sizeofSockID + 8

func (r *legacyRequest) Len() int { return sizeofLegacy }

func (r *legacyRequest) Serialize() []byte {
	b := make([]byte, sizeofLegacy)
	b[0] = unix.AF_INET
	b[3] = r.ext
	binary.NativeEndian.PutUint32(b[4+sizeofSockID:], r.states)
	return b
}

// request is struct inet_diag_req_v2, followed by INET_DIAG_REQ_PROTOCOL where
// the protocol does not fit its one byte (MPTCP).
type request struct {
	family   uint8
	protocol uint16
	ext      uint8
	states   uint32
	id       sockID
}

const sizeofRequest = 8 + sizeofSockID

func (r *request) Len() int {
	if r.protocol > 0xff {
		return sizeofRequest + 8
	}
	return sizeofRequest
}

func (r *request) Serialize() []byte {
	b := make([]byte, r.Len())
	b[0] = r.family
	b[2] = r.ext
	binary.NativeEndian.PutUint32(b[4:], r.states)
	r.id.put(b[8:])
	if r.protocol <= 0xff {
		b[1] = uint8(r.protocol)
		return b
	}
	b[1] = unix.IPPROTO_RAW // 255: "look at the attribute" (inet_diag_get_protocol)
	const inetDiagReqProtocol = 3
	binary.NativeEndian.PutUint16(b[sizeofRequest:], 8)
	binary.NativeEndian.PutUint16(b[sizeofRequest+2:], inetDiagReqProtocol)
	binary.NativeEndian.PutUint32(b[sizeofRequest+4:], uint32(r.protocol))
	return b
}
