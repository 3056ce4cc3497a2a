package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/tcpmemd/tcpmemd/cmd/internal/cli"
	"github.com/tcpmemd/tcpmemd/daemon"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/direct"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// speaker tells a person at the terminal, or the journal, what the daemon sees.
// The loop speaks: out must not make it wait.
type speaker struct {
	out      io.Writer
	version  string
	journal  bool // out is the journal's
	journald journald
}

// handler logs to standard error. The journal has times of its own.
func (s *speaker) handler(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if s.journal && len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
}

func (s *speaker) start(socket, doing string) {
	fmt.Fprintf(s.out, "tcpmemd %s, %s.", s.version, doing)
	if !s.journal {
		switch socket {
		case "":
		case api.SystemSocket:
			fmt.Fprint(s.out, " Ask it with: tcpmemctl status.")
		default:
			fmt.Fprintf(s.out, " Ask it with: tcpmemctl --socket %s status.", socket)
		}
		fmt.Fprint(s.out, " Ctrl-C ends it.\n")
	}
	fmt.Fprintln(s.out)
}

// firstReading prints the page of tcpmemctl owners.
func (s *speaker) firstReading(r *reading.Reading) {
	if s.journal {
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

// level prints a change of level.
func (s *speaker) level(from reading.Level, now daemon.Snapshot) {
	at := ""
	if !s.journal {
		at = now.Level.Since.UTC().Format("15:04:05Z ")
	}
	fmt.Fprintf(s.out, "%slevel %s (was %s): %s\n", at, now.Level.Level, from, now.Level.Why)
}

// event prints what was decided, done or seen: a line, and for a person at a
// terminal what is below it.
func (s *speaker) event(t event.Text, r *record.Record) {
	if s.journal {
		if !s.journald.send(t, r) {
			fmt.Fprintln(s.out, t.Line)
		}
		return
	}
	fmt.Fprintf(s.out, "%s %s\n", time.Now().UTC().Format("15:04:05Z"), t.Line)
	for _, line := range t.More {
		fmt.Fprintf(s.out, "          %s\n", line)
	}
}

func (s *speaker) end() {
	if !s.journal {
		fmt.Fprintln(s.out, "tcpmemd ended.")
	}
}
