//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// nextVersion is what the package under test is upgraded to: more than it will
// ever be.
const nextVersion = "99.0.0"

// packageConfig and packagePolicy are an administrator's own files: the rule
// tells of a unit that leaks for as long as the test lasts.
const (
	packageConfig = `
mode = "observe"
settle.start = "2s"
settle.owner = "2s"
min_coverage = 0.1
scan.calm = "5s"
`
	packagePolicy = `
[rule.packaged]
about = "a service leaks while tcpmemd is upgraded"
for_each = "unit"
when = 'owner.unit == "leaking.service" && owner.unread_bytes > 1 * MiB'
for = "0s"
until = 'owner.unread_bytes < 64 * KiB'
[[rule.packaged.step]]
action = "restart-unit"
`
)

// TestPackage is the life of the deb on a host: installed, enabled, upgraded
// while an incident is open and while stopped, downgraded, over a reboot,
// removed, installed again, purged.
func TestPackage(t *testing.T) {
	m := boot(t, Bookworm)
	install(t, m)
	t.Run("Install", func(t *testing.T) {
		checkInstalled(t, m)
		checkPrograms(t, m)
		if got := run(t, m, "dpkg", "--verify", "tcpmemd"); got != "" {
			t.Errorf("dpkg --verify:\n%s", got)
		}
	})
	if err := m.Copy(filepath.Join(nextPackages(t), "tcpmemd_"+nextVersion+"_"+runtime.GOARCH+".deb"), "/root/next.deb", 0o644); err != nil {
		t.Fatal(err)
	}
	installLeaker(t, m)
	configure(t, m, packageConfig, packagePolicy)
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
	startService(t, m, "leaking.service", "[Service]\nType=notify\nExecStart="+leakerPath+" -unread 40 -bytes 50000\n[Install]\nWantedBy=multi-user.target\n")

	t.Run("UpgradeInIncident", func(t *testing.T) { checkUpgradeInIncident(t, m) })
	t.Run("UpgradeOfStopped", func(t *testing.T) { checkUpgradeOfStopped(t, m) })
	t.Run("Downgrade", func(t *testing.T) { checkDowngrade(t, m) })
	t.Run("Reboot", func(t *testing.T) { checkReboot(t, m) })
	t.Run("Remove", func(t *testing.T) { checkRemove(t, m) })
	t.Run("Purge", func(t *testing.T) { checkPurge(t, m) })
}

// checkInstalled: nothing is started or enabled, and what was installed is
// whole.
func checkInstalled(t *testing.T, m *Machine) {
	t.Helper()
	expectUnit(t, m, "disabled", "inactive")
	if got := run(t, m, "systemd-analyze", "verify", "--man=no", "tcpmemd.service"); got != "" {
		t.Errorf("systemd-analyze verify:\n%s", got)
	}
	if got := run(t, m, "stat", "--format=%a %U:%G", stateDir); got != "750 root:tcpmemd" {
		t.Errorf("%s is %s", stateDir, got)
	}
	run(t, m, "bash", "-c", "source /usr/share/bash-completion/completions/tcpmemctl && complete -p tcpmemctl")
}

// checkPrograms: the bill of materials is of the programs that are installed.
func checkPrograms(t *testing.T, m *Machine) {
	t.Helper()
	var bill struct {
		Components []struct {
			Type   string `json:"type"`
			Name   string `json:"name"`
			Hashes []struct {
				Content string `json:"content"`
			} `json:"hashes"`
		} `json:"components"`
	}
	if err := json.Unmarshal([]byte(run(t, m, "cat", "/usr/share/doc/tcpmemd/sbom.cdx.json")), &bill); err != nil {
		t.Fatal(err)
	}
	want := make(map[string]string)
	modules := 0
	for _, c := range bill.Components {
		if c.Type == "application" && len(c.Hashes) == 1 {
			want[c.Name] = c.Hashes[0].Content
		} else {
			modules++
		}
	}
	for _, path := range []string{"/usr/sbin/tcpmemd", "/usr/bin/tcpmemctl", "/usr/libexec/tcpmemd/tcpmemd-action"} {
		sum, _, _ := strings.Cut(run(t, m, "sha256sum", path), " ")
		if name := filepath.Base(path); want[name] != sum {
			t.Errorf("%s has the sum %s, the bill says %s", path, sum, want[name])
		}
	}
	if modules < 10 {
		t.Errorf("the bill lists %d modules", modules)
	}
}

