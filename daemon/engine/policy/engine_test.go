package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// host is a host of the test's making, seen by an engine once in five seconds.
type host struct {
	t      *testing.T
	engine *Engine
	cfg    Config
	now    record.Stamp
	used   reading.Pages
	owners []reading.Owner
	in     Input // what else is so
	cover  float64

	log []string // changes and decisions, as words
	act []Decision
}

const step = 5 * time.Second

func newHost(t *testing.T, rules ...*Rule) *host {
	t.Helper()
	h := &host{t: t, used: 1000, cover: 1}
	h.now = record.Stamp{At: time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC), BootID: "boot", BootSeconds: 100_000, Synced: true}
	h.cfg = Config{
		Rules: rules, Mode: Enforce, MinCoverage: 0.8, SettleStart: 2 * time.Minute, SettleOwner: 5 * time.Minute,
		Sample: time.Second, Calm: 30 * time.Second, Pressed: step,
		Actions: map[string]ActionInfo{
			"notify":          {Name: "notify", Touches: TouchesNothing},
			"restart-unit":    {Name: "restart-unit", Touches: TouchesOwner, Evidence: []string{"fd"}, EvidenceShare: 0.5},
			"destroy-sockets": {Name: "destroy-sockets", Touches: TouchesOwner, Evidence: []string{"fd", "last-seen"}, EvidenceShare: 0.5, Connections: true},
			"raise-tcp-mem":   {Name: "raise-tcp-mem", Touches: TouchesHost, Lease: true},
		},
	}
	h.engine = New(h.cfg, Memory{})
	h.in.Started = record.Stamp{At: h.now.At.Add(-time.Hour), BootID: "boot", BootSeconds: h.now.BootSeconds - 3600, Synced: true}
	return h
}

// leaker is a service with all that may make it a target.
func leaker(name string, bytes int64) reading.Owner {
	o := reading.Owner{
		Key: "system/" + name, Name: name, Kind: reading.KindService, Unit: name, Manager: "system", UnitVerified: true,
		InvocationID: "one", Holders: []reading.Holder{{PID: 7, StartTime: 100}},
		Sum: reading.Tally{Sockets: 10, Bytes: bytes << 10}, Verdict: &reading.Verdict{Kind: reading.Leak},
	}
	o.Evidence[reading.FD] = o.Sum
	return o
}

// turn lets a step of time pass and takes a full reading.
func (h *host) turn() Output {
	h.now = plus(h.now, step)
	return h.look()
}

func (h *host) look() Output {
	r := &reading.Reading{Owners: slices.Clone(h.owners), Ledger: reading.Ledger{Coverage: h.cover}}
	for i := range h.owners {
		r.Ledger.Seen += h.owners[i].Sum.Bytes
	}
	in := h.in
	in.Now, in.Fresh = h.now, true
	in.Facts = Facts{
		Sample: &reading.Sample{
			At: h.now.At, PageSize: 4096, Used: h.used, Mem: reading.TCPMem{Min: 500, Pressure: 700, Max: 1000},
		},
		Level: reading.Critical, Reading: r, Blind: h.in.Facts.Blind,
	}
	r.Sample = *in.Facts.Sample
	out := h.engine.Turn(&in)
	h.in.Facts = in.Facts
	for _, c := range out.Changes {
		h.log = append(h.log, fmt.Sprintf("%s %s %s", c.Key, c.State.Phase, c.State.End))
	}
	for _, d := range out.Decisions {
		h.log = append(h.log, fmt.Sprintf("%s step %d %s %s %s", strings.Join(d.Keys, ","), d.Record.Step, d.Record.Action, d.Record.Choice, d.Record.Guard))
		if d.Record.Choice == record.ChoseAct {
			h.act = append(h.act, d)
		}
	}
	return out
}

func (h *host) turns(d time.Duration) {
	for range d / step {
		h.turn()
	}
}

