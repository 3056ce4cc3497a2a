package fds

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func openPidfd(t *testing.T, pid int) int {
	t.Helper()
	pidfd, err := OpenProcess(int32(pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pidfd) })
	return pidfd
}

// TestFetch holds what is fetched against what the socket's own process knows.
func TestFetch(t *testing.T) {
	require.Root(t)
	child := scene.StartT(t, scene.ChildOptions{})
	pidfd := openPidfd(t, child.PID())
	f := NewFetcher()
	defer f.Close()
	for _, spec := range []scene.Spec{
		{Kind: scene.Hidden, Pairs: 3, Bytes: 9000},
		{Kind: scene.Hidden, Pairs: 2, Bytes: 9000, Finish: true, Family: scene.IPv6},
		{Kind: scene.Unread, Pairs: 2, Bytes: 5000, Family: scene.Mapped},
		{Kind: scene.Unconnected},
		{Kind: scene.Listening},
	} {
		for _, want := range scene.BuildT(t, child, spec).Sockets {
			if want.FD < 0 {
				continue
			}
			got, err := f.Fetch(pidfd, int32(want.FD))
			if err != nil {
				t.Errorf("%s: %v", spec.Kind, err)
				continue
			}
			if got.Cookie != want.Cookie || got.Inode != want.Inode || got.State != want.State || got.Mem != *want.Mem || got.MPTCP {
				t.Errorf("%s: fetched %+v, want %+v", spec.Kind, got, want)
			}
		}
	}
	if _, err := f.Fetch(pidfd, 0); err == nil || !strings.Contains(err.Error(), "not TCP") {
		t.Errorf("a Unix socket: error %v", err)
	}
	if _, err := f.Fetch(pidfd, 9999); !errors.Is(err, unix.EBADF) {
		t.Errorf("no descriptor: error %v, want bad descriptor", err)
	}
	child.Kill()
	if _, err := f.Fetch(pidfd, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a process that ended: error %v, want no such process", err)
	}
}

// lingering makes a connection of this process whose close waits for its unsent
// data, and returns how to let it go.
func lingering(t *testing.T, wait int32) (fd int, release func()) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := func() int {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(err)
		return fd
	}
	listener := socket()
	defer unix.Close(listener)
	must(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(listener, 1))
	addr, err := unix.Getsockname(listener)
	must(err)
	fd = socket()
	must(unix.Connect(fd, addr))
	peer, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(err)
	must(unix.SetNonblock(fd, true))
	for buf := make([]byte, 64<<10); err == nil; {
		_, err = unix.Write(fd, buf)
	}
	must(unix.SetNonblock(fd, false)) // a non-blocking close does not wait
	must(unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: wait}))
	return fd, sync.OnceFunc(func() {
		must(unix.SetsockoptLinger(peer, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		must(unix.Close(peer)) // a reset ends the wait
	})
}

// TestFetchLastHolder: the owner closes a lingering socket while the fetcher
// holds it, so that the wait becomes the fetcher's. The caller goes on in time.
func TestFetchLastHolder(t *testing.T) {
	require.Root(t)
	pidfd := openPidfd(t, os.Getpid())
	f := NewFetcher()
	defer f.Close()
	f.one = func(pidfd, fd int) (reading.Socket, error) {
		got, err := unix.PidfdGetfd(pidfd, fd, 0)
		if err != nil {
			return reading.Socket{}, err
		}
		unix.Close(fd)                           // the owner, which does not wait: it is not the last
		return reading.Socket{}, unix.Close(got) // waits
	}
	fd, release := lingering(t, 30)
	defer release()
	start := time.Now()
	_, err := f.Fetch(pidfd, int32(fd))
	if took := time.Since(start); !errors.Is(err, ErrStuck) || took < fetchDeadline || took > 4*fetchDeadline {
		t.Errorf("error %v after %v, want stuck after %v", err, took, fetchDeadline)
	}
	if len(f.stuck) != 1 {
		t.Errorf("%d threads hang, want 1", len(f.stuck))
	}
	// The next one is fetched by another thread.
	f.one = fetchOne
	other, done := lingering(t, 0)
	defer done()
	defer unix.Close(other)
	if s, err := f.Fetch(pidfd, int32(other)); err != nil || s.State != reading.Established {
		t.Errorf("the next: %+v, error %v", s, err)
	}
	release()
	waitFor(t, "the thread that hung to come back", func() bool { return len(f.stuck) == 0 })
}

// TestFetchStuck: after maxStuck threads none is started before one is back.
func TestFetchStuck(t *testing.T) {
	pidfd := openPidfd(t, os.Getpid())
	f := NewFetcher()
	back := make(chan struct{})
	f.one = func(int, int) (reading.Socket, error) { <-back; return reading.Socket{}, nil }
	for range maxStuck {
		if _, err := f.Fetch(pidfd, 0); !errors.Is(err, ErrStuck) {
			t.Fatalf("error %v, want stuck", err)
		}
	}
	start := time.Now()
	if _, err := f.Fetch(pidfd, 0); !errors.Is(err, ErrStuck) || time.Since(start) > fetchDeadline/2 {
		t.Errorf("error %v after %v, want stuck at once", err, time.Since(start))
	}
	close(back)
	waitFor(t, "all threads to come back", func() bool { return len(f.stuck) == 0 })
	if _, err := f.Fetch(pidfd, 0); err != nil {
		t.Errorf("after they came back: %v", err)
	}
	f.Close()
	f.Close()
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