func checkUpgradeInIncident(t *testing.T, m *Machine) {
	open := openIncident(t, m, "")
	before, starts := show(t, m, "tcpmemd", "MainPID"), countStarts(t, m)
	upgrade(t, m, "/root/next.deb")
	if after := show(t, m, "tcpmemd", "MainPID"); after == before || after == "0" {
		t.Errorf("MainPID %s before and %s after the upgrade, want another one", before, after)
	}
	if n := countStarts(t, m) - starts; n != 1 {
		t.Errorf("started %d times by the upgrade, want once", n)
	}
	expectUnit(t, m, "enabled", "active")
	if got := run(t, m, "tcpmemd", "--version"); !strings.Contains(got, nextVersion) {
		t.Errorf("tcpmemd --version = %q, want %s", got, nextVersion)
	}

	// What the old one left is closed, and what still holds is taken up.
	if old := incidentShow(t, m, open.ID); old.Ended == nil || old.End != record.EndStopped {
		t.Errorf("the incident of before ended %v, %q; want %s", old.Ended, old.End, record.EndStopped)
	}
	openIncident(t, m, open.ID)
	if got := run(t, m, "cat", "/etc/tcpmemd/tcpmemd.toml"); got != strings.TrimSpace(packageConfig) {
		t.Errorf("the administrator's tcpmemd.toml is now\n%s", got)
	}
	if got := run(t, m, "find", "/etc/tcpmemd", "-name", "*.dpkg-*"); got != "" {
		t.Errorf("dpkg left %s", got)
	}
}

func checkUpgradeOfStopped(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "stop", "tcpmemd")
	starts := countStarts(t, m)
	upgrade(t, m, "/root/next.deb")
	expectUnit(t, m, "enabled", "inactive")
	if n := countStarts(t, m) - starts; n != 0 {
		t.Errorf("the upgrade of a stopped one started it %d times", n)
	}
}

// checkDowngrade: the older daemon runs on what a newer one has left, also where
// that has another version.
func checkDowngrade(t *testing.T, m *Machine) {
	run(t, m, "systemctl", "start", "tcpmemd")
	in := openIncident(t, m, "").ID
	run(t, m, "systemctl", "stop", "tcpmemd")
	run(t, m, "sed", "-i", `s/"version":1\b/"version":2/`, stateDir+"/budgets.json")
	if got := run(t, m, "cat", stateDir+"/budgets.json"); !strings.Contains(got, `"version":2`) {
		t.Fatalf("budgets.json: %s", got)
	}
	upgrade(t, m, "/root/tcpmemd.deb")
	expectUnit(t, m, "enabled", "inactive")
	run(t, m, "systemctl", "start", "tcpmemd")
	if got := incidentShow(t, m, in); got.End != record.EndStopped {
		t.Errorf("incident %s of the newer version: end %q", in, got.End)
	}
	run(t, m, "test", "-e", stateDir+"/budgets.json.broken")
	openIncident(t, m, in)
}

// checkReboot: enabled is what starts it, and nothing about the host is wrong
// because of it.
func checkReboot(t *testing.T, m *Machine) {
	in := openIncident(t, m, "").ID
	run(t, m, "systemctl", "enable", "leaking.service")
	if err := m.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	expectUnit(t, m, "enabled", "active")
	if got := ask(t, m, "systemctl", "is-system-running"); got != "running" {
		t.Errorf("is-system-running = %q, want running\n%s", got, run(t, m, "systemctl", "--failed"))
	}
	// Which of the two units was stopped first decides how it ended.
	if got := incidentShow(t, m, in); got.Ended == nil {
		t.Error("the incident of before the reboot is still open")
	}
	// The modules that this kernel has not cost a line in the log.
	if got := show(t, m, "systemd-modules-load", "Result"); got != "success" {
		t.Errorf("systemd-modules-load: %s", got)
	}
}

