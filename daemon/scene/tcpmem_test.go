package scene

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

var (
	usual = reading.TCPMem{Min: 100, Pressure: 200, Max: 300}
	low   = reading.TCPMem{Min: 1, Pressure: 2, Max: 3}
)

// fakeSysctl gives a file in the place of tcp_mem, and a lock file.
func fakeSysctl(t *testing.T) (sysctl, lock string, now func() reading.TCPMem) {
	t.Helper()
	dir := t.TempDir()
	sysctl, lock = filepath.Join(dir, "tcp_mem"), filepath.Join(dir, "lock")
	if err := writeFile(sysctl, "100\t200\t300\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(sysctl, 0o600); err != nil {
		t.Fatal(err)
	}
	return sysctl, lock, func() reading.TCPMem {
		t.Helper()
		m, err := (&guardian{sysctl: sysctl}).read()
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
}

func TestLowerTCPMem(t *testing.T) {
	sysctl, lock, now := fakeSysctl(t)
	l, err := lowerTCPMem(t.Context(), sysctl, lock, low)
	if err != nil {
		t.Fatal(err)
	}
	if l.Before != usual || now() != low {
		t.Errorf("before %v, now %v", l.Before, now())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := lowerTCPMem(ctx, sysctl, lock, low); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second holder: %v", err)
	}
	if err := l.Restore(); err != nil {
		t.Error(err)
	}
	if err := l.Restore(); err != nil {
		t.Errorf("again: %v", err)
	}
	if now() != usual {
		t.Errorf("restored to %v", now())
	}
	if text, err := os.ReadFile(lock); err != nil || len(text) != 0 {
		t.Errorf("lock file: %q, %v", text, err)
	}
	for _, bad := range []reading.TCPMem{{}, {Min: 3, Pressure: 2, Max: 1}} {
		if _, err := lowerTCPMem(t.Context(), sysctl, lock, bad); err == nil {
			t.Errorf("%v: no error", bad)
		}
	}
	if _, err := lowerTCPMem(t.Context(), sysctl+".absent", lock, low); !errors.As(err, new(*os.PathError)) && err == nil {
		t.Error("no error without the sysctl")
	}
}

// TestLowerTCPMemSurvivesDeath: the guardian restores when its parent is gone,
// the next one when the guardian was killed.
func TestLowerTCPMemSurvivesDeath(t *testing.T) {
	sysctl, lock, now := fakeSysctl(t)
	l, err := lowerTCPMem(t.Context(), sysctl, lock, low)
	if err != nil {
		t.Fatal(err)
	}
	// Signals that reach a whole session must not end it.
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if err := unix.Kill(l.guardian.pid(), sig); err != nil {
			t.Error(err)
		}
	}
	l.stdin.Close() // all that the guardian sees of our death
	<-l.guardian.done
	if now() != usual {
		t.Errorf("the guardian left %v", now())
	}
	if err := l.Restore(); err != nil {
		t.Error(err)
	}

	if l, err = lowerTCPMem(t.Context(), sysctl, lock, low); err != nil {
		t.Fatal(err)
	}
	l.guardian.kill()
	if now() != low {
		t.Errorf("%v after the guardian was killed", now())
	}
	if err := l.Restore(); err == nil {
		t.Error("Restore did not tell that the guardian was killed")
	}
	if l, err = lowerTCPMem(t.Context(), sysctl, lock, low); err != nil {
		t.Fatal(err)
	}
	if l.Before != usual {
		t.Errorf("the stale triple was not healed: before %v", l.Before)
	}
	if err := l.Restore(); err != nil || now() != usual {
		t.Errorf("%v, now %v", err, now())
	}
}

// TestLowerTCPMemReal touches the machine's own, for a moment, downwards only
// by a page.
func TestLowerTCPMemReal(t *testing.T) {
	require.Root(t)
	sysctl := &guardian{sysctl: tcpMemSysctl}
	before, err := sysctl.read()
	if errors.Is(err, os.ErrNotExist) {
		require.Missing(t, "the initial network namespace", "net.ipv4.tcp_mem is not set for real")
	}
	if err != nil {
		t.Fatal(err)
	}
	to := before
	to.Min--
	l, err := LowerTCPMem(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	now, err := sysctl.read()
	if err := errors.Join(err, l.Restore()); err != nil {
		t.Fatal(err)
	}
	if now.Max != l.Before.Max || now != to && l.Before == before {
		t.Errorf("%v, want %v", now, to)
	}
}
