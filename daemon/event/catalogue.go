// Package event knows what tcpmemd tells: a catalogue of kinds, each with what
// to do about it, and functions that write a text from record values. It is
// pure; who sends a text where is decided elsewhere.
//
// Names that a process may have chosen are escaped in every text.
package event

import "slices"

// Severities. A rule has one of the upper three; Notice and Debug are for what is
// done and weighed meanwhile, which a journal keeps below the alerts.
const (
	Critical = "critical"
	Warning  = "warning"
	Info     = "info"
	Notice   = "notice"
	Debug    = "debug"
)

// Kind is one kind of event. ID and MessageID are stable: neither is ever
// given to another kind.
type Kind struct {
	ID        string
	MessageID string // 128 bits in hex, for the journal (sd_journal_send(3))
	Severity  string // unless a rule says otherwise
	Title     string
	Means     string // more of what it means, for the journal's catalog
	Do        string // what a person can do, "" where nothing is needed
	// Lasts: it has an end, told under the same id, or under that of EndedBy.
	Lasts   bool
	EndedBy string
}

// What rules bring.
const (
	RuleFiring   = "rule-firing"
	RuleEnded    = "rule-ended"
	ActionIntent = "action-intent"
	ActionResult = "action-result"
	ActionEffect = "action-effect"
	WouldAct     = "would-act"
	Refused      = "refused"
	Held         = "held"
	Waiting      = "waiting"
	Exhausted    = "exhausted"
	Undelivered  = "undelivered"
)

// What the daemon and its operators do.
const (
	DaemonStarted = "daemon-started"
	DaemonStopped = "daemon-stopped"
	Paused        = "paused"
	Resumed       = "resumed"
	Stopped       = "emergency-stop"
	WasReset      = "reset"
	Reloaded      = "reloaded"
	ReloadFailed  = "reload-failed"
	LeaseTaken    = "lease-taken"
	LeaseExtended = "lease-extended"
	LeaseAdopted  = "lease-adopted"
	LeaseEnded    = "lease-ended"
	LeaseRival    = "lease-rival"
	LeaseStuck    = "lease-stuck"
	LevelChanged  = "level-changed"
	TCPMemChanged = "tcp-mem-changed"
	Gap           = "gap"
	Repaired      = "repaired"
)

// In which ways the daemon cannot see or act.
const (
	BlindCoverage  = "blind-coverage"
	BlindNetns     = "blind-netns"
	BlindKernelLog = "blind-kernel-log"
	BlindBus       = "blind-bus"
	BlindSample    = "blind-sample"
	LogUnwritable  = "log-unwritable"
	BudgetsLost    = "budgets-lost"
	RightsMissing  = "rights-missing"
	PolicyBroken   = "policy-broken"
	PluginBroken   = "plugin-broken"
	JournalLate    = "journal-late"

	MetricsUnavailable = "metrics-unavailable"
)

// Catalogue lists the kinds in the order people read them.
func Catalogue() []Kind { return slices.Clone(catalogue) }

// KindOf gives the kind of an id. One that the catalogue does not have, as in
// the log of a newer daemon, is a warning by its own name.
func KindOf(id string) Kind {
	for _, k := range catalogue {
		if k.ID == id {
			return k
		}
	}
	return Kind{ID: id, Severity: Warning, Title: id}
}

// Louder gives what tells the end of a warning that warning's severity: who reads
// alerts alone must learn that it is over.
func Louder(id, severity string) string {
	ends := func(k Kind) bool { return k.Lasts && (k.EndedBy == id || k.EndedBy == "" && k.ID == id) }
	if severity == Info && slices.ContainsFunc(catalogue, ends) {
		return Warning
	}
	return severity
}
