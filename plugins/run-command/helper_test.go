package runcommand

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/plugins/internal/plugintest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) { plugintest.Main(m) }

// hostile is what a process may be called.
var hostile = []string{"a\nb", "\x1b[31mred\x1b[0m", "$(id);`id`", "(x) R 1", "\xff\xfe", strings.Repeat("ä", 2<<10)}

// folder is one that only root may write: those of t.TempDir are not.
func folder(t *testing.T) string {
	t.Helper()
	require.Root(t)
	dir, err := os.MkdirTemp("/run", "run-command-test-") //nolint:usetesting // that one is in a folder that anybody may write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// script writes a program that only root may write.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(folder(t), "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func command(t *testing.T, list ...string) remediate.Settings {
	t.Helper()
	s, err := json.Marshal(map[string]any{"command": list})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(s remediate.Settings, within time.Duration) *remediate.Request {
	return &remediate.Request{
		ActionID: "a-1", IncidentID: "i-1", Rule: "leaking-service", About: "one grows", Key: "system/x.service", Step: 2,
		Hostname: "n1", BootID: "b", Settings: s, Deadline: time.Now().Add(within),
		Event: "rule-fired", Severity: "warning", Text: "x.service holds 90 %",
		Host: remediate.Host{PageSize: 4096, UsedPages: 100, MaxPages: 200, Fill: 0.5, EtaSeconds: -1},
	}
}

// run runs the action, which must answer before the deadline.
func run(t *testing.T, r *remediate.Request) *remediate.Response {
	t.Helper()
	return plugintest.Run(t, New("1"), r)
}

// alive tells whether a process runs: a zombie does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return after[0] != 'Z' && after[0] != 'X'
}

// pidIn waits for a process to write its number to a file.
func pidIn(t *testing.T, name string) (pid int) {
	t.Helper()
	for range 200 {
		text, _ := os.ReadFile(name)
		if n, _ := fmt.Sscanf(string(text), "%d\n", &pid); n == 1 {
			return pid
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: no number", name)
	return 0
}
