// Package runcommand is the action run-command: it runs a program that an
// operator named, and tells it what happened.
//
// A program may do anything, so the action says that it touches the host, also
// where the program only tells: every guard of a touching action holds, and
// those of an owner where the rule is about one. To only tell, notify has a
// command too.
//
// The program runs as root, but without any capability, and gains none by
// execve(2): tcpmemd gives an action those that it declares, and what a program
// may need nobody can declare beforehand. One that needs rights asks a service
// that has them (systemctl start, over its socket).
package runcommand

import (
	"context"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// ExTempFail is the exit status that says "not now" (EX_TEMPFAIL of
// sysexits.h). 0 is done, and any other failed.
const ExTempFail = 75

// Action is run-command.
type Action struct{ version string }

// New makes the action of a version.
func New(version string) *Action { return &Action{version: version} }

// Describe implements remediate.Action.
func (a *Action) Describe() remediate.Description {
	return remediate.Description{
		Name:    "run-command",
		Version: a.version,
		About:   "runs a program with the event as JSON on standard input",
		Touches: remediate.TouchesHost,
		Settings: []remediate.Setting{{
			Name: "command", Type: "list", Required: true,
			About: "an absolute path and arguments; no shell, nothing is expanded",
		}},
	}
}

// Validate implements remediate.Action.
func (a *Action) Validate(ctx context.Context, s remediate.Settings) []remediate.Problem {
	values, problems := settings.Read(a.Describe().Settings, s)
	if problems != nil {
		return problems
	}
	p, err := NewProgram(values.List("command"))
	if err == nil {
		err = p.Check(ctx)
	}
	if err != nil {
		return []remediate.Problem{{Setting: "command", Message: err.Error()}}
	}
	return nil
}

// Run implements remediate.Action. Exit status 0 is done, 75 (EX_TEMPFAIL)
// refused, any other failed.
func (a *Action) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	values, problems := settings.Read(a.Describe().Settings, r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	p, err := NewProgram(values.List("command"))
	if err != nil {
		return nil, err
	}
	if resp := p.refusal(ctx); resp != nil {
		return resp, nil
	}
	event, err := EventOf(r)
	if err != nil {
		return nil, err
	}
	if r.DryRun {
		return &remediate.Response{Result: remediate.DryRun, Message: "would run " + p.String()}, nil
	}
	exit, err := p.Run(ctx, event, r.Deadline)
	if err != nil {
		return nil, err
	}
	result, code := exit.Result()
	return &remediate.Response{Result: result, Code: code, Message: p.String() + " " + exit.String()}, nil
}

// refusal is the answer where the program may not be run, nil where it may.
func (p Program) refusal(ctx context.Context) *remediate.Response {
	err := p.Check(ctx)
	if err == nil {
		return nil
	}
	return &remediate.Response{Result: remediate.Refused, Code: "untrusted-program", Message: err.Error()}
}

// Result judges the exit status, and says why in one word.
func (e Exit) Result() (result remediate.Result, code string) {
	switch {
	case e.TimedOut:
		return remediate.TimedOut, "timeout"
	case e.Signal != 0:
		return remediate.Failed, "signal"
	case e.Code == ExTempFail:
		return remediate.Refused, "try-later"
	case e.Code != 0:
		return remediate.Failed, "exit-status"
	}
	return remediate.Done, ""
}

// String says how it ended, with the last line of an error or the beginning of
// what it printed, quoted.
func (e Exit) String() string {
	took := e.Took.Round(time.Millisecond)
	var text string
	switch {
	case e.Alive:
		return fmt.Sprintf("does not end, not even by SIGKILL, after %s", took)
	case e.TimedOut && e.Signal != 0:
		text = fmt.Sprintf("did not end by itself in %s: ended by %s", took, e.Signal)
	case e.TimedOut:
		text = fmt.Sprintf("did not end by itself in %s: told to, it exited with status %d", took, e.Code)
	case e.Signal != 0:
		text = fmt.Sprintf("was ended by a signal: %s", e.Signal)
	default:
		text = fmt.Sprintf("exited with status %d after %s", e.Code, took)
	}
	if line := lastLine(e.Stderr); line != "" && (e.Code != 0 || e.TimedOut) {
		text += "; its last error: " + quote(line, maxShown)
	}
	if len(e.Stdout) > 0 {
		text += "; it said " + quote(string(e.Stdout), 2*maxShown)
	}
	return text
}
