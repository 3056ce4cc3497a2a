// Package pidfd holds on to a process by a descriptor (pidfd_open(2)), which
// means that one process also after its number belongs to another.
package pidfd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// File refers to one process, living or ended.
type File struct {
	file *os.File
	pid  int
}

// Open refers to whoever has the number now. To be sure that it is the one
// that was meant, compare its start time after Open: it still had it then.
// The error is ESRCH where nobody has it.
func Open(pid int) (*File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open pidfd of %d: %w", pid, err)
	}
	// Not blocking, so the runtime's poller waits for it: a pidfd is readable
	// once its process has ended (pidfd_poll in kernel/pid.c).
	return &File{file: os.NewFile(uintptr(fd), "pidfd"), pid: pid}, nil
}

// Signal sends a signal to the process. The error is ESRCH where it has ended
// and was reaped.
func (f *File) Signal(sig unix.Signal) error {
	err := f.control(func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if err != nil {
		return fmt.Errorf("send %s to %d: %w", unix.SignalName(sig), f.pid, err)
	}
	return nil
}

// Wait waits until all threads of the process have ended, reaped or not, and
// reports whether they have: false where until or the end of ctx came first.
func (f *File) Wait(ctx context.Context, until time.Time) (ended bool, err error) {
	if err := f.file.SetReadDeadline(until); err != nil {
		return false, fmt.Errorf("wait for %d: %w", f.pid, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.file.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool {
			ended = f.Ended()
			return ended
		})
	}
	// A deadline that has passed is told before anything is asked.
	ended = ended || f.Ended()
	if err != nil && !ended && !errors.Is(err, os.ErrDeadlineExceeded) {
		return false, fmt.Errorf("wait for %d: %w", f.pid, err)
	}
	return ended, nil
}

// Ended reports whether all threads of the process have ended, reaped or not.
func (f *File) Ended() bool {
	ended := false
	_ = f.control(func(fd int) error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		ended = err == nil && n == 1
		return nil
	})
	return ended
}

// Close lets go of the process.
func (f *File) Close() { _ = f.file.Close() } // nothing was written through it

func (f *File) control(do func(fd int) error) error {
	raw, err := f.file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = do(int(fd)) }); err != nil {
		return err
	}
	return failed
}
