package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// RuleStatus is where a rule stands, for people.
type RuleStatus struct {
	Rule    *Rule
	Mode    Mode // effective, but for what an owner may say against it
	ModeWhy string
	Keys    []KeyStatus // that pend or fire, the most bytes first
	Budgets []BudgetStatus
}

// KeyStatus is where a rule stands with a key.
type KeyStatus struct {
	Key    string
	Phase  record.Phase
	Since  record.Stamp
	Owner  *record.Suspect // as it was at the last change of phase, nil for the host
	Step   int             // the next one, from 1
	Action string          // of that step, "" after the last
	Acting bool
	// Next is how long until that step's turn, or while pending until the key
	// fires; nil where nothing follows, or not before an effect is measured.
	Next *time.Duration
	// Choice, Guard and Why are of the last decision.
	Choice record.Choice
	Guard  string
	Why    string
	// Cooldown is what is left of it.
	Cooldown time.Duration
}

// Standing is how many keys of a rule pend and fire, and whether a spent budget
// holds one of them.
type Standing struct {
	Rule            *Rule
	Pending, Firing int
	Held            bool
}

// Standings counts where every rule stands. Unlike Status it says nothing of a
// key, and so costs next to nothing.
func (e *Engine) Standings() []Standing {
	list := make([]Standing, 0, len(e.rules))
	for _, c := range e.rules {
		st := Standing{Rule: c.rule}
		for _, s := range e.states[c.rule.Name] {
			if s.phase == record.Firing {
				st.Firing++
			} else {
				st.Pending++
			}
			st.Held = st.Held || s.decided.Choice == record.ChoseHold && s.decided.Guard == "budget"
		}
		list = append(list, st)
	}
	return list
}

// BudgetStatus is what is left of a budget.
type BudgetStatus struct {
	Of     string
	Budget Budget
	Left   int
	// Next is how long until one more comes free, 0 where nothing is spent.
	Next time.Duration
}

// Status tells where every rule stands.
func (e *Engine) Status(in *Input) []RuleStatus {
	list := make([]RuleStatus, 0, len(e.rules))
	for _, c := range e.rules {
		st := RuleStatus{Rule: c.rule}
		st.Mode, st.ModeWhy = e.mode(c.rule, nil, in)
		for _, s := range e.sorted(c.rule.Name) {
			st.Keys = append(st.Keys, e.keyStatus(s, in.Now))
		}
		slices.SortStableFunc(st.Keys, func(a, b KeyStatus) int { return int(min(max(heldBy(b.Owner)-heldBy(a.Owner), -1), 1)) })
		st.Budgets = e.budgets(c.rule, in.Now)
		list = append(list, st)
	}
	return list
}

func heldBy(o *record.Suspect) int64 {
	if o == nil {
		return 0
	}
	return o.Bytes
}

func (e *Engine) keyStatus(s *state, now record.Stamp) KeyStatus {
	k := KeyStatus{
		Key: s.key, Phase: s.phase, Since: s.began, Owner: s.shown.Owner, Step: s.step + 1, Acting: s.acting,
		Choice: s.decided.Choice, Guard: s.decided.Guard, Why: s.decided.Why,
	}
	if s.step < len(s.rule.Steps) {
		k.Action = s.rule.Steps[s.step].Action
	}
	switch {
	case s.phase == record.Pending:
		k.Next = new(max(0, s.rule.For-now.Since(s.began)))
	case k.Action != "" && !s.acting:
		k.Next = new(max(0, s.wait(&s.rule.Steps[s.step])-now.Since(s.clock)))
	}
	if at, ok := e.mem.Acted[pair(s.rule.Name, s.key)]; ok {
		k.Cooldown = max(0, s.rule.Cooldown-now.Since(at))
	}
	return k
}

// budgets lists what a rule is paid from: its own and the host's, and those of
// owners of which something is spent.
func (e *Engine) budgets(r *Rule, now record.Stamp) []BudgetStatus {
	var list []BudgetStatus
	add := func(key string, b Budget) {
		if !slices.ContainsFunc(list, func(l BudgetStatus) bool { return l.Of == key }) {
			list = append(list, BudgetStatus{Of: key, Budget: b, Left: max(0, e.mem.left(key, b, now)), Next: e.mem.next(key, b, now)})
		}
	}
	touches := false
	for i := range r.Steps {
		step := &r.Steps[i]
		if e.action(step.Action).Touches == TouchesNothing {
			continue
		}
		if !touches {
			all := prices(r, step, nil, e.cfg.HostBudget)
			for _, p := range all[1:] {
				add(p.key, p.budget)
			}
			touches = true
		}
		own := prices(r, step, nil, e.cfg.HostBudget)[0].budget
		for _, s := range e.mem.Spends {
			if !slices.Contains(s.Keys, "rule "+r.Name) || now.Since(s.At) >= own.Per {
				continue
			}
			for _, key := range s.Keys {
				if name, ok := strings.CutSuffix(key, " "+step.Action); ok && name != "" {
					add(key, own)
				}
			}
		}
	}
	return list
}

// next is how long until one more of b comes free for the key.
func (m *Memory) next(key string, b Budget, now record.Stamp) time.Duration {
	var next time.Duration
	for _, s := range m.Spends {
		if age := now.Since(s.At); age < b.Per && slices.Contains(s.Keys, key) && (next == 0 || b.Per-age < next) {
			next = b.Per - age
		}
	}
	if m.Distrusted != nil {
		next = max(next, b.Per-now.Since(*m.Distrusted))
	}
	return next
}
