package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// oracle knows what was intended and done, from the outside: what the store was
// given, and what the runner was called with.
type oracle struct {
	intents  map[string]*intended  // touching ones, by action
	done     []*intended           // those whose action was run, the oldest first
	touching int                   // runs under way
	firings  int                   // so far
	births   map[int]time.Duration // of processes, on the world's clock
	lentBase triple                // what was raised
	telling  map[string]*life      // what was to be told, by action
	boxed    map[string]bool       // what was in the outbox once, by action
}

// intended is an intent to touch, with what was so when it was made.
type intended struct {
	rec    record.Record
	at     time.Duration // truth
	law    *lawSpec
	firing int // which one of the key's
	life   *life
	work   string        // of the target
	per    time.Duration // the longest budget that it is paid from
	ran    bool
	forget bool // an operator reset its rule
}

func (n *intended) byHand() bool { return n.rec.Intent.Decision.By != nil }

// firingKey is a rule and key, by which the firings are counted.
type firingKey struct{ rule, key string }

type firing struct {
	n        int
	incident string
}

// appended takes a record that a daemon made. mu is held.
func (w *world) appended(l *life, rec *record.Record) {
	at := w.truth()
	switch rec.Kind {
	case record.KindState:
		k := firingKey{rec.Rule, rec.Key}
		w.note("%s %s %s: %s", rec.Rule, rec.Key, rec.State.Phase, rec.State.Why)
		switch rec.State.Phase {
		case record.Firing:
			w.seen["fired"] = true
			w.firings++
			l.firing[k] = firing{w.firings, rec.Incident}
		case record.Ended:
			w.seen["end "+string(rec.State.End)] = true
			delete(l.firing, k)
		}
	case record.KindDecision:
		d := rec.Decision
		if d.Choice == record.ChoseAct && d.Touches == string(policy.TouchesNothing) {
			w.telling[rec.Action] = l
		}
		w.note("%s %s decided %s of step %d %s (%s): %s", rec.Rule, rec.Key, d.Choice, d.Step, d.Action, d.Guard, d.Why)
		w.seen["choice "+string(d.Choice)] = true
		if d.Guard != "" {
			w.seen["guard "+d.Guard] = true
		}
		if d.By != nil {
			w.seen["by hand "+string(d.Choice)] = true
		}
	case record.KindIntent:
		d := &rec.Intent.Decision
		l.open[rec.Action] = true
		if d.Touches == string(policy.TouchesNothing) {
			return
		}
		w.note("%s %s intends %s, paid from %q", rec.Rule, rec.Key, rec.Action, rec.Intent.Budget)
		n := &intended{rec: *rec, at: at, law: l.law, firing: l.firing[firingKey{rec.Rule, rec.Key}].n, life: l}
		if s := w.rules[d.RuleHash]; s != nil {
			n.per = max(s.Budget.Per, s.Steps[d.Step-1].Budget.Per, l.law.HostBudget.Per)
		}
		if d.Owner != nil {
			if o := w.find(d.Owner.Key); o != nil {
				n.work = o.work
			}
		}
		w.intents[rec.Action] = n
		w.meddle(l, n)
	case record.KindResult:
		r := rec.Result
		if n := w.intents[rec.Action]; n == nil || r.Outcome != record.Done {
			delete(l.open, rec.Action)
		}
		w.note("%s %s result %s: %s %s: %s", rec.Rule, rec.Key, rec.Action, r.Outcome, r.Code, r.Message)
		w.seen["result "+string(r.Outcome)] = true
		if n := w.intents[rec.Action]; n != nil && !n.ran && r.Outcome == record.Refused {
			w.seen["guard "+r.Code] = true
		}
	case record.KindEffect:
		delete(l.open, rec.Action)
		w.note("%s %s effect %s: %s", rec.Rule, rec.Key, rec.Action, rec.Effect.Verdict)
		w.seen["effect "+string(rec.Effect.Verdict)] = true
	case record.KindEvent:
		w.note("event %s: %s", rec.Event.ID, rec.Event.Text)
		w.seen["event "+rec.Event.ID] = true
	}
}

// note keeps a line of what happened, for who reads of a failure. mu is held.
func (w *world) note(format string, args ...any) {
	w.trace = append(w.trace, fmt.Sprintf("%9.3f ", w.truth().Seconds())+fmt.Sprintf(format, args...))
}

// violation notes what must never happen. mu is held.
func (w *world) violation(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.note("VIOLATION: %s", text)
	w.wrong = append(w.wrong, text)
}

