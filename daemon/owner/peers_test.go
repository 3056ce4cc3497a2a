package owner

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// TestEndsBounded: of very many sockets the largest queues stay.
func TestEndsBounded(t *testing.T) {
	var e Ends
	random := rand.New(rand.NewPCG(5, 6))
	var queues []uint32
	for c := range reading.Cookie(3 * maxEnds) {
		s := row(c+1, 1, reading.Established, 0)
		s.Mem.WmemQueued = minQueue + uint32(random.IntN(1<<20))
		queues = append(queues, s.Mem.WmemQueued)
		e.Offer(0, s)
		if c%512 == 0 {
			for i := range e.send {
				if i > 0 && e.send[i].Queue < e.send[(i-1)/2].Queue {
					t.Fatalf("no heap after %d: %d below %d", c, e.send[i].Queue, e.send[(i-1)/2].Queue)
				}
			}
		}
	}
	slices.Sort(queues)
	slices.Reverse(queues)
	ends := e.Pair(nil)
	if len(ends) != maxEnds || len(e.recv) != 0 {
		t.Fatalf("%d senders and %d receivers are kept, want %d and none", len(ends), len(e.recv), maxEnds)
	}
	for i := range ends {
		if ends[i].Queue != queues[i] {
			t.Fatalf("sender %d has %d bytes, want %d: the largest, in order", i, ends[i].Queue, queues[i])
		}
	}
}

func TestEndsOffer(t *testing.T) {
	var e Ends
	small, listener := row(1, 1, reading.Established, minQueue-1), row(2, 1, reading.Listen, 1<<20)
	small.Mem.WmemQueued = minQueue - 1
	e.Offer(0, small)
	e.Offer(0, listener)
	if len(e.send)+len(e.recv) != 0 {
		t.Errorf("%d, %d kept; want neither a small queue nor a listener", len(e.send), len(e.recv))
	}
	s := row(3, 1, reading.Established, 0)
	s.Mem.WmemQueued = 1 << 20
	if n := testing.AllocsPerRun(maxEnds, func() { e.Offer(0, s) }); n > 0.5 {
		t.Errorf("%.1f allocations for each socket offered", n)
	}
}

func TestEndsPair(t *testing.T) {
	sender := func(c reading.Cookie, local, remote string) *reading.Socket {
		s := row(c, 1, reading.Established, 0)
		s.Local, s.Remote = netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
		s.Mem.WmemQueued = 1<<20 - uint32(c)
		return s
	}
	receiver := func(c reading.Cookie, local, remote string) *reading.Socket {
		s := sender(c, local, remote)
		s.Mem.WmemQueued, s.Mem.RmemAlloc = 0, 1<<20
		return s
	}
	var e Ends
	e.Offer(0, sender(1, "127.0.0.1:1", "127.0.0.1:9"))
	e.Offer(0, receiver(101, "127.0.0.1:9", "127.0.0.1:1"))
	e.Offer(0, sender(2, "[::ffff:10.0.0.1]:2", "[::ffff:10.0.0.2]:9")) // by another spelling, in another namespace
	e.Offer(5, receiver(102, "10.0.0.2:9", "10.0.0.1:2"))
	e.Offer(0, sender(3, "127.0.0.1:3", "127.0.0.1:9")) // loopback of another namespace
	e.Offer(5, receiver(103, "127.0.0.1:9", "127.0.0.1:3"))
	e.Offer(0, sender(4, "10.0.0.1:4", "192.0.2.1:9"))
	e.Offer(0, sender(5, "10.0.0.1:5", "10.0.0.2:9"))
	e.Offer(0, sender(6, "10.0.0.1:6", "10.0.0.2:9")) // two others have the same addresses
	e.Offer(5, receiver(106, "10.0.0.2:9", "10.0.0.1:6"))
	e.Offer(6, receiver(206, "10.0.0.2:9", "10.0.0.1:6"))
	e.Offer(6, sender(7, "10.0.0.1:7", "10.0.0.2:9")) // so have these, but one is here
	e.Offer(5, receiver(107, "10.0.0.2:9", "10.0.0.1:7"))
	e.Offer(6, receiver(207, "10.0.0.2:9", "10.0.0.1:7"))
	var asked []reading.Cookie
	ends := e.Pair(func(n End) (reading.Cookie, bool) {
		asked = append(asked, n.Cookie)
		if n.Cookie == 5 {
			return 105, true
		}
		return 0, false
	})
	want := map[reading.Cookie]reading.Cookie{1: 101, 2: 102, 3: 0, 4: 0, 5: 105, 6: 0, 7: 207}
	for _, n := range ends {
		if n.Peer != want[n.Cookie] {
			t.Errorf("peer of %d is %d, want %d", n.Cookie, n.Peer, want[n.Cookie])
		}
	}
	if len(ends) != len(want) || !slices.Equal(asked, []reading.Cookie{3, 4, 5}) {
		t.Errorf("%d ends; asked the kernel for %v, want 3, 4, 5", len(ends), asked)
	}
}
