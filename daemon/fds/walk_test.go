package fds

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	runIfThreads()
	goleak.VerifyTestMain(m)
}

// fakeProc is a proc file system made of files.
type fakeProc struct {
	t    testing.TB
	root string
}

func newFakeProc(t testing.TB) *fakeProc { return &fakeProc{t, t.TempDir()} }

// start makes a process; again with another start time it is another process.
func (p *fakeProc) start(pid int, startTime uint64, netns uint32) {
	p.t.Helper()
	dir := filepath.Join(p.root, fmt.Sprint(pid))
	p.must(os.MkdirAll(filepath.Join(dir, "fd"), 0o755))
	p.must(os.MkdirAll(filepath.Join(dir, "ns"), 0o755))
	stat := fmt.Sprintf("%d (task) queue)) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n", pid, startTime)
	p.must(os.WriteFile(filepath.Join(dir, "stat"), []byte(stat), 0o644))
	_ = os.Remove(filepath.Join(dir, "ns/net"))
	p.must(os.Symlink(fmt.Sprintf("net:[%d]", netns), filepath.Join(dir, "ns/net")))
}

func (p *fakeProc) end(pid int) {
	p.t.Helper()
	p.must(os.RemoveAll(filepath.Join(p.root, fmt.Sprint(pid))))
}

func (p *fakeProc) fd(pid, fd int, link string) {
	p.t.Helper()
	p.must(os.Symlink(link, filepath.Join(p.root, fmt.Sprint(pid), "fd", fmt.Sprint(fd))))
}

func (p *fakeProc) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *fakeProc) open() *Index {
	p.t.Helper()
	x, err := Open(procfs.New(p.root))
	p.must(err)
	p.t.Cleanup(func() {
		if err := x.Close(); err != nil {
			p.t.Error(err)
		}
	})
	return x
}

func (p *fakeProc) refresh(x *Index) {
	p.t.Helper()
	p.must(x.Refresh())
}

// walk reads every process and returns what was found by pid.
func walk(t *testing.T, x *Index, workers int, want ...uint32) map[int32]Found {
	t.Helper()
	found := map[int32]Found{}
	holds := func(inode uint32) bool { return slices.Contains(want, inode) }
	x.Walk(t.Context(), x.Order(), workers, Wanted{Holds: holds}, func(f Found) bool {
		found[x.Proc(f.Proc).PID] = f
		return true
	})
	return found
}

func TestWalk(t *testing.T) {
	proc := newFakeProc(t)
	proc.start(10, 1, 5)
	proc.fd(10, 0, "/dev/null")
	proc.fd(10, 3, "socket:[123]")
	proc.fd(10, 7, "socket:[456]") // not wanted
	proc.fd(10, 2000000, "socket:[789]")
	proc.fd(10, 8, "net:[4026531833]")
	proc.fd(10, 9, "/tmp/socket:[123]") // a file of that name
	proc.fd(10, 11, "socket:[123] (deleted)")
	proc.fd(10, 12, "socket:[99999999999]")
	proc.fd(10, 13, "/"+string(bytes.Repeat([]byte("x"), 200)))
	proc.start(20, 1, 5)
	proc.start(30, 1, 5)
	proc.fd(30, 3, "socket:[123]")
	proc.must(os.WriteFile(filepath.Join(proc.root, "30/fd/notes"), nil, 0o644))
	proc.start(40, 1, 5)
	x := proc.open()
	proc.refresh(x)
	proc.must(os.RemoveAll(filepath.Join(proc.root, "40/fd"))) // ended meanwhile

	for _, workers := range []int{0, 1, 3, 100} {
		found := walk(t, x, workers, 123, 789)
		got := found[10]
		slices.SortFunc(got.Sockets, func(a, b Descriptor) int { return int(a.FD - b.FD) })
		want := []Descriptor{{FD: 3, Inode: 123}, {FD: 2000000, Inode: 789}}
		if diff := cmp.Diff(want, got.Sockets); diff != "" || got.Count != 9 || got.Err != nil {
			t.Errorf("%d workers: count %d, error %v, sockets (-want +got):\n%s", workers, got.Count, got.Err, diff)
		}
		if diff := cmp.Diff([]Descriptor{{FD: 8, Inode: 4026531833}}, got.Netns); diff != "" {
			t.Errorf("namespaces (-want +got):\n%s", diff)
		}
		if f := found[20]; f.Count != 0 || f.Sockets != nil || f.Err != nil {
			t.Errorf("a process without descriptors: %+v", f)
		}
		if f := found[30]; f.Count != 1 || len(f.Sockets) != 1 {
			t.Errorf("a process with one descriptor: %+v", f)
		}
		if f := found[40]; !errors.Is(f.Err, fs.ErrNotExist) {
			t.Errorf("a process that ended: error %v", f.Err)
		}
	}
}

// TestWalkMany: a directory of more entries than one getdents64 buffer holds.
func TestWalkMany(t *testing.T) {
	proc := newFakeProc(t)
	proc.start(10, 1, 5)
	const n = 3000
	for fd := range n {
		proc.fd(10, fd, fmt.Sprintf("socket:[%d]", fd+1))
	}
	x := proc.open()
	proc.refresh(x)
	want := []uint32{1, n / 2, n}
	if f := walk(t, x, 1, want...)[10]; f.Count != n || len(f.Sockets) != len(want) {
		t.Errorf("%d descriptors, %d sockets; want %d, %d", f.Count, len(f.Sockets), n, len(want))
	}
}

