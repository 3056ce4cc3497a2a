//go:build e2e

package e2e

import (
	"maps"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// row is what the journal must show of one text of a kind.
type row struct {
	text     event.Text
	priority string
	says     []string
	fields   map[string]string // TCPMEMD_*, without those that all have; no others
	object   bool              // journalctl -u offender.service shows it
}

// kinds has a row for every kind of the catalogue, each written by the functions
// that the daemon writes with.
func kinds() map[string]row {
	at := time.Date(2026, 11, 22, 8, 15, 0, 0, time.UTC)
	owner := &record.Suspect{
		Key: "system/offender.service", Name: "offender.service", Kind: reading.KindService, Unit: "offender.service", Manager: "system",
		UnitVerified: true, UID: new(uint32(7)), Bytes: 200 << 20, Share: 0.8, Sockets: 12,
		Holders: []reading.Holder{{PID: 412, StartTime: 1, Command: "worker"}},
		Verdict: &reading.Verdict{Kind: reading.Leak, Reasons: []string{"its queues have not moved"}},
	}
	d := &record.Decision{
		Step: 2, Action: "restart-unit", Touches: "owner", Owner: owner, Mode: "enforce", ModeWhy: "daemon and rule enforce",
		Level: "critical", Guard: "protected", Why: "the reason", Predicted: new(int64(200 << 20)),
	}
	c := event.Case{
		Incident: "i-1", Rule: "leak", Key: owner.Key, Action: "a-1", Record: "r-1", About: "a service leaks", Severity: event.Critical, At: at,
		Pool: event.Pool{Used: 300 << 20, Pressure: 225 << 20, Max: 337 << 20}, See: "a-1",
	}.With(d)
	firing := c
	firing.Action, firing.Record, firing.Since, firing.Steps = "", "", at.Add(-time.Minute), []string{"restart-unit after 60 s"}
	firing.Others, firing.MoreOthers = []record.Suspect{{Name: "other.service", Bytes: 1 << 20}}, 3

	// What all of an owner's have, and more of each.
	of := func(more map[string]string) map[string]string {
		all := map[string]string{
			"RULE": "leak", "KEY": "system/offender.service", "INCIDENT": "i-1", "ACTION": "a-1", "RECORD": "r-1", "MODE": "enforce",
			"LEVEL": "critical", "USED_BYTES": "314572800", "PRESSURE_BYTES": "235929600", "MAX_BYTES": "353370112",
			"OWNER": "offender.service", "OWNER_KIND": "service", "OWNER_BYTES": "209715200", "OWNER_UID": "7", "VERDICT": "leak",
			"UNIT": "offender.service", "PID": "412", "COMMAND": "worker",
		}
		maps.Copy(all, more)
		return all
	}
	step := map[string]string{"STEP": "2", "STEP_ACTION": "restart-unit", "GUARD": "protected"}
	incident := map[string]string{"SINCE": "2026-11-22T08:14:00Z", "KEYS": "5"}
	without := func(m map[string]string, names ...string) map[string]string {
		for _, name := range names {
			delete(m, name)
		}
		return m
	}
	decided := func(choice record.Choice) event.Text {
		dec := *d
		dec.Choice = choice
		return event.Decided(c, &dec)
	}

	rows := map[string]row{
		event.RuleFiring: {
			text: event.Firing(firing), priority: "2", object: true,
			says: []string{
				"leak: offender.service (pid 412) holds 200.0 MiB (80 %), leak; TCP memory is 89 % full (300.0 MiB of 337.0 MiB), above pressure 225.0 MiB; and 4 more\n",
				"since: 2026-11-22 08:14:00 UTC (60 s), level critical", "unit offender.service, pid 412 worker, uid 7", "also: other.service holds 1.0 MiB",
				"what is done, while it lasts: restart-unit after 60 s", "more: tcpmemctl incidents show i-1",
			},
			fields: without(of(incident), "ACTION", "RECORD"),
		},
		event.RuleEnded: {
			text: func() event.Text {
				over := firing
				over.At, over.Others, over.MoreOthers = at.Add(time.Hour), nil, 0
				over.Deeds = []event.Deed{{ID: "a-1", Decision: d, Result: &record.Result{Outcome: record.Done, TookSeconds: 2}, Effect: &record.Effect{Verdict: record.Helped}}}
				t := event.Ended(over, &record.State{End: record.EndCleared, Why: "over: tcp.fill < 0.5"})
				t.Severity = event.Warning // as its beginning was an alert
				return t
			}(),
			priority: "4", object: true,
			says: []string{
				"leak: over for offender.service after 61 min: restart-unit on offender.service helped\n", "over: tcp.fill < 0.5",
				"done: restart-unit on offender.service: done after 2 s; helped", "now: TCP memory is ", "more: tcpmemctl incidents show i-1",
			},
			fields: without(of(map[string]string{
				"SINCE": "2026-11-22T08:14:00Z", "KEYS": "1", "ACTIONS": "1", "END": "cleared", "DURATION_SECONDS": "3660", "RESULT": "done", "EFFECT": "helped",
			}), "ACTION", "RECORD"),
		},
		event.ActionIntent: {
			text: decided(record.ChoseAct), priority: "5", object: true,
			says: []string{"leak: acts: restart-unit on offender.service, which holds 200.0 MiB"}, fields: of(step),
		},
		event.ActionResult: {
			text: event.Resulted(c, d, &record.Result{Outcome: record.Failed, Code: "job-failed", Message: "the job failed", TookSeconds: 3}), priority: "4", object: true,
			says:   []string{"leak: restart-unit on offender.service: failed (job-failed) after 3 s: the job failed", "more: tcpmemctl explain a-1"},
			fields: of(map[string]string{"STEP": "2", "STEP_ACTION": "restart-unit", "RESULT": "failed", "RESULT_CODE": "job-failed"}),
		},
		event.ActionEffect: {
			text: event.Measured(c, d, &record.Effect{Verdict: record.Worse, TargetBefore: new(int64(1 << 20)), TargetAfter: new(int64(2 << 20))}), priority: "2", object: true,
			says:   []string{"leak: restart-unit on offender.service: worse, target 1.0 MiB -> 2.0 MiB", "more: tcpmemctl explain a-1"},
			fields: of(map[string]string{"STEP": "2", "STEP_ACTION": "restart-unit", "EFFECT": "worse"}),
		},
		event.WouldAct: {
			text: decided(record.ChoseDryRun), priority: "6", object: true,
			says: []string{"leak: would do restart-unit on offender.service, which holds 200.0 MiB"}, fields: of(step),
		},
		event.Refused: {
			text: decided(record.ChoseRefuse), priority: "4", object: true,
			says: []string{"leak: does not do restart-unit on offender.service: the reason", "more: tcpmemctl explain a-1"}, fields: of(step),
		},
		event.Held: {
			text: decided(record.ChoseHold), priority: "4", object: true,
			says: []string{"leak: held: restart-unit on offender.service: the reason", "more: tcpmemctl explain a-1"}, fields: of(step),
		},
		event.Waiting: {
			text: decided(record.ChoseWait), priority: "7", object: true,
			says: []string{"leak: waits with restart-unit on offender.service: the reason"}, fields: of(step),
		},
		event.Exhausted: {
			text: decided(record.ChoseNothing), priority: "2", object: true,
			says: []string{"leak: the reason", "more: tcpmemctl explain a-1"}, fields: of(step),
		},
		event.LevelChanged: {
			text: event.Level(event.Case{At: at, Level: "critical", Pool: c.Pool}, "pressure", "used > 0.9 x max"), priority: "6",
			says: []string{"level critical (was pressure): used > 0.9 x max"},
			fields: map[string]string{
				"LEVEL": "critical", "LEVEL_BEFORE": "pressure", "USED_BYTES": "314572800", "PRESSURE_BYTES": "235929600", "MAX_BYTES": "353370112",
			},
		},
	}
	// What the daemon tells of itself: a sentence, and what to do.
	for id, priority := range map[string]string{
		event.Undelivered: "4", event.DaemonStarted: "6", event.DaemonStopped: "6", event.Paused: "4", event.Resumed: "6", event.Stopped: "4",
		event.WasReset: "6", event.Reloaded: "6", event.ReloadFailed: "4", event.LeaseTaken: "4", event.LeaseExtended: "4",
		event.LeaseAdopted: "6", event.LeaseEnded: "6", event.LeaseRival: "4", event.LeaseStuck: "2", event.TCPMemChanged: "4", event.Gap: "4",
		event.Repaired: "4", event.BlindCoverage: "4", event.BlindNetns: "4", event.BlindKernelLog: "4", event.BlindBus: "4",
		event.BlindSample: "2", event.LogUnwritable: "2", event.BudgetsLost: "4", event.RightsMissing: "4", event.PolicyBroken: "2",
		event.PluginBroken: "4", event.JournalLate: "4", event.MetricsUnavailable: "4",
	} {
		r := row{text: event.Told(&record.Event{ID: id, Text: "what happened", By: &record.Caller{UID: 3, PID: 4}}), priority: priority}
		r.text.At = at
		r.says, r.fields = []string{"tcpmemd: what happened"}, map[string]string{"BY_UID": "3"}
		if do := event.KindOf(id).Do; priority < "5" {
			r.says = append(r.says, "\nwhat to do: "+do)
		}
		rows[id] = r
	}
	return rows
}
