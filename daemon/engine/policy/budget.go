package policy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxSpends bounds the memory of what was spent. Host budgets alone keep it far
// below; beyond it the budgets are called spent (see Memory.Distrusted).
const maxSpends = 10_000

// maxTold bounds the memory of alerts. Processes come and go, and each is a key.
const maxTold = 10_000

// Memory is what must outlive a restart: what was spent from budgets, and when
// a rule last acted on a key, or told of it. The zero Memory is that of a new
// host.
type Memory struct {
	Version int     `json:"version"`
	Spends  []Spend `json:"spends"`
	// Acted and Told are keyed by rule and key, see pair.
	Acted map[string]record.Stamp `json:"acted"`
	Told  map[string]record.Stamp `json:"told"`
	// Distrusted is when the stored memory was found lost or broken: budgets
	// count as spent from then on for as long as they last.
	Distrusted *record.Stamp `json:"distrusted,omitempty"`
}

// Spend is one action, paid from each of its keys.
type Spend struct {
	Action string       `json:"action"` // its id: an action is paid for once
	Keys   []string     `json:"keys"`
	At     record.Stamp `json:"at"`
	// Per is the longest budget that it was paid from: the rule may be gone for
	// a while, by mistake.
	Per time.Duration `json:"per,omitempty"`
}

// Clone returns a copy that shares nothing with m.
func (m Memory) Clone() Memory {
	m.Spends = slices.Clone(m.Spends)
	m.Acted, m.Told = maps.Clone(m.Acted), maps.Clone(m.Told)
	return m
}

func pair(rule, key string) string { return rule + "\x00" + key }

func note(m *map[string]record.Stamp, rule, key string, at record.Stamp) {
	if *m == nil {
		*m = make(map[string]record.Stamp)
	}
	(*m)[pair(rule, key)] = at
}

// spend pays for an action; a second call with its id changes nothing.
func (m *Memory) spend(action string, keys []string, per time.Duration, at record.Stamp) {
	if action != "" && slices.ContainsFunc(m.Spends, func(s Spend) bool { return s.Action == action }) {
		return
	}
	m.Spends = append(m.Spends, Spend{action, keys, at, per})
}

// left is how often b may still be spent by the key at the time now.
func (m *Memory) left(key string, b Budget, now record.Stamp) int {
	if m.Distrusted != nil && now.Since(*m.Distrusted) < b.Per {
		return 0
	}
	n := b.Count
	for _, s := range m.Spends {
		if now.Since(s.At) < b.Per && slices.Contains(s.Keys, key) {
			n--
		}
	}
	return n
}

// forget drops what no budget or cooldown asks for any more.
func (m *Memory) forget(now record.Stamp, longest time.Duration) {
	old := func(at record.Stamp) bool { return now.Since(at) >= longest }
	m.Spends = slices.DeleteFunc(m.Spends, func(s Spend) bool { return now.Since(s.At) >= max(longest, s.Per) })
	maps.DeleteFunc(m.Acted, func(_ string, at record.Stamp) bool { return now.Since(at) >= max(longest, MaxCooldown) })
	maps.DeleteFunc(m.Told, func(_ string, at record.Stamp) bool { return old(at) })
	if m.Distrusted != nil && old(*m.Distrusted) {
		m.Distrusted = nil
	}
	if len(m.Spends) > maxSpends {
		m.Spends = nil
		m.Distrusted = &now
	}
	if len(m.Told) > maxTold {
		m.Told = nil // told again at worst
	}
}

// price is one budget that an action is paid from.
type price struct {
	key    string
	budget Budget
}

// prices lists what a step on an owner (nil: the host) is paid from: the
// step's budget for each name by which the owner is known across restarts, the
// rule's, and the host's.
func prices(r *Rule, step *Step, o *reading.Owner, host Budget) []price {
	own := cmp.Or(step.Budget, DefaultStepBudget)
	var list []price
	if o == nil {
		list = append(list, price{"host " + step.Action, own})
	} else {
		for _, l := range lineage(o) {
			list = append(list, price{l + " " + step.Action, own})
		}
	}
	return append(list,
		price{"rule " + r.Name, cmp.Or(r.Budget, DefaultRuleBudget)},
		price{"host", cmp.Or(host, DefaultHostBudget)})
}

// lineage names an owner by what survives its restart, the narrowest first: a
// unit and its template; the controller of a pod, as far as the pod's name
// tells it; a container's name; command and user of a process.
func lineage(o *reading.Owner) []string {
	var names []string
	switch {
	case o.Pod != nil && o.Pod.Name != "":
		names = append(names, "pod "+o.Pod.Namespace+"/"+controller(o.Pod.Name))
	case o.Container != nil:
		names = append(names, "container "+cmp.Or(o.Container.Name, o.Container.ID))
	case o.Unit != "":
		names = append(names, "unit "+o.Manager+"/"+o.Unit)
		if prefix, rest, ok := strings.Cut(o.Unit, "@"); ok {
			if i := strings.LastIndexByte(rest, '.'); i > 0 {
				names = append(names, "unit "+o.Manager+"/"+prefix+"@"+rest[i:])
			}
		}
	default:
		uid := "?"
		if o.UID != nil {
			uid = itoa(int64(*o.UID))
		}
		names = append(names, "process "+o.Command+" of "+uid)
	}
	return names
}

// controller takes off a pod's name what its controller made up: the five
// letters of a pod, with the hash of a ReplicaSet before them, or the number
// of a StatefulSet's pod. What it takes off too much makes two workloads share
// a budget: the careful side.
func controller(pod string) string {
	base, last, ok := cutLast(pod)
	switch {
	case !ok:
		return pod
	case strings.Trim(last, "0123456789") == "":
		return base
	case len(last) != 5 || !generated(last):
		return pod
	}
	if b, hash, ok := cutLast(base); ok && len(hash) >= 8 && len(hash) <= 10 && generated(hash) {
		return b
	}
	return base
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i <= 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// generated: the letters of k8s.io/apimachinery's rand.String.
func generated(s string) bool { return strings.Trim(s, "bcdfghjklmnpqrstvwxz2456789") == "" }
