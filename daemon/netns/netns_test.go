package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func TestMain(m *testing.M) {
	scene.RunIfChild()
	goleak.VerifyTestMain(m)
}

func openReal(t *testing.T) *Table {
	t.Helper()
	require.Root(t)
	table, err := Open(procfs.New("/proc"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

func (t *Table) by(inode uint32) *Namespace {
	for _, n := range t.All() {
		if n.ID.Inode == inode {
			return n
		}
	}
	return nil
}

// here is the calling thread's namespace.
func here() string {
	link, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return err.Error()
	}
	return link
}

// TestHolders: a namespace is known and can be read and entered whatever holds
// it: a mount, a process, both, a descriptor.
func TestHolders(t *testing.T) {
	table := openReal(t)
	refresh(t, table)
	mounted := scene.NewNetns(t)
	child := scene.StartT(t, scene.ChildOptions{Netns: mounted})
	built := scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 3})
	v6 := scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 2, Family: scene.IPv6})
	want := int64(len(built.Sockets) + len(v6.Sockets))
	member := Member{PID: int32(child.PID()), Netns: mounted.Inode}

	usable := func(what string) {
		t.Helper()
		n := table.by(mounted.Inode)
		if n == nil {
			t.Fatalf("%s: not known", what)
		}
		n.files.close()
		inuse, err := table.Inuse(n)
		if err != nil || inuse != want {
			t.Errorf("%s: %d in use, error %v; want %d", what, inuse, err, want)
		}
		if n.ID.Cookie != mounted.Cookie {
			t.Errorf("%s: cookie %d, want %d", what, n.ID.Cookie, mounted.Cookie)
		}
		var inside string
		if err := table.Do(n, func() error { inside = here(); return nil }); err != nil || inside != n.link() {
			t.Errorf("%s: entered %s, error %v", what, inside, err)
		}
	}
	refresh(t, table, member)
	usable("mount and process")
	refresh(t, table)
	usable("mount only")
	// Opened by the mount's path its link would have that path as text.
	fd, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", child.PID()))
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	if err := mounted.Remove(); err != nil {
		t.Fatal(err)
	}
	refresh(t, table, member)
	usable("process only")
	table.Keep(mounted.Inode, int32(os.Getpid()), int32(fd.Fd()))
	refresh(t, table)
	usable("descriptor only")
	fd.Close()
	refresh(t, table)
	if table.by(mounted.Inode) != nil {
		t.Error("still known, though nothing that was told of holds it")
	}
}

// TestLetsGo: the open files of a table must not keep a namespace alive.
func TestLetsGo(t *testing.T) {
	table := openReal(t)
	ns := scene.NewNetns(t)
	refresh(t, table)
	if n := table.by(ns.Inode); n == nil {
		t.Fatal("a mounted namespace is not known")
	} else if _, err := table.Inuse(n); err != nil {
		t.Fatal(err)
	}
	if err := ns.Remove(); err != nil {
		t.Fatal(err)
	}
	refresh(t, table)
	for _, n := range table.All() {
		if n.ID.Inode == ns.Inode {
			t.Error("still known")
		}
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join("/proc/self/fd", fd.Name())); err == nil && strings.Contains(link, "net:[") && link != here() {
			t.Errorf("descriptor %s still leads to %s", fd.Name(), link)
		}
	}
}

// TestDoReturnsHome: afterwards no thread of this process is anywhere else.
func TestDoReturnsHome(t *testing.T) {
	table := openReal(t)
	refresh(t, table)
	ns := scene.NewNetns(t)
	refresh(t, table)
	n := table.by(ns.Inode)
	home := here()
	boom := errors.New("boom")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				var inside string
				if err := table.Do(n, func() error { inside = here(); return boom }); err != boom || inside != n.link() {
					t.Errorf("entered %s, error %v", inside, err)
				}
			}
		})
	}
	wg.Wait()
	// The thread that made the namespace is on its way out, perhaps still there.
	elsewhere := threadsOutside(t, home)
	for deadline := time.Now().Add(5 * time.Second); len(elsewhere) > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
		elsewhere = threadsOutside(t, home)
	}
	if len(elsewhere) > 0 {
		t.Errorf("home is %s, and there are %q", home, elsewhere)
	}
}

// threadsOutside lists the threads of this process that are in other namespaces.
func threadsOutside(t *testing.T, home string) (elsewhere []string) {
	t.Helper()
	tasks, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		if link, err := os.Readlink(task); err == nil && link != home {
			elsewhere = append(elsewhere, task+" "+link)
		}
	}
	return elsewhere
}

// TestMPTCP: the only place with a count of MPTCP sockets.
func TestMPTCP(t *testing.T) {
	table := openReal(t)
	ns := scene.NewNetns(t)
	child := scene.StartT(t, scene.ChildOptions{Netns: ns})
	built, err := child.Build(t.Context(), scene.Spec{Kind: scene.Idle, Pairs: 3, MPTCP: true})
	if errors.Is(err, scene.ErrUnavailable) {
		require.Missing(t, "MPTCP", "its count is not tried")
	}
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for _, s := range built.Sockets {
		if s.MPTCP {
			want++
		}
	}
	refresh(t, table)
	n := table.by(ns.Inode)
	if got, err := table.MPTCP(n); err != nil || got == nil || *got != want {
		t.Errorf("%v MPTCP sockets, error %v; want %d", got, err, want)
	}
	// Subflows are in inuse, the MPTCP sockets themselves are not.
	if got, err := table.Inuse(n); err != nil || got != want {
		t.Errorf("%d in use, error %v; want the %d subflows", got, err, want)
	}
}

func TestDoCannotEnter(t *testing.T) {
	require.Root(t)
	e, err := NewEnterer()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f, err := os.Open("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = e.Do(f, func() error { t.Error("ran"); return nil })
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("error %v, want invalid argument", err)
	}
}

// TestSampleBesideScan: the loop samples while the reader scans.
func TestSampleBesideScan(t *testing.T) {
	table := openReal(t)
	refresh(t, table)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for ctx.Err() == nil {
			table.Sample(8)
			table.Totals()
		}
	})
	for range 20 {
		ns := scene.NewNetns(t) // so that cookies are learned all the time
		refresh(t, table)
		for _, n := range table.All() {
			if n.ID.Cookie != 0 && n.ID.Inode == ns.Inode && n.ID.Cookie != ns.Cookie {
				t.Errorf("namespace %+v, want %+v", n.ID, ns.NetnsID)
			}
			if _, err := table.Inuse(n); err != nil && n.ID.Inode == ns.Inode {
				t.Error(err)
			}
			if err := table.Do(n, func() error { return nil }); err != nil && n.ID.Inode == ns.Inode {
				t.Error(err)
			}
		}
	}
}
