package remediatetest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/remediatetest"
	"github.com/tcpmemd/tcpmemd/remediate/runner"
)

// TestExamples runs the example plugins as tcpmemd does: what a plugin's author
// is told is enough.
func TestExamples(t *testing.T) {
	launcher := remediatetest.Build(t, "../../cmd/tcpmemd-action")
	for name, program := range map[string]func(*testing.T) string{
		"go":     func(t *testing.T) string { return remediatetest.Build(t, "../examples/go") },
		"python": python,
	} {
		t.Run(name, func(t *testing.T) {
			path := program(t)
			r := remediatetest.Start(t, launcher, runner.Plugin{Name: "append-line", Path: path})
			try(t, r)
		})
	}
}

// TestGoExample runs the tests of the example's own module.
func TestGoExample(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "test", ".")
	cmd.Dir = "../examples/go"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// python puts the plugin together from the proto file alone.
func python(t *testing.T) string {
	need(t, "/usr/bin/protoc", "protobuf-compiler")
	if err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", "import grpc, google.protobuf").Run(); err != nil {
		missing(t, "python3-grpcio and python3-protobuf")
	}
	dir := remediatetest.Folder(t)
	for from, to := range map[string]string{"../proto/remediate.proto": "remediate.proto", "../examples/python/action.py": "action.py"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o755); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/protoc", "--python_out=.", "remediate.proto")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	return filepath.Join(dir, "action.py")
}

func need(t *testing.T, path, pkg string) {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		missing(t, pkg)
	}
}

func missing(t *testing.T, pkg string) {
	t.Helper()
	if os.Getenv("TCPMEMD_TEST_REQUIRE") == "all" {
		t.Fatalf("needs Debian's %s (TCPMEMD_TEST_REQUIRE=all)", pkg)
	}
	t.Skipf("needs Debian's %s: without it the Python plugin is not tried", pkg)
}

func try(t *testing.T, r *runner.Runner) {
	file := filepath.Join(t.TempDir(), "lines")
	settings := remediate.Settings(`{"file":"` + file + `"}`)
	want := remediate.Description{
		Name: "append-line", Version: "1.0", About: "append a line about the incident to a file", Touches: remediate.TouchesNothing,
		Settings: []remediate.Setting{{Name: "file", Type: "string", Required: true, About: "absolute path of the file"}},
	}
	began := time.Now()
	got, err := r.Describe(t.Context(), "append-line")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("described, from nothing to ended: %v", time.Since(began))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("description (-want +got):\n%s", diff)
	}
	for s, want := range map[string][]remediate.Problem{
		string(settings): nil,
		`{"file":"x"}`:   {{Setting: "file", Message: "want an absolute path"}},
	} {
		got, err := r.Validate(t.Context(), "append-line", remediate.Settings(s))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("problems (-want +got):\n%s", diff)
		}
	}

	if err := r.Ready(t.Context(), "append-line"); err != nil {
		t.Fatal(err)
	}
	pid := r.Status()[0].PID
	request := &remediate.Request{
		IncidentID: "i1", Text: "TCP memory is at 90 %\nmore", Settings: settings, Deadline: time.Now().Add(10 * time.Second),
		Owner: &remediate.Owner{Key: "system/x.service", Classes: map[string]remediate.Tally{"owned": {Sockets: 1}}},
	}
	changes := []remediate.Change{{What: file, After: "TCP memory is at 90 %"}}
	for _, tt := range []struct {
		dry  bool
		want remediate.Response
		text string
	}{
		{true, remediate.Response{Result: remediate.DryRun, Message: "would append a line", Changes: changes}, ""},
		{false, remediate.Response{Result: remediate.Delivered, Message: "appended a line", Changes: changes}, "i1 TCP memory is at 90 %\n"},
	} {
		request.DryRun = tt.dry
		began := time.Now()
		resp, err := r.Run(t.Context(), "append-line", request)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("ready, call to answer: %v", time.Since(began))
		if diff := cmp.Diff(&tt.want, resp); diff != "" {
			t.Errorf("response (-want +got):\n%s", diff)
		}
		if text, _ := os.ReadFile(file); string(text) != tt.text {
			t.Errorf("the file holds %q, want %q", text, tt.text)
		}
	}
	if now := r.Status()[0].PID; now != pid || pid == 0 {
		t.Errorf("process %d, then %d", pid, now)
	}
	resident, own := remediatetest.Memory(t, pid)
	t.Logf("%.1f MB resident, %.1f MB of its own", float64(resident)/1e6, float64(own)/1e6)

	request.Settings = nil
	resp, err := r.Run(t.Context(), "append-line", request)
	if err != nil || resp.Result != remediate.Refused || !strings.Contains(resp.Message, "file") {
		t.Errorf("without settings: %+v, %v", resp, err)
	}
	_, err = r.Undo(t.Context(), "append-line", &remediate.UndoRequest{Deadline: time.Now().Add(10 * time.Second)})
	if e, ok := errors.AsType[*runner.Error](err); ok && e.Kind != runner.KindUnimplemented {
		t.Errorf("undo: %v", err)
	}
	if err := r.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if st := r.Status()[0]; st.LastErr != nil && !strings.Contains(st.LastErr.Error(), "undo") {
		t.Errorf("last error: %v", st.LastErr)
	}
}
