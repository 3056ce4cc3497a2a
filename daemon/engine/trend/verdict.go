package trend

import (
	"fmt"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// The bounds of the verdicts. Times are seconds; shares are of the owner's
// bytes unless said otherwise.
const (
	// A consumer that works through a pile, a paused reader, a long garbage
	// collection: the longest standstill that is still work.
	patience = 4 * 60.0
	// Where the peers have closed too, nobody waits for these sockets.
	patienceClosed = 2.5 * 60
	// Where less stays than comes, or where it is not certain that queues
	// stand still at all, what is kept must be kept without any loss.
	patienceDoubt = 10 * 60.0
	// Without growth, while the host is above its pressure limit.
	patienceStill = 6 * 60.0
	// A full send queue that stands still is what it looks like sooner.
	patiencePeer = 3 * 60.0

	leakShare    = 0.20 // least stalled share of a leak
	unreadShare  = 0.75 // of the stalled bytes, that must be unread
	unsentDoubt  = 0.01 // of the stalled bytes, that are unsent: it may be a victim
	keptShare    = 0.80 // of what came in, that stays
	keptDoubt    = 0.50 // the same, watched for longer
	leakRises    = 4
	doubtScans   = 16
	stillShare   = 0.50 // least stalled share of a leak that does not grow
	stillPool    = 0.20 // and its least share of the pool
	servedShare  = 0.20 // of the unread bytes, that move towards the owner on this host
	servedLast   = 60.0 // and for how long that keeps it from being called a leak
	closedShare  = 0.50 // of the sockets or bytes, closed by the peer
	waitingLeast = 256  // sockets in CLOSE_WAIT that are a leak without bytes

	peerShare   = 0.30 // least stalled share of a slow peer's victim
	unsentShare = 0.60 // of the stalled bytes, that must be unsent
	proxyShare  = 0.01 // the same where others wait for the victim
	topShare    = 0.50 // of the stalled send queues, that go to the culprit

	movingShare = 0.30 // stuck at most, for load
	loadRise    = 0.33 // of the bytes now, that the long window must add
	burstRise   = 0.50 // and the short one
	loadLeast   = 2 * 60.0
	loadPool    = 0.10 // of the pool, for load that does not grow
	loadWaiting = 0.30 // of the sockets in CLOSE_WAIT at most, for load
	loadStuck   = 0.30 // of the growth, that may have stood still
)

// judge gives the owner's verdict on its own, nil when in doubt.
func (k *track) judge(o *reading.Owner, at float64, m measure) *reading.Verdict {
	f := newFacts(o)
	if !f.compared || o.Kind == reading.KindUnresolved {
		return nil
	}
	if f.sum >= m.material && f.isUnsent() {
		if v := k.slowPeer(o, &f, at); v != nil {
			return v
		}
	}
	if o.Kind != reading.KindKernel && !k.reads(at) {
		if v := k.leak(o, &f, at, m); v != nil {
			return v
		}
	}
	return k.load(&f, at, m)
}

// reads reports whether somebody on this host was seen to send to the owner
// lately. A receive queue that is always full is refilled by as much as is
// read and can have the same size at each scan; the sender's does not.
func (k *track) reads(at float64) bool { return k.served && at-k.servedAt < servedLast }

// leak looks for memory that comes and never goes.
func (k *track) leak(o *reading.Owner, f *facts, at float64, m measure) *reading.Verdict {
	switch {
	case f.sum >= m.material && f.stalled >= max(m.material, leakShare*f.sum) &&
		f.isUnread() && k.hoards(f, at, m):
		return verdict(reading.Leak, k.aboutUnread(f, at), k.aboutHidden(o), k.aboutWaiting(f))

	case f.stalled >= max(m.material, leakShare*f.sum) && k.abandons(o, f, at, m):
		return verdict(reading.Leak, k.aboutOrphans(o, f, at))

	case k.trickles(f, at, m):
		return verdict(reading.Leak, fmt.Sprintf(
			"%s unread on %s only grew for %s, by %s, on about as many sockets: nothing is read",
			size(f.unread), sockets(f.sockets), period(k.unread.age(at)), size(k.unread.grown())))

	case k.closingPiles(f, at):
		return verdict(reading.Leak, k.aboutWaiting(f), fmt.Sprintf(
			"not one of them was closed for %s", period(k.closing.age(at))))

	case m.pressed && f.sum >= stillPool*m.used && f.isUnread() &&
		f.stalled >= stillShare*f.sum && k.loose.age(at) >= patienceStill &&
		k.heavy.seconds(at) >= patienceStill:
		return verdict(reading.Leak, k.aboutUnread(f, at), k.aboutHidden(o), k.aboutWaiting(f),
			fmt.Sprintf("it holds %s of the pool, which is above its pressure limit", percent(f.sum, m.used)))
	}
	return nil
}

// hoards reports whether stalled memory keeps growing and none comes back.
func (k *track) hoards(f *facts, at float64, m measure) bool {
	least := max(m.material, 0.3*f.stalled)
	if f.waiting >= closedShare*f.sockets || f.hidden >= closedShare*f.sum {
		if k.loose.steady(at, patienceClosed) && k.loose.kept() >= keptShare && k.loose.grown() >= least {
			return true
		}
	}
	if k.loose.steady(at, patience) && k.loose.kept() >= keptShare && k.loose.grown() >= least {
		return true
	}
	return k.strict.steady(at, patienceDoubt) && k.strict.scans >= doubtScans &&
		k.strict.kept() >= keptDoubt && k.strict.grown() >= least
}

// abandons reports whether closed connections with unsent data pile up, to
// many peers (to one, it is that peer that does not read).
func (k *track) abandons(o *reading.Owner, f *facts, at float64, m measure) bool {
	if len(o.Peers) == 0 || f.stuckTo(float64(o.Peers[0].Bytes)) >= topShare*f.stuckUnsent {
		return false
	}
	return f.orphan >= closedShare*f.sum && f.isUnsent() &&
		k.loose.steady(at, patience) && k.loose.kept() >= keptShare &&
		k.loose.grown() >= max(m.material, 0.3*f.stalled)
}

// trickles reports whether queues fill on sockets that are never read. They
// change, so they do not count as stalled; but of many queues that are read,
// some scan sees less than the scan before.
func (k *track) trickles(f *facts, at float64, m measure) bool {
	if f.unread < max(m.material, 0.8*f.sum) || f.young > 0.1*f.sum {
		return false
	}
	if !k.unread.steady(at, patienceDoubt) || k.unread.scans < doubtScans ||
		k.unread.grown() < max(m.material, 0.5*f.unread) || len(k.long.points) < longPoints*3/4 {
		return false
	}
	return k.long.change(socketsOf) <= 0.05*f.sockets
}

// closingPiles reports whether sockets that their peers have closed pile up
// without bytes: their end was read, but they were never closed. They cost no
// TCP memory, so they must be many, most, and only ever more.
func (k *track) closingPiles(f *facts, at float64) bool {
	if f.waiting < waitingLeast || f.waiting < closedShare*f.sockets {
		return false
	}
	if !k.closing.steady(at, patienceDoubt) || k.closing.scans < doubtScans ||
		k.closing.grown() < f.waiting*2/3 {
		return false
	}
	others := k.long.change(socketsOf) - k.long.change(waitingOf)
	return others <= 0.2*k.long.change(waitingOf)
}

// slowPeer looks for send queues that stand still, and at whom they wait for.
func (k *track) slowPeer(o *reading.Owner, f *facts, at float64) *reading.Verdict {
	if f.stalled < peerShare*f.sum || f.stuckUnsent == 0 || len(o.Peers) == 0 {
		return nil
	}
	if k.heavy.seconds(at) < patiencePeer || k.loose.age(at) < patiencePeer {
		return nil
	}
	top := &o.Peers[0]
	if f.stuckTo(float64(top.Bytes)) < topShare*f.stuckUnsent {
		return nil
	}
	v := verdict(reading.SlowPeer,
		fmt.Sprintf("send queues of %s on %s (%s of its memory) stand still; nothing was sent for %s",
			size(f.stuckUnsent), sockets(f.unsentSockets), percent(f.stuckUnsent, f.sum), period(min(k.heavy.seconds(at), k.loose.age(at)))),
		fmt.Sprintf("%s of its %s unsent wait for %s on %s",
			size(float64(top.Bytes)), size(f.send), peerName(top), sockets(float64(top.Sockets))))
	v.Culprit = top.Owner
	if v.Culprit == "" {
		v.Culprit = top.Address
	}
	return v
}

// judgeAccused judges a local owner whom others wait for. One whose receive
// queues stand still is a leak, whether it grows or not; one whose send queues
// stand still too waits for somebody itself.
func (k *track) judgeAccused(o *reading.Owner, at float64, m measure, victims int) *reading.Verdict {
	f := newFacts(o)
	if !f.compared || o.Kind == reading.KindUnresolved || o.Kind == reading.KindKernel || f.stalled < m.material {
		return nil
	}
	if f.stuckUnsent >= max(proxyShare*f.stuck(), 64<<10) {
		return k.slowPeer(o, &f, at)
	}
	if f.stalled < stillShare*f.sum || !f.isUnread() || k.reads(at) ||
		k.heavy.seconds(at) < patiencePeer || k.loose.age(at) < patiencePeer {
		return nil
	}
	return verdict(reading.Leak, k.aboutUnread(&f, at), k.aboutHidden(o), k.aboutWaiting(&f),
		fmt.Sprintf("%s of this host cannot send because of it", count(victims, "owner")))
}

func (k *track) isSlow() bool { return k.verdict != nil && k.verdict.Kind == reading.SlowPeer }

// load looks for growth, or fullness, of memory that moves.
func (k *track) load(f *facts, at float64, m measure) *reading.Verdict {
	if f.sum < m.material || f.stalled > movingShare*f.sum || f.hidden > 0.05*f.sum ||
		f.waiting > loadWaiting*f.sockets || k.moving.seconds(at) < loadLeast {
		return nil
	}
	// A leak that load still hides: what stands still, grows.
	if hidden := min(k.loose.grown(), f.stalled); k.loose.rises >= leakRises && hidden >= max(m.material/4, 0.05*f.sum) {
		return nil
	}
	rise, stuck, seconds := k.rise(f.sum)
	var why string
	switch {
	case rise >= max(m.material, loadRise*f.sum) && stuck <= loadStuck*rise:
		why = fmt.Sprintf("grows by %s/min", size(rise/seconds*60))
	case m.pressed && f.sum >= loadPool*m.used:
		why = fmt.Sprintf("holds %s of the pool, which is above its pressure limit", percent(f.sum, m.used))
	default:
		return nil
	}
	return verdict(reading.Load, why,
		fmt.Sprintf("its queues move: %s of its memory stood still for less than %s",
			percent(f.sum-f.stalled, f.sum), period(reading.StalledAfter.Seconds())),
		k.aboutSockets(f))
}

// rise is the bytes that the long window added, and how many of them may
// stand still; where the long window has no direction, the same of the short
// one, which must have added half of all, since a minute of noise often looks
// like growth.
func (k *track) rise(sum float64) (bytes, stuck, seconds float64) {
	if k.far.rising() {
		return k.far.perSecond * k.far.span, k.long.change(stuckOf), k.far.span
	}
	if bytes := k.now.perSecond * k.now.span; k.now.rising() && bytes >= burstRise*sum {
		return bytes, k.short.change(stuckOf), k.now.span
	}
	return 0, 0, 1
}

func verdict(kind reading.VerdictKind, reasons ...string) *reading.Verdict {
	return &reading.Verdict{Kind: kind, Reasons: slices.DeleteFunc(reasons, func(s string) bool { return s == "" })}
}
