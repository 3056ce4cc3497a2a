package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Times of a lease. It is given back when it expires and the pool has room
// under the old limits; else it is extended, up to the hard end.
const (
	leaseTime    = 30 * time.Minute
	leaseExtend  = 5 * time.Minute
	leaseHardEnd = 4 // times its time
	undoWait     = 20 * time.Second
)

// lease is a raise of net.ipv4.tcp_mem that the daemon has lent the host. Its
// end has a lane of its own: it waits for no pause, budget or other action.
type lease struct {
	j      *judge
	held   *store.Lease
	plan   plan
	ending bool
	retry  record.Stamp // not before
	tries  int
}

// plan is what the action says it changes: what takes it back.
type plan struct {
	Version int    `json:"version"`
	BootID  string `json:"boot_id"`
	Base    triple `json:"base"`
	Raised  triple `json:"raised"`
}

// triple is net.ipv4.tcp_mem, in pages.
type triple struct {
	Min      reading.Pages `json:"min"`
	Pressure reading.Pages `json:"pressure"`
	Max      reading.Pages `json:"max"`
}

func newLease(j *judge) *lease { return &lease{j: j} }

// base is the triple without the lease.
func (l *lease) base(live reading.TCPMem) reading.TCPMem {
	if l.held == nil || live != reading.TCPMem(l.plan.Raised) {
		return live
	}
	return reading.TCPMem(l.plan.Base)
}

var errLent = errors.New("net.ipv4.tcp_mem is lent already: one lease at a time")

// take makes a plan durable before it is carried out.
func (l *lease) take(a *action, done func(error)) {
	p, err := parsePlan(a.plan)
	if err == nil && l.held != nil {
		err = errLent
	}
	if err != nil {
		l.j.apart(func() { done(err) })
		return
	}
	now := l.j.cfg.Clock()
	d := leaseTime
	if text := settingOf(a.dec.Step.Settings, "duration"); text != "" {
		if parsed, err := time.ParseDuration(text); err == nil && parsed > 0 {
			d = parsed
		}
	}
	l.plan = p
	l.held = &store.Lease{
		ActionID: a.id, Action: a.dec.Info.Name, Rule: a.dec.Rule.Name, Incident: a.incident, Undo: a.plan,
		TakenAt: now, Expires: later(now, d), HardEnd: later(now, leaseHardEnd*d), State: store.LeasePlanned,
	}
	l.j.cfg.Store.SaveLeases([]store.Lease{*l.held}, done)
}

func parsePlan(text []byte) (p plan, err error) {
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("read plan: %w", err)
	}
	if p.Base.Max <= 0 || p.Raised.Max <= 0 {
		return p, fmt.Errorf("read plan: it names no limits")
	}
	return p, nil
}

// ran takes the result of the raise.
func (l *lease) ran(_ *action, res *record.Result) {
	switch res.Outcome {
	case record.Done:
		l.held.State = store.LeaseHeld
		l.save()
		l.j.event("lease-taken", "warning", fmt.Sprintf("net.ipv4.tcp_mem is raised to %s until %s", l.plan.Raised, l.held.Expires.At.UTC().Format(time.RFC3339)), nil)
	case record.Refused:
		l.drop("") // nothing was written
	default:
		// Whether it was written is not known: the next sample tells.
		l.held.State = store.LeaseHeld
		l.held.Expires = l.held.TakenAt
		l.save()
	}
}

// unused forgets what was to be lent where its action ended before it was run.
func (l *lease) unused(a *action) {
	if l.held != nil && l.held.ActionID == a.id && l.held.State == store.LeasePlanned {
		l.drop("")
	}
}

func (t triple) String() string { return fmt.Sprintf("%d %d %d", t.Min, t.Pressure, t.Max) }

// drop forgets the lease; why is told, unless it is "".
func (l *lease) drop(why string) {
	if l.held == nil {
		return
	}
	l.held, l.ending, l.tries = nil, false, 0
	l.save()
	if why != "" {
		l.j.event("lease-ended", "info", why, nil)
	}
}

func (l *lease) save() {
	var all []store.Lease
	if l.held != nil {
		all = append(all, *l.held)
	}
	l.j.cfg.Store.SaveLeases(all, l.j.recorded("lease"))
}

