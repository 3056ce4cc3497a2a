//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

// checkBusStopped: without the message bus PID 1 is reached by its private
// socket, so that units keep their names and are restarted.
func checkBusStopped(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "stop", "dbus.socket", "dbus.service")
	invocation := startLeaking(t, m, "nobus")
	restarted(t, m, "nobus", invocation)
	if got := ask(t, m, "systemctl", "is-active", "dbus.service"); got != "inactive" {
		t.Errorf("dbus.service is %s: the bus was there", got)
	}
	run(t, m, "systemctl", "start", "dbus.socket")
}

// checkBusGone: PID 1 is not to be reached at all, as when the bus was killed
// and PID 1 hangs. Names are labels then, and no targets; once it answers again
// the same leak is ended.
func checkBusGone(t *testing.T, m *Machine) {
	// Nobody can be asked to start it later.
	startService(t, m, "blind.service", "[Service]\nType=exec\nExecStart=/bin/sh -c 'until [ -e /run/go-blind ]; do sleep 0.2; done; exec /usr/local/bin/once /run/leaked-blind "+leakerPath+" -unread 40 -bytes 50000'\n")
	invocation := show(t, m, "blind.service", "InvocationID")
	const sockets = "for s in /run/dbus/system_bus_socket /run/systemd/private; do mv "
	run(t, m, "systemctl", "restart", "dbus.service", "tcpmemd.service") // it has no connection that was there before
	run(t, m, "sh", "-ec", sockets+"$s $s.away; done; kill -KILL $(pidof dbus-daemon)")
	restored := false
	restore := func() {
		if !restored {
			restored = true
			run(t, m, "sh", "-ec", sockets+"$s.away $s; done")
		}
	}
	defer restore()
	eventually(t, time.Minute, func() string { return troubled(t, m, "blind-bus", "PID 1 cannot be asked") })
	run(t, m, "touch", "/run/go-blind")
	in := waits(t, m, "blind", "PID 1 does not say")
	told(t, m, in.ID)
	restore()
	eventually(t, 3*time.Minute, func() string { return untroubled(t, m, "blind-bus") })
	restarted(t, m, "blind", invocation)
}

// checkJournal: the journal is stopped and started again. Actions do not wait
// for it, and the daemon outlives its end of the pipes.
func checkJournal(t *testing.T, m *Machine) {
	pid := show(t, m, "tcpmemd.service", "MainPID")
	run(t, m, "systemctl", "stop", "systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald-audit.socket", "systemd-journald.service")
	invocation := startLeaking(t, m, "muted")
	restarted(t, m, "muted", invocation)
	if got := ask(t, m, "systemctl", "is-active", "systemd-journald.service"); got != "inactive" {
		t.Errorf("systemd-journald.service is %s: the journal was there", got)
	}
	run(t, m, "systemctl", "start", "systemd-journald.service")
	invocation = startLeaking(t, m, "loud")
	restarted(t, m, "loud", invocation)
	eventually(t, time.Minute, func() string {
		if out := ask(t, m, "journalctl", "--no-pager", "--unit=loud.service", "--output=cat"); !strings.Contains(out, "restart-unit") {
			return "the journal tells nothing of what was done after it came back:\n" + out
		}
		return ""
	})
	if got := show(t, m, "tcpmemd.service", "MainPID"); got != pid {
		t.Errorf("tcpmemd was process %s and is %s", pid, got)
	}
}
