package victims

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims/victimstest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// TestCleanUp is what a restart leaves, in a namespace that no path leads to
// after it: the process ends with full send queues to a peer that lives. They
// become orphans and are destroyed; the peer's other connections stand.
func TestCleanUp(t *testing.T) {
	require.Root(t)
	for _, family := range []scene.Family{scene.IPv4, scene.IPv6, scene.Mapped} {
		t.Run(string(family), func(t *testing.T) {
			ns := scene.NewNetns(t)
			peer := scene.StartT(t, scene.ChildOptions{Netns: ns})
			victim := scene.StartT(t, scene.ChildOptions{Netns: ns})
			bystander := scene.StartT(t, scene.ChildOptions{Netns: ns})
			n := victimstest.Inside(ns, victim.PID())
			spec := scene.Spec{Kind: scene.Unsent, Pairs: 40, SendBuffer: 1 << 17, Family: family}
			dialed, accepted, err := scene.Across(t.Context(), victim, peer, spec)
			if err != nil {
				t.Fatal(err)
			}
			other := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Unsent, Pairs: 3, Family: family})
			left := scene.BuildT(t, bystander, scene.Spec{Kind: scene.Orphan, Pairs: 3, Family: family})
			// Only the processes keep the namespace, and the one that is named ends.
			request := n.Request(t, dialed.Sockets...)
			set := open(t, request)

			before, pages := n.Bytes(t), victimstest.UsedPages(t)
			victim.Kill()
			killed, pagesKilled := n.Bytes(t), victimstest.UsedPages(t)
			r, err := set.CleanUp(t.Context(), 5*time.Second)
			after := n.Bytes(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d bytes (%d pages) before, %d (%d) after the process ended, %d (%d) after the orphans were destroyed: %s",
				before, pages, killed, pagesKilled, after, victimstest.UsedPages(t), r.String())
			want := dialed.Bytes()
			if r.Destroyed.Sockets != 40 || r.Destroyed.Bytes < want*9/10 || len(r.Left) != 0 || r.Refused != nil {
				t.Errorf("%s; want 40 destroyed with about %d bytes", r.String(), want)
			}
			// Both ends: the peer's receive queues are hidden then, until it closes.
			if killed < before*9/10 || killed-after < want*9/10 {
				t.Errorf("%d bytes, then %d, then %d; want the same and then %d less", before, killed, after, want)
			}
			n.Standing(t, slices.Concat(other.Sockets, left.Role(scene.Dialer))...)
			rows := n.Rows(t)
			for _, s := range accepted.Sockets {
				if row, ok := rows[s.Cookie]; ok {
					t.Errorf("the peer of a destroyed connection is still in %v", row.State)
				}
			}
		})
	}
}

// TestCleanUpUnreachable: a namespace whose last process ends is entered all
// the same when it was opened before, and named when it was not.
func TestCleanUpUnreachable(t *testing.T) {
	require.Root(t)
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("opened late %v", late), func(t *testing.T) {
			victim := scene.StartT(t, scene.ChildOptions{NewNetns: true})
			peerless := scene.Spec{Kind: scene.Orphan, Pairs: 5, SendBuffer: 1 << 16}
			built := scene.BuildT(t, victim, peerless)
			ns, pid := namespaceOf(t, victim.PID())
			n := victimstest.Place{ID: ns, PID: pid, Do: within(t, pid)}
			request := n.Request(t, built.Role(scene.Dialer)...)
			var set *Set
			if !late {
				set = open(t, request)
			}
			// Its end sends resets from the accepted sides, which would free the
			// orphans: take lo away first.
			if err := n.Do(loDown); err != nil {
				t.Fatal(err)
			}
			victim.Kill()
			if late {
				set = open(t, request)
			}
			r, err := set.CleanUp(t.Context(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(r.String())
			if !late && (r.Destroyed.Sockets != 5 || len(r.Left) != 0) {
				t.Errorf("%s; want 5 destroyed", r.String())
			}
			if late && (r.LeftSum().Sockets != 5 || !strings.Contains(r.String(), fmt.Sprint(ns.Inode))) {
				t.Errorf("%s; want 5 left and the namespace named", r.String())
			}
		})
	}
}

