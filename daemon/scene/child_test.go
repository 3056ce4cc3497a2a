package scene

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// holds reports whether a descriptor of the process leads to the socket.
func holds(t *testing.T, pid int, s Socket) bool {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		// A descriptor may be closed between the two calls.
		if link, err := os.Readlink(dir + "/" + e.Name()); err == nil && link == fmt.Sprintf("socket:[%d]", s.Inode) {
			return true
		}
	}
	return false
}

// TestForkShares: one file description, two processes; memory lives as long as
// the last of them.
func TestForkShares(t *testing.T) {
	c, ns := isolated(t)
	b := BuildT(t, c, Spec{Kind: Unread, Pairs: 3, Bytes: 1000})
	accepted := b.Role(Accepted)
	pid, err := c.Fork(t.Context(), "worker", accepted...)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range accepted {
		if !holds(t, c.PID(), s) || !holds(t, pid, s) {
			t.Errorf("socket %d is not in both processes", s.Inode)
		}
	}
	if comm := commOf(t, pid); comm != "worker\n" {
		t.Errorf("comm %q", comm)
	}
	if err := c.Close(t.Context(), accepted...); err != nil {
		t.Fatal(err)
	}
	if got := sockstat(t, ns, "sockstat", "TCP", "inuse"); got != 6 {
		t.Errorf("inuse %d after the first holder closed, want 6", got)
	}
	if err := c.Stop(); err != nil {
		t.Error(err)
	}
	if !gone(pid) {
		t.Error("the fork outlived its parent")
	}
}

// TestSendPasses: descriptors that are in flight, then in two processes, then
// only in the receiver.
func TestSendPasses(t *testing.T) {
	c, ns := isolated(t)
	to := StartT(t, ChildOptions{Netns: ns})
	b := BuildT(t, c, Spec{Kind: Unread, Pairs: 300, Bytes: 1000})
	accepted := b.Role(Accepted)
	if err := c.Send(t.Context(), to, accepted...); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context(), accepted...); err != nil {
		t.Fatal(err)
	}
	if holds(t, c.PID(), accepted[0]) || holds(t, to.PID(), accepted[0]) {
		t.Error("in flight, but a process holds it")
	}
	if got := sockstat(t, ns, "sockstat", "TCP", "inuse"); got != 600 {
		t.Errorf("inuse %d in flight, want 600", got)
	}
	got, err := to.Receive(t.Context(), len(accepted))
	if err != nil {
		t.Fatal(err)
	}
	check(t, got, classes(300, 0, 0, 0))
	for i, s := range got.Sockets {
		if s.Cookie != accepted[i].Cookie || s.Inode != accepted[i].Inode || s.Rqueue != 1000 {
			t.Fatalf("got %+v, sent %+v", s, accepted[i])
		}
	}
	if !holds(t, to.PID(), accepted[0]) {
		t.Error("the receiver does not hold it")
	}
}