// mayTouch judges a run of an action that touches something, by what its daemon
// was told last. mu is held.
func (w *world) mayTouch(l *life, action string, req *remediate.Request) *intended {
	w.seen["acted"] = true
	n := w.intents[req.ActionID]
	wrong := func(format string, args ...any) {
		w.violation("%s on %s by %s: %s", action, req.Key, req.Rule, fmt.Sprintf(format, args...))
	}
	if w.touching != 0 {
		wrong("another action is under way")
	}
	if n == nil || !slices.ContainsFunc(w.kept.log, func(r record.Record) bool { return r.Kind == record.KindIntent && r.Action == req.ActionID }) {
		wrong("its intent is not durable")
		return nil
	}
	if n.ran {
		wrong("it was run before")
	}
	d := &n.rec.Intent.Decision
	s := w.rules[d.RuleHash]
	i := slices.IndexFunc(l.law.Rules, func(r *policy.Rule) bool { return r.Hash == d.RuleHash && r.Name == req.Rule })
	if s == nil || i < 0 || req.Step < 1 || req.Step > len(s.Steps) || s.Steps[req.Step-1].Action != action {
		wrong("no rule says so")
		return n
	}
	info := l.law.Actions[action]
	w.judgeMode(l, s, n, info, req, wrong)
	w.judgeReading(l, s, info, wrong)
	w.judgeOwner(l, s, n, info, req, wrong)
	w.judgeSpending(s, n, &s.Steps[req.Step-1], wrong)
	return n
}

type complaint func(format string, args ...any)

// judgeMode: who may act at all.
func (w *world) judgeMode(l *life, s *ruleSpec, n *intended, info policy.ActionInfo, req *remediate.Request, wrong complaint) {
	p := l.law
	if w.stop != "" {
		wrong("everything is stopped")
	}
	if info.Missing != "" {
		wrong("it lacks rights")
	}
	if age := w.truth() - l.started; age < p.SettleStart {
		wrong("the daemon runs for %s only, of %s", age, p.SettleStart)
	}
	if n.byHand() {
		return
	}
	switch {
	case p.Mode != policy.Enforce, s.Mode != policy.Enforce, p.Forced != "":
		wrong("the mode is to observe")
	case w.paused != "":
		wrong("it is paused")
	case req.Owner != nil && p.opted[req.Owner.Key]:
		wrong("the owner opted out")
	}
}

// judgeReading: what is known must be new enough, whole enough, and match.
func (w *world) judgeReading(l *life, s *ruleSpec, info policy.ActionInfo, wrong complaint) {
	r := l.given
	if r == nil {
		wrong("there was no reading")
		return
	}
	if age := w.truth() - l.givenAt; age > 5*time.Second {
		wrong("the last reading is %s old", age)
	}
	least := l.law.MinCoverage
	if s.MinCoverage != nil {
		least = *s.MinCoverage
	}
	if r.Ledger.Coverage < least {
		wrong("coverage is %g of %g", r.Ledger.Coverage, least)
	}
	if info.Touches == policy.TouchesOwner {
		if r.Partial {
			wrong("the reading is partial")
		}
		if r.IndexAge > 30*time.Second {
			wrong("processes were read %s ago", r.IndexAge)
		}
	}
	if info.Lease && r.Trend.Verdict != nil && r.Trend.Verdict.Kind == reading.Leak {
		wrong("it is a leak that is lent to")
	}
	if age := w.truth() - l.sampledAt; s.samples && age > 5*time.Second {
		wrong("the last sample is %s old", age)
	}
}

// judgeOwner: the target must be the one that was meant, and one that may be
// touched; and the rule must hold for it.
func (w *world) judgeOwner(l *life, s *ruleSpec, n *intended, info policy.ActionInfo, req *remediate.Request, wrong complaint) {
	m := moment{reading: l.given, orphans: l.sample.Orphans, fill: float64(l.sample.Used) / float64(w.limits(l).Max)}
	if l.given == nil {
		return
	}
	if s.ForEach != policy.Host {
		m.owner = ownerOf(l.given, req.Key)
		if m.owner == nil {
			wrong("its key holds nothing")
			return
		}
	}
	if !s.holds(&m) {
		wrong("%s does not hold", s.When)
	}
	if req.Owner == nil {
		if info.Touches == policy.TouchesOwner {
			wrong("there is no target")
		}
		return
	}
	o := ownerOf(l.given, req.Owner.Key)
	meant := n.rec.Intent.Decision.Owner
	switch {
	case o == nil:
		wrong("the target %s is gone", req.Owner.Key)
		return
	case meant == nil || meant.Key != o.Key, meant.InvocationID != o.InvocationID,
		!slices.ContainsFunc(o.Holders, func(h reading.Holder) bool { return h == meant.Holders[0] }):
		wrong("the target %s is not who was meant", o.Key)
	case s.ForEach == policy.Host && o.Key != l.given.Owners[0].Key:
		wrong("the target %s is not the biggest", o.Key)
	case s.ForEach != policy.Host && o.Key != req.Key:
		wrong("the target %s is not the one that fires", o.Key)
	}
	switch {
	case strings.Contains(o.Key, "bystander"):
		wrong("a bystander")
	case o.Kind == reading.KindKernel, o.Kind == reading.KindUnresolved:
		wrong("the target is %s", o.Kind)
	case o.Protected != "":
		wrong("the target is protected")
	case o.Shared:
		wrong("the target's sockets are shared")
	case o.Unit != "" && (!o.UnitVerified || o.Manager != "system" || o.Kind == reading.KindUserService):
		wrong("the target is no unit of PID 1's")
	case o.Verdict != nil && o.Verdict.Kind == reading.SlowPeer && !info.Connections:
		wrong("the target is a slow peer's victim")
	}
	var strong int64
	for _, e := range evidenceOf[info.Name] {
		strong += o.Evidence[e].Bytes
	}
	if 2*strong < o.Sum.Bytes-64 {
		wrong("evidence for %d of %d bytes only", strong, o.Sum.Bytes)
	}
	if born, ok := w.births[o.Holders[0].PID]; ok && w.truth()-born < l.law.SettleOwner-20*time.Millisecond {
		wrong("the target is %s old, of %s", w.truth()-born, l.law.SettleOwner)
	}
}

