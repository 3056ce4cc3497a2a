// Package restartunit is the action restart-unit: it restarts the systemd
// service that holds the memory, and destroys the orphans that this leaves.
//
// The end of a process frees what it holds unread, hidden or unaccepted. What
// it has sent and the peer has not taken lives on in orphans, for as long as
// the peer likes: 100 full send queues held 99,660 pages before the end of
// their process and as many a minute after it.
package restartunit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const (
	// cleanTime is how long orphans are looked for after the job.
	cleanTime = 5 * time.Second
	// answerTime is left of the deadline to see what came of it and say so.
	answerTime = time.Second
	// leastTime is too little for any restart.
	leastTime = time.Second
)

// systemd is PID 1.
type systemd interface {
	Service(ctx context.Context, name string) (units.Service, error)
	Closure(ctx context.Context, name string) ([]units.Dependent, error)
	TryRestart(ctx context.Context, name string) (units.JobResult, error)
}

// Action is restart-unit.
type Action struct {
	version string
	proc    procfs.FS
	systemd systemd
	uptime  func() time.Duration // CLOCK_MONOTONIC, as systemd's timestamps
}

// New makes the action of a version. proc is where the proc file system is
// mounted: that of this process's own PID namespace. PID 1 is connected to when
// it is first asked.
func New(version, proc string) *Action {
	m := units.New(units.SystemBus(units.SystemBusSocket), units.Private(units.PrivateSocket))
	return &Action{version: version, proc: procfs.New(proc), systemd: m, uptime: uptime}
}

func uptime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0 // it has no other failures than a bad clock number
	}
	return time.Duration(ts.Nano())
}

// Describe implements remediate.Action.
func (a *Action) Describe() remediate.Description {
	protected, _ := json.Marshal(units.DefaultProtected()) // strings always can be
	return remediate.Description{
		Name:          "restart-unit",
		Version:       a.version,
		About:         "restarts the service that holds the memory, and destroys the orphans it leaves",
		Touches:       remediate.TouchesOwner,
		Capabilities:  victims.Capabilities(),
		Evidence:      []string{"fd"},
		EvidenceShare: 0.5,
		NeedsSockets:  true,
		Settings: []remediate.Setting{{
			Name: "timeout", Type: "duration", Default: "60s", About: "how long to wait until the restart is done",
		}, {
			Name: "allow", Type: "list", About: "globs of units that may be restarted along, because they depend on this one",
		}, {
			Name: "clean_orphans", Type: "bool", Default: "true", About: "destroy the connections of the old processes that live on as orphans",
		}, {
			Name: "protect", Type: "list", Default: string(protected), About: "globs of units that are never restarted; tcpmemd adds its own list",
		}},
	}
}

// Validate implements remediate.Action.
func (a *Action) Validate(_ context.Context, s remediate.Settings) []remediate.Problem {
	_, problems := a.read(s)
	return problems
}

type choice struct {
	timeout        time.Duration
	allow, protect []string
	clean          bool
}

func (a *Action) read(s remediate.Settings) (*choice, []remediate.Problem) {
	v, problems := settings.Read(a.Describe().Settings, s)
	if problems != nil {
		return nil, problems
	}
	c := &choice{timeout: v.Duration("timeout"), allow: v.List("allow"), protect: v.List("protect"), clean: v.Bool("clean_orphans")}
	if c.timeout < leastTime || c.timeout > time.Hour {
		problems = append(problems, remediate.Problem{Setting: "timeout", Message: "want a duration between 1s and 1h"})
	}
	for name, globs := range map[string][]string{"allow": c.allow, "protect": c.protect} {
		if err := units.CheckGlobs(globs); err != nil {
			problems = append(problems, remediate.Problem{Setting: name, Message: err.Error()})
		}
	}
	return c, problems
}

// Run implements remediate.Action. What is refused, and by which code, is in
// refuse.go; a restart that does not come to a good end fails with the codes
// no-bus, start-limit-hit and job-RESULT, or is timed out with job-not-begun
// or job-unfinished.
func (a *Action) Run(ctx context.Context, r *remediate.Request) (resp *remediate.Response, err error) {
	c, problems := a.read(r.Settings)
	if err := settings.Err(problems); err != nil {
		return nil, err
	}
	if resp := c.owner(r.Owner); resp != nil {
		return resp, nil
	}
	c.clean = c.clean && r.Host.OrphansVanish
	limit := time.Now().Add(c.timeout)
	if !r.Deadline.IsZero() {
		limit = earlier(limit, r.Deadline.Add(-answerTime-cleanTime))
	}
	run := &restart{Action: a, choice: c, request: r}
	if !r.DryRun {
		if left := time.Until(limit); left < leastTime {
			return refused("too-little-time", "the deadline leaves no time for a restart and for what it leaves"), nil
		}
		// Before anything is asked: the answers are to be fresh when the job is made.
		if c.clean {
			if run.victims, err = victims.Open(a.proc, notOrphans(r.Sockets)); err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, run.victims.Close()) }()
		}
	}
	if resp := run.check(ctx); resp != nil {
		return resp, nil
	}
	if r.DryRun {
		return run.dry(), nil
	}
	limited, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	start := time.Now()
	result, err := a.systemd.TryRestart(limited, r.Owner.Unit)
	if resp := untouched(err); resp != nil {
		return resp, nil
	}
	return run.sumUp(ctx, result, err, time.Since(start)), nil
}

// notOrphans are the sockets that can become orphans. Those that were are
// another action's: their owner may be known by weaker evidence than this one's.
// A listener never is one; that of a socket unit stays where it is.
func notOrphans(sockets []remediate.Socket) []remediate.Socket {
	var out []remediate.Socket
	for i := range sockets {
		if sockets[i].State == reading.Listen.String() {
			continue
		}
		switch sockets[i].Class {
		case reading.Owned.String(), reading.Unaccepted.String():
			out = append(out, sockets[i])
		}
	}
	return out
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func refused(code, format string, args ...any) *remediate.Response {
	return &remediate.Response{Result: remediate.Refused, Code: code, Message: fmt.Sprintf(format, args...)}
}