// TestAcross makes the pairs of a slow peer and of a dead writer: two
// processes, one connection.
func TestAcross(t *testing.T) {
	c, ns := isolated(t)
	reader := StartT(t, ChildOptions{Netns: ns, Comm: "slow-reader"})
	const n = 30
	d, a, err := Across(t.Context(), c, reader, Spec{Kind: Unsent, Pairs: n, SendBuffer: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	check(t, d, classes(n, 0, 0, 0))
	check(t, a, classes(n, 0, 0, 0))
	if d.PID != c.PID() || a.PID != reader.PID() || d.Sockets[0].Remote != a.Sockets[0].Local {
		t.Error("the ends do not face each other")
	}
	if !holds(t, reader.PID(), a.Sockets[0]) || holds(t, c.PID(), a.Sockets[0]) {
		t.Error("the accepted end is in the wrong process")
	}
	before := d.Bytes()
	c.Kill()
	// KERNEL: unsent data outlives its process as an orphan.
	var orphans int64
	err = ns.Do(func() error {
		for _, s := range d.Sockets {
			f, err := lookup(s.Local, s.Remote, s.Cookie)
			if err != nil {
				return err
			}
			if f.state != reading.FinWait1 || f.inode != 0 {
				t.Errorf("%v is %v, inode %d", s.Local, f.state, f.inode)
			}
			orphans += f.mem.Bytes()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if orphans < before/2 { // close gives the reserve back
		t.Errorf("the orphans hold %d of %d bytes", orphans, before)
	}
	if err := reader.Stop(); err != nil {
		t.Error(err)
	}
	if got := sockstat(t, ns, "sockstat", "TCP", "inuse"); got != 0 {
		t.Errorf("inuse %d after both ends are gone", got)
	}
}

// TestReusePortGroup: all connections wait, at one or the other.
func TestReusePortGroup(t *testing.T) {
	c, ns := isolated(t)
	one, two := StartT(t, ChildOptions{Netns: ns}), StartT(t, ChildOptions{Netns: ns})
	const n = 60
	d, listening, err := Group(t.Context(), c, Spec{Pairs: n, Bytes: 500}, one, two)
	if err != nil {
		t.Fatal(err)
	}
	check(t, d, classes(n, n, 0, 0))
	first, second := listening[0].Sockets[0], listening[1].Sockets[0]
	if first.Rqueue == 0 || second.Rqueue == 0 || first.Rqueue+second.Rqueue != n {
		t.Errorf("%d and %d wait, want %d in all", first.Rqueue, second.Rqueue, n)
	}
	got, err := one.Accept(t.Context(), first, first.Rqueue)
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(map[reading.Cookie]int64)
	for _, s := range d.Class(reading.Unaccepted) {
		waiting[s.Cookie] = s.Bytes()
	}
	for _, s := range got.Sockets {
		if want, ok := waiting[s.Cookie]; !ok || want != s.Bytes() {
			t.Errorf("accepted %d bytes, waited with %d", s.Bytes(), want)
		}
	}
}

func commOf(t *testing.T, pid int) string {
	t.Helper()
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(comm)
}

func TestHostileNames(t *testing.T) {
	for _, comm := range []string{"a\nb", ") R 1 1 (", "\x1b[31mred", "\xff\xfe", "' $(id) `"} {
		c := StartT(t, ChildOptions{Comm: comm, Argv0: comm})
		if got := commOf(t, c.PID()); got != comm+"\n" {
			t.Errorf("comm %q, want %q", got, comm)
		}
		if err := c.Rename(t.Context(), "renamed"); err != nil {
			t.Error(err)
		}
		if got := commOf(t, c.PID()); got != "renamed\n" {
			t.Errorf("comm %q after rename", got)
		}
		argv, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID()))
		if err != nil || string(argv) != comm+"\x00" {
			t.Errorf("cmdline %q, %v", argv, err)
		}
		if _, err := startTime(c.PID()); err != nil {
			t.Error(err)
		}
	}
}

func TestUID(t *testing.T) {
	require.Root(t)
	c := StartT(t, ChildOptions{UID: 65534, NewNetns: false})
	var st unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d", c.PID()), &st); err != nil || st.Uid != 65534 {
		t.Errorf("uid %d, %v", st.Uid, err)
	}
	check(t, BuildT(t, c, Spec{Kind: Unread, Pairs: 5, Bytes: 10_000}), classes(10, 0, 0, 0))
}

// TestEnds: a child goes with its context, with its parent's end of the
// conversation, and with its parent.
func TestEnds(t *testing.T) {
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		c, err := Start(ctx, ChildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-c.proc.done
		if _, err := c.Build(t.Context(), Spec{Kind: Idle}); err == nil || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("call to a dead child: %v", err)
		}
		c.Kill()
		c.Kill() // again is no error
	})
	t.Run("call given up", func(t *testing.T) {
		c := StartT(t, ChildOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		l := BuildT(t, c, Spec{Kind: Listening})
		if _, err := c.Accept(ctx, l.Sockets[0], 1); err == nil {
			t.Error("accepted out of nothing")
		}
		if _, err := c.Build(t.Context(), Spec{Kind: Idle}); err == nil {
			t.Error("a call after one that was given up must not get its answer")
		}
	})
	t.Run("standard input", func(t *testing.T) {
		c := StartT(t, ChildOptions{})
		c.conn.Close()
		select {
		case <-c.proc.done:
		case <-time.After(patience):
			t.Error("still there")
		}
	})
	t.Run("parent killed", func(t *testing.T) {
		// A child starts the holder, so the child is the parent to kill.
		c := StartT(t, ChildOptions{})
		pid, err := c.Fork(t.Context(), "orphaned")
		if err != nil {
			t.Fatal(err)
		}
		c.Kill()
		if !gone(pid) {
			t.Error("the grandchild is still there")
		}
	})
	t.Run("panic is told", func(t *testing.T) {
		c := StartT(t, ChildOptions{})
		_, err := c.call(t.Context(), request{Op: opLeak}) // nil spec
		if err == nil || !strings.Contains(err.Error(), "nil pointer") {
			t.Errorf("%v", err)
		}
	})
	t.Run("failure leaves nothing", func(t *testing.T) {
		c, ns := isolated(t)
		if _, err := c.call(t.Context(), request{Op: opDial, Addr: home4(), N: 3, Family: IPv4}); err == nil {
			t.Error("connected to nobody")
		}
		if got := sockstat(t, ns, "sockstat", "TCP", "inuse"); got != 0 {
			t.Errorf("inuse %d", got)
		}
		BuildT(t, c, Spec{Kind: Idle}) // the child goes on
	})
}
