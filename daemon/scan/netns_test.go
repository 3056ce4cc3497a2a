package scan_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

func procPath(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

func netnsOf(t *testing.T, pid int) uint32 {
	t.Helper()
	var st unix.Stat_t
	do(t, "stat namespace", unix.Stat(procPath(pid, "ns/net"), &st))
	return uint32(st.Ino)
}

// A namespace that a process is in.
func TestNamespaceOfAProcess(t *testing.T) {
	s := open(t)
	c := scene.StartT(t, scene.ChildOptions{NewNetns: true})
	var built []*scene.Built
	for _, spec := range []scene.Spec{
		{Kind: scene.Unread, Pairs: 10, Bytes: 9000},
		{Kind: scene.Unread, Pairs: 10, Bytes: 9000, Family: scene.IPv6},
		{Kind: scene.Unread, Pairs: 2, Bytes: 50000, MPTCP: true},
		{Kind: scene.CloseWait, Pairs: 10, Bytes: 5000},
	} {
		built = append(built, scene.BuildT(t, c, spec))
	}
	inode := netnsOf(t, c.PID())
	for range 2 {
		r := read(t, s)
		o := checkOwner(t, r, processKey(t, c.PID()), wantProcess(built...))
		if len(o.Netns) != 1 || o.Netns[0].Inode != inode || o.Netns[0].Cookie == 0 {
			t.Errorf("namespaces are %+v, want %d", o.Netns, inode)
		}
		if i := slices.IndexFunc(r.Ledger.Checks, func(c reading.Check) bool {
			return c.Scope == fmt.Sprintf("netns %d", inode)
		}); i >= 0 { // named only where it does not fit
			t.Errorf("check %+v", r.Ledger.Checks[i])
		}
	}
}

// Two namespaces with the same addresses are two places.
func TestSameAddressesInTwoNamespaces(t *testing.T) {
	s := open(t)
	var children []*scene.Child
	var built []*scene.Built
	for range 2 {
		c := scene.StartT(t, scene.ChildOptions{NewNetns: true})
		children = append(children, c)
		built = append(built, scene.BuildT(t, c, scene.Spec{Kind: scene.Unaccepted, Pairs: 10, Bytes: 5000, Family: scene.IPv6}))
	}
	r := read(t, s)
	for i, c := range children {
		w := wantProcess(built[i])
		w.evidence = evidence{reading.FD: {reading.Owned}, reading.Listener: {reading.Unaccepted}}
		checkOwner(t, r, processKey(t, c.PID()), w)
	}
}

// far is a dialer and an acceptor in two namespaces, joined by a cable.
type far struct {
	near, away       *scene.Netns
	dialer, acceptor *helper
}

const nearAddr, awayAddr = "10.99.1.1/24", "10.99.1.2/24"

// buildFar fills the send queues of a dialer in unit, in one namespace, towards
// an acceptor in another that does not read.
func buildFar(t *testing.T, unit *scene.Cgroup) *far {
	t.Helper()
	require.Root(t)
	f := &far{near: scene.NewNetns(t), away: scene.NewNetns(t)}
	peer, err := os.Open(f.away.Path)
	do(t, "open namespace", err)
	defer peer.Close()
	do(t, "lay cable", f.near.Do(func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "away", PeerNamespace: netlink.NsFd(peer.Fd())}
		if err := netlink.LinkAdd(cable); err != nil {
			return err
		}
		return linkUp("near", nearAddr)
	}))
	do(t, "lay cable", f.away.Do(func() error { return linkUp("away", awayAddr) }))
	host, _, _ := strings.Cut(awayAddr, "/")
	addr := net.JoinHostPort(host, "7777")
	f.acceptor = startHelper(t, f.away, nil, "accept", addr)
	f.acceptor.say(t)
	f.dialer = startHelper(t, f.near, inCgroup(t, unit), "dial", addr)
	f.acceptor.say(t)
	f.dialer.say(t)
	return f
}

