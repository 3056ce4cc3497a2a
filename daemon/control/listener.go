package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/lockfile"
)

// socketMode lets the daemon's user and group connect. The group is the one
// the socket is born with (Group= of the unit): changing it would take
// CAP_CHOWN.
const socketMode = 0o660

// maxPath is the room for a path in struct sockaddr_un (unix(7)) with its
// terminating zero.
const maxPath = 107

// InUseError says that another daemon holds the lock beside the socket.
type InUseError struct {
	Socket string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("listen on %s: another daemon is running there", e.Socket)
}

// Listener is the daemon's socket and the lock that makes it the only one.
type Listener struct {
	net.Listener
	path string
	lock *os.File
	once sync.Once

	open atomic.Int64 // connections
}

// Listen takes the lock beside path, removes a socket that a dead daemon left,
// and listens. It returns *InUseError where another daemon holds the lock.
// Whoever gets a Listener closes it, or hands it to a Server that does.
func Listen(path string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("listen on %s: the path is longer than %d bytes", path, maxPath)
	}
	lock, err := takeLock(path)
	if err != nil {
		return nil, err
	}
	l, err := bind(path)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return &Listener{Listener: l, path: path, lock: lock}, nil
}

// takeLock holds until the file is closed, also by the death of the process.
// The file stays: removing it would let two daemons lock two files.
func takeLock(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := lockfile.Take(lock); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &InUseError{Socket: path}
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	return lock, nil
}

func bind(path string) (net.Listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("something that is no socket is there")
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// bind(2) gives the file the mode of the socket less the umask: set
		// first, it is never wider than meant, not even for a moment.
		var err error
		if controlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), socketMode) }); controlErr != nil {
			return controlErr
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil { // what the umask took
		l.Close()
		return nil, err
	}
	return l, nil
}

// Path is where the socket is.
func (l *Listener) Path() string { return l.path }

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

// Close removes the socket and gives up the lock.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		err = l.Listener.Close() // unlinks the socket
		err = errors.Join(err, l.lock.Close())
	})
	return err
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
