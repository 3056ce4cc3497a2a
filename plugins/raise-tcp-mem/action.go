// Package raisetcpmem is the action raise-tcp-mem: it lends the pool of TCP
// memory more room, for a load that needs it. It is a lease: tcpmemd keeps the
// plan of the dry run before anything is changed, and ends it by Undo, which
// restores the old triple only while the raised one stands. What should last
// belongs into sysctl.d(5): the answer prints the line, and nobody writes it.
//
// Only load may raise: a leak would eat the new room as well, and a slow peer
// is helped by nobody's memory. Where the trend has not said load, the raise
// is refused.
package raisetcpmem

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const sysctl = "net.ipv4.tcp_mem"

// Action is raise-tcp-mem.
type Action struct {
	version string
	proc    procfs.FS
}

// New makes the action of a version. proc is where the proc file system is
// mounted, /proc if it is "". The thread that calls must be in the initial network namespace.
func New(version, proc string) *Action {
	return &Action{version: version, proc: procfs.New(cmp.Or(proc, "/proc"))}
}

// Describe implements remediate.Action.
func (a *Action) Describe() remediate.Description {
	return remediate.Description{
		Name:         "raise-tcp-mem",
		Version:      a.version,
		About:        "raises net.ipv4.tcp_mem for a time",
		Touches:      remediate.TouchesHost,
		Capabilities: []string{"CAP_NET_ADMIN"},
		Lease:        true,
		CanUndo:      true,
		Settings: []remediate.Setting{{
			Name: "ceiling", Type: "share", Default: "15%",
			About: "share of the host's memory that the raised max may be at most",
		}, {
			Name: "factor", Type: "float", Default: "1.5",
			About: "by how much min, pressure and max are raised, if the ceiling allows",
		}, {
			Name: "min_available", Type: "share", Default: "10%",
			About: "share of the host's memory that must be available beside the added bytes",
		}, {
			Name: "duration", Type: "duration", Default: "30m",
			About: "how long it is raised; extended while the memory is in use, to four times this at most",
		}, {
			Name: "force", Type: "bool", Default: "false",
			About: "end the lease though the memory is in use; tcpmemd says so at the hard end",
		}},
	}
}

// Validate implements remediate.Action.
func (a *Action) Validate(_ context.Context, s remediate.Settings) []remediate.Problem {
	_, problems := a.read(s)
	return problems
}

// limits are the settings.
type limits struct {
	ceiling, factor, minAvailable float64
	force                         bool
}

func (a *Action) read(s remediate.Settings) (limits, []remediate.Problem) {
	v, problems := settings.Read(a.Describe().Settings, s)
	l := limits{v.Float("ceiling"), v.Float("factor"), v.Float("min_available"), v.Bool("force")}
	wrong := func(setting, message string) {
		problems = append(problems, remediate.Problem{Setting: setting, Message: message})
	}
	if !(l.ceiling >= 0.01 && l.ceiling <= 0.5) {
		wrong("ceiling", "want a share between 1% and 50%")
	}
	if !(l.factor > 1 && l.factor <= 10) {
		wrong("factor", "want a number above 1, and 10 at most")
	}
	if l.minAvailable > 0.9 {
		wrong("min_available", "want a share of 90% at most")
	}
	return l, problems
}

// Run implements remediate.Action. With DryRun it makes the plan, which it
// answers as Undo; without, it does what Request.Plan says, no more.
func (a *Action) Run(_ context.Context, r *remediate.Request) (*remediate.Response, error) {
	l, problems := a.read(r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	now, err := a.look(r.Host.PageSize)
	if err != nil {
		return nil, err
	}
	if r.DryRun {
		return a.propose(r, l, now)
	}
	if len(r.Plan) == 0 {
		return refused("no-plan", "a lease starts with a dry run, whose plan is kept"), nil
	}
	p, err := parsePlan(r.Plan)
	switch {
	case errors.Is(err, errRange):
		return refused("out-of-range", err.Error()), nil
	case err != nil:
		return nil, err
	case p.BootID != now.bootID:
		return refused("other-boot", "the plan was made in another boot"), nil
	case now.live == p.Raised: // asked again
		return raised(p, now, "already "), nil
	case now.live != p.Base:
		return refused("rival", fmt.Sprintf("%s is %q by now, not %q as planned: somebody else sets it", sysctl, now.live, p.Base)), nil
	}
	if no := l.allow(r, p, now); no != nil {
		return no, nil
	}
	if no, err := a.write(p.Raised); no != nil || err != nil {
		return no, err
	}
	return raised(p, now, ""), nil
}

func (a *Action) propose(r *remediate.Request, l limits, now facts) (*remediate.Response, error) {
	if no := agrees(r, now); no != nil {
		return no, nil
	}
	p, no := l.plan(now)
	if no == nil {
		no = l.allow(r, p, now)
	}
	if no == nil {
		no = readOnly(a.proc.TCPMemWritable())
	}
	if no != nil {
		return no, nil
	}
	resp := raised(p, now, "would be ")
	resp.Result = remediate.DryRun
	return resp, nil
}

// raised is the answer of what was done, or would be.
func raised(p plan, now facts, how string) *remediate.Response {
	undo, _ := json.Marshal(p) // numbers and a text
	message := fmt.Sprintf("%s %sraised from %q to %q pages: max is %s, %.1f %% of memory; to keep it, put into a file of sysctl.d: %s = %s",
		sysctl, how, p.Base, p.Raised, size(p.Raised.Max.Bytes(now.pageSize)),
		100*float64(p.Raised.Max.Bytes(now.pageSize))/float64(now.total), sysctl, p.Raised)
	if now.full == nil {
		message += "; the kernel does not tell memory pressure (PSI), so available memory alone decided"
	}
	return &remediate.Response{
		Result: remediate.Done, Message: message, Undo: undo,
		Changes: []remediate.Change{{What: sysctl, Before: p.Base.String(), After: p.Raised.String()}},
	}
}

// write sets the triple; no answers why it is not set.
func (a *Action) write(t triple) (no *remediate.Response, err error) {
	return explain(a.proc.SetTCPMem(t.tcpMem()), t)
}

// explain gives the answer to an error of writing, where there is one.
func explain(err error, t triple) (no *remediate.Response, _ error) {
	if no := readOnly(err); no != nil {
		return no, nil
	}
	if nt, ok := errors.AsType[*procfs.NotTakenError](err); ok {
		return &remediate.Response{Result: remediate.Failed, Code: "not-taken", Message: sysctl + ": " + nt.Error()}, nil
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ERANGE) {
		return refused("out-of-range", fmt.Sprintf("the kernel does not take %q for %s", t, sysctl)), nil
	}
	return nil, err
}

func readOnly(err error) *remediate.Response {
	switch {
	case errors.Is(err, unix.EROFS):
		return refused("read-only", sysctl+" is read-only here (ProtectKernelTunables= in the unit?)")
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return refused("read-only", "no right to write "+sysctl+": "+err.Error())
	}
	return nil
}

func refused(code, message string) *remediate.Response {
	return &remediate.Response{Result: remediate.Refused, Code: code, Message: message}
}
