package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/tcpmemd/tcpmemd/cmd/internal/cli"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/journal"
	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

// speaker tells a person at the terminal, or the journal, what the daemon sees.
// The loop speaks: neither must make it wait.
type speaker struct {
	out     io.Writer
	version string
	journal *journal.Writer // nil at a terminal
}

// handler logs to standard error. The journal has times and levels of its own.
func (s *speaker) handler(w io.Writer) slog.Handler {
	if s.journal == nil {
		return slog.NewTextHandler(w, nil)
	}
	return newLeveled(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.TimeKey || a.Key == slog.LevelKey) {
			return slog.Attr{}
		}
		return a
	}})
}

// fail says why the daemon does not run.
func (s *speaker) fail(w io.Writer, err error) {
	if s.journal != nil {
		w = prefixed{w, priority(slog.LevelError)}
	}
	fmt.Fprintf(w, "tcpmemd: %v\n", err)
}

// start says how the daemon is set up. The journal is told by an event.
func (s *speaker) start(socket, doing string) {
	if s.journal != nil {
		return
	}
	fmt.Fprintf(s.out, "tcpmemd %s, %s.", s.version, doing)
	switch socket {
	case "":
	case api.SystemSocket:
		fmt.Fprint(s.out, " Ask it with: tcpmemctl status.")
	default:
		fmt.Fprintf(s.out, " Ask it with: tcpmemctl --socket %s status.", socket)
	}
	fmt.Fprint(s.out, " Ctrl-C ends it.\n\n")
}

// firstReading prints the page of tcpmemctl owners.
func (s *speaker) firstReading(r *reading.Reading) {
	if s.journal != nil {
		return // the status line and tcpmemctl say it
	}
	columns := 80
	out := s.out
	if l, ok := out.(*lines); ok {
		out = l.to
	}
	if f, ok := out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil {
			columns = w
		}
	}
	cli.Report(s.out, api.OwnersFrom(direct.Meta(s.version, api.SourceDaemon), r), columns)
	fmt.Fprintln(s.out, "\nFrom here on, one line for each change of level:")
}

// event tells what was decided, done or seen; a person at a terminal of a level
// by the time since when it is.
func (s *speaker) event(t event.Text) {
	if s.journal != nil {
		s.journal.Tell(t)
		return
	}
	at := t.At
	if at.IsZero() {
		at = time.Now()
	}
	fmt.Fprintf(s.out, "%s %s\n", at.UTC().Format("15:04:05Z"), t.Line)
	for _, line := range t.More {
		fmt.Fprintf(s.out, "          %s\n", line)
	}
}

// end waits for what was said to be out, within a time.
func (s *speaker) end(within time.Duration) {
	if s.journal != nil {
		s.journal.Close(within)
		return
	}
	fmt.Fprintln(s.out, "tcpmemd ended.")
}

// undelivered counts what the journal has not taken, nil at a terminal.
func (s *speaker) undelivered() func() (int, int64) {
	if s.journal == nil {
		return nil
	}
	return s.journal.Undelivered
}

// aliveIn reports by a proc file system whether a number is still that of the
// process that started then.
func aliveIn(proc string) func(pid int, start uint64) bool {
	files := procfs.New(proc)
	return func(pid int, start uint64) bool {
		stat, err := files.Stat(pid)
		return err == nil && stat.StartTime == start
	}
}
