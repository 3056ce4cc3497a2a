package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

const (
	maxAlerts    = 10 // of owners, a minute
	maxRunnersUp = 5
	// grace is the least time that what helped has to do so wholly.
	grace = 30 * time.Second
)

// due is a step whose time has come.
type due struct {
	state *state
	sub   subject
	vars  *Vars
	step  *Step
	info  ActionInfo
	mode  Mode
	why   string // of the mode
}

// due gives the step of a firing key whose time has come, nil if there is none.
func (e *Engine) due(s *state, sub subject, vars *Vars, in *Input) *due {
	if s.acting {
		return nil // what it comes to is for the step that it is at
	}
	mode, why := e.mode(s.rule, sub.target, in)
	if mode == Enforce && s.mode == Observe {
		s.ladder = ladder{clock: in.Now} // what was only tried on paper is done in earnest
	}
	s.mode = mode
	for {
		if s.step >= len(s.rule.Steps) {
			return e.exhausted(s, sub, vars, in, mode, why)
		}
		step := &s.rule.Steps[s.step]
		if in.Now.Since(s.clock) < s.wait(step) {
			return nil
		}
		if !s.helped {
			return &due{s, sub, vars, step, e.action(step.Action), mode, why}
		}
		s.next(in.Now) // it helped, and yet it fires
	}
}

// exhausted is told once per cooldown: all steps are taken, and it fires.
func (e *Engine) exhausted(s *state, sub subject, vars *Vars, in *Input, mode Mode, why string) *due {
	if !e.touches(s.rule) || s.finished.BootID != "" && in.Now.Since(s.finished) < s.rule.Cooldown {
		return nil
	}
	s.finished, s.last = in.Now, ""
	return &due{state: s, sub: sub, vars: vars, mode: mode, why: why}
}

// action gives what is known of an action. One that is not known may touch
// anything, and cannot be run.
func (e *Engine) action(name string) ActionInfo {
	if info, ok := e.cfg.Actions[name]; ok {
		return info
	}
	return ActionInfo{Name: name, Touches: TouchesHost, Missing: "there is no such action"}
}

// touches reports whether a rule has a step that touches something. One that
// only tells is never exhausted.
func (e *Engine) touches(r *Rule) bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return e.action(s.Action).Touches != TouchesNothing })
}

// next moves on to the following step.
func (s *state) next(now record.Stamp) {
	s.ladder = ladder{step: s.step + 1, clock: now, finished: s.finished}
}

// mode is the most cautious of the daemon's, the rule's, and what stands
// against it.
func (e *Engine) mode(r *Rule, target *reading.Owner, in *Input) (Mode, string) {
	switch {
	case in.Stop != "":
		return Observe, in.Stop
	case in.Forced != "":
		return Observe, in.Forced
	case e.cfg.Mode != Enforce:
		return Observe, `the daemon's mode is "observe"`
	case r.Mode != Enforce:
		return Observe, `the rule's mode is "observe"`
	case in.Paused != "":
		return Observe, "paused: " + in.Paused
	}
	for i := range r.Steps {
		if info := e.action(r.Steps[i].Action); info.Touches != TouchesNothing && info.Missing != "" {
			return Observe, fmt.Sprintf("%s cannot work here: %s", info.Name, info.Missing)
		}
	}
	if target != nil && in.OptOut != nil {
		if why := in.OptOut(target); why != "" {
			return Observe, why
		}
	}
	return Enforce, "daemon and rule enforce"
}

// decide takes the due steps: telling first, then at most one that touches, the
// one with the largest effect.
func (e *Engine) decide(list []*due, in *Input, out *Output) {
	e.tell(list, in, out)
	touching := slices.DeleteFunc(slices.Clone(list), func(d *due) bool {
		return d.step == nil || d.info.Touches == TouchesNothing
	})
	slices.SortStableFunc(touching, func(a, b *due) int { return cmp.Compare(b.sub.bytes, a.sub.bytes) })
	acting := *in
	for _, d := range touching {
		e.touch(d, &acting, out)
		if n := len(out.Decisions); n > 0 && out.Decisions[n-1].Record.Choice == record.ChoseAct && out.Decisions[n-1].Info.Touches != TouchesNothing {
			acting.Busy = UnderWay(out.Decisions[n-1].Rule.Name)
		}
	}
	for _, d := range list {
		if d.step == nil {
			e.note(d, in, out, record.ChoseNothing, "", "exhausted: every step was taken, and the condition still holds")
		}
	}
}

// touch decides a step that touches the host or an owner.
func (e *Engine) touch(d *due, in *Input, out *Output) {
	s := d.state
	mem := &e.mem
	if d.mode != Enforce {
		mem = &e.shadow
	}
	a := e.attempt(d, in, mem)
	if g, why := refused(a); why != "" {
		choice := record.ChoseRefuse
		switch {
		case g.name == "budget":
			choice = record.ChoseHold
		case g.waits != never:
			choice = record.ChoseWait
		}
		if g.name == "stale" {
			out.WantReading = true
		}
		e.note(d, in, out, choice, g.name, why)
		switch {
		case g.waits <= 0:
			s.waits = nil // what holds the step for long is no part of its patience
		case s.waits == nil:
			s.waits = in.moment()
		}
		if g.waits == never || g.waits > 0 && in.Now.Since(*s.waits) >= g.waits {
			s.next(in.Now)
		}
		return
	}
	keys := budgetKeys(prices(s.rule, d.step, a.owner, e.cfg.HostBudget))
	if d.mode != Enforce {
		note(&e.shadow.Acted, s.rule.Name, s.key, in.Now)
		e.shadow.spend("", keys, 0, in.Now)
		e.note(d, in, out, record.ChoseDryRun, "", "would act, but "+d.why)
		s.next(in.Now)
		return
	}
	s.acting = true
	dec := e.decision(d, in, record.ChoseAct, "", "the condition holds and nothing stands against it")
	dec.Budget = keys
	out.Decisions = append(out.Decisions, dec)
}

