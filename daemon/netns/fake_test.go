package netns

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
)

// fakeProc is a proc file system in which processes, their namespaces and the
// counters of these are what the test says.
type fakeProc struct {
	t    *testing.T
	root string
}

func newFakeProc(t *testing.T) *fakeProc {
	f := &fakeProc{t, t.TempDir()}
	f.write("self/mountinfo", "")
	f.counters("thread-self", 3, 0)
	return f
}

func (f *fakeProc) write(path, text string) {
	f.t.Helper()
	path = filepath.Join(f.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.t.Fatal(err)
	}
}

// counters sets inuse and ListenOverflows as a process sees them.
func (f *fakeProc) counters(who string, inuse, overflows int) {
	f.write(who+"/net/sockstat", fmt.Sprintf("sockets: used 9\nTCP: inuse %d orphan 0 tw 0 alloc 9 mem 1\n", inuse))
	f.write(who+"/net/sockstat6", "TCP6: inuse 2\n")
	f.write(who+"/net/netstat", fmt.Sprintf("TcpExt: ListenOverflows\nTcpExt: %d\n", overflows))
}

// enter puts a process into a namespace.
func (f *fakeProc) enter(pid int32, inode uint32) {
	f.t.Helper()
	link := filepath.Join(f.root, fmt.Sprint(pid), "ns/net")
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		f.t.Fatal(err)
	}
	_ = os.Remove(link)
	if err := os.Symlink(fmt.Sprintf("net:[%d]", inode), link); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeProc) open() *Table {
	f.t.Helper()
	t, err := Open(procfs.New(f.root))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := t.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return t
}

func refresh(t *testing.T, table *Table, members ...Member) {
	t.Helper()
	if err := table.Refresh(slices.Values(members)); err != nil {
		t.Fatal(err)
	}
}

func inodes(table *Table) (list []uint32) {
	for _, n := range table.All() {
		list = append(list, n.ID.Inode)
	}
	return list
}

func overflows(table *Table) int64 {
	_, _, rise := table.Totals()
	if rise.ListenOverflows == nil {
		return -1
	}
	return *rise.ListenOverflows
}

// TestTotalsNeverFall: namespaces come, count, and go; what they counted stays.
func TestTotalsNeverFall(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	want := func(what string, namespaces int, inuse, rise int64) {
		t.Helper()
		for _, err := range table.Sample(1 << 20) {
			t.Errorf("%s: %v", what, err)
		}
		n, in, _ := table.Totals()
		if got := overflows(table); n != namespaces || in != inuse || got != rise {
			t.Errorf("%s: %d namespaces, %d in use, %d overflows; want %d, %d, %d", what, n, in, got, namespaces, inuse, rise)
		}
	}
	refresh(t, table)
	want("alone", 1, 5, 0) // known, and zero so far

	proc.counters("10", 7, 1000)
	proc.enter(10, 77)
	refresh(t, table, Member{PID: 10, Netns: 77}, Member{PID: 11})
	want("another came with a past", 2, 14, 0)
	proc.counters("10", 7, 1003)
	want("it counts", 2, 14, 3)
	proc.counters("thread-self", 3, 10)
	want("home counts", 2, 14, 13)

	refresh(t, table)
	want("it went", 1, 5, 13)
	proc.counters("10", 1, 4)
	refresh(t, table, Member{PID: 10, Netns: 77}) // its inode number is given out again
	want("a new one with its number", 2, 8, 13)
	proc.counters("10", 1, 6)
	want("the new one counts", 2, 8, 15)
	proc.counters("10", 1, 0) // no kernel does that
	want("a counter fell", 2, 8, 15)
}

// TestSampleInTurn: a calm host reads some namespaces each second, its own always.
func TestSampleInTurn(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	var members []Member
	const n = 7
	for i := range int32(n) {
		proc.counters(fmt.Sprint(10+i), 1, 0)
		proc.enter(10+i, uint32(100+i))
		members = append(members, Member{PID: 10 + i, Netns: uint32(100 + i)})
	}
	refresh(t, table, members...)
	read := func() (count int) {
		for _, n := range table.All() {
			if n.hasLast {
				count++
			}
		}
		return count
	}
	for turn := 1; turn <= 4; turn++ {
		if errs := table.Sample(2); errs != nil {
			t.Fatal(errs)
		}
		if got := read(); got > 1+3*turn {
			t.Errorf("after turn %d: %d were read", turn, got)
		}
	}
	if got := read(); got != n+1 {
		t.Errorf("after four turns %d of %d were read", got, n+1)
	}
}

