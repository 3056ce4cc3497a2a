package api

import (
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// ActRequest asks for a step of a rule by hand: same checks, budget and record
// as if the rule had come to it.
type ActRequest struct {
	Incident string `json:"incident"`
	Step     int    `json:"step"`          // from 1; 0: the next one of the key
	Key      string `json:"key,omitempty"` // "": the firing one with the most bytes
	// DryRun: the action looks and says what it would do, and touches nothing.
	DryRun bool `json:"dry_run"`
	// Preview: only what would be decided is answered; nothing runs, and
	// nothing is recorded.
	Preview bool `json:"preview"`
}

// Acted answers an ActRequest as soon as it is decided; what comes of an
// action that was started is in the records of Action.
type Acted struct {
	Version  int             `json:"version"`
	Incident string          `json:"incident"`
	Rule     string          `json:"rule"`
	Key      string          `json:"key"`
	Decision record.Decision `json:"decision"`
	// Record is the id of the decision's record, "" for a preview.
	Record string `json:"record"`
	// Action is the id of the action, "" where none was started.
	Action          string  `json:"action"`
	DeadlineSeconds float64 `json:"deadline_seconds"` // its result comes by then
}

// MaxPause bounds a pause: one that is forgotten must end.
const MaxPause = 30 * 24 * time.Hour

// MaxWhy bounds the reason of a pause, in bytes.
const MaxWhy = 256

// PauseRequest asks that nothing be touched for a while.
type PauseRequest struct {
	Seconds float64 `json:"seconds"`
	Why     string  `json:"why"`
}

// ResetRequest asks to end a rule's states, and to forget its cooldowns and
// what it has spent.
type ResetRequest struct {
	Rule string `json:"rule"`
}

// ReloadRequest asks to read the configuration and the policies again. With
// Wait the answer tells what came of it.
type ReloadRequest struct {
	Wait bool `json:"wait"`
}

// Reloaded says what a reload brought.
type Reloaded struct {
	Version int      `json:"version"`
	Rules   int      `json:"rules"`
	Added   []string `json:"added"`
	Changed []string `json:"changed"` // their states ended
	Removed []string `json:"removed"`
	// Notes are what is right and yet worth a look, as a rule that lacks
	// rights and observes.
	Notes []string `json:"notes"`
}

// Done answers what has nothing more to tell.
type Done struct {
	Version int    `json:"version"`
	Message string `json:"message"` // one sentence
}

// Policy is the document of "tcpmemctl policy show --json": the effective
// policy as TOML, each value with its origin in a comment.
type Policy struct {
	Version int      `json:"version"`
	Text    string   `json:"text"`
	Files   []string `json:"files"`
	// Broken are the mistakes in files that were left out.
	Broken []string `json:"broken"`
}

// Plugins is the document of "tcpmemctl plugins list --json".
type Plugins struct {
	Version int      `json:"version"`
	Plugins []Plugin `json:"plugins"`
}

// Plugin is an action and the program that does it. PluginVersion is null
// until it has described itself.
type Plugin struct {
	Name          string     `json:"name"` // of the action
	Path          string     `json:"path"`
	BuiltIn       bool       `json:"built_in"`
	PluginVersion *string    `json:"plugin_version"`
	Touches       string     `json:"touches"` // nothing, host, owner
	Rights        []string   `json:"rights"`  // that it needs
	Missing       []string   `json:"missing_rights"`
	Running       bool       `json:"running"`
	PID           int        `json:"pid,omitempty"`
	Rules         []string   `json:"rules"` // that use it
	LastError     *string    `json:"last_error"`
	LastErrorAt   *time.Time `json:"last_error_at"`
	// Verified is null unless it was looked at for this answer; Problem says
	// why it must not, or cannot, run.
	Verified *bool   `json:"verified"`
	Problem  *string `json:"problem"`
}
