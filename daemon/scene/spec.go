package scene

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// ErrUnavailable says that this kernel cannot make what was asked for, such as
// an MPTCP socket. It was tried, not guessed from a version.
var ErrUnavailable = errors.New("not available on this kernel")

// Kind says what becomes of the connections of a Spec. In each the dialer
// acts, and the accepted side keeps its descriptor and never reads.
type Kind string

// Kinds of scene.
const (
	// Idle connections: both ends held, nothing sent.
	Idle Kind = "idle"
	// Unread: the accepted sides hold Bytes each, received and never read.
	Unread Kind = "unread"
	// Unsent: the dialers wrote until EAGAIN; both queues are full.
	Unsent Kind = "unsent"
	// CloseWait: the dialers wrote Bytes and closed; the accepted sides pile up
	// in CLOSE_WAIT. The mini sockets of the dialers vanish after a second.
	CloseWait Kind = "close-wait"
	// FinWait2: as CloseWait, but the mini sockets in FIN_WAIT2 stay for
	// net.ipv4.tcp_fin_timeout. They hold no memory and are no orphans.
	FinWait2 Kind = "fin-wait-2"
	// Orphan: the dialers wrote until EAGAIN and closed: full send queues that
	// no descriptor leads to, in FIN_WAIT1 on the persist timer.
	Orphan Kind = "orphan"
	// Unaccepted: the dialers wrote Bytes, the listener never accepts. With
	// Finish they closed after that: CLOSE_WAIT in the accept queue.
	Unaccepted Kind = "unaccepted"
	// Hidden: the dialers wrote Bytes and reset; the accepted sides are held,
	// unread, and in no dump. With Finish both ends closed in order instead:
	// the accepted side by shutdown(2), which ends in the same class.
	Hidden Kind = "hidden"
	// Listening: Pairs listeners, no connection.
	Listening Kind = "listening"
	// Bound: Pairs sockets bound to a port, neither listening nor connected.
	// Dumps show them under bit 13 (TCP_BOUND_INACTIVE) on Linux 6.8 and
	// later; they are in alloc, not in inuse.
	Bound Kind = "bound"
	// Unconnected: Pairs sockets straight from socket(2): in alloc only, so
	// booked as hidden.
	Unconnected Kind = "unconnected"
)

// Family is the socket family and the form of its addresses.
type Family string

// Families. Mapped is an AF_INET6 socket on ::ffff:127.x.y.1.
const (
	IPv4   Family = "ipv4"
	IPv6   Family = "ipv6"
	Mapped Family = "ipv4-mapped"
)

// Spec orders one group of sockets.
type Spec struct {
	Kind   Kind
	Pairs  int    // connections; listeners or sockets where there are none. 0 means 1
	Bytes  int    // payload of each connection, where the Kind says so
	Family Family // "" means IPv4

	MPTCP  bool // IPPROTO_MPTCP (protocol 262) on both ends
	Finish bool // Unaccepted and Hidden: end by FIN

	// Wildcard listens on 0.0.0.0 or :: instead of the exact address.
	Wildcard bool
	// KeepListener leaves the listener open after the last accept.
	KeepListener bool

	// SendBuffer and ReceiveBuffer are given to SO_SNDBUF and SO_RCVBUF (bytes;
	// the kernel doubles them). 0 leaves autotuning on, except that a payload
	// that would not fit gets a receive buffer in which it does.
	SendBuffer, ReceiveBuffer int
}

