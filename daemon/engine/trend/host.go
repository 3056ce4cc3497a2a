package trend

import (
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	// A time to a limit reaches at most so many times as far as the watch
	// goes back, and no further than a day.
	etaReach = 60
	etaMost  = 24 * 3600.0

	hostShare = 0.50 // of what weighs, that must have the host's verdict
	hostPool  = 0.05 // of the pool, that it must weigh
)

// host is what is remembered of the whole pool.
type host struct {
	samples     pace
	short, long window
	verdict     *reading.Verdict
}

// observe takes the pool's use, and starts anew after a gap.
func (h *host) observe(at float64, s *reading.Sample, interval float64) time.Duration {
	if h.samples.seen && at <= h.samples.at {
		return 0
	}
	gap := h.samples.next(at, interval)
	if gap > 0 {
		h.short.clear()
		h.long.clear()
	}
	p := point{at: at, bytes: float64(s.Used.Bytes(s.PageSize))}
	h.short.add(p, shortSpacing, shortPoints)
	h.long.add(p, hostLongSpacing, hostLongPoints)
	return time.Duration(gap * float64(time.Second))
}

// trend gives the host's growth, times to the limits, and the last verdict.
func (h *host) trend(at float64, s *reading.Sample, scratch []float64) reading.Trend {
	t := reading.Trend{Verdict: h.verdict}
	short := slope(h.short.points, bytesOf, scratch)
	long := slope(h.long.points, bytesOf, scratch)
	g, ok := growth(short, long)
	if !ok {
		return t
	}
	rate := perMinute(g)
	t.GrowthPerMinute = &rate
	if g := h.sustained(short, long, s); g > 0 {
		watched := at - h.long.points[0].at
		t.EtaPressure = eta(s.Mem.Pressure, s, g, watched)
		t.EtaMax = eta(s.Mem.Max, s, g, watched)
	}
	return t
}

// sustained is the growth in bytes per second that a limit may be predicted
// from, 0 where there is none: the slower one of the two windows where both
// grow. Growth in the short window alone counts only where use is higher than
// all that the long window has seen before: an oscillation goes up half of
// the time and arrives nowhere.
func (h *host) sustained(short, long direction, s *reading.Sample) float64 {
	noise := float64(s.ReserveMax.Bytes(s.PageSize))
	switch {
	case short.falling() || long.falling():
		return 0
	case short.rising() && long.rising():
		if long.perSecond*long.span < noise {
			return 0
		}
		return min(short.perSecond, long.perSecond)
	case long.rising():
		if long.perSecond*long.span < noise {
			return 0
		}
		return long.perSecond
	case short.rising():
		now := float64(s.Used.Bytes(s.PageSize))
		// A point is a mean, so use was higher by up to this within its slot.
		noise := noise + short.perSecond*hostLongSpacing
		before := h.short.points[0].at - hostLongSpacing
		for i := range h.long.points {
			if p := &h.long.points[i]; p.at < before && p.bytes >= now-noise {
				return 0
			}
		}
		if short.perSecond*short.span >= noise {
			return short.perSecond
		}
	}
	return 0
}

// eta is the time until the pool reaches limit, 0 where it has.
func eta(limit reading.Pages, s *reading.Sample, perSecond, watched float64) *time.Duration {
	left := float64((limit - s.Used).Bytes(s.PageSize)) / perSecond
	if left > min(etaMost, etaReach*watched) {
		return nil
	}
	d := time.Duration(max(left, 0) * float64(time.Second)).Round(time.Second)
	return &d
}

// judge weighs the owners' verdicts: memory that stands still with leaks and
// slow peers, growth with everyone else. What is held up by a local leak
// counts against the leak.
func (h *host) judge(r *reading.Reading, owners map[string]*track, m measure) {
	h.verdict = nil
	var leak, slow, load, other claim
	for i := range r.Owners {
		o := &r.Owners[i]
		k := owners[o.Key]
		if k == nil {
			continue
		}
		f := newFacts(o)
		rise, _, _ := k.rise(f.sum)
		switch {
		case k.verdict == nil:
			other.add(k, rise)
		case k.verdict.Kind == reading.Leak:
			leak.add(k, max(f.stalled, f.unread))
		case k.isSlow():
			if end := owners[lastCulprit(owners, k)]; end != nil && end.verdict != nil && end.verdict.Kind == reading.Leak {
				leak.bytes += f.stuckUnsent
				continue
			}
			slow.add(k, f.stuckUnsent)
		case rise < m.material && m.pressed:
			load.add(k, f.sum)
		default:
			load.add(k, rise)
		}
	}
	all := leak.bytes + slow.bytes + load.bytes + other.bytes
	need := max(hostShare*all, hostPool*m.used, m.material)
	switch {
	case leak.first != nil && leak.bytes >= need:
		h.verdict = leak.verdict(reading.Leak, fmt.Sprintf("%s held by %s", size(leak.bytes), count(leak.count, "leaking owner")), all)
	case slow.first != nil && slow.bytes >= need:
		h.verdict = slow.verdict(reading.SlowPeer, fmt.Sprintf("%s held by %s whose peers do not read", size(slow.bytes), count(slow.count, "owner")), all)
		h.verdict.Culprit = lastCulprit(owners, slow.first)
	case load.first != nil && load.bytes >= need:
		h.verdict = load.verdict(reading.Load, fmt.Sprintf("%s of %s whose memory moves", size(load.bytes), count(load.count, "owner")), all)
	}
}

// lastCulprit follows a slow peer's culprits to the one who waits for nobody.
func lastCulprit(owners map[string]*track, k *track) string {
	culprit := k.verdict.Culprit
	for range len(owners) { // two may wait for each other
		next := owners[culprit]
		if next == nil || !next.isSlow() {
			break
		}
		culprit = next.verdict.Culprit
	}
	return culprit
}

// claim is what the owners of one verdict weigh together.
type claim struct {
	bytes float64
	count int
	first *track // the heaviest
	most  float64
}

func (c *claim) add(k *track, bytes float64) {
	c.bytes += bytes
	c.count++
	if c.first == nil || bytes > c.most {
		c.first, c.most = k, bytes
	}
}

// verdict gives the host the reasons of the heaviest owner.
func (c *claim) verdict(kind reading.VerdictKind, what string, all float64) *reading.Verdict {
	v := verdict(kind, fmt.Sprintf("%s: %s of what grows or stands still", what, percent(c.bytes, all)))
	for _, reason := range c.first.verdict.Reasons {
		v.Reasons = append(v.Reasons, printable(c.first.key)+": "+reason)
	}
	return v
}
