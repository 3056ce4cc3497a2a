package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// toJournal reports whether standard output or error is the journal's: as
// JOURNAL_STREAM says of them, which a program that was started with another
// output inherits, too (systemd.exec(5)).
func toJournal(getenv func(string) string, files ...*os.File) bool {
	want := getenv("JOURNAL_STREAM")
	for _, f := range files {
		var st unix.Stat_t
		if want != "" && unix.Fstat(int(f.Fd()), &st) == nil && want == fmt.Sprintf("%d:%d", st.Dev, st.Ino) {
			return true
		}
	}
	return false
}

// leveled puts syslog's priority before each line, as sd-daemon(3) says, and
// journald takes it off again (SyslogLevelPrefix=).
type leveled struct {
	of map[int]slog.Handler // by priority
}

func newLeveled(w io.Writer, o *slog.HandlerOptions) leveled {
	l := leveled{make(map[int]slog.Handler)}
	for _, p := range []int{3, 4, 6, 7} {
		l.of[p] = slog.NewTextHandler(prefixed{w, p}, o)
	}
	return l
}

func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}

// Enabled implements slog.Handler.
func (l leveled) Enabled(ctx context.Context, at slog.Level) bool {
	return l.of[priority(at)].Enabled(ctx, at)
}

// Handle implements slog.Handler.
func (l leveled) Handle(ctx context.Context, r slog.Record) error {
	return l.of[priority(r.Level)].Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (l leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return l.each(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup implements slog.Handler.
func (l leveled) WithGroup(name string) slog.Handler {
	return l.each(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}

func (l leveled) each(f func(slog.Handler) slog.Handler) leveled {
	out := leveled{make(map[int]slog.Handler)}
	for p, h := range l.of {
		out.of[p] = f(h)
	}
	return out
}

// prefixed writes lines, each with a priority.
type prefixed struct {
	w        io.Writer
	priority int
}

func (p prefixed) Write(text []byte) (int, error) {
	var b bytes.Buffer
	for line := range bytes.Lines(text) {
		fmt.Fprintf(&b, "<%d>%s", p.priority, line)
	}
	if _, err := p.w.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(text), nil
}
