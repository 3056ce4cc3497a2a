package signalprocess

import (
	"fmt"
	"maps"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// maxTold is how many processes a message names.
const maxTold = 8

// answer sums up what came of the targets. Where one was touched, what was
// refused of the others is only told.
func answer(r *remediate.Request, targets []*target) *remediate.Response {
	var (
		resp    = &remediate.Response{Result: remediate.Refused, Code: targets[0].code}
		lines   []string
		touched []*target
		failed  *target
		alive   *target
	)
	for _, t := range targets {
		lines = append(lines, t.name()+": "+t.outcome(r.DryRun))
		switch {
		case t.fd == nil:
			continue
		case t.code != "":
			failed = t
		case !t.ended && !r.DryRun:
			alive = t
		}
		touched = append(touched, t)
		if r.DryRun || t.ended || t.sent != 0 {
			resp.Changes = append(resp.Changes, t.change(r.DryRun))
		}
	}
	switch {
	case len(touched) == 0:
	case r.DryRun:
		resp.Result, resp.Code = remediate.DryRun, ""
	case failed != nil:
		resp.Result, resp.Code = remediate.Failed, failed.code
	case alive != nil:
		resp.Result, resp.Code = remediate.TimedOut, "kill-pending"
		if alive.sent == sigTERM {
			resp.Code = "given-up"
		}
	default:
		resp.Result, resp.Code = remediate.Done, ""
	}
	if more := len(lines) - maxTold; more > 0 {
		lines = append(lines[:maxTold], fmt.Sprintf("and %d more", more))
	}
	resp.Message = strings.Join(lines, "; ")
	if len(touched) > 0 {
		var unsent int64
		resp.Predicted, unsent = predict(r, touched)
		if unsent > 0 {
			resp.Message += fmt.Sprintf("; up to %d bytes that were not sent stay, as orphans", unsent)
		}
	}
	return resp
}

// outcome says how it went.
func (t *target) outcome(dry bool) string {
	took := t.took.Round(time.Millisecond)
	switch {
	case t.code != "":
		return t.why
	case dry:
		return "would be ended"
	case t.ended && t.sent == 0:
		return "ended by itself"
	case t.ended:
		return fmt.Sprintf("ended by %s after %s", signalName(t.sent), took)
	}
	return fmt.Sprintf("was sent %s and has not ended yet", signalName(t.sent))
}

func (t *target) change(dry bool) remediate.Change {
	c := remediate.Change{What: t.name(), Before: "running", After: "running"}
	if t.ended || dry {
		c.After = "ended"
	}
	return c
}

func signalName(sig unix.Signal) string { return strings.TrimPrefix(unix.SignalName(sig), "SIG") }

// predict says what the end of the processes frees, by class: all but the send
// queues, which become orphans. Of an owner whose sockets are not all known
// it is at least that much.
func predict(r *remediate.Request, targets []*target) (freed map[string]int64, unsent int64) {
	freed = map[string]int64{}
	defer maps.DeleteFunc(freed, func(_ string, bytes int64) bool { return bytes <= 0 })
	pids := make(map[int]bool, len(targets))
	for _, t := range targets {
		pids[t.holder.PID] = true
	}
	for _, s := range r.Sockets {
		if s.Class != "owned" || !pids[s.HolderPID] {
			continue
		}
		send := min(max(s.Send, 0), max(s.Bytes, 0))
		freed["owned"] += s.Bytes - send
		unsent += send
	}
	// Of these two all is freed. The sum of the owner is exact, but where
	// others of it live on only what these hold counts.
	for _, class := range []string{"hidden", "unaccepted"} {
		if len(targets) == len(r.Owner.Holders) {
			freed[class] = r.Owner.Classes[class].Bytes
			continue
		}
		for _, s := range r.Sockets {
			if s.Class == class && pids[s.HolderPID] {
				freed[class] += s.Bytes
			}
		}
	}
	return freed, unsent
}
