// Package destroysockets is the action destroy-sockets: it aborts connections
// of an owner (SOCK_DESTROY), by default its orphans, which no process can
// close any more. With the verdict slow-peer it aborts the connections to the
// peer that does not read, and leaves the owner, who is the victim, alone.
//
// It frees less than people hope: an orphan at once, of a connection that is
// held the send queue alone. What is received and unread, waits to be accepted
// or is hidden only its owner can free, so that this is refused.
package destroysockets

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// answerTime is left of the deadline to say how it went.
const answerTime = 200 * time.Millisecond

// Action is destroy-sockets.
type Action struct {
	version string
	proc    procfs.FS
}

// New makes the action of a version. proc is where the proc file system is
// mounted: that of this process's own PID namespace.
func New(version, proc string) *Action {
	return &Action{version: version, proc: procfs.New(proc)}
}

// Describe implements remediate.Action.
func (a *Action) Describe() remediate.Description {
	return remediate.Description{
		Name:          "destroy-sockets",
		Version:       a.version,
		About:         "aborts the owner's orphans, or its connections to a peer that does not read",
		Touches:       remediate.TouchesOwner,
		Capabilities:  victims.Capabilities(),
		Evidence:      []string{"fd", "closed-by", "last-seen"},
		EvidenceShare: 0.5,
		NeedsSockets:  true,
		Connections:   true,
		Settings: []remediate.Setting{{
			Name: "class", Type: "list",
			About: "classes to destroy, of orphan and owned; orphan alone where it is left out, with the verdict slow-peer both",
		}, {
			Name: "state", Type: "list", About: `states to destroy, e.g. "fin-wait-1"; all where it is left out`,
		}, {
			Name: "remote", Type: "string", About: "address, address:port or network of the other end; any where it is left out",
		}, {
			Name: "max", Type: "int", Default: "10000", About: "how many to destroy at most, the biggest first",
		}},
	}
}

// Validate implements remediate.Action.
func (a *Action) Validate(_ context.Context, s remediate.Settings) []remediate.Problem {
	_, problems := a.read(s)
	return problems
}

// Run implements remediate.Action. It refuses with the codes no-owner, kernel,
// unresolved, protected, shared, culprit-local, no-candidate, frees-nothing,
// orphans-stay and identity-changed, and fails with not-permitted,
// not-destroyed or unreadable.
func (a *Action) Run(ctx context.Context, r *remediate.Request) (*remediate.Response, error) {
	c, problems := a.read(r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	if resp := target(r.Owner); resp != nil {
		return resp, nil
	}
	chosen, resp := c.choose(r)
	if resp != nil {
		return resp, nil
	}
	if r.DryRun {
		return &remediate.Response{
			Result:    remediate.DryRun,
			Message:   "would destroy " + chosen.String(),
			Predicted: chosen.predicted,
			Changes:   []remediate.Change{change(r.Owner, chosen, "destroyed")},
		}, nil
	}
	if !r.Deadline.IsZero() {
		limited, cancel := context.WithDeadline(ctx, r.Deadline.Add(-answerTime))
		defer cancel()
		ctx = limited
	}
	report, err := a.destroy(ctx, c, chosen.sockets)
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	resp = answer(&report)
	if err != nil {
		resp.Result, resp.Code = remediate.TimedOut, "deadline"
		resp.Message = fmt.Sprintf("the time was up after %s were destroyed", victims.Sockets(report.Destroyed))
	}
	resp.Predicted = chosen.predicted
	if report.Destroyed.Sockets > 0 {
		resp.Changes = []remediate.Change{change(r.Owner, chosen, report.String())}
	}
	return resp, nil
}

// target says what speaks against the owner.
func target(o *remediate.Owner) *remediate.Response {
	switch {
	case o == nil:
		return refused("no-owner", "the rule is about the host alone: there is nobody whose sockets could be destroyed")
	case o.Kind == string(reading.KindKernel):
		return refused("kernel", "the kernel itself uses these sockets")
	case o.Kind == string(reading.KindUnresolved):
		return refused("unresolved", "it is not known whose sockets these are")
	case o.Protected != "":
		return refused("protected", "protected: "+settings.Quote(o.Protected))
	case o.Shared:
		return refused("shared", "processes of other owners hold its sockets too")
	}
	return nil
}

func refused(code, message string) *remediate.Response {
	return &remediate.Response{Result: remediate.Refused, Code: code, Message: message}
}

func (a *Action) destroy(ctx context.Context, c *choice, sockets []remediate.Socket) (report victims.Report, err error) {
	set, err := victims.Open(a.proc, sockets)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, set.Close()) }()
	return set.DestroyNow(ctx, c.unchanged)
}

// answer says what came of it.
func answer(r *victims.Report) *remediate.Response {
	left := r.LeftSum()
	resp := &remediate.Response{Result: remediate.Done, Message: r.String()}
	switch {
	case r.Left[victims.Stays].Sockets > 0:
		resp.Result, resp.Code = remediate.Failed, "not-destroyed"
	case r.Destroyed.Sockets > 0 || left.Sockets == 0:
	case errors.Is(r.Refused, unix.EPERM):
		resp.Result, resp.Code = remediate.Failed, "not-permitted"
	case r.Refused != nil:
		resp.Result, resp.Code = remediate.Failed, "not-destroyed"
	case r.Unreadable:
		resp.Result, resp.Code = remediate.Failed, "unreadable"
	default:
		resp.Result, resp.Code = remediate.Refused, "identity-changed"
	}
	return resp
}

func change(o *remediate.Owner, chosen *candidates, after string) remediate.Change {
	return remediate.Change{What: "sockets of " + settings.Quote(o.Name), Before: chosen.String(), After: after}
}
