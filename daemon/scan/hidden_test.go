package scan_test

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// lost are sockets whose peers sent data and then a reset: 200 of them are
// enough to be looked for.
var lost = scene.Spec{Kind: scene.Hidden, Pairs: 200, Bytes: 20000}

// Sockets that no dump shows are looked for once, kept as long as their
// process keeps them, and gone with it.
func TestHiddenAreKept(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, lost)
	key := processKey(t, c.PID())
	r := readHidden(t, s, key)
	checkOwner(t, r, key, wantProcess(b))
	if r.Ledger.HiddenEstimate < 200 {
		t.Errorf("%d hidden sockets estimated, built 200", r.Ledger.HiddenEstimate)
	}

	// Other work on this machine may ask for a search of its own: of some warm
	// scans at least one must do without.
	quiet := false
	for range 10 {
		before := s.LastFull()
		checkOwner(t, readWith(t, s, scan.Options{}), key, wantProcess(b))
		quiet = quiet || s.LastFull().Equal(before)
	}
	if !quiet {
		t.Error("every warm scan searched again for what was known")
	}

	// Half of them closed: those are gone.
	accepted := b.Role(scene.Accepted)
	do(t, "close", c.Close(t.Context(), accepted[:100]...))
	rest := wantProcess(b)
	rest.classes[reading.Hidden] = reading.Tally{}
	for _, sock := range accepted[100:] {
		rest.classes[reading.Hidden].Add(1, sock.Bytes())
	}
	checkOwner(t, readWith(t, s, scan.Options{}), key, rest)

	// And no trace is left when the process dies: not of it, not as nobody's.
	cookies := map[reading.Cookie]bool{}
	for _, sock := range accepted {
		cookies[sock.Cookie] = true
	}
	c.Kill()
	r = readWith(t, s, scan.Options{})
	if o, ok := lookOwner(r, key); ok {
		t.Errorf("the dead process holds %v", named(o.Classes))
	}
	if left := rows(t, s, func(sock *reading.Socket) bool { return cookies[sock.Cookie] }); len(left) > 0 {
		t.Errorf("%d sockets of the dead process are listed: %+v", len(left), left[0])
	}
}

// A hidden socket that two processes hold is one socket, in sums and lists,
// and survives the first to let go.
func TestHiddenShared(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, lost)
	accepted := b.Role(scene.Accepted)
	pid, err := c.Fork(t.Context(), "heir", accepted...)
	do(t, "fork", err)
	cookies := map[reading.Cookie]bool{}
	var sum reading.Tally
	for _, sock := range accepted {
		cookies[sock.Cookie] = true
		sum.Add(1, sock.Bytes())
	}
	for range 2 {
		r := readHidden(t, s, processKey(t, c.PID()))
		o := checkOwner(t, r, processKey(t, c.PID()), wantProcess(b))
		if o.HolderCount != 2 {
			t.Errorf("%d holders, want 2", o.HolderCount)
		}
		if list := rows(t, s, func(sock *reading.Socket) bool { return cookies[sock.Cookie] }); len(list) != len(accepted) {
			t.Errorf("listed %d sockets, built %d", len(list), len(accepted))
		}
	}

	do(t, "close", c.Close(t.Context(), accepted...))
	w := want{kind: reading.KindProcess, evidence: heldByFD}
	w.classes[reading.Hidden] = sum
	checkOwner(t, readHidden(t, s, processKey(t, pid)), processKey(t, pid), w)
}

// Hidden sockets of another namespace are found like any, and know where they
// are.
func TestHiddenInNamespace(t *testing.T) {
	s := open(t)
	c := scene.StartT(t, scene.ChildOptions{NewNetns: true})
	b := scene.BuildT(t, c, lost)
	o := checkOwner(t, readHidden(t, s, processKey(t, c.PID())), processKey(t, c.PID()), wantProcess(b))
	if len(o.Netns) != 1 || o.Netns[0].Inode != netnsOf(t, c.PID()) {
		t.Errorf("namespaces are %+v, want %d", o.Netns, netnsOf(t, c.PID()))
	}
}

// Unconnected sockets are hidden by the kernel's own counters (in alloc, in no
// dump) and hold nothing.
func TestUnconnected(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unconnected, Pairs: 100})
	big := scene.BuildT(t, c, lost)
	checkOwner(t, readHidden(t, s, processKey(t, c.PID())), processKey(t, c.PID()), wantProcess(b, big))
}