// limits are those that fill is measured by: without a lease.
func (w *world) limits(l *life) reading.TCPMem {
	if triple(l.sample.Mem) == w.raised {
		return reading.TCPMem(w.lentBase)
	}
	return l.sample.Mem
}

// judgeSpending: cooldowns and budgets, by when each action was decided.
func (w *world) judgeSpending(s *ruleSpec, n *intended, step *policy.Step, wrong complaint) {
	var ofOwner, ofRule, ofHost int
	within := func(p *intended, b policy.Budget) int {
		// A longer budget that came later need not know of it.
		if d := n.at - p.at + time.Millisecond; d < b.Per && d < max(p.per, time.Hour) {
			return 1
		}
		return 0
	}
	rule, host := s.Budget, n.law.HostBudget
	for _, p := range w.done {
		if p.forget || p == n {
			continue
		}
		if p.rec.Rule == n.rec.Rule && p.rec.Key == n.rec.Key && (p.firing != n.firing || p.life != n.life) && n.at-p.at < s.Cooldown-time.Millisecond {
			wrong("the rule acted on it %s ago, its cooldown is %s", n.at-p.at, s.Cooldown)
		}
		if p.rec.Intent.Decision.Action == step.Action && p.work == n.work {
			ofOwner += within(p, step.Budget)
		}
		if p.rec.Rule == n.rec.Rule {
			ofRule += within(p, rule)
		}
		ofHost += within(p, host)
	}
	for _, b := range []struct {
		of   string
		n    int
		than policy.Budget
	}{{"owner", ofOwner, step.Budget}, {"rule", ofRule, rule}, {"host", ofHost, host}} {
		if b.n >= b.than.Count {
			wrong("%d actions of the %s before it, of a budget of %s", b.n, b.of, b.than)
		}
	}
}

// judgeEnd looks at the records once everything is over: the last daemon has
// stopped in order.
func (w *world) judgeEnd() {
	intents, results, effects := make(map[string]int), make(map[string]int), make(map[string]int)
	outcome := make(map[string]record.Outcome)
	for i := range w.kept.log {
		switch r := &w.kept.log[i]; r.Kind {
		case record.KindIntent:
			intents[r.Action]++
			if results[r.Action] != 0 {
				w.violation("%s had its result before its intent", r.Action)
			}
		case record.KindResult:
			if r.Action != "" {
				results[r.Action]++
				outcome[r.Action] = r.Result.Outcome
			}
		case record.KindEffect:
			effects[r.Action]++
		}
	}
	for id, l := range w.telling {
		if intents[id] == 0 && !w.boxed[id] && !l.killed && l.written {
			w.violation("%s was to be told, and was forgotten", id)
		}
	}
	for id, n := range intents {
		if n != 1 || results[id] != 1 {
			w.violation("%s has %d intents and %d results", id, n, results[id])
		}
		if p := w.intents[id]; p != nil && (effects[id] > 1 || effects[id] == 1 && outcome[id] != record.Done) {
			w.violation("%s came out as %s and has %d effects", id, outcome[id], effects[id])
		}
		if p := w.intents[id]; p != nil && outcome[id] == record.Done && effects[id] == 0 && !p.life.killed && p.life.written {
			w.violation("%s was done, and its effect has no record", id)
		}
	}
	for id := range results {
		if intents[id] == 0 && outcome[id] != record.DryRun {
			w.violation("%s has a result and no intent", id)
		}
	}
	if w.touching != 0 {
		w.violation("%d actions still run", w.touching)
	}
	if w.live != w.base {
		w.violation("net.ipv4.tcp_mem is %s in the end, not %s", w.live, w.base)
	}
	if len(w.kept.leases.Leases) != 0 {
		w.violation("a lease is left in the end")
	}
	for id, in := range w.kept.incidents {
		if in.Ended == nil && w.lives[len(w.lives)-1].written {
			w.violation("the incident %s of %s has no end", id, in.Rule)
		}
	}
}
