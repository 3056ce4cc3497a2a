package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// rowsOf gives the dumped rows of sockets that were made.
func rowsOf(t *testing.T, c *Conn, made []scene.Socket) []reading.Socket {
	t.Helper()
	all := dump(t, c)
	var rows []reading.Socket
	for _, m := range made {
		row, ok := all[m.Cookie]
		if !ok {
			t.Fatalf("no row for %+v", m)
		}
		rows = append(rows, row)
	}
	return rows
}

func destroy(t *testing.T, c *Conn, rows []reading.Socket) []error {
	t.Helper()
	outcomes, err := c.Destroy(t.Context(), rows)
	if err != nil || len(outcomes) != len(rows) {
		t.Fatalf("%d outcomes for %d sockets, error %v", len(outcomes), len(rows), err)
	}
	return outcomes
}

// TestDestroy: what is named is gone, its memory too, and nothing beside it.
func TestDestroy(t *testing.T) {
	for _, spec := range []scene.Spec{
		{Kind: scene.Orphan, Pairs: destroyBatch + 20, SendBuffer: 1 << 16},
		{Kind: scene.Orphan, Pairs: 3, SendBuffer: 1 << 16, Family: scene.IPv6},
		{Kind: scene.Orphan, Pairs: 3, SendBuffer: 1 << 16, Family: scene.Mapped},
		{Kind: scene.Unsent, Pairs: 3, SendBuffer: 1 << 16},
	} {
		t.Run(fmt.Sprint(spec.Kind, " ", spec.Family, " ", spec.Pairs), func(t *testing.T) {
			child, conn := stage(t)
			built := scene.BuildT(t, child, spec)
			bystander := scene.BuildT(t, child, scene.Spec{Kind: scene.Unsent, Pairs: 3, SendBuffer: 1 << 16, Family: spec.Family})
			want := rowsOf(t, conn, built.Role(scene.Dialer))
			var before, after int64
			for _, row := range want {
				before += row.Mem.Bytes()
			}
			for i, err := range destroy(t, conn, want) {
				if err != nil {
					t.Errorf("%+v: %v", want[i], err)
				}
			}
			left := dump(t, conn)
			for _, row := range want {
				if now, ok := left[row.Cookie]; ok {
					after += now.Mem.Bytes()
				}
			}
			t.Logf("%d sockets held %d bytes, after it %d", len(want), before, after)
			if before == 0 || after != 0 {
				t.Errorf("%d bytes before, %d after", before, after)
			}
			rowsOf(t, conn, bystander.Sockets)
			for i, err := range destroy(t, conn, want) {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("%+v once more: %v", want[i], err)
				}
			}
		})
	}
}

// TestDestroyWhatTheDescriptorKeeps: the receive queue of a socket that is held
// stays charged, now out of sight.
func TestDestroyWhatTheDescriptorKeeps(t *testing.T) {
	child, conn := stage(t)
	built := scene.BuildT(t, child, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 50_000})
	accepted := built.Role(scene.Accepted)
	destroy(t, conn, rowsOf(t, conn, accepted))
	if err := child.Refresh(t.Context(), built); err != nil {
		t.Fatal(err)
	}
	for i, s := range built.Role(scene.Accepted) {
		if s.State != reading.Close || s.Mem == nil || s.Mem.RmemAlloc != accepted[i].Mem.RmemAlloc {
			t.Errorf("after it %+v with memory %+v; before %+v", s, s.Mem, accepted[i].Mem)
		}
	}
}

