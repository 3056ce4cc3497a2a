package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// The tests run this program: the test binary started again as the daemon.
func TestMain(m *testing.M) {
	scene.RunIfChild()
	runJob()
	code := m.Run()
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), envJob+"=daemon")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func TestExitCodes(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.toml")
	if err := os.WriteFile(broken, []byte("[scan]\ncalm = 5\ncalmm = \"5s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(t.TempDir(), "plugin.toml")
	if err := os.WriteFile(plugin, []byte("[plugin.mine]\npath = \"/nonexistent\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	web := filepath.Join(t.TempDir(), "web.toml")
	if err := os.WriteFile(web, []byte("# TLS\nmetrics.web_config = \"/nonexistent.yml\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args string
		code int
		want string // in the output
	}{
		{"--version", exitOK, "tcpmemd "},
		{"--help", exitOK, "Options:"},
		{"--check", exitOK, "configuration is valid"},
		{"--check --config " + plugin, exitOK, "not looked at: the file of plugin mine"},
		{"--check --config " + web, exitConfiguration, "web.toml:2: metrics.web_config: web configuration /nonexistent.yml: open: no such file"},
		{"--check --config " + broken, exitConfiguration, `broken.toml:2`},
		{"--config " + broken, exitConfiguration, `scan.calmm`},
		{"--config /nonexistent", exitConfiguration, "/nonexistent"},
		{"--nonsense", exitUsage, "nonsense"},
		{"more", exitUsage, `"more"`},
	} {
		cmd := command(t, strings.Fields(tc.args)...)
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(string(out), tc.want) {
			t.Errorf("tcpmemd %s: exit %d, want %d and %q:\n%s", tc.args, code, tc.code, tc.want, out)
		}
	}
}

// In the foreground the daemon prints a first reading that a person understands,
// ends cleanly on Ctrl-C, refuses a second one on its socket and leaves none
// behind.
func TestForeground(t *testing.T) {
	require.Root(t)
	scene.BuildT(t, scene.StartT(t, scene.ChildOptions{Comm: "task-queue"}),
		scene.Spec{Kind: scene.Unread, Pairs: 100, Bytes: 30_000})
	socket := filepath.Join(t.TempDir(), "tcpmemd.sock")
	state := filepath.Join(filepath.Dir(socket), "state")
	cmd := command(t, "--socket", socket, "--state", state)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no control socket")
		}
	}
	second, err := command(t, "--socket", socket, "--state", state).CombinedOutput()
	if err == nil || !strings.Contains(string(second), "another daemon") {
		t.Errorf("a second daemon: %v\n%s", err, second)
	}
	time.Sleep(2 * time.Second) // the first reading is out
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v, want a clean end", err)
	}
	for _, want := range []string{"observing: nothing is touched", "level ", "TCP memory by owner", "tcpmemd ended."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
}