// checkRemove: remove keeps what an administrator wrote and what the daemon
// recorded; installed again, it goes on with both.
func checkRemove(t *testing.T, m *Machine) {
	in := openIncident(t, m, "").ID
	run(t, m, "dpkg", "--remove", "tcpmemd")
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd"); got != "inactive" {
		t.Errorf("is-active after remove = %q", got)
	}
	run(t, m, "test", "-e", "/etc/tcpmemd/tcpmemd.toml", "-a", "-e", "/etc/tcpmemd/policy.d/50-site.toml",
		"-a", "-e", stateDir+"/actions.jsonl", "-a", "!", "-e", "/usr/sbin/tcpmemd")
	install(t, m)
	expectUnit(t, m, "enabled", "inactive")
	run(t, m, "systemctl", "start", "tcpmemd")
	if got := incidentShow(t, m, in); got.End != record.EndStopped {
		t.Errorf("the incident of before: end %q", got.End)
	}
}

// checkPurge: nothing is left, neither of the package nor of what it was told.
func checkPurge(t *testing.T, m *Machine) {
	allowActing(t, m)
	run(t, m, "dpkg", "--purge", "tcpmemd")
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd"); got != "inactive" {
		t.Errorf("is-active = %q, want inactive", got)
	}
	left := run(t, m, "find", "/etc", "/run", "/usr", "/var/lib", "-name", "*tcpmem*",
		"-not", "-path", "/var/lib/dpkg/*")
	if left != "" {
		t.Errorf("left after purge:\n%s", left)
	}
}

// nextPackages gives the folder of the packages of nextVersion. It has them built
// as those under test were, unless that was done after them.
func nextPackages(t *testing.T) string {
	t.Helper()
	deb := os.Getenv("TCPMEMD_E2E_DEB")
	dir := filepath.Join(filepath.Dir(deb), "next")
	if next, err := os.Stat(filepath.Join(dir, "SHA256SUMS")); err == nil {
		if this, err := os.Stat(deb); err == nil && next.ModTime().After(this.ModTime()) {
			return dir
		}
	}
	build := exec.CommandContext(t.Context(), "make", "--directory=../..", "package",
		"VERSION="+nextVersion, "ARCHES="+runtime.GOARCH, "DIST="+dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("make package: %v\n%s", err, out)
	}
	return dir
}

// upgrade installs another version, as an unattended upgrade does: nobody is
// there to answer a question.
func upgrade(t *testing.T, m *Machine, deb string) {
	t.Helper()
	t.Logf("%s", run(t, m, "dpkg", "--install", deb))
}

// expectUnit compares what systemctl says of the service.
func expectUnit(t *testing.T, m *Machine, enabled, active string) {
	t.Helper()
	if got := ask(t, m, "systemctl", "is-enabled", "tcpmemd"); got != enabled {
		t.Errorf("is-enabled = %q, want %s", got, enabled)
	}
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd"); got != active {
		t.Errorf("is-active = %q, want %s", got, active)
	}
}

// countStarts counts how often systemd has started the service in this boot.
func countStarts(t *testing.T, m *Machine) int {
	t.Helper()
	run(t, m, "journalctl", "--sync")
	const started = "MESSAGE_ID=39f53479d3a045ac8e11786248231fbf" // SD_MESSAGE_UNIT_STARTED
	out := run(t, m, "journalctl", "--no-pager", "--boot", "--output=cat", "_PID=1", "UNIT=tcpmemd.service", started)
	return len(strings.Split(out, "\n"))
}

// openIncident waits for the rule's incident to be open, and to be another one
// than not.
func openIncident(t *testing.T, m *Machine, not string) record.Incident {
	t.Helper()
	var in record.Incident
	eventually(t, 90*time.Second, func() string {
		var ok bool
		if in, ok = incidentOf(t, m, "packaged"); !ok || in.ID == not || in.Ended != nil {
			return "no open incident\n" + ask(t, m, "tcpmemctl", "incidents") + ask(t, m, "tcpmemctl", "status")
		}
		return ""
	})
	return in
}

// incidentShow is what is kept of an incident.
func incidentShow(t *testing.T, m *Machine, id string) (in record.Incident) {
	t.Helper()
	if err := json.Unmarshal([]byte(run(t, m, "tcpmemctl", "incidents", "show", id, "--json")), &in); err != nil {
		t.Fatal(err)
	}
	return in
}
