// Package level says how near a host is to the end of its TCP memory: calm,
// elevated, pressure, critical, or unknown. It needs no policy and does no
// input or output: one sample after the other goes in, a State comes out.
//
//	elevated  used > 0.8 x pressure
//	pressure  used > pressure, or the kernel's own flag is set
//	critical  used > 0.9 x max, or TCPAbortOnMemory rose since the last sample
//	unknown   no sample, or the last one is older than StaleAfter
//
// Going up is immediate. A level is left when its flag or counter is quiet and
// the use has been at or below 0.8 x the value that enters it for Hold without
// a break. The next level is then the highest one that would not be left
// itself; its own Hold begins at the sample that first allows leaving it, so a
// level never falls twice within Hold. Where the samples have a gap longer than
// StaleAfter everything starts anew from the next one.
package level

import (
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

const (
	// StaleAfter is the age at which a sample says nothing any more.
	StaleAfter = 5 * time.Second
	// Hold is how long the use stays low before a level is left.
	Hold = 30 * time.Second
)

const (
	elevatedShare = 0.8 // of tcp_mem's pressure
	criticalShare = 0.9 // of tcp_mem's max
	leaveShare    = 0.8 // of the value that enters the level
)

// State is the level after a sample. The zero State is the one before the
// first: unknown.
type State struct {
	Level reading.Level
	// Since is the time of the sample that brought the level, or for unknown
	// the time at which it became so; zero before the first call.
	Since time.Time
	// Why explains the level in one line, e.g. "used 1.2 GiB > pressure 1.1 GiB".
	Why string

	at     time.Time // of the last sample, zero where there is none to build on
	low    time.Time // sample from which on the level could be left, zero if it cannot
	aborts counter   // TCPAbortOnMemory of the last sample
}

// counter is a copy of an optional counter, so that a State keeps nothing of
// the sample it came from.
type counter struct {
	n     int64
	known bool
}

func counterOf(p *int64) counter {
	if p == nil {
		return counter{}
	}
	return counter{*p, true}
}

// rise is how much the counter rose since before, 0 where either is not known.
func (c counter) rise(before counter) int64 {
	if !c.known || !before.known {
		return 0
	}
	return max(0, c.n-before.n)
}

// Next gives the level at the time now. s is the newest sample, nil where there
// is none yet; it may be the same as in the call before.
func Next(prev State, s *reading.Sample, now time.Time) State {
	if s == nil {
		return unknown(prev, now, "no sample yet")
	}
	if age := now.Sub(s.At); age > StaleAfter {
		return unknown(prev, now, fmt.Sprintf("the last sample is %s old", age.Truncate(time.Second)))
	}
	if !prev.at.IsZero() && s.At.Equal(prev.at) {
		return prev
	}
	if step := s.At.Sub(prev.at); prev.at.IsZero() || step < 0 || step > StaleAfter {
		prev = State{Level: prev.Level, Since: prev.Since}
		return arrive(prev, s, entered(s, counter{}))
	}

	up := entered(s, prev.aborts)
	if up.level >= prev.Level {
		return arrive(prev, s, up)
	}
	if !mayLeave(prev.Level, s) {
		prev.low = time.Time{}
		return stay(prev, s)
	}
	if prev.low.IsZero() {
		prev.low = s.At
	}
	if s.At.Sub(prev.low) < Hold {
		return stay(prev, s)
	}
	return arrive(prev, s, fallTo(prev.Level, s, up))
}

// reason is a level and what speaks for it.
type reason struct {
	level reading.Level
	why   string
}

// entered gives the highest level that the sample enters by itself, with the
// aborts of the sample before.
func entered(s *reading.Sample, before counter) reason {
	used := float64(s.Used)
	aborts := counterOf(s.Kernel.AbortOnMemory).rise(before)
	switch {
	case used > entry(reading.Critical, s):
		return reason{reading.Critical, above(s, "0.9 x max", s.Mem.Max)}
	case aborts > 0:
		return reason{reading.Critical, fmt.Sprintf("the kernel aborted %s for lack of memory, used %s",
			plural(aborts, "connection"), size(s, s.Used))}
	case used > entry(reading.Pressure, s):
		return reason{reading.Pressure, above(s, "pressure", s.Mem.Pressure)}
	case flagged(s):
		return reason{reading.Pressure, fmt.Sprintf("the kernel's pressure flag is set, used %s, it clears at min %s",
			size(s, s.Used), size(s, s.Mem.Min))}
	case used > entry(reading.Elevated, s):
		return reason{reading.Elevated, above(s, "0.8 x pressure", s.Mem.Pressure)}
	}
	return reason{reading.Calm, fmt.Sprintf("used %s <= 0.8 x pressure %s",
		size(s, s.Used), size(s, s.Mem.Pressure))}
}

// fallTo gives the level that follows from, which is being left: the highest
// below it that the sample enters or that could not be left either.
func fallTo(from reading.Level, s *reading.Sample, up reason) reason {
	for l := from - 1; l > up.level; l-- {
		if !mayLeave(l, s) {
			return reason{l, holding(l, s)}
		}
	}
	return up
}

// mayLeave reports whether nothing in the sample speaks for staying in l. The
// aborts need no look here: a rise enters critical at once.
func mayLeave(l reading.Level, s *reading.Sample) bool {
	if l == reading.Pressure && flagged(s) {
		return false
	}
	return float64(s.Used) <= leaveShare*entry(l, s)
}

// entry is the use, in pages, above which a level is entered.
func entry(l reading.Level, s *reading.Sample) float64 {
	switch l {
	case reading.Elevated:
		return elevatedShare * float64(s.Mem.Pressure)
	case reading.Pressure:
		return float64(s.Mem.Pressure)
	case reading.Critical:
		return criticalShare * float64(s.Mem.Max)
	}
	return 0
}

func flagged(s *reading.Sample) bool { return s.UnderPressure != nil && *s.UnderPressure }

// arrive puts the sample's level into the state; Since stays if it is the same.
func arrive(prev State, s *reading.Sample, r reason) State {
	next := State{Level: r.level, Since: s.At, Why: r.why, at: s.At, aborts: counterOf(s.Kernel.AbortOnMemory)}
	if prev.Level == r.level && !prev.Since.IsZero() {
		next.Since = prev.Since
	}
	return next
}

// stay keeps the level for a sample that would not enter it.
func stay(prev State, s *reading.Sample) State {
	prev.at, prev.aborts = s.At, counterOf(s.Kernel.AbortOnMemory)
	if prev.low.IsZero() {
		prev.Why = holding(prev.Level, s)
	} else {
		prev.Why = fmt.Sprintf("used %s, low enough to leave for %s of %s",
			size(s, s.Used), s.At.Sub(prev.low).Truncate(time.Second), Hold)
	}
	return prev
}

func holding(l reading.Level, s *reading.Sample) string {
	return fmt.Sprintf("used %s, %s is left at %s", size(s, s.Used), l,
		size(s, reading.Pages(leaveShare*entry(l, s))))
}

// unknown forgets everything but the time: what follows starts anew.
func unknown(prev State, now time.Time, why string) State {
	next := State{Level: reading.Unknown, Since: now, Why: why}
	if prev.Level == reading.Unknown && !prev.Since.IsZero() {
		next.Since = prev.Since
	}
	return next
}

func above(s *reading.Sample, name string, limit reading.Pages) string {
	return fmt.Sprintf("used %s > %s %s", size(s, s.Used), name, size(s, limit))
}
