package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

var update = flag.Bool("update", false, "write the golden files anew")

// direct makes a host of apitest what --direct reads.
type direct struct{ *apitest.Host }

func (d direct) Read(ctx context.Context) (*reading.Reading, error) { return d.Host.Read(ctx, true) }
func (d direct) Close() error                                       { return nil }

// run runs a command against host with --direct, on a terminal of so many
// columns; 0 is no terminal.
func run(t *testing.T, host *apitest.Host, columns int, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	env := Env{
		Args: append(args, "--direct"), Stdout: &out, Stderr: &errs, Version: "0.1.0",
		Getenv:     func(key string) string { return map[string]string{"NO_COLOR": "1"}[key] },
		OpenDirect: func(context.Context) (Direct, error) { return direct{host}, nil },
	}
	if columns > 0 {
		env.TerminalSize = func() (int, int) { return columns, 50 }
	}
	code = Main(t.Context(), env)
	return out.String(), errs.String(), code
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: (-want +got)\n%s", name, diff)
	}
}

func TestPages(t *testing.T) {
	empty := apitest.New()
	empty.Balance(0)
	noTrend := apitest.Leak()
	noTrend.Reading.Trend = reading.Trend{}
	for i := range noTrend.Reading.Owners {
		noTrend.Reading.Owners[i].GrowthPerMinute, noTrend.Reading.Owners[i].Verdict = nil, nil
	}
	for _, tt := range []struct {
		name    string
		host    *apitest.Host
		columns int
		args    string
	}{
		{"owners-80", apitest.Leak(), 80, "owners"},
		{"owners-120", apitest.Leak(), 120, "owners"},
		{"owners-pipe", apitest.Leak(), 0, "owners"},
		{"owners-first-80", noTrend, 80, "owners"},
		{"owners-all-120", apitest.Leak(), 120, "owners --all"},
		{"owners-none", empty, 80, "owners"},
		{"owners-many-80", apitest.Many(5000), 80, "owners"},
		{"owners-hostile-80", apitest.Hostile(), 80, "owners"},
		{"owners-hostile-pipe", apitest.Hostile(), 0, "owners"},
		{"owners-by-unit-80", apitest.Leak(), 80, "owners --by unit"},
		{"owners-by-remote-80", apitest.Leak(), 80, "owners --by remote"},
		{"owners-by-class-80", apitest.Leak(), 80, "owners --by class"},
		{"status-80", apitest.Leak(), 80, "status"},
		{"status-none", empty, 80, "status"},
		{"sockets-80", apitest.Leak(), 80, "sockets --limit 3 --info container = worker"},
		{"sockets-120", apitest.Leak(), 120, "sockets class hidden or class orphan"},
		{"sockets-none", empty, 80, "sockets"},
		{"orphans-80", apitest.Leak(), 80, "orphans"},
		{"orphans-none", empty, 80, "orphans"},
		{"doctor-80", apitest.Leak(), 80, "doctor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdout, stderr, code := run(t, tt.host, tt.columns, strings.Fields(tt.args)...)
			if code != ExitOK || stderr != "" {
				t.Fatalf("exit %d, says %s", code, stderr)
			}
			golden(t, tt.name+".golden", stdout)
			for line := range strings.Lines(stdout) {
				if w := layout.Width(strings.TrimSuffix(line, "\n")); tt.columns > 0 && w > tt.columns {
					t.Errorf("%d columns, want at most %d: %s", w, tt.columns, line)
				}
			}
		})
	}
}

// TestNothingHostileIsPrinted runs every page over names that attack.
func TestNothingHostileIsPrinted(t *testing.T) {
	host := apitest.Hostile()
	host.Checks = []api.DoctorCheck{api.NewDoctorCheck("x\x1b[1m", api.DoctorMissing, "y\u202e", "z\r")}
	for _, args := range []string{
		"status", "owners --all", "owners --by process --all", "owners --by unit", "sockets --all", "orphans", "doctor",
		"sockets comm = \x1b[31m", "sockets unti\x1b[31m",
	} {
		for _, columns := range []int{0, 40, 80} {
			stdout, stderr, _ := run(t, host, columns, strings.Fields(args)...)
			for _, r := range stdout + stderr {
				if r != '\n' && (!unicode.IsPrint(r) || r == unicode.ReplacementChar) {
					t.Errorf("%s at %d columns prints %U", args, columns, r)
				}
			}
		}
	}
}

