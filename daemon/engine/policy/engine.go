package policy

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Config is what an engine decides by. It is changed by Reload only.
type Config struct {
	Rules   []*Rule
	Actions map[string]ActionInfo
	Mode    Mode // the daemon's own

	MinCoverage float64 // of a reading that may be acted on, 0 to 1
	// SettleStart is how long after the start of the daemon nothing is touched,
	// SettleOwner how old an owner must be.
	SettleStart, SettleOwner time.Duration
	HostBudget               Budget

	// Sample, Calm and Pressed are the times between samples, and between
	// readings on a calm host and on one that is not.
	Sample, Calm, Pressed time.Duration
}

// Input is one moment: what is known of the host, and of the daemon itself.
type Input struct {
	Now   record.Stamp
	Facts Facts
	// Fresh: Facts.Reading was not yet seen by a turn.
	Fresh bool

	Started record.Stamp // the daemon
	Paused  string       // why touching is paused, "" where it is not
	Forced  string       // why the daemon may only observe, whatever its mode
	Stop    string       // why not even a person may act: the emergency stop
	Busy    string       // why no touching action can begin just now, "" where one can
	// Overtaken: Facts.Reading began before the last touching action ended.
	Overtaken bool
	// OptOut says why an owner is told of and not touched, "" where it may be;
	// nil where nobody opted out.
	OptOut func(*reading.Owner) string
}

// moment gives a copy of now to keep: a pointer into the input would keep the
// whole reading.
func (in *Input) moment() *record.Stamp {
	now := in.Now
	return &now
}

// Output is what a turn brought.
type Output struct {
	Changes   []Change
	Decisions []Decision
	// WantReading: a step waits for nothing but a full reading.
	WantReading bool
}

// Change is a change of phase of a rule's key.
type Change struct {
	Rule  *Rule
	Key   string
	State record.State
	Told  []int // the steps, from 1, by which somebody was told of it while it fired
}

// Decision is one that is new: a step that is due, or why it is not taken.
// Where Record.Choice is act, the caller runs the action and reports by Resulted
// and, if it touches something, by Measured.
type Decision struct {
	Rule   *Rule
	Keys   []string // the biggest first; several where one alert tells of them
	Info   ActionInfo
	Step   *Step
	Owner  *reading.Owner // the target, or who is told of; nil for the host
	Budget []string
	Record record.Decision
}

// Key is the one that the decision is about.
func (d *Decision) Key() string { return d.Keys[0] }

// maxKeys is for how many keys of a rule its condition may begin to hold at
// once: the biggest. A condition that holds for all of thousands says nothing,
// and must not take the memory of the host that it watches.
const maxKeys = 200

// Engine keeps the state of each rule and key. It is for one goroutine.
type Engine struct {
	cfg    Config
	mem    Memory // of what was done
	shadow Memory // of what would have been

	rules  []*cursor
	states map[string]map[string]*state // by rule, then key
	seen   map[string]sighting          // owners, by key
	alerts []record.Stamp               // of owners, within the last minute
}

// cursor is where a rule stands in time.
type cursor struct {
	rule     *Rule
	last     record.Stamp // the last evaluation
	interval time.Duration
	ran      bool
}

// sighting is since when an owner is known, as the one it is.
type sighting struct {
	since      record.Stamp
	invocation string
	holders    []reading.Holder
	turn       record.Stamp
}

// others: all processes of before are gone, as when a container is restarted in
// its place. What has an InvocationID says so by that.
func (s *sighting) others(now []reading.Holder) bool {
	return len(s.holders) > 0 && len(now) > 0 && !slices.ContainsFunc(now, func(h reading.Holder) bool {
		return slices.ContainsFunc(s.holders, func(b reading.Holder) bool { return b.PID == h.PID && b.StartTime == h.StartTime })
	})
}

// New returns an engine that remembers mem.
func New(cfg Config, mem Memory) *Engine {
	e := &Engine{mem: mem.Clone(), states: make(map[string]map[string]*state), seen: make(map[string]sighting)}
	e.Reload(cfg, record.Stamp{})
	return e
}

// Memory gives what must be stored.
func (e *Engine) Memory() Memory {
	m := e.mem.Clone()
	m.Version = record.Version
	return m
}

// Reload takes another configuration. The states of rules that are gone or
// changed end; the others go on.
func (e *Engine) Reload(cfg Config, now record.Stamp) []Change {
	old := e.rules
	e.cfg, e.rules = cfg, nil
	for _, r := range cfg.Rules {
		i := slices.IndexFunc(old, func(c *cursor) bool { return c.rule.Name == r.Name && c.rule.Hash == r.Hash })
		if i < 0 {
			e.rules = append(e.rules, &cursor{rule: r})
			continue
		}
		old[i].rule = r
		e.rules = append(e.rules, old[i])
		for _, s := range e.states[r.Name] {
			s.rule = r
		}
	}
	var changes []Change
	for _, c := range old {
		if !slices.Contains(e.rules, c) {
			changes = append(changes, e.endAll(c.rule, record.EndRuleChanged, "the rule was changed")...)
		}
	}
	return changes
}

