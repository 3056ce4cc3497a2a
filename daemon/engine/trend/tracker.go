package trend

import (
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Config says how often the tracker is fed. The zero value of a field stands
// for its default.
type Config struct {
	// SampleInterval is the time between samples (1 s), CalmInterval and
	// ElevatedInterval that between readings while the host is calm (30 s)
	// and while it is not (5 s). A gap of more than three intervals starts
	// the windows anew.
	SampleInterval, CalmInterval, ElevatedInterval time.Duration
	// MaxOwners bounds how many owners are remembered (1,000): those with the
	// most bytes. Each costs about 1.5 kB.
	MaxOwners int
}

// Tracker remembers how the host and its owners moved. Its methods are for
// one goroutine at a time.
type Tracker struct {
	config Config

	epoch time.Time // of the first observation; all times are seconds since
	host  host

	owners      map[string]*track
	scans       pace
	watchedFrom float64 // the first reading since the last gap
	level       reading.Level

	scratch []float64
	weak    []*track // reused by admit
}

// New returns a tracker that has seen nothing.
func New(c Config) *Tracker {
	c.SampleInterval = orDefault(c.SampleInterval, time.Second)
	c.CalmInterval = orDefault(c.CalmInterval, 30*time.Second)
	c.ElevatedInterval = orDefault(c.ElevatedInterval, 5*time.Second)
	c.MaxOwners = orDefault(c.MaxOwners, 1000)
	return &Tracker{
		config:  c,
		owners:  make(map[string]*track),
		scratch: make([]float64, 0, maxPairs),
	}
}

// ObserveSample takes the host's counters. It returns how long the gap was
// that started the host's windows anew, 0 where there was none.
func (t *Tracker) ObserveSample(s *reading.Sample) (gap time.Duration) {
	at := t.seconds(s.At)
	return t.host.observe(at, s, t.config.SampleInterval.Seconds())
}

// Host gives the host's growth and times to the limits as of a sample that was
// observed, and the verdict of the last full reading: what is known between
// two readings.
func (t *Tracker) Host(s *reading.Sample) reading.Trend {
	return t.host.trend(t.seconds(s.At), s, t.scratch)
}

// Observe takes a full reading and fills r.Trend and each owner's
// GrowthPerMinute and Verdict. It returns how long the gap was that started
// the owners' windows anew, 0 where there was none.
//
// A partial reading is judged by what was known before and adds nothing: what
// it did not reach would look like memory given back.
func (t *Tracker) Observe(r *reading.Reading) (gap time.Duration) {
	at := t.seconds(r.Sample.At)
	t.ObserveSample(&r.Sample)
	if t.scans.seen && at <= t.scans.at {
		t.publish(r, at)
		return 0
	}
	if !r.Partial {
		gap = t.pass(at, r.Level)
		t.take(r, at)
		t.serve(r, at)
		t.judge(r, at)
		t.forget(at)
	} else if t.scans.late(at, t.interval()) {
		clear(t.owners) // what is known is too old to repeat
	}
	t.publish(r, at)
	return gap
}

// pass moves the time of readings on, and starts anew after a gap.
func (t *Tracker) pass(at float64, level reading.Level) (gap time.Duration) {
	first := !t.scans.seen
	missed := t.scans.next(at, t.interval())
	t.level = level
	if missed > 0 {
		clear(t.owners)
	}
	if first || missed > 0 {
		t.watchedFrom = at
	}
	return time.Duration(missed * float64(time.Second))
}

func (t *Tracker) interval() float64 {
	if t.level >= reading.Elevated {
		return t.config.ElevatedInterval.Seconds()
	}
	return t.config.CalmInterval.Seconds()
}

// take adds a reading to the owners' windows.
func (t *Tracker) take(r *reading.Reading, at float64) {
	m := newMeasure(&r.Sample)
	// At the start of the watch every socket is new, and half a minute later
	// every quiet one is stalled: neither has anything to do with the host.
	settled := at-t.watchedFrom >= (reading.StalledAfter + 5*time.Second).Seconds()
	for i := range r.Owners {
		o := &r.Owners[i]
		k := t.owners[o.Key]
		if k == nil {
			if !worthwhile(o) {
				continue
			}
			if k = t.admit(o); k == nil {
				continue
			}
		}
		if k.another(o) {
			k.restart()
		}
		k.observe(o, at, m, settled, t.scratch)
	}
}

// serve notes which owners read, by the send queues of others on this host
// that wait for them and move.
func (t *Tracker) serve(r *reading.Reading, at float64) {
	sent := make(map[string]float64)
	for i := range r.Owners {
		o := &r.Owners[i]
		f := newFacts(o)
		if !f.compared {
			continue
		}
		for j := range o.Peers {
			if p := &o.Peers[j]; p.Owner != "" && p.Owner != o.Key {
				sent[p.Owner] += f.sentTo(float64(p.Bytes))
			}
		}
	}
	for i := range r.Owners {
		o := &r.Owners[i]
		k := t.owners[o.Key]
		if k == nil || sent[o.Key] == 0 {
			continue
		}
		if f := newFacts(o); sent[o.Key] >= servedShare*f.stuckUnread {
			k.served, k.servedAt = true, at
		}
	}
}

// admit makes room for an owner: by forgetting one with less than half of its
// bytes where the room is used up. It returns nil where there is none.
func (t *Tracker) admit(o *reading.Owner) *track {
	if len(t.owners) >= t.config.MaxOwners {
		if len(t.weak) == 0 {
			for _, k := range t.owners {
				t.weak = append(t.weak, k)
			}
			// The key makes the order, and so the tracker, deterministic.
			slices.SortFunc(t.weak, compareWeakest)
		}
		weakest := t.weak[len(t.weak)-1]
		if weakest.bytes*2 > float64(o.Sum.Bytes) {
			return nil
		}
		t.weak = t.weak[:len(t.weak)-1]
		delete(t.owners, weakest.key)
	}
	k := newTrack(o.Key)
	t.owners[o.Key] = k
	return k
}

// judge gives each owner its verdict: on its own first, then in the light of
// who waits for it; then the host.
func (t *Tracker) judge(r *reading.Reading, at float64) {
	m := newMeasure(&r.Sample)
	slow := 0
	for i := range r.Owners {
		o := &r.Owners[i]
		if k := t.owners[o.Key]; k != nil {
			k.verdict = k.judge(o, at, m)
			if k.isSlow() {
				slow++
			}
		}
	}
	// One who is waited for may wait for another: a chain has an end.
	for slow > 0 {
		slow = t.accuse(r, at, m)
	}
	t.host.judge(r, t.owners, m)
}

// accuse judges the local owners that others wait for and that have no
// verdict yet. It returns how many of them wait for somebody in turn.
func (t *Tracker) accuse(r *reading.Reading, at float64, m measure) (slow int) {
	waiting := make(map[string]int)
	for i := range r.Owners {
		if k := t.owners[r.Owners[i].Key]; k != nil && k.isSlow() {
			waiting[k.verdict.Culprit]++
		}
	}
	for i := range r.Owners {
		o := &r.Owners[i]
		k := t.owners[o.Key]
		if k == nil || k.verdict != nil || waiting[o.Key] == 0 {
			continue
		}
		k.verdict = k.judgeAccused(o, at, m, waiting[o.Key])
		if k.isSlow() {
			slow++
		}
	}
	return slow
}

// forget drops owners that are gone, and those that were idle for the length
// of the long window.
func (t *Tracker) forget(at float64) {
	t.weak = t.weak[:0]
	limit := t.scans.limit(t.interval())
	for key, k := range t.owners {
		if at-k.seen > limit || at-k.busy > longSpacing*longPoints {
			delete(t.owners, key)
		}
	}
}

// publish fills the reading from what is known.
func (t *Tracker) publish(r *reading.Reading, at float64) {
	growths := make([]int64, 0, len(t.owners)) // one allocation for all
	for i := range r.Owners {
		o := &r.Owners[i]
		o.GrowthPerMinute, o.Verdict = nil, nil
		k := t.owners[o.Key]
		if k == nil {
			continue
		}
		o.Verdict = k.verdict
		if g, ok := k.growth(); ok {
			growths = append(growths, perMinute(g))
			o.GrowthPerMinute = &growths[len(growths)-1]
		}
	}
	r.Trend = t.host.trend(at, &r.Sample, t.scratch)
}

// seconds is the time since the first observation, on the monotonic clock
// where at has one.
func (t *Tracker) seconds(at time.Time) float64 {
	if t.epoch.IsZero() {
		t.epoch = at
	}
	return at.Sub(t.epoch).Seconds()
}

// pace notices gaps in a series of observations.
type pace struct {
	at   float64
	step float64 // between the last two
	seen bool
}

// limit is the longest time to the next observation that is no gap: three
// intervals, where a pace that is slower than asked for, but even, counts as
// the interval (a host with many sockets is scanned more slowly).
func (p *pace) limit(interval float64) float64 { return 3 * max(interval, p.step) }

func (p *pace) late(at, interval float64) bool {
	return p.seen && at-p.at > p.limit(interval)
}

// next takes the time of an observation and returns the seconds of the gap
// before it, 0 where there was none.
func (p *pace) next(at, interval float64) (gap float64) {
	if p.late(at, interval) {
		gap = at - p.at
	}
	if p.seen {
		p.step = at - p.at
	}
	p.at, p.seen = at, true
	return gap
}

func orDefault[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}