func TestManyIsBounded(t *testing.T) {
	stdout, _, _ := run(t, apitest.Many(5000), 80, "owners")
	if n := strings.Count(stdout, "\n"); n > 30 {
		t.Errorf("%d lines for 5000 owners", n)
	}
	stdout, _, _ = run(t, apitest.Many(5000), 80, "owners", "--all")
	if n := strings.Count(stdout, "job@"); n != 5001 { // and the sentence about the biggest
		t.Errorf("%d owners with --all, want 5000", n-1)
	}
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		args string
		doc  interface{ Validate() error }
	}{
		{"status --json", new(api.Status)},
		{"owners --json", new(api.Owners)},
		{"owners --json --limit 2", new(api.Owners)},
		{"owners --json --by netns", new(api.Groups)},
		{"sockets --json", new(api.Sockets)},
		{"sockets --json --limit 2 --info", new(api.Sockets)},
		{"orphans --json", new(api.Orphans)},
		{"orphans --json --limit 1", new(api.Orphans)},
	} {
		stdout, stderr, code := run(t, apitest.Leak(), 80, strings.Fields(tt.args)...)
		if code != ExitOK || stderr != "" {
			t.Errorf("%s: exit %d, %s", tt.args, code, stderr)
			continue
		}
		if err := json.Unmarshal([]byte(stdout), tt.doc); err != nil {
			t.Errorf("%s: %v", tt.args, err)
		} else if err := tt.doc.Validate(); err != nil {
			t.Errorf("%s: %v", tt.args, err)
		}
	}
}

func TestColour(t *testing.T) {
	for _, tt := range []struct {
		env      map[string]string
		terminal bool
		want     bool
	}{
		{nil, true, true},
		{nil, false, false},
		{map[string]string{"NO_COLOR": "1"}, true, false},
		{map[string]string{"TERM": "dumb"}, true, false},
	} {
		var out bytes.Buffer
		env := Env{
			Args: []string{"owners", "--direct"}, Stdout: &out, Stderr: &out, Getenv: func(k string) string { return tt.env[k] },
			OpenDirect: func(context.Context) (Direct, error) { return direct{apitest.Leak()}, nil },
		}
		if tt.terminal {
			env.TerminalSize = func() (int, int) { return 80, 24 }
		}
		Main(t.Context(), env)
		if got := strings.Contains(out.String(), "\x1b["); got != tt.want {
			t.Errorf("env %v, terminal %v: colour %v, want %v", tt.env, tt.terminal, got, tt.want)
		}
		for line := range strings.Lines(out.String()) {
			if w := layout.Width(strings.TrimSuffix(line, "\n")); tt.terminal && w > 80 {
				t.Errorf("%d columns: %q", w, line)
			}
		}
	}
}

func TestWatch(t *testing.T) {
	for _, tt := range []struct {
		name     string
		terminal bool
		args     []string
		between  string
	}{
		{"terminal", true, nil, clearBelow + cursorHome + "TCP memory by owner"},
		{"pipe", false, nil, "\n\nTCP memory by owner"},
		{"json", false, []string{"--json"}, "}\n{"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			host := apitest.Leak()
			var out bytes.Buffer
			env := Env{
				Args: append([]string{"owners", "--direct", "--watch=100ms"}, tt.args...), Stdout: &out, Stderr: &out,
				Getenv:     func(k string) string { return map[string]string{"NO_COLOR": "1"}[k] },
				OpenDirect: func(context.Context) (Direct, error) { return direct{host}, nil },
			}
			if tt.terminal {
				env.TerminalSize = func() (int, int) { return 80, 10 }
			}
			done := make(chan int, 1)
			go func() { done <- Main(ctx, env) }()
			for n := 0; n < 3; n, _ = host.Reads() {
				time.Sleep(20 * time.Millisecond)
			}
			cancel()
			if code := <-done; code != ExitOK {
				t.Errorf("exit %d after Ctrl-C: %s", code, out.String())
			}
			if got := strings.Count(out.String(), tt.between); got < 1 {
				t.Errorf("no %q between two readings in %q", tt.between, out.String())
			}
			if tt.terminal && strings.Count(out.String()[:strings.Index(out.String(), clearBelow)], "\n") > 9 {
				t.Error("more lines than the terminal has")
			}
		})
	}
}

