package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api/apitest"
	"github.com/tcpmemd/tcpmemd/daemon/control"
	"github.com/tcpmemd/tcpmemd/daemon/scene"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// started is a terminal in which the view runs.
func started(t *testing.T, width, height int, host string, env ...string) (x *terminal, before string) {
	t.Helper()
	x = openTerminal(t, width, height, append([]string{"HOST=" + host}, env...)...)
	x.command("echo before the view")
	before = x.waitFor("\nbefore the view\n")
	before = before[:strings.LastIndexByte(before, '\n')]
	x.command("tcpmemctl top --direct --interval 500ms; echo after=$?")
	x.waitFor("q quit")
	return x, before
}

// TestTopOnRealSockets drives the view with its keys over sockets of this
// kernel, on terminals of several sizes and while the size changes.
func TestTopOnRealSockets(t *testing.T) {
	require.Root(t)
	child := scene.StartT(t, scene.ChildOptions{Comm: "top-victim"})
	scene.BuildT(t, child, scene.Spec{Kind: scene.CloseWait, Pairs: 30, Bytes: 100_000})
	for _, size := range [][2]int{{80, 24}, {120, 40}, {200, 60}} {
		x, before := started(t, size[0], size[1], "kernel", "NO_COLOR=1")
		x.whole(x.waitFor("owners by memory"))
		x.press("c")
		x.whole(x.waitFor("by close-wait", "> top-victim"))
		x.press("Enter")
		x.whole(x.waitFor("30 sockets with", "of top-victim", "close-wait"))
		x.kind("/dport 1")
		x.press("Enter")
		x.whole(x.waitFor("No TCP socket matches."))
		x.press("Escape")
		x.waitFor("30 sockets with")
		x.press("i")
		x.waitFor("What is under the cursor", "skmem:(")
		x.press("Escape")
		x.waitFor("q quit")
		x.press("Escape")
		x.waitFor("by close-wait")
		x.kind("/top-vic")
		x.waitFor("/top-vic_", "1 owner by close-wait")
		x.press("Enter")
		x.press("Space")
		x.whole(x.waitFor("VIEW PAUSED", "filter: top-vic"))
		x.press("Space")
		x.press("Escape")
		x.until("going on", func(s string) bool { return !strings.Contains(s, "PAUSED") && !strings.Contains(s, "filter:") })
		for _, other := range [][2]int{{60, 18}, {140, 50}, size} {
			x.resize(other[0], other[1])
			x.whole(x.until("drawn anew", func(s string) bool {
				lines := strings.Split(s, "\n")
				return len(lines) == other[1] && strings.HasPrefix(lines[0], "TCP memory on ") && strings.HasPrefix(lines[other[1]-1], "q quit") &&
					strings.Contains(s, "\n> ")
			}))
		}
		x.press("?")
		x.waitFor("sort by close-wait")
		x.press("p")
		x.waitFor("What the policy does")
		x.press("q")
		x.waitFor("after=0")
		x.sane(before)
	}
}

// TestTopEnds: however it ends, the terminal is as it was.
func TestTopEnds(t *testing.T) {
	pid := func(x *terminal) int {
		out := x.run("list-panes", "-F", "#{pane_pid}")
		shell := strings.TrimSpace(out)
		text, err := os.ReadFile(filepath.Join("/proc", shell, "task", shell, "children"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.Fields(string(text) + " 0")[0])
		if err != nil || n == 0 {
			t.Fatalf("children of %s: %q", shell, text)
		}
		return n
	}
	for _, tt := range []struct {
		name, host, after string
		end               func(*terminal)
	}{
		{"q", "leak", "after=0", func(x *terminal) { x.press("q") }},
		{"Ctrl-C", "leak", "after=0", func(x *terminal) { x.press("C-c") }},
		{"Ctrl-C while a filter is typed", "leak", "after=0", func(x *terminal) { x.press("/", "x", "C-c") }},
		{"SIGTERM", "leak", "after=0", func(x *terminal) { _ = syscall.Kill(pid(x), syscall.SIGTERM) }},
		{"SIGINT", "leak", "after=0", func(x *terminal) { _ = syscall.Kill(pid(x), syscall.SIGINT) }},
		{"panic", "panic", "after=1", func(*terminal) {}}, // by the second reading
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, before := started(t, 100, 30, tt.host)
			tt.end(x)
			x.waitFor(tt.after)
			if tt.host == "panic" {
				before = "" // its trace has moved it away
			}
			x.sane(before)
		})
	}
	t.Run("Ctrl-Z", func(t *testing.T) {
		x, before := started(t, 100, 30, "leak")
		for range 2 {
			x.press("C-z")
			x.waitFor("Stopped")
			if got := strings.TrimSpace(x.run("display-message", "-p", "#{alternate_on} #{cursor_flag}")); got != "0 1" {
				t.Errorf("while it is stopped, alternate screen and cursor: %s", got)
			}
			x.command("fg")
			x.whole(x.waitFor("q quit", "task-queue.service"))
			x.press("Down")
			x.waitFor("> prod/checkout-7d9f")
			x.press("Up")
		}
		x.press("q")
		x.until("at its prompt", func(s string) bool { return strings.HasSuffix(s, prompt) })
		x.command("echo after=$?")
		x.waitFor("after=0")
		x.sane(before)
	})
}

