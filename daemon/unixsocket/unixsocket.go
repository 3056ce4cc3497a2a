// Package unixsocket listens on a Unix socket that root and the daemon's group
// may connect to, and removes what a dead daemon left there.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/lockfile"
)

// mode lets the daemon's user and group connect. The group is the one the
// socket is born with (Group= of the unit): changing it would take CAP_CHOWN.
const mode = 0o660

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

// Listener is a socket and the lock that makes its daemon the only one there.
type Listener struct {
	net.Listener
	path string
	lock *os.File
	once sync.Once
}

// Listen takes the lock beside path, removes a socket that a dead daemon left,
// and listens. It returns *InUseError where another daemon holds the lock.
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

// Path is where the socket is.
func (l *Listener) Path() string { return l.path }

// Close removes the socket and gives up the lock.
func (l *Listener) Close() error {
	var err error
	l.once.Do(func() {
		err = l.Listener.Close() // unlinks the socket
		err = errors.Join(err, l.lock.Close())
	})
	return err
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
		if controlErr := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), mode) }); controlErr != nil {
			return controlErr
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, mode); err != nil { // what the umask took
		l.Close()
		return nil, err
	}
	return l, nil
}
