package daemon

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// blindness is in which ways the daemon cannot see, record or act just now.
// Each has an id of the event catalogue, is told when it begins and when it
// ends, and can be asked for in a condition (daemon.blind).
type blindness struct {
	open map[string]trouble // by id
	mem  reading.TCPMem     // net.ipv4.tcp_mem as last seen
	lost int64              // kernel log records lost, as last seen
	bus  bool               // PID 1 could be asked once

	unrecorded string // why no intent can be made durable, "" where one can
}

// trouble is one of them: why, and since when.
type trouble struct {
	why   string
	since record.Stamp
}

// ids lists what is the matter, in order.
func (b *blindness) ids() []string { return slices.Sorted(maps.Keys(b.open)) }

// set notes that something is the matter (why not ""), or is not any more.
func (b *blindness) set(j *judge, id, why string) {
	was, on := b.open[id]
	switch {
	case why != "" && !on:
		b.open[id] = trouble{why, j.cfg.Clock()}
		j.event(id, "warning", why, nil)
	case why != "":
		b.open[id] = trouble{why, was.since}
	case on:
		delete(b.open, id)
		j.event(id, "info", "over: "+was.why, nil)
	}
}

// reading looks at what a full reading could not see.
func (b *blindness) reading(j *judge, r *reading.Reading, _ record.Stamp) {
	least, coverage := j.policy.MinCoverage, r.Ledger.Coverage
	low := ""
	// The level outlasts the memory by half a minute. Right after an action that
	// helped, what is left is hardly more than what the CPUs keep in reserve, and
	// has no name: at or below min the kernel itself is out of pressure.
	if coverage < least && j.now.Level.Level >= reading.Pressure && r.Sample.Used > r.Sample.Mem.Min {
		low = fmt.Sprintf("only %.0f %% of the memory has a name, under pressure: %.0f %% are asked for", 100*coverage, 100*least)
	}
	b.set(j, "blind-coverage", low)
	for id, codes := range blindGaps {
		why := ""
		for _, g := range r.Gaps {
			if why == "" && slices.Contains(codes, g.Code) {
				why = g.What + ": " + g.Why
			}
		}
		if id == "blind-bus" && why == "" {
			b.bus = true
		}
		if id != "blind-bus" || b.bus { // a host without systemd never had one
			b.set(j, id, why)
		}
	}
}

// blindGaps says which gaps of a reading are an event.
var blindGaps = map[string][]string{
	// Not netns-unseen: each container that ends leaves some orphans behind in
	// a namespace that nobody holds; coverage tells whether they matter.
	"blind-netns": {"netns-unreadable"},
	"blind-bus":   {"bus-missing"},
}

// sample looks at what a sample shows: the kernel log, and who else sets the
// limits.
func (b *blindness) sample(j *judge) {
	s := &j.now.Sample
	if s.Log.Lost > b.lost {
		j.event("blind-kernel-log", "warning", fmt.Sprintf("%d records of the kernel log were overwritten before they were read", s.Log.Lost-b.lost), nil)
	}
	b.lost = s.Log.Lost
	if b.mem != (reading.TCPMem{}) && s.Mem != b.mem && !j.lease.explains(b.mem, s.Mem) {
		j.event("tcp-mem-changed", "warning", fmt.Sprintf("somebody else set net.ipv4.tcp_mem from %s to %s", triple(b.mem), triple(s.Mem)), nil)
	}
	b.mem = s.Mem
	b.store(j)
}

// store looks at whether what is decided can be recorded.
func (b *blindness) store(j *judge) {
	h := j.cfg.Store.Health()
	b.unrecorded = ""
	switch {
	case h.Log.Err != nil:
		b.unrecorded = "the action log cannot be written: " + h.Log.Err.Error()
	case h.State.Err != nil:
		b.unrecorded = "budgets and leases cannot be written: " + h.State.Err.Error()
	case h.Busy > 2*intentWait:
		b.unrecorded = fmt.Sprintf("the disk under the action log has not answered for %s", h.Busy.Round(time.Second))
	}
	why := b.unrecorded
	switch {
	case why != "":
	case h.History.Err != nil:
		why = "readings cannot be recorded: " + h.History.Err.Error()
	case h.Files.Err != nil:
		why = "incidents cannot be written: " + h.Files.Err.Error()
	}
	b.set(j, "log-unwritable", why)
}

// log takes a failure to record an intent.
func (b *blindness) log(j *judge, err error) {
	b.unrecorded = "the action log cannot be written: " + err.Error()
	b.set(j, "log-unwritable", b.unrecorded)
}

// explains reports whether a change of the limits is the lease's own.
func (l *lease) explains(from, to reading.TCPMem) bool {
	raised, base := reading.TCPMem(l.plan.Raised), reading.TCPMem(l.plan.Base)
	return from == base && to == raised || from == raised && to == base || l.held != nil
}
