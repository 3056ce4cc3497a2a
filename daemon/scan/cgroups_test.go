package scan_test

import (
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// A directory below a unit may have any name: the unit stays the outer one, and
// without PID 1's word it is a label.
func TestForgedUnit(t *testing.T) {
	s := open(t)
	c := inUnit(t, newUnits(t, "real.service/nginx.service")[0])
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 9000})
	r := read(t, s)
	w := want{kind: reading.KindService, unit: "real.service", classes: sums(b), evidence: heldByFD}
	if o := checkOwner(t, r, "system/real.service", w); o.UnitVerified || o.Manager != "system" {
		t.Errorf("unit is verified %v by manager %q", o.UnitVerified, o.Manager)
	}
	if o, ok := lookOwner(r, "system/nginx.service"); ok {
		t.Errorf("the forged unit holds %v", named(o.Classes))
	}

	// What the process leaves behind is no more gullible.
	c.Kill()
	if o, ok := lookOwner(read(t, s), "system/nginx.service"); ok {
		t.Errorf("the forged unit holds %v", named(o.Classes))
	}
}

// A process belongs where it is now, its sockets' cgroup ids say where it was
// when it made them.
func TestMovedProcess(t *testing.T) {
	s := open(t)
	units := newUnits(t, "before.service", "after.service")
	c := inUnit(t, units[0])
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 5, Bytes: 9000})
	w := want{kind: reading.KindService, unit: "before.service", classes: sums(b), evidence: heldByFD}
	checkOwner(t, read(t, s), "system/before.service", w)

	do(t, "move", c.MoveTo(t.Context(), units[1]))
	w.unit = "after.service"
	checkOwner(t, read(t, open(t)), "system/after.service", w)
	s.Age(time.Hour) // an answer about a process is good for a while
	checkOwner(t, read(t, s), "system/after.service", w)
}

// A removed cgroup keeps its name for the sockets that carry its id: those of a
// process that moved on and handed them to one that nothing names.
func TestRemovedCgroup(t *testing.T) {
	s := open(t)
	units := newUnits(t, "removed.service", "other.service")
	maker, peer := inUnit(t, units[0]), start(t)
	d, _ := across(t, maker, peer, scene.Spec{Kind: scene.Unsent, Pairs: 5, SendBuffer: small})
	read(t, s)
	maker.Kill()
	removeTree(t, units[0].Path)
	r, now := steady(t, s, func() classes { return orphansOf(t, d) })
	o := checkOwner(t, r, "system/removed.service", want{
		kind: reading.KindService, unit: "removed.service",
		classes: now, evidence: evidence{reading.LastSeen: {reading.Orphan}},
	})
	if o.Cgroup != units[0].Name {
		t.Errorf("cgroup is %q, was %q", o.Cgroup, units[0].Name)
	}
}
