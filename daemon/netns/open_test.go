package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// within fails the test if f takes long: what hangs does so for ever.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// TestSwappedDescriptor: who holds a namespace by a descriptor may put anything
// into its place after it was seen. Root must open none of it.
func TestSwappedDescriptor(t *testing.T) {
	table := openReal(t)
	ns := scene.NewNetns(t)
	good, err := os.Open(ns.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, "/dev/null", dir, "/proc/self/ns/net", "/proc/self/ns/mnt"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			refresh(t, table)
			within(t, "to keep it", func() { table.Keep(55, int32(os.Getpid()), int32(fd)) })
			n := table.by(55)
			within(t, "to enter it", func() {
				if err := table.Do(n, func() error { return nil }); !errors.Is(err, errAnother) {
					t.Errorf("error %v, want %v", err, errAnother)
				}
				if _, err := table.Inuse(n); !errors.Is(err, errAnother) {
					t.Errorf("error %v, want %v", err, errAnother)
				}
			})
			if !table.Gone(n) {
				t.Error("it is not gone, though nothing leads to it")
			}
		})
	}

	// Beside it, whoever honestly holds the namespace still leads to it.
	refresh(t, table)
	bad, err := unix.Open(fifo, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(bad)
	n := table.by(ns.Inode)
	table.Keep(ns.Inode, int32(os.Getpid()), int32(good.Fd()))
	table.Keep(ns.Inode, int32(os.Getpid()), int32(bad))
	n.mount = ""
	if err := table.Do(n, func() error { return nil }); err != nil || table.Gone(n) {
		t.Errorf("error %v; want the honest descriptor used", err)
	}
}

// TestOpen: a namespace is opened from a descriptor that is but a pointer to it.
func TestOpen(t *testing.T) {
	require.Root(t)
	e, err := NewEnterer()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f, err := e.open("/proc/self/ns/net", e.inode)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := e.Do(f, func() error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := e.open("/proc/self/ns/nothing", 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want %v", err, fs.ErrNotExist)
	}
}

// TestGone: only what is known to lead nowhere is gone.
func TestGone(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	proc.enter(10, 77)
	refresh(t, table, Member{PID: 10, Netns: 77})
	n := table.by(77)
	n.keepers[0] = keeper{11, 3}
	for _, tt := range []struct {
		process, descriptor error
		want                bool
	}{
		{unix.ENOENT, unix.ESRCH, true},
		{unix.ENOENT, errAnother, true},
		{errAnother, errAnother, true},
		{unix.EMFILE, unix.ENOENT, false},
		{unix.ENOENT, unix.ENFILE, false},
		{unix.ENOMEM, unix.ENOMEM, false},
		{unix.ESRCH, unix.EIO, false},
		{unix.EACCES, unix.ENOENT, false},
		{unix.EPERM, errAnother, false},
	} {
		table.opener = func(path string, inode uint32) (*os.File, error) {
			if filepath.Base(path) == "net" {
				return nil, &os.PathError{Op: "open", Path: path, Err: tt.process}
			}
			return nil, fmt.Errorf("reopen: %w", tt.descriptor)
		}
		if got := table.Gone(n); got != tt.want {
			t.Errorf("%v, %v: gone is %v", tt.process, tt.descriptor, got)
		}
	}
	if table.Gone(table.by(table.home)) {
		t.Error("home is gone")
	}
	n.holders = holders{}
	if !table.Gone(n) {
		t.Error("what nothing holds is not gone")
	}
}

// TestSampleDoesNotWait: a path that takes for ever to open holds up whoever
// scans, not the sample.
func TestSampleDoesNotWait(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	refresh(t, table)
	hang, stuck := make(chan struct{}), make(chan struct{})
	var once sync.Once
	table.opener = func(string, uint32) (*os.File, error) {
		once.Do(func() { close(stuck) })
		<-hang
		return nil, unix.ENOENT
	}
	done := make(chan error)
	go func() { done <- table.Refresh(slices.Values([]Member{{PID: 10, Netns: 77}})) }()
	<-stuck
	within(t, "Sample", func() {
		table.Sample(8)
		table.Totals()
		table.MPTCPTotal()
	})
	close(hang)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFailuresAreRemembered: a namespace that cannot be entered is not tried at
// each refresh, but at once when somebody else holds it.
func TestFailuresAreRemembered(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	tries := 0
	table.opener = func(string, uint32) (*os.File, error) {
		tries++
		return nil, unix.EIO
	}
	for range 10 {
		refresh(t, table, Member{PID: 10, Netns: 77})
	}
	first := tries
	if first == 0 || first > 2 {
		t.Errorf("tried %d times in ten refreshes, want once for cookie and counters each", tries)
	}
	refresh(t, table, Member{PID: 11, Netns: 77})
	if tries != 2*first {
		t.Errorf("tried %d times after another process came, want %d", tries, 2*first)
	}
	for range 100 {
		refresh(t, table, Member{PID: 11, Netns: 77})
	}
	if tries < 3*first || tries > 4*first {
		t.Errorf("tried %d times after a hundred more refreshes", tries)
	}
}

// TestSampleBudget: what counts events has its turn when there is time, the
// number of sockets is read of all.
func TestSampleBudget(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	table.budget = -1
	proc.counters("10", 7, 1)
	proc.enter(10, 77)
	refresh(t, table, Member{PID: 10, Netns: 77})
	if errs := table.Sample(1 << 20); errs != nil {
		t.Fatal(errs)
	}
	if n, inuse, _ := table.Totals(); n != 2 || inuse != 14 || table.by(77).hasLast || !table.by(table.home).hasLast {
		t.Errorf("%d namespaces, %d in use; netstat of the other was read: %v", n, inuse, table.by(77).hasLast)
	}
}

// TestMPTCPTotal: the last known numbers of all namespaces.
func TestMPTCPTotal(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	const header = "protocol  size sockets  memory press maxhdr  slab module\n"
	line := func(name string, n int) string { return fmt.Sprintf("%s 2000 %d 5 no 320 yes kernel\n", name, n) }
	proc.counters("10", 7, 1)
	proc.enter(10, 77)
	refresh(t, table, Member{PID: 10, Netns: 77})
	table.Sample(8)
	if got := table.MPTCPTotal(); got != nil {
		t.Errorf("%d, want none without the file", *got)
	}
	proc.write("12/net/protocols", header+line("TCP", 1)+line("MPTCP", 3)+line("MPTCPv6", 4))
	proc.counters("12", 7, 1)
	proc.enter(12, 78)
	refresh(t, table, Member{PID: 10, Netns: 77}, Member{PID: 12, Netns: 78})
	if errs := table.Sample(8); errs != nil {
		t.Fatal(errs)
	}
	if got := table.MPTCPTotal(); got == nil || *got != 7 {
		t.Errorf("%v, want 7", got)
	}
}
