//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

const faultsConfig = `
mode = "enforce"
settle.start = "2s"
settle.owner = "2s"
min_coverage = 0.0
scan.calm = "5s"
scan.pressed = "2s"
scan.cpu = "100%"
budget.host = "1000 per 1h"
`

// faultScenes are the units that leak in the scenes, a rule for each.
var faultScenes = []string{"full", "fails", "nobus", "blind", "muted", "loud", "damaged"}

// faultRule tells of a unit that does not read what it is sent, and restarts
// it.
func faultRule(scene string) string {
	return fmt.Sprintf(`
[rule.%[1]s]
mode = "enforce"
for_each = "unit"
when = 'owner.unit startsWith "%[1]s" && owner.unread_bytes > 1 * MiB'
for = "0s"
until = 'owner.unread_bytes < 64 * KiB'
cooldown = "10s"
[[rule.%[1]s.step]]
action = "notify"
[[rule.%[1]s.step]]
action = "restart-unit"
budget = "1000 per 1h"
`, scene)
}

// TestHostFaults takes from an installed and acting daemon what a host may lack
// when it is in trouble: its disk, the message bus, the journal. The daemon goes
// on, says what it lacks, does nothing that it could not do right, and acts
// again once it has what it needs.
func TestHostFaults(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	programs := maps.Clone(hostileFiles)
	programs["/usr/local/bin/once"] = once
	for path, text := range programs {
		if err := m.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var rules strings.Builder
	rules.WriteString(hostileRule)
	for _, scene := range faultScenes {
		rules.WriteString(faultRule(scene))
	}
	configure(t, m, faultsConfig, rules.String())
	allowActing(t, m)
	t.Run("ReadOnlyAtStart", func(t *testing.T) { checkReadOnlyAtStart(t, m) })
	t.Run("DiskFull", func(t *testing.T) { checkDiskFull(t, m) })
	t.Run("DiskFails", func(t *testing.T) { checkDiskFails(t, m) })

	run(t, m, "systemctl", "start", "tcpmemd")
	t.Run("BusStopped", func(t *testing.T) { checkBusStopped(t, m) })
	t.Run("BusGone", func(t *testing.T) { checkBusGone(t, m) })
	t.Run("Journal", func(t *testing.T) { checkJournal(t, m) })
	t.Run("HostileNames", func(t *testing.T) { checkHostileNames(t, m) })
	t.Run("SecondDaemon", func(t *testing.T) { checkSecondDaemon(t, m) })
	t.Run("Damaged", func(t *testing.T) { checkDamaged(t, m) })
}

const stateDir = "/var/lib/tcpmemd"

// checkReadOnlyAtStart: /var is read-only when the daemon starts for the first
// time. It runs, and says what it cannot keep.
func checkReadOnlyAtStart(t *testing.T, m *Machine) {
	run(t, m, "mount", "--bind", "/var", "/var")
	run(t, m, "mount", "-o", "remount,bind,ro", "/var")
	// Lazily: the journal may have a file of it open.
	defer run(t, m, "umount", "--lazy", "/var")
	run(t, m, "systemctl", "start", "tcpmemd")
	eventually(t, time.Minute, func() string { return troubled(t, m, "log-unwritable", "read-only file system") })
	ask(t, m, "systemctl", "stop", "tcpmemd")
	run(t, m, "systemctl", "reset-failed", "tcpmemd")
}

// checkDiskFull: the disk is full when the daemon starts, and has room again
// while it runs.
func checkDiskFull(t *testing.T, m *Machine) {
	run(t, m, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", stateDir)
	defer func() {
		run(t, m, "systemctl", "stop", "tcpmemd")
		run(t, m, "umount", stateDir)
	}()
	ask(t, m, "dd", "if=/dev/zero", "of="+stateDir+"/ballast", "bs=4k", "status=none")
	run(t, m, "systemctl", "start", "tcpmemd")
	eventually(t, time.Minute, func() string { return troubled(t, m, "log-unwritable", "no space left on device") })
	invocation := startLeaking(t, m, "full")
	in := waits(t, m, "full", "the action log cannot be written: ")
	if got := show(t, m, "full.service", "InvocationID"); got != invocation {
		t.Error("full.service was restarted without a record of it")
	}
	told(t, m, in.ID)

	run(t, m, "rm", stateDir+"/ballast")
	restarted(t, m, "full", invocation)
	eventually(t, time.Minute, func() string { return untroubled(t, m, "log-unwritable") })
	whole(t, run(t, m, "cat", stateDir+"/actions.jsonl"))
}

// checkDiskFails: the kernel makes the file system read-only under a running
// daemon, as it does for errors of a disk (ext4's errors=remount-ro).
func checkDiskFails(t *testing.T, m *Machine) {
	run(t, m, "sh", "-ec", `mknod /dev/loop-control c 10 237; for i in $(seq 0 63); do mknod /dev/loop$i b 7 $i; done
		truncate --size=16M /run/disk; mkfs.ext4 -q /run/disk; mount -o loop /run/disk `+stateDir)
	run(t, m, "systemctl", "start", "tcpmemd")
	run(t, m, "mount", "-o", "remount,abort", stateDir)
	invocation := startLeaking(t, m, "fails")
	in := waits(t, m, "fails", "cannot be written: ")
	if problem := troubled(t, m, "log-unwritable", "read-only file system"); problem != "" {
		t.Error(problem)
	}
	told(t, m, in.ID)

	// What it could not keep is said at the end.
	ask(t, m, "systemctl", "stop", "tcpmemd")
	if out := run(t, m, "journalctl", "--no-pager", "--unit=tcpmemd", "--lines=20", "--output=cat"); !strings.Contains(out, "not written") {
		t.Errorf("the end says nothing of what is lost:\n%s", out)
	}
	// Started again, on the same disk and on one that works.
	run(t, m, "systemctl", "start", "tcpmemd")
	eventually(t, time.Minute, func() string { return troubled(t, m, "log-unwritable", "read-only file system") })
	ask(t, m, "systemctl", "stop", "tcpmemd")
	if got := show(t, m, "fails.service", "InvocationID"); got != invocation {
		t.Error("fails.service was restarted without a record of it")
	}
	run(t, m, "umount", stateDir)
	run(t, m, "systemctl", "start", "tcpmemd")
	restarted(t, m, "fails", invocation)
}

// startLeaking starts SCENE.service, which leaks until it is restarted, and gives
// its invocation.
func startLeaking(t *testing.T, m *Machine, scene string) string {
	t.Helper()
	unit := scene + ".service"
	startService(t, m, unit, fmt.Sprintf("[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/leaked-%s %s -unread 40 -bytes 50000\n", scene, leakerPath))
	return show(t, m, unit, "InvocationID")
}

// waits waits until the restart by a rule does, for a reason.
func waits(t *testing.T, m *Machine, rule, why string) record.Incident {
	t.Helper()
	var in record.Incident
	eventually(t, 3*time.Minute, func() string {
		var ok bool
		if in, ok = incidentOf(t, m, rule); !ok {
			return "no incident of " + rule + "\n" + ask(t, m, "tcpmemctl", "status")
		}
		for i := range in.Records {
			if d := in.Records[i].Decision; d != nil && d.Action == "restart-unit" && d.Choice != record.ChoseAct && strings.Contains(d.Why, why) {
				t.Logf("%s: %s", d.Choice, d.Why)
				return ""
			}
		}
		return "nothing waits: " + why + "\n" + ask(t, m, "tcpmemctl", "incidents", "show", in.ID)
	})
	return in
}

// restarted waits until the rule of SCENE.service has restarted it.
func restarted(t *testing.T, m *Machine, scene, invocation string) {
	t.Helper()
	done(t, m, scene, "restart-unit")
	if show(t, m, scene+".service", "InvocationID") == invocation {
		t.Errorf("%s.service was not restarted", scene)
	}
}

// done waits until a rule's action is.
func done(t *testing.T, m *Machine, rule, action string) record.Incident {
	t.Helper()
	var in record.Incident
	eventually(t, 3*time.Minute, func() string {
		var ok bool
		if in, ok = incidentOf(t, m, rule); !ok {
			return "no incident of " + rule + "\n" + ask(t, m, "tcpmemctl", "status")
		}
		intents := make(map[string]bool)
		for i := range in.Records {
			switch rec := &in.Records[i]; {
			case rec.Intent != nil && rec.Intent.Decision.Action == action:
				intents[rec.Action] = true
			case rec.Result != nil && rec.Result.Outcome == record.Done && intents[rec.Action]:
				return ""
			}
		}
		return action + " is not done\n" + ask(t, m, "tcpmemctl", "incidents", "show", in.ID)
	})
	return in
}

// troubled is "" when status tells of an event, and why.
func troubled(t *testing.T, m *Machine, id, why string) string {
	t.Helper()
	status := ask(t, m, "tcpmemctl", "status")
	for line := range strings.Lines(status) {
		if strings.HasPrefix(line, id+": ") && strings.Contains(line, why) {
			return ""
		}
	}
	return fmt.Sprintf("status does not tell of %s, %s\n%s", id, why, status)
}

// untroubled is "" when status does not tell of an event any more, and the
// journal of its end.
func untroubled(t *testing.T, m *Machine, id string) string {
	t.Helper()
	if status := ask(t, m, "tcpmemctl", "status"); strings.Contains(status, "\n"+id+": ") {
		return "status still tells of " + id + "\n" + status
	}
	if out := ask(t, m, "journalctl", "--no-pager", "--output=cat", "TCPMEMD_EVENT="+id); !strings.Contains(out, "over: ") {
		return "the journal does not tell of the end of " + id + ":\n" + out
	}
	return ""
}

// whole expects an action log in which no record lacks.
func whole(t *testing.T, log string) {
	t.Helper()
	var n uint64
	for line := range strings.Lines(log) {
		var rec record.Record
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if n++; rec.Seq != n {
			t.Fatalf("record %d has number %d", n, rec.Seq)
		}
	}
	t.Logf("%d records", n)
}

// told expects the journal to tell of an incident.
func told(t *testing.T, m *Machine, incident string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		if out := ask(t, m, "journalctl", "--no-pager", "-o", "json", "TCPMEMD_INCIDENT="+incident); out == "" {
			return "the journal does not tell of " + incident
		}
		return ""
	})
}
