package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// stage is a child with sockets, alone in a namespace.
func stage(t *testing.T) (*scene.Child, *Conn) {
	t.Helper()
	require.Root(t)
	ns := scene.NewNetns(t)
	return scene.StartT(t, scene.ChildOptions{Netns: ns}), openIn(t, ns)
}

// dump collects a dump by cookie.
func dump(t *testing.T, c *Conn) map[reading.Cookie]reading.Socket {
	t.Helper()
	all := map[reading.Cookie]reading.Socket{}
	if err := c.DumpTCP(t.Context(), func(s *reading.Socket) { all[s.Cookie] = *s }); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestDumpIsTheTruth holds each row against what the socket's own process was
// told by getsockopt(2).
func TestDumpIsTheTruth(t *testing.T) {
	for _, spec := range []scene.Spec{
		{Kind: scene.Idle, Pairs: 3},
		{Kind: scene.Unread, Pairs: 3, Bytes: 9000, Family: scene.IPv6},
		{Kind: scene.Unsent, Pairs: 3, Family: scene.Mapped, SendBuffer: 1 << 16},
		{Kind: scene.CloseWait, Pairs: 3, Bytes: 9000},
		{Kind: scene.Orphan, Pairs: 3, SendBuffer: 1 << 16},
		{Kind: scene.Unaccepted, Pairs: 3, Bytes: 3000},
		{Kind: scene.Listening, Pairs: 3},
	} {
		t.Run(fmt.Sprint(spec.Kind, " ", spec.Family), func(t *testing.T) {
			child, conn := stage(t)
			built := scene.BuildT(t, child, spec)
			got := dump(t, conn)
			for _, want := range built.Sockets {
				if want.Mini || want.Gone {
					continue
				}
				s, ok := got[want.Cookie]
				if !ok {
					t.Errorf("no row for %+v", want)
					continue
				}
				if s.State != want.State || s.Inode != want.Inode || s.Mem != *want.Mem || s.Local != want.Local {
					t.Errorf("row %+v\nwant %+v with memory %+v", s, want, *want.Mem)
				}
				if s.CgroupID == 0 {
					t.Errorf("row without a cgroup id: %+v", s)
				}
			}
		})
	}
}

// TestBoundOnly: a socket that is bound and nothing more is in no inuse, so it
// must be told apart from the others.
func TestBoundOnly(t *testing.T) {
	child, conn := stage(t)
	built := scene.BuildT(t, child, scene.Spec{Kind: scene.Bound, Pairs: 3})
	got := dump(t, conn)
	if len(got) == 0 {
		require.Missing(t, "Linux 6.8, which lists bound sockets", "their state is not tried")
	}
	for _, b := range built.Sockets {
		if s := got[b.Cookie]; s.State != reading.BoundInactive {
			t.Errorf("row %+v, want state %v", s, reading.BoundInactive)
		}
	}
}

func TestFind(t *testing.T) {
	for _, family := range []scene.Family{scene.IPv4, scene.IPv6, scene.Mapped} {
		t.Run(string(family), func(t *testing.T) {
			child, conn := stage(t)
			built := scene.BuildT(t, child, scene.Spec{Kind: scene.Unread, Pairs: 2, Bytes: 5000, Family: family, KeepListener: true})
			listener := built.Role(scene.Listener)[0]
			for _, want := range built.Role(scene.Dialer, scene.Accepted) {
				var s reading.Socket
				if err := conn.Find(t.Context(), want.Local, want.Remote, 0, &s); err != nil {
					t.Fatal(err)
				}
				if s.Cookie != want.Cookie || s.Mem != *want.Mem {
					t.Errorf("found %+v, want %+v", s, want)
				}
				// An IPv4 connection is found by either spelling.
				if err := conn.Find(t.Context(), unmapped(want.Local), unmapped(want.Remote), 0, &s); err != nil || s.Cookie != want.Cookie {
					t.Errorf("by unmapped addresses: cookie %d, error %v", s.Cookie, err)
				}
			}
			// Of a connection that is gone the kernel shows the listener.
			d := built.Role(scene.Dialer)[0]
			gone := netip.AddrPortFrom(d.Local.Addr(), 1)
			var s reading.Socket
			if err := conn.Find(t.Context(), listener.Local, gone, 0, &s); !errors.Is(err, ErrNotFound) {
				t.Errorf("a connection that never was, to a listener: error %v, socket %+v", err, s)
			}
			if err := conn.Find(t.Context(), gone, gone, 0, &s); !errors.Is(err, ErrNotFound) {
				t.Errorf("no connection and no listener: error %v", err)
			}
		})
	}
}

func TestInfo(t *testing.T) {
	child, conn := stage(t)
	built := scene.BuildT(t, child, scene.Spec{Kind: scene.Unread, Pairs: 1, Bytes: 5000, KeepListener: true})
	all := dump(t, conn)
	accepted, dialer := built.Role(scene.Accepted)[0], built.Role(scene.Dialer)[0]
	row := all[accepted.Cookie]
	info, err := conn.Info(t.Context(), &row)
	if err != nil {
		t.Fatal(err)
	}
	if info.BytesReceived == nil || *info.BytesReceived != 5000 || info.RTO == 0 {
		t.Errorf("accepted side %+v, want 5000 bytes received", info)
	}
	row = all[dialer.Cookie]
	if info, err = conn.Info(t.Context(), &row); err != nil || info.BytesAcked == nil || *info.BytesAcked < 5000 {
		t.Errorf("dialer %+v, error %v; want 5000 bytes acknowledged", info, err)
	}

	row = all[accepted.Cookie]
	other := row
	other.Cookie++
	if _, err := conn.Info(t.Context(), &other); !errors.Is(err, ErrNotFound) {
		t.Errorf("another cookie: error %v, want not found", err)
	}
	// With neither cookie nor connection the kernel answers for the listener.
	gone := row
	gone.Cookie, gone.Remote = 0, netip.AddrPortFrom(row.Remote.Addr(), 1)
	if info, err := conn.Info(t.Context(), &gone); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such connection: %+v, error %v; want not found", info, err)
	}
}

