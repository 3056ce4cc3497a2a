package api

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Rules is the document of the rules' states.
type Rules struct {
	Version int         `json:"version"`
	Mode    string      `json:"mode"` // the daemon's
	ModeWhy string      `json:"mode_reason"`
	Rules   []RuleState `json:"rules"`
}

// RuleState is where a rule stands. Mode is the effective one: the most
// cautious of all that may say so, and ModeWhy says which.
type RuleState struct {
	Name     string `json:"name"`
	About    string `json:"about"`
	Severity string `json:"severity"`
	Mode     string `json:"mode"`
	ModeWhy  string `json:"mode_reason"`
	ForEach  string `json:"for_each"`
	When     string `json:"when"`
	Hash     string `json:"hash"`
	Origin   string `json:"origin"` // FILE:LINE, "" where not known
	Firing   int    `json:"firing"`
	Pending  int    `json:"pending"`
	Held     bool   `json:"held"` // a budget of it is spent
	// Keys are those that are pending or fire, the most bytes first.
	Keys            []RuleKey `json:"keys"`
	KeysLeftOut     int       `json:"keys_left_out"`
	Budgets         []Budget  `json:"budgets"`
	CooldownSeconds float64   `json:"cooldown_seconds"`
}

// RuleKey is one key of a rule.
type RuleKey struct {
	Key      string       `json:"key"`
	Name     string       `json:"name"` // what a person calls it
	Phase    record.Phase `json:"phase"`
	Since    time.Time    `json:"since"`
	Incident string       `json:"incident"`
	Bytes    *int64       `json:"bytes"` // null for the host
	Step     int          `json:"step"`  // the next one, from 1
	Steps    int          `json:"steps"`
	Action   string       `json:"action"` // of that step, "" after the last
	Acting   bool         `json:"acting"` // it runs, or its effect is being measured
	// NextIn is how long until that step's turn, or while pending until the key
	// fires; null where nothing follows, or not before an effect is measured.
	NextIn *float64 `json:"next_in_seconds"`
	// Choice, Guard and Why are the last decision's, "" before one.
	Choice record.Choice `json:"choice"`
	Guard  string        `json:"guard"`
	Why    string        `json:"why"`
	// CooldownLeft is null where none runs.
	CooldownLeft *float64 `json:"cooldown_left_seconds"`
}

// Budget is what is left of one: Count per PerSeconds.
type Budget struct {
	Of         string     `json:"of"` // e.g. "rule leaking-service", "unit system/x.service restart-unit"
	Count      int        `json:"count"`
	PerSeconds float64    `json:"per_seconds"`
	Left       int        `json:"left"`
	NextAt     *time.Time `json:"next_at"` // when one more comes free; null where nothing is spent
}

// Conduct is what a running daemon may do at present, and what stands against
// it.
type Conduct struct {
	ModeWhy string // of Meta.Mode
	Pause   *Pause
	Stop    string // why nothing at all may be touched: the emergency stop
	Lease   *Lease
	Blind   []Blindness
	Rights  []MissingRight
	Rules   []RuleState
	Journal *Journal // nil where nothing is told to it
}

// Pause is a time in which nothing is touched.
type Pause struct {
	Why   string         `json:"why"`
	Since time.Time      `json:"since"`
	Until *time.Time     `json:"until"` // null: until it is resumed
	By    *record.Caller `json:"by"`
}

// Blindness is something that the daemon cannot see or do just now.
type Blindness struct {
	ID    string    `json:"id"` // of the event catalogue, e.g. "blind-netns"
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
}

// MissingRight is why an action cannot work here, and what would give it the
// right.
type MissingRight struct {
	Action  string   `json:"action"`
	Missing string   `json:"missing"`
	Fix     string   `json:"fix"`   // e.g. a drop-in to install
	Rules   []string `json:"rules"` // that are forced to observe by it
}

// busy lists the rules that a status shows: those that are not idle.
func busy(all []RuleState) []RuleState {
	shown := []RuleState{}
	for _, r := range all {
		if r.Firing > 0 || r.Pending > 0 || r.Held {
			r.Keys, r.Budgets = list(r.Keys), list(r.Budgets)
			shown = append(shown, r)
		}
	}
	return shown
}
