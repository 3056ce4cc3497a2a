//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

// leasePolicy raises for load. Its first step asks for more than any host has,
// its last is taken by hand only.
const leasePolicy = `
[rule.lend]
mode = "enforce"
for_each = "host"
when = 'tcp.verdict == "load" && tcp.used > 1 * MiB'
for = "0s"
until = 'tcp.used < 64 * KiB'
cooldown = "0s"
budget = "50 per 1h"
[[rule.lend.step]]
action = "raise-tcp-mem"
budget = "50 per 1h"
factor = 10.0
ceiling = "50%"
min_available = "90%"
[[rule.lend.step]]
action = "raise-tcp-mem"
budget = "50 per 1h"
duration = "15s"
[[rule.lend.step]]
action = "raise-tcp-mem"
budget = "50 per 1h"
after = "2h"
duration = "30m"
`

// The triples of the test: the host's own, as raised by the half, and what
// somebody else sets.
const (
	lentFrom = "50000 60000 70000"
	lentTo   = "75000 90000 105000"
	rival    = "51000 61000 71000"
)

// TestLease has the installed daemon raise net.ipv4.tcp_mem for load, inside its
// sandbox and with the drop-in for that action only, and give it back: at its
// expiry, when it is stopped, and when it is killed and does not come back.
//
// The trend takes two minutes to call something load. So one daemon takes all
// the leases that it takes; the later scenes find one that an earlier daemon
// left, as after any kill.
func TestLease(t *testing.T) {
	t.Parallel() // it waits, mostly
	m := boot(t, Bookworm)
	install(t, m)
	installBodies(t, m)
	scene.LowerTCPMemT(t, reading.TCPMem{Min: 50_000, Pressure: 60_000, Max: 70_000})
	configure(t, m, "mode = \"enforce\"\nsettle.start = \"3s\"\nmin_coverage = 0.0\nscan.calm = \"5s\"\nscan.pressed = \"5s\"\nbudget.host = \"50 per 1h\"\n", leasePolicy)
	dropIns(t, m, "acting/raise-tcp-mem.conf")
	run(t, m, "systemctl", "start", "tcpmemd")
	api := loopback(7701)
	startService(t, m, "mirror.service", "[Service]\nExecStart="+bodiesPath+" -buffer 65536 -serve "+api+"\n")
	startService(t, m, "clients.service", "[Service]\nRestart=on-failure\nExecStart="+bodiesPath+" -sip "+api+"\n")
	t.Cleanup(func() { ask(t, m, "systemctl", "stop", "tcpmemd", "clients.service", "mirror.service") })

	for _, s := range []struct {
		name  string
		check func(*testing.T, *Machine)
	}{
		{"TooLittleMemory", checkLeaseRefused},
		{"Expiry", checkLeaseExpires},
		{"Rival", checkLeaseRival},
		{"Killed", checkLeaseAdopted},
		{"NoComeback", checkLeaseRestored},
		{"BrokenConfiguration", checkLeaseRestoredAtLast},
		{"Stopped", checkLeaseStopped},
		{"Reboot", checkLeaseVoid},
	} {
		if !t.Run(s.name, func(t *testing.T) { s.check(t, m) }) {
			t.FailNow() // the next would begin elsewhere
		}
	}
}

// liveIs waits until net.ipv4.tcp_mem is want.
func liveIs(t *testing.T, m *Machine, want string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		if got := liveTCPMem(t, m); got != want {
			return fmt.Sprintf("tcp_mem is %s, want %s\n%s", got, want, ask(t, m, "tcpmemctl", "status"))
		}
		return ""
	})
}

func liveTCPMem(t *testing.T, m *Machine) string {
	t.Helper()
	return strings.Join(strings.Fields(run(t, m, "cat", "/proc/sys/net/ipv4/tcp_mem")), " ")
}

func setTCPMem(t *testing.T, m *Machine, to string) {
	t.Helper()
	run(t, m, "sh", "-c", "echo "+to+" >/proc/sys/net/ipv4/tcp_mem")
}

