package daemon

import (
	"fmt"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// ruleSpec is a rule beside what its condition means, said in Go.
type ruleSpec struct {
	*policy.Rule
	holds   func(m *moment) bool
	samples bool // the condition asks for a sample's values
}

// moment is what a condition is asked of.
type moment struct {
	fill    float64
	orphans int64
	reading *reading.Reading
	owner   *reading.Owner // nil for the host
}

// lawSpec is a policy of the test's.
type lawSpec struct {
	Policy
	opted map[string]bool // keys that opted out
}

var propertyActions = map[string]policy.ActionInfo{
	"notify":          {Touches: policy.TouchesNothing},
	"restart-unit":    {Touches: policy.TouchesOwner, Evidence: []string{"fd"}, EvidenceShare: 0.5, NeedsSockets: true},
	"signal-process":  {Touches: policy.TouchesOwner, Evidence: []string{"fd"}, EvidenceShare: 0.5},
	"destroy-sockets": {Touches: policy.TouchesOwner, Evidence: []string{"fd", "last-seen"}, EvidenceShare: 0.5, Connections: true, NeedsSockets: true},
	"own-tool":        {Touches: policy.TouchesOwner},
	"trim":            {Touches: policy.TouchesHost},
	"raise-tcp-mem":   {Touches: policy.TouchesHost, Lease: true},
}

// evidenceOf says by which evidence an action may touch, once more: nobody
// looks it up where the guards do.
var evidenceOf = map[string][]reading.Evidence{
	"restart-unit": {reading.FD}, "signal-process": {reading.FD}, "own-tool": {reading.FD}, "trim": {reading.FD}, "raise-tcp-mem": {reading.FD},
	"destroy-sockets": {reading.FD, reading.LastSeen},
}

// rule makes a rule.
func (w *world) rule(n int) *ruleSpec {
	rng := w.rng
	r := &policy.Rule{
		Name: fmt.Sprintf("rule-%d", n), About: "a rule", Severity: policy.Warning, Mode: policy.Enforce,
		For:      pick(rng, 0, 2*time.Second, 5*time.Second, 10*time.Second),
		Cooldown: pick(rng, time.Second, 20*time.Second, time.Minute, 4*time.Minute),
		Budget:   policy.Budget{Count: 1 + rng.IntN(6), Per: w.per()},
		ForEach:  pick(rng, policy.EachOwner, policy.EachOwner, policy.Unit, policy.Unit, policy.Container, policy.Process, policy.Host, policy.Host, policy.Host),
	}
	if chance(rng, 0.12) {
		r.Mode = policy.Observe
	}
	if chance(rng, 0.2) {
		r.MinCoverage = new(pick(rng, 0.2, 0.6, 0.99))
	}
	s := &ruleSpec{Rule: r}
	when, until := w.condition(s)
	actions := []string{"notify", "restart-unit", "restart-unit", "signal-process", "destroy-sockets", "own-tool", "trim"}
	if r.ForEach == policy.Host {
		r.TargetTop = chance(rng, 0.7)
		actions = append(actions, "raise-tcp-mem", "raise-tcp-mem", "raise-tcp-mem")
		if !r.TargetTop {
			actions = []string{"notify", "trim", "raise-tcp-mem"}
		}
	}
	for range 1 + rng.IntN(3) {
		step := policy.Step{
			Action: pick(rng, actions...), After: pick(rng, 0, 0, 2*time.Second, 8*time.Second),
			Budget:   policy.Budget{Count: 1 + rng.IntN(4), Per: w.per()},
			Settings: []byte(`{"duration":"20s"}`),
		}
		r.Steps = append(r.Steps, step)
	}
	r.When, r.Until = w.compile(when, r.ForEach), nil
	if until != "" {
		r.Until = w.compile(until, r.ForEach)
	}
	r.Hash = fmt.Sprintf("hash-%d-%d", n, len(w.rules))
	w.mu.Lock()
	w.rules[r.Hash] = s
	w.mu.Unlock()
	return s
}

func (w *world) per() time.Duration {
	return pick(w.rng, time.Minute, 3*time.Minute, time.Hour, 6*time.Hour)
}

// condition picks when a rule fires and, for some, until when.
func (w *world) condition(s *ruleSpec) (when, until string) {
	rng := w.rng
	kib, fill := int64(100+rng.IntN(600)), float64(2+rng.IntN(5))/10
	if s.ForEach == policy.Host {
		s.samples = true
		when, until = fmt.Sprintf("tcp.fill > %g", fill), fmt.Sprintf("tcp.fill < %g", fill/2)
		s.holds = func(m *moment) bool { return m.fill > fill }
		if chance(rng, 0.3) {
			most := int64(rng.IntN(25))
			when += fmt.Sprintf(" && orphans.count > %d", most)
			s.holds = func(m *moment) bool { return m.fill > fill && m.orphans > most }
		}
	} else {
		when, until = fmt.Sprintf("owner.bytes > %d * KiB", kib), fmt.Sprintf("owner.bytes < %d * KiB", kib/2)
		bytes := func(m *moment) bool { return m.owner.Sum.Bytes > kib<<10 }
		s.holds = bytes
		switch rng.IntN(5) {
		case 0:
			s.samples = true
			when += fmt.Sprintf(" && tcp.fill > %g", fill)
			s.holds = func(m *moment) bool { return bytes(m) && m.fill > fill }
		case 1:
			when += ` && owner.verdict == "leak"`
			s.holds = func(m *moment) bool {
				return bytes(m) && m.owner.Verdict != nil && m.owner.Verdict.Kind == reading.Leak
			}
		case 2:
			when += ` && owner.share > 0.25`
			s.holds = func(m *moment) bool {
				return bytes(m) && float64(m.owner.Sum.Bytes) > 0.25*float64(m.reading.Ledger.Seen)
			}
		}
	}
	if chance(rng, 0.3) {
		until = ""
	}
	return when, until
}

func (w *world) compile(text string, s policy.Scope) *policy.Condition {
	c, err := policy.Compile(text, s)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	return c
}

// law makes a policy.
func (w *world) law() *lawSpec {
	rng := w.rng
	p := &lawSpec{opted: make(map[string]bool)}
	p.Mode, p.MinCoverage = policy.Enforce, pick(rng, 0.5, 0.8)
	p.SettleStart = pick(rng, 0, 5*time.Second, 15*time.Second, 30*time.Second)
	p.SettleOwner = pick(rng, 0, 10*time.Second, 30*time.Second, time.Minute)
	p.HostBudget = policy.Budget{Count: 1 + rng.IntN(8), Per: w.per()}
	p.Sample = pick(rng, time.Second, 2*time.Second, 3*time.Second)
	p.Pressed = p.Sample * time.Duration(1+rng.IntN(3))
	p.Calm = p.Pressed * time.Duration(1+rng.IntN(5))
	for n := range 1 + rng.IntN(3) {
		p.Rules = append(p.Rules, w.rule(n).Rule)
	}
	w.amend(p)
	return p
}

// another makes a policy of one: some rules are the same, some are others, some
// are gone. What the daemon reads at its start only stays.
func (w *world) another(old *lawSpec) *lawSpec {
	p := &lawSpec{opted: make(map[string]bool)}
	p.Config = old.Config
	p.Rules = slices.Clone(old.Rules)
	p.Mode = policy.Enforce
	for i := range p.Rules {
		if chance(w.rng, 0.3) {
			var n int
			_, _ = fmt.Sscanf(p.Rules[i].Name, "rule-%d", &n)
			p.Rules[i] = w.rule(n).Rule
		}
	}
	if len(p.Rules) > 1 && chance(w.rng, 0.2) {
		p.Rules = p.Rules[1:]
	}
	w.amend(p)
	return p
}

// amend adds what stands against acting.
func (w *world) amend(p *lawSpec) {
	rng := w.rng
	p.Actions = make(map[string]policy.ActionInfo)
	for name, info := range propertyActions {
		info.Name = name
		p.Actions[name] = info
	}
	if chance(rng, 0.25) {
		step := pick(rng, pick(rng, p.Rules...).Steps...)
		info := p.Actions[step.Action]
		if info.Touches != policy.TouchesNothing {
			info.Missing = "it lacks a right"
			p.Actions[step.Action] = info
		}
	}
	if chance(rng, 0.06) {
		p.Mode = policy.Observe
	}
	if chance(rng, 0.04) {
		p.Forced = "a file is broken"
	}
	if chance(rng, 0.15) {
		w.mu.Lock()
		for _, o := range w.owners {
			if chance(rng, 0.3) {
				p.opted[o.Key] = true
			}
		}
		w.mu.Unlock()
		p.OptOut = func(o *reading.Owner) string {
			if p.opted[o.Key] {
				return "it opted out"
			}
			return ""
		}
	}
}
