package scan

import (
	"context"
	"net/netip"

	"github.com/tcpmemd/tcpmemd/daemon/netns"
	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// finder looks single connections up in the kernel, for senders whose other end
// is not among the large receivers. It remembers in which namespace a remote
// address was found: usually one, and usually the sender's own.
func (s *Scanner) finder(ctx context.Context) func(owner.End) (reading.Cookie, bool) {
	// Asking costs some microseconds each; a host with many unrelated remote
	// peers must not pay for all of them.
	const asks = 4096
	left := asks
	where := map[netip.Addr]int{} // index+1 of the namespace, -1: on none of them
	return func(e owner.End) (reading.Cookie, bool) {
		remote := e.Remote.Addr().Unmap()
		at := where[remote]
		if at < 0 || left <= 0 {
			return 0, false
		}
		try := func(i int) (reading.Cookie, bool) {
			left--
			return s.findIn(ctx, s.spaces[i], e)
		}
		if at > 0 {
			return try(at - 1)
		}
		if int(e.NS) < len(s.spaces) {
			if c, ok := try(int(e.NS)); ok {
				where[remote] = int(e.NS) + 1
				return c, true
			}
		}
		if !remote.IsLoopback() {
			for i := range s.spaces {
				if i == int(e.NS) || !s.used[i] {
					continue
				}
				if c, ok := try(i); ok {
					where[remote] = i + 1
					return c, true
				}
			}
		}
		where[remote] = -1
		return 0, false
	}
}

// findIn asks a namespace for the other end of e: the same connection with the
// addresses exchanged.
func (s *Scanner) findIn(ctx context.Context, n *netns.Namespace, e owner.End) (reading.Cookie, bool) {
	conn, err := s.finders.in(s, n)
	if err != nil {
		return 0, false
	}
	var sock reading.Socket
	if err := conn.Find(ctx, e.Remote, e.Local, 0, &sock); err != nil || sock.Cookie == e.Cookie {
		return 0, false
	}
	return sock.Cookie, true
}

// finders keeps one connection open while several sockets of a namespace are
// looked up.
type finders struct {
	n    *netns.Namespace
	conn *sockdiag.Conn
}

func (f *finders) in(s *Scanner, n *netns.Namespace) (*sockdiag.Conn, error) {
	if f.n == n && f.conn != nil {
		return f.conn, nil
	}
	f.close()
	conn, err := s.connect(n)
	if err != nil {
		return nil, err
	}
	f.n, f.conn = n, conn
	return conn, nil
}

func (f *finders) close() {
	if f.conn != nil {
		f.conn.Close()
	}
	*f = finders{}
}
