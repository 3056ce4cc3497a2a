package scene

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// backlog is what listeners ask for; net.core.somaxconn limits it to 4096
// since Linux 5.4.
const backlog = 65535

// unavailable marks the errors by which a kernel says that it lacks MPTCP:
// EPROTONOSUPPORT and EINVAL where it is not built in, ENOPROTOOPT where
// net.mptcp.enabled is 0 (mptcp_create in net/mptcp/ctrl.c).
func unavailable(mptcp bool, err error) error {
	if mptcp && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOPROTOOPT)) {
		return fmt.Errorf("MPTCP: %w: %w", ErrUnavailable, err)
	}
	return err
}

func (w *workshop) listen(req request) ([]int, netip.AddrPort, error) {
	addr := req.Addr
	if !addr.IsValid() {
		addr = netip.AddrPortFrom(home(req.Family, w.pid), 0)
		if req.Wildcard {
			addr = netip.AddrPortFrom(wildcard(req.Family), 0)
		}
	}
	var ids []int
	for range max(req.N, 1) {
		fd, err := openSocket(req.Family, req.MPTCP)
		if err != nil {
			return nil, addr, unavailable(req.MPTCP, err)
		}
		if err := bindAndListen(fd, req, addr); err != nil {
			unix.Close(fd)
			return nil, addr, err
		}
		s, err := w.adopt(fd, Listener, req.MPTCP)
		if err != nil {
			return nil, addr, err
		}
		ids = append(ids, s.ID)
	}
	// Where to connect to: never the wildcard.
	local := w.sockets[ids[0]].Local
	if local.Addr().IsUnspecified() {
		local = netip.AddrPortFrom(home(req.Family, w.pid), local.Port())
	}
	return ids, local, nil
}

func bindAndListen(fd int, req request, addr netip.AddrPort) error {
	if req.Shared {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
			return os.NewSyscallError("setsockopt SO_REUSEPORT", err)
		}
	}
	// Accepted sockets inherit both sizes.
	if err := setBuffers(fd, req.Send, req.Receive); err != nil {
		return err
	}
	if err := unix.Bind(fd, toSockaddr(req.Family, addr)); err != nil {
		return fmt.Errorf("bind %v: %w", addr, err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return os.NewSyscallError("listen", err)
	}
	// accept waits in poll(2), where it can be given up.
	return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
}

// open makes sockets that are never connected.
func (w *workshop) open(req request) ([]int, error) {
	var ids []int
	for range max(req.N, 1) {
		fd, err := openSocket(req.Family, req.MPTCP)
		if err != nil {
			return nil, unavailable(req.MPTCP, err)
		}
		if req.Bind {
			addr := netip.AddrPortFrom(home(req.Family, w.pid), 0)
			if err := unix.Bind(fd, toSockaddr(req.Family, addr)); err != nil {
				unix.Close(fd)
				return nil, fmt.Errorf("bind %v: %w", addr, err)
			}
		}
		s, err := w.adopt(fd, Lone, req.MPTCP)
		if err != nil {
			return nil, err
		}
		ids = append(ids, s.ID)
	}
	return ids, nil
}

func (w *workshop) dial(req request) ([]int, error) {
	var ids []int
	for range max(req.N, 1) {
		fd, err := openSocket(req.Family, req.MPTCP)
		if err != nil {
			return nil, unavailable(req.MPTCP, err)
		}
		if err := connect(fd, req, home(req.Family, w.pid)); err != nil {
			unix.Close(fd)
			return nil, err
		}
		s, err := w.adopt(fd, Dialer, req.MPTCP)
		if err != nil {
			return nil, err
		}
		ids = append(ids, s.ID)
	}
	return ids, nil
}

// connect leaves fd connected and non-blocking. It comes from the process's own
// address, with a port that connect(2) picks: with IP_BIND_ADDRESS_NO_PORT one
// port serves towards many listeners.
func connect(fd int, req request, from netip.Addr) error {
	if err := setBuffers(fd, req.Send, req.Receive); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil && !req.MPTCP {
		return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", err)
	}
	if err := unix.Bind(fd, toSockaddr(req.Family, netip.AddrPortFrom(from, 0))); err != nil {
		return fmt.Errorf("bind %v: %w", from, err)
	}
	// A full accept queue drops the SYN: SO_SNDTIMEO bounds connect(2).
	limit := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return os.NewSyscallError("setsockopt SO_SNDTIMEO", err)
	}
	for {
		err := unix.Connect(fd, toSockaddr(req.Family, req.Addr))
		switch {
		case err == nil, errors.Is(err, unix.EISCONN):
			return os.NewSyscallError("fcntl", unix.SetNonblock(fd, true))
		case !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EALREADY):
			return fmt.Errorf("connect %v: %w", req.Addr, err)
		}
	}
}

