package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/tcpmemd/tcpmemd/remediate"
	"github.com/tcpmemd/tcpmemd/remediate/internal/wire"
)

// Phase is what was being done with a plugin.
type Phase string

// Phases.
const (
	PhaseVerify    Phase = "verify"
	PhaseStart     Phase = "start"
	PhaseHandshake Phase = "handshake"
	PhaseDescribe  Phase = "describe"
	PhaseValidate  Phase = "validate"
	PhaseRun       Phase = "run"
	PhaseUndo      Phase = "undo"
	PhaseEnd       Phase = "end"
)

// Kind is what went wrong, in one stable word.
type Kind string

// Kinds.
const (
	KindUnknown    Kind = "unknown" // no plugin of that name
	KindClosed     Kind = "closed"
	KindCanceled   Kind = "canceled" // by the caller
	KindBusy       Kind = "busy"     // with another call, until the deadline
	KindUnreadable Kind = "unreadable"

	KindMissing        Kind = "missing"
	KindNotExecutable  Kind = "not-executable"
	KindWrongOwner     Kind = "wrong-owner"
	KindWritable       Kind = "writable" // the file, by others
	KindWritableFolder Kind = "writable-folder"
	KindSymlink        Kind = "symlink"
	KindChecksum       Kind = "checksum"
	KindChanged        Kind = "changed" // describes itself differently from before

	KindNotStarted       Kind = "not-started"
	KindHandshakeTimeout Kind = "handshake-timeout"
	KindHandshakeGarbage Kind = "handshake-garbage"
	KindVersion          Kind = "version"
	KindNetwork          Kind = "network" // not its own Unix socket

	KindDied          Kind = "died"
	KindNoAnswer      Kind = "no-answer" // it ended, as if all were well
	KindTimedOut      Kind = "timed-out"
	KindTooLarge      Kind = "too-large"
	KindInvalidAnswer Kind = "invalid-answer"
	KindUnimplemented Kind = "unimplemented"
	KindTempFull      Kind = "temp-full"
	KindAnswered      Kind = "answered-error"
	KindUnkillable    Kind = "unkillable"
)

// Error is why a plugin was of no use. All that this package returns are of
// this type.
type Error struct {
	Plugin string
	Phase  Phase
	Kind   Kind
	Err    error // the cause in words; a cause of the system is inside
}

func (e *Error) Error() string {
	if e.Phase == PhaseHandshake {
		return fmt.Sprintf("shake hands with plugin %s: %v", e.Plugin, e.Err)
	}
	return fmt.Sprintf("%s plugin %s: %v", e.Phase, e.Plugin, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Result is what the record says of an action that ended so.
func (e *Error) Result() remediate.Result {
	switch e.Kind {
	case KindTimedOut:
		return remediate.TimedOut
	case KindCanceled:
		return remediate.Interrupted
	case KindDied, KindNoAnswer:
		if e.Phase == PhaseRun || e.Phase == PhaseUndo {
			return remediate.Interrupted
		}
	}
	return remediate.Failed
}

// Code is the one stable word for it in a record.
func (e *Error) Code() string { return string(e.Kind) }

// failure is an Error on its way, before who and when are known.
type failure struct {
	kind Kind
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(kind Kind, format string, args ...any) error {
	return &failure{kind, fmt.Errorf(format, args...)}
}

// invalid marks what package wire says of an answer.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return &failure{KindInvalidAnswer, err}
}

// wrap makes an Error of what is none yet.
func wrap(plugin string, phase Phase, err error) error {
	if err == nil {
		return nil
	}
	if done, ok := errors.AsType[*Error](err); ok {
		return done
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return &Error{plugin, phase, f.kind, f.err}
	}
	return &Error{plugin, phase, KindNotStarted, err}
}

// explain says why a call that began at start brought no answer: err is what
// gRPC made of it. The process has been ended, so that how it died is known.
func (p *process) explain(ctx context.Context, start time.Time, err error) error {
	var f *failure
	switch cause := context.Cause(p.alive); {
	case errors.As(err, &f):
		return err
	case errors.As(cause, &f) && f.kind != KindDied:
		return f
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fail(KindTimedOut, "no answer within %v: the plugin was ended", time.Since(start).Round(time.Millisecond))
	case ctx.Err() != nil:
		return fail(KindCanceled, "you cancelled: %w", ctx.Err())
	case p.diedByItself():
		return p.obituary()
	}
	s, _ := status.FromError(err)
	text := wire.Printable(s.Message(), remediate.MaxTextBytes)
	switch {
	case s.Code() == codes.ResourceExhausted && strings.Contains(text, "larger than max"):
		return fail(KindTooLarge, "its answer is beyond %d bytes", remediate.MaxAnswerBytes)
	case s.Code() == codes.Internal && containsAny(text, "unmarshal", "cardinality", "grpc: "):
		return fail(KindInvalidAnswer, "its answer cannot be read: %s", text)
	case s.Code() == codes.Unimplemented:
		return fail(KindUnimplemented, "it does not know the call: %s", text)
	case s.Code() == codes.Unavailable:
		return fail(KindNoAnswer, "it closed the connection: %s", text)
	}
	return fail(KindAnswered, "it answered with an error: %s", text)
}

// obituary says how the process ended by itself.
func (p *process) obituary() error {
	words := ""
	if last := p.words.last(); last != "" {
		words = fmt.Sprintf("; its last words: %s", last)
	}
	if p.cmd.ProcessState.Success() {
		return fail(KindNoAnswer, "plugin ended without an answer%s", words)
	}
	return fail(KindDied, "plugin died: %v%s", p.cmd.ProcessState, words)
}

func containsAny(s string, parts ...string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}
