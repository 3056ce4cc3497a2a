package fds

import (
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
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
	x.Record(Found{Proc: old, Count: 3, Sockets: []Descriptor{{3, 1}}}, 7, time.Unix(1, 0))
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
	x.Record(Found{Proc: ref, Count: 3, Sockets: []Descriptor{{3, 1}}}, 7, at)
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
	own.Count = math.MaxInt64
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
