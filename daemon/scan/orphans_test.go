package scan_test

import (
	"fmt"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/sockdiag"
)

// small fills a send queue without a megabyte for each connection.
const small = 1 << 16

// Who closed a socket is known if an earlier scan saw who held it.
func TestOrphansOfALivingProcess(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unsent, Pairs: 10, SendBuffer: small})
	key := processKey(t, c.PID())
	checkOwner(t, steadyBuilt(t, s, made{c, b}), key, wantProcess(b))

	do(t, "close", c.Close(t.Context(), b.Role(scene.Dialer)...))
	for range 2 { // what is remembered stays so
		r := steadyBuilt(t, s, made{c, b})
		w := wantProcess(b)
		w.evidence = evidence{reading.FD: {reading.Owned}, reading.LastSeen: {reading.Orphan}}
		o := checkOwner(t, r, key, w)
		if o.States[reading.FinWait1] != 10 {
			t.Errorf("%d sockets in fin-wait-1, want 10", o.States[reading.FinWait1])
		}
		if c := check(t, r, "orphan"); c.Seen < 10 {
			t.Errorf("check %+v, made 10 orphans", c)
		}
	}

	// Once the peer is gone, so are they.
	do(t, "release", c.Release(t.Context(), b))
	if o, ok := lookOwner(read(t, s), key); ok {
		t.Errorf("after the end %s holds %v", key, named(o.Classes))
	}
}

// A process that dies leaves its unsent data to the kernel. Its name stays.
func TestOrphansOfADeadProcess(t *testing.T) {
	s, dialer, acceptor := open(t), start(t), start(t)
	d, a := across(t, dialer, acceptor, scene.Spec{Kind: scene.Unsent, Pairs: 10, SendBuffer: small})
	key, other := processKey(t, dialer.PID()), processKey(t, acceptor.PID())
	r := steadyBuilt(t, s, made{dialer, d}, made{acceptor, a})
	checkOwner(t, r, key, wantProcess(d))
	checkOwner(t, r, other, wantProcess(a))

	dialer.Kill()
	for range 2 {
		r, now := steady(t, s, func() [2]classes { return [2]classes{orphansOf(t, d), tallyOf(t, acceptor, a)} })
		w := want{kind: reading.KindProcess, classes: now[0], evidence: evidence{reading.LastSeen: {reading.Orphan}}}
		o := checkOwner(t, r, key, w)
		if o.HolderCount != 0 || len(o.Holders) != 0 {
			t.Errorf("a dead process has holders: %+v", o.Holders)
		}
		checkOwner(t, r, other, wantProcess(a))
	}
}

// No scan saw the process: only the cgroup id on its orphans speaks of it,
// also when the directory is gone by then.
func TestOrphansBetweenTwoScans(t *testing.T) {
	s, acceptor := open(t), start(t)
	group := newUnits(t, "short-lived.service")[0]
	read(t, s)

	dialer := inUnit(t, group)
	d, a := across(t, dialer, acceptor, scene.Spec{Kind: scene.Unsent, Pairs: 10, SendBuffer: small})
	dialer.Kill()
	truth := func() [2]classes { return [2]classes{orphansOf(t, d), tallyOf(t, acceptor, a)} }
	r, now := steady(t, s, truth)
	w := want{
		kind: reading.KindService, unit: "short-lived.service", classes: now[0],
		evidence: evidence{reading.CgroupID: {reading.Orphan}},
	}
	const key = "system/short-lived.service"
	o := checkOwner(t, r, key, w)
	if o.CgroupGone || o.Cgroup != group.Name || o.UnitVerified {
		t.Errorf("cgroup %q, gone %v, verified %v", o.Cgroup, o.CgroupGone, o.UnitVerified)
	}

	removeTree(t, group.Path)
	r, now = steady(t, s, truth)
	w.classes = now[0]
	o = checkOwner(t, r, key, w)
	if !o.CgroupGone || o.Cgroup != group.Name {
		t.Errorf("after its end: cgroup %q, gone %v", o.Cgroup, o.CgroupGone)
	}
	checkOwner(t, r, processKey(t, acceptor.PID()), wantProcess(a))

	// Who comes later can only say that nobody is known.
	late := open(t)
	read(t, late)
	addrs := portsOf(d)
	for _, sock := range rows(t, late, func(sock *reading.Socket) bool { return addrs[sock.Local.String()] }) {
		if sock.Class != reading.Orphan || sock.Evidence != reading.Netns || sock.Owner != "unresolved" {
			t.Errorf("the late scanner says %v by %v of %s", sock.Class, sock.Evidence, sock.Owner)
		}
	}
}

type classes = [reading.NumClasses]reading.Tally

// tallyOf reads the truth about b once more.
func tallyOf(t *testing.T, c *scene.Child, b *scene.Built) classes {
	t.Helper()
	refresh(t, c, b)
	return b.Tally()
}

// orphansOf asks for each dialer by its address what it holds now, one exact
// look-up each, none of them a dump.
func orphansOf(t *testing.T, b *scene.Built) (classes [reading.NumClasses]reading.Tally) {
	t.Helper()
	conn, err := sockdiag.Open(sockdiag.NewBuffer())
	do(t, "open", err)
	defer conn.Close()
	found := 0
	eventually(t, fmt.Sprintf("%d orphans", len(b.Role(scene.Dialer))), func() bool {
		classes, found = [reading.NumClasses]reading.Tally{}, 0
		for _, sock := range b.Role(scene.Dialer) {
			var now reading.Socket
			if err := conn.Find(t.Context(), sock.Local, sock.Remote, 0, &now); err != nil {
				t.Fatal(err)
			}
			if now.Cookie != sock.Cookie {
				t.Fatalf("%v to %v is cookie %d, built %d", sock.Local, sock.Remote, now.Cookie, sock.Cookie)
			}
			if now.Inode == 0 && now.State == reading.FinWait1 {
				classes[reading.Orphan].Add(1, now.Mem.Bytes())
				found++
			}
		}
		return found == len(b.Role(scene.Dialer))
	})
	return classes
}
