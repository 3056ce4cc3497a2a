package scan_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// Each scene is one process with one kind of sockets: owner, class, evidence
// and bytes must be what was built.
func TestScenes(t *testing.T) {
	require.Root(t)
	queued := evidence{reading.FD: {reading.Owned}, reading.Listener: {reading.Unaccepted}}
	for _, tc := range []struct {
		name     string
		spec     scene.Spec
		evidence evidence
	}{
		{"idle", scene.Spec{Kind: scene.Idle, Pairs: 5}, heldByFD},
		{"unread v4", scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000}, heldByFD},
		{"unread v6", scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000, Family: scene.IPv6}, heldByFD},
		{"unread mapped", scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000, Family: scene.Mapped}, heldByFD},
		{"unsent", scene.Spec{Kind: scene.Unsent, Pairs: 5, SendBuffer: 1 << 17}, heldByFD},
		{"close-wait pile-up", scene.Spec{Kind: scene.CloseWait, Pairs: 100, Bytes: 5000}, heldByFD},
		{"fin-wait-2", scene.Spec{Kind: scene.FinWait2, Pairs: 20, Bytes: 5000}, heldByFD},
		{"unaccepted", scene.Spec{Kind: scene.Unaccepted, Pairs: 20, Bytes: 5000}, queued},
		{"unaccepted wildcard v4", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Wildcard: true}, queued},
		{"unaccepted wildcard v6", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Wildcard: true, Family: scene.IPv6}, queued},
		{"unaccepted mapped", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Wildcard: true, Family: scene.Mapped}, queued},
		{"unaccepted finished", scene.Spec{Kind: scene.Unaccepted, Pairs: 5, Bytes: 5000, Finish: true}, queued},
		{"hidden", scene.Spec{Kind: scene.Hidden, Pairs: 200, Bytes: 20000}, heldByFD},
		{"hidden by fin", scene.Spec{Kind: scene.Hidden, Pairs: 200, Bytes: 20000, Finish: true}, heldByFD},
		{"listening", scene.Spec{Kind: scene.Listening, Pairs: 3}, heldByFD},
		{"bound", scene.Spec{Kind: scene.Bound, Pairs: 3}, heldByFD},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := open(t)
			c := start(t)
			b := scene.BuildT(t, c, tc.spec)
			r := read(t, s)
			if len(b.Class(reading.Hidden)) > 0 {
				r = readHidden(t, s, processKey(t, c.PID()))
			} else if tc.spec.Kind == scene.Unsent {
				r = steadyBuilt(t, s, made{c, b})
			}
			w := wantProcess(b)
			w.evidence = tc.evidence
			o := checkOwner(t, r, processKey(t, c.PID()), w)
			if got := holderPIDs(o); !slices.Equal(got, []int{c.PID()}) {
				t.Errorf("holders are %v, want %d", got, c.PID())
			}
			if o.Command != "scene-child" {
				t.Errorf("command is %q", o.Command)
			}
		})
	}
}

// An accept pile-up in CLOSE_WAIT is told by its states, too.
func TestCloseWaitStates(t *testing.T) {
	s, c := open(t), start(t)
	scene.BuildT(t, c, scene.Spec{Kind: scene.CloseWait, Pairs: 30, Bytes: 5000})
	o := owner(t, read(t, s), processKey(t, c.PID()))
	if got := o.States[reading.CloseWait]; got != 30 {
		t.Errorf("%d sockets in close-wait, want 30", got)
	}
	if o.Unread == 0 || o.Unread != o.Receive {
		t.Errorf("%d bytes unread of %d received", o.Unread, o.Receive)
	}
}

// The bulk of an MPTCP connection is on the MPTCP socket. An accepted one has
// its listener's cookie (measured on 6.18), and must not be taken for it.
func TestMPTCP(t *testing.T) {
	s, c := open(t), start(t)
	b, err := c.Build(t.Context(), scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 50000, MPTCP: true, KeepListener: true})
	if errors.Is(err, scene.ErrUnavailable) {
		require.Missing(t, "MPTCP", "its sockets are not tried")
	}
	do(t, "build", err)
	cookies := map[reading.Cookie]int{}
	var bulk int64
	for _, sock := range b.Sockets {
		if sock.MPTCP {
			cookies[sock.Cookie]++
			bulk += sock.Bytes()
		}
	}
	if len(cookies) == 1+5+5 {
		t.Log("this kernel gives accepted MPTCP sockets cookies of their own")
	}
	if 2*bulk < b.Bytes() {
		t.Errorf("MPTCP sockets hold %d of %d bytes", bulk, b.Bytes())
	}
	w := wantProcess(b)
	w.classes[reading.Owned].Add(1, 0) // the TCP listener under the MPTCP one
	for range 2 {                      // the second time the cookie cache knows them
		checkOwner(t, read(t, s), processKey(t, c.PID()), w)
	}
	listed := rows(t, s, func(sock *reading.Socket) bool { return sock.Owner == processKey(t, c.PID()) })
	var got int64
	for _, sock := range listed {
		got += sock.Mem.Bytes()
	}
	if sum := w.classes[reading.Owned]; got != sum.Bytes || int64(len(listed)) != sum.Sockets {
		t.Errorf("listed %d sockets of %d bytes, built %+v", len(listed), got, sum)
	}
}

