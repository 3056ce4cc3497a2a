package policy

import (
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// WindowLength is the time over which the rises of counters are told.
const WindowLength = 10 * time.Second

// counter numbers what a Window follows.
type counter uint8

const (
	abortsOnMemory counter = iota
	pressureEntries
	prunes
	rcvqDrops
	zeroWindowDrops
	wqueueTooBig
	listenOverflows
	logOutOfMemory
	logOrphans
	logConntrackFull
	logLost
	orphanCount
	numCounters
)

// Window remembers the counters of the last seconds. The zero Window is ready.
type Window struct {
	seen []moment // the oldest first, at most WindowLength apart
}

type moment struct {
	at     time.Time
	counts [numCounters]rise
}

// rise is a count that may be unknown.
type rise struct {
	n     int64
	known bool
}

// Rates are the rises of counters over the last WindowLength, or over as much
// of it as was seen.
type Rates struct {
	rises [numCounters]rise
}

// Observe takes a sample. One that is not later than the last is not counted,
// and after a gap longer than the window everything starts anew.
func (w *Window) Observe(s *reading.Sample) {
	if n := len(w.seen); n > 0 && !s.At.After(w.seen[n-1].at) {
		return
	}
	old := slices.IndexFunc(w.seen, func(m moment) bool { return s.At.Sub(m.at) <= WindowLength })
	if old < 0 {
		old = len(w.seen)
	}
	w.seen = append(slices.Delete(w.seen, 0, old), moment{s.At, countsOf(s)})
}

// Rates gives the rates as of the last sample. A counter is unknown unless it
// was known in two samples.
func (w *Window) Rates() Rates {
	var r Rates
	if len(w.seen) < 2 {
		return r
	}
	last := &w.seen[len(w.seen)-1]
	for i := range r.rises {
		now := last.counts[i]
		for _, m := range w.seen[:len(w.seen)-1] {
			if then := m.counts[i]; now.known && then.known {
				r.rises[i] = rise{now.n - then.n, true}
				break
			}
		}
	}
	return r
}

func countsOf(s *reading.Sample) [numCounters]rise {
	k := &s.Kernel
	log := func(n int64) rise { return rise{n, s.Log.Readable} }
	return [numCounters]rise{
		abortsOnMemory:   riseOf(k.AbortOnMemory),
		pressureEntries:  riseOf(k.MemoryPressures),
		prunes:           riseOf(k.PruneCalled),
		rcvqDrops:        riseOf(k.RcvQDrop),
		zeroWindowDrops:  riseOf(k.ZeroWindowDrop),
		wqueueTooBig:     riseOf(k.WqueueTooBig),
		listenOverflows:  riseOf(k.ListenOverflows),
		logOutOfMemory:   log(s.Log.OutOfMemory),
		logOrphans:       log(s.Log.TooManyOrphans),
		logConntrackFull: log(s.Log.ConntrackFull),
		logLost:          log(s.Log.Lost),
		orphanCount:      {s.Orphans, true},
	}
}

func riseOf(n *int64) rise {
	if n == nil {
		return rise{}
	}
	return rise{*n, true}
}
