// Package cli is tcpmemctl: its commands, tables and exit codes. It shows the
// documents of daemon/api, which come from the daemon's socket or, with
// --direct, from the kernel through a Direct that main hands in.
//
// Data goes to standard output, messages to standard error. Whatever a process
// may have chosen (names, commands) is escaped before it is printed.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/cmd/internal/export"
	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/config"
	"github.com/tcpmemd/tcpmemd/daemon/engine/replay"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// Exit codes of every command.
const (
	ExitOK         = 0
	ExitFailure    = 1
	ExitUsage      = 2
	ExitNotRunning = 3 // no daemon answers
	ExitPermission = 4
	ExitConfig     = 6
)

// Direct reads the kernel without a daemon. A reading it returns is not
// changed any more.
type Direct interface {
	// Meta says what is known of the host; Now is the time of the call.
	Meta() api.Meta
	// Read scans the host once.
	Read(ctx context.Context) (*reading.Reading, error)
	// Sockets gives each socket that want accepts to yield, with the owners
	// of the last Read; neither may keep the pointer.
	Sockets(ctx context.Context, want func(*reading.Socket) bool, yield func(*reading.Socket) error) error
	// SocketsRead is how many sockets were read so far. It may be called while
	// anything else is.
	SocketsRead() int64
	// Info asks the kernel about one connection.
	Info(ctx context.Context, s *reading.Socket) (*api.TCPInfo, error)
	// Doctor looks at what the host and the caller's rights allow.
	Doctor(ctx context.Context) ([]api.DoctorCheck, error)
	Close() error
}

// Env is everything that a command takes from outside.
type Env struct {
	Args           []string // without the program's name
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	UID            int // effective
	Version        string
	Now            func() time.Time // nil: time.Now
	Input          io.Reader
	// Progress is where long work tells how far it is; nil where standard error
	// is no terminal.
	Progress io.Writer
	// Interactive: Input is a terminal that can be asked for a yes or no.
	Interactive bool
	// Root is the directory under which configuration is looked for, "" for /.
	Root string
	// TerminalSize is the size of the terminal that Stdout is; nil where it
	// is none.
	TerminalSize func() (columns, rows int)
	// OpenDirect begins to read the kernel; nil where this build cannot.
	OpenDirect func(context.Context) (Direct, error)
	// Abilities are the actions of this build and of the plugins that the
	// configuration names; nil: those that the loader knows.
	Abilities func(ctx context.Context, plugins map[string]config.Plugin) Abilities
}

// Main runs one command and returns its exit code. The command ends early when
// ctx does.
func Main(ctx context.Context, env Env) int {
	c := &command{Env: env}
	root := c.root()
	at, err := root.ExecuteContextC(ctx)
	if at.Name() == "health" {
		return c.endHealth(err)
	}
	if err == nil || c.watching && errors.Is(err, context.Canceled) {
		return ExitOK // Ctrl-C is how a watch ends
	}
	if !c.running && !isUsage(err) {
		err = &usageError{err} // cobra's own: an unknown command, wrong arguments
	}
	c.report(at.CommandPath(), err)
	return exitCode(err)
}

// command holds the flags of the command that runs.
type command struct {
	Env
	socket string
	json   bool
	direct bool
	from   string         // an export to read in the daemon's place
	file   *export.Source // that, once it is read
	// onlyDaemon: what is asked for, no reading of the kernel can tell.
	onlyDaemon bool
	limit      int
	all        bool
	watch      time.Duration
	html       bool
	checkup    checkup
	output     string // file of a page, "" for standard output

	running  bool // past the flags: errors are not about usage any more
	watching bool
}

// usageError is a mistake of the caller.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// errSaid is a failure that the output tells already, as a test that fails.
var errSaid = errors.New("failed")

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func isUsage(err error) bool {
	if refusal, ok := errors.AsType[*api.RequestError](err); ok && refusal.Usage() {
		return true
	}
	if _, ok := errors.AsType[*filter.SyntaxError](err); ok {
		return true
	}
	_, ok := errors.AsType[*usageError](err)
	return ok
}

// isConfig: files of the configuration are wrong, here or at the daemon.
func isConfig(err error) bool {
	if _, ok := errors.AsType[*api.ConfigError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*replay.SceneError](err); ok {
		return true
	}
	_, ok := errors.AsType[*config.Error](err)
	return ok
}

// isDenied: the daemon does this for root only.
func isDenied(err error) bool {
	_, ok := errors.AsType[*api.DeniedError](err)
	return ok
}

func exitCode(err error) int {
	_, denied := errors.AsType[*api.PermissionError](err)
	switch {
	case isUsage(err):
		return ExitUsage
	case isConfig(err):
		return ExitConfig
	case isDenied(err):
		return ExitPermission
	case isNotRunning(err):
		return ExitNotRunning
	case denied, errors.Is(err, fs.ErrPermission):
		return ExitPermission
	default:
		return ExitFailure
	}
}

// report says on standard error what went wrong in a command and what to do.
func (c *command) report(command string, err error) {
	if err == errSaid {
		return
	}
	fmt.Fprintf(c.Stderr, "tcpmemctl: %s\n", printable(err.Error()))
	if syntax, ok := errors.AsType[*filter.SyntaxError](err); ok {
		line, caret := pointAt(syntax)
		fmt.Fprintf(c.Stderr, "  %s\n  %s^\n", line, caret)
	}
	switch exitCode(err) {
	case ExitUsage:
		fmt.Fprintf(c.Stderr, "see \"%s --help\"\n", command)
	case ExitNotRunning:
		hint := `start it with "systemctl start tcpmemd"`
		if !c.onlyDaemon {
			hint += ", or read the kernel without a daemon: add --direct"
		}
		fmt.Fprintln(c.Stderr, hint)
	case ExitPermission:
		if isDenied(err) {
			fmt.Fprintln(c.Stderr, "run it as root")
			break
		}
		fmt.Fprintln(c.Stderr, "run as root, or as a member of the group tcpmemd")
	}
}

// printable escapes a message line by line: it may quote what a process or a
// remote answer chose, but its own line breaks stay.
func printable(s string) string {
	var lines []string
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if strings.ContainsFunc(line, func(r rune) bool { return !prose.Visible(r) }) {
			line = prose.Escape(line)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// pointAt gives the filter's text, and the blanks up to where it is wrong.
func pointAt(e *filter.SyntaxError) (line, blanks string) {
	before := prose.Escape(e.Text[:e.Offset])
	return before + prose.Escape(e.Text[e.Offset:]), strings.Repeat(" ", layout.Width(before))
}

// now is the present, for an export that of when it was made.
func (c *command) now() time.Time {
	if c.file != nil {
		return c.file.MadeAt
	}
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

// painter colours where a terminal wants it (https://no-color.org).
func (c *command) painter() layout.Painter {
	return layout.Painter(c.TerminalSize != nil && c.Getenv("NO_COLOR") == "" && c.Getenv("TERM") != "dumb")
}

// size is the room there is; 0 where there is no bound.
func (c *command) size() (columns, rows int) {
	if c.TerminalSize == nil {
		return 0, 0
	}
	return c.TerminalSize()
}
