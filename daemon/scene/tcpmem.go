package scene

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	tcpMemSysctl = "/proc/sys/net/ipv4/tcp_mem"
	tcpMemLock   = "tcpmemd-tcp_mem.lock"
	// lockWait is how long another holder of the lock is waited for.
	lockWait = 3 * time.Minute
)

// TCPMemLease is a lowered net.ipv4.tcp_mem.
type TCPMemLease struct {
	Before   reading.TCPMem // what Restore brings back
	guardian *process
	stdin    io.WriteCloser
	stdout   *os.File
}

// LowerTCPMem sets net.ipv4.tcp_mem until Restore, or until this process dies,
// in whatever way: a guardian process of its own session restores it then. The
// sysctl belongs to the whole machine, so one holder at a time: another is
// waited for until ctx is done, at most three minutes. Should even the
// guardian be killed, the next caller restores what it left in the lock file.
func LowerTCPMem(ctx context.Context, to reading.TCPMem) (*TCPMemLease, error) {
	lock := filepath.Join("/run/lock", tcpMemLock)
	if _, err := os.Stat(filepath.Dir(lock)); err != nil {
		lock = filepath.Join(os.TempDir(), tcpMemLock)
	}
	l, err := lowerTCPMem(ctx, tcpMemSysctl, lock, to)
	if err != nil {
		return nil, fmt.Errorf("lower tcp_mem: %w", err)
	}
	return l, nil
}

// LowerTCPMemT is LowerTCPMem for a test, restored when the test ends.
func LowerTCPMemT(t TB, to reading.TCPMem) *TCPMemLease {
	t.Helper()
	l, err := LowerTCPMem(t.Context(), to)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := l.Restore(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return l
}

func lowerTCPMem(ctx context.Context, sysctl, lockPath string, to reading.TCPMem) (*TCPMemLease, error) {
	if to.Min <= 0 || to.Min > to.Pressure || to.Pressure > to.Max {
		return nil, fmt.Errorf("%v is no triple of rising sizes", to)
	}
	lock, err := takeLock(ctx, lockPath)
	if err != nil {
		return nil, err
	}
	// The guardian inherits the open file, and with it the lock: it is free
	// once the guardian is gone, however that comes.
	defer lock.Close()
	stdout, theirStdout, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirStdout.Close()
	cmd := selfCommand(jobGuardian)
	cmd.Args = []string{"scene-guardian", sysctl, formatTCPMem(to)}
	cmd.ExtraFiles = []*os.File{lock}
	cmd.SysProcAttr.Setsid = true // Ctrl-C is for the test, not for its guardian
	cmd.Stdout = theirStdout
	stdin, err := cmd.StdinPipe()
	if err != nil {
		stdout.Close()
		return nil, err
	}
	l := &TCPMemLease{stdin: stdin, stdout: stdout}
	if l.guardian, err = spawn(cmd, nil); err != nil {
		stdout.Close()
		return nil, err
	}
	theirStdout.Close()
	said := make([]byte, 128) // the old triple in one write, or nothing
	n, err := stdout.Read(said)
	if err == nil {
		l.Before, err = parseTCPMem(string(said[:n]))
	} else {
		err = l.guardian.fate()
	}
	if err != nil {
		return nil, errors.Join(err, l.Restore())
	}
	return l, nil
}

// Restore brings the old triple back, and fails where it did not take.
// Restoring again is no error.
func (l *TCPMemLease) Restore() error {
	if l.guardian == nil {
		return nil
	}
	l.stdin.Close()
	l.guardian.end(patience)
	var err error
	if l.guardian.err != nil {
		err = fmt.Errorf("restore tcp_mem: guardian: %w", l.guardian.fate())
	}
	l.stdout.Close()
	l.guardian.close()
	l.guardian = nil
	return err
}

// takeLock opens the file and locks it (flock(2)).
func takeLock(ctx context.Context, path string) (*os.File, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	// The directory is anybody's to write, and what the file says is written to
	// the sysctl.
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || int(st.Uid) != os.Geteuid() {
		f.Close()
		return nil, errors.Join(fmt.Errorf("lock %s: it belongs to user %d", path, st.Uid), err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("wait for %s, which another test holds: %w", path, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// formatTCPMem gives the triple as the sysctl takes it.
func formatTCPMem(m reading.TCPMem) string {
	return fmt.Sprintf("%d %d %d", m.Min, m.Pressure, m.Max)
}

func parseTCPMem(text string) (reading.TCPMem, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return reading.TCPMem{}, fmt.Errorf("parse tcp_mem: %d numbers", len(fields))
	}
	var pages [3]reading.Pages
	for i, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return reading.TCPMem{}, fmt.Errorf("parse tcp_mem: %w", err)
		}
		pages[i] = reading.Pages(n)
	}
	return reading.TCPMem{Min: pages[0], Pressure: pages[1], Max: pages[2]}, nil
}