func TestDumpMPTCP(t *testing.T) {
	child, conn := stage(t)
	for _, family := range []scene.Family{scene.IPv4, scene.IPv6} {
		built, err := child.Build(t.Context(), scene.Spec{Kind: scene.Unread, Pairs: 2, Bytes: 50000, MPTCP: true, Family: family})
		if errors.Is(err, scene.ErrUnavailable) {
			require.Missing(t, "MPTCP", "its dump is not tried")
		}
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		err = conn.DumpMPTCP(t.Context(), func(s *reading.Socket) {
			for _, b := range built.Sockets {
				if b.MPTCP && b.Local == s.Local && b.Remote == s.Remote {
					found++
					if !s.MPTCP || s.Mem != *b.Mem || s.Inode != b.Inode {
						t.Errorf("row %+v, want %+v", s, b)
					}
				}
			}
		})
		if err != nil || found != 4 {
			t.Errorf("%s: %d of 4 MPTCP sockets, error %v", family, found, err)
		}
	}
}

// TestDumpCancelled: what was not read is no complete list, and the kernel,
// still in the middle of it, never passes the rest off as another dump.
func TestDumpCancelled(t *testing.T) {
	child, conn := stage(t)
	scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 400})
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if err := conn.DumpTCP(done, func(*reading.Socket) { t.Error("a row") }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	err := conn.DumpTCP(ctx, func(*reading.Socket) { n++; cancel() })
	if !errors.Is(err, context.Canceled) || n == 0 || n >= 800 {
		t.Errorf("%d rows, error %v; want some and cancelled", n, err)
	}
	if err := conn.DumpTCP(t.Context(), func(*reading.Socket) {}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("another dump by the same Conn: error %v, want busy", err)
	}
}

// TestForeignMessages: any process may send to our netlink port; only the
// kernel's word may be read.
func TestForeignMessages(t *testing.T) {
	require.Root(t)
	ns := scene.NewNetns(t)
	conn := openIn(t, ns)
	scene.BuildT(t, scene.StartT(t, scene.ChildOptions{Netns: ns}), scene.Spec{Kind: scene.Idle, Pairs: 2})
	port, err := conn.sock.GetPid()
	if err != nil {
		t.Fatal(err)
	}
	var liar int
	err = ns.Do(func() (err error) {
		liar, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(liar)
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: port}
	lie := msg(unix.NLMSG_DONE, 1, words(0))
	if err := unix.Sendto(liar, lie, 0, to); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("another process's message: error %v, want refused", err)
	}
	if got := len(dump(t, conn)); got != 4 {
		t.Errorf("%d sockets, want 4", got)
	}
}

// TestDumpAllocates: a sweep of 100,000 sockets must not leave garbage behind.
func TestDumpAllocates(t *testing.T) {
	child, conn := stage(t)
	one := func() {
		if err := conn.DumpTCP(t.Context(), func(*reading.Socket) {}); err != nil {
			t.Fatal(err)
		}
	}
	empty := testing.AllocsPerRun(5, one)
	scene.BuildT(t, child, scene.Spec{Kind: scene.Idle, Pairs: 500})
	full := testing.AllocsPerRun(5, one)
	if full > empty {
		t.Errorf("a dump of 1000 sockets allocates %.0f times, of none %.0f times", full, empty)
	}
	t.Logf("%.0f allocations a dump", full)
}

// TestSilence: a kernel that does not answer must not hold the daemon.
func TestSilence(t *testing.T) {
	_, conn := stage(t)
	start := time.Now()
	_, err := conn.receive()
	if err == nil || time.Since(start) < answerTimeout || time.Since(start) > 2*answerTimeout {
		t.Errorf("error %v after %v", err, time.Since(start))
	}
}

func TestRequests(t *testing.T) {
	local, remote := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("[::1]:443")
	id := make([]byte, sizeofSockID)
	sockID{src: local, dst: remote, iface: 5, cookie: 0x22_0000_0011}.put(id)
	want := append([]byte{0, 80, 1, 187, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, words(5, 0x11, 0x22)...)...)
	if diff := cmp.Diff(want, id); diff != "" {
		t.Errorf("struct inet_diag_sockid (-want +got):\n%s", diff)
	}
	for _, r := range []interface {
		Len() int
		Serialize() []byte
	}{
		&legacyRequest{}, &request{protocol: unix.IPPROTO_TCP}, &request{protocol: ipprotoMPTCP},
		findRequest(local, local, 0, 0, extInfo),
	} {
		if got := len(r.Serialize()); got != r.Len() || got%4 != 0 {
			t.Errorf("%T: %d bytes, says %d", r, got, r.Len())
		}
	}
}
