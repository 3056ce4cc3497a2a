package trend

import "github.com/tcpmemd/tcpmemd/daemon/reading"

// facts is what one reading says of an owner, in bytes unless said otherwise.
type facts struct {
	compared bool // what stands still and what is young is known

	sum, receive, send, unread float64
	orphan, hidden             float64
	sockets, waiting           float64 // counts

	// stalled is the memory of sockets whose queues stand still, reserves
	// included; stuckUnread and stuckUnsent are those queues.
	stalled, young               float64
	stuckUnread, stuckUnsent     float64
	unreadSockets, unsentSockets float64 // counts
	// fresh is the memory of the kind that stands still (unread or unsent)
	// that does not: all that could come to stand still next.
	fresh float64
}

func newFacts(o *reading.Owner) facts {
	f := facts{
		sum:     float64(o.Sum.Bytes),
		receive: float64(o.Receive),
		send:    float64(o.Send),
		unread:  float64(o.Unread),
		orphan:  float64(o.Classes[reading.Orphan].Bytes),
		hidden:  float64(o.Classes[reading.Hidden].Bytes),
		sockets: float64(o.Sum.Sockets),
		waiting: float64(o.States[reading.CloseWait]),
	}
	if o.Stalled == nil || o.Young == nil || o.StalledReceive == nil || o.StalledSend == nil {
		return f
	}
	f.compared = true
	f.young = float64(*o.Young)
	f.unsentSockets, f.stuckUnsent = float64(o.StalledSend.Sockets), float64(o.StalledSend.Bytes)
	// Nothing can come to a hidden socket or leave it but by its owner
	// reading or closing it, whether the scan could compare it or not.
	f.stalled = max(float64(*o.Stalled), f.hidden)
	f.stuckUnread = max(float64(o.StalledReceive.Bytes), f.hidden)
	f.unreadSockets = max(float64(o.StalledReceive.Sockets), float64(o.Classes[reading.Hidden].Sockets))

	f.fresh = max(0, f.unread-f.stuckUnread)
	if f.stuckUnsent > f.stuckUnread {
		f.fresh = max(0, f.send-f.stuckUnsent)
	}
	if stuck := f.stuck(); stuck > 0 {
		f.fresh *= max(1, f.stalled/stuck) // with its share of reserves
	}
	return f
}

// stuck is the queues that stand still, without reserves.
func (f *facts) stuck() float64 { return f.stuckUnread + f.stuckUnsent }

// isUnread reports whether what stands still is waiting to be read by the
// owner. Where send queues stand still too, however small, the owner may be a
// proxy that stopped reading because its own peer did.
func (f *facts) isUnread() bool {
	return f.stuckUnread >= unreadShare*f.stuck() && f.stuckUnsent < max(unsentDoubt*f.stuck(), 64<<10)
}

// isUnsent reports whether what stands still is waiting for others to read.
func (f *facts) isUnsent() bool { return f.stuckUnsent > 0 && f.stuckUnsent >= unsentShare*f.stuck() }

// sentTo is the least part of the send queues that moves and waits for a peer who
// holds bytes of them: a sign that this peer reads.
func (f *facts) sentTo(bytes float64) float64 { return max(0, bytes-f.stuckUnsent) }

// stuckTo is the least part of the send queues that stand still that goes to a
// peer who holds bytes of the owner's send queues.
func (f *facts) stuckTo(bytes float64) float64 {
	return max(0, f.stuckUnsent-max(0, f.send-bytes))
}
