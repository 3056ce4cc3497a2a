package trend

import (
	"cmp"
	"math"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	// Owners with less are not remembered, unless they hold sockets that
	// their peers have closed.
	worthBytes   = 64 << 10
	worthWaiting = 32

	// Noise that a hoard of stalled bytes may show and still be one.
	looseSlack = 0.10
	// What flows through a queue shows more than this within some scans.
	strictSlack = 0.01
)

// measure is what counts as much on this host.
type measure struct {
	material float64 // bytes: below, growth and standstill are of no interest
	used     float64 // bytes
	pressed  bool    // used is above tcp_mem pressure
}

// newMeasure takes 1/512 of tcp_mem max, and at least 1 MiB, as material.
func newMeasure(s *reading.Sample) measure {
	return measure{
		material: max(1<<20, float64(s.Mem.Max.Bytes(s.PageSize))/512),
		used:     float64(s.Used.Bytes(s.PageSize)),
		pressed:  s.Used > s.Mem.Pressure,
	}
}

// track is what is remembered of one owner.
type track struct {
	key        string
	invocation string
	newest     uint64 // the latest start time among the holders

	seen, busy float64 // last observed, last observed worthwhile
	bytes      float64
	peak       float64 // of bytes since the start

	short, long window
	now, far    direction // through the two windows

	loose   hoard // stalled bytes, noise allowed
	strict  hoard // stalled bytes, nothing given back
	unread  hoard // unread bytes, nothing given back
	closing hoard // sockets in CLOSE_WAIT, none given back
	// since when stalled bytes are material, and since when nearly all moves
	heavy, moving since
	// when others of this host were last seen to send what the owner reads
	servedAt float64
	served   bool

	verdict *reading.Verdict
}

func newTrack(key string) *track {
	return &track{key: key}
}

// worthwhile reports whether an owner is worth remembering.
func worthwhile(o *reading.Owner) bool {
	return o.Sum.Bytes >= worthBytes || o.States[reading.CloseWait] >= worthWaiting
}

// compareWeakest puts the owner of the fewest bytes last.
func compareWeakest(a, b *track) int {
	return cmp.Or(cmp.Compare(b.bytes, a.bytes), strings.Compare(a.key, b.key))
}

// another reports whether what holds the key now is not what held it before.
// systemd changes the invocation id with each start of a unit. Elsewhere the
// holders tell: all of them are younger than any holder known before. (The
// first holder alone does not, as it changes with who has the most bytes.)
// Memory that all but vanished is a new start too.
func (k *track) another(o *reading.Owner) bool {
	if len(k.long.points) == 0 {
		return false
	}
	if k.invocation != "" && o.InvocationID != "" {
		if k.invocation != o.InvocationID {
			return true
		}
	} else if k.newest > 0 && len(o.Holders) > 0 && o.HolderCount <= len(o.Holders) {
		if oldest, _ := startTimes(o.Holders); oldest > k.newest {
			return true
		}
	}
	return k.peak >= 1<<20 && float64(o.Sum.Bytes) < k.peak/50
}

// restart forgets all but the name and the room.
func (k *track) restart() {
	short, long := k.short, k.long
	short.clear()
	long.clear()
	*k = track{key: k.key, short: short, long: long}
}

// observe adds what a reading says of the owner. settled is false while the
// words "young" and "stalled" still speak of the start of the watch.
func (k *track) observe(o *reading.Owner, at float64, m measure, settled bool, scratch []float64) {
	step := at - k.seen
	fresh := len(k.long.points) == 0
	k.invocation = cmp.Or(o.InvocationID, k.invocation)
	if len(o.Holders) > 0 {
		_, newest := startTimes(o.Holders)
		k.newest = max(k.newest, newest)
	}
	k.seen = at
	if fresh || worthwhile(o) {
		k.busy = at
	}
	k.bytes = float64(o.Sum.Bytes)
	k.peak = max(k.peak, k.bytes)

	f := newFacts(o)
	p := point{
		at: at, bytes: f.sum, stuck: float32(f.stalled),
		sockets: float32(o.Sum.Sockets), waiting: float32(o.States[reading.CloseWait]),
	}
	k.short.add(p, shortSpacing, shortPoints)
	k.now = slope(k.short.points, bytesOf, scratch)
	if k.long.add(p, longSpacing, longPoints) {
		k.far = slope(k.long.points, bytesOf, scratch)
	}
	if !f.compared || !settled {
		return
	}
	rise := max(64<<10, m.material/32)
	k.loose.observe(at, f.stalled, looseSlack, rise)
	k.strict.observe(at, f.stalled, strictSlack, rise)
	k.unread.observe(at, f.unread, strictSlack, rise)
	k.closing.observe(at, f.waiting, 0, 1)
	if !fresh {
		k.loose.inflow += f.fresh * step / dwell(step)
		k.strict.inflow += f.fresh * step / dwell(step)
	}
	k.heavy.set(at, f.stalled >= m.material)
	k.moving.set(at, f.sum >= m.material && f.stalled <= movingShare*f.sum)
}

// dwell is for how long a queue that no longer moves counts as moving, in
// seconds: until the first scan after StalledAfter, which is taken to have a
// second's tolerance, as scans are not on the dot.
func dwell(step float64) float64 {
	return step * math.Ceil((reading.StalledAfter.Seconds()-1)/step)
}

// growth is the owner's growth in bytes per second: over the short window
// where that has a direction, else over the long one, else none. It reports
// false where there is too little data.
func (k *track) growth() (float64, bool) { return growth(k.now, k.far) }

func growth(short, long direction) (float64, bool) {
	switch {
	case short.clear():
		return short.perSecond, true
	case long.clear():
		return long.perSecond, true
	}
	return 0, short.known() || long.known()
}

func perMinute(perSecond float64) int64 { return int64(math.Round(perSecond * 60)) }

// since is for how long something holds without a break.
type since struct {
	at    float64
	holds bool
}

func (s *since) set(at float64, holds bool) {
	if holds && !s.holds {
		s.at = at
	}
	s.holds = holds
}

// seconds is 0 where it does not hold.
func (s *since) seconds(at float64) float64 {
	if !s.holds {
		return 0
	}
	return at - s.at
}

// startTimes gives the start time of the oldest and of the newest holder.
func startTimes(holders []reading.Holder) (oldest, newest uint64) {
	oldest = math.MaxUint64
	for i := range holders {
		oldest = min(oldest, holders[i].StartTime)
		newest = max(newest, holders[i].StartTime)
	}
	return oldest, newest
}
