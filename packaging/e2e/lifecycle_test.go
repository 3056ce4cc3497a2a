//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// lifecyclePolicy has a rule that only tells and one whose action never ends by
// itself, about a unit of the test's own.
const lifecyclePolicy = `
[rule.told]
mode = "observe"
for_each = "unit"
when = 'owner.unit == "held.service" && owner.hidden_bytes > 1 * MiB'
for = "0s"
until = 'owner.hidden_bytes < 64 * KiB'
[[rule.told.step]]
action = "notify"

[rule.endless]
mode = "enforce"
for_each = "unit"
when = 'owner.unit == "held.service" && owner.hidden_bytes > 1 * MiB'
for = "0s"
until = 'owner.hidden_bytes < 64 * KiB'
cooldown = "0s"
[[rule.endless.step]]
action = "run-command"
command = ["/usr/bin/sleep", "7777"]
budget = "1 per 1h"
`

// No coverage is asked for: what TestLease loads this host with at the same time
// has no name here.
const lifecycleConfig = "settle.start = \"3s\"\nsettle.owner = \"3s\"\nmin_coverage = 0.0\nscan.calm = \"5s\"\nscan.pressed = \"2s\"\n"

// TestLifecycle is about the daemon as a service: what systemd is told, what it
// does about a daemon that hangs or dies, and what each profile of the sandbox
// costs.
func TestLifecycle(t *testing.T) {
	t.Parallel() // beside TestLease
	for _, rel := range []Release{Bookworm, Trixie} {
		t.Run(string(rel), func(t *testing.T) {
			m := boot(t, rel)
			install(t, m)
			installLeaker(t, m)
			t.Run("Profiles", func(t *testing.T) { checkProfiles(t, m) })
			configure(t, m, lifecycleConfig, lifecyclePolicy)
			override(t, m, "WatchdogSec=4s\nRestartSec=1s")
			run(t, m, "systemctl", "restart", "tcpmemd")
			t.Run("Reload", func(t *testing.T) { checkReload(t, m) })
			if rel == Trixie {
				return // of the rest only what is the daemon's own is left
			}
			startService(t, m, "held.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -comm held -hidden 80 -unread 4 -bytes 30000\n")
			startService(t, m, "apart.service", "[Service]\nType=notify\nPrivateNetwork=yes\nExecStart="+leakerPath+" -unread 20 -bytes 50000\n")
			t.Run("NoTCP", func(t *testing.T) { checkNoTCP(t, m) })
			t.Run("Hangs", func(t *testing.T) { checkHangs(t, m) })
			t.Run("Killed", func(t *testing.T) { checkKilled(t, m) })
			t.Run("WrongFlag", func(t *testing.T) { checkWrongFlag(t, m) })
			t.Run("OwnNamespace", func(t *testing.T) { checkOwnNamespace(t, m) })
		})
	}
}

// checkProfiles: the exposure is what tcpmemd(8) says, and the daemon starts
// with it.
func checkProfiles(t *testing.T, m *Machine) {
	page := run(t, m, "sh", "-c", "zcat /usr/share/man/man8/tcpmemd.8.gz")
	for _, p := range []struct {
		name string
		most float64
	}{
		{"tcpmemd.service", 3.2},
		{"own-namespace.conf", 2.6},
		{"acting/signal-process.conf", 10},
		{"acting/raise-tcp-mem.conf", 10},
		{"acting/restart-unit.conf", 10},
		{"acting/destroy-sockets.conf", 10},
		{"webhook.conf", 10},
		{"metrics.conf", 10},
		{"metrics-textfile.conf", 3.2},
		{"acting.conf", 10},
	} {
		if p.name == "tcpmemd.service" {
			dropIns(t, m)
		} else {
			dropIns(t, m, p.name)
		}
		run(t, m, "systemctl", "restart", "tcpmemd")
		out := run(t, m, "systemd-analyze", "security", "--no-pager", "tcpmemd.service")
		_, rest, _ := strings.Cut(out, "exposure level for tcpmemd.service: ")
		score, _, _ := strings.Cut(rest, " ")
		t.Logf("%s: %s", p.name, score)
		if got, err := strconv.ParseFloat(score, 64); err != nil || got > p.most {
			t.Errorf("%s: %s, want %.1f at most\n%s", p.name, score, p.most, out)
		}
		if !strings.Contains(page, ".It Pa "+p.name+" Pq "+score+"\n") {
			t.Errorf("tcpmemd(8) does not say that %s has %s", p.name, score)
		}
	}
	dropIns(t, m)
}

