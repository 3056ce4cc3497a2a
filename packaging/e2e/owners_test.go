//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// dockerID is a container's: docker has PID 1 make docker-ID.scope for it.
const dockerID = "3f9b2c51d07e4a86b1c0aa5e7794d2f8136e5b0c9d8a7f4e2b1c3d5e6f708192"

// ownersPolicy has a rule for each shape of owner. What is restarted is told by
// a rule's key; the rule "nginx" would restart what a control group is called.
var ownersPolicy = strings.Join([]string{
	enforcing("drain", "unit", `owner.unit == "drain.service" && owner.unread_bytes > 2 * MiB`, "restart-unit"),
	enforcing("each", "unit", `owner.unit startsWith "each@" && owner.unread_bytes > 1 * MiB`, "restart-unit", "signal-process"),
	enforcing("worker", "unit", `owner.unit startsWith "worker@" && owner.hidden_bytes > 1 * MiB`, "restart-unit\nbudget = \"1 per 1h\""),
	enforcing("twins", "unit", `owner.unit startsWith "twin-" && owner.hidden_bytes > 1 * MiB`, "restart-unit"),
	enforcing("delegated", "unit", `owner.unit == "delegated.service" && owner.unread_bytes > 1 * MiB`, "restart-unit"),
	enforcing("nginx", "owner", `owner.name contains "nginx" && owner.bytes > 1 * MiB`, "restart-unit"),
	enforcing("notes", "unit", `owner.unit == "notes.service" && owner.unread_bytes > 1 * MiB`, "notify", "restart-unit", "signal-process"),
	enforcing("box", "container", `owner.container startsWith "3f9b2c51d07e" && owner.hidden_bytes > 1 * MiB`, "restart-unit", "signal-process\ngrace = \"2s\""),
	enforcing("session", "unit", `owner.unit == "session-77.scope" && owner.unread_bytes > 1 * MiB`, "notify", "restart-unit", "signal-process"),
	enforcing("removed", "unit", `owner.unit == "removed.service" && owner.unread_bytes > 1 * MiB`, "notify", "restart-unit\nafter = \"30s\""),
	enforcing("litter", "unit", `owner.unit == "litter.service" && owner.send_bytes > 1 * MiB`, "notify", "restart-unit\nafter = \"30s\""),
	enforcing("orphaned", "unit", `owner.unit == "litter.service" && owner.orphan_bytes > 1 * MiB`, "destroy-sockets\nafter = \"1m\""),
}, "\n")

