package fds

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/owner"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// envThreads makes this test binary a process of strange threads: "leader",
// whose main thread ends; "files", with two threads that have a descriptor
// table of their own; "netns", with one in a network namespace of its own.
const envThreads = "TCPMEMD_TEST_THREADS"

// The main goroutine can only be tied to the main thread from here.
func init() {
	if os.Getenv(envThreads) != "" {
		runtime.LockOSThread()
	}
}

func runIfThreads() {
	kind := os.Getenv(envThreads)
	if kind == "" {
		return
	}
	threads := map[string]int{"leader": 1, "files": 2, "netns": 1}[kind]
	for range threads {
		ready := make(chan string)
		go func() { ready <- ownThread(kind); select {} }()
		line := <-ready
		fmt.Println(line)
	}
	go func() { // the parent's end of the pipe is closed when it dies
		_, _ = unix.Read(0, make([]byte, 1))
		os.Exit(0)
	}()
	if kind == "leader" {
		_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0) // this thread alone
	}
	select {}
}

// ownThread prepares the calling goroutine's thread, opens a socket on it and
// says what there is to find: its id, descriptor, inode and namespace.
func ownThread(kind string) string {
	runtime.LockOSThread()
	var err error
	switch kind {
	case "files":
		err = unix.Unshare(unix.CLONE_FILES)
	case "netns":
		err = unix.Unshare(unix.CLONE_NEWNET)
	}
	if err != nil {
		return "unshare: " + err.Error()
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "socket: " + err.Error()
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return "stat: " + err.Error()
	}
	netns, err := netnsOf("/proc/self/task", int32(unix.Gettid()), 0)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %d %d %d", unix.Gettid(), fd, st.Ino, netns)
}

// strange is such a process.
type strange struct {
	pid     int32
	threads []strangeThread
}

type strangeThread struct {
	tid, fd      int32
	inode, netns uint32
}

func startThreads(t *testing.T, kind string, threads int) strange {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), envThreads+"="+kind)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed: an error is expected
	})
	s := strange{pid: int32(cmd.Process.Pid)}
	lines := bufio.NewScanner(stdout)
	for range threads {
		if !lines.Scan() {
			t.Fatalf("no thread: %v", lines.Err())
		}
		var th strangeThread
		if _, err := fmt.Sscan(lines.Text(), &th.tid, &th.fd, &th.inode, &th.netns); err != nil {
			if strings.Contains(lines.Text(), "not permitted") {
				require.Cap(t, capability.CAP_SYS_ADMIN)
			}
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		s.threads = append(s.threads, th)
	}
	return s
}