// done answers for the last decision to act.
func (h *host) done(effect record.Verdict) {
	h.t.Helper()
	d := h.last()
	h.engine.Paid(fmt.Sprint(len(h.act)), d, h.now)
	h.engine.Resulted(d, record.Done, "", h.now)
	if d.Info.Touches != TouchesNothing {
		h.engine.Measured(d, effect, h.now)
	}
}

func (h *host) last() *Decision {
	h.t.Helper()
	if len(h.act) == 0 {
		h.t.Fatalf("nothing was decided to act; log:\n%s", strings.Join(h.log, "\n"))
	}
	return &h.act[len(h.act)-1]
}

func (h *host) want(log ...string) {
	h.t.Helper()
	got := make([]string, len(h.log))
	for i, l := range h.log {
		got[i] = strings.TrimSpace(l)
	}
	if !slices.Equal(got, log) {
		h.t.Errorf("log:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(log, "\n  "))
	}
	h.log = nil
}

func plus(s record.Stamp, d time.Duration) record.Stamp {
	s.At, s.BootSeconds = s.At.Add(d), s.BootSeconds+d.Seconds()
	return s
}

func rule(t *testing.T, change ...func(*Rule)) *Rule {
	t.Helper()
	r := &Rule{
		Name: "leak", Severity: Warning, Mode: Enforce, ForEach: Unit, For: 15 * time.Second, Cooldown: 15 * time.Minute, Hash: "1",
		When: condition(t, `owner.bytes > 1000 * KiB`, Unit), Until: condition(t, `owner.bytes < 500 * KiB`, Unit),
		Steps: []Step{{Action: "notify"}, {Action: "restart-unit", After: 10 * time.Second, Budget: Budget{2, time.Hour}}},
	}
	for _, c := range change {
		c(r)
	}
	return r
}

func condition(t *testing.T, text string, s Scope) *Condition {
	t.Helper()
	c, err := Compile(text, s)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return c
}

// The whole of a firing: pending, firing, each step after the outcome of the one
// before, and the end.
func TestLadder(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(15 * time.Second)
	h.want("system/queue.service pending")
	h.turn()
	h.want("system/queue.service firing", "system/queue.service step 1 notify act")
	h.turns(30 * time.Second)
	h.want() // it waits for the outcome
	h.done("")
	h.turn()
	h.want()
	h.turn()
	h.want("system/queue.service step 2 restart-unit act")
	if keys := h.last().Budget; !slices.Contains(keys, "unit system/queue.service restart-unit") || !slices.Contains(keys, "host") {
		t.Errorf("paid from %q", keys)
	}
	h.owners[0].Sum.Bytes = 100 << 10
	h.turn()
	h.want() // the effect is measured first
	h.done(record.Helped)
	h.turn()
	h.want("system/queue.service ended cleared")
}

// A condition that goes away while it pends starts from zero.
func TestPendingRestarts(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(10 * time.Second)
	h.owners[0].Sum.Bytes = 900 << 10
	h.turn()
	h.owners[0].Sum.Bytes = 5000 << 10
	h.turns(15 * time.Second)
	h.want("system/queue.service pending", "system/queue.service ended not-reached", "system/queue.service pending")
}

// Time in which nothing was seen does not count (a suspend, a stopped daemon).
func TestGap(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(10 * time.Second)
	h.now = plus(h.now, time.Hour)
	h.turn()
	h.want("system/queue.service pending", "system/queue.service ended gap", "system/queue.service pending")
}

// Between the condition and until nothing is done; what is gone ends.
func TestUntil(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done("")
	h.log = nil
	h.owners[0].Sum.Bytes = 700 << 10
	h.turns(5 * time.Minute)
	h.want()
	h.owners = nil
	h.turns(20 * time.Second)
	h.want("system/queue.service ended owner-gone")
}

// What helped and yet fires is not helped; after the last step it is exhausted,
// told once per cooldown.
func TestHelpedAndExhausted(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Cooldown = 20 * time.Minute }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done("")
	h.turns(10 * time.Second)
	h.log = nil
	h.done(record.Helped)
	h.turns(25 * time.Second)
	h.want()
	h.turn()
	h.want("system/queue.service step 2  nothing")
	h.turns(10 * time.Minute)
	h.want()
}

