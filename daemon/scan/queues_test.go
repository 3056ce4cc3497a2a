package scan_test

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// group builds connections that wait at listeners of several processes on one
// address (SO_REUSEPORT).
func group(t *testing.T, dialer *scene.Child, listeners ...*scene.Child) (*scene.Built, []*scene.Built) {
	t.Helper()
	d, l, err := scene.Group(t.Context(), dialer, scene.Spec{Pairs: 40, Bytes: 5000}, listeners...)
	do(t, "build", err)
	return d, l
}

// Who shares a port has a queue of its own: the kernel gives a connection the
// cgroup id of the listener in whose queue it waits.
func TestSharedPortInTwoUnits(t *testing.T) {
	s, dialer := open(t), start(t)
	units := newUnits(t, "a.service", "b.service")
	a, b := inUnit(t, units[0]), inUnit(t, units[1])
	d, l := group(t, dialer, a, b)
	r := read(t, s)

	classes := sums(d)
	var queued reading.Tally
	for i, key := range []string{"system/a.service", "system/b.service"} {
		o := owner(t, r, key)
		got := o.Classes[reading.Unaccepted]
		if want := int64(l[i].Sockets[0].Rqueue); got.Sockets != want {
			t.Errorf("%s has %d unaccepted, its listener says %d", key, got.Sockets, want)
		}
		if o.Evidence[reading.Listener] != got || o.Classes[reading.Owned].Sockets != 1 {
			t.Errorf("%s: classes %v, evidence %v", key, named(o.Classes), namedEvidence(o.Evidence))
		}
		queued.Add(got.Sockets, got.Bytes)
	}
	if queued != classes[reading.Unaccepted] {
		t.Errorf("both queues have %+v, built %+v", queued, classes[reading.Unaccepted])
	}
	w := want{kind: reading.KindProcess, classes: only(classes, reading.Owned), evidence: heldByFD}
	checkOwner(t, r, processKey(t, dialer.PID()), w)
}

// Two processes of one unit that share a port: the unit has both queues.
func TestSharedPortInOneUnit(t *testing.T) {
	s, dialer := open(t), start(t)
	unit := newUnits(t, "pool.service")[0]
	a, b := inUnit(t, unit), inUnit(t, unit)
	d, l := group(t, dialer, a, b)
	classes := only(sums(d), reading.Unaccepted)
	for _, listening := range l {
		for c, sum := range listening.Tally() {
			classes[c].Add(sum.Sockets, sum.Bytes)
		}
	}
	checkOwner(t, read(t, s), "system/pool.service", want{
		kind: reading.KindService, unit: "pool.service", classes: classes,
		evidence: evidence{reading.FD: {reading.Owned}, reading.Listener: {reading.Unaccepted}},
	})
}

// Two processes without a unit and with one cgroup id: in which queue a
// connection waits cannot be told, and must not be guessed.
func TestSharedPortAmbiguous(t *testing.T) {
	s := open(t)
	place := scene.NewCgroup(t, "two-processes")
	dialer, a, b := start(t), inUnit(t, place), inUnit(t, place)
	d, l := group(t, dialer, a, b)
	r := read(t, s)
	for i, c := range []*scene.Child{a, b} {
		checkOwner(t, r, processKey(t, c.PID()), wantProcess(l[i]))
	}
	// Their cgroup is known for sure, and nothing beyond.
	checkOwner(t, r, "cgroup"+place.Name, want{
		kind: reading.KindScope, classes: only(sums(d), reading.Unaccepted),
		evidence: evidence{reading.CgroupID: {reading.Unaccepted}},
	})

	// Now that one has taken all of its queue, the rest is not the other's for
	// sure, either: it may have come to the first since.
	got, err := a.Accept(t.Context(), l[0].Sockets[0], l[0].Sockets[0].Rqueue)
	do(t, "accept", err)
	refresh(t, a, l[0])
	r = read(t, s)
	checkOwner(t, r, processKey(t, a.PID()), wantProcess(l[0], got))
	checkOwner(t, r, processKey(t, b.PID()), wantProcess(l[1]))
}

// Once accepted, a connection is its process's.
func TestAcceptedLater(t *testing.T) {
	s, dialer, acceptor := open(t), start(t), start(t)
	d, a := across(t, dialer, acceptor, scene.Spec{Kind: scene.Unaccepted, Pairs: 20, Bytes: 5000})
	key := processKey(t, acceptor.PID())
	w := wantProcess(a)
	w.evidence = evidence{reading.FD: {reading.Owned}, reading.Listener: {reading.Unaccepted}}
	r := read(t, s)
	checkOwner(t, r, key, w)
	checkOwner(t, r, processKey(t, dialer.PID()), wantProcess(d))

	listener := a.Role(scene.Listener)[0]
	got, err := acceptor.Accept(t.Context(), listener, 20)
	do(t, "accept", err)
	w = wantProcess(got)
	w.classes[reading.Owned].Add(1, 0) // the listener
	checkOwner(t, read(t, s), key, w)

	// Its connections outlive the process as nobody's: it had unread data, so
	// the peers got resets and hold what the kernel shows in no dump.
	do(t, "stop", acceptor.Stop())
	if o, ok := lookOwner(read(t, s), key); ok {
		t.Errorf("after the end %s holds %v", key, named(o.Classes))
	}
}
