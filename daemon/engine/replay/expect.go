package replay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Expect is what a scene must, or must not, bring about. An empty field
// matches all.
type Expect struct {
	Rule   string
	Key    string
	Phase  record.Phase
	Choice record.Choice
	Action string
	Guard  string
	After  time.Duration // from the start of the scene
	Within time.Duration // from the start; 0: until its end
	Never  bool
}

type rawExpect struct {
	Rule   string   `toml:"rule"`
	Key    string   `toml:"key"`
	Phase  string   `toml:"phase"`
	Choice string   `toml:"choice"`
	Action string   `toml:"action"`
	Guard  string   `toml:"guard"`
	After  duration `toml:"after"`
	Within duration `toml:"within"`
	Never  bool     `toml:"never"`
}

func (s *Scene) expects(raw []rawExpect) error {
	var errs []error
	one := func(n int, what, word string, words []string) {
		if word != "" && !slices.Contains(words, word) {
			errs = append(errs, fmt.Errorf("expect %d: %s = %q: want one of %s", n, what, word, strings.Join(words, ", ")))
		}
	}
	for i, x := range raw {
		if x.Rule == "" {
			errs = append(errs, fmt.Errorf("expect %d: want the name of a rule", i+1))
		}
		one(i+1, "phase", x.Phase, []string{string(record.Pending), string(record.Firing), string(record.Ended)})
		one(i+1, "choice", x.Choice, choices())
		one(i+1, "guard", x.Guard, append(policy.GuardNames(), "told", "alerts"))
		if x.Phase != "" && (x.Choice != "" || x.Action != "" || x.Guard != "") {
			errs = append(errs, fmt.Errorf("expect %d: a phase has no choice, action or guard: write two", i+1))
		}
		s.Expect = append(s.Expect, Expect{
			Rule: x.Rule, Key: x.Key, Phase: record.Phase(x.Phase), Choice: record.Choice(x.Choice), Action: x.Action, Guard: x.Guard,
			After: time.Duration(x.After), Within: time.Duration(x.Within), Never: x.Never,
		})
	}
	return errors.Join(errs...)
}

func choices() []string {
	return []string{
		string(record.ChoseAct), string(record.ChoseDryRun), string(record.ChoseRefuse), string(record.ChoseHold),
		string(record.ChoseWait), string(record.ChoseNothing),
	}
}

// String writes the expectation as a sentence.
func (x Expect) String() string {
	parts := []string{x.Rule}
	for _, p := range []struct{ what, value string }{
		{"for", x.Key}, {"is", string(x.Phase)}, {"chooses", string(x.Choice)}, {"about", x.Action}, {"by guard", x.Guard},
	} {
		if p.value != "" {
			parts = append(parts, p.what+" "+p.value)
		}
	}
	if x.After > 0 {
		parts = append(parts, "after "+x.After.String())
	}
	if x.Within > 0 {
		parts = append(parts, "within "+x.Within.String())
	}
	if x.Never {
		parts = append(parts, "never")
	}
	return strings.Join(parts, " ")
}

// Check gives what an expectation found wrong, "" where it holds. start is the
// scene's.
func (x Expect) Check(start time.Time, events []Event) string {
	var near *Event
	best := 0
	for i := range events {
		e := &events[i]
		if e.Rule != x.Rule || x.Key != "" && e.Key != x.Key {
			continue
		}
		if n := x.likeness(e); n >= best {
			near, best = e, n
		}
		at := e.At.Sub(start)
		switch {
		case !x.matches(e) || at < x.After:
		case x.Within > 0 && at > x.Within:
			return x.otherwise("it did at " + at.String())
		case x.Never:
			return "it did, at " + at.String()
		default:
			return ""
		}
	}
	if near == nil {
		return x.otherwise("the rule did nothing")
	}
	return x.otherwise("the nearest it did was at " + near.At.Sub(start).String() + ": " + near.Words())
}

func (x Expect) otherwise(found string) string {
	if x.Never {
		return ""
	}
	return found
}

func (x Expect) matches(e *Event) bool {
	if e.State != nil {
		return x.Choice == "" && x.Action == "" && x.Guard == "" && (x.Phase == "" || x.Phase == e.State.Phase)
	}
	d := e.Decision
	return x.Phase == "" && (x.Choice == "" || x.Choice == d.Choice) && (x.Action == "" || x.Action == d.Action) &&
		(x.Guard == "" || x.Guard == d.Guard)
}

// likeness counts in what an event is as expected.
func (x Expect) likeness(e *Event) int {
	n := 0
	count := func(is bool) {
		if is {
			n++
		}
	}
	if e.State != nil {
		count(x.Phase == e.State.Phase)
		return n
	}
	count(x.Choice == e.Decision.Choice)
	count(x.Action != "" && x.Action == e.Decision.Action)
	count(x.Guard != "" && x.Guard == e.Decision.Guard)
	return n
}

// Words says in a clause what the event was. Names are as they came.
func (e *Event) Words() string {
	if s := e.State; s != nil {
		words := string(s.Phase)
		if s.End != "" {
			words += " (" + string(s.End) + ")"
		}
		return words + ": " + s.Why
	}
	d := e.Decision
	words := string(d.Choice)
	if d.Action != "" {
		words += " " + d.Action
	}
	if d.Guard != "" {
		words += " by " + d.Guard
	}
	return words + ": " + d.Why
}