// TestOwners has services of every shape leak at once, and shows that tcpmemd
// does the right thing to each, and nothing to those beside them. They are of
// two kinds: those that can be helped, and those (refusals_test.go) that are
// refused, with the reason.
func TestOwners(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	installLeaker(t, m)
	run(t, m, "mkdir", "--mode=1777", heldDir)
	configure(t, m, enforcingConfig+protecting, ownersPolicy+"\n"+refusalsPolicy)
	allowActing(t, m)
	for path, text := range map[string]string{
		"/usr/local/bin/once":       once,
		"/usr/local/bin/supervisor": "#!/bin/sh\nwhile :; do /usr/local/bin/once /run/boxed " + leakerPath + " -comm worker -hidden 60 -bytes 50000; sleep 1; done\n",
	} {
		if err := m.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	beside := startBystanders(t, m)
	leaking, refused := startLeaks(t, m), startRefused(t, m)
	run(t, m, "systemctl", "start", "tcpmemd")
	removeMeanwhile(t, m)

	t.Run("SocketUnit", func(t *testing.T) { checkDrain(t, m, leaking) })
	t.Run("SocketInstance", func(t *testing.T) { checkEach(t, m) })
	t.Run("Template", func(t *testing.T) { checkWorkers(t, m, leaking) })
	t.Run("TwoAtOnce", func(t *testing.T) { checkTwins(t, m, leaking) })
	t.Run("Delegated", func(t *testing.T) { checkForged(t, m, leaking) })
	t.Run("UserUnit", func(t *testing.T) { checkNotes(t, m) })
	t.Run("Container", func(t *testing.T) { checkDocker(t, m) })
	t.Run("Session", func(t *testing.T) { checkSession(t, m) })
	t.Run("Removed", func(t *testing.T) { checkRemoved(t, m, leaking) })
	t.Run("Litter", func(t *testing.T) { checkLitter(t, m) })
	t.Run("Protected", func(t *testing.T) { checkProtected(t, m) })
	t.Run("Unresolved", func(t *testing.T) { checkNobody(t, m) })
	t.Run("Closure", func(t *testing.T) { checkClosure(t, m) })
	beside.expectUntouched(t, m)
	refused.expectUntouched(t, m)
	expectOneAtATime(t, m)
}

// The ends of connections that the leaks are about.
func drainAddress() string  { return loopback(7921) }
func eachAddress() string   { return loopback(7922) }
func litterAddress() string { return loopback(7923) }

// startBystanders starts what must be left alone: the peers of those that leak,
// those whose names they carry, and socket units.
func startBystanders(t *testing.T, m *Machine) starts {
	t.Helper()
	for unit, text := range map[string]string{
		"queue.socket":                 "[Socket]\nListenStream=" + drainAddress() + "\nReceiveBuffer=2M\nService=drain.service\n",
		"drain.service":                "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/drained " + leakerPath + " -listen fd\n",
		"dialer.service":               "[Service]\nType=notify\nExecStart=" + leakerPath + " -dial " + drainAddress() + " -count 4 -bytes 1500000\n",
		"each.socket":                  "[Socket]\nListenStream=" + eachAddress() + "\nAccept=yes\nReceiveBuffer=2M\n",
		"each@.service":                "[Service]\nStandardInput=socket\nExecStart=/bin/sleep infinity\n",
		"caller.service":               "[Service]\nType=notify\nExecStart=" + leakerPath + " -dial " + eachAddress() + " -bytes 3000\n",
		"nginx.service":                "[Service]\nType=notify\nExecStart=" + leakerPath + " -unread 1\n",
		"reader.service":               "[Service]\nType=notify\nExecStart=" + leakerPath + " -listen " + litterAddress() + "\n",
		"worker@.service":              "[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/worked-%i " + leakerPath + " -comm worker -hidden ${HIDDEN} -bytes 50000\nEnvironment=HIDDEN=1\n",
		"worker@1.service.d/much.conf": "[Service]\nEnvironment=HIDDEN=80\n",
		"worker@2.service.d/much.conf": "[Service]\nEnvironment=HIDDEN=40\n",
	} {
		writeUnit(t, m, unit, text)
	}
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", "queue.socket", "each.socket")
	run(t, m, "systemctl", "start", "dialer.service", "caller.service", "nginx.service", "reader.service", "worker@3.service")
	quiet := instances(t, m)
	if len(quiet) != 1 {
		t.Fatalf("instances of each@.service: %q, want one", quiet)
	}
	return startsOf(t, m, "queue.socket", "dialer.service", "each.socket", "caller.service", "nginx.service", "reader.service", "worker@3.service", quiet[0])
}

// instances are the names of those of each@.service that are loaded.
func instances(t *testing.T, m *Machine) (names []string) {
	t.Helper()
	for line := range strings.Lines(run(t, m, "systemctl", "list-units", "--plain", "--no-legend", "--state=active", "each@*")) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		names = append(names, name)
	}
	return names
}

