package policy

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// FreesNothing is the code of an action that refused because it would free
// nothing: the next step need not wait.
const FreesNothing = "frees-nothing"

// Unrecorded is the code of an action that did not begin because the disk did
// not take its intent: its step is still to be taken.
const Unrecorded = "log-unwritable"

// Paid notes that an action that touches something is about to start: its
// budgets are spent, whatever comes of it.
func (e *Engine) Paid(action string, d *Decision, now record.Stamp) {
	if d.Info.Touches == TouchesNothing {
		return
	}
	e.mem.spend(action, d.Budget, e.longest(d.Rule), now)
	for _, key := range d.Keys {
		note(&e.mem.Acted, d.Rule.Name, key, now)
	}
}

// Interrupted takes an intent of an earlier run of the daemon that has no
// result: it counts.
func (e *Engine) Interrupted(intent *record.Record) {
	if intent.Intent == nil || len(intent.Intent.Budget) == 0 {
		return
	}
	var per time.Duration
	for _, c := range e.rules {
		if c.rule.Name == intent.Rule {
			per = e.longest(c.rule)
		}
	}
	e.mem.spend(intent.Action, intent.Intent.Budget, per, intent.Stamp)
	note(&e.mem.Acted, intent.Rule, intent.Key, intent.Stamp)
}

// Distrust calls every budget spent for as long as it lasts: what was stored
// of them is lost.
func (e *Engine) Distrust(now record.Stamp) { e.mem.Distrusted = &now }

// Resulted takes an action's result. What touched something and was done is
// waited for: Measured moves it on.
func (e *Engine) Resulted(d *Decision, outcome record.Outcome, code string, now record.Stamp) {
	e.each(d, func(s *state) {
		if outcome == record.Done && d.Info.Touches != TouchesNothing {
			return
		}
		s.acting = false
		if outcome == record.Refused && code == Unrecorded {
			return
		}
		s.next(now)
		s.free = outcome == record.Refused && code == FreesNothing
	})
}

// Measured takes an action's effect.
func (e *Engine) Measured(d *Decision, effect record.Verdict, now record.Stamp) {
	e.each(d, func(s *state) {
		s.acting = false
		if effect == record.Helped {
			s.ladder = ladder{step: s.step, clock: now, helped: true, finished: s.finished}
			return
		}
		s.next(now)
	})
}

// each gives the states that a decision is about and that are still at it.
func (e *Engine) each(d *Decision, do func(*state)) {
	for _, key := range d.Keys {
		s := e.states[d.Rule.Name][key]
		if s != nil && s.acting && s.rule.Hash == d.Rule.Hash && s.step+1 == d.Record.Step {
			do(s)
		}
	}
}

// Target is who an action is to touch, as of the last look; Owner is nil where
// that is the host.
type Target struct {
	Owner *reading.Owner
}

// Recheck looks at a decision again, right before it is carried out, by what is
// known now: it gives the target as it is now, or the guard that refuses and
// why.
func (e *Engine) Recheck(d *Decision, in *Input) (target *Target, guard, why string) {
	i := slices.IndexFunc(e.rules, func(c *cursor) bool { return c.rule.Name == d.Rule.Name && c.rule.Hash == d.Rule.Hash })
	if i < 0 {
		return nil, "mode", "the rule was changed"
	}
	// Of equal text, and with the protected units of now among the settings.
	d.Rule = e.rules[i].rule
	d.Step = &d.Rule.Steps[d.Record.Step-1]
	sub, ok := e.find(d.Rule, d.Key(), &in.Facts)
	dd := &due{sub: sub, step: d.Step, info: e.action(d.Step.Action), state: &state{rule: d.Rule, key: d.Key()}}
	holds := No
	if ok {
		dd.vars = HostVars(&in.Facts)
		if sub.about != nil {
			dd.vars = dd.vars.WithOwner(&in.Facts, sub.about, sub.rank)
		}
		holds = d.Rule.When.Eval(dd.vars)
	}
	dd.mode, dd.why = e.mode(d.Rule, sub.target, in)
	a := e.attempt(dd, in, &Memory{})
	a.then, a.holds = d, holds
	if g, why := refused(a); why != "" {
		return nil, g.name, why
	}
	return &Target{a.owner}, "", ""
}

// find gives the subject of a key.
func (e *Engine) find(r *Rule, key string, f *Facts) (subject, bool) {
	for _, sub := range r.subjects(f) {
		if sub.key == key {
			return sub, true
		}
	}
	return subject{}, false
}

// ByHand decides a step that a person asks for. It passes the same guards and is
// paid from the same budgets; only the mode does not count. The error says why
// there is nothing to decide.
func (e *Engine) ByHand(rule, key string, step int, by record.Caller, in *Input) (Decision, error) {
	i := slices.IndexFunc(e.rules, func(c *cursor) bool { return c.rule.Name == rule })
	if i < 0 {
		return Decision{}, fmt.Errorf("no rule is called %q", rule)
	}
	r := e.rules[i].rule
	if step < 1 || step > len(r.Steps) {
		return Decision{}, fmt.Errorf("the rule %s has %d steps", rule, len(r.Steps))
	}
	s := e.states[rule][key]
	switch {
	case s == nil || s.phase != record.Firing:
		return Decision{}, fmt.Errorf("%s does not fire for %s", rule, key)
	case s.acting:
		return Decision{}, errors.New("an action of it is under way")
	}
	sub, ok := e.find(r, key, &in.Facts)
	if !ok {
		return Decision{}, fmt.Errorf("%s holds no TCP memory any more", key)
	}
	vars := HostVars(&in.Facts)
	if sub.about != nil {
		vars = vars.WithOwner(&in.Facts, sub.about, sub.rank)
	}
	info := e.action(r.Steps[step-1].Action)
	d := &due{
		state: &state{rule: r, key: key, fired: s.fired, ladder: ladder{step: step - 1}}, sub: sub, vars: vars,
		step: &r.Steps[step-1], info: info, mode: Enforce, why: "asked for by hand",
	}
	dec := e.decision(d, in, record.ChoseAct, "", "asked for by hand")
	dec.Record.By = &by
	if info.Touches == TouchesNothing {
		return dec, nil
	}
	a := e.attempt(d, in, &e.mem)
	if r.When.Eval(vars) != Yes {
		dec.Record.Choice, dec.Record.Guard, dec.Record.Why = record.ChoseRefuse, "condition", "the condition does not hold now"
		return dec, nil
	}
	if g, why := refused(a); why != "" {
		dec.Record.Choice, dec.Record.Guard, dec.Record.Why = record.ChoseRefuse, g.name, why
		return dec, nil
	}
	dec.Budget = budgetKeys(prices(r, d.step, a.owner, e.cfg.HostBudget))
	return dec, nil
}
