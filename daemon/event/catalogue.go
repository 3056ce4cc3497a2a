// Package event knows what tcpmemd tells: a catalogue of kinds, each with what
// to do about it, and functions that write a text from record values. It is
// pure; who sends a text where is decided elsewhere.
//
// Names that a process may have chosen are escaped in every text.
package event

import "slices"

// Severities.
const (
	Info     = "info"
	Warning  = "warning"
	Critical = "critical"
)

// Kind is one kind of event. ID and MessageID are stable: neither is ever
// given to another kind.
type Kind struct {
	ID        string
	MessageID string // 128 bits in hex, for the journal (sd_journal_send(3))
	Severity  string // unless a rule says otherwise
	Title     string
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

var catalogue = []Kind{
	{
		ID: RuleFiring, MessageID: "15eec3b4bdd34e59ad0062b97f262c91", Severity: Warning, Lasts: true, EndedBy: RuleEnded,
		Title: "a rule fires", Do: "look at who holds the memory: tcpmemctl incidents show INCIDENT",
	},
	{ID: RuleEnded, MessageID: "d49787eb98ee4b55b860d7cd7648a807", Severity: Info, Title: "what a rule fired for is over"},
	{
		ID: ActionIntent, MessageID: "b868cb017c5b42abbe8b44f18af7c985", Severity: Warning,
		Title: "an action is about to start", Do: "to stop all actions: tcpmemctl pause 1h --why TEXT",
	},
	{
		ID: ActionResult, MessageID: "84248592c4f8446fbbc4eae376cfeb88", Severity: Warning,
		Title: "what an action answered", Do: "tcpmemctl explain ACTION",
	},
	{
		ID: ActionEffect, MessageID: "b6a2e585ee734c6687dba02a8a2bb66b", Severity: Info,
		Title: "what an action brought, as measured", Do: "where it did not help, look at the runners-up: tcpmemctl explain ACTION",
	},
	{
		ID: WouldAct, MessageID: "2062450744f44a28adc44c65fb4bd437", Severity: Info,
		Title: "an action would have been taken in another mode", Do: `if that is right, set mode = "enforce" for the rule and for the daemon`,
	},
	{
		ID: Refused, MessageID: "febae181925b451ca862c6500f1ad22b", Severity: Warning,
		Title: "a guard refused an action", Do: "read which one, and by which numbers: tcpmemctl explain RECORD",
	},
	{
		ID: Held, MessageID: "b1b6eadd19eb4cd2a892bdb80aa8e90a", Severity: Warning,
		Title: "a budget is spent", Do: "what was done did not last: find the cause; tcpmemctl reset RULE frees the budget now",
	},
	{ID: Waiting, MessageID: "1e1a82949ba040b781d3fb5b7ce2db0d", Severity: Info, Title: "a step waits for another action or a time"},
	{
		ID: Exhausted, MessageID: "192319ebffa646d78eb7ac15cf89ad0f", Severity: Critical,
		Title: "every step of a rule was taken, and it still fires", Do: "a person has to act: tcpmemctl owners shows who holds the memory",
	},
	{
		ID: Undelivered, MessageID: "04945f72f727411597b7196666d1dbe7", Severity: Warning,
		Title: "an alert could not be delivered", Do: "look at the receiver of the alerts; the action log has what was to be told",
	},

	{ID: DaemonStarted, MessageID: "bbdabefc9bc24401b00c53af2ab2ef62", Severity: Info, Title: "tcpmemd started"},
	{ID: DaemonStopped, MessageID: "f6a0db1074914d9386dce604b1ab3ec7", Severity: Info, Title: "tcpmemd stopped"},
	{
		ID: Paused, MessageID: "d80c691ca0c7404eb89d9ed7a1a188e0", Severity: Warning, Lasts: true, EndedBy: Resumed,
		Title: "touching is paused", Do: "tcpmemctl resume ends it",
	},
	{ID: Resumed, MessageID: "d9dad97703a245b1a0d7f52abe69047f", Severity: Info, Title: "the pause is over"},
	{
		ID: Stopped, MessageID: "18d83059f17c499fa7300fc55c77f1f5", Severity: Warning, Lasts: true,
		Title: "everything is stopped", Do: "remove /run/tcpmemd/pause, or tcpmemd.observe from the kernel's command line",
	},
	{ID: WasReset, MessageID: "166ef2e680424ea89e54d1c6ed23e98d", Severity: Info, Title: "a rule starts anew, by hand"},
	{ID: Reloaded, MessageID: "139e9d5073f34a97a4a1b20a5acadf30", Severity: Info, Title: "configuration and policy were read again"},
	{
		ID: ReloadFailed, MessageID: "5952726a647747aab5823202f805a5a6", Severity: Warning,
		Title: "the new configuration is wrong, the old one stays", Do: "tcpmemctl policy check names the place",
	},
	{
		ID: LeaseTaken, MessageID: "0f2e8c867cda480bb2a6d0952dd09f2f", Severity: Warning, Lasts: true, EndedBy: LeaseEnded,
		Title: "net.ipv4.tcp_mem is raised for a time", Do: "if the load is there to stay, make it permanent with the sysctl.d line in the result",
	},
	{
		ID: LeaseExtended, MessageID: "842d94267c3b4cc7bcd5201fed1a1c4d", Severity: Warning,
		Title: "net.ipv4.tcp_mem stays raised: the memory is still in use", Do: "find out who needs it: tcpmemctl owners",
	},
	{ID: LeaseAdopted, MessageID: "26a8926ab5484cccb001ce44ec32fdf4", Severity: Info, Title: "a raise by an earlier run goes on"},
	{ID: LeaseEnded, MessageID: "fd1529a467e14970afc51cb876181206", Severity: Info, Title: "net.ipv4.tcp_mem is as it was before the raise"},
	{
		ID: LeaseRival, MessageID: "9ea2959829ef4db29b94cc3a33307ea9", Severity: Warning,
		Title: "somebody else set net.ipv4.tcp_mem while it was raised", Do: "let one program set it: look for sysctl.d files and tuning daemons",
	},
	{
		ID: LeaseStuck, MessageID: "53f86e436f1b42e7854e1563d963b3f4", Severity: Critical, Lasts: true, EndedBy: LeaseEnded,
		Title: "net.ipv4.tcp_mem could not be given back", Do: "set it by hand to the triple in the message: sysctl -w net.ipv4.tcp_mem='MIN PRESSURE MAX'",
	},
	{ID: LevelChanged, MessageID: "5945f48f73254f6f9cba3d289bba1d96", Severity: Info, Title: "the host's level changed"},
	{
		ID: TCPMemChanged, MessageID: "d5c15d830a454ff1ab2581df56dd1add", Severity: Warning,
		Title: "somebody else set net.ipv4.tcp_mem", Do: "check that it was meant: sysctl net.ipv4.tcp_mem",
	},
	{
		ID: Gap, MessageID: "bdf521f2b8694c1682787042f91205e8", Severity: Warning,
		Title: "readings were missing: pending rules start anew", Do: "after a suspend nothing; else look at the load of the host and the CPU budget of the daemon",
	},
	{
		ID: Repaired, MessageID: "0d32eca666104a60bed76b08339ff51d", Severity: Warning,
		Title: "an action of an earlier run had no result, it counts as interrupted", Do: "tcpmemctl explain ACTION says what was under way",
	},

	{
		ID: BlindCoverage, MessageID: "399b30e4452f423e862ffeb85ea4330b", Severity: Warning, Lasts: true,
		Title: "much of the memory has no name, under pressure", Do: "tcpmemctl doctor says what keeps owners from being seen",
	},
	{
		ID: BlindNetns, MessageID: "26155cc4d91f47b9bbd2184df5f2a2c4", Severity: Warning, Lasts: true,
		Title: "a network namespace cannot be read", Do: "give the daemon CAP_SYS_ADMIN: tcpmemctl doctor",
	},
	{
		ID: BlindKernelLog, MessageID: "f4527f7b07e44378b1e42ac0f43caab3", Severity: Warning,
		Title: "records of the kernel log were lost", Do: "find out what floods the log: dmesg; counters go on without it",
	},
	{
		ID: BlindBus, MessageID: "01c0d28115ce4119a80a3e5dfdd812e5", Severity: Warning, Lasts: true,
		Title: "PID 1 does not answer: no unit can be a target", Do: "look at dbus and systemd: busctl status",
	},
	{
		ID: BlindSample, MessageID: "dcb47d9d3f82457890a1d176718850f4", Severity: Critical, Lasts: true,
		Title: "the counters cannot be read", Do: "read the daemon's log: journalctl -u tcpmemd",
	},
	{
		ID: LogUnwritable, MessageID: "38fb47c8647142a4afb80b7dfd9aeeca", Severity: Critical, Lasts: true,
		Title: "the action log cannot be written: nothing is touched", Do: "make room on, or mend, the disk of /var/lib/tcpmemd",
	},
	{
		ID: BudgetsLost, MessageID: "1964a3531a234d539386dba8869e5872", Severity: Warning, Lasts: true,
		Title: "what was spent from budgets is lost: they count as spent", Do: "it ends by itself; tcpmemctl reset RULE ends it now",
	},
	{
		ID: RightsMissing, MessageID: "d0576d22deab4922afb3c8af7a71a93a", Severity: Warning, Lasts: true,
		Title: "an enforcing rule lacks rights and observes", Do: "install the drop-in that the message names, and restart tcpmemd",
	},
	{
		ID: PolicyBroken, MessageID: "9591b206794d4bdda3f2df4004c5086b", Severity: Critical, Lasts: true,
		Title: "a file of the configuration is wrong and left out: everything observes", Do: "tcpmemctl policy check names the place; then tcpmemctl reload --wait",
	},
	{
		ID: PluginBroken, MessageID: "7c5eb9b9b5844b1dbde51dde06ce5900", Severity: Warning, Lasts: true,
		Title: "a plugin must not or cannot run", Do: "tcpmemctl plugins verify says why",
	},
}
