package control

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/unixsocket"
)

// InUseError says that another daemon holds the lock beside the socket.
type InUseError = unixsocket.InUseError

// Listener is the daemon's socket and the lock that makes it the only one.
type Listener struct {
	*unixsocket.Listener

	open atomic.Int64 // connections
}

// Listen takes the lock beside path, removes a socket that a dead daemon left,
// and listens. It returns *InUseError where another daemon holds the lock.
// Whoever gets a Listener closes it, or hands it to a Server that does.
func Listen(path string) (*Listener, error) {
	l, err := unixsocket.Listen(path)
	if err != nil {
		return nil, err
	}
	return &Listener{Listener: l}, nil
}

// Accept waits for a connection. Those beyond maxConnections are closed at
// once: a client that opens many and asks nothing must not take the daemon's
// descriptors.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.open.Add(1) <= maxConnections {
			return &countedConn{Conn: conn, open: &l.open}, nil
		}
		l.open.Add(-1)
		conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		// A courtesy. The request is read first: a client that finds the
		// connection closed while it writes never looks at an answer.
		var request [maxHeader]byte
		_, _ = conn.Read(request[:])
		_, _ = conn.Write([]byte(tooManyConnections))
		conn.Close()
	}
}

// countedConn leaves the count once, however often it is closed.
type countedConn struct {
	net.Conn
	open *atomic.Int64
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

// Peer is the process at the other end of a connection, as it was when it
// connected (SO_PEERCRED in unix(7)).
type Peer struct {
	PID      int32
	UID, GID uint32
}

type peerKey struct{}

// PeerOf returns the peer of the request that ctx belongs to.
func PeerOf(ctx context.Context) (Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(Peer)
	return p, ok
}

func withPeer(ctx context.Context, conn net.Conn) context.Context {
	if c, ok := conn.(*countedConn); ok {
		conn = c.Conn
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	controlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if controlErr != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid})
}
