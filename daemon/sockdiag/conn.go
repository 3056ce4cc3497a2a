// Package sockdiag asks the kernel for its TCP and MPTCP sockets over
// NETLINK_SOCK_DIAG (sock_diag(7)). It knows the wire format and nothing of
// owners: rows are parsed one by one out of one reused buffer.
package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// ErrNotFound says that no such socket exists (any more).
var ErrNotFound = errors.New("no such socket")

// ErrUnsupported says that the kernel cannot dump this protocol.
var ErrUnsupported = errors.New("not supported by this kernel")

// answerTimeout bounds the wait for an answer. A dump is computed inside
// recvmsg, so in practice nothing waits; a kernel that never answers must not
// hold the daemon.
const answerTimeout = 5 * time.Second

// bufferSize is more than the kernel ever sends at once: netlink_recvmsg caps
// the dump buffer at 32 KiB whatever the receive buffer.
const bufferSize = 64 << 10

// Buffer is the receive buffer of a Conn. Handing one to Conn after Conn
// avoids an allocation per namespace.
type Buffer struct{ b []byte }

// NewBuffer returns a buffer for Open.
func NewBuffer() *Buffer { return &Buffer{b: make([]byte, bufferSize)} }

// Conn is a netlink socket of one network namespace. It is not safe for
// concurrent use. It keeps its namespace alive: close it soon. After a dump that
// ended with an error it is good for nothing but Close: the kernel may be in
// the middle of that dump and answers another one with EBUSY.
type Conn struct {
	sock *nl.NetlinkSocket
	buf  []byte
	rows rowReader
}