// Observing goes through the same steps on paper, and starts anew when it may
// act.
func TestObserve(t *testing.T) {
	h := newHost(t, rule(t))
	h.cfg.Mode = Observe
	h.engine.Reload(h.cfg, h.now)
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done("")
	h.log = nil
	h.turns(10 * time.Second)
	h.want("system/queue.service step 2 restart-unit dry-run")
	h.turn()
	h.log = nil
	h.cfg.Mode = Enforce
	h.engine.Reload(h.cfg, h.now)
	h.turn()
	h.want("system/queue.service step 1 notify held told") // an alert is not repeated
	h.turns(10 * time.Second)
	h.want("system/queue.service step 2 restart-unit act")
}

// Several keys of a rule are told of at once, and acted on one after the other,
// the biggest first.
func TestSeveral(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("a.service", 9000), leaker("b.service", 5000), leaker("c.service", 7000)}
	h.turns(20 * time.Second)
	if got := h.last().Keys; !slices.Equal(got, []string{"system/a.service", "system/c.service", "system/b.service"}) {
		t.Errorf("told of %q", got)
	}
	h.done("")
	h.log = nil
	h.turns(10 * time.Second)
	h.want("system/a.service step 2 restart-unit act", "system/c.service step 2 restart-unit waiting busy", "system/b.service step 2 restart-unit waiting busy")
	h.in.Busy = "a"
	h.turn()
	h.want()
	h.in.Busy = ""
	h.done(record.NoEffect)
	h.turn()
	if got := h.last().Key(); got != "system/c.service" {
		t.Errorf("then %s, want c", got)
	}
}

// What the disk did not take is no step taken: it waits for the disk, and its
// time comes again.
func TestUnrecorded(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done("")
	h.turns(10 * time.Second)
	h.engine.Paid("a", h.last(), h.now)
	h.engine.Resulted(h.last(), record.Refused, Unrecorded, h.now)
	h.log = nil
	h.in.Busy = "the action log cannot be written"
	h.turns(5 * time.Minute)
	h.want("system/queue.service step 2 restart-unit waiting busy")
	h.log, h.in.Busy = nil, ""
	h.turn()
	h.want("system/queue.service step 2 restart-unit act")
}

// While PID 1 is not to be reached a step waits for its word, for a while.
func TestUnheard(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.owners[0].UnitVerified = false
	h.in.Facts.Blind = []string{BlindBus}
	h.turns(20 * time.Second)
	h.done("")
	h.log = nil
	h.turns(time.Minute)
	h.want("system/queue.service step 2 restart-unit waiting unit")
	h.in.Facts.Blind, h.owners[0].UnitVerified = nil, true
	h.turn()
	h.want("system/queue.service step 2 restart-unit act")
}

