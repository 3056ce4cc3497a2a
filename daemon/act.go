package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// Times of an action.
const (
	intentWait  = 2 * time.Second  // for the intent to be durable: later, there is no action
	listWait    = 5 * time.Second  // for the list of the target's sockets
	freshWait   = 10 * time.Second // for a full reading, where the last one is too old
	runWait     = 2 * time.Minute  // for the action, unless its settings say otherwise
	tellWait    = 20 * time.Second // for one that tells
	effectAfter = 5 * time.Second  // from the result to the reading that measures the effect
	effectWait  = time.Minute      // for that reading
)

// stage is how far an action has come.
type stage uint8

const (
	intending stage = iota // its intent is being made durable
	listing                // its target's sockets are being listed
	checking               // it waits for a full reading to be checked by
	planning               // a lease: it runs dry, for what would take it back
	lending                // a lease: that is being made durable
	runs
	settling // done; its effect is to be measured
	over
)

// action is one action from its decision to its effect.
type action struct {
	id       string
	dec      policy.Decision
	incident string
	began    record.Stamp
	stage    stage
	writes   int // that it still waits for
	timer    *time.Timer
	cancel   context.CancelFunc
	request  *remediate.Request
	sockets  []reading.Socket
	leftOut  int64
	ran      record.Stamp // when it had its result
	before   measure
	predicts map[string]int64
	plan     []byte // a lease's

	// Telling only.
	redo *store.Outbox // what is told was not delivered before
	text event.Text

	dry bool // asked for by hand, to see what it would do
}

// measure is what an effect is measured by. Target is nil where the action
// touches the host.
type measure struct {
	level  reading.Level
	target *int64
	pool   int64
	aborts *int64
	bound  int64
}

func (a *action) touches() bool { return a.dec.Info.Touches != policy.TouchesNothing }

// begin makes an action's intent durable; what follows comes back by intended.
func (j *judge) begin(a *action) {
	now := j.cfg.Clock()
	if !a.touches() {
		j.queueTelling(a)
		return
	}
	j.acting = a
	if !a.dry {
		j.engine.Paid(a.id, &a.dec, now)
	}
	// What it spends is durable before it starts, too: once it has its result,
	// the intent in the log tells nobody of it any more.
	a.writes = 2
	j.intend(a, now)
	j.cfg.Store.SaveBudgets(j.engine.Memory(), func(err error) { j.post(func() { j.kept(a, err) }) })
}

// intend writes the intent. Whichever comes first, the disk or the deadline,
// has the say.
func (j *judge) intend(a *action, now record.Stamp) {
	deadline := now
	deadline.At, deadline.BootSeconds = now.At.Add(runWait), now.BootSeconds+runWait.Seconds()
	rec := record.Record{
		ID: j.newID("r"), Stamp: now, Kind: record.KindIntent, Incident: a.incident, Rule: a.dec.Rule.Name, Key: a.dec.Key(),
		Action: a.id, Intent: &record.Intent{Decision: a.dec.Record, Budget: a.dec.Budget, Deadline: deadline},
	}
	a.stage = intending
	a.timer = time.AfterFunc(intentWait, func() {
		j.post(func() { j.intended(a, fmt.Errorf("the disk did not take the intent within %s", intentWait)) })
	})
	j.append(&rec, func(err error) { j.post(func() { j.kept(a, err) }) })
	if a.touches() {
		j.say(&rec, nil)
	}
}

// kept takes what became of one of the writes that an action waits for.
func (j *judge) kept(a *action, err error) {
	if a.writes--; err != nil || a.writes <= 0 {
		j.intended(a, err)
	}
}

func (j *judge) intended(a *action, err error) {
	if a.stage != intending {
		return
	}
	a.timer.Stop()
	if !a.touches() {
		j.runTelling(a) // telling needs no record to be right
		return
	}
	if err != nil {
		j.blind.log(j, err)
		j.finish(a, record.Result{Outcome: record.Refused, Code: policy.Unrecorded, Message: "nothing is done that could not be recorded first: " + err.Error()})
		return
	}
	if a.dec.Owner == nil || a.dec.Info.Touches != policy.TouchesOwner {
		j.check(a)
		return
	}
	a.stage = listing
	key := a.dec.Owner.Key
	j.apart(func() {
		ctx, cancel := context.WithTimeout(j.life, listWait)
		defer cancel()
		sockets, leftOut, err := j.sockets(ctx, key)
		j.post(func() { j.listed(a, sockets, leftOut, err) })
	})
}