// Open opens a Conn in the calling thread's network namespace.
func Open(buf *Buffer) (*Conn, error) {
	sock, err := nl.GetNetlinkSocketAt(netns.None(), netns.None(), unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	// Connected to the kernel's port 0, the socket refuses messages that
	// another process sends to our port (netlink_getsockbyportid).
	if err := unix.Connect(sock.GetFd(), &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		sock.Close()
		return nil, fmt.Errorf("connect sock_diag: %w", err)
	}
	return &Conn{sock: sock, buf: buf.b}, nil
}

// Skipped is how many sockets the dumps of this Conn left out because the kernel
// told nothing of their memory. No kernel is known to do that to a full socket:
// whoever counts must be unsure, but the other sockets are still worth listing.
func (c *Conn) Skipped() int { return c.rows.skipped }

// Close closes the socket.
func (c *Conn) Close() { c.sock.Close() }

// DumpTCP calls yield for each TCP socket of the namespace, IPv4 and IPv6 in one
// walk, without request sockets; the mini sockets that the FIN_WAIT2 bit lets
// through come as reading.TimeWait. The row is reused: yield must copy what it
// keeps. Under churn the kernel may skip or repeat sockets and says nothing:
// de-duplicate on Cookie and compare with sockstat's inuse.
func (c *Conn) DumpTCP(ctx context.Context, yield func(*reading.Socket)) error {
	c.rows.row.MPTCP = false
	return c.dump(ctx, tcpdiagGetsock, &legacyRequest{ext: extSkMem, states: sweepStates}, yield)
}

// DumpMPTCP calls yield for each MPTCP socket of the namespace, as DumpTCP. It
// returns ErrUnsupported where the kernel has no MPTCP or no mptcp_diag.
func (c *Conn) DumpMPTCP(ctx context.Context, yield func(*reading.Socket)) error {
	c.rows.row.MPTCP = true
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := c.dump(ctx, sockDiagByFam, &request{
			family: family, protocol: ipprotoMPTCP, ext: extSkMem, states: sweepStates,
		}, yield)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("dump mptcp: %w (%w)", ErrUnsupported, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Find asks for the one TCP socket with these addresses, and fills s. The
// kernel falls back to a listener on the local port where the connection is
// gone (inet_diag_find_one_icsk): that is ErrNotFound here. It is not part of
// a dump and must not be called in the middle of one.
func (c *Conn) Find(ctx context.Context, local, remote netip.AddrPort, iface uint32, s *reading.Socket) error {
	payload, err := c.get(ctx, findRequest(local, remote, iface, 0, extSkMem))
	if err != nil {
		return err
	}
	if err := parseSocket(payload, s); err != nil {
		return err
	}
	if s.State == reading.Listen || unmapped(s.Local) != unmapped(local) || unmapped(s.Remote) != unmapped(remote) {
		return ErrNotFound
	}
	s.MPTCP = false
	return nil
}

// noCookie (INET_DIAG_NOCOOKIE) stands for any socket.
const noCookie = ^reading.Cookie(0)

// unmapped: an IPv4 connection of an IPv6 socket is found by either spelling.
func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func findRequest(local, remote netip.AddrPort, iface uint32, cookie reading.Cookie, ext uint8) *request {
	if cookie == 0 {
		cookie = noCookie
	}
	family := uint8(unix.AF_INET)
	if local.Addr().Is6() {
		family = unix.AF_INET6
	}
	return &request{
		family: family, protocol: unix.IPPROTO_TCP, ext: ext, states: ^uint32(0),
		id: sockID{src: local, dst: remote, iface: iface, cookie: cookie},
	}
}

// dump sends one dump request and feeds its rows to yield until the kernel's
// DONE. Anything else at the end is an error: the rows so far are then not all.
func (c *Conn) dump(ctx context.Context, kind int, data nl.NetlinkRequestData, yield func(*reading.Socket)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	seq, err := c.send(kind, unix.NLM_F_DUMP, data)
	if err != nil {
		return err
	}
	return drain(ctx, c.receive, seq, &c.rows, yield)
}

// drain reads datagrams until the one that ends the dump.
func drain(ctx context.Context, receive func() ([]byte, error), seq uint32, r *rowReader, yield func(*reading.Socket)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := receive()
		if err != nil {
			return fmt.Errorf("receive dump: %w", err)
		}
		done, err := r.read(b, seq, yield)
		if done || err != nil {
			return err
		}
	}
}

// rowReader parses dumps.
type rowReader struct {
	row     reading.Socket // reused
	skipped int            // rows without memory information
}

// read parses one received buffer of a dump, and reports whether the dump
// ended with it.
func (r *rowReader) read(b []byte, seq uint32, yield func(*reading.Socket)) (done bool, err error) {
	for len(b) > 0 {
		m, rest, err := nextMessage(b)
		if err != nil {
			return false, err
		}
		b = rest
		if m.seq != seq {
			continue // no answer to this request
		}
		switch m.kind {
		case unix.NLMSG_DONE:
			err := errno(m.payload)
			return err == nil, wrapDump(err)
		case unix.NLMSG_ERROR:
			err := errno(m.payload)
			if err == nil {
				continue // an acknowledgement
			}
			return false, wrapDump(err)
		case tcpdiagGetsock, sockDiagByFam:
			switch err := parseSocket(m.payload, &r.row); {
			case errors.Is(err, errNoMemory):
				r.skipped++
			case err != nil:
				return false, fmt.Errorf("parse dump: %w", err)
			default:
				yield(&r.row)
			}
		case unix.NLMSG_NOOP:
		default: // NLMSG_OVERRUN, or what no kernel sends yet: rows may be missing
			return false, fmt.Errorf("parse dump: message of unknown type %d", m.kind)
		}
	}
	return false, nil
}

func wrapDump(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("dump sockets: %w", err)
}

// get sends a request for one socket and returns its payload, which is valid
// until the next call.
func (c *Conn) get(ctx context.Context, r *request) ([]byte, error) {
	seq, err := c.send(sockDiagByFam, 0, r)
	if err != nil {
		return nil, err
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b, err := c.receive()
		if err != nil {
			return nil, fmt.Errorf("receive socket: %w", err)
		}
		for len(b) > 0 {
			m, rest, err := nextMessage(b)
			if err != nil {
				return nil, err
			}
			b = rest
			switch {
			case m.seq != seq:
			case m.kind == unix.NLMSG_ERROR:
				err := errno(m.payload)
				if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) {
					return nil, ErrNotFound
				}
				if err == nil {
					err = errTruncated
				}
				return nil, fmt.Errorf("find socket: %w", err)
			case m.kind == sockDiagByFam:
				return m.payload, nil
			}
		}
	}
}

func (c *Conn) send(kind, flags int, data nl.NetlinkRequestData) (seq uint32, err error) {
	r := nl.NewNetlinkRequest(kind, flags)
	r.AddData(data)
	if err := c.sock.Send(r); err != nil {
		return 0, fmt.Errorf("send sock_diag request: %w", err)
	}
	return r.Seq, nil
}

// receive reads one datagram. The buffer holds more than the kernel sends, so
// a full one means that the kernel changed: an error, not a shorter list.
func (c *Conn) receive() ([]byte, error) {
	fd := c.sock.GetFd()
	for {
		n, err := unix.Read(fd, c.buf)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(poll, int(answerTimeout.Milliseconds())); n == 0 && err == nil {
				return nil, fmt.Errorf("no answer in %v", answerTimeout)
			}
		case err != nil:
			return nil, err
		case n == len(c.buf):
			return nil, errTruncated
		default:
			return c.buf[:n], nil
		}
	}
}
