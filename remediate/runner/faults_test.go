package runner

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// TestFaults has a real process misbehave in each way that has a name. The
// call says what happened, in time; then nothing is left of it in the system,
// and the same runner calls the next plugin.
func TestFaults(t *testing.T) {
	const (
		soon = 400 * time.Millisecond // a deadline that hanging plugins miss
		cold = 2 * time.Second        // one that they miss after a start
	)
	tests := []struct {
		name   string
		setup  func(*testing.T, *Plugin) // before the Runner is made
		call   Phase                     // run where empty
		dry    bool
		within time.Duration // deadline; 0: long
		phase  Phase         // of the error; "" where the call works
		kind   Kind
		says   string           // part of the error's or of the response's text
		logs   string           // part of the log
		result remediate.Result // of the response; done where empty
	}{
		// Found before anything is started.
		{name: "missing", setup: move("none"), phase: PhaseVerify, kind: KindMissing, says: "no such file"},
		{name: "folder missing", setup: move("none/none"), phase: PhaseVerify, kind: KindMissing},
		{name: "not executable", setup: mode(0o644), phase: PhaseVerify, kind: KindNotExecutable, says: "may not be executed"},
		{name: "a folder", setup: aFolder, phase: PhaseVerify, kind: KindNotExecutable, says: "is no file"},
		{name: "a pipe", setup: aPipe, phase: PhaseVerify, kind: KindNotExecutable, says: "is no file"},
		{name: "neither ELF nor script", setup: content("hello"), phase: PhaseVerify, kind: KindNotExecutable},
		{name: "empty", setup: content(""), phase: PhaseVerify, kind: KindNotExecutable},
		{name: "wrong owner", setup: owner, phase: PhaseVerify, kind: KindWrongOwner, says: "belongs to user 65534"},
		{name: "wrong owner of a folder", setup: folderOwner, phase: PhaseVerify, kind: KindWrongOwner},
		{name: "writable file", setup: mode(0o775), phase: PhaseVerify, kind: KindWritable},
		{name: "writable folder above", setup: folderMode(0o775), phase: PhaseVerify, kind: KindWritableFolder},
		{name: "sticky folder above", setup: folderMode(0o1777), phase: PhaseVerify, kind: KindWritableFolder},
		{name: "symlink", setup: symlink, phase: PhaseVerify, kind: KindSymlink},
		{name: "symlink above", setup: symlinkAbove, phase: PhaseVerify, kind: KindSymlink},
		{name: "dots in the path", setup: dots, phase: PhaseVerify, kind: KindMissing},
		{name: "wrong checksum", setup: checksum, phase: PhaseVerify, kind: KindChecksum},

		// Found at the start.
		{name: "dies at start", phase: PhaseHandshake, kind: KindDied, says: `exit status 3; its last words: "no \x1b[31mway"`},
		{name: "ends at start", phase: PhaseHandshake, kind: KindNoAnswer},
		{name: "killed at start", phase: PhaseHandshake, kind: KindDied, says: "signal: killed"},
		{name: "stops at start", phase: PhaseHandshake, kind: KindHandshakeTimeout},
		{name: "no handshake", phase: PhaseHandshake, kind: KindHandshakeTimeout},
		{name: "closes stdout", phase: PhaseHandshake, kind: KindHandshakeGarbage},
		{name: "handshake late", phase: PhaseHandshake, kind: KindHandshakeTimeout},
		{name: "handshake garbage", phase: PhaseHandshake, kind: KindHandshakeGarbage, says: `"hello`},
		{name: "handshake long", phase: PhaseHandshake, kind: KindHandshakeGarbage},
		{name: "handshake binary", phase: PhaseHandshake, kind: KindNetwork, says: `\x00\xff\x1b[2J`},
		{name: "core version", phase: PhaseHandshake, kind: KindVersion},
		{name: "protocol version", phase: PhaseHandshake, kind: KindVersion, says: "version 2 of the protocol, not 1"},
		{name: "tcp address", phase: PhaseHandshake, kind: KindNetwork},
		{name: "net/rpc", phase: PhaseHandshake, kind: KindHandshakeGarbage},
		{name: "certificate", phase: PhaseHandshake, kind: KindHandshakeGarbage, says: "TLS"},
		{name: "address outside", phase: PhaseHandshake, kind: KindNetwork, says: "outside its own folder"},
		{name: "address no socket", phase: PhaseHandshake, kind: KindNetwork, says: "no socket"},
		{name: "another's socket", phase: PhaseHandshake, kind: KindNetwork, says: "not of this plugin"},
		{name: "handshake twice"},

		{name: "never accepts", within: cold, call: PhaseDescribe, phase: PhaseDescribe, kind: KindTimedOut},
		{name: "hangs up", phase: PhaseDescribe, kind: KindNoAnswer, says: "closed the connection"},
		{name: "speaks garbage", phase: PhaseDescribe, kind: KindNoAnswer},

		// In a call.
		{name: "hangs in describe", within: cold, call: PhaseDescribe, phase: PhaseDescribe, kind: KindTimedOut},
		{name: "panics in describe", call: PhaseDescribe, phase: PhaseDescribe, kind: KindAnswered, says: "no idea"},
		{name: "another name", call: PhaseDescribe, phase: PhaseDescribe, kind: KindInvalidAnswer, says: `"notify"`},
		{name: "unknown capability", call: PhaseDescribe, phase: PhaseDescribe, kind: KindInvalidAnswer},
		{name: "describes itself differently", setup: asRoot, phase: PhaseDescribe, kind: KindChanged},
		{name: "hangs in validate", within: cold, call: PhaseValidate, phase: PhaseValidate, kind: KindTimedOut},
		{name: "panics in validate", call: PhaseValidate, phase: PhaseValidate, kind: KindAnswered},
		{name: "dies in run", phase: PhaseRun, kind: KindDied, says: "plugin died: exit status 3"},
		{name: "killed in run", phase: PhaseRun, kind: KindDied, says: "signal: killed"},
		{name: "ends in run", phase: PhaseRun, kind: KindNoAnswer, says: "ended without an answer"},
		{name: "panics in run", result: remediate.Failed, says: "no idea"},
		{name: "fails in run", result: remediate.Failed, says: "not today"},
		{name: "no response", result: remediate.Failed},
		{name: "hangs in run", within: soon, phase: PhaseRun, kind: KindTimedOut},
		{name: "ignores the deadline", within: soon, phase: PhaseRun, kind: KindTimedOut, says: "no answer within"},
		{name: "honours the deadline", within: soon, result: remediate.TimedOut},
		{name: "hangs in undo", within: soon, call: PhaseUndo, phase: PhaseUndo, kind: KindTimedOut},
		{name: "stops in run", within: soon, phase: PhaseRun, kind: KindTimedOut},
		{name: "unknown enum", phase: PhaseRun, kind: KindInvalidAnswer, says: "99"},
		{name: "invalid UTF-8", phase: PhaseRun, kind: KindInvalidAnswer, says: "UTF-8"},
		{name: "no message at all", phase: PhaseRun, kind: KindInvalidAnswer},
		{name: "answers twice", phase: PhaseRun, kind: KindInvalidAnswer},
		{name: "megabyte answer", phase: PhaseRun, kind: KindTooLarge},
		{name: "long message", phase: PhaseRun, kind: KindInvalidAnswer},
		{name: "undo no JSON", phase: PhaseRun, kind: KindInvalidAnswer},
		{name: "negative prediction", phase: PhaseRun, kind: KindInvalidAnswer},
		{name: "no undo known", call: PhaseUndo, setup: as("unknown enum"), phase: PhaseUndo, kind: KindUnimplemented},
		{name: "acts in a dry run", dry: true, phase: PhaseRun, kind: KindInvalidAnswer, says: `dry run cannot be "done"`},
		{name: "delivers", phase: PhaseRun, kind: KindInvalidAnswer, says: `"delivered"`},
		{name: "result interrupted", phase: PhaseRun, kind: KindInvalidAnswer},

		// Around a call.
		{name: "hangs at end", logs: "did not end within"},
		{name: "grandchild keeps stderr", logs: "left processes behind"},
		{name: "grandchild keeps stderr, plugin dies", phase: PhaseRun, kind: KindDied, logs: "left processes behind"},
		{name: "forks away", logs: "left processes behind"},
		{name: "forks away, plugin dies", phase: PhaseRun, kind: KindDied, logs: "left processes behind"},
		{name: "forks away, children die"},
		{name: "stderr flood", logs: "lines_left_out="},
		{name: "stdout flood", logs: "yyyy"},
		{name: "stderr long line", logs: "zzzz"},
		{name: "stderr JSON", logs: `@message\":17`},
		{name: "stderr escape codes", logs: `\\x1b]0;owned\\a\\xff level=ERROR`},
		{name: "leaks fds", says: "24"}, // of 256
		{name: "fills its folder", phase: PhaseRun, kind: KindTempFull},
		{name: "a large file", says: "file too large"},
		{name: "removes its folder"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			fds := descriptors(os.Getpid())
			var log logBuffer
			p := Plugin{Name: "fault", Path: program(t), Args: []string{tt.name}}
			if tt.setup != nil {
				tt.setup(t, &p)
			}
			r := newRunner(t, &log, p, Plugin{Name: "good", Path: program(t), Args: []string{"good"}})
			if tt.kind == KindHandshakeTimeout {
				r.cfg.Handshake = time.Second
			}
			if tt.within == soon {
				must(t, r.Ready(t.Context(), "fault"))
			}
			if tt.name == "another's socket" {
				l, err := net.Listen("unix", filepath.Join(r.cfg.Dir, "foreign"))
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				fds = descriptors(os.Getpid())
			}

			within := tt.within
			if within == 0 {
				within = 20 * time.Second
			}
			began := time.Now()
			resp, err := call(t.Context(), r, tt.call, tt.dry, within)
			if took := time.Since(began); took > within+Grace {
				t.Errorf("took %v, more than %v and %v", took, within, Grace)
			}
			switch {
			case tt.phase == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case tt.phase == "":
				want := tt.result
				if want == "" {
					want = remediate.Done
				}
				if resp.Result != want || !strings.Contains(resp.Message, tt.says) {
					t.Errorf("response %+v, want %s and %q", resp, want, tt.says)
				}
			default:
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("error %v (%T), want an *Error; response %+v", err, err, resp)
				}
				if e.Plugin != "fault" || e.Phase != tt.phase || e.Kind != tt.kind || !strings.Contains(e.Error(), tt.says) {
					t.Errorf("error %+v, want %s %s %q", e, tt.phase, tt.kind, tt.says)
				}
				t.Log(err)
			}
			if tt.logs != "" && !strings.Contains(log.String(), tt.logs) {
				t.Errorf("the log has no %q:\n%.2000s", tt.logs, log.String())
			}
			if n := strings.Count(log.String(), "\n"); n > 150 {
				t.Errorf("%d lines of log", n)
			}

			if problems, err := r.Validate(t.Context(), "good", nil); err != nil || len(problems) > 0 {
				t.Errorf("the next plugin: %v, %v", problems, err)
			}
			closeRunner(t, r)
			nothingLeft(t, r, fds, before)
		})
	}
}

