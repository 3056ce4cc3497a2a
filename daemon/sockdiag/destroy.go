package sockdiag

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// sockDestroy is SOCK_DESTROY of include/uapi/linux/sock_diag.h (Linux 4.5).
const sockDestroy = 21

// destroyBatch is how many requests go out in one message: 8 us a socket
// instead of 12, and 100 acknowledgements fit into any receive buffer.
const destroyBatch = 100

// destroyable are the states of a connection: never LISTEN, and nothing that
// could become a listener, or that holds no memory.
const destroyable = 1<<reading.Established | 1<<reading.SynSent |
	1<<reading.FinWait1 | 1<<reading.FinWait2 | 1<<reading.CloseWait |
	1<<reading.LastAck | 1<<reading.Closing

// ErrNotDestroyable says that a socket is none that Destroy asks the kernel for.
var ErrNotDestroyable = errors.New("not a connection with a cookie")

// Destroy aborts connections as they stand in a dump (SOCK_DESTROY, tcp_abort
// in net/ipv4/tcp.c): the peer gets a reset, the owner ECONNABORTED. It needs
// CAP_NET_ADMIN in the user namespace of the Conn's network namespace.
//
// There is one outcome for each socket: nil, it is destroyed; ErrNotFound, no
// socket with that cookie is at these addresses any more, which is as good;
// any other error, the kernel or this function refused. The error beside them
// ends all: the sockets after those with an outcome were not asked for.
//
// The request carries the row's addresses, interface and cookie as dumped.
// Without the cookie a connection that is gone would fall through to the
// listener on its port and close that (inet_diag_find_one_icsk). Dump right
// before: the one thing a cookie does not tell is that its own descriptor
// was disconnected and listens now.
func (c *Conn) Destroy(ctx context.Context, sockets []reading.Socket) (outcomes []error, err error) {
	for len(sockets) > 0 {
		if err := ctx.Err(); err != nil {
			return outcomes, err
		}
		n := min(len(sockets), destroyBatch)
		batch, err := c.destroy(sockets[:n])
		if err != nil {
			return outcomes, fmt.Errorf("destroy sockets: %w", err)
		}
		outcomes, sockets = append(outcomes, batch...), sockets[n:]
	}
	return outcomes, nil
}

// destroy sends one batch and waits for all of its acknowledgements.
func (c *Conn) destroy(sockets []reading.Socket) ([]error, error) {
	outcomes := make([]error, len(sockets))
	waiting := make(map[uint32]int, len(sockets)) // by sequence number
	var out []byte
	for i := range sockets {
		r, err := destroyRequest(&sockets[i])
		if err != nil {
			outcomes[i] = err
			continue
		}
		m := nl.NewNetlinkRequest(sockDestroy, unix.NLM_F_ACK)
		m.AddData(r)
		out = append(out, m.Serialize()...)
		waiting[m.Seq] = i
	}
	if len(out) == 0 {
		return outcomes, nil
	}
	if _, err := unix.Write(c.sock.GetFd(), out); err != nil {
		return nil, err
	}
	for len(waiting) > 0 {
		b, err := c.receive()
		if err != nil {
			return nil, err
		}
		if err := acknowledge(b, waiting, outcomes); err != nil {
			return nil, err
		}
	}
	return outcomes, nil
}

// acknowledge books the acknowledgements of one received buffer.
func acknowledge(b []byte, waiting map[uint32]int, outcomes []error) error {
	for len(b) > 0 {
		m, rest, err := nextMessage(b)
		if err != nil {
			return err
		}
		b = rest
		i, ours := waiting[m.seq]
		if !ours || m.kind != unix.NLMSG_ERROR {
			continue
		}
		delete(waiting, m.seq)
		switch err := errno(m.payload); {
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
			outcomes[i] = ErrNotFound
		case err != nil:
			outcomes[i] = fmt.Errorf("destroy socket: %w", err)
		}
	}
	return nil
}

func destroyRequest(s *reading.Socket) (*request, error) {
	if destroyable&(1<<s.State) == 0 || s.Cookie == 0 || s.Cookie == noCookie {
		return nil, ErrNotDestroyable
	}
	r := findRequest(s.Local, s.Remote, s.Interface, s.Cookie, 0)
	if s.MPTCP {
		r.protocol = ipprotoMPTCP
	}
	return r, nil
}
