//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
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

[rule.queue]
mode = "enforce"
for_each = "unit"
when = 'owner.unit == "queue.service" && owner.bytes > 1 * MiB'
for = "0s"
until = 'owner.bytes < 64 * KiB'
cooldown = "1m"
[[rule.queue.step]]
action = "restart-unit"

[rule.hooked]
mode = "observe"
when = 'tcp.max > 1 * KiB'
for = "0s"
cooldown = "0s"
[[rule.hooked.step]]
action = "notify"
webhook = "http://127.0.0.77:7703/hook"

[rule.lend]
mode = "enforce"
when = 'tcp.verdict == "load" && tcp.fill > 0.99'
[[rule.lend.step]]
action = "raise-tcp-mem"
`

// TestActions has the installed daemon take each action on a real systemd,
// inside its own sandbox, with the drop-in for that action and no other.
// TestLease does so for raise-tcp-mem.
func TestActions(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	installBodies(t, m)
	for path, text := range map[string]string{
		"/usr/local/bin/once":       once,
		"/usr/local/bin/told":       "#!/bin/sh\ncat >/run/tcpmemd/told.json; echo \"$1\" >/run/tcpmemd/told.arg\n",
		"/usr/local/bin/supervisor": "#!/bin/sh\nwhile :; do /usr/local/bin/once /run/boxed " + leakerPath + " -comm worker -hidden 80 -bytes 50000; sleep 1; done\n",
	} {
		if err := m.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	configure(t, m, "mode = \"enforce\"\nsettle.start = \"3s\"\nsettle.owner = \"3s\"\nmin_coverage = 0.0\nscan.calm = \"5s\"\nscan.pressed = \"2s\"\n", actionsPolicy)
	startService(t, m, "hook.service", "[Service]\nExecStart="+bodiesPath+" -hook 127.0.0.77:7703\n")
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
	t.Logf("\n%s", run(t, m, "tcpmemctl", "plugins", "verify"))
	run(t, m, "systemd-run", "--quiet", "--unit=boxed.service", "--property=Type=exec", "--",
		"systemd-run", "--scope", "--unit=box.scope", "/usr/local/bin/supervisor")
	t.Run("WithoutRights", func(t *testing.T) { checkRightsMissing(t, m) })
	for _, s := range []struct {
		name, dropIn string
		check        func(*testing.T, *Machine)
	}{
		{"Container", "acting/signal-process.conf", checkBox},
		{"Orphans", "acting/destroy-sockets.conf", checkOrphansEnd},
		{"Restart", "acting/restart-unit.conf", checkRestart},
		{"Webhook", "webhook.conf", checkWebhook},
	} {
		t.Run(s.name, func(t *testing.T) {
			dropIns(t, m, s.dropIn)
			run(t, m, "systemctl", "restart", "tcpmemd")
			s.check(t, m)
		})
	}
}

// checkRightsMissing: as shipped the unit observes, whatever the policy says. Who
// asks, and who is told, learns what to install; nothing is done.
func checkRightsMissing(t *testing.T, m *Machine) {
	told := run(t, m, "journalctl", "--no-pager", "--output=cat", "--unit=tcpmemd", "MESSAGE_ID=d0576d22deab4922afb3c8af7a71a93a")
	status := strings.Join(strings.Fields(run(t, m, "tcpmemctl", "status")), " ")
	doctor := strings.Join(strings.Fields(run(t, m, "tcpmemctl", "doctor")), " ")
	for action, rule := range map[string]string{
		"signal-process": "box", "destroy-sockets": "sender", "restart-unit": "queue", "raise-tcp-mem": "lend",
	} {
		dropIn := "/usr/lib/tcpmemd/acting/" + action + ".conf"
		for what, text := range map[string]string{"the journal": told, "status": status, "doctor": doctor} {
			if !strings.Contains(text, action) || !strings.Contains(text, "only observe: "+rule) || !strings.Contains(text, dropIn) {
				t.Errorf("%s does not say that %s lacks %s for %s:\n%s", what, rule, dropIn, action, text)
			}
		}
	}
	if got := waitFor(t, m, "hooked", "notify")["notify"]; got.Outcome != record.Undelivered || !strings.Contains(got.Message, "address family not supported") {
		t.Errorf("without TCP: %+v, want undelivered", got)
	}
	// Telling needs no rights. The step that follows, run-command, is a dry run
	// for the lack of the last one's.
	if got := waitFor(t, m, "box", "notify")["notify"]; got.Outcome != record.Delivered {
		t.Errorf("%+v, want delivered", got)
	}
	eventually(t, time.Minute, func() string {
		in, ok := incidentOf(t, m, "box")
		if !ok {
			return "no incident of box\n" + ask(t, m, "tcpmemctl", "status")
		}
		dry, refused := false, false
		for i := range in.Records {
			r := &in.Records[i]
			dry = dry || r.Result != nil && r.Result.Outcome == record.DryRun
			refused = refused || r.Decision != nil && r.Decision.Action == "signal-process" && r.Decision.Guard == "rights"
		}
		if !dry || !refused {
			return fmt.Sprintf("a dry run: %v; signal-process refused: %v\n%s", dry, refused, ask(t, m, "tcpmemctl", "incidents", "show", in.ID))
		}
		return ""
	})
	if out, err := m.Run(t.Context(), "test", "-e", "/run/tcpmemd/told.json"); err == nil {
		t.Errorf("the program was run: %s", out)
	}
	if got := ask(t, m, "systemctl", "show", "--value", "--property=TasksCurrent", "box.scope"); got == "1" {
		t.Error("the worker was ended")
	}
}

// checkBox: a scope whose supervisor brings its worker back, as a container's
// runtime does. A program is run, the worker is ended.
func checkBox(t *testing.T, m *Machine) {
	results := waitFor(t, m, "box", "signal-process")
	for action, want := range map[string]record.Outcome{"run-command": record.Done, "signal-process": record.Done} {
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
	startService(t, m, "sender.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+address+" -count 40 -bytes 0\n")
	invocation := show(t, m, "sender.service", "InvocationID")
	// What was closed before a scan saw who held it is known by its control group
	// only, which may tell and not act.
	eventually(t, time.Minute, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		for _, o := range owners {
			if o.Unit == "sender.service" && o.Evidence["fd"].Sockets >= 40 {
				return ""
			}
		}
		return "sender.service is not seen to hold its connections"
	})
	run(t, m, "systemctl", "kill", "--signal=HUP", "sender.service")
	results := waitFor(t, m, "sender", "destroy-sockets")
	if got := results["destroy-sockets"]; got.Outcome != record.Done {
		t.Errorf("%+v, want done", got)
	}
	if now := show(t, m, "sender.service", "InvocationID"); now != invocation {
		t.Error("sender.service was restarted")
	}
	if left := holds(t, m, show(t, m, "reader.service", "MainPID"), "dst", address); left.Sockets != 0 {
		t.Errorf("left: %v of 40", left)
	}
	run(t, m, "systemctl", "stop", "sender.service", "reader.service")
}

// checkRestart: a service that leaks in some edge case is restarted, and does not
// do so again.
func checkRestart(t *testing.T, m *Machine) {
	address := loopback(7702)
	run(t, m, "systemctl", "stop", "tcpmemd") // a unit that starts is not restarted
	startService(t, m, "reader.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -listen "+address+"\n")
	startService(t, m, "queue.service", "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/queued "+leakerPath+" -dial "+address+" -count 40 -bytes 0\n")
	invocation := show(t, m, "queue.service", "InvocationID")
	run(t, m, "systemctl", "start", "tcpmemd")
	if got := waitFor(t, m, "queue", "restart-unit")["restart-unit"]; got.Outcome != record.Done {
		t.Errorf("%+v, want done", got)
	}
	if now := show(t, m, "queue.service", "InvocationID"); now == invocation || ask(t, m, "systemctl", "is-active", "queue.service") != "active" {
		t.Error("queue.service was not restarted")
	}
	// What it left unsent is destroyed with the right that the drop-in gives.
	if left := holds(t, m, show(t, m, "reader.service", "MainPID"), "dst", address); left.Sockets != 0 {
		t.Errorf("left: %v of 40", left)
	}
	run(t, m, "systemctl", "stop", "queue.service", "reader.service")
}

// checkWebhook: up to now there was no TCP to call it with. What is to be told is
// delivered once there is.
func checkWebhook(t *testing.T, m *Machine) {
	hooked := func() string { return run(t, m, "journalctl", "--no-pager", "--output=cat", "--unit=hook.service") }
	eventually(t, 2*time.Minute, func() string {
		if out := hooked(); !strings.Contains(out, "POST /hook") || !strings.Contains(out, `"hooked"`) {
			return out + ask(t, m, "tcpmemctl", "actions", "--since", "1h")
		}
		return ""
	})
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