// Reset ends the states of a rule and forgets its cooldowns, and what it has
// spent: an operator said that it may go on.
func (e *Engine) Reset(rule string, now record.Stamp) ([]Change, error) {
	i := slices.IndexFunc(e.rules, func(c *cursor) bool { return c.rule.Name == rule })
	if i < 0 {
		return nil, fmt.Errorf("no rule is called %q", rule)
	}
	changes := e.endAll(e.rules[i].rule, record.EndReset, "reset by hand")
	for _, m := range []*Memory{&e.mem, &e.shadow} {
		m.Distrusted = nil
		m.Spends = slices.DeleteFunc(m.Spends, func(s Spend) bool { return slices.Contains(s.Keys, "rule "+rule) })
		for _, stamps := range []map[string]record.Stamp{m.Acted, m.Told} {
			for k := range stamps {
				if r, _, _ := cutPair(k); r == rule {
					delete(stamps, k)
				}
			}
		}
	}
	return changes, nil
}

func (e *Engine) endAll(r *Rule, end record.End, why string) []Change {
	var changes []Change
	for _, s := range e.sorted(r.Name) {
		changes = append(changes, s.end(end, why))
	}
	delete(e.states, r.Name)
	return changes
}

// Turn evaluates the rules whose values are new.
func (e *Engine) Turn(in *Input) Output {
	var out Output
	e.forget(in.Now)
	e.sight(in)
	host := HostVars(&in.Facts)
	var due []*due
	for _, c := range e.rules {
		if c.rule.slow() && !in.Fresh {
			continue
		}
		due = append(due, e.evaluate(c, in, host, &out)...)
	}
	e.decide(due, in, &out)
	return out
}

// slow rules have something new to say with each full reading only.
func (r *Rule) slow() bool {
	return r.ForEach != Host || r.When.NeedsReading() || r.Until != nil && r.Until.NeedsReading()
}

// evaluate moves the states of a rule on, and lists the steps that are due.
func (e *Engine) evaluate(c *cursor, in *Input, host *Vars, out *Output) []*due {
	gap := c.ran && in.Now.Since(c.last) > 3*max(c.interval, e.cfg.Sample)
	c.last, c.ran, c.interval = in.Now, true, e.interval(c.rule, in)

	states := e.states[c.rule.Name]
	if gap {
		for _, s := range e.sorted(c.rule.Name) {
			if s.phase == record.Pending {
				out.Changes = append(out.Changes, s.end(record.EndGap, "readings were missing"))
				delete(states, s.key)
			}
			s.quiet, s.gone = nil, nil
		}
	}
	var list []*due
	holding := 0
	for _, sub := range c.rule.subjects(&in.Facts) {
		s := states[sub.key]
		vars := host
		if sub.about != nil {
			vars = host.WithOwner(&in.Facts, sub.about, sub.rank)
		}
		when := c.rule.When.Eval(vars)
		if when == Yes {
			holding++
		}
		if s == nil {
			if when != Yes || holding > maxKeys {
				continue
			}
			s = &state{rule: c.rule, key: sub.key, phase: record.Pending, began: in.Now}
			if states == nil {
				states = make(map[string]*state)
				e.states[c.rule.Name] = states
			}
			states[sub.key] = s
		}
		s.see(when, vars, sub, in, out, e)
		if s.phase == record.Ended {
			delete(states, sub.key)
			continue
		}
		if s.phase == record.Firing && when == Yes {
			if d := e.due(s, sub, vars, in); d != nil {
				list = append(list, d)
			}
		}
	}
	for _, s := range e.sorted(c.rule.Name) {
		if s.turn != in.Now && s.missing(in, out) {
			delete(states, s.key)
		}
	}
	return list
}

// interval is how long the next evaluation of a rule may take.
func (e *Engine) interval(r *Rule, in *Input) time.Duration {
	switch {
	case !r.slow():
		return e.cfg.Sample
	case in.Facts.Level > reading.Calm:
		return e.cfg.Pressed
	}
	return e.cfg.Calm
}

// sight keeps since when each owner is known.
func (e *Engine) sight(in *Input) {
	if !in.Fresh || in.Facts.Reading == nil {
		return
	}
	for i := range in.Facts.Reading.Owners {
		o := &in.Facts.Reading.Owners[i]
		s, ok := e.seen[o.Key]
		if !ok || s.invocation != o.InvocationID || o.InvocationID == "" && s.others(o.Holders) {
			s = sighting{since: in.Now, invocation: o.InvocationID}
		}
		s.turn, s.holders = in.Now, o.Holders
		e.seen[o.Key] = s
	}
	for key, s := range e.seen {
		if in.Now.Since(s.turn) > 3*e.cfg.Calm {
			delete(e.seen, key)
		}
	}
}

// forget bounds what is remembered.
func (e *Engine) forget(now record.Stamp) {
	longest := e.longest(&Rule{})
	for _, c := range e.rules {
		longest = max(longest, c.rule.Cooldown, e.longest(c.rule))
	}
	e.mem.forget(now, longest)
	e.shadow.forget(now, longest)
	e.alerts = slices.DeleteFunc(e.alerts, func(at record.Stamp) bool { return now.Since(at) >= time.Minute })
}

// longest is for how long what a rule spends may count.
func (e *Engine) longest(r *Rule) time.Duration {
	per := max(DefaultStepBudget.Per, DefaultRuleBudget.Per, cmp.Or(e.cfg.HostBudget, DefaultHostBudget).Per, r.Budget.Per)
	for i := range r.Steps {
		per = max(per, r.Steps[i].Budget.Per)
	}
	return per
}

// sorted lists a rule's states in the order of their keys.
func (e *Engine) sorted(rule string) []*state {
	list := make([]*state, 0, len(e.states[rule]))
	for _, s := range e.states[rule] {
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b *state) int { return cmp.Compare(a.key, b.key) })
	return list
}
