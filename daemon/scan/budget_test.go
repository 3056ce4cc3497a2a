package scan_test

import (
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/scan"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// Where the budget of a scan reaches for a part of the processes only, the
// scans together reach all: those behind many idle ones, and one whose
// descriptors alone take longer than a budget.
func TestBudgetIsSpentInTurn(t *testing.T) {
	s := openWith(t, scan.Config{Workers: 1})
	crowd, err := scene.IdleProcesses(t.Context(), 500)
	do(t, "start a crowd", err)
	t.Cleanup(crowd.Stop)
	fleet, err := scene.NewFleet(t.Context(), scene.FleetOptions{Sockets: 6000, BytesEach: 1})
	do(t, "start a fleet", err)
	t.Cleanup(fleet.Stop)

	// until scans until the owner holds so many sockets by descriptor.
	until := func(what, key string, sockets int64) {
		t.Helper()
		const scans = 200
		var got int64
		for range scans {
			r, err := s.Scan(t.Context(), scan.Options{Budget: 4 * time.Millisecond})
			do(t, "scan", err)
			for i := range r.Owners {
				if r.Owners[i].Key == key {
					got = r.Owners[i].Evidence[reading.FD].Sockets
				}
			}
			if got >= sockets {
				return
			}
		}
		t.Fatalf("%s: %d of %d sockets have their owner after %d scans", what, got, sockets, scans)
	}
	until("a large process", processKey(t, fleet.Children[0].PID()), 6000)
	c := start(t)
	b := scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 40, Bytes: 5000})
	until("a new process", processKey(t, c.PID()), int64(len(b.Sockets)))
	more := scene.BuildT(t, c, scene.Spec{Kind: scene.Unread, Pairs: 40, Bytes: 5000})
	until("more of a known process", processKey(t, c.PID()), int64(len(b.Sockets)+len(more.Sockets)))
}
