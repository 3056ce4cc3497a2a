package procfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	fixture  = "testdata/proc"
	realProc = "/proc"
)

// read opens, reads and closes, and fails the test if any of it does.
func read[T any](t *testing.T, open func() (*Kept[T], error)) T {
	t.Helper()
	v, err := once(open)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func at[T any](open func(string) (*Kept[T], error), path string) func() (*Kept[T], error) {
	return func() (*Kept[T], error) { return open(path) }
}

func equal[T any](t *testing.T, want, got T, opts ...cmp.Option) {
	t.Helper()
	if diff := cmp.Diff(want, got, opts...); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFixture(t *testing.T) {
	f := New(fixture)
	equal(t, reading.TCPMem{Min: 287898, Pressure: 383867, Max: 575796}, read(t, f.OpenTCPMem))
	equal(t, 131072, read(t, f.OpenMaxOrphans))
	equal(t, 131072, read(t, f.OpenMaxTimeWait))
	equal(t, reading.Usage{Count: 975, Limit: 1<<63 - 1}, read(t, f.OpenFileHandles))
	equal(t, Sockstat{Inuse: 24, TimeWait: 58, Alloc: 863, Mem: 87916}, read(t, f.OpenSockstat))
	equal(t, Sockstat6{}, read(t, f.OpenSockstat6))
	equal(t, 51989, read(t, f.OpenForks))

	snmp := read(t, f.OpenSNMP)
	if snmp.ActiveOpens != 424 || snmp.PassiveOpens != 4 || snmp.CurrEstab != 2 || snmp.OutSegs != 18931 {
		t.Errorf("snmp: %+v", snmp)
	}

	c, err := f.OpenConntrack()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	usage, err := c.Read()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, reading.Usage{Count: 0, Limit: 262144}, usage)

	rsv, err := f.MemPCPURsv(4096)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, 256, rsv)
	cpus, err := PossibleCPUs("testdata/sys")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, 2, cpus)
}

// TestRealKernel reads every file of the kernel it runs on.
func TestRealKernel(t *testing.T) {
	f := New(realProc)
	mem := read(t, f.OpenTCPMem)
	if mem.Min <= 0 || mem.Pressure < mem.Min || mem.Max < mem.Pressure {
		t.Errorf("tcp_mem: %+v", mem)
	}
	if n := read(t, f.OpenMaxOrphans); n <= 0 {
		t.Errorf("tcp_max_orphans: %d", n)
	}
	read(t, f.OpenMaxTimeWait)
	if n := read(t, f.OpenFileHandles); n.Count <= 0 || n.Limit < n.Count {
		t.Errorf("file-nr: %+v", n)
	}
	sock := read(t, f.OpenSockstat)
	equal(t, sock, read(t, at(OpenSockstat, "/proc/self/net/sockstat")), noise)
	p := read(t, f.OpenProtocols)
	if p.UnderPressure() == nil {
		t.Errorf("TCP has no pressure flag: %+v", p)
	}
	ext := read(t, f.OpenNetstat)
	for c := range NumCounters {
		if n, ok := ext.Get(c); !ok || n < 0 {
			t.Errorf("counter %d: %d, %t", c, n, ok)
		}
	}
	read(t, f.OpenSNMP)
	if n := read(t, f.OpenForks); n <= 0 {
		t.Errorf("forks: %d", n)
	}
	if n, err := PossibleCPUs("/sys"); err != nil || n <= 0 {
		t.Errorf("possible CPUs: %d, %v", n, err)
	}
	if n, err := f.MemPCPURsv(os.Getpagesize()); err != nil || n <= 0 {
		t.Errorf("mem_pcpu_rsv: %d, %v", n, err)
	}
	if k, err := f.OpenSockstat6(); err != nil {
		t.Error(err)
	} else if k != nil {
		if _, err := k.Read(); err != nil {
			t.Error(err)
		}
		k.Close()
	}
	if c, err := f.OpenConntrack(); err != nil {
		t.Error(err)
	} else if c != nil {
		if u, err := c.Read(); err != nil || u.Limit <= 0 {
			t.Errorf("conntrack: %+v, %v", u, err)
		}
		c.Close()
	}
}

// noise ignores what changes from one read to the next.
var noise = cmp.FilterPath(func(p cmp.Path) bool { return len(p) > 1 }, cmp.Ignore())

func TestAbsent(t *testing.T) {
	dir := t.TempDir()
	f := New(dir)

	// Without any sysctl this is not a namespace question.
	if _, err := f.TCPMem(); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotInitNetns) {
		t.Errorf("tcp_mem without /proc: %v", err)
	}
	if _, err := f.OpenSockstat6(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sockstat6 of a process that is gone: %v", err)
	}
	for _, sub := range []string{"sys/net/ipv4", "sys/net/core", "net"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.TCPMem(); !errors.Is(err, ErrNotInitNetns) {
		t.Errorf("tcp_mem: %v", err)
	}
	if _, err := f.OpenMaxOrphans(); !errors.Is(err, ErrNotInitNetns) {
		t.Errorf("tcp_max_orphans: %v", err)
	}
	if k, err := f.OpenSockstat6(); k != nil || err != nil {
		t.Errorf("sockstat6: %v, %v", k, err)
	} else if err := k.Close(); err != nil {
		t.Errorf("close nothing: %v", err)
	}
	if c, err := f.OpenConntrack(); c != nil || err != nil {
		t.Errorf("conntrack: %v, %v", c, err)
	} else if err := c.Close(); err != nil {
		t.Errorf("close nothing: %v", err)
	}
	for pageSize, want := range map[int]reading.Pages{4096: 256, 65536: 16, 4 << 20: 1} {
		if got, err := f.MemPCPURsv(pageSize); err != nil || got != want {
			t.Errorf("mem_pcpu_rsv for pages of %d: %d, %v, want %d", pageSize, got, err, want)
		}
	}
}