// turn looks after the lease, once in a turn.
func (l *lease) turn(now record.Stamp) {
	if l.held == nil || l.held.State != store.LeaseHeld || l.ending {
		return
	}
	s := &l.j.now.Sample
	live := s.Mem
	if live != reading.TCPMem(l.plan.Raised) {
		if live == reading.TCPMem(l.plan.Base) {
			l.drop("net.ipv4.tcp_mem is as it was before the lease")
			return
		}
		was := l.plan
		l.drop("")
		l.j.event("lease-rival", "warning", fmt.Sprintf(
			"somebody else set net.ipv4.tcp_mem to %s while it was lent %s: the lease is over, nothing is set back to %s", triple(live), was.Raised, was.Base), nil)
		return
	}
	if !past(now, l.held.Expires) || !past(now, l.retry) {
		return
	}
	room := float64(s.Used) < 0.8*float64(l.plan.Base.Pressure)
	switch {
	case room, past(now, l.held.HardEnd):
		l.end(now, !room)
	default:
		l.held.Expires = later(now, leaseExtend)
		if past(l.held.Expires, l.held.HardEnd) {
			l.held.Expires = l.held.HardEnd
		}
		l.save()
		l.j.event("lease-extended", "warning", fmt.Sprintf(
			"the raise of net.ipv4.tcp_mem is extended until %s: %d pages are used, the old pressure is %d",
			l.held.Expires.At.UTC().Format(time.RFC3339), s.Used, l.plan.Base.Pressure), nil)
	}
}

// end has the action take its change back.
func (l *lease) end(now record.Stamp, force bool) {
	l.ending = true
	held := *l.held
	req := l.undo(force)
	l.j.apart(func() {
		ctx, cancel := context.WithTimeout(l.j.life, undoWait)
		defer cancel()
		answer, err := l.j.cfg.Runner.Undo(ctx, held.Action, req)
		l.j.post(func() { l.ended(&held, resultOf(answer, err), now) })
	})
}

func (l *lease) undo(force bool) *remediate.UndoRequest {
	settings := "{}"
	if force {
		settings = `{"force":true}`
	}
	return &remediate.UndoRequest{
		ActionID: l.held.ActionID, Undo: l.held.Undo, Settings: remediate.Settings(settings),
		Deadline: time.Now().Add(undoWait), Host: l.j.hostOf(),
	}
}

func (l *lease) ended(held *store.Lease, res record.Result, now record.Stamp) {
	l.ending = false
	if l.held == nil || l.held.ActionID != held.ActionID {
		return
	}
	switch res.Outcome {
	case record.Done:
		l.drop("net.ipv4.tcp_mem is given back: " + res.Message)
	default:
		// The next turn sees whether somebody else was at it; else again.
		l.tries++
		l.retry = later(now, min(time.Duration(l.tries)*10*time.Second, leaseExtend))
		l.j.event("lease-stuck", "critical", "net.ipv4.tcp_mem is not given back yet: "+res.Message, nil)
	}
}

// adopt takes over what an earlier run of the daemon had lent, given the live
// triple: in the same boot it is ours still, in another it is void.
func (l *lease) adopt(leases store.Leases, live reading.TCPMem) {
	now := l.j.cfg.Clock()
	for i := range leases.Leases {
		held := leases.Leases[i]
		p, err := parsePlan(held.Undo)
		switch {
		case err != nil:
			l.j.log.Error("adopt lease", "action", held.ActionID, "err", err)
		case held.TakenAt.BootID != now.BootID:
			l.j.event("lease-ended", "info", "the lease of before the boot is void", nil)
		case live == reading.TCPMem(p.Raised):
			held.State = store.LeaseHeld
			l.held, l.plan = &held, p
			l.j.event("lease-adopted", "info", fmt.Sprintf("net.ipv4.tcp_mem is still raised to %s by an earlier run, until %s", p.Raised, held.Expires.At.UTC().Format(time.RFC3339)), nil)
		case live == reading.TCPMem(p.Base):
			l.j.event("lease-ended", "info", "net.ipv4.tcp_mem is as it was before the lease", nil)
		default:
			l.j.event("lease-rival", "warning", fmt.Sprintf("somebody else set net.ipv4.tcp_mem to %s: the lease is over", triple(live)), nil)
		}
	}
	if len(leases.Leases) > 0 {
		l.save()
	}
}

// stop gives the lease back now: it must not outlive the daemon.
func (l *lease) stop(ctx context.Context) {
	if l.held == nil || l.held.State != store.LeaseHeld {
		return
	}
	answer, err := l.j.cfg.Runner.Undo(ctx, l.held.Action, l.undo(true))
	if res := resultOf(answer, err); res.Outcome != record.Done {
		l.j.event("lease-stuck", "critical", "net.ipv4.tcp_mem is not given back: "+res.Message, nil)
		return
	}
	l.drop("net.ipv4.tcp_mem is given back, the daemon ends")
}

// later is the moment d after s, on all clocks.
func later(s record.Stamp, d time.Duration) record.Stamp {
	s.At, s.BootSeconds = s.At.Add(d), s.BootSeconds+d.Seconds()
	return s
}

// past reports whether it is then or later. Both are of this boot.
func past(now, then record.Stamp) bool { return now.BootSeconds >= then.BootSeconds }

// settingOf gives a step's own setting that is a string.
func settingOf(settings []byte, name string) string {
	var all map[string]any
	if json.Unmarshal(settings, &all) != nil {
		return ""
	}
	text, _ := all[name].(string)
	return text
}
