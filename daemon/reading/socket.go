package reading

import "net/netip"

// State is a TCP state as sock_diag gives it: the TCP_* values of
// include/net/tcp_states.h.
type State uint8

// TCP states.
const (
	Established State = iota + 1
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
	NewSynRecv
	BoundInactive
	NumStates // one more than the last state
)

// the words of ss(8)'s state filter
var stateNames = [NumStates]string{
	"unknown", "established", "syn-sent", "syn-recv", "fin-wait-1",
	"fin-wait-2", "time-wait", "closed", "close-wait", "last-ack", "listening", "closing",
	"new-syn-recv", "bound-inactive",
}

func (s State) String() string { return nameOf(stateNames[:], int(s)) }

// ParseState accepts the names that String gives, and reports whether name is one.
func ParseState(name string) (State, bool) {
	i := indexOf(stateNames[:], name)
	return State(i), i != 0
}

// Cookie identifies a socket for as long as the kernel knows it, through close
// and orphaning; it is never reused (sock_gen_cookie in net/core/sock_diag.c).
type Cookie uint64

// Class says in which way a socket is held; a socket has exactly one.
type Class uint8

// Classes of the ledger.
const (
	Unresolved Class = iota // nobody could be named
	Owned                   // a process holds it
	Unaccepted              // waits in the accept queue of a listener
	Orphan                  // its last descriptor is closed, the kernel still works on it
	Hidden                  // a process holds it, no dump shows it
	Kernel                  // the kernel itself uses it (NFS, nvme-tcp, ...)
	NumClasses
)

var classNames = [NumClasses]string{"unresolved", "owned", "unaccepted", "orphan", "hidden", "kernel"}

func (c Class) String() string { return nameOf(classNames[:], int(c)) }

// ParseClass accepts the names that String gives, and reports whether name is one.
func ParseClass(name string) (Class, bool) {
	for i, n := range classNames {
		if n == name {
			return Class(i), true
		}
	}
	return 0, false
}

// ClassesByName lists the classes in the order people read them.
func ClassesByName() []Class {
	return []Class{Owned, Unaccepted, Orphan, Hidden, Kernel, Unresolved}
}

// Evidence says how an owner is known, best first.
type Evidence uint8

// Kinds of evidence. ClosedBy is reserved: nothing of this version claims it.
const (
	NoEvidence Evidence = iota
	FD                  // a process holds a descriptor now
	Listener            // the listener in whose queue it waits
	ClosedBy            // the task that closed it was seen
	LastSeen            // the same cookie had an owner in an earlier scan
	CgroupID            // the socket's cgroup id
	KernelUse           // a kernel user's address and port (mounts, sysfs)
	Netns               // only its namespace is known
	NumEvidence
)

var evidenceNames = [NumEvidence]string{"none", "fd", "listener", "closed-by", "last-seen", "cgroup", "kernel", "netns"}

func (e Evidence) String() string { return nameOf(evidenceNames[:], int(e)) }

// NetnsID names a network namespace. Inode numbers are reused, cookies
// (SO_NETNS_COOKIE) are not; Cookie is 0 where it could not be read.
type NetnsID struct {
	Inode  uint32 `json:"inode"`
	Cookie uint64 `json:"cookie"`
}

// AddressText is one end of a connection as address:port, empty where it is not
// known: the peer of a hidden socket has reset it.
func AddressText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Socket is one socket in full: what a list of sockets shows. Its owner is
// the Key of an Owner of the same reading.
type Socket struct {
	Cookie        Cookie
	Netns         NetnsID
	MPTCP         bool // the MPTCP socket itself, not a subflow
	State         State
	Local, Remote netip.AddrPort
	Interface     uint32
	Inode         uint32
	UID           uint32
	CgroupID      uint64
	Mem           SkMem
	Rqueue        uint32 // bytes not read yet, or the accept queue's length for a listener
	Wqueue        uint32 // bytes not acknowledged, or the accept queue's limit for a listener
	Timer         uint8
	Retrans       uint8
	TimerExpires  uint32 // milliseconds

	Class    Class
	Evidence Evidence
	Owner    string // Owner.Key
	// Holder is the primary holder, nil where no process holds the socket.
	Holder *Holder
}
