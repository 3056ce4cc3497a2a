package restartunit

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/plugins/internal/victims"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// restart is one Run.
type restart struct {
	*Action
	*choice
	request *remediate.Request
	victims *victims.Set // nil where no orphans are to be destroyed

	before    units.Service
	along     []units.Dependent
	predicted map[string]int64 // by class
}

// dry says what would be done.
func (r *restart) dry() *remediate.Response {
	resp := &remediate.Response{
		Result: remediate.DryRun, Predicted: r.predicted,
		Message: "would restart " + r.before.Name,
		Changes: r.changes("restarted"),
	}
	if len(r.along) > 0 {
		resp.Message += ", and along with it " + names(r.along)
	}
	return resp
}

func (r *restart) changes(after string) []remediate.Change {
	changes := []remediate.Change{{What: "unit " + r.before.Name, Before: "invocation " + r.before.InvocationID, After: after}}
	for _, d := range r.along {
		changes = append(changes, remediate.Change{What: "unit " + d.Name, Before: "running", After: "restarted along (" + d.Via + ")"})
	}
	return changes
}

func names(along []units.Dependent) string {
	var list []string
	for _, d := range along {
		list = append(list, d.Name)
	}
	return strings.Join(list, ", ")
}

// sumUp destroys the orphans and says what came of a restart that was begun.
// ctx is the caller's: the time for the job may be up.
func (r *restart) sumUp(ctx context.Context, result units.JobResult, unfinished error, took time.Duration) *remediate.Response {
	var text []string
	orphans := r.cleanUp(ctx)

	after, err := r.systemd.Service(ctx, r.before.Name)
	state := fmt.Sprintf("%s (%s), invocation %s", after.ActiveState, after.SubState, after.InvocationID)
	if err != nil {
		state = fmt.Sprintf("in a state that cannot be read: %v", err)
	}
	resp := &remediate.Response{Result: remediate.Failed, Code: "job-" + string(result), Predicted: r.predicted}
	switch {
	case unfinished != nil:
		resp.Result, resp.Code = remediate.TimedOut, "job-unfinished"
		text = append(text, unfinished.Error())
	case result == units.JobDone && (err != nil || after.InvocationID != r.before.InvocationID):
		resp.Result, resp.Code = remediate.Done, ""
		text = append(text, fmt.Sprintf("%s was restarted in %v", r.before.Name, took.Round(10*time.Millisecond)))
	case result == units.JobDone:
		// As where it stopped by itself just before: there was nothing to restart.
		resp.Code = "not-restarted"
		text = append(text, fmt.Sprintf("the job for %s is done, and it was not started anew", r.before.Name))
	default:
		if after.Result == "start-limit-hit" {
			resp.Code = after.Result
		}
		text = append(text, fmt.Sprintf("the job for %s ended as %q, the unit as %q", r.before.Name, result, after.Result))
	}
	text = append(text, fmt.Sprintf("it was invocation %s and is %s", r.before.InvocationID, state))
	if len(r.along) > 0 {
		text = append(text, "restarted along: "+names(r.along))
	}
	resp.Message = strings.Join(append(text, orphans), "; ")
	resp.Changes = r.changes(state)
	return resp
}

// cleanUp destroys what became orphans, and says so. Without it their memory
// stays for as long as their peers like.
func (r *restart) cleanUp(ctx context.Context) string {
	if r.victims == nil {
		var unsent int64
		for i := range r.request.Sockets {
			unsent += r.request.Sockets[i].Send
		}
		why := "clean_orphans = false"
		if !r.request.Host.OrphansVanish {
			why = "on this kernel destroyed orphans are not known to vanish"
		}
		return fmt.Sprintf("up to %s unsent stay in orphans: %s", victims.Size(unsent), why)
	}
	if !r.request.Deadline.IsZero() {
		limited, cancel := context.WithDeadline(ctx, r.request.Deadline.Add(-answerTime))
		defer cancel()
		ctx = limited
	}
	report, err := r.victims.CleanUp(ctx, cleanTime)
	text := "of its connections " + report.String()
	if err != nil {
		text = fmt.Sprintf("of its connections %s destroyed, then: %v", victims.Sockets(report.Destroyed), err)
	}
	if n := r.request.SocketsLeftOut; n > 0 {
		text += fmt.Sprintf("; %d more were not named in the request", n)
	}
	return text
}

// predict says what the end of the processes frees, by class.
func (r *restart) predict() {
	r.predicted = map[string]int64{}
	activated := false // PID 1 listens: what waits to be accepted stays
	for _, unit := range r.before.TriggeredBy {
		activated = activated || strings.HasSuffix(unit, ".socket")
	}
	kept := heldByInit(r.proc.Root())
	listed := map[string]remediate.Tally{}
	ends := pairs(r.request.Sockets)
	for i := range r.request.Sockets {
		s := &r.request.Sockets[i]
		t := listed[s.Class]
		listed[s.Class] = remediate.Tally{Sockets: t.Sockets + 1, Bytes: t.Bytes + s.Bytes}
		if s.HolderPID == 1 || s.Inode != 0 && kept[s.Inode] {
			continue // a file descriptor store, or a socket unit
		}
		switch s.Class {
		case reading.Hidden.String():
			r.predicted[s.Class] += s.Bytes
		case reading.Unaccepted.String():
			if !activated {
				r.predicted[s.Class] += s.Bytes
			}
		case reading.Owned.String():
			n := s.Bytes
			if !r.clean && !ends[end(s).exchanged()] {
				n -= s.Send // it becomes an orphan, and stays one
			}
			r.predicted[s.Class] += max(0, n)
		}
	}
	// What a request has no room for is of the same kinds.
	for _, class := range []reading.Class{reading.Hidden, reading.Unaccepted} {
		name := class.String()
		if all := r.request.Owner.Classes[name]; all.Sockets > listed[name].Sockets && (class == reading.Hidden || !activated) {
			r.predicted[name] += max(0, all.Bytes-listed[name].Bytes)
		}
	}
}

// heldByInit are the sockets that PID 1 has a descriptor of. Beside a process of
// the service it is not named as their holder, and keeps them all the same.
// None where it cannot be looked at.
func heldByInit(proc string) map[uint32]bool {
	dir := proc + "/1/fd/"
	list, _ := os.ReadDir(dir)
	held := map[uint32]bool{}
	for _, entry := range list {
		link, err := os.Readlink(dir + entry.Name())
		digits, isSocket := strings.CutPrefix(link, "socket:[")
		if err != nil || !isSocket {
			continue
		}
		if inode, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 32); err == nil {
			held[uint32(inode)] = true
		}
	}
	return held
}

// address is one end of a connection.
type address struct {
	netns         uint32
	local, remote string
}

func end(s *remediate.Socket) address {
	return address{s.NetnsInode, unmapped(s.Local), unmapped(s.Remote)}
}

func (a address) exchanged() address { return address{a.netns, a.remote, a.local} }

// unmapped: an IPv6 socket writes the IPv4 address of its peer in another way.
func unmapped(text string) string {
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return text
	}
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
}

// pairs are the ends among the sockets. Where both ends of a connection are the
// unit's, the one with unread data resets the other as it is closed.
func pairs(sockets []remediate.Socket) map[address]bool {
	ends := make(map[address]bool, len(sockets))
	for i := range sockets {
		if !sockets[i].MPTCP {
			ends[end(&sockets[i])] = true
		}
	}
	return ends
}
