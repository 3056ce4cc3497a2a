package apitest

import (
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Incidents of Acted: one that a restart ended, and one that lasts.
const (
	EndedIncident = "i-20261122T081500-leaking-service"
	OpenIncident  = "i-20261122T085200-slow-peer"
	// Restart is the action that ended the first one.
	Restart = "a-20261122T081611-1"
)

const boot = "8ee26d30-1f4b-4a4c-9b0c-0d7e3b6f7a11"

// stamp is a moment so long before At.
func stamp(before time.Duration) record.Stamp {
	return record.Stamp{At: At.Add(-before), BootID: boot, BootSeconds: 90_000 - before.Seconds(), Synced: true}
}

// Acted is the host of Leak with a daemon that enforces. It restarted a
// service once, was held the second time, and would cut connections of a slow
// peer.
func Acted() *Host {
	h := Leak()
	h.Mode = "enforce"
	h.fill("task-queue.service", "task-queue", "prod/checkout-7d9f (worker)")
	return h
}

// ActedHostile is Acted with names that attack a terminal.
func ActedHostile() *Host {
	h := Hostile()
	h.Mode = "enforce"
	h.fill("evil\x1b[2J\n.service", "\x1b]0;title\arm", "right\u202eto left")
	return h
}

func (h *Host) fill(unit, command, pod string) {
	leak := &reading.Verdict{Kind: reading.Leak, Reasons: []string{"900 of its sockets are in close-wait", "its queues have not moved for 5 min"}}
	owner := &record.Suspect{
		Key: "system/" + unit, Name: unit, Kind: reading.KindService, Unit: unit, Manager: "system",
		UnitVerified: true, InvocationID: "4ac1d2b1c0de4f00a1b2c3d4e5f60718", UID: new(uint32), Command: command,
		Holders: []reading.Holder{{PID: 412, StartTime: 123, Command: command, Unit: unit}},
		Sockets: 1203, Bytes: 251 << 20, Share: 0.85, Growth: new(int64(12 << 20)), Verdict: leak,
		Classes:  map[string]int64{"owned": 247 << 20, "orphan": 4 << 20},
		Evidence: map[string]int64{"fd": 247 << 20, "last-seen": 4 << 20},
	}
	second := record.Suspect{
		Key: "container/3f2a9c", Name: pod, Kind: reading.KindContainer, Command: "java",
		Container: &reading.Container{ID: "3f2a9c", Runtime: "containerd", Name: "worker"},
		Holders:   []reading.Holder{{PID: 900, StartTime: 9000, Command: "java"}}, Sockets: 20, Bytes: 40 << 20, Share: 0.14,
		Classes: map[string]int64{"owned": 40 << 20}, Evidence: map[string]int64{"fd": 40 << 20},
	}
	base := record.Decision{
		About: "one service's share of TCP memory keeps growing and the host nears its limit", RuleHash: "3f9a1c",
		Mode: "enforce", ModeWhy: "daemon and rule enforce", Level: "critical", Fill: 0.87, Coverage: new(0.998), AgeSecs: new(0.4),
		Condition: `tcp.fill > 0.7 && owner.share > 0.3 && owner.verdict == "leak"`,
		Numbers:   record.Numbers{"tcp.fill": 0.87, "owner.share": 0.85, "owner.verdict": "leak"},
		Owner:     owner, RunnersUp: []record.Suspect{second}, Predicted: new(int64(251 << 20)),
	}
	tell, restart, held := base, base, base
	tell.Choice, tell.Why, tell.Step, tell.Action, tell.Touches = record.ChoseAct, "telling is never blocked", 1, "notify", "nothing"
	restart.Choice, restart.Why, restart.Step = record.ChoseAct, "the condition holds and nothing stands against it", 2
	restart.Action, restart.Touches = "restart-unit", "owner"
	held.Choice, held.Guard, held.Step, held.Action, held.Touches = record.ChoseHold, "budget", 2, "restart-unit", "owner"
	held.Why = "the budget of 1 per 1h is spent: unit system/" + unit + " restart-unit"
	dry := base
	dry.Choice, dry.Mode, dry.ModeWhy, dry.Why = record.ChoseDryRun, "observe", `the rule's mode is "observe"`, `would act, but the rule's mode is "observe"`
	dry.About, dry.Condition, dry.RuleHash = "a peer does not read what it is sent", `owner.verdict == "slow-peer"`, "77ab01"
	dry.Numbers = record.Numbers{"owner.verdict": "slow-peer", "tcp.eta": nil}
	dry.Step, dry.Action, dry.Touches, dry.Owner = 1, "destroy-sockets", "owner", &second
	dry.RunnersUp, dry.Predicted = []record.Suspect{*owner}, new(int64(40<<20))

	seq := uint64(0)
	add := func(before time.Duration, id string, r record.Record) {
		seq++
		r.Version, r.Seq, r.ID, r.Stamp = record.Version, seq, id, stamp(before)
		h.Log = append([]record.Record{r}, h.Log...)
	}
	key := owner.Key
	of := func(kind record.Kind, action string) record.Record {
		return record.Record{Kind: kind, Incident: EndedIncident, Rule: "leaking-service", Key: key, Action: action}
	}
	state := func(before time.Duration, id string, s record.State) {
		s.Since, s.Mode, s.Owner = stamp(45*time.Minute), "enforce", owner
		r := of(record.KindState, "")
		r.State = &s
		add(before, id, r)
	}
	decided := func(before time.Duration, id, action string, kind record.Kind, d record.Decision) {
		r := of(kind, action)
		if kind == record.KindIntent {
			r.Intent = &record.Intent{Decision: d, Budget: []string{"rule leaking-service", "host"}, Deadline: stamp(before - time.Minute)}
		} else {
			r.Decision = &d
		}
		add(before, id, r)
	}
	came := func(before time.Duration, id, action string, res record.Result) {
		r := of(record.KindResult, action)
		r.Result = &res
		add(before, id, r)
	}
	state(45*time.Minute, "r-1", record.State{Phase: record.Pending, Why: "the condition holds", Level: "pressure", Numbers: base.Numbers})
	state(44*time.Minute, "r-2", record.State{Phase: record.Firing, Why: "the condition has held for 30s", Level: "critical", Numbers: base.Numbers})
	decided(44*time.Minute, "r-3", "a-20261122T081600-1", record.KindIntent, tell)
	came(44*time.Minute-time.Second, "r-4", "a-20261122T081600-1", record.Result{Outcome: record.Delivered, Message: "told the journal and 1 webhook", TookSeconds: 0.3})
	decided(43*time.Minute, "r-5", Restart, record.KindIntent, restart)
	came(43*time.Minute-4*time.Second, "r-6", Restart, record.Result{
		Outcome: record.Done, Message: "restarted, and destroyed 2 orphans that it left", TookSeconds: 3.9,
		Changes:   []record.Change{{What: "unit " + unit, Before: "invocation 4ac1d2b1", After: "invocation 99d0aa12"}},
		Predicted: map[string]int64{"owned": 247 << 20},
	})
	effect := of(record.KindEffect, Restart)
	effect.Effect = &record.Effect{
		Verdict: record.Helped, Why: "the target fell by 250.0 MiB and the pool by 248.0 MiB",
		TargetBefore: new(int64(251 << 20)), TargetAfter: new(int64(1 << 20)), PoolBefore: new(int64(295 << 20)), PoolAfter: new(int64(47 << 20)),
		Predicted: new(int64(247 << 20)), Bound: 2 << 20, AfterSeconds: 30,
	}
	add(42*time.Minute, "r-7", effect)
	state(40*time.Minute, "r-8", record.State{Phase: record.Ended, Why: "over: tcp.fill < 0.5", End: record.EndCleared, Level: "calm"})
	decided(9*time.Minute, "r-9", "", record.KindDecision, held)
	slow := record.Record{Kind: record.KindDecision, Incident: OpenIncident, Rule: "slow-peer", Key: second.Key, Decision: &dry}
	add(8*time.Minute, "r-10", slow)
	slow = h.Log[0]
	add(2*time.Minute, "r-11", record.Record{Kind: record.KindEvent, Event: &record.Event{
		ID: "paused", Severity: "warning", Text: "paused for 1h: deploying", By: &record.Caller{UID: 0, PID: 4242},
	}})

	ended := stamp(40 * time.Minute)
	var records []record.Record
	for _, r := range slices.Backward(h.Log) {
		if r.Incident == EndedIncident && r.ID != "r-9" {
			records = append(records, r)
		}
	}
	h.IncidentList = []*record.Incident{{
		Version: record.Version, ID: OpenIncident, Rule: "slow-peer", About: dry.About, Severity: "warning", Mode: "observe",
		Began: stamp(9 * time.Minute), Fired: stamp(8 * time.Minute), Records: []record.Record{slow},
		Keys: []record.KeyState{{Key: second.Key, Phase: record.Firing, Began: stamp(9 * time.Minute), Owner: &second, Step: 1, Choice: record.ChoseDryRun, Why: dry.Why}},
	}, {
		Version: record.Version, ID: EndedIncident, Rule: "leaking-service", About: base.About, Severity: "critical", Mode: "enforce",
		Began: stamp(45 * time.Minute), Fired: stamp(44 * time.Minute), Ended: &ended, End: record.EndCleared,
		Keys: []record.KeyState{{
			Key: key, Phase: record.Ended, Began: stamp(45 * time.Minute), Ended: &ended, End: record.EndCleared, Owner: owner,
			Step: 2, Choice: record.ChoseAct, Why: restart.Why,
		}},
		Readings: []record.Point{
			point(45*time.Minute, "pressure", 60000), point(44*time.Minute, "critical", 75662), point(42*time.Minute, "elevated", 12100),
			point(40*time.Minute, "calm", 11900),
		},
		Worst: &record.Ledger{
			Stamp: stamp(44 * time.Minute), UsedPages: 75662, Seen: 295 << 20, Named: 294 << 20, Unseen: 1 << 20, Coverage: 0.998,
			Classes: map[string]int64{"owned": 287 << 20, "orphan": 4 << 20, "unaccepted": 4 << 20}, Owners: []record.Suspect{*owner, second}, LeftOut: 5,
		},
		Records: records,
		Sample: []record.SocketLine{
			{Cookie: 1, Netns: HostNetns.Inode, State: "close-wait", Class: "owned", Local: new("10.0.0.5:40000"), Remote: new("10.0.0.9:5672"), Bytes: 266240, Receive: 262144, Evidence: "fd", PID: 412},
			{Cookie: 2, Netns: HostNetns.Inode, State: "fin-wait-1", Class: "orphan", Local: new("10.0.0.5:40000"), Remote: new("10.0.0.9:5672"), Bytes: 1048576, Send: 1048576, Evidence: "last-seen"},
		},
		LeftOut: record.LeftOut{Sockets: 1201},
	}}
	h.Conduct = &api.Conduct{
		ModeWhy: "tcpmemd.toml says so",
		Pause:   &api.Pause{Why: "deploying", Since: At.Add(-2 * time.Minute), Until: new(At.Add(58 * time.Minute)), By: &record.Caller{UID: 0, PID: 4242}},
		Blind:   []api.Blindness{{ID: "blind-netns", Text: "netns 4026532000 cannot be read: permission denied", Since: At.Add(-time.Hour)}},
		Journal: &api.Journal{Waiting: 2, Lost: 1},
		Rights: []api.MissingRight{{
			Action: "raise-tcp-mem", Missing: "CAP_NET_ADMIN, and /proc/sys is read-only",
			Fix: "install the drop-in /usr/share/doc/tcpmemd/enforce.conf", Rules: []string{"load"},
		}},
		Rules: []api.RuleState{{
			Name: "leaking-service", About: base.About, Severity: "critical", Mode: "observe", ModeWhy: "paused: deploying", ForEach: "unit",
			When: base.Condition, Hash: base.RuleHash, Origin: "/etc/tcpmemd/policy.d/10-leak.toml:1", Firing: 1, Held: true,
			Keys: []api.RuleKey{{
				Key: key, Name: unit, Phase: record.Firing, Since: At.Add(-9 * time.Minute), Incident: EndedIncident, Bytes: new(int64(251 << 20)),
				Step: 2, Steps: 2, Action: "restart-unit", Choice: record.ChoseHold, Guard: "budget", Why: held.Why,
			}},
			Budgets: []api.Budget{{Of: "unit system/" + unit + " restart-unit", Count: 1, PerSeconds: 3600, Left: 0, NextAt: new(At.Add(17 * time.Minute))}}, CooldownSeconds: 900,
		}, {
			Name: "slow-peer", About: dry.About, Severity: "warning", Mode: "observe", ModeWhy: dry.ModeWhy, ForEach: "owner", When: dry.Condition,
			Firing: 1, Pending: 1, Keys: []api.RuleKey{{
				Key: second.Key, Name: pod, Phase: record.Firing, Since: At.Add(-8 * time.Minute), Incident: OpenIncident,
				Step: 1, Steps: 1, Action: "destroy-sockets", Choice: record.ChoseDryRun, Why: dry.Why, Bytes: new(int64(40 << 20)),
			}}, KeysLeftOut: 1, CooldownSeconds: 900,
		}, {
			Name: "pressure-warning", About: "the kernel is about to save TCP memory", Severity: "warning", Mode: "observe", ModeWhy: "paused: deploying", ForEach: "host",
		}},
	}
	h.PolicyDoc = api.Policy{
		Text:  "[rule.leaking-service]\nmode = \"enforce\"  # /etc/tcpmemd/policy.d/10-leak.toml:2\n",
		Files: []string{"/etc/tcpmemd/policy.d/10-leak.toml"},
	}
	h.PluginList = []api.Plugin{{
		Name: "restart-unit", Path: "/usr/libexec/tcpmemd/tcpmemd-action", BuiltIn: true, PluginVersion: new("0.1.0"), Touches: "owner",
		Rights: []string{"CAP_NET_ADMIN"}, Running: true, PID: 871, Rules: []string{"leaking-service"},
	}, {
		Name: "page-me", Path: "/opt/site/page-me\x1b[31m", Touches: "nothing", Missing: []string{},
		LastError: new("start plugin: no handshake within 5s"), LastErrorAt: new(At.Add(-time.Hour)),
	}}
}

func point(before time.Duration, level string, used reading.Pages) record.Point {
	return record.Point{Stamp: stamp(before), Level: level, Used: used, Min: 43257, Pressure: 57676, Max: 86514, Orphans: 4}
}
