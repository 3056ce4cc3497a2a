package scene

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

func netnsOf(t *testing.T, pid int) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		t.Fatal(err)
	}
	return link
}

// TestNetnsKeptByMount: no process of the host is in it, and it works.
func TestNetnsKeptByMount(t *testing.T) {
	require.Root(t)
	ns := NewNetns(t)
	name := fmt.Sprintf("net:[%d]", ns.Inode)
	procs, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if link, _ := os.Readlink(p); link == name { // threads come and go
			t.Errorf("%s is in the namespace", p)
		}
	}
	c := StartT(t, ChildOptions{Netns: ns})
	if netnsOf(t, c.PID()) != name {
		t.Error("the child is elsewhere")
	}
	BuildT(t, c, Spec{Kind: Orphan, SendBuffer: 64 << 10})
	if n, err := inode(ns.Path); err != nil || uint32(n) != ns.Inode || ns.Cookie == 0 {
		t.Errorf("inode %d, cookie %d, %v; want %d", n, ns.Cookie, err, ns.Inode)
	}
	if err := ns.Remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(ns.Path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", ns.Path, err)
	}
	if netnsOf(t, os.Getpid()) == name {
		t.Error("the test itself moved")
	}
}

// TestNetnsWithOrphansOnly: nobody in it but orphans of the dead.
func TestNetnsWithOrphansOnly(t *testing.T) {
	writer, ns := isolated(t)
	reader := StartT(t, ChildOptions{Netns: ns})
	if _, _, err := Across(t.Context(), writer, reader, Spec{Kind: Unsent, Pairs: 3, SendBuffer: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	writer.Kill()
	if got := sockstat(t, ns, "sockstat", "TCP", "inuse"); got != 6 {
		t.Errorf("inuse %d, want 6", got)
	}
}

func TestNetnsKeptByChild(t *testing.T) {
	require.Root(t)
	c := StartT(t, ChildOptions{NewNetns: true})
	if netnsOf(t, c.PID()) == netnsOf(t, os.Getpid()) {
		t.Error("the child has no namespace of its own")
	}
	check(t, BuildT(t, c, Spec{Kind: Unread, Bytes: 10, Family: IPv6}), classes(2, 0, 0, 0))
}

// TestAbandonedNetns: what a killed program left in /run is cleared up.
func TestAbandonedNetns(t *testing.T) {
	require.Root(t)
	own, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// This pid, but of a process that started earlier.
	stale := fmt.Sprintf("%s/%s%d-%d-1", netnsDir, litterPrefix, os.Getpid(), own-1)
	if _, err := MakeNetnsAt(stale); err != nil {
		t.Fatal(err)
	}
	ns := NewNetns(t)
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Errorf("%s: %v", stale, err)
	}
	if _, err := os.Stat(ns.Path); err != nil {
		t.Error(err)
	}
}

func TestCgroup(t *testing.T) {
	require.Root(t)
	g := NewCgroup(t, "task-queue.service")
	c := StartT(t, ChildOptions{Cgroup: g})
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", c.PID()))
	if err != nil || !strings.Contains(string(data), "0::"+g.Name+"\n") {
		t.Errorf("%q, %v; want %s", data, err, g.Name)
	}
	sub, err := g.Sub("forged.service")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MoveTo(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if pids, err := sub.Procs(); err != nil || len(pids) != 1 || pids[0] != c.PID() {
		t.Errorf("members %v, %v", pids, err)
	}
	if err := g.Remove(); err != nil { // ends the child in it
		t.Fatal(err)
	}
	<-c.proc.done
	if _, err := os.Stat(g.Path); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", g.Path, err)
	}
	if err := g.Remove(); err != nil {
		t.Errorf("again: %v", err)
	}
}

// TestRemovedCgroup: the writer leaves an orphan and exits, its cgroup goes,
// the orphan stays.
func TestRemovedCgroup(t *testing.T) {
	reader, ns := isolated(t)
	g := NewCgroup(t, "gone.service")
	writer := StartT(t, ChildOptions{Netns: ns, Cgroup: g})
	d, _, err := Across(t.Context(), writer, reader, Spec{Kind: Orphan, Pairs: 5, SendBuffer: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	check(t, d, classes(0, 0, 5, 0))
	writer.Kill()
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		_, err := lookup(d.Sockets[0].Local, d.Sockets[0].Remote, d.Sockets[0].Cookie)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHostileCgroupNames(t *testing.T) {
	require.Root(t)
	for _, name := range []string{") R 1 1 (", "\x1b[31mred.service", `a\x2db.service`, "a b/c'd", "\xff"} {
		g := NewCgroup(t, name)
		if !strings.HasSuffix(g.Path, "/"+name) || g.ID == 0 {
			t.Errorf("%q became %q, id %d", name, g.Path, g.ID)
		}
	}
	if _, err := MakeCgroup("a\nb"); err == nil {
		t.Error("this kernel allows newlines in cgroup names: say so in the doc comment")
	}
}

func TestCgroup2Mount(t *testing.T) {
	const unified = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
41 31 0:38 / /mnt/a\040b rw,relatime shared:3 - cgroup2 cgroup2 rw
`
	if got, err := cgroup2Mount([]byte(unified)); got != "/mnt/a b" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := cgroup2Mount([]byte("1 2 0:1 / / rw - ext4 /dev/x rw\n")); err == nil {
		t.Error("no error without a cgroup2 mount")
	}
}

func TestIdle(t *testing.T) {
	require.Root(t)
	t.Run("processes", func(t *testing.T) {
		crowd, err := IdleProcesses(t.Context(), 50)
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range crowd.PIDs {
			if err := unix.Kill(pid, 0); err != nil {
				t.Errorf("pid %d: %v", pid, err)
			}
		}
		crowd.Stop()
		for _, pid := range crowd.PIDs {
			if err := unix.Kill(pid, 0); err != unix.ESRCH {
				t.Errorf("pid %d: %v after Stop", pid, err)
			}
		}
	})
	for _, keeper := range []Keeper{ByMount, ByProcess} {
		t.Run("namespaces by "+string(keeper), func(t *testing.T) {
			crowd, err := IdleNetns(t.Context(), 10, keeper)
			if err != nil {
				t.Fatal(err)
			}
			defer crowd.Stop()
			names := make(map[string]bool)
			for _, pid := range crowd.PIDs {
				names[netnsOf(t, pid)] = true
			}
			for _, ns := range crowd.Netns {
				names[fmt.Sprint(ns.Inode)] = true
			}
			if len(names) != 10 {
				t.Errorf("%d namespaces", len(names))
			}
		})
	}
}

func TestFleet(t *testing.T) {
	require.Root(t)
	for _, family := range []Family{IPv4, IPv6} {
		t.Run(string(family), func(t *testing.T) {
			ns := NewNetns(t)
			fleet, err := NewFleet(t.Context(), FleetOptions{Sockets: 4002, Processes: 4, BytesEach: 1, Family: family, Netns: ns})
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d sockets in %v", fleet.Sockets, fleet.Took)
			file, line := "sockstat", "TCP"
			if family == IPv6 {
				file, line = "sockstat6", "TCP6"
			}
			if got := sockstat(t, ns, file, line, "inuse"); got != 4002 || fleet.Sockets != 4002 {
				t.Errorf("inuse %d, %d built", got, fleet.Sockets)
			}
			fleet.Stop()
			if got := sockstat(t, ns, file, line, "inuse"); got != 0 {
				t.Errorf("inuse %d after Stop", got)
			}
			if got := sockstat(t, ns, "sockstat", "TCP", "tw"); got != 0 {
				t.Errorf("tw %d after Stop", got)
			}
		})
	}
	if _, err := NewFleet(t.Context(), FleetOptions{Sockets: 1e7, Processes: 1}); err == nil || !strings.Contains(err.Error(), "RLIMIT_NOFILE") {
		t.Errorf("%v", err)
	}
}

func TestLeaker(t *testing.T) {
	c, ns := isolated(t)
	if err := c.Leak(t.Context(), LeakSpec{Unread: 10, Hidden: 10, Unsent: 2, CloseWait: 5, PerSecond: 500}); err != nil {
		t.Fatal(err)
	}
	const want = 2*10 + 2*2 + 5 // unread, unsent, close-wait; hidden are not in use
	err := poll(t.Context(), "the bound", func() (bool, error) {
		return sockstat(t, ns, "sockstat", "TCP", "inuse") >= want, nil
	})
	if err != nil {
		t.Error(err)
	}
	check(t, BuildT(t, c, Spec{Kind: Idle}), classes(2, 0, 0, 0)) // answers while it leaks
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if got := sockstat(t, ns, "sockstat", "TCP", "inuse"); got != 0 {
		t.Errorf("inuse %d after the end", got)
	}
}