// checkReload: systemd is told, a mistake fails the reload and changes nothing.
func checkReload(t *testing.T, m *Machine) {
	state := func() string { return show(t, m, "tcpmemd", "ActiveState") + " " + show(t, m, "tcpmemd", "SubState") }
	changed := func() string { return show(t, m, "tcpmemd", "StateChangeTimestampMonotonic") }
	mode := func() string {
		var doc struct {
			Mode string `json:"mode"`
		}
		if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "status", "--json")), &doc); err != nil {
			t.Fatal(err)
		}
		return doc.Mode
	}
	pid := show(t, m, "tcpmemd", "MainPID")

	configure(t, m, "mode = \"enforce\"\n"+lifecycleConfig, lifecyclePolicy)
	run(t, m, "systemctl", "reload", "tcpmemd")
	if got := mode(); got != "enforce" || state() != "active running" {
		t.Errorf("after a reload the mode is %s, the unit %s", got, state())
	}

	start := time.Now()
	if err := m.WriteFile("/etc/tcpmemd/policy.d/50-site.toml", []byte("[rule.told]\nwhen = 'tcp.fil > 1'\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	const mistake = "/etc/tcpmemd/policy.d/50-site.toml:2"
	if _, err := m.Run(t.Context(), "systemctl", "reload", "tcpmemd"); err == nil {
		t.Error("a reload of a broken file succeeds")
	}
	logged(t, m, start, "tcpmemctl: "+mistake)
	if out := ask(t, m, "systemctl", "status", "--full", "--lines=20", "tcpmemd"); !strings.Contains(out, mistake) {
		t.Errorf("systemctl status does not show the mistake:\n%s", out)
	}
	if got := run(t, m, "tcpmemctl", "policy", "show"); !strings.Contains(got, "endless") {
		t.Errorf("the old policy is gone:\n%s", got)
	}
	if got := state(); got != "active running" {
		t.Errorf("after a reload that failed the unit is %s", got)
	}

	// SIGHUP is the daemon's own reload: systemd learns of it by RELOADING=1, and
	// by READY=1 that it is over.
	configure(t, m, lifecycleConfig, lifecyclePolicy)
	before := changed()
	run(t, m, "systemctl", "kill", "--kill-whom=main", "--signal=HUP", "tcpmemd")
	eventually(t, patience, func() string {
		switch got := mode(); {
		case got != "observe":
			return "the mode is " + got
		case changed() == before:
			return "systemd saw no reload"
		case state() != "active running":
			return "the unit is " + state()
		}
		return ""
	})
	if got := show(t, m, "tcpmemd", "MainPID"); got != pid {
		t.Errorf("main process %s, then %s", pid, got)
	}
}

// checkNoTCP: tcpmemd is no server and no client, as shipped. ss sees the sockets
// of a process, as those of the leaker show.
func checkNoTCP(t *testing.T, m *Machine) {
	firing(t, m, "told", "") // an action ran, too
	out := run(t, m, "ss", "--tcp", "--all", "--numeric", "--processes")
	if !strings.Contains(out, `"held"`) || strings.Contains(out, `"tcpmem`) {
		t.Errorf("TCP sockets of tcpmemd, or none of held.service:\n%s", out)
	}
	own, host := run(t, m, "readlink", "/proc/"+show(t, m, "tcpmemd", "MainPID")+"/ns/net"), run(t, m, "readlink", "/proc/1/ns/net")
	if own != host {
		t.Errorf("tcpmemd is in %s, the host in %s: ss looked elsewhere", own, host)
	}
}

// openOf gives the open incidents of a rule.
func openOf(t *testing.T, m *Machine, rule string) (ids []string) {
	t.Helper()
	var list struct {
		Incidents []struct {
			ID    string     `json:"id"`
			Rule  string     `json:"rule"`
			Ended *time.Time `json:"ended"`
		} `json:"incidents"`
	}
	text, err := m.Run(t.Context(), "tcpmemctl", "incidents", "--json")
	if err != nil {
		return nil // between two daemons
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	for _, i := range list.Incidents {
		if i.Rule == rule && i.Ended == nil {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// firing waits for one open incident of a rule, another one than before.
func firing(t *testing.T, m *Machine, rule, before string) (id string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		ids := openOf(t, m, rule)
		if len(ids) != 1 || ids[0] == before {
			return fmt.Sprintf("open incidents of %s: %q, before %q\n%s", rule, ids, before, ask(t, m, "tcpmemctl", "status"))
		}
		id = ids[0]
		return ""
	})
	return id
}

// checkHangs: a daemon that is stopped pings no more. systemd ends it and starts
// another one, which closes the incident of before and opens its own.
func checkHangs(t *testing.T, m *Machine) {
	before := firing(t, m, "told", "")
	pid, start := show(t, m, "tcpmemd", "MainPID"), time.Now()
	run(t, m, "systemctl", "kill", "--kill-whom=main", "--signal=STOP", "tcpmemd")
	eventually(t, time.Minute, func() string {
		if now := show(t, m, "tcpmemd", "MainPID"); now == pid || now == "0" || show(t, m, "tcpmemd", "ActiveState") != "active" {
			return "the main process is " + now
		}
		return ""
	})
	logged(t, m, start, "Watchdog timeout")
	firing(t, m, "told", before)
	if in := incidentByID(t, m, before); in.Ended == nil {
		t.Errorf("the incident of before is open still: %+v", in)
	}
}

// checkKilled: the daemon is killed while an action is under way. What that one
// started is gone, its record gets a result, and its budget is spent.
func checkKilled(t *testing.T, m *Machine) {
	configure(t, m, "mode = \"enforce\"\n"+lifecycleConfig, lifecyclePolicy)
	run(t, m, "systemctl", "reload", "tcpmemd")
	sleeping := func() string { return ask(t, m, "pgrep", "--full", "sleep 7777") }
	eventually(t, time.Minute, func() string {
		if sleeping() == "" {
			return "nothing is run\n" + ask(t, m, "tcpmemctl", "status")
		}
		return ""
	})
	before := firing(t, m, "endless", "")
	pid := show(t, m, "tcpmemd", "MainPID")
	run(t, m, "systemctl", "kill", "--kill-whom=main", "--signal=KILL", "tcpmemd")
	after := firing(t, m, "endless", before)
	if now := show(t, m, "tcpmemd", "MainPID"); now == pid {
		t.Fatal("it was not killed")
	}
	if got := sleeping(); got != "" {
		t.Errorf("left of the action: %s", got)
	}
	var results []string
	for _, r := range incidentByID(t, m, before).Records {
		if r.Result != nil {
			results = append(results, string(r.Result.Outcome))
		}
	}
	// What is repaired at the start is in the log, with the incident's name.
	out := run(t, m, "tcpmemctl", "actions", "--json", "--since", "1h")
	if !strings.Contains(out, `"interrupted"`) || slices.Contains(results, string(record.Done)) {
		t.Errorf("results of the incident %q, and the log has no interrupted one:\n%s", results, out)
	}
	eventually(t, time.Minute, func() string { // once it is settled, the budget holds it
		if out := ask(t, m, "tcpmemctl", "status"); !strings.Contains(out, "budget") {
			return out
		}
		return ""
	})
	if got := sleeping(); got != "" {
		t.Errorf("the action of %s was repeated in %s", before, after)
	}
}

// checkWrongFlag: what fails the same way each time is not tried again.
func checkWrongFlag(t *testing.T, m *Machine) {
	override(t, m, "ExecStart=\nExecStart=/usr/sbin/tcpmemd --observe-twice\nRestartSec=100ms")
	defer override(t, m, "")
	if _, err := m.Run(t.Context(), "systemctl", "restart", "tcpmemd"); err == nil {
		t.Error("it starts with a flag that there is not")
	}
	if state, status := show(t, m, "tcpmemd", "ActiveState"), show(t, m, "tcpmemd", "ExecMainStatus"); state != "failed" || status != "2" {
		t.Errorf("it is %s after status %s, want failed after 2", state, status)
	}
}

func incidentByID(t *testing.T, m *Machine, id string) (in record.Incident) {
	t.Helper()
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "incidents", "show", id, "--json")), &in); err != nil {
		t.Fatal(err)
	}
	return in
}

