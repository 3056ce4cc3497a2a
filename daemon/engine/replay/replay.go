// Package replay feeds recorded readings, or a scene that a person wrote,
// through the same turn of [policy.Engine] that the daemon's loop uses, and
// tells what would have been decided. Nothing is ever done, and time comes from
// the entries alone.
//
// Where it differs from the loop: an action that is asked for as if enforcing
// comes out as done, its effect as not measured; pauses, opt-outs, leases and
// the daemon's own blindness are not part of a recording.
package replay

import (
	"cmp"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/engine/trend"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Entry is one recorded moment; its JSON is that of the daemon's history.
type Entry struct {
	record.Stamp
	Level  reading.Level
	Sample reading.Sample
	// Reading is the full scan that came since the entry before, nil if none
	// did. Its trend and its owners' verdicts are taken as they are.
	Reading *reading.Reading
}

// Config says what is tried.
type Config struct {
	Policy policy.Config
	// Enforce: the daemon and every rule enforce. Otherwise all observe.
	Enforce bool
	OptOut  func(*reading.Owner) string
}

// Times of an action that only the loop knows.
const (
	effectAfter = 5 * time.Second // from its result to the reading that would measure its effect
	effectWait  = time.Minute     // for that reading
	// running is how long the daemon has been running before the first entry: the
	// time in which it only watches is over.
	running = time.Hour
)

// Event is a change of phase or a decision.
type Event struct {
	record.Stamp
	Rule     string           `json:"rule"`
	Key      string           `json:"key"`
	State    *record.State    `json:"state,omitempty"`
	Decision *record.Decision `json:"decision,omitempty"`
}

// Player plays entries, the oldest first.
type Player struct {
	cfg     Config
	policy  policy.Config
	engine  *policy.Engine
	window  policy.Window
	trend   *trend.Tracker
	started record.Stamp

	last    *record.Stamp // of the entry before
	spacing time.Duration // between the two entries before
	reading *reading.Reading
	readAt  record.Stamp
	acting  *pending
	acts    int
	report  Report
	firing  map[[2]string]record.Stamp
}

// pending is an action whose effect would be measured.
type pending struct {
	decision policy.Decision
	at       record.Stamp
}

// New returns a player at rest.
func New(c Config) *Player {
	p := &Player{cfg: c, policy: c.Policy, firing: make(map[[2]string]record.Stamp)}
	p.policy.Mode = policy.Observe
	p.report.As = string(policy.Observe)
	if c.Enforce {
		p.policy.Mode = policy.Enforce
		p.report.As = string(policy.Enforce)
		p.policy.Rules = make([]*policy.Rule, len(c.Policy.Rules))
		for i, r := range c.Policy.Rules {
			enforcing := *r
			enforcing.Mode = policy.Enforce
			p.policy.Rules[i] = &enforcing
		}
	}
	p.policy.Sample = cmp.Or(c.Policy.Sample, time.Second)
	p.policy.Calm = cmp.Or(c.Policy.Calm, 30*time.Second)
	p.policy.Pressed = cmp.Or(c.Policy.Pressed, 5*time.Second)
	p.engine = policy.New(p.policy, policy.Memory{})
	p.trend = trend.New(trend.Config{SampleInterval: p.policy.Sample})
	return p
}

// Play takes the next entry and gives what came of it. An entry that is not
// later than the one before is passed over.
func (p *Player) Play(e *Entry) []Event {
	now := e.Stamp
	if p.last == nil {
		p.started = earlier(now, running)
		p.report.From = now.At
	} else if !p.advance(now) {
		return nil
	}
	p.last = &now
	p.report.To = now.At
	p.report.Entries++

	p.window.Observe(&e.Sample)
	p.trend.ObserveSample(&e.Sample)
	if e.Reading != nil {
		p.report.Readings++
		p.reading, p.readAt = e.Reading, now
		p.measure(now, true)
	} else {
		p.measure(now, false)
	}
	in := p.input(e, now)
	out := p.engine.Turn(&in)
	var events []Event
	for i := range out.Changes {
		c := &out.Changes[i]
		events = append(events, Event{Stamp: now, Rule: c.Rule.Name, Key: c.Key, State: &c.State})
	}
	for i := range out.Decisions {
		d := &out.Decisions[i]
		events = append(events, Event{Stamp: now, Rule: d.Rule.Name, Key: d.Key(), Decision: &d.Record})
		if d.Record.Choice == record.ChoseAct {
			p.act(d, &in)
		}
	}
	for i := range events {
		p.count(&events[i])
	}
	return events
}

// advance takes the time of the next entry. Recordings are thinned out as they
// age: what is a gap is measured by how far apart the entries before were.
func (p *Player) advance(now record.Stamp) bool {
	step := now.Since(*p.last)
	if step <= 0 && !now.At.After(p.last.At) {
		return false
	}
	before := cmp.Or(p.spacing, step)
	p.spacing = step
	usual := cmp.Or(p.cfg.Policy.Sample, time.Second)
	if before > 3*usual {
		usual = min(before.Round(10*time.Second)+10*time.Second, coarsest)
	}
	if step > 3*usual {
		p.report.Gaps = append(p.report.Gaps, Gap{From: p.last.At, Seconds: step.Seconds()})
	}
	if usual != p.policy.Sample {
		p.policy.Sample = usual
		p.engine.Reload(p.policy, now)
		p.trend = trend.New(trend.Config{SampleInterval: usual})
	}
	if usual > policy.WindowLength {
		p.report.Coarse++
	}
	return true
}

// coarsest is the widest spacing that a recording has on purpose.
const coarsest = 90 * time.Second

func (p *Player) input(e *Entry, now record.Stamp) policy.Input {
	t := p.trend.Host(&e.Sample)
	if p.reading != nil {
		t.Verdict = p.reading.Trend.Verdict
		if t.GrowthPerMinute == nil {
			t = p.reading.Trend
		}
	}
	in := policy.Input{
		Now: now, Fresh: e.Reading != nil, Started: p.started, OptOut: p.cfg.OptOut,
		Facts: policy.Facts{Sample: &e.Sample, Level: e.Level, Trend: t, Reading: p.reading, Rates: p.window.Rates()},
	}
	if p.reading != nil {
		in.Facts.Age = now.Since(p.readAt)
	}
	if p.acting != nil {
		in.Busy = policy.UnderWay(p.acting.decision.Rule.Name)
	}
	return in
}

// act takes an action as done, or as delivered.
func (p *Player) act(d *policy.Decision, in *policy.Input) {
	if d.Info.Touches == policy.TouchesNothing {
		p.engine.Resulted(d, record.Delivered, "", in.Now)
		return
	}
	p.acts++
	p.engine.Paid(fmt.Sprintf("replay-%d", p.acts), d, in.Now)
	p.engine.Resulted(d, record.Done, "", in.Now)
	p.acting = &pending{*d, in.Now}
}

// measure ends the wait for an effect.
func (p *Player) measure(now record.Stamp, fresh bool) {
	if p.acting == nil {
		return
	}
	since := now.Since(p.acting.at)
	if fresh && since >= effectAfter || since >= effectAfter+effectWait {
		p.engine.Measured(&p.acting.decision, record.NotMeasured, now)
		p.acting = nil
	}
}

// earlier is a moment before another one of the same boot.
func earlier(s record.Stamp, d time.Duration) record.Stamp {
	s.At = s.At.Add(-d)
	s.BootSeconds -= d.Seconds()
	return s
}