// FIN_WAIT2 mini sockets hold no memory and are no orphans, though a dump
// shows them under a state that orphans have, too.
func TestMiniSocketsAreNoOrphans(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.FinWait2, Pairs: 50, Bytes: 5000})
	minis := 0
	for _, sock := range b.Sockets {
		if sock.Mini {
			minis++
		}
	}
	if minis != 50 {
		t.Fatalf("%d mini sockets, built 50", minis)
	}
	r := read(t, s)
	ports := portsOf(b)
	for _, sock := range rows(t, s, func(sock *reading.Socket) bool { return ports[sock.Local.String()] }) {
		if sock.Class == reading.Orphan || sock.State == reading.FinWait2 {
			t.Errorf("listed as %v in %v", sock.Class, sock.State)
		}
	}
	if c := check(t, r, "orphan"); c.Status != reading.CheckOK && c.Before == c.After {
		t.Errorf("check %+v", c)
	}
}

// portsOf are the local addresses of what was built.
func portsOf(built ...*scene.Built) map[string]bool {
	addrs := map[string]bool{}
	for _, b := range built {
		for _, sock := range b.Sockets {
			addrs[sock.Local.String()] = true
		}
	}
	return addrs
}

// Processes choose their names: whatever they choose, their stat file is read
// right, and what is shown is what they chose.
func TestHostileNames(t *testing.T) {
	s := open(t)
	children := map[string]*scene.Child{}
	built := map[string]*scene.Built{}
	for _, comm := range []string{
		"two\nlines", ") R 1 1 (", "x) Z 1 0 0", "\x1b[31mred\x1b[0m", "\r\x00"[:1] + "back", "((((((((((((((", "\xff\xfe", "sshd: root@pts",
	} {
		c := scene.StartT(t, scene.ChildOptions{Comm: comm, Argv0: comm})
		children[comm] = c
		built[comm] = scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 2, Bytes: 5000})
	}
	r := read(t, s)
	for comm, c := range children {
		t.Run(fmt.Sprintf("%q", comm), func(t *testing.T) {
			o := checkOwner(t, r, processKey(t, c.PID()), wantProcess(built[comm]))
			if len(o.Holders) != 1 || o.Holders[0].PID != c.PID() || o.Holders[0].StartTime != startTime(t, c.PID()) {
				t.Fatalf("holders are %+v", o.Holders)
			}
			if got := o.Holders[0].Command; !strings.HasPrefix(got, comm[:min(len(comm), 15)]) {
				t.Errorf("command is %q, want %q", got, comm)
			}
		})
	}
}

// Sockets of the scanning process itself are named by anything but its
// descriptors: among those are such that it fetched from others.
func TestNeverOurselves(t *testing.T) {
	s, c := open(t), start(t)
	var plain net.ListenConfig
	plain.SetMultipathTCP(false)
	l, err := plain.Listen(t.Context(), "tcp", "127.0.0.1:0")
	do(t, "listen", err)
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	do(t, "dial", err)
	defer conn.Close()
	peer, err := l.Accept()
	do(t, "accept", err)
	defer peer.Close()
	_, err = conn.Write(make([]byte, 10000))
	do(t, "write", err)

	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Hidden, Pairs: 200, Bytes: 20000})
	for range 3 {
		r := readHidden(t, s, processKey(t, c.PID()))
		checkOwner(t, r, processKey(t, c.PID()), wantProcess(b))
		for _, o := range r.Owners {
			if slices.Contains(holderPIDs(o), os.Getpid()) {
				t.Errorf("%s is held by us: %+v", o.Key, o.Holders)
			}
		}
		own := rows(t, s, func(sock *reading.Socket) bool { return sock.Local.String() == l.Addr().String() })
		if len(own) != 2 { // the listener and what it accepted
			t.Errorf("listed %d own sockets, want 2", len(own))
		}
		for _, sock := range own {
			if sock.Evidence == reading.FD || sock.Class == reading.Kernel {
				t.Errorf("own socket is %v by %v", sock.Class, sock.Evidence)
			}
		}
		// The next scan starts cold.
		s = open(t)
	}
}
