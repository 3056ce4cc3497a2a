package victims

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Reasons that Destroy itself gives for what is left.
const (
	Stays   = "destroyed, and still there: this kernel keeps such orphans"
	Another = "its control group or its addresses are others now"
)

// sweep is one look into one namespace.
type sweep struct {
	*space
	judge  Judge
	done   map[reading.Cookie]int64
	report *Report
	seen   map[reading.Cookie]bool

	targets []target
}

// target is a row to destroy. For an MPTCP socket it is that of its subflow,
// which ends the MPTCP socket of an orphan as well; the kernel destroys no
// MPTCP socket itself.
type target struct {
	row    reading.Socket
	cookie reading.Cookie // of the victim
	bytes  int64          // that its destruction frees
}

// run is called inside the namespace.
func (s *sweep) run(ctx context.Context) error {
	c, err := sockdiag.Open(sockdiag.NewBuffer())
	if err != nil {
		return err
	}
	defer c.Close()
	type path struct{ local, remote netip.AddrPort }
	above := map[path]target{} // MPTCP sockets to destroy
	if s.mptcp {
		if err := c.DumpMPTCP(ctx, func(is *reading.Socket) {
			if s.wanted(is) {
				above[path{is.Local, is.Remote}] = target{cookie: is.Cookie, bytes: freed(is)}
			}
		}); err != nil {
			return err
		}
	}
	if err := c.DumpTCP(ctx, func(is *reading.Socket) {
		if t, ok := above[path{is.Local, is.Remote}]; ok {
			t.row = *is
			t.bytes += freed(is)
			s.targets = append(s.targets, t)
			s.seen[is.Cookie] = true
			return
		}
		if s.wanted(is) {
			s.targets = append(s.targets, target{row: *is, cookie: is.Cookie, bytes: freed(is)})
		}
	}); err != nil {
		return err
	}
	return s.destroy(ctx, c)
}

// wanted says whether a row is of a socket to destroy, and books one that is
// to be left.
func (s *sweep) wanted(is *reading.Socket) bool {
	was, ok := s.sockets[is.Cookie]
	if !ok || s.seen[is.Cookie] || was.MPTCP != is.MPTCP || is.State == reading.TimeWait {
		return false // a mini socket holds nothing: it counts as gone
	}
	s.seen[is.Cookie] = true
	var why string
	switch _, done := s.done[is.Cookie]; {
	case is.State == reading.Listen:
		why = "it listens" // never, whatever judge says
	case done:
		why = Stays
	case was.CgroupID != is.CgroupID, !same(was, is):
		why = Another
	default:
		why = s.judge(was, is)
	}
	if why != "" {
		s.left(why, is.Mem.Bytes())
	}
	return why == ""
}

// same compares what a socket cannot change while it is connected, or closed.
// However a request writes an address, the cookie is what identifies it: only
// another address counts.
func same(was *remediate.Socket, is *reading.Socket) bool {
	return was.Interface == is.Interface && address(was.Local, is.Local) && address(was.Remote, is.Remote)
}

func address(was string, is netip.AddrPort) bool {
	parsed, err := netip.ParseAddrPort(was)
	return err != nil || parsed.Port() == is.Port() && parsed.Addr().Unmap() == is.Addr().Unmap()
}

// freed is what the destruction of a socket frees: while a descriptor is open
// its receive queue stays charged (tcp_abort does not purge it).
func freed(is *reading.Socket) int64 {
	n := is.Mem.Bytes()
	if is.Inode != 0 {
		n -= int64(is.Mem.RmemAlloc)
	}
	return n
}

func (s *sweep) destroy(ctx context.Context, c *sockdiag.Conn) error {
	rows := make([]reading.Socket, len(s.targets))
	for i := range s.targets {
		rows[i] = s.targets[i].row
	}
	outcomes, err := c.Destroy(ctx, rows)
	for i, outcome := range outcomes {
		t := &s.targets[i]
		switch {
		case outcome == nil:
			s.done[t.cookie] = t.bytes
		case errors.Is(outcome, sockdiag.ErrNotFound):
			delete(s.seen, t.cookie) // between the dump and now
		default:
			s.left(outcome.Error(), t.row.Mem.Bytes())
			if s.report.Refused == nil {
				s.report.Refused = outcome
			}
		}
	}
	return err
}

func (s *sweep) left(why string, bytes int64) {
	t := s.report.Left[why]
	t.Add(1, bytes)
	s.report.Left[why] = t
}

// account books what no row was seen of: gone, or not to be told.
func (s *sweep) account(err error) {
	for cookie, was := range s.sockets {
		_, done := s.done[cookie]
		switch {
		case s.seen[cookie], done:
		case err != nil:
			s.report.Unreadable = true
			why := strings.ReplaceAll(err.Error(), "\n", "; ")
			s.left(fmt.Sprintf("network namespace %d cannot be read: %s", s.id.Inode, why), was.Bytes)
		default:
			s.report.Gone.Add(1, was.Bytes)
		}
	}
}

// Orphan reports whether nobody holds the socket any more: its last descriptor
// is closed and the kernel still works on what it left. ESTABLISHED or
// CLOSE_WAIT without an inode waits in an accept queue instead.
func Orphan(is *reading.Socket) bool {
	if is.Inode != 0 {
		return false
	}
	switch is.State {
	case reading.FinWait1, reading.FinWait2, reading.Closing, reading.LastAck:
		return true
	}
	return false
}