// TestCleanUpLeaves: what is held, what listens, what is another's.
func TestCleanUpLeaves(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	child := scene.StartT(t, scene.ChildOptions{Netns: ns})
	n := victimstest.Inside(ns, child.PID())
	held := scene.BuildT(t, child, scene.Spec{Kind: scene.Unsent, Pairs: 2, KeepListener: true})
	waiting := scene.BuildT(t, child, scene.Spec{Kind: scene.Unaccepted, Pairs: 2, Bytes: 1000})
	orphans := scene.BuildT(t, child, scene.Spec{Kind: scene.Orphan, Pairs: 2})
	hidden := scene.BuildT(t, child, scene.Spec{Kind: scene.Hidden, Pairs: 2})
	request := n.Request(t, slices.Concat(held.Sockets, waiting.Sockets, orphans.Role(scene.Dialer))...)
	stale := request[len(request)-2]
	stale.Cookie += 1 << 40
	moved := &request[len(request)-1]
	moved.CgroupID++
	for _, s := range hidden.Class(reading.Hidden) {
		request = append(request, remediate.Socket{
			NetnsInode: ns.Inode, NetnsCookie: ns.Cookie, NetnsPID: child.PID(),
			Cookie: uint64(s.Cookie), Class: "hidden", Bytes: s.Bytes(),
		})
	}
	set := open(t, append(request, stale))
	start := time.Now()
	r, err := set.CleanUp(t.Context(), 1500*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	if d := time.Since(start); d < time.Second || d > 3*time.Second {
		t.Errorf("it looked for %v, want 1.5 s", d)
	}
	if r.Destroyed.Sockets != 1 || r.Gone.Sockets != 1 || r.Left[Another].Sockets != 1 || r.Left["it listens"].Sockets != 2 || r.Left[Held].Sockets != 8 {
		t.Errorf("%s; want 1 destroyed, 1 gone, 1 of another control group, 2 listeners and 8 held", r.String())
	}
	n.Standing(t, slices.Concat(held.Sockets, waiting.Sockets)...)
}

// TestReusedByListener: the connection is gone and a listener is at its
// address; and a descriptor that was the connection listens itself, with the
// same cookie.
func TestReusedByListener(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	n := victimstest.Inside(ns, 0)
	var fds []int
	err := ns.Do(func() (err error) { fds, err = connected(); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(fds)
	sender := socketOf(t, n, fds[0])
	request := n.Request(t, sender)
	set := open(t, request)
	// connect(2) to AF_UNSPEC dissolves the association.
	at, err := unix.Getsockname(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(disconnect(fds[0]), unix.Bind(fds[0], at), unix.Listen(fds[0], 1))
	if err != nil {
		t.Fatal(err)
	}
	if again := socketOf(t, n, fds[0]); again.Cookie != sender.Cookie || again.State != reading.Listen {
		t.Fatalf("%+v does not listen with the cookie of %+v", again, sender)
	}
	r, err := set.Destroy(t.Context(), func(*remediate.Socket, *reading.Socket) string { return "" })
	if err != nil || r.Destroyed.Sockets != 0 || r.Left["it listens"].Sockets != 1 {
		t.Errorf("%s, error %v; want it left alone", r.String(), err)
	}
	n.Standing(t, sender)
}

// TestHalfClosed: FIN_WAIT1 with a descriptor is no orphan: whoever shut it down
// may still read.
func TestHalfClosed(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	n := victimstest.Inside(ns, 0)
	var fds []int
	if err := ns.Do(func() (err error) { fds, err = connected(); return err }); err != nil {
		t.Fatal(err)
	}
	defer closeAll(fds)
	if err := errors.Join(fill(fds[0]), unix.Shutdown(fds[0], unix.SHUT_WR)); err != nil {
		t.Fatal(err)
	}
	s := socketOf(t, n, fds[0])
	if s.State != reading.FinWait1 {
		t.Fatalf("it is in %v", s.State)
	}
	set := open(t, n.Request(t, s))
	r, err := set.CleanUp(t.Context(), 300*time.Millisecond)
	if err != nil || r.Destroyed.Sockets != 0 || r.Left[Held].Sockets != 1 {
		t.Errorf("%s, error %v; want it left alone", r.String(), err)
	}
	n.Standing(t, s)
}

// TestCleanUpMPTCP: an MPTCP orphan goes by its subflow.
func TestCleanUpMPTCP(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	peer := scene.StartT(t, scene.ChildOptions{Netns: ns})
	victim := scene.StartT(t, scene.ChildOptions{Netns: ns})
	n := victimstest.Inside(ns, victim.PID())
	dialed, _, err := scene.Across(t.Context(), victim, peer, scene.Spec{Kind: scene.Unsent, Pairs: 3, MPTCP: true, SendBuffer: 1 << 16})
	if errors.Is(err, scene.ErrUnavailable) {
		require.Missing(t, "MPTCP", "its orphans are not tried")
	}
	if err != nil {
		t.Fatal(err)
	}
	var named []scene.Socket
	rows := n.Rows(t)
	for _, d := range dialed.Role(scene.Dialer) {
		for cookie, row := range rows {
			if row.MPTCP && row.Local == d.Local {
				named = append(named, scene.Socket{Cookie: cookie, Class: reading.Owned})
			}
		}
	}
	set := open(t, n.Request(t, named...))
	victim.Kill()
	r, err := set.CleanUp(t.Context(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(r.String())
	rows = n.Rows(t)
	for _, s := range named {
		if row, ok := rows[s.Cookie]; ok {
			t.Errorf("still there: %+v", row)
		}
	}
	if r.Destroyed.Sockets != 3 || len(r.Left) != 0 {
		t.Errorf("%s; want 3 destroyed", r.String())
	}
}

func TestCleanUpGivenUp(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	child := scene.StartT(t, scene.ChildOptions{Netns: ns})
	n := victimstest.Inside(ns, child.PID())
	orphans := scene.BuildT(t, child, scene.Spec{Kind: scene.Orphan, Pairs: 2})
	set := open(t, n.Request(t, orphans.Role(scene.Dialer)...))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := set.CleanUp(ctx, time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	n.Standing(t, orphans.Role(scene.Dialer)...)
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", -5: "-5 B", 98304: "96 KiB", 1258291: "1.2 MiB", 5 << 30: "5 GiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}
