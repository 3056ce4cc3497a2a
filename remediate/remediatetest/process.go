// Package remediatetest helps authors of actions to test them: [Check] holds
// an action against the contract in the test's own process, and [Start] runs a
// built plugin as tcpmemd does, with its rights, limits and checks.
//
//	func TestContract(t *testing.T) {
//		remediatetest.Check(t, mine.New(), remediatetest.Want{
//			Valid:   []string{`{"to":"ops"}`},
//			Invalid: []string{`{}`},
//		})
//	}
package remediatetest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

// Folder is a new one that tcpmemd's rule for plugins lets pass: no folder
// above it is writable by others, as /tmp is. It is removed after the test.
func Folder(t testing.TB) string {
	t.Helper()
	base := "/var/lib"
	if os.Geteuid() != 0 {
		var err error
		if base, err = os.UserHomeDir(); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp(base, "remediatetest-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // as folders of programs are
		t.Fatal(err)
	}
	return dir
}

// Build compiles the command in the folder dir with Go and returns where it is.
func Build(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(Folder(t), "program")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", to, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", dir, err, out)
	}
	return to
}

// Start is a Runner with these plugins, which the test's end closes. launcher
// is a built tcpmemd-action. What plugins say goes to the test's log; what
// they leave behind fails the test.
func Start(t testing.TB, launcher string, plugins ...runner.Plugin) *runner.Runner {
	t.Helper()
	dir := filepath.Join(Folder(t), "run")
	log := &testLog{t: t}
	r, err := runner.New(runner.Config{
		Dir: dir, Launcher: launcher, Plugins: plugins,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if strings.Contains(log.all.String(), "left processes behind") {
			t.Error("the plugin left processes behind")
		}
	})
	return r
}

// testLog is a test's log as a writer. slog writes a line at a time and one
// after the other.
type testLog struct {
	t   testing.TB
	all bytes.Buffer
}

func (l *testLog) Write(b []byte) (int, error) {
	l.all.Write(b)
	l.t.Log(string(bytes.TrimRight(b, "\n")))
	return len(b), nil
}

// Memory is the resident memory of a process and the part of it that is its
// own, in bytes: VmRSS and RssAnon of proc_pid_status(5).
func Memory(t testing.TB, pid int) (resident, own int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, _ = fmt.Sscanf(line, "VmRSS: %d", &resident)
		_, _ = fmt.Sscanf(line, "RssAnon: %d", &own)
	}
	return resident << 10, own << 10
}