// TestReusedPID: between Refresh and the opening of its files a process may end
// and its pid be given to one in another namespace.
func TestReusedPID(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	proc.counters("10", 7, 1)
	proc.enter(10, 88) // by now
	refresh(t, table, Member{PID: 10, Netns: 77})
	errs := table.Sample(8)
	if len(errs) != 1 || !strings.Contains(errs[0].Error(), "netns 77") {
		t.Errorf("errors %v, want one about netns 77", errs)
	}
	if n, inuse, _ := table.Totals(); n != 1 || inuse != 5 {
		t.Errorf("%d namespaces, %d in use; want the own one only, 5", n, inuse)
	}
	for _, n := range table.All() {
		if n.files.sockstat != nil && !n.Home {
			t.Error("the files of another namespace are kept open")
		}
	}
	// The next process that is in it will do.
	proc.counters("12", 4, 1)
	proc.enter(12, 77)
	refresh(t, table, Member{PID: 12, Netns: 77})
	if errs := table.Sample(8); errs != nil {
		t.Error(errs)
	}
	if n, inuse, _ := table.Totals(); n != 2 || inuse != 11 {
		t.Errorf("%d namespaces, %d in use; want 2, 11", n, inuse)
	}
}

// TestKeep: a namespace that only a descriptor holds is found while reading
// processes, beside all others, and let go of with the descriptor.
func TestKeep(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	proc.enter(10, 77)
	refresh(t, table, Member{PID: 10, Netns: 77})
	before := inodes(table)
	proc.enter(12, 55)
	fd := filepath.Join(proc.root, "10/fd")
	if err := os.MkdirAll(fd, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("net:[55]", filepath.Join(fd, "3")); err != nil {
		t.Fatal(err)
	}
	if !table.KeepThread(55, 12) || table.KeepThread(55, 12) {
		t.Error("KeepThread does not tell what is new")
	}
	refresh(t, table, Member{PID: 10, Netns: 77})
	if !slices.Contains(inodes(table), 55) {
		t.Error("the thread's namespace is let go of")
	}
	proc.enter(12, 77)
	refresh(t, table, Member{PID: 10, Netns: 77})
	if !table.Keep(55, 10, 3) || table.Keep(55, 10, 3) || table.Keep(77, 10, 9) {
		t.Error("Keep does not tell what is new")
	}
	want := slices.Sorted(slices.Values(append(before, 55)))
	for _, what := range []string{"found", "after the next refresh"} {
		if got := inodes(table); !slices.Equal(got, want) {
			t.Errorf("%s: namespaces %v, want %v", what, got, want)
		}
		refresh(t, table, Member{PID: 10, Netns: 77})
	}
	if err := os.Remove(filepath.Join(fd, "3")); err != nil {
		t.Fatal(err)
	}
	refresh(t, table, Member{PID: 10, Netns: 77})
	if got := inodes(table); !slices.Equal(got, before) {
		t.Errorf("after its end: namespaces %v, want %v", got, before)
	}
}

func TestUnreadable(t *testing.T) {
	proc := newFakeProc(t)
	table := proc.open()
	proc.enter(10, 77)
	proc.counters("10", 7, 1)
	proc.write("10/net/sockstat", "nonsense\n")
	refresh(t, table, Member{PID: 10, Netns: 77})
	if errs := table.Sample(8); len(errs) != 1 {
		t.Errorf("errors %v, want one", errs)
	}
	proc.counters("10", 7, 1)
	if errs := table.Sample(8); errs != nil {
		t.Errorf("readable again: %v", errs)
	}
	if n, _, _ := table.Totals(); n != 2 {
		t.Errorf("%d namespaces, want 2", n)
	}
}