// logged waits for a line of tcpmemd in the journal of this run of the test.
func logged(t *testing.T, m *Machine, since time.Time, want string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		text := run(t, m, "journalctl", "--no-pager", "--output=cat", "--unit=tcpmemd", fmt.Sprintf("--since=@%d", since.Unix()))
		if !strings.Contains(text, want) {
			return fmt.Sprintf("the journal does not say %q:\n%s", want, text)
		}
		return ""
	})
}

// checkLeaseRefused: the host would have too little memory left. It waits for
// the verdict, which the refusal is not about.
func checkLeaseRefused(t *testing.T, m *Machine) {
	start := time.Now()
	var res *record.Result
	eventually(t, 5*time.Minute, func() string {
		in, ok := incidentOf(t, m, "lend")
		if !ok {
			return "no incident\n" + ask(t, m, "tcpmemctl", "status") + ask(t, m, "tcpmemctl", "owners")
		}
		for i := range in.Records {
			if res = in.Records[i].Result; res != nil {
				return ""
			}
		}
		return "no result\n" + ask(t, m, "tcpmemctl", "incidents", "show", in.ID)
	})
	t.Logf("after %.0f s: %s %s: %s", time.Since(start).Seconds(), res.Outcome, res.Code, res.Message)
	if res.Outcome != record.Refused || res.Code != "too-little-memory" {
		t.Errorf("%+v, want refused for too little memory", res)
	}
}

// checkLeaseExpires: the next step raises for some seconds. It is seen while it
// lasts.
func checkLeaseExpires(t *testing.T, m *Machine) {
	liveIs(t, m, lentTo)
	status := run(t, m, "tcpmemctl", "status")
	if !strings.Contains(status, "tcp_mem is raised until") || !strings.Contains(status, "from "+lentFrom+" pages") {
		t.Errorf("status does not show the lease:\n%s", status)
	}
	liveIs(t, m, lentFrom)
	logged(t, m, time.Now().Add(-time.Minute), "net.ipv4.tcp_mem is given back")
	if status := run(t, m, "tcpmemctl", "status"); strings.Contains(status, "tcp_mem is raised") {
		t.Errorf("status still shows a lease:\n%s", status)
	}
}

// lend has the daemon raise for half an hour, by hand.
func lend(t *testing.T, m *Machine) {
	t.Helper()
	in, ok := incidentOf(t, m, "lend")
	if !ok {
		t.Fatal("no incident")
	}
	eventually(t, time.Minute, func() string { // the effect of the action before may still be measured
		if out, err := m.Run(t.Context(), "tcpmemctl", "act", in.ID, "--step", "3", "--yes"); err != nil {
			return out + err.Error()
		}
		return ""
	})
	liveIs(t, m, lentTo)
}

// checkLeaseRival: who else sets it has the last word.
func checkLeaseRival(t *testing.T, m *Machine) {
	start := time.Now()
	lend(t, m)
	setTCPMem(t, m, rival)
	logged(t, m, start, "somebody else set net.ipv4.tcp_mem to "+rival)
	if got := liveTCPMem(t, m); got != rival {
		t.Errorf("tcp_mem is %s, want the rival's %s", got, rival)
	}
	setTCPMem(t, m, lentFrom)
}

// checkLeaseAdopted: the daemon is killed, comes back and takes its lease over.
// It is not given back in between.
func checkLeaseAdopted(t *testing.T, m *Machine) {
	start := time.Now()
	lend(t, m)
	run(t, m, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "tcpmemd")
	logged(t, m, start, "is left for tcpmemd, which is started again")
	logged(t, m, start, "still raised to "+lentTo+" by an earlier run")
	if got := liveTCPMem(t, m); got != lentTo {
		t.Errorf("tcp_mem is %s, want %s still", got, lentTo)
	}
	if status := run(t, m, "tcpmemctl", "status"); !strings.Contains(status, "tcp_mem is raised until") {
		t.Errorf("status does not show the lease:\n%s", status)
	}
}

