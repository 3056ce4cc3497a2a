//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// TestRPM is the life of the rpm: what its scriptlets do to a booted systemd,
// and what rpm itself keeps and takes away.
func TestRPM(t *testing.T) {
	m := boot(t, Bookworm)
	// The deb under test has the rpm beside it: NAME_VERSION_ARCH.deb.
	dir, deb := filepath.Split(os.Getenv("TCPMEMD_E2E_DEB"))
	parts := strings.Split(deb, "_")
	if len(parts) != 3 {
		t.Fatalf("TCPMEMD_E2E_DEB names no package, but %q: run `make e2e`", deb)
	}
	copyRPM(t, m, dir, parts[1], "/root/tcpmemd.rpm")
	copyRPM(t, m, nextPackages(t), nextVersion, "/root/next.rpm")

	rpm(t, m, "--install", "/root/tcpmemd.rpm")
	t.Run("Install", func(t *testing.T) {
		checkInstalled(t, m)
		checkPrograms(t, m)
		checkRPMFiles(t, m)
	})
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
	t.Run("Upgrade", func(t *testing.T) { checkRPMUpgrade(t, m) })
	t.Run("UpdateHelper", func(t *testing.T) { checkRPMUpdateHelper(t, m) })
	t.Run("Erase", func(t *testing.T) { checkRPMErase(t, m) })
}

// copyRPM copies the package of a version from dir on the host into m.
func copyRPM(t *testing.T, m *Machine, dir, version, dst string) {
	t.Helper()
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if err := m.Copy(filepath.Join(dir, "tcpmemd-"+version+"-1."+arch+".rpm"), dst, 0o644); err != nil {
		t.Fatal(err)
	}
}

// rpm changes what is installed. rpm's own database knows of no systemd here,
// and Debian's rpm wants to be asked twice.
func rpm(t *testing.T, m *Machine, args ...string) {
	t.Helper()
	if out := run(t, m, "rpm", append([]string{"--nodeps", "--force-debian", "--verbose"}, args...)...); out != "" {
		t.Log(out)
	}
}

// checkRPMFiles: each file is what rpm's header says, and of the kind that it
// should be.
func checkRPMFiles(t *testing.T, m *Machine) {
	if got := ask(t, m, "rpm", "--verify", "--nodeps", "tcpmemd"); got != "" {
		t.Errorf("rpm --verify:\n%s", got)
	}
	list := func(flag string) []string { return strings.Fields(run(t, m, "rpm", "--query", flag, "tcpmemd")) }
	if got := list("--configfiles"); !slices.Equal(got, []string{"/etc/tcpmemd/tcpmemd.toml"}) {
		t.Errorf("configuration: %v", got)
	}
	if got := list("--licensefiles"); !slices.Equal(got, []string{"/usr/share/licenses/tcpmemd/LICENSE"}) {
		t.Errorf("licence: %v", got)
	}
	docs := list("--docfiles")
	for _, path := range list("--list") {
		if strings.HasPrefix(path, "/usr/share/man/") && !slices.Contains(docs, path) {
			t.Errorf("%s is no documentation", path)
		}
	}
	if got := run(t, m, "rpm", "--query", "--provides", "tcpmemd"); !strings.Contains(got, "group(tcpmemd)") {
		t.Errorf("provides:\n%s", got)
	}
}

// checkRPMUpgrade: what runs is restarted once, what is stopped stays so, an
// edited configuration stays, and an older package takes its place again.
func checkRPMUpgrade(t *testing.T, m *Machine) {
	const edited = `scan.calm = "5s"`
	if err := m.WriteFile("/etc/tcpmemd/tcpmemd.toml", []byte(edited), 0o644); err != nil {
		t.Fatal(err)
	}
	before, starts := show(t, m, "tcpmemd", "MainPID"), countStarts(t, m)
	rpm(t, m, "--upgrade", "/root/next.rpm")
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
	if got := run(t, m, "cat", "/etc/tcpmemd/tcpmemd.toml"); got != edited {
		t.Errorf("the administrator's tcpmemd.toml is now\n%s", got)
	}
	if got := run(t, m, "find", "/etc/tcpmemd", "-name", "*.rpm*"); got != "" {
		t.Errorf("rpm left %s", got)
	}

	run(t, m, "systemctl", "stop", "tcpmemd")
	starts = countStarts(t, m)
	rpm(t, m, "--upgrade", "--oldpackage", "/root/tcpmemd.rpm")
	expectUnit(t, m, "enabled", "inactive")
	if n := countStarts(t, m) - starts; n != 0 {
		t.Errorf("the downgrade of a stopped one started it %d times", n)
	}
}

// checkRPMUpdateHelper: where systemd brings its helper for scriptlets, which
// Debian's does not, the work is left to that.
func checkRPMUpdateHelper(t *testing.T, m *Machine) {
	const helper = "/usr/lib/systemd/systemd-update-helper"
	if err := m.WriteFile(helper, []byte("#!/bin/sh\necho \"$@\" >>/run/helped\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "start", "tcpmemd")
	before := show(t, m, "tcpmemd", "MainPID")
	rpm(t, m, "--upgrade", "/root/next.rpm")
	if after := show(t, m, "tcpmemd", "MainPID"); after != before {
		t.Error("the upgrade restarted it beside the helper")
	}
	rpm(t, m, "--erase", "tcpmemd")
	want := "mark-restart-system-units tcpmemd.service\nremove-system-units tcpmemd.service tcpmemd-metrics.socket"
	if got := run(t, m, "cat", "/run/helped"); got != want {
		t.Errorf("the helper was called\n%s\nwant\n%s", got, want)
	}
	// It has done nothing.
	run(t, m, "systemctl", "stop", "tcpmemd")
	run(t, m, "rm", helper)
	rpm(t, m, "--install", "/root/next.rpm")
	run(t, m, "systemctl", "enable", "--now", "tcpmemd")
}

// checkRPMErase: it is stopped and disabled; what an administrator changed and
// what the daemon recorded stays, as rpm keeps it.
func checkRPMErase(t *testing.T, m *Machine) {
	if err := m.WriteFile("/etc/tcpmemd/tcpmemd.toml", []byte(`scan.calm = "6s"`), 0o644); err != nil {
		t.Fatal(err)
	}
	rpm(t, m, "--erase", "tcpmemd")
	if got := ask(t, m, "systemctl", "is-active", "tcpmemd"); got != "inactive" {
		t.Errorf("is-active = %q, want inactive", got)
	}
	left := run(t, m, "find", "/etc", "/usr", "/var/lib", "-name", "*tcpmem*", "-not", "-path", "/var/lib/rpm/*")
	want := []string{"/etc/tcpmemd", "/etc/tcpmemd/tcpmemd.toml.rpmsave", "/var/lib/tcpmemd"}
	if got := strings.Fields(left); !slices.Equal(got, want) {
		t.Errorf("left after erase: %v, want %v", got, want)
	}
	run(t, m, "test", "-s", stateDir+"/budgets.json")
	run(t, m, "getent", "group", "tcpmemd")
}
