package scan_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

var fewUnread = scene.Spec{Kind: scene.Unread, Pairs: 4, Bytes: 9000}

// hand passes the accepted ends of b to another process, which then has them,
// too.
func hand(t *testing.T, from, to *scene.Child, b *scene.Built) *scene.Built {
	t.Helper()
	accepted := b.Role(scene.Accepted)
	do(t, "send", from.Send(t.Context(), to, accepted...))
	got, err := to.Receive(t.Context(), len(accepted))
	do(t, "receive", err)
	return got
}

// A socket that several processes of a unit hold is counted once, and all of
// them are named.
func TestForkedHolders(t *testing.T) {
	s := open(t)
	c := inUnit(t, newUnits(t, "forking.service")[0])
	b := scene.BuildT(t, c, fewUnread)
	pids := []int{c.PID()}
	for range 3 {
		pid, err := c.Fork(t.Context(), "worker", b.Role(scene.Accepted)...)
		do(t, "fork", err)
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	w := want{kind: reading.KindService, unit: "forking.service", classes: sums(b), evidence: heldByFD}
	for range 2 {
		o := checkOwner(t, read(t, s), "system/forking.service", w)
		if diff := cmp.Diff(pids, holderPIDs(o)); diff != "" || o.HolderCount != len(pids) {
			t.Errorf("%d holders (-forked +named):\n%s", o.HolderCount, diff)
		}
		if o.Shared {
			t.Error("one unit is said to share with itself")
		}
	}
}

// Without a unit, the oldest holder speaks for a socket.
func TestOldestHolder(t *testing.T) {
	s, c := open(t), start(t)
	b := scene.BuildT(t, c, fewUnread)
	pid, err := c.Fork(t.Context(), "younger", b.Role(scene.Accepted)...)
	do(t, "fork", err)
	r := read(t, s)
	o := checkOwner(t, r, processKey(t, c.PID()), wantProcess(b))
	if got := holderPIDs(o); !slices.Equal(got, []int{c.PID(), pid}) && !slices.Equal(got, []int{pid, c.PID()}) {
		t.Errorf("holders are %v, want %d and %d", got, c.PID(), pid)
	}
	if o, ok := lookOwner(r, processKey(t, pid)); ok {
		t.Errorf("counted twice: %v", named(o.Classes))
	}

	// Who holds on when the first lets go has all of it.
	accepted := b.Role(scene.Accepted)
	do(t, "close", c.Close(t.Context(), accepted...))
	var moved reading.Tally
	for i := range accepted {
		moved.Add(1, accepted[i].Bytes())
	}
	w := want{kind: reading.KindProcess, evidence: heldByFD}
	w.classes[reading.Owned] = moved
	checkOwner(t, read(t, s), processKey(t, pid), w)
}

// Holders in two units: the bytes go to the unit in which the socket was made,
// though the other's process is the older one, and a restart of it alone would
// free nothing.
func TestSharedByTwoUnits(t *testing.T) {
	s := open(t)
	units := newUnits(t, "a.service", "b.service")
	older, maker := inUnit(t, units[1]), inUnit(t, units[0])
	b := scene.BuildT(t, maker, fewUnread)
	got := hand(t, maker, older, b)
	pids := []int{older.PID(), maker.PID()}
	slices.Sort(pids)

	w := want{kind: reading.KindService, unit: "a.service", classes: sums(b), evidence: heldByFD}
	for range 2 {
		r := read(t, s)
		o := checkOwner(t, r, "system/a.service", w)
		if !o.Shared {
			t.Error("not said to be shared")
		}
		if diff := cmp.Diff(pids, holderPIDs(o)); diff != "" {
			t.Errorf("holders (-made +named):\n%s", diff)
		}
		if o, ok := lookOwner(r, "system/b.service"); ok {
			t.Errorf("counted twice: %v", named(o.Classes))
		}
	}

	// The maker gone, the other has what it holds, whatever its cgroup id says.
	do(t, "close", maker.Close(t.Context(), b.Role(scene.Accepted)...))
	refresh(t, older, got)
	o := checkOwner(t, read(t, s), "system/b.service",
		want{kind: reading.KindService, unit: "b.service", classes: sums(got), evidence: heldByFD})
	if o.Shared {
		t.Error("said to be shared when one holder was left")
	}
}

// In flight over SCM_RIGHTS no process holds a socket. That is no reason to
// call it the kernel's.
func TestInFlight(t *testing.T) {
	cold, warm := open(t), open(t)
	sender, receiver := start(t), start(t)
	b := scene.BuildT(t, sender, fewUnread)
	key := processKey(t, sender.PID())
	checkOwner(t, read(t, warm), key, wantProcess(b))

	accepted := b.Role(scene.Accepted)
	do(t, "send", sender.Send(t.Context(), receiver, accepted...))
	do(t, "close", sender.Close(t.Context(), accepted...))
	cookies := map[reading.Cookie]bool{}
	var flying reading.Tally
	for _, sock := range accepted {
		cookies[sock.Cookie] = true
		flying.Add(1, sock.Bytes())
	}
	inFlight := func(sock *reading.Socket) bool { return cookies[sock.Cookie] }

	read(t, cold)
	checkFlying(t, rows(t, cold, inFlight), flying, reading.Netns, "unresolved")
	r := read(t, warm)
	checkFlying(t, rows(t, warm, inFlight), flying, reading.LastSeen, key)
	if k := r.Ledger.Classes[reading.Kernel]; k.Sockets != 0 {
		t.Errorf("the kernel is said to use %+v", k)
	}

	got, err := receiver.Receive(t.Context(), len(accepted))
	do(t, "receive", err)
	for name, s := range map[string]*scan.Scanner{"cold": cold, "warm": warm} {
		// A search that found nothing is repeated, but not at once.
		eventually(t, "the receiver's in the "+name+" scanner", func() bool {
			_, found := lookOwner(read(t, s), processKey(t, receiver.PID()))
			return found
		})
		checkOwner(t, read(t, s), processKey(t, receiver.PID()), wantProcess(got))
	}
}

func checkFlying(t *testing.T, list []reading.Socket, want reading.Tally, by reading.Evidence, owner string) {
	t.Helper()
	var got reading.Tally
	for _, sock := range list {
		got.Add(1, sock.Mem.Bytes())
		if sock.Class == reading.Kernel || sock.Evidence != by || sock.Owner != owner {
			t.Errorf("in flight: %v by %v of %s, want it by %v of %s", sock.Class, sock.Evidence, sock.Owner, by, owner)
		}
	}
	if got != want {
		t.Errorf("in flight are %+v, sent %+v", got, want)
	}
}