// TestKeptFollowsTheFile: one descriptor sees each new content, also when the
// file outgrows the buffer, and a parse error names the file.
func TestKeptFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sockstat")
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const line = "TCP: inuse 1 orphan 2 tw 3 alloc 4 mem 5\n"
	write(line)
	k, err := OpenSockstat(path)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for _, filler := range []int{0, firstRead, 100_000, firstRead - 1 - len(line), firstRead - len(line), 0} {
		write(strings.Repeat("x", filler) + "\n" + line)
		got, err := k.Read()
		if err != nil {
			t.Fatalf("filler of %d: %v", filler, err)
		}
		equal(t, Sockstat{1, 2, 3, 4, 5}, got)
	}
	write("TCP: inuse")
	if _, err := k.Read(); err == nil || !strings.HasPrefix(err.Error(), "parse "+path+": ") {
		t.Errorf("truncated: %v", err)
	}
	k.Close()
	if _, err := k.Read(); !errors.Is(err, os.ErrClosed) || strings.Count(err.Error(), path) != 1 {
		t.Errorf("closed: %v", err)
	}
}

type endless struct{}

func (endless) ReadAt(b []byte, _ int64) (int, error) { return len(b), nil }

type atOnceShort string // gives everything and io.EOF together

func (s atOnceShort) ReadAt(b []byte, off int64) (int, error) {
	if n := copy(b, s[off:]); n < len(b) {
		return n, io.EOF
	}
	return len(b), nil
}

func TestReadWhole(t *testing.T) {
	buf := make([]byte, 4)
	if _, err := readWhole(endless{}, &buf, 4); err == nil {
		t.Error("an endless file has an end")
	}
	for _, n := range []int{0, 1, 3, 4, 5, 16, 17, 1000} {
		want := strings.Repeat("a", n)
		buf := make([]byte, 4)
		got, err := readWhole(atOnceShort(want), &buf, 4)
		if err != nil || string(got) != want {
			t.Errorf("file of %d bytes: %d bytes, %v", n, len(got), err)
		}
	}
}

// TestKeptFilesDoNotAllocate guards the budget of the one-second path.
func TestKeptFilesDoNotAllocate(t *testing.T) {
	f := New(realProc)
	noAllocs(t, "tcp_mem", f.OpenTCPMem)
	noAllocs(t, "tcp_max_orphans", f.OpenMaxOrphans)
	noAllocs(t, "file-nr", f.OpenFileHandles)
	noAllocs(t, "sockstat", f.OpenSockstat)
	noAllocs(t, "protocols", f.OpenProtocols)
	noAllocs(t, "netstat", f.OpenNetstat)
	noAllocs(t, "snmp", f.OpenSNMP)
	noAllocs(t, "stat", f.OpenForks)
	if k, err := f.OpenSockstat6(); err == nil && k != nil {
		k.Close()
		noAllocs(t, "sockstat6", f.OpenSockstat6)
	}
}

func noAllocs[T any](t *testing.T, name string, open func() (*Kept[T], error)) {
	t.Helper()
	k, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	n := testing.AllocsPerRun(200, func() {
		if _, err := k.Read(); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 && !raceEnabled { // under the race detector sync.Pool drops at random
		t.Errorf("%s: %v allocations a read", name, n)
	}
}

// TestSysctlReadsAnewEachTime: a kept sysctl shows the present, not the moment
// it was opened.
func TestSysctlReadsAnewEachTime(t *testing.T) {
	k, err := New(realProc).OpenFileHandles()
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	before, err := k.Read()
	if err != nil {
		t.Fatal(err)
	}
	var fds [512]int // more than the per-CPU batch of the kernel's counter can hide
	for i := range fds {
		if fds[i], err = unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[i])
	}
	after, err := k.Read()
	if err != nil {
		t.Fatal(err)
	}
	if after.Count <= before.Count {
		t.Errorf("%d handles before, %d after opening %d", before.Count, after.Count, len(fds))
	}
}

func BenchmarkRead(b *testing.B) {
	f := New(realProc)
	b.Run("tcp_mem", bench(f.OpenTCPMem))
	b.Run("sockstat", bench(f.OpenSockstat))
	b.Run("sockstat6", bench(f.OpenSockstat6))
	b.Run("protocols", bench(f.OpenProtocols))
	b.Run("netstat", bench(f.OpenNetstat))
	b.Run("snmp", bench(f.OpenSNMP))
	b.Run("file-nr", bench(f.OpenFileHandles))
	b.Run("stat", bench(f.OpenForks))
}

func bench[T any](open func() (*Kept[T], error)) func(*testing.B) {
	return func(b *testing.B) {
		k, err := open()
		if err != nil {
			b.Fatal(err)
		}
		if k == nil {
			b.Skip("the kernel has no such file")
		}
		defer k.Close()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Read(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
