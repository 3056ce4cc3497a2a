// Package lockfile takes the locks that keep a second daemon out.
package lockfile

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a lock is waited for: a daemon that was killed may have
// left a child between fork(2) and execve(2), which still has all of its
// descriptors.
const patience = time.Second

// Take locks f exclusively (flock(2)) until it is closed, also by the death of
// the process. The error is unix.EWOULDBLOCK where somebody else has it.
func Take(f *os.File) error {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(end) {
			return err
		}
	}
}
