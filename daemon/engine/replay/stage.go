package replay

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// bootSeconds is for how long the host of a scene is up at its start.
const bootSeconds = 7 * 24 * 3600

// Length is how long the scene lasts.
func (s *Scene) Length() time.Duration { return s.length }

// Start is the time of its first sample.
func (s *Scene) Start() time.Time { return s.start }

// Entries plays the scene: a sample at each step, a reading at each scan.
func (s *Scene) Entries() iter.Seq[*Entry] {
	return func(yield func(*Entry) bool) {
		var now level.State
		pressure := false
		next := time.Duration(0)
		for t := time.Duration(0); t <= s.length; t += s.sample {
			if silent, _ := s.host.silent.at(t); silent {
				continue
			}
			e := &Entry{Stamp: s.stamp(t)}
			owners := s.ownersAt(t)
			s.sampleAt(t, owners, &e.Sample)
			pressure = s.flag(t, &e.Sample, pressure)
			e.Sample.UnderPressure = new(pressure)
			now = level.Next(now, &e.Sample, e.Sample.At)
			e.Level = now.Level
			if t >= next {
				next = t + s.scan
				e.Reading = s.readingAt(t, e, owners)
			}
			if !yield(e) {
				return
			}
		}
	}
}

func (s *Scene) stamp(t time.Duration) record.Stamp {
	return record.Stamp{At: s.start.Add(t), BootID: "scene", BootSeconds: bootSeconds + t.Seconds(), Synced: true}
}

// flag is the kernel's own: set above pressure, taken back at or below min
// (sk_enter_memory_pressure, sk_leave_memory_pressure in net/core/sock.c).
func (s *Scene) flag(t time.Duration, sample *reading.Sample, was bool) bool {
	if flag, ok := s.host.flag.at(t); ok {
		return flag
	}
	return sample.Used > s.mem.Pressure || was && sample.Used > s.mem.Min
}

func (s *Scene) sampleAt(t time.Duration, owners []reading.Owner, to *reading.Sample) {
	var sum int64
	for i := range owners {
		sum += owners[i].Sum.Bytes
	}
	used, _, ok := s.host.used.at(t)
	if !ok {
		used = math.Ceil(float64(sum) / float64(s.pageSize))
	}
	orphans, _, _ := s.host.orphans.at(t)
	aborts, _, _ := s.host.aborts.at(t)
	log, _, _ := s.host.log.at(t)
	*to = reading.Sample{
		At: s.start.Add(t), PageSize: s.pageSize, Mem: s.mem, Used: reading.Pages(used), ReserveMax: 512,
		Orphans: int64(orphans), MaxOrphans: s.maxOrphans,
		Kernel: reading.Counters{AbortOnMemory: new(int64(aborts))},
		Log:    reading.LogCounts{Readable: true, OutOfMemory: int64(log)},
	}
}

// readingAt is what a scan at that moment finds.
func (s *Scene) readingAt(t time.Duration, e *Entry, owners []reading.Owner) *reading.Reading {
	r := &reading.Reading{Sample: e.Sample, Level: e.Level, Took: 100 * time.Millisecond, Owners: owners}
	l := &r.Ledger
	for i := range owners {
		o := &owners[i]
		l.Seen += o.Sum.Bytes
		if o.Kind != reading.KindUnresolved {
			l.Named += o.Sum.Bytes
		}
		for c := range o.Classes {
			l.Classes[c].Add(o.Classes[c].Sockets, o.Classes[c].Bytes)
		}
	}
	used := e.Sample.Used.Bytes(s.pageSize)
	l.Unseen, l.ReserveMax = used-l.Seen, e.Sample.ReserveMax.Bytes(s.pageSize)
	l.Coverage = float64(l.Named) / float64(max(l.Seen, used-l.ReserveMax, int64(s.pageSize)))
	if coverage, _, ok := s.host.coverage.at(t); ok {
		l.Coverage = coverage
	}
	l.OrphansSeen = e.Sample.Orphans
	r.Trend = s.trendAt(t, &e.Sample, owners)
	return r
}