// withDefaults fills what was left out and refuses what cannot be made.
func (s Spec) withDefaults() (Spec, error) {
	if s.Pairs == 0 {
		s.Pairs = 1
	}
	if s.Family == "" {
		s.Family = IPv4
	}
	switch s.Kind {
	case Unread, Hidden, Unaccepted:
		if s.Bytes == 0 {
			s.Bytes = 1
		}
	case Idle, Unsent, CloseWait, FinWait2, Orphan, Listening, Bound, Unconnected:
	default:
		return s, fmt.Errorf("build %q: no such kind of scene", s.Kind)
	}
	if s.Pairs < 0 || s.Bytes < 0 {
		return s, fmt.Errorf("build %s: negative count", s.Kind)
	}
	if s.MPTCP && s.Kind != Idle && s.Kind != Unread && s.Kind != Unsent {
		return s, fmt.Errorf("build %s: not a scene for MPTCP", s.Kind)
	}
	// A small write is charged as a whole buffer (skb->truesize), up to several
	// times its bytes; 32 KiB fit into what autotuning starts with.
	if s.ReceiveBuffer == 0 && s.Bytes > 32<<10 {
		s.ReceiveBuffer = 2*s.Bytes + 128<<10
	}
	return s, nil
}

// Role is the part of a socket in its connection.
type Role string

// Roles. Subflow is the TCP socket under an MPTCP one; it has no descriptor.
const (
	Dialer   Role = "dialer"
	Accepted Role = "accepted"
	Listener Role = "listener"
	Subflow  Role = "subflow"
	Lone     Role = "lone" // Bound and Unconnected
)

// Socket is the truth about one socket, as the kernel tells it to the process
// that made it.
type Socket struct {
	ID   int  // names the socket in calls to its Child
	Role Role // its part in the connection
	FD   int  // descriptor number in the child; -1 where no descriptor leads to it

	Class         reading.Class // as the ledger should book it; Unresolved for what has no class
	State         reading.State
	Mini          bool // a mini socket (struct inet_timewait_sock): no memory, no class
	Gone          bool // the kernel no longer knows it
	MPTCP         bool // an MPTCP socket; its subflow is an entry of its own
	Cookie        reading.Cookie
	Inode         uint32 // of the descriptor, 0 without
	Local, Remote netip.AddrPort

	// Mem is nil for a mini socket and for one that is gone.
	Mem *reading.SkMem
	// BeforeClose is Mem right before close(2), for a socket that was closed.
	BeforeClose *reading.SkMem

	Rqueue int // payload bytes not read (SIOCINQ); a listener's accept queue length
	Wqueue int // payload bytes not acknowledged (SIOCOUTQ); a listener's backlog
}

// Bytes is what the socket holds of the tcp_mem pool.
func (s *Socket) Bytes() int64 {
	if s.Mem == nil {
		return 0
	}
	return s.Mem.Bytes()
}

// Built is what one process has of a scene.
type Built struct {
	PID     int
	Sockets []Socket
	// Settled: no number changed over settleQuiet. False under memory pressure,
	// where the kernel goes on pruning; then Bytes is a snapshot.
	Settled bool
}

// Bytes sums what the sockets hold of the tcp_mem pool. Once settled it is a
// whole number of pages.
func (b *Built) Bytes() int64 {
	var sum int64
	for i := range b.Sockets {
		sum += b.Sockets[i].Bytes()
	}
	return sum
}

// Tally books the sockets by class. Mini sockets and gone ones are left out.
func (b *Built) Tally() [reading.NumClasses]reading.Tally {
	var sums [reading.NumClasses]reading.Tally
	for i := range b.Sockets {
		if s := &b.Sockets[i]; !s.Mini && !s.Gone {
			sums[s.Class].Add(1, s.Bytes())
		}
	}
	return sums
}

// Role gives the sockets with one of the roles.
func (b *Built) Role(roles ...Role) []Socket {
	var found []Socket
	for _, s := range b.Sockets {
		for _, r := range roles {
			if s.Role == r {
				found = append(found, s)
			}
		}
	}
	return found
}

// Class gives the sockets of one class, without mini sockets and gone ones.
func (b *Built) Class(class reading.Class) []Socket {
	var found []Socket
	for _, s := range b.Sockets {
		if s.Class == class && !s.Mini && !s.Gone {
			found = append(found, s)
		}
	}
	return found
}
