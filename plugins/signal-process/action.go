// Package signalprocess is the action signal-process: it ends the processes
// that hold an owner's sockets, with TERM, and after a grace with KILL. It is
// for owners that no unit can restart, such as containers, whose runtime or
// kubelet starts them anew.
//
// What a process holds unread, unaccepted or hidden is free once it has ended.
// What it has sent and the peer has not taken is not: those sockets live on as
// orphans (tcp_close in net/ipv4/tcp.c).
package signalprocess

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const (
	maxTargets = 64
	// killTime is what a process gets to end after KILL, before the deadline.
	killTime = 2 * time.Second
	// answerTime is left of the deadline to say how it went.
	answerTime = 200 * time.Millisecond

	holdersPrimary = "primary"
	holdersAll     = "all"
)

// Action is signal-process.
type Action struct {
	version string
	proc    procfs.FS
}

// New makes the action of a version. proc is where the proc file system is
// mounted, /proc if it is "": that of this process's own PID namespace.
func New(version, proc string) *Action {
	return &Action{version: version, proc: procfs.New(cmp.Or(proc, "/proc"))}
}

// Describe implements remediate.Action.
func (a *Action) Describe() remediate.Description {
	return remediate.Description{
		Name:          "signal-process",
		Version:       a.version,
		About:         "ends the processes that hold the owner's sockets, by TERM, then KILL",
		Touches:       remediate.TouchesOwner,
		Capabilities:  []string{"CAP_KILL"},
		Evidence:      []string{"fd"},
		EvidenceShare: 0.5,
		NeedsSockets:  true,
		Settings: []remediate.Setting{{
			Name: "grace", Type: "duration", Default: "10s",
			About: "time to end after TERM, before KILL; 0s sends KILL at once",
		}, {
			Name: "holders", Type: "string", Default: holdersPrimary,
			About: "whom to end: the primary holder alone (primary), or each process that holds sockets of the owner (all)",
		}},
	}
}

// Validate implements remediate.Action.
func (a *Action) Validate(_ context.Context, s remediate.Settings) []remediate.Problem {
	_, problems := a.read(s)
	return problems
}

type choice struct {
	grace time.Duration
	all   bool
}

func (a *Action) read(s remediate.Settings) (choice, []remediate.Problem) {
	v, problems := settings.Read(a.Describe().Settings, s)
	if problems != nil {
		return choice{}, problems
	}
	c := choice{grace: v.Duration("grace"), all: v.String("holders") == holdersAll}
	if c.grace < 0 || c.grace > time.Hour {
		problems = append(problems, remediate.Problem{Setting: "grace", Message: "want a duration between 0s and 1h"})
	}
	if h := v.String("holders"); h != holdersPrimary && h != holdersAll {
		problems = append(problems, remediate.Problem{
			Setting: "holders", Message: fmt.Sprintf("%s is neither %q nor %q", settings.Quote(h), holdersPrimary, holdersAll),
		})
	}
	return c, problems
}

// Run implements remediate.Action. It refuses with the code of the first
// holder where none of them may be signalled: identity-changed, gone, zombie,
// protected; and with no-holder, shared, or too-little-time where the grace
// does not fit before the deadline.
func (a *Action) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	c, problems := a.read(r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	switch {
	case r.Owner == nil || len(r.Owner.Holders) == 0:
		return refused("no-holder", "no process is known to hold its sockets"), nil
	case r.Owner.Protected != "":
		return refused("protected", "protected: "+settings.Quote(r.Owner.Protected)), nil
	case r.Owner.Shared:
		return refused("shared", "processes of other owners hold its sockets too"), nil
	}
	if left := time.Until(r.Deadline) - killTime - answerTime; !r.DryRun && left < c.grace {
		return refused("too-little-time", fmt.Sprintf("a grace of %s does not fit: %s are left to the deadline, less %s to kill",
			c.grace, max(0, left+killTime).Round(time.Millisecond), killTime)), nil
	}
	holders := r.Owner.Holders[:1]
	if c.all {
		holders = r.Owner.Holders[:min(len(r.Owner.Holders), maxTargets)]
	}
	var targets []*target
	for _, h := range holders {
		t := a.open(r.Owner, h)
		defer t.close()
		targets = append(targets, t)
	}
	if !r.DryRun {
		a.end(ctx, targets, c.grace, r.Deadline)
	}
	return answer(r, targets), nil
}

func refused(code, message string) *remediate.Response {
	return &remediate.Response{Result: remediate.Refused, Code: code, Message: message}
}

// end sends TERM to all, and KILL to those that are there after the grace,
// unless ctx is done before.
func (a *Action) end(ctx context.Context, targets []*target, grace time.Duration, deadline time.Time) {
	start := time.Now()
	if grace > 0 {
		for _, t := range targets {
			t.signal(sigTERM)
		}
		for _, t := range targets {
			t.wait(ctx, start, start.Add(grace))
		}
		// The caller may have been told to stop: then KILL is not ours to send.
		if ctx.Err() != nil {
			return
		}
	}
	for _, t := range targets {
		t.signal(sigKILL)
	}
	ctx = context.WithoutCancel(ctx)
	for _, t := range targets {
		t.wait(ctx, start, earlier(deadline.Add(-answerTime), time.Now().Add(killTime)))
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// ours says why a number must never be signalled, "" where it may.
func ours(pid int) string {
	switch {
	case pid <= 1:
		return "it is the host's init"
	case pid == os.Getpid():
		return "it is this process"
	case pid == os.Getppid():
		return "it is tcpmemd"
	}
	return ""
}
