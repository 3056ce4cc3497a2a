package event

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// MaxLine bounds the first line of a text, in bytes.
const MaxLine = 200

// maxName bounds a name in a first line, in bytes: the numbers must have room.
const maxName = 64

// Text tells one event: a line that says it all, and more below.
type Text struct {
	Event    string // the kind's id
	Severity string
	Line     string // at most MaxLine bytes
	More     []string

	// At is what it is about, for programs; Fields are not escaped.
	At     time.Time
	Fields []Field
	// Units are those of the system that PID 1 itself says it is about; where
	// there is none, Holder is the process that holds the most.
	Units  []string
	Holder *reading.Holder
}

// Field is a value of a text for a program.
type Field struct{ Name, Value string }

// String is the line with the others below.
func (t Text) String() string { return strings.Join(append([]string{t.Line}, t.More...), "\n") }

// Message is what a journal has room for: all of what begins and ends an
// incident, which is read by who knows nothing yet, and of what befalls the
// daemon; of other alerts the line and how to see more; the line alone of what is
// no alert.
func (t Text) Message() string {
	if len(t.More) == 0 || t.Severity != Critical && t.Severity != Warning {
		return t.Line
	}
	switch t.Event {
	case ActionIntent, ActionResult, ActionEffect, WouldAct, Refused, Held, Waiting, Exhausted:
		return t.Line + "\n" + t.More[len(t.More)-1]
	}
	return t.String()
}

// Case is what a text is about. What is not known is left out.
type Case struct {
	Incident, Rule, Key string
	Action, Record      string // ids
	About, Severity     string // the rule's
	At                  time.Time
	Since               time.Time // of the first pending
	Pool                Pool
	Fill                float64 // where Pool is not known
	Level               string
	Owner               *record.Suspect
	// Others fire for the same rule, too; MoreOthers counts those beyond.
	Others     []record.Suspect
	MoreOthers int
	RunnersUp  []record.Suspect
	Condition  string
	Numbers    record.Numbers
	Mode       string
	ModeWhy    string
	// Steps are the touching actions that the rule comes to, in order, and when.
	Steps []string
	// Deeds are what was done, in order; MoreDeeds counts those beyond. Worst is
	// the pool when it was fullest.
	Deeds     []Deed
	MoreDeeds int
	Worst     Pool
	// See is what `tcpmemctl explain` takes; Incident where it is "".
	See string
}

// Pool is the TCP memory of the host, in bytes.
type Pool struct{ Used, Pressure, Max int64 }

// PoolOf gives that of a sample.
func PoolOf(s *reading.Sample) Pool {
	if s == nil {
		return Pool{}
	}
	return Pool{s.Used.Bytes(s.PageSize), s.Mem.Pressure.Bytes(s.PageSize), s.Mem.Max.Bytes(s.PageSize)}
}

// CaseOf takes from a record what it knows.
func CaseOf(r *record.Record) Case {
	c := Case{
		Incident: r.Incident, Rule: r.Rule, Key: r.Key, Action: r.Action, Record: r.ID, At: r.At, See: cmp.Or(r.Action, r.ID),
	}
	switch {
	case r.State != nil:
		c.Since, c.Level, c.Numbers, c.Owner, c.Mode = r.State.Since.At, r.State.Level, r.State.Numbers, r.State.Owner, r.State.Mode
		c.See = r.Incident
	case r.Decision != nil:
		c = c.With(r.Decision)
	case r.Intent != nil:
		c = c.With(&r.Intent.Decision)
	}
	return c
}

// With adds what a decision knows.
func (c Case) With(d *record.Decision) Case {
	c.About, c.Level, c.Fill, c.Owner = cmp.Or(c.About, d.About), d.Level, d.Fill, d.Owner
	c.RunnersUp, c.Condition, c.Numbers, c.Mode, c.ModeWhy = d.RunnersUp, d.Condition, d.Numbers, d.Mode, d.ModeWhy
	return c
}

// Firing tells that a rule fires.
func Firing(c Case) Text {
	line := c.name() + c.holds()
	if c.Owner == nil {
		line = c.name() + c.pool()
		if c.About != "" {
			line += ": " + prose.Escape(c.About)
		}
	} else {
		line += "; " + c.pool()
	}
	if n := len(c.Others) + c.MoreOthers; n > 0 {
		line += fmt.Sprintf("; and %d more", n)
	}
	t := c.text(RuleFiring, line)
	t.field("KEYS", strconv.Itoa(1+len(c.Others)+c.MoreOthers))
	if !strings.Contains(t.Line, prose.Escape(c.About)) {
		t.say("rule", c.About)
	}
	t.add(c.since())
	t.who(&c)
	for i := range c.Others {
		t.add("also: " + brief(&c.Others[i]))
	}
	if c.MoreOthers > 0 {
		t.add(fmt.Sprintf("and %d more", c.MoreOthers))
	}
	if c.Owner == nil { // of the host: who could be to blame
		for i := range c.RunnersUp[:min(len(c.RunnersUp), 3)] {
			t.add("most is held by: " + brief(&c.RunnersUp[i]))
		}
	}
	t.numbers(&c)
	t.add(c.plan())
	t.show(&c)
	return t
}

// Joined tells that a rule that fires already does so for one more.
func Joined(c Case) Text {
	t := c.text(RuleFiring, c.name()+"also "+c.holds())
	t.Severity = Notice // of the incident people know
	t.who(&c)
	t.show(&c)
	return t
}