// call makes the call that a test asks for.
func call(ctx context.Context, r *Runner, phase Phase, dry bool, within time.Duration) (*remediate.Response, error) {
	deadline := time.Now().Add(within)
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(Grace))
	defer cancel()
	ok := &remediate.Response{Result: remediate.Done}
	switch phase {
	case PhaseDescribe, PhaseValidate:
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		if phase == PhaseDescribe {
			_, err := r.Describe(ctx, "fault")
			return ok, err
		}
		_, err := r.Validate(ctx, "fault", nil)
		return ok, err
	case PhaseUndo:
		return r.Undo(ctx, "fault", &remediate.UndoRequest{Deadline: deadline})
	}
	return r.Run(ctx, "fault", &remediate.Request{Deadline: deadline, DryRun: dry})
}

// nothingLeft compares the test's process with what it was before.
func nothingLeft(t *testing.T, r *Runner, fds []string, goroutines goleak.Option) {
	t.Helper()
	if kids := r.family.children(); len(kids) > 0 {
		for _, pid := range kids {
			text, _ := os.ReadFile("/proc/" + itoa(pid) + "/stat")
			t.Errorf("a child is left: %s", text)
		}
	}
	if diff := cmp.Diff(fds, descriptors(os.Getpid())); diff != "" {
		t.Errorf("descriptors (-before +after):\n%s", diff)
	}
	if err := goleak.Find(goroutines); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(r.cfg.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("folder %s is left", e.Name())
		}
	}
}

// logBuffer is a log that several goroutines write.
type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newRunner(t testing.TB, log io.Writer, plugins ...Plugin) *Runner {
	t.Helper()
	r, err := New(Config{
		Dir: filepath.Join(safeDir(t), "run"), Launcher: program(t), Plugins: plugins,
		Log:       slog.New(slog.NewTextHandler(log, nil)),
		Handshake: 10 * time.Second, Ask: 10 * time.Second, Stop: 400 * time.Millisecond, MaxTemp: 4 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeRunner(t, r) })
	return r
}

func closeRunner(t testing.TB, r *Runner) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}