func linkUp(name, addr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// held is what a dump inside a namespace shows: its sockets stand still, so it
// is exact. Package scene's own look-up is not to be had across namespaces.
func held(t *testing.T, ns *scene.Netns) (sum reading.Tally, states map[reading.State]int) {
	t.Helper()
	states = map[reading.State]int{}
	do(t, "dump", ns.Do(func() error {
		conn, err := sockdiag.Open(sockdiag.NewBuffer())
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.DumpTCP(t.Context(), func(sock *reading.Socket) {
			sum.Add(1, sock.Mem.Bytes())
			states[sock.State]++
		})
	}))
	return sum, states
}

// The whole life of a namespace: with processes, kept by a mount alone, by a
// descriptor alone, by nothing but the orphans in it.
func TestNamespaceKeptBy(t *testing.T) {
	unit := newUnits(t, "gone.service")[0]
	f := buildFar(t, unit)
	const key = "system/gone.service"
	warm := open(t)

	var unread reading.Tally
	r, sum := steady(t, warm, func() reading.Tally {
		unread, _ = held(t, f.away)
		sum, _ := held(t, f.near)
		return sum
	})
	w := want{kind: reading.KindService, unit: "gone.service", evidence: heldByFD}
	w.classes[reading.Owned] = sum
	o := checkOwner(t, r, key, w)
	if len(o.Netns) != 1 || o.Netns[0] != f.near.NetnsID {
		t.Errorf("namespaces are %+v, want %+v", o.Netns, f.near.NetnsID)
	}
	checkPeer(t, o, processKey(t, f.acceptor.pid()), sum.Sockets)
	// The receive side, beside its listener.
	w = want{kind: reading.KindProcess, evidence: heldByFD}
	w.classes[reading.Owned] = unread
	if o := checkOwner(t, r, processKey(t, f.acceptor.pid()), w); o.Unread != o.Receive || o.Unread == 0 {
		t.Errorf("%d bytes unread of %d received", o.Unread, o.Receive)
	}

	// Only the mount at f.near.Path is left, and orphans.
	f.dialer.kill()
	ns := f.near
	orphans := func(s *scan.Scanner, by reading.Evidence) *reading.Reading {
		t.Helper()
		var states map[reading.State]int
		r, sum := steady(t, s, func() (sum reading.Tally) { sum, states = held(t, ns); return sum })
		if states[reading.FinWait1] != farPairs || sum.Sockets != farPairs {
			t.Fatalf("states are %v, want %d in fin-wait-1", states, farPairs)
		}
		w := want{kind: reading.KindService, unit: "gone.service", evidence: evidence{by: {reading.Orphan}}}
		w.classes[reading.Orphan] = sum
		checkOwner(t, r, key, w)
		return r
	}
	orphans(warm, reading.LastSeen)
	orphans(open(t), reading.CgroupID)

	// Only a descriptor.
	var file *os.File
	do(t, "open namespace", f.near.Do(func() (err error) {
		// By this path: opened through the mount, the descriptor would keep the
		// mount's name, and say "/" once it is gone.
		file, err = os.Open("/proc/thread-self/ns/net")
		return err
	}))
	sleep := exec.Command("sleep", "60")
	sleep.ExtraFiles = []*os.File{file}
	err := sleep.Start()
	_ = file.Close()
	do(t, "start sleep", err)
	stop := func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }
	t.Cleanup(stop)
	do(t, "unmount", f.near.Remove())
	ns = &scene.Netns{NetnsID: f.near.NetnsID, Path: procPath(sleep.Process.Pid, "fd/3")}
	orphans(open(t), reading.CgroupID)
	eventually(t, "the warm scanner's sight of a descriptor", func() bool {
		r, err := warm.Scan(t.Context(), scan.Options{}) // it paces its searches
		do(t, "scan", err)
		checkSums(t, r)
		_, found := lookOwner(r, key)
		return found
	})
	for range 3 {
		// Between the mount and the descriptor the namespace was out of sight for
		// the warm scanner, too: who owned what is forgotten.
		r := orphans(warm, reading.CgroupID)
		// What else there is stays in sight.
		o := owner(t, r, processKey(t, f.acceptor.pid()))
		if len(o.Netns) != 1 || o.Netns[0] != f.away.NetnsID {
			t.Errorf("namespaces of the acceptor are %+v, want %+v", o.Netns, f.away.NetnsID)
		}
	}

	// Nothing: the orphans are a gap with a size.
	sum, _ = held(t, ns)
	stop()
	for name, s := range map[string]*scan.Scanner{"warm": warm, "cold": open(t)} {
		t.Run(name, func(t *testing.T) { checkUnseen(t, s, sum) })
	}
	f.acceptor.kill() // its resets free them
}

// checkUnseen: orphans that no dump lists are in namespaces that nothing shows.
// The count of orphans may move for other reasons, so one scan of several must
// say it.
func checkUnseen(t *testing.T, s *scan.Scanner, sum reading.Tally) {
	t.Helper()
	var r *reading.Reading
	for range 20 {
		var err error
		r, err = s.Scan(t.Context(), scan.Options{Thorough: true})
		do(t, "scan", err)
		checkSums(t, r)
		gap, ok := hasGap(r, "netns-unseen")
		if !ok {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if o, ok := lookOwner(r, "system/gone.service"); ok {
			t.Errorf("what cannot be seen has an owner: %v", named(o.Classes))
		}
		c := check(t, r, "orphan")
		if c.Status != reading.CheckMismatch || c.After-c.Seen != sum.Sockets {
			t.Errorf("check %+v, %d orphans are out of sight", c, sum.Sockets)
		}
		// The per-CPU reserve blurs how much, either way.
		if gap.MayHideBytes == nil || *gap.MayHideBytes < sum.Bytes-r.Ledger.ReserveMax {
			t.Errorf("gap %+v, %d bytes are out of sight", gap, sum.Bytes)
		}
		return
	}
	t.Errorf("no scan says that there are namespaces out of sight: %+v, %+v", r.Ledger, r.Gaps)
}

// A namespace without sockets to look at is let go of as soon as nobody else
// holds it, though its counters were kept open: the other end of a cable into
// it vanishes with it.
func TestPinningRule(t *testing.T) {
	s := open(t)
	c := scene.StartT(t, scene.ChildOptions{NewNetns: true})
	scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 9000})
	cable := fmt.Sprintf("scan%d", c.PID())
	do(t, "lay cable", netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: cable},
		PeerName:  "end", PeerNamespace: netlink.NsPid(c.PID()),
	}))
	t.Cleanup(func() {
		if link, err := netlink.LinkByName(cable); err == nil {
			_ = netlink.LinkDel(link)
		}
	})
	there := func() bool {
		_, err := net.InterfaceByName(cable)
		return err == nil
	}
	read(t, s)
	if _, err := s.Sample(scan.EveryNamespace); err != nil {
		t.Fatal(err)
	}
	if !there() {
		t.Fatal("the cable is not there")
	}

	do(t, "stop", c.Stop())
	time.Sleep(200 * time.Millisecond)
	if !there() {
		t.Error("the namespace ended with its process: no counter of it was open, and this shows nothing")
	}
	do(t, "refresh", s.Refresh())
	eventually(t, "the end of the namespace", func() bool { return !there() })
}
