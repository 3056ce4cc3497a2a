//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// actionsPolicy has a rule for each action that restart-unit's scenes leave
// out, each about a unit of the test's own.
const actionsPolicy = `
[rule.box]
mode = "enforce"
for_each = "owner"
when = 'owner.unit == "box.scope" && owner.hidden_bytes > 1 * MiB'
for = "0s"
until = 'owner.hidden_bytes < 64 * KiB'
cooldown = "1m"
[[rule.box.step]]
action = "notify"
[[rule.box.step]]
action = "run-command"
command = ["/usr/local/bin/told", "an argument; not a shell's"]
[[rule.box.step]]
action = "signal-process"
grace = "2s"

[rule.sender]
mode = "enforce"
for_each = "unit"
when = 'owner.unit == "sender.service" && owner.orphan_bytes > 1 * MiB'
for = "0s"
until = 'owner.orphan_bytes < 64 * KiB'
cooldown = "1m"
[[rule.sender.step]]
action = "destroy-sockets"
`

// TestActions has the installed daemon take each action on a real systemd,
// inside its own sandbox.
func TestActions(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	installActor(t, m)
	for path, text := range map[string]string{
		"/usr/local/bin/once":       once,
		"/usr/local/bin/told":       "#!/bin/sh\ncat >/run/tcpmemd/told.json; echo \"$1\" >/run/tcpmemd/told.arg\n",
		"/usr/local/bin/supervisor": "#!/bin/sh\nwhile :; do /usr/local/bin/once /run/boxed " + leakerPath + " -comm worker -hidden 80 -bytes 50000; sleep 1; done\n",
	} {
		if err := m.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	configure(t, m, "mode = \"enforce\"\nsettle.start = \"3s\"\nsettle.owner = \"3s\"\nmin_coverage = 0.1\nscan.calm = \"5s\"\nscan.pressed = \"2s\"\n", actionsPolicy)
	allowActing(t, m)
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
	t.Logf("\n%s", run(t, m, "tcpmemctl", "plugins", "verify"))
	t.Run("Container", func(t *testing.T) { checkBox(t, m) })
	t.Run("Orphans", func(t *testing.T) { checkOrphansEnd(t, m) })
	t.Run("Raise", func(t *testing.T) { checkRaise(t, m) })
}

// checkBox: a scope whose supervisor brings its worker back, as a container's
// runtime does. Somebody is told, a program is run, the worker is ended.
func checkBox(t *testing.T, m *Machine) {
	run(t, m, "systemd-run", "--quiet", "--unit=boxed.service", "--property=Type=exec", "--",
		"systemd-run", "--scope", "--unit=box.scope", "/usr/local/bin/supervisor")
	results := waitFor(t, m, "box", "signal-process")
	for action, want := range map[string]record.Outcome{"notify": record.Delivered, "run-command": record.Done, "signal-process": record.Done} {
		if got := results[action]; got.Outcome != want {
			t.Errorf("%s: %+v, want %s", action, got, want)
		}
	}
	var told struct {
		Rule  string `json:"rule"`
		Owner struct {
			Unit string `json:"unit"`
		} `json:"owner"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "cat", "/run/tcpmemd/told.json")), &told); err != nil || told.Rule != "box" || told.Owner.Unit != "box.scope" {
		t.Errorf("the program was told %+v (%v)", told, err)
	}
	if got := run(t, m, "cat", "/run/tcpmemd/told.arg"); got != "an argument; not a shell's" {
		t.Errorf("the program's argument is %q", got)
	}
	// The supervisor lives and has its worker again, which behaves.
	eventually(t, 20*time.Second, func() string {
		if got := run(t, m, "systemctl", "is-active", "box.scope"); got != "active" {
			return "box.scope is " + got
		}
		if got := ask(t, m, "systemctl", "show", "--value", "--property=TasksCurrent", "box.scope"); got == "1" {
			return "the worker is not back"
		}
		return ""
	})
	if out := run(t, m, "journalctl", "--no-pager", "-u", "box.scope"); !strings.Contains(out, "box") {
		t.Errorf("journalctl -u box.scope says nothing:\n%s", out)
	}
	run(t, m, "systemctl", "stop", "box.scope")
}

// checkOrphansEnd: a service leaves orphans with unsent data, and lives.
func checkOrphansEnd(t *testing.T, m *Machine) {
	address := loopback(7401)
	startService(t, m, "reader.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+address+"\n")
	startService(t, m, "sender.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+address+" -count 40 -bytes 0 -leave\n")
	invocation := show(t, m, "sender.service", "InvocationID")
	results := waitFor(t, m, "sender", "destroy-sockets")
	if got := results["destroy-sockets"]; got.Outcome != record.Done {
		t.Errorf("%+v, want done", got)
	}
	if now := show(t, m, "sender.service", "InvocationID"); now != invocation {
		t.Error("sender.service was restarted")
	}
	// Those that were closed before a scan saw who held them are known by their
	// control group only, which may tell and not act.
	if left := holds(t, m, show(t, m, "reader.service", "MainPID"), "dst", address); left.Sockets > 20 {
		t.Errorf("left: %v of 40", left)
	}
	run(t, m, "systemctl", "stop", "sender.service", "reader.service")
}

// checkRaise raises net.ipv4.tcp_mem and gives it back. What load looks like
// takes minutes to be known, so that the request says it.
func checkRaise(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "stop", "tcpmemd") // it would tell of who else sets it
	scene.LowerTCPMemT(t, reading.TCPMem{Min: 50_000, Pressure: 60_000, Max: 70_000})
	live := func() string {
		return strings.Join(strings.Fields(run(t, m, "cat", "/proc/sys/net/ipv4/tcp_mem")), " ")
	}
	r := &remediate.Request{
		ActionID: "a1", DryRun: true, BootID: run(t, m, "cat", "/proc/sys/kernel/random/boot_id"),
		Host: remediate.Host{
			PageSize: 4096, UsedPages: 1000, MinPages: 50_000, PressurePages: 60_000, MaxPages: 70_000,
			BaseMin: 50_000, BasePressure: 60_000, BaseMax: 70_000, Verdict: "load", Level: "pressure",
		},
	}
	plan := act(t, m, "raise-tcp-mem", r, "")
	if plan.Result != remediate.DryRun || len(plan.Undo) == 0 || live() != "50000 60000 70000" {
		t.Fatalf("dry run: %+v; tcp_mem is %s", plan, live())
	}
	r.DryRun, r.Plan = false, plan.Undo
	if resp := act(t, m, "raise-tcp-mem", r, ""); resp.Result != remediate.Done || live() != "75000 90000 105000" {
		t.Fatalf("%+v; tcp_mem is %s", resp, live())
	}
	text, err := json.Marshal(remediate.UndoRequest{ActionID: "a1", Undo: plan.Undo, Settings: remediate.Settings("{}"), Host: r.Host})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.WriteFile("/run/undo.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, m, "sh", "-c", actorPath+" undo raise-tcp-mem </run/undo.json")
	if !strings.Contains(out, `"done"`) || live() != "50000 60000 70000" {
		t.Errorf("%s; tcp_mem is %s", out, live())
	}
	run(t, m, "systemctl", "start", "tcpmemd")
}

// waitFor waits until a rule's action has its result, and gives those of all
// its actions.
func waitFor(t *testing.T, m *Machine, rule, action string) map[string]record.Result {
	t.Helper()
	results := make(map[string]record.Result)
	eventually(t, 90*time.Second, func() string {
		in, ok := incidentOf(t, m, rule)
		if !ok {
			return "no incident of " + rule + "\n" + ask(t, m, "tcpmemctl", "status")
		}
		names := make(map[string]string)
		for i := range in.Records {
			rec := &in.Records[i]
			if rec.Intent != nil {
				names[rec.Action] = rec.Intent.Decision.Action
			}
			if rec.Result != nil && names[rec.Action] != "" {
				results[names[rec.Action]] = *rec.Result
			}
		}
		if _, ok := results[action]; !ok {
			return fmt.Sprintf("%s has no result\n%s", action, ask(t, m, "tcpmemctl", "incidents", "show", in.ID))
		}
		return ""
	})
	for name, r := range results {
		t.Logf("%s: %s: %s", name, r.Outcome, r.Message)
	}
	return results
}
