package signalprocess

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/daemon/procfs"
	"github.com/tcpmemd/tcpmemd/plugins/internal/pidfd"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/remediate"
)

const (
	sigTERM = unix.SIGTERM
	sigKILL = unix.SIGKILL
)

// target is one holder, and what came of it.
type target struct {
	holder remediate.Holder
	fd     *pidfd.File // nil where it is not touched
	code   string      // why it is not touched, or what went wrong
	why    string

	sent  unix.Signal // last one, 0 for none
	ended bool
	took  time.Duration
}

// open takes hold of the process and then looks whether it is the one that was
// measured. In this order there is no gap: who has the expected start time
// now was there before the measurement, so the descriptor is of no other.
func (a *Action) open(o *remediate.Owner, h remediate.Holder) *target {
	t := &target{holder: h}
	if why := ours(h.PID); why != "" {
		return t.leave("protected", why)
	}
	fd, err := pidfd.Open(h.PID)
	if err != nil {
		if errors.Is(err, unix.ESRCH) {
			return t.leave("gone", "it has ended")
		}
		// The number is now that of a thread: EINVAL (pidfd_open(2)), and ENOENT
		// on newer kernels (6.18).
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return t.leave("identity-changed", "its number is no process's any more")
		}
		return t.leave("pidfd", err.Error())
	}
	t.fd = fd
	stat, err := a.proc.Stat(h.PID)
	switch {
	case procfs.Gone(err):
		return t.leave("gone", "it has ended")
	case err != nil:
		return t.leave("unreadable", err.Error())
	case stat.StartTime != h.StartTime:
		return t.leave("identity-changed", fmt.Sprintf("its number is another's now: started at tick %d, not %d", stat.StartTime, h.StartTime))
	case stat.Zombie():
		return t.leave("zombie", "it has ended and waits for its parent")
	case stat.Kernel:
		return t.leave("protected", "it is a thread of the kernel")
	}
	cg, err := a.proc.Cgroup(h.PID)
	switch {
	case procfs.Gone(err):
		return t.leave("gone", "it has ended")
	case err != nil:
		return t.leave("unreadable", err.Error())
	case !belongs(cg, o):
		return t.leave("identity-changed", "it has left its owner: it is in cgroup "+settings.Quote(cg.Path))
	}
	return t
}

// belongs asks whether a process is still in its owner's container or unit. The
// names in a path below a delegated subtree are anybody's: this can only
// refuse. An owner that is a process has no more than its number and start.
func belongs(cg procfs.Cgroup, o *remediate.Owner) bool {
	in := func(is func(name string) bool) bool {
		return slices.ContainsFunc(strings.Split(cg.Path, "/"), is) || slices.ContainsFunc(strings.Split(cg.V1, "/"), is)
	}
	if id, ok := strings.CutPrefix(o.Key, "container/"); ok && id != "" {
		return in(func(name string) bool { return strings.Contains(name, id) })
	}
	if o.Unit != "" {
		return in(func(name string) bool { return name == o.Unit })
	}
	return true
}

// leave gives up the process, untouched.
func (t *target) leave(code, why string) *target {
	t.close()
	t.fd, t.code, t.why = nil, code, why
	return t
}

func (t *target) close() {
	if t.fd != nil {
		t.fd.Close()
	}
}

// signal sends one, unless the process has ended or may not be touched.
func (t *target) signal(sig unix.Signal) {
	if t.fd == nil || t.ended || t.code != "" {
		return
	}
	err := t.fd.Signal(sig)
	switch {
	case err == nil:
		t.sent = sig
	case errors.Is(err, unix.ESRCH):
		// It ended by itself or by the signal before: wait sees it.
	default:
		t.code, t.why = "signal", err.Error()
	}
}

// wait waits for the end of the process.
func (t *target) wait(ctx context.Context, start, until time.Time) {
	if t.fd == nil || t.ended || t.code != "" {
		return
	}
	ended, err := t.fd.Wait(ctx, until)
	if err != nil {
		t.code, t.why = "wait", err.Error()
		return
	}
	if t.ended = ended; ended {
		t.took = time.Since(start)
	}
}

// name is the process for a person.
func (t *target) name() string {
	return fmt.Sprintf("process %d %s", t.holder.PID, settings.Quote(t.holder.Command))
}