func (e *Engine) attempt(d *due, in *Input, mem *Memory) *attempt {
	a := &attempt{
		rule: d.state.rule, step: d.step, info: d.info, key: d.state.key, in: in, cfg: &e.cfg, mem: mem,
		mode: d.mode, why: d.why, holds: Yes, seen: in.Now, fired: d.state.fired,
	}
	if d.info.Touches != TouchesNothing {
		a.owner = d.sub.target // also where it touches the host: it may do so for this owner
	}
	if a.owner != nil {
		if s, ok := e.seen[a.owner.Key]; ok {
			a.seen = s.since
		}
	}
	return a
}

// tell takes the due steps that touch nothing: one decision for all keys of a
// rule that are at the same step.
func (e *Engine) tell(list []*due, in *Input, out *Output) {
	type group struct {
		rule *Rule
		step int
	}
	byStep := make(map[group][]*due)
	var order []group
	for _, d := range list {
		if d.step == nil || d.info.Touches != TouchesNothing {
			continue
		}
		rule, key := d.state.rule, d.state.key
		if at, ok := e.mem.Told[pair(rule.Name, told(key, d))]; ok && in.Now.Since(at) < rule.Cooldown {
			e.note(d, in, out, record.ChoseHold, "told", fmt.Sprintf("told %s ago, the cooldown is %s", in.Now.Since(at).Round(time.Second), rule.Cooldown))
			d.state.tell()
			d.state.next(in.Now)
			continue
		}
		g := group{rule, d.state.step}
		if byStep[g] == nil {
			order = append(order, g)
		}
		byStep[g] = append(byStep[g], d)
	}
	for _, g := range order {
		keys := byStep[g]
		slices.SortStableFunc(keys, func(a, b *due) int { return cmp.Compare(b.sub.bytes, a.sub.bytes) })
		first := keys[0]
		if g.rule.ForEach != Host {
			if len(e.alerts) >= maxAlerts {
				for _, d := range keys {
					e.note(d, in, out, record.ChoseWait, "alerts", fmt.Sprintf("%d alerts were given within a minute", maxAlerts))
				}
				continue
			}
			e.alerts = append(e.alerts, in.Now)
		}
		dec := e.decision(first, in, record.ChoseAct, "", "telling is never blocked")
		dec.Keys = nil
		for _, d := range keys {
			dec.Keys = append(dec.Keys, d.state.key)
			d.state.acting = true
			d.state.tell()
			note(&e.mem.Told, g.rule.Name, told(d.state.key, d), in.Now)
		}
		if len(keys) > 1 {
			dec.Record.Why = fmt.Sprintf("telling is never blocked; %d keys of the rule fire", len(keys))
		}
		out.Decisions = append(out.Decisions, dec)
	}
}

// told is what an alert is remembered by: those of two steps are two.
func told(key string, d *due) string {
	return key + "\x00" + strconv.Itoa(d.state.step+1) + " " + d.step.Action
}

// tell notes that the step at hand told somebody.
func (s *state) tell() {
	if !slices.Contains(s.told, s.step+1) {
		s.told = append(s.told, s.step+1)
	}
}

// note records a decision not to act, once for as long as it stays the same.
func (e *Engine) note(d *due, in *Input, out *Output, choice record.Choice, guard, why string) {
	id := string(choice) + " " + guard
	if d.state.last == id {
		return
	}
	d.state.last = id
	out.Decisions = append(out.Decisions, e.decision(d, in, choice, guard, why))
}

// decision describes what was decided and by which numbers.
func (e *Engine) decision(d *due, in *Input, choice record.Choice, guard, why string) Decision {
	s := d.state
	f := &in.Facts
	rec := record.Decision{
		Choice: choice, Guard: guard, Why: why, About: s.rule.About, RuleHash: s.rule.Hash,
		Step: s.step + 1, Mode: string(d.mode), ModeWhy: d.why,
		Condition: s.rule.When.String(), Numbers: s.rule.When.Numbers(d.vars),
		Level: f.Level.String(), RunnersUp: []record.Suspect{},
	}
	if f.Sample != nil {
		rec.Fill = f.Sample.Fill()
	}
	dec := Decision{Rule: s.rule, Keys: []string{s.key}, Info: d.info, Step: d.step}
	if d.step != nil {
		rec.Action, rec.Touches = d.step.Action, string(d.info.Touches)
	} else {
		rec.Step = len(s.rule.Steps)
	}
	if r := f.Reading; r != nil {
		age, coverage := f.Age.Seconds(), r.Ledger.Coverage
		rec.AgeSecs, rec.Coverage = &age, &coverage
		about := d.sub.target
		if about == nil {
			about = d.sub.about
		}
		if about != nil {
			suspect := Suspect(r, about)
			rec.Owner = &suspect
			rec.Predicted = &suspect.Bytes
			owner := *about // it is kept for long: not with all owners of the reading
			dec.Owner = &owner
		}
		for i := range r.Owners {
			if o := &r.Owners[i]; len(rec.RunnersUp) < maxRunnersUp && (about == nil || o.Key != about.Key) {
				rec.RunnersUp = append(rec.RunnersUp, Suspect(r, o))
			}
		}
	}
	dec.Record = rec
	s.decided = record.Decision{Choice: choice, Guard: guard, Why: why}
	return dec
}

func budgetKeys(list []price) []string {
	keys := make([]string, len(list))
	for i, p := range list {
		keys[i] = p.key
	}
	return keys
}
