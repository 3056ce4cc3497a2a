// Package record holds the plain values that tell what the daemon decided,
// did, and saw come of it: one [Record] for each line of the action log, and
// the [Incident] that gathers them for a person. Their JSON is the form on
// disk, in `tcpmemctl ... --json`, and in a plugin's hands.
//
// Like package reading it has no behaviour beyond names and arithmetic.
package record

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Version is that of every record and incident. Fields may be added.
const Version = 1

// Kind says what a record tells.
type Kind string

// Kinds of record. Each action has exactly one intent, written before it
// starts, and exactly one result; a touching action that was done has one
// effect, too.
const (
	KindState    Kind = "state"    // a rule's key became pending, fires, ended
	KindDecision Kind = "decision" // what a step was to do, also if that was nothing
	KindIntent   Kind = "intent"
	KindResult   Kind = "result"
	KindEffect   Kind = "effect"
	KindEvent    Kind = "event" // of the daemon itself: start, pause, reload, lease, blindness
)

// Record is one line of the action log.
type Record struct {
	Version int    `json:"version"`
	Seq     uint64 `json:"seq"` // rises by one with each record of the log
	ID      string `json:"id"`  // of this record, what `explain` takes
	Stamp
	Kind     Kind   `json:"kind"`
	Incident string `json:"incident,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Key      string `json:"key,omitempty"`
	// Action joins an intent with its result and effect.
	Action string `json:"action,omitempty"`

	State    *State    `json:"state,omitempty"`
	Decision *Decision `json:"decision,omitempty"`
	Intent   *Intent   `json:"intent,omitempty"`
	Result   *Result   `json:"result,omitempty"`
	Effect   *Effect   `json:"effect,omitempty"`
	Event    *Event    `json:"event,omitempty"`
}

// Stamp is a moment on the clocks that survive a restart. BootSeconds is
// CLOCK_BOOTTIME, which counts suspended time and starts with each boot;
// Synced is false where the wall clock is not known to be right.
type Stamp struct {
	At          time.Time `json:"at"` // UTC
	BootID      string    `json:"boot_id"`
	BootSeconds float64   `json:"boot_seconds"`
	Synced      bool      `json:"clock_synchronized"`
}

// Since is the time from then, which is before s, to s: by CLOCK_BOOTTIME within
// one boot, else by the wall clocks. Where those cannot be trusted it is what is
// certain: the time since the boot of s. It is never negative.
func (s Stamp) Since(then Stamp) time.Duration {
	switch {
	case s.BootID == "" || then.BootID == "":
		return 0
	case s.BootID == then.BootID:
		return max(0, time.Duration((s.BootSeconds-then.BootSeconds)*float64(time.Second)))
	}
	since := time.Duration(s.BootSeconds * float64(time.Second))
	if s.Synced && then.Synced {
		since = max(since, s.At.Sub(then.At))
	}
	return since
}

// Phase is where a rule stands with a key.
type Phase string

// Phases.
const (
	Pending Phase = "pending" // the condition holds, not yet for long enough
	Firing  Phase = "firing"
	Ended   Phase = "ended"
)

// End says why a pending or firing state ended.
type End string

// Ends.
const (
	EndCleared     End = "cleared"     // until holds
	EndNotReached  End = "not-reached" // pending, and the condition went away
	EndOwnerGone   End = "owner-gone"
	EndRuleChanged End = "rule-changed"
	EndReset       End = "reset"
	EndStopped     End = "daemon-stopped"
	EndGap         End = "gap" // pending, and readings were missing
	EndModeChanged End = "mode-changed"
)

// State tells a change of phase.
type State struct {
	Phase   Phase    `json:"phase"`
	Since   Stamp    `json:"since"` // of the first pending
	Why     string   `json:"why"`
	End     End      `json:"end,omitempty"`
	Mode    string   `json:"mode"`
	Level   string   `json:"level"`
	Numbers Numbers  `json:"numbers,omitempty"`
	Owner   *Suspect `json:"owner,omitempty"`
}

// Numbers are the variables of a rule's condition with their values, as the
// decision saw them; null is unknown.
type Numbers map[string]any

// Choice is what was decided about a step.
type Choice string

// Choices.
const (
	ChoseAct     Choice = "act"
	ChoseDryRun  Choice = "dry-run" // observing: would have acted
	ChoseRefuse  Choice = "refused" // a guard said no
	ChoseHold    Choice = "held"    // a budget is spent
	ChoseWait    Choice = "waiting" // for another action, the cooldown or the time after a step
	ChoseNothing Choice = "nothing" // the last step is over: exhausted
)

// Decision is what a step of a rule was to do for a key, by which numbers.
type Decision struct {
	Choice Choice `json:"choice"`
	// Guard names what refused or held it, "" where nothing did.
	Guard     string    `json:"guard,omitempty"`
	Why       string    `json:"why"`
	About     string    `json:"about,omitempty"`
	RuleHash  string    `json:"rule_hash"`
	Step      int       `json:"step"` // from 1
	Action    string    `json:"action"`
	Touches   string    `json:"touches"`
	Mode      string    `json:"mode"` // effective
	ModeWhy   string    `json:"mode_why"`
	Condition string    `json:"condition"`
	Numbers   Numbers   `json:"numbers"`
	Level     string    `json:"level"`
	Fill      float64   `json:"fill"`
	Coverage  *float64  `json:"coverage"`
	AgeSecs   *float64  `json:"reading_age_seconds"`
	Owner     *Suspect  `json:"owner"`
	RunnersUp []Suspect `json:"runners_up"`
	Predicted *int64    `json:"predicted_bytes"`
	By        *Caller   `json:"by,omitempty"` // acting by hand
}

// Caller is who asked for an action by hand (SO_PEERCRED).
type Caller struct {
	UID uint32 `json:"uid"`
	PID int    `json:"pid"`
}

// Suspect is an owner at a decision: who, with what identity, holding what.
type Suspect struct {
	Key          string             `json:"key"`
	Name         string             `json:"name"`
	Kind         reading.Kind       `json:"kind"`
	Unit         string             `json:"unit,omitempty"`
	Manager      string             `json:"manager,omitempty"`
	UnitVerified bool               `json:"unit_verified"`
	InvocationID string             `json:"invocation_id,omitempty"`
	Container    *reading.Container `json:"container,omitempty"`
	Pod          *reading.Pod       `json:"pod,omitempty"`
	UID          *uint32            `json:"uid"`
	Command      string             `json:"command"`
	Holders      []reading.Holder   `json:"holders"`
	Sockets      int64              `json:"sockets"`
	Bytes        int64              `json:"bytes"`
	Share        float64            `json:"share"`    // of the bytes seen
	Classes      map[string]int64   `json:"classes"`  // bytes
	Evidence     map[string]int64   `json:"evidence"` // bytes
	Growth       *int64             `json:"growth_bytes_per_minute"`
	Verdict      *reading.Verdict   `json:"verdict"`
	Protected    string             `json:"protected,omitempty"`
	Shared       bool               `json:"shared,omitempty"`
}

// Intent is durable before its action starts. Undo is set for a lease: what
// would take it back.
type Intent struct {
	Decision Decision `json:"decision"`
	Budget   []string `json:"budget_keys,omitempty"` // what it spends from
	Undo     string   `json:"undo,omitempty"`
	Deadline Stamp    `json:"deadline"`
}

// Outcome is how an action went, in the words of remediate.Result.
type Outcome string

// Outcomes.
const (
	Done        Outcome = "done"
	Refused     Outcome = "refused"
	Failed      Outcome = "failed"
	TimedOut    Outcome = "timed-out"
	Interrupted Outcome = "interrupted"
	DryRun      Outcome = "dry-run"
	Delivered   Outcome = "delivered"
	Undelivered Outcome = "undelivered"
)

// Result is the action's answer, or why there is none.
type Result struct {
	Outcome     Outcome          `json:"outcome"`
	Code        string           `json:"code,omitempty"` // one stable word
	Message     string           `json:"message"`
	Changes     []Change         `json:"changes,omitempty"`
	Predicted   map[string]int64 `json:"predicted_bytes,omitempty"` // by class
	TookSeconds float64          `json:"took_seconds"`
}

// Change is one thing that was changed, or would be.
type Change struct {
	What   string `json:"what"`
	Before string `json:"before"`
	After  string `json:"after"`
}

// Verdict on an action's effect, by the daemon's own measurement.
type Verdict string

// Verdicts on effects.
const (
	Helped      Verdict = "helped"
	NoEffect    Verdict = "no-effect"
	Worse       Verdict = "worse"
	NotMeasured Verdict = "not-measured"
)

// Effect compares the target and the pool before and after an action, in
// bytes.
type Effect struct {
	Verdict      Verdict `json:"verdict"`
	Why          string  `json:"why"`
	TargetBefore *int64  `json:"target_before_bytes"`
	TargetAfter  *int64  `json:"target_after_bytes"`
	PoolBefore   *int64  `json:"pool_before_bytes"`
	PoolAfter    *int64  `json:"pool_after_bytes"`
	Predicted    *int64  `json:"predicted_bytes"`
	Bound        int64   `json:"bound_bytes"` // of the per-CPU reserve
	AfterSeconds float64 `json:"after_seconds"`
}

// Event is something about the daemon itself.
type Event struct {
	ID       string         `json:"id"` // of the catalogue, package event
	Severity string         `json:"severity"`
	Text     string         `json:"text"`
	Details  map[string]any `json:"details,omitempty"`
	By       *Caller        `json:"by,omitempty"`
}
