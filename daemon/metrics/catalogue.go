package metrics

import (
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Metric is one family: a row of the documentation.
type Metric struct {
	Name    string
	Help    string
	Counter bool   // or a gauge
	Unit    string // "bytes", "seconds", "ratio"; "" where things are counted
	Labels  []string
	// Max is how many series it has at most.
	Max int
	// Of says where its values come from, and so how old they may be.
	Of Origin

	take func(*view, *series)
}

// Origin is where values come from.
type Origin string

// Origins. Those of a reading are absent before the first one, those of the
// daemon where its loop does not answer.
const (
	OfSample  Origin = "sample"  // the counters that are read each second
	OfReading Origin = "reading" // the last full reading
	OfDaemon  Origin = "daemon"  // its loop: rules, decisions, actions
	OfProcess Origin = "process"
)

// Words of labels that are always all there.
var (
	levels    = []reading.Level{reading.Calm, reading.Elevated, reading.Pressure, reading.Critical, reading.Unknown}
	classes   = []reading.Class{reading.Owned, reading.Unaccepted, reading.Orphan, reading.Hidden, reading.Kernel, reading.Unresolved}
	verdicts  = []reading.VerdictKind{reading.Leak, reading.SlowPeer, reading.Load} // the gravest first
	choices   = []record.Choice{record.ChoseAct, record.ChoseDryRun, record.ChoseRefuse, record.ChoseHold, record.ChoseWait, record.ChoseNothing}
	blindness = []string{"coverage", "netns", "bus", "sample", "log-unwritable"}

	// What may come of the actions that the daemon brings along.
	builtIn  = []string{"notify", "restart-unit", "signal-process", "destroy-sockets", "raise-tcp-mem", "run-command"}
	outcomes = words(record.Done, record.Refused, record.Failed, record.TimedOut, record.Interrupted, record.DryRun, record.Delivered, record.Undelivered)
	effects  = words(record.Helped, record.NoEffect, record.Worse, record.NotMeasured)
)

func words[T ~string](list ...T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

// other stands for all that has no series of its own.
const other = "other"

// Bounds of families whose labels are not known beforehand; "other" is one of
// the number.
const (
	maxGuards  = 10
	maxActions = 24
	maxEffects = 8
	maxFiring  = 8
	maxGaps    = 8
)

var ownerLabels = []string{"owner", "kind", "namespace", "pod", "container"}

// Catalogue lists the families in the order in which they are written.
func Catalogue() []Metric { return slices.Clone(catalogue) }

// The sum of Max is MaxSeries; a test adds it up.
var catalogue = []Metric{
	{
		Name: "tcpmemd_build_info", Labels: []string{"version"}, Max: 1, Of: OfProcess,
		Help: "The version of tcpmemd; always 1.",
		take: func(v *view, s *series) { s.add(1, label(v.Version)) },
	},
	{
		Name: "tcpmemd_start_time_seconds", Unit: "seconds", Max: 1, Of: OfProcess,
		Help: "When the daemon started, in Unix time.",
		take: func(v *view, s *series) { s.moment(v.Started) },
	},
	{
		Name: "tcpmemd_enforcing", Max: 1, Of: OfDaemon,
		Help: "Whether the mode in effect lets rules act (1) or only observe (0).",
		take: func(v *view, s *series) { s.flag(v.Conduct.Enforcing) },
	},
	{
		Name: "tcpmemd_paused", Max: 1, Of: OfDaemon,
		Help: "Whether touching is paused.",
		take: func(v *view, s *series) { s.flag(v.Conduct.Paused) },
	},
	{
		Name: "tcpmemd_stopped", Max: 1, Of: OfDaemon,
		Help: "Whether the emergency stop is in force.",
		take: func(v *view, s *series) { s.flag(v.Conduct.Stopped) },
	},

	{
		Name: "tcpmemd_sample_timestamp_seconds", Unit: "seconds", Max: 1, Of: OfSample,
		Help: "When the kernel's counters were last read, in Unix time.",
		take: func(v *view, s *series) { s.moment(v.Sample.At) },
	},
	{
		Name: "tcpmemd_scan_timestamp_seconds", Unit: "seconds", Max: 1, Of: OfReading,
		Help: "When the last full reading was taken, in Unix time.",
		take: func(v *view, s *series) { s.moment(v.Reading.Sample.At) },
	},
	{
		Name: "tcpmemd_scan_duration_seconds", Unit: "seconds", Max: 1, Of: OfReading,
		Help: "How long the last full reading took.",
		take: func(v *view, s *series) { s.add(v.Reading.Took.Seconds()) },
	},

	{
		Name: "tcpmemd_tcp_memory_bytes", Unit: "bytes", Max: 1, Of: OfSample,
		Help: "The host's TCP memory in use.",
		take: func(v *view, s *series) { s.bytes(v.pages(v.Sample.Used)) },
	},
	{
		Name: "tcpmemd_tcp_memory_limit_bytes", Unit: "bytes", Labels: []string{"limit"}, Max: 3, Of: OfSample,
		Help: "The limits of net.ipv4.tcp_mem as they are now, with a lease.",
		take: func(v *view, s *series) {
			s.bytes(v.pages(v.Sample.Mem.Min), "min")
			s.bytes(v.pages(v.Sample.Mem.Pressure), "pressure")
			s.bytes(v.pages(v.Sample.Mem.Max), "max")
		},
	},
	{
		Name: "tcpmemd_tcp_memory_fill_ratio", Unit: "ratio", Max: 1, Of: OfDaemon,
		Help: "Memory in use as a share of the max limit without a lease of the daemon's.",
		take: func(v *view, s *series) {
			if most := v.Conduct.Base.Max; v.Sample != nil && most > 0 {
				s.add(float64(v.Sample.Used) / float64(most))
			}
		},
	},
	{
		Name: "tcpmemd_tcp_memory_under_pressure", Max: 1, Of: OfSample,
		Help: "The kernel's own flag that TCP memory is under pressure.",
		take: func(v *view, s *series) { s.optionalFlag(v.Sample.UnderPressure) },
	},
	{
		Name: "tcpmemd_tcp_memory_growth_bytes_per_second", Unit: "bytes_per_second", Max: 1, Of: OfSample,
		Help: "Growth of the memory in use; negative where it falls, absent where too little is known.",
		take: func(v *view, s *series) {
			if g := v.Trend.GrowthPerMinute; g != nil {
				s.add(float64(*g) / 60)
			}
		},
	},
	{
		Name: "tcpmemd_tcp_memory_eta_seconds", Unit: "seconds", Labels: []string{"limit"}, Max: 2, Of: OfSample,
		Help: "Time until a limit is reached at this growth; absent where the memory does not grow.",
		take: func(v *view, s *series) {
			s.duration(v.Trend.EtaPressure, "pressure")
			s.duration(v.Trend.EtaMax, "max")
		},
	},
	{
		Name: "tcpmemd_level", Labels: []string{"level"}, Max: 5, Of: OfSample,
		Help: "The host's level: 1 for the one that it is at.",
		take: func(v *view, s *series) {
			for _, l := range levels {
				s.flag(v.Level == l, l.String())
			}
		},
	},
	{
		Name: "tcpmemd_verdict", Labels: []string{"verdict"}, Max: 3, Of: OfSample,
		Help: "What the host's growth looks like: 1 for the verdict, all 0 where there is none.",
		take: func(v *view, s *series) {
			for _, kind := range verdicts {
				s.flag(v.Trend.Verdict != nil && v.Trend.Verdict.Kind == kind, string(kind))
			}
		},
	},
	{
		Name: "tcpmemd_lease_expiry_timestamp_seconds", Unit: "seconds", Max: 1, Of: OfDaemon,
		Help: "When the raise of net.ipv4.tcp_mem ends, in Unix time; absent without one.",
		take: func(v *view, s *series) {
			if at := v.Conduct.LeaseExpires; at != nil {
				s.moment(*at)
			}
		},
	},
	{
		Name: "tcpmemd_sockets_allocated", Max: 1, Of: OfSample,
		Help: "TCP sockets that the kernel has allocated, over all namespaces.",
		take: func(v *view, s *series) { s.count(v.Sample.Alloc) },
	},
	{
		Name: "tcpmemd_orphans", Max: 1, Of: OfSample,
		Help: "Sockets that no process holds any more and the kernel still works on.",
		take: func(v *view, s *series) { s.count(v.Sample.Orphans) },
	},
	{
		Name: "tcpmemd_orphans_limit", Max: 1, Of: OfSample,
		Help: "The limit net.ipv4.tcp_max_orphans.",
		take: func(v *view, s *series) { s.count(v.Sample.MaxOrphans) },
	},

	{
		Name: "tcpmemd_class_bytes", Unit: "bytes", Labels: []string{"class"}, Max: 6, Of: OfReading,
		Help: "Memory by the way in which sockets are held.",
		take: func(v *view, s *series) {
			for _, class := range classes {
				s.bytes(v.Reading.Ledger.Classes[class].Bytes, class.String())
			}
		},
	},
	{
		Name: "tcpmemd_class_sockets", Labels: []string{"class"}, Max: 6, Of: OfReading,
		Help: "Sockets by the way in which they are held.",
		take: func(v *view, s *series) {
			for _, class := range classes {
				s.count(v.Reading.Ledger.Classes[class].Sockets, class.String())
			}
		},
	},
	{
		Name: "tcpmemd_hidden_sockets_estimate", Max: 1, Of: OfReading,
		Help: "Allocated sockets that no list of the kernel can show: allocated minus in use.",
		take: func(v *view, s *series) { s.count(v.Reading.Ledger.HiddenEstimate) },
	},
	{
		Name: "tcpmemd_unread_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "Data received that no process has read yet.",
		take: func(v *view, s *series) { s.bytes(v.sum.unread) },
	},
	{
		Name: "tcpmemd_unsent_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "Data in send queues: not sent, or not acknowledged.",
		take: func(v *view, s *series) { s.bytes(v.sum.unsent) },
	},
	{
		Name: "tcpmemd_stalled_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "Memory of sockets whose queues have stood still for 30 seconds or longer.",
		take: func(v *view, s *series) { s.optionalBytes(v.sum.stalled) },
	},
	{
		Name: "tcpmemd_seen_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "Memory of all sockets that were found.",
		take: func(v *view, s *series) { s.bytes(v.Reading.Ledger.Seen) },
	},
	{
		Name: "tcpmemd_named_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "Of that, memory with a known owner.",
		take: func(v *view, s *series) { s.bytes(v.Reading.Ledger.Named) },
	},
	{
		Name: "tcpmemd_unseen_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "Memory in use minus memory seen; within the error bound it is no finding.",
		take: func(v *view, s *series) { s.bytes(v.Reading.Ledger.Unseen) },
	},
	{
		Name: "tcpmemd_error_bound_bytes", Unit: "bytes", Max: 1, Of: OfReading,
		Help: "What the kernel may hold in reserve for its CPUs, in no socket.",
		take: func(v *view, s *series) { s.bytes(v.Reading.Ledger.ReserveMax) },
	},
	{
		Name: "tcpmemd_coverage_ratio", Unit: "ratio", Max: 1, Of: OfReading,
		Help: "The share of the memory that has a known owner; it says little while no more is in use than the error bound.",
		take: func(v *view, s *series) { s.add(v.Reading.Ledger.Coverage) },
	},
	{
		Name: "tcpmemd_ledger_mismatches", Max: 1, Of: OfReading,
		Help: "Identity checks against the kernel's counters that failed.",
		take: func(v *view, s *series) {
			var n int64
			for _, c := range v.Reading.Ledger.Checks {
				if c.Status == reading.CheckMismatch {
					n++
				}
			}
			s.count(n)
		},
	},

	{
		Name: "tcpmemd_owners", Max: 1, Of: OfReading,
		Help: "Owners of TCP memory.",
		take: func(v *view, s *series) { s.count(int64(len(v.Reading.Owners))) },
	},
	{
		Name: "tcpmemd_owners_judged", Labels: []string{"verdict"}, Max: 3, Of: OfReading,
		Help: "Owners with that verdict.",
		take: func(v *view, s *series) {
			for i, kind := range verdicts {
				s.count(v.sum.judged[i], string(kind))
			}
		},
	},
	{
		Name: "tcpmemd_owner_bytes", Unit: "bytes", Labels: ownerLabels, Max: MaxOwners + 1, Of: OfReading,
		Help: "Memory of the biggest owners, and of all others together.",
		take: func(v *view, s *series) {
			for i := range v.groups {
				s.bytes(v.groups[i].bytes, v.groups[i].labels()...)
			}
		},
	},
	{
		Name: "tcpmemd_owner_sockets", Labels: ownerLabels, Max: MaxOwners + 1, Of: OfReading,
		Help: "Sockets of the biggest owners, and of all others together.",
		take: func(v *view, s *series) {
			for i := range v.groups {
				s.count(v.groups[i].sockets, v.groups[i].labels()...)
			}
		},
	},
	{
		Name: "tcpmemd_owner_growth_bytes_per_second", Unit: "bytes_per_second", Labels: ownerLabels, Max: MaxOwners, Of: OfReading,
		Help: "Growth of the biggest owners; absent where too little is known.",
		take: func(v *view, s *series) {
			for i := range v.groups {
				if g := &v.groups[i]; !g.isRest() && g.members > 0 && g.growing == g.members {
					s.add(float64(g.growth)/60, g.labels()...)
				}
			}
		},
	},
	{
		Name: "tcpmemd_owner_verdict", Labels: append(slices.Clone(ownerLabels), "verdict"), Max: MaxOwners, Of: OfReading,
		Help: "The verdict on the biggest owners; always 1, absent where there is none.",
		take: func(v *view, s *series) {
			for i := range v.groups {
				if g := &v.groups[i]; !g.isRest() && g.verdict > 0 {
					s.add(1, append(g.labels(), string(verdicts[g.verdict-1]))...)
				}
			}
		},
	},

	{
		Name: "tcpmemd_kernel_memory_pressures_total", Counter: true, Max: 1, Of: OfSample,
		Help: "Times that the kernel went under memory pressure, over all namespaces.",
		take: func(v *view, s *series) { s.optional(v.Sample.Kernel.MemoryPressures) },
	},
	{
		Name: "tcpmemd_kernel_memory_pressure_seconds_total", Counter: true, Unit: "seconds", Max: 1, Of: OfSample,
		Help: "Time that the kernel was under memory pressure, as it counts it when that ends.",
		take: func(v *view, s *series) {
			if ms := v.Sample.Kernel.MemoryPressuresChrono; ms != nil {
				s.add(float64(*ms) / 1000)
			}
		},
	},
	{
		Name: "tcpmemd_kernel_aborts_on_memory_total", Counter: true, Max: 1, Of: OfSample,
		Help: "Connections that the kernel ended for want of TCP memory.",
		take: func(v *view, s *series) { s.optional(v.Sample.Kernel.AbortOnMemory) },
	},
	{
		Name: "tcpmemd_kernel_prunes_total", Counter: true, Max: 1, Of: OfSample,
		Help: "Times that the kernel squeezed a receive queue.",
		take: func(v *view, s *series) { s.optional(v.Sample.Kernel.PruneCalled) },
	},
	{
		Name: "tcpmemd_kernel_receive_prunes_total", Counter: true, Max: 1, Of: OfSample,
		Help: "Times that it threw received data away for it.",
		take: func(v *view, s *series) { s.optional(v.Sample.Kernel.RcvPruned) },
	},
	{
		Name: "tcpmemd_kernel_log_messages_total", Counter: true, Labels: []string{"message"}, Max: 3, Of: OfSample,
		Help: "Messages of the kernel's log about TCP memory; absent where the log cannot be read.",
		take: func(v *view, s *series) {
			if log := &v.Sample.Log; log.Readable {
				s.count(log.OutOfMemory, "out-of-memory")
				s.count(log.TooManyOrphans, "too-many-orphans")
				s.count(log.ConntrackFull, "conntrack-full")
			}
		},
	},
	{
		Name: "tcpmemd_kernel_log_lost_total", Counter: true, Max: 1, Of: OfSample,
		Help: "Records of the kernel's log that were overwritten before they were read.",
		take: func(v *view, s *series) {
			if v.Sample.Log.Readable {
				s.count(v.Sample.Log.Lost)
			}
		},
	},

	{
		Name: "tcpmemd_decisions_total", Counter: true, Labels: []string{"choice"}, Max: 6, Of: OfDaemon,
		Help: "Records of what a step of a rule was to do.",
		take: func(v *view, s *series) {
			for _, c := range choices {
				s.count(v.Conduct.Counts.Decisions[c], string(c))
			}
		},
	},
	{
		Name: "tcpmemd_refusals_total", Counter: true, Labels: []string{"guard"}, Max: maxGuards, Of: OfDaemon,
		Help: "Steps that a guard refused, at the decision or right before acting.",
		take: func(v *view, s *series) { s.counts(counted(v.Conduct.Counts.Refusals, maxGuards)) },
	},
	{
		Name: "tcpmemd_actions_total", Counter: true, Labels: []string{"action", "result"}, Max: maxActions, Of: OfDaemon,
		Help: "Results of actions; those of somebody else's plugins are other.",
		take: func(v *view, s *series) { s.counts(counted(known(v.Conduct.Counts.Actions, outcomes), maxActions)) },
	},
	{
		Name: "tcpmemd_action_effects_total", Counter: true, Labels: []string{"action", "effect"}, Max: maxEffects, Of: OfDaemon,
		Help: "Effects of actions, as they were measured.",
		take: func(v *view, s *series) { s.counts(counted(known(v.Conduct.Counts.Effects, effects), maxEffects)) },
	},
	{
		Name: "tcpmemd_actions_in_progress", Max: 1, Of: OfDaemon,
		Help: "Actions that run, or whose effect is being measured.",
		take: func(v *view, s *series) { s.count(int64(v.Conduct.ActionsInProgress)) },
	},

	{
		Name: "tcpmemd_rules", Max: 1, Of: OfDaemon,
		Help: "Rules that are loaded.",
		take: func(v *view, s *series) { s.count(int64(len(v.Conduct.Rules))) },
	},
	{
		Name: "tcpmemd_rules_pending", Max: 1, Of: OfDaemon,
		Help: "Rules whose condition holds, not yet for long enough.",
		take: func(v *view, s *series) { s.count(v.rules(func(r *Rule) bool { return r.Pending > 0 })) },
	},
	{
		Name: "tcpmemd_rules_firing", Max: 1, Of: OfDaemon,
		Help: "Rules that fire.",
		take: func(v *view, s *series) { s.count(v.rules(func(r *Rule) bool { return r.Firing > 0 })) },
	},
	{
		Name: "tcpmemd_rules_held", Max: 1, Of: OfDaemon,
		Help: "Rules that wait for a spent budget.",
		take: func(v *view, s *series) { s.count(v.rules(func(r *Rule) bool { return r.Held })) },
	},
	{
		Name: "tcpmemd_rule_firing", Labels: []string{"rule", "severity"}, Max: maxFiring, Of: OfDaemon,
		Help: "For how many owners, or for the host, a rule fires; the gravest of the rules that do.",
		take: func(v *view, s *series) { v.firing(s) },
	},
	{
		Name: "tcpmemd_incidents_open", Max: 1, Of: OfDaemon,
		Help: "Incidents that last.",
		take: func(v *view, s *series) { s.count(int64(v.Conduct.IncidentsOpen)) },
	},
	{
		Name: "tcpmemd_incidents_total", Counter: true, Max: 1, Of: OfDaemon,
		Help: "Incidents that began.",
		take: func(v *view, s *series) { s.count(v.Conduct.Counts.Incidents) },
	},
	{
		Name: "tcpmemd_blind", Labels: []string{"kind"}, Max: len(blindness) + 1, Of: OfDaemon,
		Help: "In which ways the daemon cannot see or record just now.",
		take: func(v *view, s *series) { v.blind(s) },
	},
	{
		Name: "tcpmemd_gaps", Labels: []string{"code"}, Max: maxGaps, Of: OfSample,
		Help: "Things that could not be read, by the code of the gap; absent without one.",
		take: func(v *view, s *series) { s.counts(counted(v.gaps(), maxGaps)) },
	},
	{
		Name: "tcpmemd_rights_missing", Max: 1, Of: OfDaemon,
		Help: "Actions of enforcing rules that lack a right.",
		take: func(v *view, s *series) { s.count(int64(v.Conduct.RightsMissing)) },
	},
	{
		Name: "tcpmemd_journal_waiting", Max: 1, Of: OfDaemon,
		Help: "Entries that the journal has not taken yet; absent where none are written to it.",
		take: func(v *view, s *series) {
			if j := v.Conduct.Journal; j != nil {
				s.count(int64(j.Waiting))
			}
		},
	},
	{
		Name: "tcpmemd_journal_lost_total", Counter: true, Max: 1, Of: OfDaemon,
		Help: "Entries that the journal did not take and that had no room; the action log has them.",
		take: func(v *view, s *series) {
			if j := v.Conduct.Journal; j != nil {
				s.count(j.Lost)
			}
		},
	},

	{
		Name: "process_cpu_seconds_total", Counter: true, Unit: "seconds", Max: 1, Of: OfProcess,
		Help: "CPU time of the daemon, user and system.",
		take: func(v *view, s *series) {
			if cpu := v.Process.CPUSeconds; cpu != nil {
				s.add(*cpu)
			}
		},
	},
	{
		Name: "process_resident_memory_bytes", Unit: "bytes", Max: 1, Of: OfProcess,
		Help: "Resident memory of the daemon.",
		take: func(v *view, s *series) { s.optionalBytes(v.Process.ResidentBytes) },
	},
	{
		Name: "process_start_time_seconds", Unit: "seconds", Max: 1, Of: OfProcess,
		Help: "When the daemon's process started, in Unix time.",
		take: func(v *view, s *series) { s.moment(v.Process.Started) },
	},
	{
		Name: "process_open_fds", Max: 1, Of: OfProcess,
		Help: "Open file descriptors of the daemon.",
		take: func(v *view, s *series) { s.optional(v.Process.OpenFDs) },
	},
}