// host opens an index of the real processes.
func host(t *testing.T) *Index {
	t.Helper()
	x, err := Open(procfs.New("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	if err := x.Refresh(); err != nil {
		t.Fatal(err)
	}
	return x
}

func (s strange) read(t *testing.T, x *Index, want Wanted) (f Found) {
	t.Helper()
	want.Holds = func(inode uint32) bool {
		return slices.ContainsFunc(s.threads, func(th strangeThread) bool { return th.inode == inode })
	}
	x.Walk(t.Context(), []owner.ProcRef{x.byPID[s.pid]}, 1, want, func(found Found) bool { f = found; return true })
	if f.Err != nil {
		t.Fatal(f.Err)
	}
	return f
}

func (s strange) sockets() (list []Descriptor) {
	for _, th := range s.threads {
		list = append(list, Descriptor{FD: th.fd, Inode: th.inode, TID: th.tid})
	}
	return list
}

// TestMainThreadEnded: a process whose main thread called pthread_exit looks
// like a zombie without descriptors, but its other threads use them.
func TestMainThreadEnded(t *testing.T) {
	s := startThreads(t, "leader", 1)
	fs := procfs.New("/proc")
	for begun := time.Now(); ; time.Sleep(time.Millisecond) {
		if st, err := fs.Stat(int(s.pid)); err != nil {
			t.Fatal(err)
		} else if st.MainEnded() {
			if st.Zombie() {
				t.Errorf("taken for dead: %+v", st)
			}
			if name, err := fs.CommandOf(st); err != nil || !strings.Contains(name, "exe") {
				t.Errorf("command %q, %v", name, err)
			}
			break
		} else if time.Since(begun) > 5*time.Second {
			t.Fatalf("the main thread lives: %+v", st)
		}
	}
	x := host(t)
	ref := x.byPID[s.pid]
	p := x.Proc(ref)
	if p.Netns != s.threads[0].netns || p.Thread == 0 || p.Task() != p.Thread {
		t.Errorf("namespace %d by thread %d, want %d", p.Netns, p.Thread, s.threads[0].netns)
	}
	f := s.read(t, x, Wanted{})
	if len(f.Sockets) != 1 || f.Sockets[0].Inode != s.threads[0].inode || f.Sockets[0].TID == 0 {
		t.Fatalf("sockets %+v, want %+v", f.Sockets, s.threads)
	}
	if link, err := os.Readlink(f.Sockets[0].Path("/proc", s.pid)); err != nil || link != fmt.Sprintf("socket:[%d]", s.threads[0].inode) {
		t.Errorf("its descriptor is %q, %v", link, err)
	}
	fetchAs(t, s.pid, f.Sockets[0])
	x.Record(f, 1, time.Unix(1, 0))
	if x.Changed(x.Proc(ref)) {
		t.Error("it changes all the time")
	}
	st, err := fs.Stat(int(s.pid))
	if err != nil {
		t.Fatal(err)
	}
	identify(x, s.pid, st.StartTime)
	if !x.Verify(ref) {
		t.Error("it is dead to Verify")
	}
}

// TestThreadTables: threads may have descriptor tables of their own, which
// /proc/PID/fd does not show.
func TestThreadTables(t *testing.T) {
	s := startThreads(t, "files", 2)
	x := host(t)
	if f := s.read(t, x, Wanted{}); len(f.Sockets) != 0 || len(f.Tables) != 1 {
		t.Errorf("without threads: %+v", f)
	}
	byFD := func(a, b Descriptor) int { return int(a.Inode) - int(b.Inode) }
	for _, kcmp := range []bool{true, false} {
		x.kcmp = kcmp
		f := s.read(t, x, Wanted{Threads: true})
		slices.SortFunc(f.Sockets, byFD)
		want := s.sockets()
		slices.SortFunc(want, byFD)
		if !kcmp { // the two have the same size
			f.Sockets, want = f.Sockets[:1], []Descriptor{f.Sockets[0]}
		}
		if diff := cmp.Diff(want, f.Sockets); diff != "" {
			t.Errorf("kcmp %v: sockets (-want +got):\n%s", kcmp, diff)
		}
		fetchAs(t, s.pid, f.Sockets[0])
		if !kcmp {
			break
		}
		if len(f.Tables) != 3 {
			t.Errorf("%d tables, want 3: %+v", len(f.Tables), f.Tables)
		}
		x.Record(f, 1, time.Unix(1, 0))
		if x.Changed(x.Proc(f.Proc)) {
			t.Error("it changes all the time")
		}
		if again := s.read(t, x, Wanted{}); len(again.Sockets) != 2 {
			t.Errorf("read again, its tables being known: %+v", again.Sockets)
		}
	}
}

// TestThreadNetns: a thread may be in another network namespace than its
// process.
func TestThreadNetns(t *testing.T) {
	require.Cap(t, capability.CAP_SYS_ADMIN)
	s := startThreads(t, "netns", 1)
	x := host(t)
	f := s.read(t, x, Wanted{Threads: true})
	if diff := cmp.Diff([]ThreadNetns{{s.threads[0].tid, s.threads[0].netns}}, f.ThreadNetns); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
	if len(f.Tables) != 1 || len(f.Sockets) != 1 || f.Sockets[0].TID != 0 {
		t.Errorf("its threads share a table: %+v", f)
	}
	if inode, err := netnsOf("/proc", s.threads[0].tid, 0); err != nil || inode != s.threads[0].netns {
		t.Errorf("by the thread's id alone: %d, %v", inode, err)
	}
	if f := s.read(t, x, Wanted{}); f.ThreadNetns != nil {
		t.Errorf("without threads: %+v", f.ThreadNetns)
	}
}

// fetchAs fetches a descriptor of a thread.
func fetchAs(t *testing.T, pid int32, d Descriptor) {
	t.Helper()
	require.Kernel(t, 6, 9)
	require.Cap(t, capability.CAP_SYS_PTRACE)
	pidfd, err := OpenTask(pid, d)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	f := NewFetcher()
	defer f.Close()
	if s, err := f.Fetch(pidfd, d.FD); err != nil || s.Inode != d.Inode {
		t.Errorf("fetched %+v, %v; want inode %d", s, err, d.Inode)
	}
}

func BenchmarkWalk(b *testing.B) {
	const sockets = 10_000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 2*sockets {
		require.Missing(b, fmt.Sprintf("a limit of %d descriptors", 2*sockets), "walks are not measured")
	}
	for range sockets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			b.Fatal(err)
		}
		defer unix.Close(fd)
	}
	for _, threads := range []bool{false, true} {
		b.Run(fmt.Sprintf("threads=%v", threads), func(b *testing.B) {
			w := walker{fs: procfs.New("/proc"), sized: true, kcmp: true, dents: make([]byte, 32<<10)}
			w.want.Holds = func(uint32) bool { return false }
			for b.Loop() {
				if f := w.read(b.Context(), int32(os.Getpid()), threads); f.Err != nil || f.Count < sockets {
					b.Fatal(f.Count, f.Err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/sockets, "ns/descriptor")
		})
	}
	w := walker{fs: procfs.New("/proc"), dents: make([]byte, 32<<10)}
	b.Run("count", func(b *testing.B) {
		for b.Loop() {
			if _, err := w.tally(int32(os.Getpid()), 0); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("kcmp", func(b *testing.B) {
		for b.Loop() {
			kcmpFiles(int32(os.Getpid()), int32(unix.Gettid()))
		}
	})
	b.Run("netns", func(b *testing.B) {
		for b.Loop() {
			_, _ = netnsOf("/proc", int32(os.Getpid()), int32(unix.Gettid()))
		}
	})
}
