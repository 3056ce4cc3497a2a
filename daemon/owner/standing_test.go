package owner

import (
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// A queue of the same size at each scan stands still, until something says
// that it moves.
func TestStanding(t *testing.T) {
	table, ends := NewTable(1<<20), &Ends{}
	full := row(1, 10, reading.Established, 64<<10)
	still := row(2, 11, reading.Established, 64<<10)
	scan := func(second uint32) (standing []reading.Cookie) {
		ends = &Ends{}
		table.BeginScan(second)
		for _, s := range []*reading.Socket{full, still} {
			table.Add(0, s)
			ends.Offer(0, s)
		}
		table.EndScan()
		ends.Standing(table, func(n End, receive bool) {
			if !receive {
				t.Errorf("socket %d: its send queue, which is empty, stands still", n.Cookie)
			}
			standing = append(standing, n.Cookie)
		})
		return standing
	}
	after := uint32(reading.StalledAfter.Seconds())
	if got := scan(1); len(got) != 0 {
		t.Errorf("new sockets stand still: %v", got)
	}
	if got := scan(1 + after); len(got) != 2 {
		t.Errorf("%v stand still after %d s, want both", got, after)
	}
	table.Moves(Key(full))
	if got := scan(2 + after); len(got) != 1 || got[0] != Key(still) {
		t.Errorf("%v stand still, want only the one that does", got)
	}
	r := Attribute(table, NewBook(), Inputs{Queues: NewQueues(), Cgroup: func(uint64) Ref { return 0 }})
	if got := r.Owners[0].StalledReceive; got.Sockets != 1 {
		t.Errorf("%d receive queues are stalled, want 1", got.Sockets)
	}
}