// Each guard, by the one thing that makes it refuse.
func TestGuards(t *testing.T) {
	for _, tc := range []struct {
		guard  string
		spoil  func(*host)
		action string
	}{
		{"resolved", func(h *host) { h.owners[0].Kind = reading.KindUnresolved }, ""},
		{"resolved", func(h *host) { h.owners[0].Kind = reading.KindKernel }, ""},
		{"unit", func(h *host) { h.owners[0].UnitVerified = false }, ""},
		{"unit", func(h *host) { h.owners[0].Manager = "user@1000" }, ""},
		{"protected", func(h *host) { h.owners[0].Protected = "it is sshd" }, ""},
		{"shared", func(h *host) { h.owners[0].Shared = true }, ""},
		{"slow-peer", func(h *host) { h.owners[0].Verdict = &reading.Verdict{Kind: reading.SlowPeer} }, ""},
		{"stale", func(h *host) { h.in.Facts.Reading.IndexAge = time.Minute }, ""},
		{"partial", func(h *host) { h.in.Facts.Reading.Partial = true }, ""},
		{"coverage", func(h *host) { h.cover = 0.5 }, ""},
		{"evidence", func(h *host) {
			h.owners[0].Evidence[reading.FD] = reading.Tally{Sockets: 1, Bytes: 1000 << 10}
			h.owners[0].Evidence[reading.LastSeen] = reading.Tally{Sockets: 1, Bytes: 4000 << 10}
		}, ""},
		{"settle", func(h *host) { h.in.Started = h.now }, ""},
		{"young", func(h *host) { h.owners[0].Holders[0].StartTime = uint64(h.now.BootSeconds * 100) }, ""},
		{"cooldown", func(h *host) { note(&h.engine.mem.Acted, "leak", "system/queue.service", h.now) }, ""},
		{"budget", func(h *host) {
			h.engine.mem.spend("x", []string{"unit system/queue.service restart-unit"}, 0, h.now)
			h.engine.mem.spend("y", []string{"unit system/queue.service restart-unit"}, 0, h.now)
		}, ""},
		{"budget", func(h *host) { h.engine.Distrust(h.now) }, ""},
		{"cooldown", func(h *host) {
			h.engine.Distrust(h.now)
			h.cfg.Rules[0].Budget, h.cfg.Rules[0].Steps[0].Budget = Budget{1, 0}, Budget{1, 0}
			h.engine.cfg.HostBudget = Budget{1, 0}
		}, ""},
		{"busy", func(h *host) { h.in.Busy = "another" }, ""},
		{"rights", func(h *host) {
			info := h.cfg.Actions["restart-unit"]
			info.Missing = "it lacks CAP_X"
			h.cfg.Actions["restart-unit"] = info
		}, ""},
	} {
		t.Run(tc.guard, func(t *testing.T) {
			h := newHost(t, rule(t, func(r *Rule) {
				r.Steps, r.ForEach, r.When, r.Until = r.Steps[1:], EachOwner, condition(t, `owner.bytes > 1000 * KiB`, EachOwner), nil
				r.For = 0
			}))
			h.owners = []reading.Owner{leaker("queue.service", 5000)}
			h.turn()
			h.log = nil
			tc.spoil(h)
			r := h.in.Facts.Reading
			h.turn()
			// What a spoiler changed in the last reading is so in the next.
			r2 := h.in.Facts.Reading
			r2.IndexAge, r2.Partial = r.IndexAge, r.Partial
			in := h.in
			in.Now, in.Fresh = plus(h.now, 10*time.Second), true
			h.engine.Turn(&in)
			sub, _ := h.engine.find(h.cfg.Rules[0], "system/queue.service", &in.Facts)
			d := &due{state: &state{rule: h.cfg.Rules[0], key: "system/queue.service"}, sub: sub, step: &h.cfg.Rules[0].Steps[0], info: h.cfg.Actions["restart-unit"], mode: Enforce}
			g, why := refused(h.engine.attempt(d, &in, &h.engine.mem))
			if g.name != tc.guard || why == "" {
				t.Errorf("refused by %q (%s), want %s", g.name, why, tc.guard)
			}
		})
	}
}

// Right before acting all is looked at again.
func TestRecheck(t *testing.T) {
	for _, tc := range []struct {
		guard string
		spoil func(*host)
	}{
		{"", func(*host) {}},
		{"condition", func(h *host) { h.owners[0].Sum.Bytes = 900 << 10 }},
		{"condition", func(h *host) { h.owners = nil }},
		{"identity", func(h *host) { h.owners[0].InvocationID = "two" }},
		{"protected", func(h *host) { h.owners[0].Protected = "by the operator" }},
		{"mode", func(h *host) { h.in.Paused = "lunch" }},
		{"mode", func(h *host) { h.in.Stop = "the file is there" }},
		{"stale", func(h *host) { h.in.Facts.Age = 6 * time.Second }},
	} {
		h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
		h.owners = []reading.Owner{leaker("queue.service", 5000)}
		h.turns(30 * time.Second)
		d := h.last()
		tc.spoil(h)
		age := h.in.Facts.Age
		h.turn()
		h.in.Facts.Age = age
		in := h.in
		in.Now = h.now
		_, guard, why := h.engine.Recheck(d, &in)
		if guard != tc.guard {
			t.Errorf("refused by %q (%s), want %q", guard, why, tc.guard)
		}
	}
}

