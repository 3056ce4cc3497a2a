package fds

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// known lists the living processes.
func known(x *Index) map[int32]uint32 {
	m := map[int32]uint32{}
	for _, p := range x.All {
		m[p.PID] = p.Netns
	}
	return m
}

// identify does what a scan does to a process that holds sockets.
func identify(x *Index, pid int32, start uint64) owner.ProcRef {
	ref := x.byPID[pid]
	x.Proc(ref).Start, x.Proc(ref).Identified = start, true
	return ref
}

func TestRefresh(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	proc.start(10, 100, 5)
	proc.start(20, 100, 6)
	want := func(what string, want map[int32]uint32) {
		t.Helper()
		proc.refresh(x)
		if diff := cmp.Diff(want, known(x)); diff != "" || x.Living() != len(want) {
			t.Errorf("%s: %d living, namespaces by pid (-want +got):\n%s", what, x.Living(), diff)
		}
	}
	want("two", map[int32]uint32{10: 5, 20: 6})
	proc.start(10, 100, 7) // setns
	want("one moved", map[int32]uint32{10: 7, 20: 6})
	proc.end(20)
	want("one ended", map[int32]uint32{10: 7})
	proc.start(20, 200, 8)
	want("its pid again", map[int32]uint32{10: 7, 20: 8})
	proc.end(10)
	proc.end(20)
	want("all ended", map[int32]uint32{})
}

// TestReferencesLast: the place of a dead process is not given to another
// before an attribution has let go of it, however many refreshes that takes.
func TestReferencesLast(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	proc.start(10, 100, 5)
	proc.refresh(x)
	old := x.byPID[10]
	proc.end(10)
	proc.start(20, 100, 5)
	proc.refresh(x)
	if p := x.Proc(old); p.PID != 10 || p.Alive {
		t.Errorf("the dead process's place: %+v, want it dead", p)
	}
	if x.byPID[20] == old {
		t.Error("its place was given away in the same turn")
	}
	for range 5 {
		proc.refresh(x)
	}
	if p := x.Proc(old); p.PID != 10 {
		t.Errorf("the dead process's place after some refreshes: %+v", p)
	}
	x.Settled()
	proc.start(30, 100, 5)
	proc.refresh(x)
	if x.byPID[30] != old || x.Len() != 2 {
		t.Errorf("process 30 is at %d of %d, want the free place %d of 2", x.byPID[30], x.Len(), old)
	}
}

// TestPIDReuse: a pid given to another process between two refreshes is another
// process, whose descriptors nobody has read.
func TestPIDReuse(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	proc.start(10, 100, 5)
	proc.refresh(x)
	old := identify(x, 10, 100)
	x.Record(Found{Proc: old, Count: 3, Sockets: []Descriptor{{FD: 3, Inode: 1}}}, 7, time.Unix(1, 0))
	if !x.Verify(old) {
		t.Error("the same process is taken for another")
	}
	proc.start(10, 999, 6)
	proc.refresh(x) // it rechecks
	now := x.byPID[10]
	if now == old || x.Proc(old).Alive {
		t.Errorf("the new process is at %d as the old one, alive %v", now, x.Proc(old).Alive)
	}
	if p := x.Proc(now); p.Identified || p.Count != -1 || p.Read != 0 || p.Sockets != 0 || p.Netns != 6 {
		t.Errorf("the new process inherits: %+v", p)
	}
	if x.Verify(old) {
		t.Error("the dead one is verified")
	}
	proc.end(10)
	if x.Verify(identify(x, 10, 999)) || x.Living() != 0 {
		t.Error("a process that ended is verified")
	}
}