func (j *judge) listed(a *action, sockets []reading.Socket, leftOut int64, err error) {
	if a.stage != listing {
		return
	}
	if err != nil {
		j.log.Warn("list sockets of target", "target", a.dec.Owner.Key, "err", err)
		if a.dec.Info.NeedsSockets {
			j.finish(a, record.Result{Outcome: record.Refused, Code: "sockets", Message: "the target's sockets could not be listed: " + err.Error()})
			return
		}
	}
	a.sockets, a.leftOut = sockets, leftOut
	j.book.sample(a.incident, sockets, leftOut)
	j.check(a)
}

// check looks at everything again, right before acting.
func (j *judge) check(a *action) {
	if j.stopping {
		j.finish(a, stopping())
		return
	}
	now := j.cfg.Clock()
	j.pause.look(j, now)
	in := j.input(now, false)
	target, guard, why := j.engine.Recheck(&a.dec, &in)
	if guard == "stale" && a.stage != checking {
		a.stage = checking
		a.timer = time.AfterFunc(freshWait, func() { j.post(func() { j.checkAgain(a) }) })
		j.wantScan()
		return
	}
	if why != "" {
		j.finish(a, record.Result{Outcome: record.Refused, Code: guard, Message: "right before acting: " + why})
		return
	}
	if a.before = j.measureNow(target); a.dec.Info.Touches == policy.TouchesHost {
		a.before.target = nil
	}
	a.request = j.request(a, target)
	a.request.Plan = a.plan
	if a.request.DryRun = a.dry; a.dec.Info.Lease && !a.dry && a.plan == nil {
		j.plan(a)
		return
	}
	j.run(a, runWait)
}

// fresh goes on with an action that waits for a full reading.
func (j *judge) fresh(record.Stamp) {
	if j.acting != nil {
		j.checkAgain(j.acting)
	}
}

func (j *judge) checkAgain(a *action) {
	if a.stage == checking {
		a.timer.Stop()
		j.check(a)
	}
}

// plan has a lease run dry first: what would take it back must be durable
// before anything is changed.
func (j *judge) plan(a *action) {
	a.stage = planning
	dry := *a.request
	dry.DryRun = true
	j.call(a, runWait, func(ctx context.Context) (*remediate.Response, error) {
		return j.cfg.Runner.Run(ctx, a.dec.Info.Name, &dry)
	}, func(res record.Result, answer *remediate.Response) {
		if a.stage != planning {
			return
		}
		if answer == nil || res.Outcome != record.DryRun || len(answer.Undo) == 0 {
			if res.Outcome == record.DryRun {
				res.Outcome, res.Code, res.Message = record.Failed, "no-plan", "the dry run gave no plan to take it back by"
			}
			j.finish(a, res)
			return
		}
		if j.stopping {
			j.finish(a, stopping())
			return
		}
		a.stage, a.plan = lending, answer.Undo
		a.timer = time.AfterFunc(intentWait, func() {
			j.post(func() { j.lent(a, fmt.Errorf("the disk did not take the lease within %s", intentWait)) })
		})
		j.lease.take(a, func(err error) { j.post(func() { j.lent(a, err) }) })
	})
}

func (j *judge) lent(a *action, err error) {
	if a.stage != lending {
		return
	}
	a.timer.Stop()
	if errors.Is(err, errLent) {
		j.finish(a, record.Result{Outcome: record.Refused, Code: "lease", Message: err.Error()})
		return
	}
	if err != nil {
		j.finish(a, record.Result{Outcome: record.Refused, Code: policy.Unrecorded, Message: "nothing is lent that could not be recorded first: " + err.Error()})
		return
	}
	j.check(a) // once more: the dry run may have taken its time
}