// TestTopWantsATerminal: without one it says what does.
func TestTopWantsATerminal(t *testing.T) {
	for _, tt := range []struct {
		columns     int
		interactive bool
		term        string
		args, says  string
	}{
		{0, true, "xterm", "top", "standard output is no terminal"},
		{80, false, "xterm", "top", "standard input is no terminal"},
		{80, true, "dumb", "top", `a terminal of type "dumb"`},
		{80, true, "", "top", `a terminal of type ""`},
		{80, true, "xterm", "top --json", "a live view has no JSON"},
		{80, true, "xterm", "top --interval 1ms", "want at least 100ms"},
	} {
		var out, errs bytes.Buffer
		env := Env{
			Args: append(strings.Fields(tt.args), "--direct"), Stdout: &out, Stderr: &errs, Interactive: tt.interactive,
			Getenv:     func(key string) string { return map[string]string{"TERM": tt.term}[key] },
			OpenDirect: func(context.Context) (Direct, error) { return direct{apitest.Leak()}, nil },
		}
		if tt.columns > 0 {
			env.TerminalSize = func() (int, int) { return tt.columns, 24 }
		}
		code := Main(t.Context(), env)
		if code != ExitUsage || out.Len() > 0 || !strings.Contains(errs.String(), tt.says) ||
			!strings.Contains(tt.args, "interval") && !strings.Contains(errs.String(), "--watch") {
			t.Errorf("%s: exit %d, prints %q, says %s", tt.args, code, out.String(), errs.String())
		}
	}
}

// slow is a host that takes its time, and counts meanwhile.
type slow struct {
	direct
	read atomic.Int64
}

func (s *slow) Read(ctx context.Context) (*reading.Reading, error) {
	for range 8 {
		s.read.Add(1000)
		time.Sleep(progressAfter / 4)
	}
	return s.direct.Read(ctx)
}

func (s *slow) SocketsRead() int64 { return s.read.Load() }

// TestProgress: what takes long is told of on a terminal, and gone when it is
// over; what does not is not.
func TestProgress(t *testing.T) {
	for _, tt := range []struct {
		args string
		host Direct
		says bool
	}{
		{"owners", &slow{direct: direct{apitest.Leak()}}, true},
		{"sockets --json", &slow{direct: direct{apitest.Leak()}}, true},
		{"sockets", direct{apitest.Leak()}, false},
	} {
		var out, told bytes.Buffer
		code := Main(t.Context(), Env{
			Args: append(strings.Fields(tt.args), "--direct"), Stdout: &out, Stderr: &told, Progress: &told,
			Getenv:     func(string) string { return "" },
			OpenDirect: func(context.Context) (Direct, error) { return tt.host, nil },
		})
		if code != ExitOK || out.Len() == 0 {
			t.Fatalf("%s: exit %d: %s", tt.args, code, told.String())
		}
		if tt.says != (told.Len() > 0) {
			t.Errorf("%s tells %q", tt.args, told.String())
		}
		if tt.says && (!strings.Contains(told.String(), "000 sockets read, ") || !strings.HasSuffix(told.String(), "\r"+clearLine)) {
			t.Errorf("%s tells %q", tt.args, told.String())
		}
	}
}