// override writes a drop-in of the test's own; "" removes it.
func override(t *testing.T, m *Machine, text string) {
	t.Helper()
	const path = "/run/systemd/system/tcpmemd.service.d/test.conf"
	if text == "" {
		run(t, m, "rm", "-f", path)
	} else if err := m.WriteFile(path, []byte("[Service]\n"+text+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "daemon-reload")
}

// checkLeaseRestored: nobody starts it again after a kill.
func checkLeaseRestored(t *testing.T, m *Machine) {
	start := time.Now()
	override(t, m, "Restart=no")
	defer override(t, m, "")
	run(t, m, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "tcpmemd")
	liveIs(t, m, lentFrom)
	logged(t, m, start, fmt.Sprintf("restored from %q to %q", lentTo, lentFrom))
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd"); got != "failed" {
		t.Errorf("tcpmemd is %s", got)
	}
}

// adopt starts the daemon as after a kill in mid-lease: its leases.json is there
// still.
func adopt(t *testing.T, m *Machine) {
	t.Helper()
	start := time.Now()
	setTCPMem(t, m, lentTo)
	run(t, m, "systemctl", "start", "tcpmemd")
	logged(t, m, start, "still raised to "+lentTo+" by an earlier run")
}

// checkLeaseRestoredAtLast: it is started again, and ends for good, because its
// --config is not there.
func checkLeaseRestoredAtLast(t *testing.T, m *Machine) {
	adopt(t, m)
	start := time.Now()
	override(t, m, "ExecStart=\nExecStart=/usr/sbin/tcpmemd --config /etc/tcpmemd/missing.toml\nRestartSec=1s")
	defer override(t, m, "")
	run(t, m, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "tcpmemd")
	logged(t, m, start, "is left for tcpmemd, which is started again")
	liveIs(t, m, lentFrom)
	if got := show(t, m, "tcpmemd", "ExecMainStatus"); got != "6" {
		t.Errorf("it ended with %s, want 6", got)
	}
}

// checkLeaseStopped keeps the record of the lease, as a power cut would.
func checkLeaseStopped(t *testing.T, m *Machine) {
	adopt(t, m)
	run(t, m, "cp", "/var/lib/tcpmemd/leases.json", "/root/leases.json")
	run(t, m, "systemctl", "stop", "tcpmemd")
	if got := liveTCPMem(t, m); got != lentFrom {
		t.Errorf("tcp_mem is %s after the stop, want %s", got, lentFrom)
	}
	if got := show(t, m, "tcpmemd", "Result"); got != "success" {
		t.Errorf("the stop's result is %s", got)
	}
}

// checkLeaseVoid: the power failed in mid-lease. In another boot nothing of the
// lease is left, and what is like it is somebody else's. A real boot would have
// the kernel's own triple; this one keeps the host's kernel.
func checkLeaseVoid(t *testing.T, m *Machine) {
	const bootID = "/proc/sys/kernel/random/boot_id"
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	// systemd-nspawn has mounted the ID of this boot there. The unit's own view
	// of /proc/sys leaves that mount out, and would show the host's ID.
	if err := m.WriteFile("/run/boot_id", []byte(run(t, m, "cat", bootID)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	override(t, m, "BindReadOnlyPaths=/run/boot_id:"+bootID)
	start := time.Now()
	run(t, m, "cp", "/root/leases.json", "/var/lib/tcpmemd/leases.json")
	setTCPMem(t, m, lentTo)
	defer setTCPMem(t, m, lentFrom)
	run(t, m, "systemctl", "start", "tcpmemd")
	logged(t, m, start, "the lease of before the boot is void")
	run(t, m, "systemctl", "stop", "tcpmemd")
	if got := liveTCPMem(t, m); got != lentTo {
		t.Errorf("tcp_mem is %s, want %s: it was not lent in this boot", got, lentTo)
	}
}