// TestTopWithoutColour: none where NO_COLOR is set, and some where not. Wide
// characters take the columns that the table gives them.
func TestTopWithoutColour(t *testing.T) {
	colour := regexp.MustCompile("\x1b\\[[0-9;]*3[0-7]")
	x, _ := started(t, 80, 24, "hostile")
	if raw := x.raw(); !colour.MatchString(raw) {
		t.Errorf("no colour in %q", raw)
	}
	x, _ = started(t, 80, 24, "hostile", "NO_COLOR=1")
	if raw := x.raw(); colour.MatchString(raw) {
		t.Errorf("colour in %q", raw)
	}
	screen := x.screen()
	x.whole(screen)
	column := -1
	for line := range strings.Lines(screen) {
		if at := strings.Index(line, "]  "); at >= 0 && strings.Contains(line, " process ") {
			at = layout.Width(line[:strings.Index(line, " process ")])
			if column < 0 {
				column = at
			}
			if at != column {
				t.Errorf("column %d, others %d: %s", at, column, line)
			}
		}
	}
	if column < 0 {
		t.Errorf("no process in\n%s", screen)
	}
}

// TestTopIsCheap: over a slow line an idle view and a key cost few bytes, also
// with 5,000 owners.
func TestTopIsCheap(t *testing.T) {
	x, _ := started(t, 120, 40, "many")
	file := filepath.Join(x.dir, "bytes")
	size := func() int {
		info, err := os.Stat(file)
		if err != nil {
			return 0
		}
		return int(info.Size())
	}
	x.run("pipe-pane", "-O", "cat > "+file)
	x.press("Down")
	x.waitFor("> job@00001.service")
	down := size()
	for range 10 {
		x.press("Down")
	}
	x.waitFor("> job@00011.service")
	ten := size() - down
	t.Logf("one key: %d bytes; ten: %d", down, ten)
	if down == 0 || down > 1000 || ten > 10_000 {
		t.Errorf("one key costs %d bytes, ten %d", down, ten)
	}
	x.press("PPage", "End")
	x.whole(x.waitFor("> job@04999.service", "to 5000"))
}

// TestTopWithoutDaemon: when the daemon goes away the view says so and how old
// it is, and goes on when there is one again.
func TestTopWithoutDaemon(t *testing.T) {
	x := openTerminal(t, 80, 24, "NO_COLOR=1")
	socket := filepath.Join(x.dir, "d")
	x.command("tcpmemctl --socket " + socket + " top; echo after=$?")
	x.waitFor("the daemon is not running", "systemctl start tcpmemd", "after=3")

	stop := serve(t, socket)
	x.command("clear; tcpmemctl --socket " + socket + " top --interval 500ms; echo after=$?")
	x.whole(x.waitFor("critical, 87 % full", "leaking-service: task-queue.service fires"))
	stop()
	x.whole(x.waitFor("NO ANSWER, shown is", "trying again: connect to "))
	x.whole(x.waitFor("unknown, 87 % full", "task-queue.service"))
	stop = serve(t, socket)
	x.until("going on", func(s string) bool {
		return !strings.Contains(s, "NO ANSWER") && strings.Contains(s, "critical, 87 % full")
	})
	x.press("q")
	x.waitFor("after=0")
	stop()
}

// serve answers for a host of apitest until it is stopped.
func serve(t *testing.T, socket string) (stop func()) {
	t.Helper()
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	server := control.New(control.Config{Listener: l, Source: apitest.Acted(), Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	<-server.Ready()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