func (w *workshop) accept(ctx context.Context, req request) ([]int, error) {
	if len(req.IDs) != 1 {
		return nil, fmt.Errorf("%d listeners", len(req.IDs))
	}
	l, err := w.get(req.IDs[0])
	if err != nil {
		return nil, err
	}
	var ids []int
	for len(ids) < max(req.N, 1) {
		fd, err := acceptOne(ctx, l.FD)
		if err != nil {
			return nil, fmt.Errorf("%d of %d: %w", len(ids), req.N, err)
		}
		s, err := w.adopt(fd, Accepted, l.MPTCP)
		if err != nil {
			return nil, err
		}
		ids = append(ids, s.ID)
	}
	return ids, nil
}

func acceptOne(ctx context.Context, listener int) (int, error) {
	fd := -1
	err := poll(ctx, "a connection", func() (bool, error) {
		var err error
		fd, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			return false, nil
		}
		return false, os.NewSyscallError("accept4", err)
	})
	return fd, err
}

// write gives each socket n bytes and waits until the other ends have them
// all: a delayed ACK holds its bytes in the send queue for 40 ms.
func (w *workshop) write(ctx context.Context, req request) error {
	left := make(map[*Socket]int, len(req.IDs))
	err := w.each(req.IDs, func(s *Socket) error {
		left[s] = req.N
		return nil
	})
	if err != nil {
		return err
	}
	return poll(ctx, fmt.Sprintf("%d peers to take %d bytes", len(req.IDs), req.N), func() (bool, error) {
		for s := range left {
			n, err := writeSome(s.FD, w.buffer, left[s])
			if left[s] -= n; err != nil {
				return false, fmt.Errorf("socket %d: %w", s.ID, err)
			}
			queued, err := unix.IoctlGetInt(s.FD, unix.TIOCOUTQ) // SIOCOUTQ
			if err != nil {
				return false, os.NewSyscallError("ioctl SIOCOUTQ", err)
			}
			if left[s] == 0 && queued == 0 {
				delete(left, s)
			}
		}
		return len(left) == 0, nil
	})
}

// writeSome writes up to n bytes until EAGAIN, which is no error.
func writeSome(fd int, buffer []byte, n int) (written int, err error) {
	for written < n {
		m, err := unix.Write(fd, buffer[:min(n-written, len(buffer))])
		if errors.Is(err, unix.EAGAIN) {
			return written, nil
		}
		if err != nil {
			return written, os.NewSyscallError("write", err)
		}
		written += m
	}
	return written, nil
}

// fill writes until every socket says EAGAIN in three rounds that moved
// nothing: the window of the peer opens a last time while the first is on its
// way.
func (w *workshop) fill(ctx context.Context, ids []int) error {
	still := 0
	return poll(ctx, "full send queues", func() (bool, error) {
		moved := 0
		err := w.each(ids, func(s *Socket) error {
			n, err := writeSome(s.FD, w.buffer, math.MaxInt)
			moved += n
			if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ETIMEDOUT) {
				return nil // aborted out of memory: nothing more goes in
			}
			return err
		})
		if still++; moved > 0 {
			still = 0
		}
		return still == 3, err
	})
}

// await polls the sockets until each is in the state, or gone.
func (w *workshop) await(ctx context.Context, req request) error {
	state := reading.State(req.State)
	what := fmt.Sprintf("%d sockets in %v", len(req.IDs), state)
	if req.Mini {
		what += " (mini)"
	}
	return poll(ctx, what, func() (bool, error) {
		sockets, err := w.truth(req.IDs)
		for i := range sockets {
			if s := &sockets[i]; !s.Gone && (s.State != state || s.Mini != req.Mini) {
				return false, err
			}
		}
		return true, err
	})
}
