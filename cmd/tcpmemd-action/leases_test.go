package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEndLeases: what was lent when the daemon was killed is given back; what
// somebody else set stays.
func TestEndLeases(t *testing.T) {
	const leases = `{"version":1,"boot_id":"01234567-89ab-cdef-0123-456789abcdef","leases":[
		{"action":"other","undo":{}},
		{"action":"raise-tcp-mem","undo":{"version":1,"boot_id":"01234567-89ab-cdef-0123-456789abcdef",
			"base":{"min":1,"pressure":2,"max":3},"raised":{"min":2,"pressure":4,"max":6}}}]}`
	for name, tc := range map[string]struct {
		leases, live string
		comesBack    bool
		after        string
		code         int
	}{
		"lent":       {leases, "2\t4\t6\n", false, "1 2 3", 0},
		"comes back": {leases, "2\t4\t6\n", true, "2 4 6", 0},
		"rival":      {leases, "2\t4\t7\n", false, "2 4 7", 0},
		"none":       {`{"version":1,"leases":[]}`, "2\t4\t6\n", false, "2 4 6", 0},
		"no file":    {"", "2\t4\t6\n", false, "2 4 6", 0},
		"broken":     {"{", "2\t4\t6\n", true, "2 4 6", exitFailure},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put := func(path, text string) string {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if text == "" {
					return path
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
				return path
			}
			live := put("sys/net/ipv4/tcp_mem", tc.live)
			put("sys/kernel/random/boot_id", "01234567-89ab-cdef-0123-456789abcdef\n")
			var out bytes.Buffer
			code := endLeases(t.Context(), put("leases.json", tc.leases), dir, func(context.Context) bool { return tc.comesBack }, &out)
			text, err := os.ReadFile(live)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(strings.Fields(string(text)), " "); got != tc.after || code != tc.code {
				t.Errorf("tcp_mem %q, exit %d, want %q and %d: %s", got, code, tc.after, tc.code, &out)
			}
		})
	}
}

// TestComesBack: only a daemon that was killed, and that nobody stops, is waited
// for.
func TestComesBack(t *testing.T) {
	for name, tc := range map[string]struct {
		ending
		want bool
	}{
		"killed":                 {ending{"signal", "killed", "on-failure", false}, true},
		"watchdog":               {ending{"watchdog", "dumped", "on-failure", false}, true},
		"killed, Restart=no":     {ending{"signal", "killed", "no", false}, false},
		"killed, Restart=always": {ending{"oom-kill", "killed", "always", false}, true},
		"killed by a stop":       {ending{"timeout", "killed", "on-failure", true}, false},
		"stopped":                {ending{"success", "exited", "on-failure", true}, false},
		"SIGTERM by hand":        {ending{"success", "killed", "on-failure", false}, false},
		"broken --config":        {ending{"exit-code", "exited", "on-failure", false}, false},
		"told nothing":           {ending{"", "", "on-failure", false}, false},
	} {
		if got := tc.comesBack(); got != tc.want {
			t.Errorf("%s: comes back: %v, want %v", name, got, tc.want)
		}
	}
}