// Budgets outlive what they were spent on.
func TestLineage(t *testing.T) {
	uid := uint32(1000)
	for _, tc := range []struct {
		owner reading.Owner
		want  []string
	}{
		{reading.Owner{Unit: "q.service", Manager: "system"}, []string{"unit system/q.service"}},
		{reading.Owner{Unit: "q@1.service", Manager: "system"}, []string{"unit system/q@1.service", "unit system/q@.service"}},
		{reading.Owner{Command: "q", UID: &uid}, []string{"process q of 1000"}},
		{reading.Owner{Container: &reading.Container{ID: "abc"}}, []string{"container abc"}},
		{reading.Owner{Container: &reading.Container{ID: "abc", Name: "q"}}, []string{"container q"}},
		{reading.Owner{Pod: &reading.Pod{Namespace: "ns", Name: "queue-7c9d8f6b5b-x2x4z"}}, []string{"pod ns/queue"}},
		{reading.Owner{Pod: &reading.Pod{Namespace: "ns", Name: "queue-x2x4z"}}, []string{"pod ns/queue"}},
		{reading.Owner{Pod: &reading.Pod{Namespace: "ns", Name: "queue-2"}}, []string{"pod ns/queue"}},
		{reading.Owner{Pod: &reading.Pod{Namespace: "ns", Name: "queue"}}, []string{"pod ns/queue"}},
		{reading.Owner{Pod: &reading.Pod{Namespace: "ns", Name: "message-queue"}}, []string{"pod ns/message-queue"}},
	} {
		if got := lineage(&tc.owner); !slices.Equal(got, tc.want) {
			t.Errorf("lineage %q, want %q", got, tc.want)
		}
	}
}

// A changed rule ends its states; one that is the same goes on.
func TestReload(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(10 * time.Second)
	h.log = nil
	cfg := h.cfg
	cfg.Rules = []*Rule{rule(t)}
	if changes := h.engine.Reload(cfg, h.now); changes != nil {
		t.Errorf("the same rule ended its states: %v", changes)
	}
	h.turns(10 * time.Second)
	h.want("system/queue.service firing", "system/queue.service step 1 notify act")
	cfg.Rules = []*Rule{rule(t, func(r *Rule) { r.Hash = "2" })}
	changes := h.engine.Reload(cfg, h.now)
	if len(changes) != 1 || changes[0].State.End != record.EndRuleChanged {
		t.Errorf("changes %v, want one rule-changed", changes)
	}
	h.engine.Resulted(h.last(), record.Delivered, "", h.now) // of a rule that is gone
	h.turn()
	h.want("system/queue.service pending")
}

// A container that is restarted in its place keeps its id, and is young again.
func TestRestartedInPlace(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.ForEach, r.Steps = Container, r.Steps[1:] }))
	o := leaker("", 5000)
	o.Key, o.Kind, o.Unit, o.InvocationID, o.Container = "container/x", reading.KindContainer, "", "", &reading.Container{ID: "x"}
	o.Sum.Bytes = 900 << 10
	h.owners = []reading.Owner{o}
	h.turns(6 * time.Minute)
	h.owners[0].Sum.Bytes = 5000 << 10
	h.owners[0].Evidence[reading.FD] = h.owners[0].Sum
	h.owners[0].Holders = []reading.Holder{{PID: 8, StartTime: uint64(h.now.BootSeconds * 100)}}
	h.turns(30 * time.Second)
	h.want("container/x pending", "container/x firing", "container/x step 1 restart-unit waiting young")
}

