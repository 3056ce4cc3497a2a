// Package plugintest holds what the tests of the actions have in common.
package plugintest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// Main runs the tests and fails where they leave a goroutine or a child: one
// that nobody waits for, or a zombie.
func Main(m *testing.M) {
	code := m.Run()
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if _, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil); err != unix.ECHILD {
		fmt.Fprintln(os.Stderr, "a child is left:", err)
		code = 1
	}
	os.Exit(code)
}

// Run runs an action, which answers in time, and in words that are safe to
// print.
func Run(t *testing.T, a remediate.Action, r *remediate.Request) *remediate.Response {
	t.Helper()
	resp, err := a.Run(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if late := time.Since(r.Deadline); late > 0 {
		t.Errorf("answered %s after the deadline", late)
	}
	if strings.ContainsAny(resp.Message, "\n\x1b") || len(resp.Message) > 4<<10 {
		t.Errorf("message %.200q", resp.Message)
	}
	return resp
}

// Expect holds an answer to its result, its code, and words of its message.
func Expect(t *testing.T, resp *remediate.Response, result remediate.Result, code, says string) {
	t.Helper()
	if resp.Result != result || resp.Code != code || !strings.Contains(resp.Message, says) {
		t.Errorf("%s %q %s; want %s %q %s", resp.Result, resp.Code, resp.Message, result, code, says)
	}
}