// TestWalkEndsEarly: whoever starts goroutines waits for their end (goleak in
// TestMain), also when nobody wants more.
func TestWalkEndsEarly(t *testing.T) {
	proc := newFakeProc(t)
	for pid := range 300 {
		proc.start(pid+2, 1, 5)
	}
	x := proc.open()
	proc.refresh(x)
	order := x.Order()
	var mu sync.Mutex
	asked := 0
	want := Wanted{Holds: func(uint32) bool { mu.Lock(); defer mu.Unlock(); asked++; return true }}
	for _, stop := range []int{1, 2, 150} {
		n := 0
		x.Walk(t.Context(), order, 4, want, func(Found) bool { n++; return n < stop })
		if n != stop {
			t.Errorf("yielded %d times, want to stop at %d", n, stop)
		}
	}
	// What was read before the cancelling is not lost; nothing is begun after it.
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	x.Walk(ctx, order, 4, want, func(Found) bool { n++; cancel(); return true })
	if n == 0 || n > 1+64+2*4 {
		t.Errorf("yielded %d times, want those read before the cancelling", n)
	}
	x.Walk(ctx, order, 4, want, func(Found) bool { t.Error("yielded, cancelled before"); return true })
	x.Walk(t.Context(), nil, 4, want, func(Found) bool { t.Error("yielded for nobody"); return true })
}

// direntName is the offset of the name in struct linux_dirent64.
const direntName = 19

// dirent builds a struct linux_dirent64.
func dirent(name string) []byte {
	size := (direntName + len(name) + 1 + 7) &^ 7
	b := make([]byte, size)
	binary.NativeEndian.PutUint16(b[16:], uint16(size))
	copy(b[direntName:], name)
	return b
}

func TestEntriesTruncated(t *testing.T) {
	b := slices.Concat(dirent("."), dirent(".."), dirent("0"), dirent("17"))
	whole := 0
	for n := range len(b) + 1 {
		w := walker{want: Wanted{Holds: func(uint32) bool { return false }}}
		var f Found
		var table Table
		err := w.entries(-1, 1, b[:n], &table, &f)
		if err == nil {
			whole++
		}
		if (n == len(b)) != (table.Count == 2) {
			t.Errorf("%d of %d bytes: %d descriptors", n, len(b), table.Count)
		}
	}
	if whole != 5 {
		t.Errorf("%d lengths are taken for whole, want those between entries and none", whole)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add(slices.Concat(dirent("."), dirent(".."), dirent("0"), dirent("4294967295")))
	f.Add(dirent("x")[:direntName+1])
	f.Fuzz(func(t *testing.T, b []byte) {
		w := walker{want: Wanted{Holds: func(uint32) bool { return false }}}
		var found Found
		var table Table
		_ = w.entries(-1, 1, b, &table, &found) // no directory: every readlink fails
		if table.Count > int64(len(b)/(direntName+1)) {
			t.Errorf("%d descriptors in %d bytes", table.Count, len(b))
		}
	})
}

func FuzzLinkInode(f *testing.F) {
	for _, s := range []string{
		"socket:[123]", "socket:[]", "socket:[0]", "socket:[4294967295]", "socket:[4294967296]",
		"socket:[12\x003]", "socket:[ 1]", "socket:[1", "net:[5]", "/x/socket:[1]", "socket:[+1]",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		inode, ok := linkInode(b, "socket:[")
		if !ok {
			return
		}
		digits := b[len("socket:[") : len(b)-1]
		if i := bytes.IndexByte(digits, 0); i >= 0 {
			digits = digits[:i]
		}
		if got := fmt.Sprint(inode); got != string(bytes.TrimLeft(digits, "0")) && inode != 0 {
			t.Errorf("%q became %s", b, got)
		}
	})
}

func TestLinkInode(t *testing.T) {
	for link, want := range map[string]int64{
		"socket:[123]": 123, "socket:[4294967295]": 4294967295, "socket:[4294967296]": -1,
		"socket:[]": -1, "socket:[1": -1, "socket:1]": -1, "socket:[-1]": -1, "socket:[1x]": -1, "pipe:[1]": -1, "": -1,
	} {
		inode, ok := linkInode([]byte(link), "socket:[")
		if ok != (want >= 0) || ok && int64(inode) != want {
			t.Errorf("%q: %d, %v; want %d", link, inode, ok, want)
		}
	}
}

// The kernel pads directory entries to 8 bytes and does not clear the padding
// (filldir64 in fs/readdir.c): in a buffer that is used again it holds what was
// there before. An entry must not be lost for that, as it once was here.
func TestEntriesWithDirtyPadding(t *testing.T) {
	for _, n := range []int{1, 12, 123, 1234, 12345, 123456} {
		b := dirent(fmt.Sprint(n))
		end := direntName + bytes.IndexByte(b[direntName:], 0)
		for i := end + 1; i < len(b); i++ {
			b[i] = 0xaa
		}
		w := walker{want: Wanted{Holds: func(uint32) bool { return false }}}
		var table Table
		if err := w.entries(-1, 1, b, &table, &Found{}); err != nil || table.Count != 1 || table.Last != int32(n) {
			t.Errorf("%d: %+v, %v; want one entry", n, table, err)
		}
	}
}
