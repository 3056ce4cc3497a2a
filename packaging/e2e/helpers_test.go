//go:build e2e

package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
)

func TestMain(m *testing.M) {
	scene.RunIfChild() // what restores net.ipv4.tcp_mem, whatever becomes of a test
	os.Exit(m.Run())
}

// boot boots a machine for one test, stops it at its end, and shows the
// journal of a test that failed.
func boot(t *testing.T, rel Release) *Machine {
	t.Helper()
	start := time.Now()
	m, err := Boot(t.Context(), rel)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s booted in %.1f s", rel, time.Since(start).Seconds())
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			journal, err := m.Journal(ctx, "--boot", "--lines=300", "--output=short-precise")
			t.Logf("journal of %s (%v):\n%s", rel, err, journal)
		}
		if err := m.Stop(); err != nil {
			t.Errorf("stop %s: %v", rel, err)
		}
	})
	return m
}

// run runs a command in m and fails the test if it fails.
func run(t *testing.T, m *Machine, name string, args ...string) string {
	t.Helper()
	out, err := m.Run(t.Context(), name, args...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// ask runs a command in m whose exit status is part of its answer, such as
// `systemctl is-active`, and returns what it prints.
func ask(t *testing.T, m *Machine, name string, args ...string) string {
	t.Helper()
	out, _ := m.Run(t.Context(), name, args...)
	return strings.TrimSpace(out)
}

// install copies the package that `make package` built into m and installs it,
// as an administrator without a repository does.
func install(t *testing.T, m *Machine) {
	t.Helper()
	deb := os.Getenv("TCPMEMD_E2E_DEB")
	if deb == "" {
		t.Fatal("TCPMEMD_E2E_DEB names no package: run `make e2e`")
	}
	if err := m.Copy(deb, "/root/tcpmemd.deb", 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", run(t, m, "dpkg", "--install", "/root/tcpmemd.deb"))
}

// eventually calls check until it returns "", or fails the test with what it
// said last.
func eventually(t *testing.T, within time.Duration, check func() string) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		problem := check()
		if problem == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %s", within, problem)
		}
		if err := pause(t.Context(), 200*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
}

// leakerPath is where installLeaker puts packaging/e2e/leaker.
const leakerPath = "/usr/local/bin/leaker"

// installLeaker builds packaging/e2e/leaker and copies it into m.
func installLeaker(t *testing.T, m *Machine) {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "leaker")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./leaker")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build leaker: %v\n%s", err, out)
	}
	if err := m.Copy(bin, leakerPath, 0o755); err != nil {
		t.Fatal(err)
	}
}

// startService writes a unit file and starts it. With Type=notify it is ready
// when this returns.
func startService(t *testing.T, m *Machine, unit, text string) {
	t.Helper()
	if err := m.WriteFile("/etc/systemd/system/"+unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, m, "systemctl", "daemon-reload")
	run(t, m, "systemctl", "start", unit)
}

// configure writes the machine's tcpmemd.toml and a file of rules, and has them
// checked. Like an administrator, it leaves it to the caller to restart or to
// reload the daemon.
func configure(t *testing.T, m *Machine, config, policy string) {
	t.Helper()
	for path, text := range map[string]string{
		"/etc/tcpmemd/tcpmemd.toml":          config,
		"/etc/tcpmemd/policy.d/50-site.toml": policy,
	} {
		if err := m.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, m, "tcpmemd", "--check")
}

// allowActing does what tcpmemd(8) says to let tcpmemd take every action, but
// for the restart.
func allowActing(t *testing.T, m *Machine) {
	t.Helper()
	dropIns(t, m, "acting.conf")
}

// dropIns installs these drop-ins of the package and removes its others. The
// caller restarts the daemon.
func dropIns(t *testing.T, m *Machine, names ...string) {
	t.Helper()
	const dir, from = "/etc/systemd/system/tcpmemd.service.d/", "/usr/lib/tcpmemd/"
	run(t, m, "mkdir", "-p", dir)
	run(t, m, "find", dir, "-lname", from+"*", "-delete")
	for _, name := range names {
		run(t, m, "test", "-f", from+name)
		run(t, m, "ln", "-s", from+name, dir)
	}
	run(t, m, "systemctl", "daemon-reload")
}
