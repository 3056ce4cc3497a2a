package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/scene/require"
)

// terminal is a real one: a shell inside tmux, with a server of its own.
type terminal struct {
	t             *testing.T
	tmux, dir     string
	width, height int
}

// prompt ends what a command prints. No program writes it.
const prompt = "ready%"

// openTerminal starts one of this size. env are variables of its shell.
func openTerminal(t *testing.T, width, height int, env ...string) *terminal {
	t.Helper()
	x := &terminal{t: t, tmux: require.Tool(t, "tmux"), width: width, height: height}
	// A Unix socket's path is short, and that of t.TempDir is not.
	dir, err := os.MkdirTemp("", "tmux") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	x.dir = dir
	t.Cleanup(func() {
		_ = exec.Command(x.tmux, "-S", x.socket(), "kill-server").Run()
		_ = os.RemoveAll(dir)
	})
	args := []string{"-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height)}
	for _, e := range append([]string{"ENV=", "LC_ALL=C.UTF-8"}, env...) {
		args = append(args, "-e", e)
	}
	x.run(append(args, "sh")...)
	x.run("set-option", "-g", "status", "off")
	x.run("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
	x.command("PS1=rea''dy%; clear")
	x.waitFor(prompt)
	return x
}

func (x *terminal) socket() string { return filepath.Join(x.dir, "s") }

func (x *terminal) run(args ...string) string {
	x.t.Helper()
	out, err := exec.CommandContext(x.t.Context(), x.tmux, append([]string{"-u", "-S", x.socket()}, args...)...).CombinedOutput()
	if err != nil {
		x.t.Fatalf("tmux %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// press sends keys by tmux's names.
func (x *terminal) press(keys ...string) { x.run(append([]string{"send-keys"}, keys...)...) }

// kind sends text as it is.
func (x *terminal) kind(text string) { x.run("send-keys", "-l", text) }

// command runs one in the shell.
func (x *terminal) command(text string) {
	x.kind(text)
	x.press("Enter")
}

// screen is what is seen, without blanks at the ends of lines.
func (x *terminal) screen() string { return strings.TrimRight(x.run("capture-pane", "-p"), "\n") }

// raw is the screen with its colours.
func (x *terminal) raw() string { return x.run("capture-pane", "-p", "-e") }

// waitFor waits until all texts are on the screen, and gives it.
func (x *terminal) waitFor(texts ...string) string {
	x.t.Helper()
	return x.until(fmt.Sprintf("%q", texts), func(screen string) bool {
		for _, text := range texts {
			if !strings.Contains(screen, text) {
				return false
			}
		}
		return true
	})
}

// until waits until the screen is as it should be.
func (x *terminal) until(what string, ok func(screen string) bool) string {
	x.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		screen := x.screen()
		if ok(screen) {
			return screen
		}
		if time.Now().After(end) {
			x.t.Fatalf("not %s:\n%s", what, screen)
		}
	}
}

func (x *terminal) resize(width, height int) {
	x.width, x.height = width, height
	x.run("resize-window", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height))
}

// whole checks that the view fills the screen from its first line to its last:
// one that were too wide or too high would have been moved by the terminal.
func (x *terminal) whole(screen string) {
	x.t.Helper()
	lines := strings.Split(screen, "\n")
	if len(lines) != x.height || !strings.HasPrefix(lines[0], "TCP memory on ") || !strings.HasPrefix(lines[len(lines)-1], "q quit") {
		x.t.Errorf("%d lines of %d:\n%s", len(lines), x.height, screen)
	}
	for _, line := range lines {
		if w := layout.Width(line); w > x.width {
			x.t.Errorf("%d columns of %d: %s", w, x.width, line)
		}
	}
}

// sane checks that a program has left the terminal as it was: line editing and
// echo are on, the cursor is seen, what stood there before is back, and nothing
// of the program.
func (x *terminal) sane(before string) {
	x.t.Helper()
	screen := x.waitFor("after=")
	if !strings.HasPrefix(screen, strings.TrimRight(before, "\n")) || strings.Contains(screen, "q quit") {
		x.t.Errorf("the screen before:\n%s\nand after:\n%s", before, screen)
	}
	if got := strings.TrimSpace(x.run("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_cursor_flag}")); got != "0 1 0 0" {
		x.t.Errorf("alternate screen, cursor, mouse, keypad: %s", got)
	}
	x.command("clear; stty -a; echo stty=$?")
	modes := x.waitFor("stty=0")
	for _, mode := range []string{" icanon", " echo ", " isig", " opost", " icrnl", " ixon"} {
		if !strings.Contains(strings.ReplaceAll(modes, "\n", " \n "), mode) {
			x.t.Errorf("no%s after it:\n%s", mode, modes)
		}
	}
}