// Decided tells what was decided about a step.
func Decided(c Case, d *record.Decision) Text {
	c = c.With(d)
	what := c.name() + DecisionWords(d)
	t := c.text(kindOfChoice(d.Choice), what)
	t.step(d)
	t.field("GUARD", d.Guard)
	t.say("rule", c.About)
	if !strings.Contains(t.Line, prose.Escape(d.Why)) {
		t.say("why", d.Why)
	}
	t.say("guard", d.Guard)
	t.add(c.stand(d))
	t.who(&c)
	for i := range d.RunnersUp {
		t.add("runner-up: " + brief(&d.RunnersUp[i]))
	}
	t.numbers(&c)
	t.see(&c)
	return t
}

func kindOfChoice(c record.Choice) string {
	switch c {
	case record.ChoseAct:
		return ActionIntent
	case record.ChoseDryRun:
		return WouldAct
	case record.ChoseRefuse:
		return Refused
	case record.ChoseHold:
		return Held
	case record.ChoseNothing:
		return Exhausted
	}
	return Waiting
}

// DecisionWords says in one clause what was decided.
func DecisionWords(d *record.Decision) string {
	target := ""
	if d.Owner != nil && d.Touches != "nothing" {
		target = " on " + short(d.Owner.Name)
	}
	action := prose.Escape(d.Action) + target
	switch d.Choice {
	case record.ChoseAct:
		if d.Touches == "nothing" {
			return "tells by " + action
		}
		return "acts: " + action + predicted(d)
	case record.ChoseDryRun:
		return "would do " + action + predicted(d) + "; " + prose.Escape(d.ModeWhy)
	case record.ChoseRefuse:
		return "does not do " + action + ": " + prose.Escape(d.Why)
	case record.ChoseHold:
		return "held: " + action + ": " + prose.Escape(d.Why)
	case record.ChoseWait:
		return "waits with " + action + ": " + prose.Escape(d.Why)
	}
	return prose.Escape(d.Why)
}

func predicted(d *record.Decision) string {
	if d.Predicted == nil || *d.Predicted <= 0 {
		return ""
	}
	return ", which holds " + prose.Bytes(*d.Predicted)
}

// Resulted tells what an action answered. d is what it was decided by, nil
// where that is not known.
func Resulted(c Case, d *record.Decision, r *record.Result) Text {
	if d != nil {
		c = c.With(d)
	}
	line := c.name() + actionName(d) + ": " + ResultWords(r)
	t := c.text(ActionResult, line)
	t.step(d)
	t.outcome(r, nil)
	if len(line) > MaxLine {
		t.say("answer", r.Message)
	}
	if r.Outcome == record.Delivered || d != nil && d.Touches == "nothing" && r.Outcome == record.Done {
		t.Severity = Info
	}
	for _, ch := range r.Changes {
		t.add(ChangeWords(ch))
	}
	t.see(&c)
	return t
}

func actionName(d *record.Decision) string {
	if d == nil {
		return "action"
	}
	s := prose.Escape(d.Action)
	if d.Owner != nil && d.Touches != "nothing" {
		s += " on " + short(d.Owner.Name)
	}
	return s
}

// ResultWords says in one clause how an action came out.
func ResultWords(r *record.Result) string {
	s := string(r.Outcome)
	if r.Code != "" {
		s += " (" + prose.Escape(r.Code) + ")"
	}
	if r.TookSeconds >= 0.001 {
		s += " after " + prose.Seconds(r.TookSeconds)
	}
	if r.Message != "" {
		s += ": " + prose.Escape(r.Message)
	}
	return s
}

// ChangeWords says what was changed.
func ChangeWords(c record.Change) string {
	return prose.Escape(c.What) + ": " + prose.Escape(c.Before) + " -> " + prose.Escape(c.After)
}

// Measured tells an action's effect.
func Measured(c Case, d *record.Decision, e *record.Effect) Text {
	if d != nil {
		c = c.With(d)
	}
	t := c.text(ActionEffect, c.name()+actionName(d)+": "+EffectWords(e))
	t.step(d)
	t.outcome(nil, e)
	switch e.Verdict {
	case record.NoEffect:
		t.Severity = Warning
	case record.Worse:
		t.Severity = Critical
	}
	t.say("why", e.Why)
	t.see(&c)
	return t
}

// EffectWords says in one clause what an action brought.
func EffectWords(e *record.Effect) string {
	s := string(e.Verdict)
	fell := func(what string, before, after *int64) {
		if before != nil && after != nil {
			s += fmt.Sprintf(", %s %s -> %s", what, prose.Bytes(*before), prose.Bytes(*after))
		}
	}
	fell("target", e.TargetBefore, e.TargetAfter)
	fell("pool", e.PoolBefore, e.PoolAfter)
	if s == string(e.Verdict) && e.Why != "" {
		s += ": " + prose.Escape(e.Why)
	}
	return s
}

// Told tells an event of the daemon itself.
func Told(e *record.Event) Text {
	k := KindOf(e.ID)
	line := "tcpmemd: " + prose.Escape(e.Text)
	t := Text{Event: e.ID, Severity: cmp.Or(e.Severity, k.Severity), Line: clip(line, MaxLine)}
	if t.Line != line {
		t.say("in full", e.Text)
	}
	if e.By != nil {
		t.add(fmt.Sprintf("by uid %d, pid %d", e.By.UID, e.By.PID))
		t.field("BY_UID", strconv.FormatUint(uint64(e.By.UID), 10))
	}
	if severity := t.Severity; severity != Info { // there is nothing to do at an end
		t.say("what to do", k.Do)
	}
	return t
}

// Level tells a change of level.
func Level(c Case, from, why string) Text {
	t := c.text(LevelChanged, fmt.Sprintf("level %s (was %s): %s", c.Level, from, prose.Escape(why)))
	t.field("LEVEL_BEFORE", from)
	return t
}
