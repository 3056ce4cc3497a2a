package trend

import "github.com/tcpmemd/tcpmemd/daemon/reading"

// facts is what one reading says of an owner, in bytes unless said otherwise.
//
// Stalled counts whole sockets. How much of it lies in receive queues is
// known only within bounds: all stalled memory that has no room outside the
// unread queues is unread (unreadLeast), and likewise for send queues
// (unsentLeast). A verdict against an owner rests on the lower bounds; a
// verdict that all is moving rests on the upper one (stuckMost).
type facts struct {
	compared bool // stalled and young are known

	sum, receive, send, unread, reserved float64
	stalled, young                       float64
	orphan, hidden                       float64
	sockets, waiting                     float64 // counts

	unreadLeast, unsentLeast, stuckMost float64
	// fresh is the memory of the kind that stands still (unread or unsent)
	// that does not: all that could come to stand still next.
	fresh float64
}

func newFacts(o *reading.Owner, m measure) facts {
	f := facts{
		sum:      float64(o.Sum.Bytes),
		receive:  float64(o.Receive),
		send:     float64(o.Send),
		unread:   float64(o.Unread),
		reserved: float64(max(o.Reserved, 0)),
		orphan:   float64(o.Classes[reading.Orphan].Bytes),
		hidden:   float64(o.Classes[reading.Hidden].Bytes),
		sockets:  float64(o.Sum.Sockets),
		waiting:  float64(o.States[reading.CloseWait]),
	}
	if o.Stalled == nil || o.Young == nil {
		return f
	}
	f.compared = true
	f.young = float64(*o.Young)
	// Nothing can come to a hidden socket or leave it but by its owner
	// reading or closing it, whether the scan could compare it or not.
	f.stalled = max(float64(*o.Stalled), f.hidden)
	// The reserve that rounds an unread queue up to pages is no memory of
	// something else, but a reserve without a queue is. Whose it is is not
	// known: half a page a socket is what rounding leaves on average, and up
	// to a page where only the end of the stream is unread (tcp_data_queue
	// keeps the segment of the FIN until it is read).
	rounding := max(f.sockets*m.page/2, f.waiting*m.page)
	elsewhere := f.send + (f.receive - f.unread) + max(f.reserved-rounding, 0)
	f.unreadLeast = max(0, f.stalled-elsewhere, f.hidden)
	f.unsentLeast = min(f.send, max(0, f.stalled-f.receive-f.reserved))
	f.stuckMost = min(f.stalled, f.unread+f.send)
	f.fresh = max(0, f.reserved-f.stalled+f.unread)
	if f.unsentLeast > f.unreadLeast {
		f.fresh = max(0, f.reserved-f.stalled+f.send)
	}
	return f
}

// isUnread reports whether what stands still is waiting to be read by the
// owner. Where send queues stand still too, however small, the owner may be a
// proxy that stopped reading because its own peer did.
func (f *facts) isUnread() bool {
	return f.unreadLeast >= unreadShare*f.stalled && f.unsentLeast < max(unsentDoubt*f.stalled, 64<<10)
}

// stuckTo is the least part of the stalled send queues that goes to a peer
// who holds bytes of the owner's send queues.
func (f *facts) stuckTo(bytes float64) float64 {
	return max(0, f.unsentLeast-max(0, f.send-bytes))
}