func TestRecordAndChanged(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	proc.start(10, 100, 5)
	proc.refresh(x)
	ref := x.byPID[10]
	at := time.Unix(5, 0)
	x.Record(Found{Proc: ref, Count: 3, Sockets: []Descriptor{{FD: 3, Inode: 1}}}, 7, at)
	boom := errors.New("boom")
	x.Record(Found{Proc: ref, Count: 1, Err: boom}, 8, time.Unix(6, 0))
	if p := x.Proc(ref); p.Count != 3 || p.Sockets != 1 || p.Read != 7 || !p.ReadAt.Equal(at) || p.Unread != boom {
		t.Errorf("after a failed reading %+v, want what was read before and why it failed", p)
	}
	// The real one: st_size of /proc/PID/fd is the number of descriptors on
	// Linux 6.2 and later (proc_fd_getattr), 0 before it.
	host, err := Open(procfs.New("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := host.Refresh(); err != nil {
		t.Fatal(err)
	}
	own := host.Proc(host.byPID[int32(os.Getpid())])
	if !own.Own || own.Netns == 0 {
		t.Errorf("this process in the index: %+v", own)
	}
	own.tables = []Table{{Count: math.MaxInt64}}
	if !host.Changed(own) {
		t.Error("another number of descriptors is no change")
	}
	if x.Changed(&Process{PID: 4242}) {
		t.Error("a process that is gone changed")
	}
}

// TestOrder: new ones first, then those with few descriptors, which are read
// soon; never this process, which holds others' descriptors for a moment.
func TestOrder(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	for pid := 11; pid <= 16; pid++ {
		proc.start(pid, 1, 5)
	}
	proc.start(99, 1, 5)
	x.self = 99
	proc.refresh(x)
	for pid, count := range map[int32]int64{11: 500, 12: 3, 13: 40, 14: 3} {
		x.Record(Found{Proc: x.byPID[pid], Count: count}, 1, time.Unix(1, 0))
	}
	var got []int32
	for _, ref := range x.Order() {
		got = append(got, x.Proc(ref).PID)
	}
	if diff := cmp.Diff([]int32{15, 16, 12, 14, 13, 11}, got); diff != "" {
		t.Errorf("pids (-want +got):\n%s", diff)
	}
}

// TestVerifyCannotTell: that the start time cannot be read says nothing about
// the process. Once every holder was taken for dead when descriptors ran out.
func TestVerifyCannotTell(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	proc.start(10, 100, 5)
	proc.refresh(x)
	ref := identify(x, 10, 100)
	var limit unix.Rlimit
	proc.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 0
	proc.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	same := x.Verify(ref)
	proc.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	if p := x.Proc(ref); !same || !p.Alive || !errors.Is(p.Unread, unix.EMFILE) {
		t.Errorf("no descriptor left to ask: same %v, %+v", same, p)
	}
	if p := x.Proc(ref); !x.Verify(ref) || p.Unread != nil {
		t.Errorf("asked again: %+v", p)
	}
	// Why its descriptors could not be read is not forgotten for that.
	boom := errors.New("boom")
	x.Record(Found{Proc: ref, Err: boom}, 1, time.Unix(1, 0))
	if p := x.Proc(ref); !x.Verify(ref) || p.Unread != boom {
		t.Errorf("unreadable: %+v", p)
	}
}

// TestChangedWithoutSize: kernels before 6.2 give no number of descriptors, as
// directories of the fake do not. They are counted then.
func TestChangedWithoutSize(t *testing.T) {
	proc := newFakeProc(t)
	x := proc.open()
	if x.sized {
		t.Fatal("the size of a directory is taken for the number of descriptors")
	}
	proc.start(10, 100, 5)
	proc.fd(10, 0, "/dev/null")
	proc.fd(10, 7, "socket:[123]")
	proc.refresh(x)
	ref := x.byPID[10]
	if !x.Changed(x.Proc(ref)) {
		t.Error("a process that was never read did not change")
	}
	f := walk(t, x, 1, 123)[10]
	x.Record(f, 1, time.Unix(1, 0))
	expect := func(what string, want bool) {
		t.Helper()
		if got := x.Changed(x.Proc(ref)); got != want {
			t.Errorf("%s: changed %v, want %v", what, got, want)
		}
		x.Walk(t.Context(), x.Order(), 1, Wanted{SkipUnchanged: true, Holds: func(uint32) bool { return false }}, func(f Found) bool {
			if f.Skipped == want {
				t.Errorf("%s: skipped %v", what, f.Skipped)
			}
			return true
		})
	}
	expect("as it was", false)
	proc.fd(10, 8, "socket:[124]")
	expect("one more", true)
	proc.must(os.Remove(filepath.Join(proc.root, "10/fd/7")))
	expect("another", true)
	x.Record(walk(t, x, 1)[10], 2, time.Unix(2, 0))
	expect("read again", false)
}

// TestSized: this kernel tells, and can compare tables.
func TestSized(t *testing.T) {
	host, err := Open(procfs.New("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	require.Kernel(t, 6, 2)
	if !host.sized || !host.kcmp {
		t.Errorf("sized %v, kcmp %v", host.sized, host.kcmp)
	}
}

// TestInterrupted: what was found halfway counts, the reading does not.
func TestInterrupted(t *testing.T) {
	proc := newFakeProc(t)
	proc.start(10, 1, 5)
	const n = 3000 // more than one buffer of directory entries
	for fd := range n {
		proc.fd(10, fd, fmt.Sprintf("socket:[%d]", fd+1))
	}
	x := proc.open()
	proc.refresh(x)
	late := errors.New("late")
	ctx, cancel := context.WithCancelCause(t.Context())
	var found []Found
	x.Walk(ctx, x.Order(), 1, Wanted{Holds: func(uint32) bool { cancel(late); return true }}, func(f Found) bool {
		found = append(found, f)
		return true
	})
	if len(found) != 1 {
		t.Fatalf("%d readings, want the interrupted one", len(found))
	}
	f := found[0]
	if !f.Partial || !errors.Is(f.Err, late) || len(f.Sockets) == 0 || len(f.Sockets) >= n || f.Tables != nil {
		t.Errorf("partial %v, error %v, %d sockets, tables %v", f.Partial, f.Err, len(f.Sockets), f.Tables)
	}
	x.Record(f, 7, time.Unix(1, 0))
	p := x.Proc(f.Proc)
	if p.Read != 0 || p.Count != -1 || p.Sockets != len(f.Sockets) || p.Unread != nil || !p.Tried.IsZero() || p.Interrupted != 1 {
		t.Errorf("recorded as %+v", p)
	}
	if !x.Changed(p) {
		t.Error("it need not be read again")
	}
	x.Record(walk(t, x, 1)[10], 8, time.Unix(2, 0))
	if p.Read != 8 || p.Count != n || p.Interrupted != 0 {
		t.Errorf("read in full: %+v", p)
	}
}