// checkOwnNamespace: the smallest profile sees the sockets of the host's own
// namespace, hidden ones too, and says what else there is that it cannot see.
func checkOwnNamespace(t *testing.T, m *Machine) {
	configure(t, m, lifecycleConfig, lifecyclePolicy)
	dropIns(t, m, "own-namespace.conf")
	run(t, m, "systemctl", "restart", "tcpmemd")
	type gap struct {
		Code string `json:"code"`
		What string `json:"what"`
		Why  string `json:"why"`
	}
	var doc struct {
		Gaps []gap `json:"gaps"`
	}
	eventually(t, time.Minute, func() string {
		text, err := m.Run(t.Context(), "tcpmemctl", "owners", "--json")
		if err != nil {
			return err.Error()
		}
		owners, err := askOwners(t, m)
		if err != nil {
			return err.Error()
		}
		units := make(map[string]tally)
		for _, o := range owners {
			units[o.Unit] = o.Classes["hidden"]
		}
		if _, there := units["apart.service"]; there {
			t.Error("a socket of another namespace is seen")
		}
		if units["held.service"].Sockets != 80 {
			return fmt.Sprintf("held.service has %d hidden sockets, want 80\n%s", units["held.service"].Sockets, text)
		}
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			return err.Error()
		}
		return ""
	})
	if !slices.ContainsFunc(doc.Gaps, func(g gap) bool { return strings.HasPrefix(g.Code, "netns-") }) {
		t.Errorf("no gap names the other namespace: %+v", doc.Gaps)
	}
	out := run(t, m, "tcpmemctl", "doctor")
	for _, want := range []string{"CAP_SYS_ADMIN: not held", "CAP_SYSLOG: not held", "other network namespaces (containers) are not seen"} {
		if !strings.Contains(strings.Join(strings.Fields(out), " "), want) {
			t.Errorf("doctor does not say %q:\n%s", want, out)
		}
	}
	t.Logf("\n%s", out)
}
