package policy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Mode is what may be done. The most cautious of several counts.
type Mode string

// Modes.
const (
	Observe Mode = "observe" // decide, record, tell; touch nothing
	Enforce Mode = "enforce"
)

// Scope says for whom a rule's condition is kept.
type Scope string

// Scopes.
const (
	Host      Scope = "host"
	EachOwner Scope = "owner"
	Unit      Scope = "unit"
	Container Scope = "container"
	Pod       Scope = "pod"
	Process   Scope = "process"
	Netns     Scope = "netns"
)

// Scopes lists them in the order people read them.
func Scopes() []Scope { return []Scope{Host, EachOwner, Unit, Container, Pod, Process, Netns} }

// Severity of what a rule tells.
type Severity string

// Severities.
const (
	Info     Severity = "info"
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// Rule is one table [rule.NAME] of a policy, checked and compiled.
type Rule struct {
	Name     string
	About    string
	Severity Severity
	Mode     Mode
	ForEach  Scope
	// TargetTop: a rule about the host, a pod or a namespace acts on the owner
	// that holds most of it.
	TargetTop bool
	When      *Condition
	For       time.Duration
	Until     *Condition // nil: When no longer holds, for a while
	Cooldown  time.Duration
	Budget    Budget // of all steps together, on whomever
	// MinCoverage is the rule's own, nil for the daemon's.
	MinCoverage *float64
	Steps       []Step
	// Hash identifies the effective text: a rule of another hash is another
	// rule, whatever its name.
	Hash string
}

// Step is what a rule does when it fires, one step after the other.
type Step struct {
	Action string
	// After is the least time since the step before came out, for the first
	// one since the firing.
	After    time.Duration
	Budget   Budget // for each owner, or for the host
	Settings []byte // JSON object: the keys that are the action's own
}

// Budget is how often something may be done within a time. The zero Budget is
// none: use the default.
type Budget struct {
	Count int
	Per   time.Duration
}

// ParseBudget reads "2 per 1h".
func ParseBudget(text string) (Budget, error) {
	const want = `not a budget, e.g. "2 per 1h"`
	words := strings.Fields(text)
	if len(words) != 3 || words[1] != "per" {
		return Budget{}, errors.New(want)
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n < 0 || n > 1000 {
		return Budget{}, fmt.Errorf("%s: the count must be from 0 to 1000", want)
	}
	per, err := time.ParseDuration(words[2])
	if err != nil || per < time.Minute || per > 30*24*time.Hour {
		return Budget{}, fmt.Errorf(`%s: the time must be from "1m" to "720h"`, want)
	}
	return Budget{n, per}, nil
}

// String gives the form that ParseBudget reads.
func (b Budget) String() string {
	per := b.Per.String()
	if strings.HasSuffix(per, "m0s") {
		per = strings.TrimSuffix(per, "0s")
	}
	if strings.HasSuffix(per, "h0m") {
		per = strings.TrimSuffix(per, "0m")
	}
	return fmt.Sprintf("%d per %s", b.Count, per)
}

// Defaults of what a rule leaves out.
var (
	DefaultStepBudget = Budget{1, time.Hour}
	DefaultRuleBudget = Budget{4, time.Hour}
	DefaultHostBudget = Budget{6, time.Hour}
)

// DefaultCooldown is the least time between two touching actions of one rule
// on one key, and between two alerts of the same.
const DefaultCooldown = 15 * time.Minute

// MaxCooldown is the longest that a rule may ask for. So long it is remembered
// when a rule acted, also of one that is gone for a while.
const MaxCooldown = 7 * 24 * time.Hour

// Touches says what an action can change.
type Touches string

// What an action can touch.
const (
	TouchesNothing Touches = "nothing"
	TouchesHost    Touches = "host"
	TouchesOwner   Touches = "owner"
)

// ActionInfo is what the guards must know of an action: its own description.
type ActionInfo struct {
	Name          string
	Touches       Touches
	Evidence      []string // kinds that may act
	EvidenceShare float64
	// Connections: it ends connections and leaves their holder alone. Only
	// such an action may follow a slow-peer verdict.
	Connections  bool
	Lease        bool
	NeedsSockets bool
	Capabilities []string
	// Missing says which of its rights the daemon lacks, "" where none. Remedy is
	// what an administrator does about it.
	Missing, Remedy string
}