// run starts the action in its own process.
func (j *judge) run(a *action, within time.Duration) {
	a.stage = runs
	a.began = j.cfg.Clock()
	j.call(a, within, func(ctx context.Context) (*remediate.Response, error) {
		return j.cfg.Runner.Run(ctx, a.dec.Info.Name, a.request)
	}, func(res record.Result, answer *remediate.Response) {
		if a.stage == runs {
			j.ran(a, res, answer)
		}
	})
}

// call makes a call of an action apart from the loop, within a time.
func (j *judge) call(a *action, within time.Duration, f func(context.Context) (*remediate.Response, error), then func(record.Result, *remediate.Response)) {
	ctx, cancel := context.WithTimeout(j.life, within)
	a.cancel = cancel
	a.request.Deadline = time.Now().Add(within)
	began := j.cfg.Clock()
	j.apart(func() {
		defer cancel()
		answer, err := f(ctx)
		j.post(func() {
			a.cancel = nil
			res := resultOf(answer, err)
			res.TookSeconds = j.cfg.Clock().Since(began).Seconds()
			then(res, answer)
		})
	})
}

// ran takes the result of an action that touched something, or did not.
func (j *judge) ran(a *action, res record.Result, answer *remediate.Response) {
	if answer != nil {
		a.predicts = answer.Predicted
	}
	if a.dec.Info.Lease && !a.dry {
		j.lease.ran(a, &res)
	}
	j.finish(a, res)
}

// finish records the one result of an action. What was done is measured next.
func (j *judge) finish(a *action, res record.Result) {
	now := j.cfg.Clock()
	rec := record.Record{
		ID: j.newID("r"), Stamp: now, Kind: record.KindResult, Incident: a.incident, Rule: a.dec.Rule.Name, Key: a.dec.Key(),
		Action: a.id, Result: &res,
	}
	j.append(&rec, nil)
	j.counts.result(a.dec.Record.Action, &res)
	if told := res.Outcome == record.Delivered || res.Outcome == record.Done || a.redo != nil; a.touches() || !told {
		j.say(&rec, &a.dec.Record)
	}
	j.lease.unused(a)
	if a.touches() && a.stage == runs && !a.dry && res.Outcome != record.Refused {
		j.touched = now
	}
	j.engine.Resulted(&a.dec, res.Outcome, res.Code, now)
	if !a.touches() {
		a.stage = over
		return
	}
	if res.Outcome != record.Done {
		j.free(a)
		return
	}
	a.stage, a.ran = settling, now
	a.timer = time.AfterFunc(effectAfter, func() { j.post(j.wantScan) })
}

// free ends an action that touched something: another may begin.
func (j *judge) free(a *action) {
	a.stage = over
	if j.acting == a {
		j.acting = nil
	}
	j.cfg.Store.SaveBudgets(j.engine.Memory(), j.recorded("budgets"))
}

// resultOf turns an answer, or the lack of one, into a result.
func resultOf(answer *remediate.Response, err error) record.Result {
	switch failure := (interface{ Result() remediate.Result })(nil); {
	case err == nil && answer != nil:
		res := record.Result{
			Outcome: record.Outcome(answer.Result), Code: answer.Code, Message: answer.Message, Predicted: answer.Predicted,
		}
		for _, c := range answer.Changes {
			res.Changes = append(res.Changes, record.Change(c))
		}
		return res
	case err == nil:
		return record.Result{Outcome: record.Failed, Code: "no-answer", Message: "the action gave no answer"}
	case errors.As(err, &failure):
		return record.Result{Outcome: record.Outcome(failure.Result()), Code: codeOf(err), Message: err.Error()}
	case errors.Is(err, context.Canceled):
		return record.Result{Outcome: record.Interrupted, Code: "stopping", Message: "the daemon is stopping"}
	case errors.Is(err, context.DeadlineExceeded):
		return record.Result{Outcome: record.TimedOut, Code: "timed-out", Message: err.Error()}
	default:
		return record.Result{Outcome: record.Failed, Code: "failed", Message: err.Error()}
	}
}

// codeOf is the stable word of a failure of the plugin itself.
func codeOf(err error) string {
	var coded interface{ Code() string }
	if errors.As(err, &coded) {
		return coded.Code()
	}
	return "plugin"
}