// A mode that changes while a step is under way starts the steps anew after it.
func TestEnforcedWhileTelling(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = []Step{{Action: "restart-unit"}, {Action: "notify"}} }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.in.Stop = "the file is there"
	h.turns(25 * time.Second)
	h.in.Stop = ""
	h.turn()
	h.log = nil
	h.done("")
	h.turn()
	h.want("system/queue.service step 1 restart-unit act")
}

// What an action lacks by now counts, not what it lacked.
func TestRecheckRights(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(30 * time.Second)
	d := h.last()
	d.Record.By = &record.Caller{} // else the mode says so
	info := h.cfg.Actions["restart-unit"]
	info.Missing = "it lacks CAP_X"
	h.cfg.Actions = map[string]ActionInfo{"restart-unit": info}
	h.engine.Reload(h.cfg, h.now)
	in := h.in
	in.Now = h.now
	if _, guard, why := h.engine.Recheck(d, &in); guard != "rights" {
		t.Errorf("refused by %q (%s), want rights", guard, why)
	}
}

// What was decided for the host alone is not done to an owner who came since.
func TestRecheckWhoCame(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) {
		r.ForEach, r.TargetTop, r.When, r.Until = Host, true, condition(t, `tcp.fill > 0.5`, Host), nil
		r.Steps = []Step{{Action: "raise-tcp-mem"}}
	}))
	h.cfg.Sample = step
	h.engine.Reload(h.cfg, h.now)
	h.turns(30 * time.Second)
	d := h.last()
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turn()
	in := h.in
	in.Now = h.now
	if _, guard, why := h.engine.Recheck(d, &in); guard != "identity" {
		t.Errorf("refused by %q (%s), want identity", guard, why)
	}
}

// What was spent counts on, though its rule was gone for a while.
func TestSpentWhileGone(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = []Step{{Action: "restart-unit", Budget: Budget{1, 24 * time.Hour}}} }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done(record.NoEffect)
	without, with := h.cfg, h.cfg
	without.Rules = nil
	h.engine.Reload(without, h.now)
	h.now = plus(h.now, 3*time.Hour)
	h.turn()
	h.engine.Reload(with, h.now)
	h.log = nil
	h.turns(25 * time.Second)
	h.want("system/queue.service pending", "system/queue.service firing", "system/queue.service step 1 restart-unit held budget")
}

// So does its cooldown.
func TestCooldownWhileGone(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) {
		r.Cooldown, r.Steps = 24*time.Hour, []Step{{Action: "restart-unit", Budget: Budget{5, time.Hour}}}
	}))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done(record.NoEffect)
	without, with := h.cfg, h.cfg
	without.Rules = nil
	h.engine.Reload(without, h.now)
	h.now = plus(h.now, 3*time.Hour)
	h.turn()
	h.engine.Reload(with, h.now)
	h.log = nil
	h.turns(25 * time.Second)
	h.want("system/queue.service pending", "system/queue.service firing", "system/queue.service step 1 restart-unit waiting cooldown")
}

// What is next, and when, as people are told: until it fires, until the next
// step, not before an effect is measured, and nothing after the last.
func TestNext(t *testing.T) {
	h := newHost(t, rule(t))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	next := func(want string) {
		t.Helper()
		in := h.in
		in.Now = h.now
		k := h.engine.Status(&in)[0].Keys[0]
		got := fmt.Sprintf("%s step %d %s", k.Phase, k.Step, k.Action)
		if k.Next != nil {
			got += " in " + k.Next.String()
		}
		if got != want {
			t.Errorf("next is %q, want %q", got, want)
		}
	}
	h.turn()
	next("pending step 1 notify in 15s")
	h.turn()
	next("pending step 1 notify in 10s")
	h.turns(10 * time.Second)
	next("firing step 1 notify")
	h.done("")
	next("firing step 2 restart-unit in 10s")
	h.turn()
	next("firing step 2 restart-unit in 5s")
	h.turn()
	next("firing step 2 restart-unit")
	h.done(record.NoEffect)
	next("firing step 3 ")
}