// startLeaks starts what leaks, and gives the starts of the services among it.
func startLeaks(t *testing.T, m *Machine) starts {
	t.Helper()
	run(t, m, "systemctl", "start", "worker@1.service", "worker@2.service")
	run(t, m, "systemd-run", "--quiet", "--unit=second-caller.service", leakerPath, "-dial", eachAddress(), "-bytes", "1500000")

	// A part of its own control group it calls like another service.
	const script = "#!/bin/sh -e\nd=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/nginx.service; mkdir -p \"$d\"; echo 0 >\"$d/cgroup.procs\"; exec "
	if err := m.WriteFile("/usr/local/bin/delegated", []byte(script+leakerCommand("delegated", "-unread 40")+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	startService(t, m, "delegated.service", "[Service]\nType=notify\nNotifyAccess=all\nDelegate=yes\nExecStart=/usr/local/bin/once /run/delegated /usr/local/bin/delegated\n")
	startUserUnit(t, m, "notes.service", leakerCommand("notes", "-unread 40"))
	for unit, hidden := range map[string]int{"twin-a": 120, "twin-b": 60} {
		startService(t, m, unit+".service", fmt.Sprintf("[Service]\nType=notify\nNotifyAccess=all\nExecStart=/usr/local/bin/once /run/%s %s -hidden %d -bytes 50000\n", unit, leakerPath, hidden))
	}
	startService(t, m, "removed.service", "[Service]\nType=notify\nExecStart="+leakerCommand("removed", "-unread 40")+"\n")
	startService(t, m, "litter.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -dial "+litterAddress()+" -count 20 -bytes 0\n")
	// As the runtimes of containers and systemd-logind ask PID 1 for them; the
	// minimal system has neither.
	for _, scope := range [][]string{
		{"docker-" + dockerID + ".scope", "system.slice", "/usr/local/bin/supervisor"},
		{"session-77.scope", "user-0.slice", leakerCommand("session", "-unread 40")},
	} {
		run(t, m, "sh", "-c", fmt.Sprintf("systemd-run --scope --unit=%s --slice=%s %s >/dev/null 2>&1 </dev/null &", scope[0], scope[1], scope[2]))
	}
	return startsOf(t, m, "drain.service", "worker@1.service", "worker@2.service", "delegated.service", "removed.service", "twin-a.service", "twin-b.service")
}

// removeMeanwhile removes the files of two services once their incidents are
// told of, and before they are acted on. One of them is stopped, too.
func removeMeanwhile(t *testing.T, m *Machine) {
	t.Helper()
	for _, unit := range []string{"removed", "litter"} {
		expectDeed(t, m, wanted{rule: unit, key: "system/" + unit + ".service", action: "notify", came: "delivered"})
		run(t, m, "rm", "/etc/systemd/system/"+unit+".service")
	}
	run(t, m, "systemctl", "stop", "litter.service")
	run(t, m, "systemctl", "daemon-reload")
}

// checkDrain: connections came by queue.socket; it is the service that is
// restarted. What is accepted is its own.
func checkDrain(t *testing.T, m *Machine, leaking starts) {
	expectDeed(t, m, wanted{rule: "drain", key: "system/drain.service", action: "restart-unit", came: "done"})
	leaking.expectRestarted(t, m, "drain.service")
	expectHolds(t, m, "system/drain.service", 64<<10)
}

// checkEach: systemd keeps the connection of an instance for as long as the
// unit runs, also through a restart, which would free nothing. Only its end
// does.
func checkEach(t *testing.T, m *Machine) {
	var leaky string
	eventually(t, patience, func() string {
		for _, d := range askDeeds(t, m) {
			if d.Rule == "each" {
				leaky = d.Key
				return ""
			}
		}
		return "nothing was decided about an instance"
	})
	expectDeed(t, m, wanted{rule: "each", key: leaky, action: "restart-unit", came: "refused", reason: "frees-nothing"})
	expectDeed(t, m, wanted{rule: "each", key: leaky, action: "signal-process", came: "done", words: "ended by TERM"})
	eventually(t, patience, func() string {
		if left := instances(t, m); len(left) != 1 || "system/"+left[0] == leaky {
			return fmt.Sprintf("instances %q, want only the one that does not leak", left)
		}
		return ""
	})
}

// checkWorkers: of two instances that leak the bigger one is restarted; the
// budget is that of the template, too.
func checkWorkers(t *testing.T, m *Machine, leaking starts) {
	expectDeed(t, m, wanted{rule: "worker", key: "system/worker@1.service", action: "restart-unit", came: "done"})
	expectDeed(t, m, wanted{rule: "worker", key: "system/worker@2.service", action: "restart-unit", came: "held", reason: "budget", words: "unit system/worker@.service restart-unit"})
	leaking.expectRestarted(t, m, "worker@1.service")
	starts{"worker@2.service": leaking["worker@2.service"]}.expectUntouched(t, m)
}

// checkForged: what runs below a directory called nginx.service is the
// delegating unit's, and no rule finds an nginx that holds much.
func checkForged(t *testing.T, m *Machine, leaking starts) {
	expectDeed(t, m, wanted{rule: "delegated", key: "system/delegated.service", action: "restart-unit", came: "done"})
	leaking.expectRestarted(t, m, "delegated.service")
	for _, d := range askDeeds(t, m) {
		if d.Rule == "nginx" || strings.Contains(d.Key, "nginx") {
			t.Errorf("%s of %s on %s: %s", d.Action, d.Rule, d.Key, d.said())
		}
	}
}

// checkNotes: a user's unit is told of, with the user, and not touched.
func checkNotes(t *testing.T, m *Machine) {
	key := fmt.Sprintf("user@%d/notes.service", unprivileged)
	for _, action := range []string{"restart-unit", "signal-process"} {
		expectDeed(t, m, wanted{rule: "notes", key: key, action: action, came: "refused", reason: "unit", words: "told of, not touched"})
	}
	told := journal(t, m, "TCPMEMD_RULE=notes", "TCPMEMD_EVENT=rule-firing")
	if len(told) != 1 || !strings.Contains(told[0].Message, "notes.service") || !strings.Contains(told[0].Message, fmt.Sprintf("uid %d", unprivileged)) {
		t.Errorf("told: %+v, want one entry with the unit and its user", told)
	}
	expectHolds(t, m, key, -1<<20)
}

// checkDocker: nobody restarts a container's scope; the process that leaks in it
// is ended where the rule says so, and what supervises it brings it back.
func checkDocker(t *testing.T, m *Machine) {
	key := "container/" + dockerID
	expectDeed(t, m, wanted{rule: "box", key: key, action: "restart-unit", came: "refused", reason: "scope"})
	expectDeed(t, m, wanted{rule: "box", key: key, action: "signal-process", came: "done", words: "ended by TERM"})
	eventually(t, patience, func() string {
		scope := "docker-" + dockerID + ".scope"
		if state, tasks := ask(t, m, "systemctl", "is-active", scope), show(t, m, scope, "TasksCurrent"); state != "active" || tasks == "1" {
			return fmt.Sprintf("%s is %s with %s tasks: the worker is not back", scope, state, tasks)
		}
		return ""
	})
}

func checkSession(t *testing.T, m *Machine) {
	expectDeed(t, m, wanted{rule: "session", key: "system/session-77.scope", action: "notify", came: "delivered"})
	for _, action := range []string{"restart-unit", "signal-process"} {
		expectDeed(t, m, wanted{rule: "session", key: "system/session-77.scope", action: action, came: "refused", reason: "protected", words: `"session-*"`})
	}
	expectHolds(t, m, "system/session-77.scope", -1<<20)
}

// checkRemoved: a service without a file would not come back.
func checkRemoved(t *testing.T, m *Machine, leaking starts) {
	expectDeed(t, m, wanted{rule: "removed", key: "system/removed.service", action: "restart-unit", came: "refused", reason: "unit-gone", words: "the file of removed.service is gone"})
	starts{"removed.service": leaking["removed.service"]}.expectUntouched(t, m)
}

// checkLitter: what a service left that is stopped and removed is still called
// by its name. It is not restarted; its orphans are destroyed.
func checkLitter(t *testing.T, m *Machine) {
	const key = "system/litter.service"
	expectDeed(t, m, wanted{rule: "litter", key: key, action: "restart-unit", came: "waiting", reason: "evidence", words: "only 0 %"})
	expectDeed(t, m, wanted{rule: "orphaned", key: key, action: "destroy-sockets", came: "done"})
	eventually(t, time.Minute, func() string {
		in, ok := incidentOf(t, m, "litter")
		if !ok || in.Ended == nil || in.Keys[0].End != "owner-gone" {
			return fmt.Sprintf("the incident ended as %q, want owner-gone", in.Keys[0].End)
		}
		return ""
	})
	if state := show(t, m, "litter.service", "LoadState") + " " + show(t, m, "litter.service", "ActiveState"); state != "not-found inactive" {
		t.Errorf("litter.service is %s", state)
	}
}

// checkTwins: of two that leak at once the bigger one is restarted first, and
// what came of it is measured before the other is.
func checkTwins(t *testing.T, m *Machine, leaking starts) {
	for _, unit := range []string{"twin-a.service", "twin-b.service"} {
		expectDeed(t, m, wanted{rule: "twins", key: "system/" + unit, action: "restart-unit", came: "done"})
		leaking.expectRestarted(t, m, unit)
	}
	var order []string
	eventually(t, time.Minute, func() string {
		in, ok := incidentOf(t, m, "twins")
		if order = nil; !ok {
			return "no incident of twins"
		}
		for i := range in.Records {
			r := &in.Records[i]
			if r.Incident != in.ID {
				continue
			}
			what := strings.TrimSuffix(strings.TrimPrefix(r.Key, "system/"), ".service")
			switch {
			case r.Intent != nil:
				order = append(order, what+" begins")
			case r.Effect != nil:
				order = append(order, what+" measured")
			}
		}
		if len(order) < 4 {
			return fmt.Sprintf("%q", order)
		}
		return ""
	})
	if want := []string{"twin-a begins", "twin-a measured", "twin-b begins", "twin-b measured"}; !slices.Equal(order, want) {
		t.Errorf("%q, want %q", order, want)
	}
}

// expectHolds waits until an owner holds at most so many bytes, or at least
// where they are negative.
func expectHolds(t *testing.T, m *Machine, key string, bytes int64) {
	t.Helper()
	eventually(t, patience, func() string {
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		var held int64
		for _, o := range owners {
			if o.Key == key {
				held = o.Bytes
			}
		}
		if bytes >= 0 && held > bytes || bytes < 0 && held < -bytes {
			return fmt.Sprintf("%s holds %d bytes", key, held)
		}
		return ""
	})
}