// TestDestroySparesListeners: neither a connection that is gone, nor a cookie
// that is another's, nor the listener's own row ends a listener.
func TestDestroySparesListeners(t *testing.T) {
	for _, family := range []scene.Family{scene.IPv4, scene.IPv6, scene.Mapped} {
		t.Run(string(family), func(t *testing.T) {
			child, conn := stage(t)
			built := scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 2, Family: family, KeepListener: true})
			listener := rowsOf(t, conn, built.Role(scene.Listener))[0]
			accepted := rowsOf(t, conn, built.Role(scene.Accepted))
			dialers := rowsOf(t, conn, built.Role(scene.Dialer))
			standing := func(what string, want ...reading.Socket) {
				t.Helper()
				left := dump(t, conn)
				for _, s := range append(want, listener) {
					if _, ok := left[s.Cookie]; !ok {
						t.Fatalf("%s: %v %v to %v is gone", what, s.State, s.Local, s.Remote)
					}
				}
			}

			stale := accepted[0]
			stale.Cookie++
			if got := destroy(t, conn, []reading.Socket{stale}); !errors.Is(got[0], ErrNotFound) {
				t.Errorf("another's cookie: %v", got)
			}
			standing("another's cookie", accepted...)

			// The listener's row, as it is and as it would be after connections
			// were made up; a bound socket; cookies that mean "any".
			wrong := []reading.Socket{listener, accepted[0], accepted[0], accepted[0], accepted[0]}
			wrong[1].State, wrong[2].Cookie, wrong[3].Cookie, wrong[4].State = reading.BoundInactive, 0, noCookie, reading.TimeWait
			for i, err := range destroy(t, conn, wrong) {
				if !errors.Is(err, ErrNotDestroyable) {
					t.Errorf("%+v: %v", wrong[i], err)
				}
			}
			standing("wrong rows", accepted...)

			// Both ends are closed in order: their addresses lead to the listener
			// alone by now.
			if err := child.Release(t.Context(), &scene.Built{Sockets: built.Role(scene.Dialer, scene.Accepted)}); err != nil {
				t.Fatal(err)
			}
			for i, err := range destroy(t, conn, slices.Concat(accepted, dialers)) {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("%d, of a connection that is gone: %v", i, err)
				}
			}
			standing("a connection that is gone")

			// That this is no idle fear: without the cookie the same request ends
			// the listener.
			r := findRequest(accepted[0].Local, accepted[0].Remote, 0, noCookie, 0)
			m := nl.NewNetlinkRequest(sockDestroy, unix.NLM_F_ACK)
			m.AddData(r)
			err := send(t, conn, m)
			if _, ok := dump(t, conn)[listener.Cookie]; ok || err != nil {
				t.Errorf("a request without a cookie spares the listener (%v): the test shows nothing", err)
			}
		})
	}
}

// send sends one request over the Conn's own socket.
func send(t *testing.T, c *Conn, m *nl.NetlinkRequest) error {
	t.Helper()
	if err := c.sock.Send(m); err != nil {
		t.Fatal(err)
	}
	b, err := c.receive()
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make([]error, 1)
	if err := acknowledge(b, map[uint32]int{m.Seq: 0}, outcomes); err != nil {
		t.Fatal(err)
	}
	return outcomes[0]
}

// TestDestroyUnprivileged: each socket is refused, and stands.
func TestDestroyUnprivileged(t *testing.T) {
	child, conn := stage(t)
	rows := rowsOf(t, conn, scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 60}).Sockets)
	var outcomes []error
	var err error
	withoutRights(t, func() { outcomes, err = conn.Destroy(t.Context(), rows) })
	if err != nil || len(outcomes) != 120 {
		t.Fatalf("%d outcomes, error %v", len(outcomes), err)
	}
	for _, err := range outcomes {
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("outcome %v, want EPERM", err)
		}
	}
	rowsOf(t, conn, scene.BuildT(t, child, scene.Spec{Kind: scene.Idle}).Sockets) // still speaks
	if len(dump(t, conn)) != 122 {
		t.Error("a socket is gone")
	}
}

