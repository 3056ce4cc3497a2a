package notify

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
	"github.com/tcpmemd/tcpmemd/plugins/internal/plugintest"
	"github.com/tcpmemd/tcpmemd/remediate"
)

func TestMain(m *testing.M) { plugintest.Main(m) }

func encoded(t *testing.T, settings map[string]any) remediate.Settings {
	t.Helper()
	s, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func request(s remediate.Settings, within time.Duration) *remediate.Request {
	return &remediate.Request{
		ActionID: "a-1", IncidentID: "i-1", Rule: "leaking-service", About: "one grows", Key: "system/x.service", Step: 1,
		Settings: s, Deadline: time.Now().Add(within), Event: "rule-fired", Severity: "warning",
		Text: "x.service holds 90 % of TCP memory", Host: remediate.Host{EtaSeconds: -1},
	}
}

func run(t *testing.T, a *Action, r *remediate.Request) *remediate.Response {
	t.Helper()
	return plugintest.Run(t, a, r)
}

func expect(t *testing.T, resp *remediate.Response, result remediate.Result, code, says string) {
	t.Helper()
	plugintest.Expect(t, resp, result, code, says)
}

// script writes a program that only root may write.
func script(t *testing.T, text string) string {
	t.Helper()
	require.Root(t)
	dir, err := os.MkdirTemp("/run", "notify-test-") //nolint:usetesting // that one is in a folder that anybody may write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	name := filepath.Join(dir, "program")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}