// trendAt is what the daemon's own judgement would be: the slope of the line,
// and the verdict that the scene gives, or that of the biggest owner with one.
func (s *Scene) trendAt(t time.Duration, sample *reading.Sample, owners []reading.Owner) reading.Trend {
	_, perMinute, ok := s.host.used.at(t)
	growth := perMinute * float64(s.pageSize)
	if !ok {
		for i := range owners {
			growth += float64(*owners[i].GrowthPerMinute)
		}
	}
	trend := reading.Trend{GrowthPerMinute: new(int64(growth))}
	until := func(limit reading.Pages) *time.Duration {
		if growth <= 0 {
			return nil
		}
		left := float64((limit - sample.Used).Bytes(s.pageSize))
		return new(time.Duration(min(max(0, left)/growth, 1e6) * float64(time.Minute)))
	}
	trend.EtaPressure, trend.EtaMax = until(s.mem.Pressure), until(s.mem.Max)
	word, ok := s.host.verdict.at(t)
	if ok {
		trend.Verdict = verdictOf(word, "")
		return trend
	}
	for i := range owners {
		if trend.Verdict = owners[i].Verdict; trend.Verdict != nil {
			break
		}
	}
	return trend
}

func verdictOf(word, culprit string) *reading.Verdict {
	if word == "" || word == "none" {
		return nil
	}
	return &reading.Verdict{Kind: reading.VerdictKind(word), Culprit: culprit, Reasons: []string{"the scene says so"}}
}

// ownersAt lists who holds something at that moment, in a reading's order.
func (s *Scene) ownersAt(t time.Duration) []reading.Owner {
	var owners []reading.Owner
	for _, c := range s.owners {
		if o, ok := c.at(t); ok {
			owners = append(owners, o)
		}
	}
	slices.SortFunc(owners, func(a, b reading.Owner) int {
		return cmp.Or(cmp.Compare(b.Sum.Bytes, a.Sum.Bytes), cmp.Compare(a.Key, b.Key))
	})
	return owners
}

func (c *ownerCourse) at(t time.Duration) (reading.Owner, bool) {
	bytes, growth, ok := c.bytes.at(t)
	if !ok || bytes < 1 {
		return reading.Owner{}, false
	}
	o := c.owner
	sockets, _, ok := c.sockets.at(t)
	if !ok {
		sockets = 1
	}
	o.Sum = reading.Tally{Sockets: int64(max(1, sockets)), Bytes: int64(bytes)}
	o.GrowthPerMinute = new(int64(growth))
	unread, _, _ := c.unread.at(t)
	send, _, _ := c.send.at(t)
	o.Unread, o.Send = int64(unread), int64(min(send, bytes))
	o.Receive = o.Sum.Bytes - o.Send
	closeWait, _, _ := c.closeWait.at(t)
	o.States[reading.CloseWait] = int64(closeWait)
	word, _ := c.verdict.at(t)
	culprit, _ := c.culprit.at(t)
	o.Verdict = verdictOf(word, culprit)
	o.Protected, _ = c.protected.at(t)
	o.Shared, _ = c.shared.at(t)
	verified, ok := c.verified.at(t)
	o.UnitVerified = o.Unit != "" && o.Manager == "system" && (verified || !ok)

	classes, _ := c.classes.at(t)
	share(o.Classes[:], o.Sum, classes, int(mainClass(o.Kind)), func(name string) int { class, _ := reading.ParseClass(name); return int(class) })
	evidence, _ := c.evidence.at(t)
	share(o.Evidence[:], o.Sum, evidence, int(mainEvidence(o.Kind)), evidenceOf)
	if o.Kind != reading.KindKernel && o.Kind != reading.KindUnresolved {
		start := bootSeconds - c.age.Seconds()
		o.Holders = []reading.Holder{{PID: c.pid, StartTime: uint64(max(1, start*100)), Command: o.Command, Unit: o.Unit}}
		o.HolderCount = 1
	}
	return o, true
}

func mainClass(k reading.Kind) reading.Class {
	switch k {
	case reading.KindKernel:
		return reading.Kernel
	case reading.KindUnresolved:
		return reading.Unresolved
	}
	return reading.Owned
}

func mainEvidence(k reading.Kind) reading.Evidence {
	switch k {
	case reading.KindKernel:
		return reading.KernelUse
	case reading.KindUnresolved:
		return reading.Netns
	}
	return reading.FD
}

// share spreads a sum over parts: what no share takes is rest's.
func share(to []reading.Tally, sum reading.Tally, shares map[string]float64, rest int, index func(string) int) {
	left := sum
	for name, f := range shares {
		i := index(name)
		if i == rest {
			continue
		}
		t := reading.Tally{Sockets: min(int64(math.Ceil(f*float64(sum.Sockets))), left.Sockets), Bytes: min(int64(f*float64(sum.Bytes)), left.Bytes)}
		to[i].Add(t.Sockets, t.Bytes)
		left.Sockets -= t.Sockets
		left.Bytes -= t.Bytes
	}
	to[rest].Add(left.Sockets, left.Bytes)
}