// withoutRights runs f on a thread without capabilities, which ends with it.
func withoutRights(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		err := unix.Capset(&head, &make([]unix.CapUserData, 2)[0])
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestDestroyMPTCP: of the MPTCP socket itself the kernel destroys nothing
// (mptcp_diag has no such operation). It does destroy its subflow, and then the
// worker of an MPTCP orphan lets go of the orphan too; while a descriptor is
// open its queue stays.
func TestDestroyMPTCP(t *testing.T) {
	child, conn := stage(t)
	built, err := child.Build(t.Context(), scene.Spec{Kind: scene.Unsent, Pairs: 2, MPTCP: true, SendBuffer: 1 << 16})
	if errors.Is(err, scene.ErrUnavailable) {
		require.Missing(t, "MPTCP", "its destruction is not tried")
	}
	if err != nil {
		t.Fatal(err)
	}
	// The MPTCP sockets that send, and the subflow of each: it has the same addresses.
	senders := func() (above, below []reading.Socket) {
		t.Helper()
		mine := map[netip.AddrPort]bool{}
		for _, s := range built.Role(scene.Dialer) {
			mine[s.Local] = true
		}
		if err := conn.DumpMPTCP(t.Context(), func(s *reading.Socket) {
			if mine[s.Local] {
				above = append(above, *s)
			}
		}); err != nil {
			t.Fatal(err)
		}
		for _, s := range dump(t, conn) {
			if mine[s.Local] {
				below = append(below, s)
			}
		}
		return above, below
	}
	above, below := senders()
	for _, err := range destroy(t, conn, above) {
		if !errors.Is(err, unix.EOPNOTSUPP) {
			t.Errorf("the MPTCP socket: %v, want EOPNOTSUPP", err)
		}
	}
	before := above[0].Mem.Bytes()
	if got := destroy(t, conn, below[:1]); got[0] != nil {
		t.Error("the subflow of a held one: ", got[0])
	}
	time.Sleep(time.Second)
	if above, _ = senders(); len(above) != 2 || above[0].Mem.Bytes() != before {
		t.Errorf("held MPTCP sockets without a subflow: %+v, want 2 with %d bytes each", above, before)
	}
	if err := child.Close(t.Context(), built.Role(scene.Dialer)...); err != nil {
		t.Fatal(err)
	}
	// One has lost its subflow; the other stays as an orphan.
	time.Sleep(time.Second)
	above, below = senders()
	if len(above) != 1 || len(below) != 1 || above[0].Inode != 0 || above[0].State != reading.FinWait1 || above[0].Mem.Bytes() == 0 {
		t.Fatalf("after close %+v and subflows %+v, want one orphan of each", above, below)
	}
	if got := destroy(t, conn, below); got[0] != nil {
		t.Error("the subflow of an orphan: ", got[0])
	}
	for deadline := time.Now().Add(5 * time.Second); len(above)+len(below) > 0; above, below = senders() {
		if time.Now().After(deadline) {
			t.Fatalf("the MPTCP orphan stays: %+v, %+v", above, below)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func TestDestroyCancelled(t *testing.T) {
	child, conn := stage(t)
	rows := rowsOf(t, conn, scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 5}).Sockets)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if outcomes, err := conn.Destroy(ctx, rows); !errors.Is(err, context.Canceled) || len(outcomes) != 0 {
		t.Errorf("outcomes %v, error %v", outcomes, err)
	}
	rowsOf(t, conn, nil)
	if len(dump(t, conn)) != 10 {
		t.Error("a socket is gone")
	}
}

func TestAcknowledge(t *testing.T) {
	outcomes := make([]error, 3)
	waiting := map[uint32]int{7: 0, 8: 1, 9: 2}
	buffer := slices.Concat(msg(unix.NLMSG_ERROR, 7, words(0)), msg(unix.NLMSG_ERROR, 99, words(0)),
		msg(unix.NLMSG_ERROR, 8, words(uint32(0xffffffff-1))), msg(unix.NLMSG_ERROR, 9, words(uint32(0xffffffff))))
	if err := acknowledge(buffer, waiting, outcomes); err != nil || len(waiting) != 0 {
		t.Errorf("error %v, waiting for %v", err, waiting)
	}
	if outcomes[0] != nil || !errors.Is(outcomes[1], ErrNotFound) || !errors.Is(outcomes[2], unix.EPERM) {
		t.Errorf("outcomes %v", outcomes)
	}
	if err := acknowledge(buffer[:5], waiting, outcomes); !errors.Is(err, errTruncated) {
		t.Errorf("half a header: %v", err)
	}
}
