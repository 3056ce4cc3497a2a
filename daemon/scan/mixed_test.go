package scan_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// Every class at once, in several units and namespaces, and so much of it that
// what the kernel keeps per CPU does not matter: all of it has its owner, to the
// byte.
func TestMixed(t *testing.T) {
	s := open(t)
	const mega = 1 << 20
	units := newUnits(t, "reader.service", "pod.service", "lost.service", "queue.service", "closer.service")
	queued := evidence{reading.FD: {reading.Owned}, reading.Listener: {reading.Unaccepted}}
	orphaned := evidence{reading.FD: {reading.Owned}, reading.CgroupID: {reading.Orphan}}
	var all []made
	var wants []want
	add := func(w want, c *scene.Child, specs ...scene.Spec) {
		t.Helper()
		b := &scene.Built{PID: c.PID()}
		for _, spec := range specs {
			more, err := c.Build(t.Context(), spec)
			if errors.Is(err, scene.ErrUnavailable) {
				require.Missing(t, "MPTCP", "the mixed scene is without it")
			}
			do(t, "build", err)
			b.Sockets = append(b.Sockets, more.Sockets...)
		}
		all, wants = append(all, made{c, b}), append(wants, w)
	}
	service := func(unit string, e evidence) want {
		return want{kind: reading.KindService, unit: unit, evidence: e}
	}
	add(service("reader.service", heldByFD), inUnit(t, units[0]),
		scene.Spec{Kind: scene.Unread, Pairs: 40, Bytes: mega},
		scene.Spec{Kind: scene.Unread, Pairs: 10, Bytes: mega, Family: scene.IPv6})
	add(service("pod.service", heldByFD), scene.StartT(t, scene.ChildOptions{Cgroup: units[1], NewNetns: true}),
		scene.Spec{Kind: scene.Unread, Pairs: 30, Bytes: mega},
		scene.Spec{Kind: scene.Unread, Pairs: 10, Bytes: mega, MPTCP: true},
		scene.Spec{Kind: scene.Hidden, Pairs: 10, Bytes: mega})
	add(service("lost.service", heldByFD), inUnit(t, units[2]), scene.Spec{Kind: scene.Hidden, Pairs: 40, Bytes: mega})
	add(service("queue.service", queued), inUnit(t, units[3]), scene.Spec{Kind: scene.Unaccepted, Pairs: 30, Bytes: mega})
	add(service("closer.service", orphaned), inUnit(t, units[4]), scene.Spec{Kind: scene.Orphan, Pairs: 20, SendBuffer: mega})
	add(want{kind: reading.KindProcess, evidence: heldByFD}, start(t),
		scene.Spec{Kind: scene.CloseWait, Pairs: 30, Bytes: mega}, scene.Spec{Kind: scene.FinWait2, Pairs: 5, Bytes: 1000})

	ok := map[string]bool{}
	best := 0.0
	for range 15 {
		r := steadyBuilt(t, s, all...)
		var total int64
		for i, m := range all {
			w := wants[i]
			w.classes = sums(m.b)
			key := "system/" + w.unit
			if w.unit == "" {
				key = processKey(t, m.c.PID())
			}
			checkOwner(t, r, key, w)
			total += m.b.Bytes()
		}
		if least := 100 * r.Ledger.ReserveMax; total < least {
			t.Fatalf("built %d bytes, want at least %d", total, least)
		}
		best = max(best, r.Ledger.Coverage)
		for _, name := range []string{"inuse", "orphan", "alloc", "memory"} {
			ok[name] = ok[name] || check(t, r, name).Status == reading.CheckOK
		}
		if best >= 0.99 && ok["inuse"] && ok["orphan"] && ok["alloc"] && ok["memory"] {
			return
		}
		time.Sleep(100 * time.Millisecond) // other work on this machine
	}
	t.Errorf("coverage is %v at best, checks that were ok at least once: %v", best, ok)
}

// While connections come and go as fast as they can, what stands still is
// exact, the ledger balances, and no check takes the churn for a finding.
func TestChurn(t *testing.T) {
	s, c := open(t), start(t)
	for range 2 {
		startHelper(t, nil, nil, "churn").say(t)
	}
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 20, Bytes: 9000})
	key, begin := processKey(t, c.PID()), time.Now()
	said := map[reading.CheckStatus]int{}
	scans, skipped := 0, 0
	for ; scans < 20 || time.Since(begin) < 3*time.Second; scans++ {
		if scans%10 == 9 {
			s = open(t) // cold now and then
		}
		r := readWith(t, s, scan.Options{Thorough: scans%2 == 0})
		// The kernel may skip a row whose neighbour went away in the middle of a
		// dump, and says nothing. Then the count of sockets must not be "ok".
		if o := owner(t, r, key); o.Sum.Sockets < int64(len(b.Sockets)) && check(t, r, "inuse").Status != reading.CheckOK {
			skipped++
		} else {
			checkOwner(t, r, key, wantProcess(b))
		}
		for _, c := range r.Ledger.Checks {
			said[c.Status]++
		}
	}
	t.Logf("%d scans, %d of them with a skipped row; checks: %v", scans, skipped, said)
	if skipped > 1+scans/20 {
		t.Errorf("%d of %d scans had skipped rows", skipped, scans)
	}
	if said[reading.CheckUnsure] == 0 {
		t.Error("no check was ever unsure: there was no churn")
	}
}
