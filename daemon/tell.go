package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// maxTelling bounds the tellings that wait for the one under way. What is
// beyond it goes to the outbox at once.
const maxTelling = 32

// queueTelling lines up an action that touches nothing: they run one after the
// other, beside what touches.
func (j *judge) queueTelling(a *action) {
	if a.text.Line == "" {
		a.text = j.words(&a.dec, a.incident)
	}
	if len(j.telling) > maxTelling {
		now := j.cfg.Clock()
		j.word(a)
		j.outbox.keep(j, a, now)
		j.engine.Resulted(&a.dec, record.Undelivered, "", now)
		return
	}
	j.telling = append(j.telling, a)
	if len(j.telling) == 1 {
		j.intend(a, j.cfg.Clock())
	}
}

// runTelling runs the one that is first.
func (j *judge) runTelling(a *action) {
	j.word(a)
	a.stage = runs
	j.call(a, tellWait, func(ctx context.Context) (*remediate.Response, error) {
		return j.cfg.Runner.Run(ctx, a.dec.Info.Name, a.request)
	}, func(res record.Result, answer *remediate.Response) {
		if a.stage == runs {
			j.told(a, res, answer)
		}
	})
}

// word writes what is told, once.
func (j *judge) word(a *action) {
	if a.request != nil {
		return
	}
	a.request = j.request(a, &policy.Target{Owner: a.dec.Owner})
	a.request.DryRun = a.dry
	a.request.Text, a.request.Event, a.request.Severity = a.text.String(), a.text.Event, a.text.Severity
	if r := j.now.Reading; r != nil && a.dec.Owner != nil {
		for i := range r.Owners {
			if o := &r.Owners[i]; o.Key != a.dec.Owner.Key && len(a.request.RunnersUp) < 4 {
				a.request.RunnersUp = append(a.request.RunnersUp, *j.ownerOf(o))
			}
		}
	}
}

// told takes the result, keeps what was not delivered, and begins the next.
func (j *judge) told(a *action, res record.Result, answer *remediate.Response) {
	j.finish(a, res)
	now := j.cfg.Clock()
	switch {
	case res.Outcome == record.Delivered || res.Outcome == record.Done:
		if a.redo != nil {
			j.cfg.Store.RemoveOutbox(a.redo.ID, j.recorded("outbox"))
			j.outbox.remove(a.redo.ID)
		}
	case res.Outcome == record.Refused:
		if a.redo != nil { // it will not be willing the next time
			j.outbox.giveUp(j, a.redo, a.request.Rule, res.Message)
		}
	default:
		if answer != nil && len(answer.Retry) > 0 {
			a.request.Settings = answer.Retry
		}
		j.outbox.keep(j, a, now)
	}
	j.telling = j.telling[1:]
	if len(j.telling) > 0 {
		j.intend(j.telling[0], now)
	}
}

// tellEnd tells all who were told of an incident, of whichever key, that it is
// over.
func (j *judge) tellEnd(c *policy.Change, p *page, now record.Stamp) {
	ends := make(map[string]bool) // who is told by two steps learns of the end once
	for _, n := range p.told {
		step := &c.Rule.Steps[n-1]
		info := j.policy.Actions[step.Action]
		who := step.Action + string(step.Settings)
		if info.Touches != policy.TouchesNothing || ends[who] {
			continue
		}
		ends[who] = true
		state := c.State
		d := policy.Decision{
			Rule: c.Rule, Keys: []string{c.Key}, Info: info, Step: step,
			Record: record.Decision{
				Choice: record.ChoseAct, Why: "the incident is over: " + state.Why, About: c.Rule.About, RuleHash: c.Rule.Hash,
				Action: step.Action, Touches: string(info.Touches), Mode: state.Mode, Level: j.now.Level.Level.String(),
				Condition: c.Rule.When.String(), Owner: state.Owner, RunnersUp: []record.Suspect{},
			},
		}
		a := &action{id: j.newID("a"), dec: d, incident: p.ID, began: now, text: j.ending(p, &state, now)}
		j.append(&record.Record{
			ID: j.newID("d"), Stamp: now, Kind: record.KindDecision, Incident: p.ID, Rule: c.Rule.Name, Key: c.Key,
			Action: a.id, Decision: &d.Record,
		}, nil)
		j.queueTelling(a)
	}
}

// outbox holds what was told and not delivered. It is on disk, too, so that a
// restart forgets none.
type outbox struct {
	waiting []store.Outbox
}

// Bounds of the outbox: a day of trying, ever less often.
const (
	outboxFirst = 15 * time.Second
	outboxMost  = 15 * time.Minute
	outboxAge   = 24 * time.Hour
	outboxSize  = 200
)

func (o *outbox) keep(j *judge, a *action, now record.Stamp) {
	if a.dry {
		return
	}
	entry := store.Outbox{ID: a.id, Action: a.dec.Info.Name, Born: now}
	if a.redo != nil {
		entry = *a.redo
		o.remove(entry.ID)
	}
	if now.Since(entry.Born) > outboxAge {
		entry.Attempts++
		o.giveUp(j, &entry, a.request.Rule, "it is a day old")
		return
	}
	text, err := json.Marshal(a.request)
	if err != nil || len(o.waiting) >= outboxSize {
		j.event("undelivered", "warning", "no room to keep what was not told of "+a.request.Rule, nil)
		return
	}
	wait := min(outboxFirst<<min(entry.Attempts, 10), outboxMost)
	entry.Attempts++
	entry.Request, entry.Next = text, later(now, wait)
	o.waiting = append(o.waiting, entry)
	j.cfg.Store.PutOutbox(entry, j.recorded("outbox"))
}

// giveUp forgets what cannot be told, and says so.
func (o *outbox) giveUp(j *judge, entry *store.Outbox, rule, why string) {
	o.remove(entry.ID)
	j.cfg.Store.RemoveOutbox(entry.ID, j.recorded("outbox"))
	j.event("undelivered", "warning", fmt.Sprintf("gave up telling of %s after %d attempts: %s", rule, entry.Attempts, why), nil)
}

func (o *outbox) remove(id string) {
	for i := range o.waiting {
		if o.waiting[i].ID == id {
			o.waiting = append(o.waiting[:i], o.waiting[i+1:]...)
			return
		}
	}
}

// turn tries again what is due: one at a time, each retry an action of its own.
func (o *outbox) turn(j *judge, now record.Stamp) {
	if len(j.telling) > 0 {
		return
	}
	for i := range o.waiting {
		entry := o.waiting[i]
		if entry.Next.BootID == now.BootID && !past(now, entry.Next) {
			continue
		}
		var req remediate.Request
		if err := json.Unmarshal(entry.Request, &req); err != nil {
			o.remove(entry.ID)
			j.cfg.Store.RemoveOutbox(entry.ID, j.recorded("outbox"))
			return
		}
		a := &action{id: j.newID("a"), incident: req.IncidentID, began: now, redo: &entry, request: &req}
		req.ActionID = a.id
		rule := &policy.Rule{Name: req.Rule, About: req.About}
		a.dec = policy.Decision{Rule: rule, Keys: []string{req.Key}, Info: j.policy.Actions[entry.Action], Step: &policy.Step{Action: entry.Action}}
		if a.dec.Info.Touches != policy.TouchesNothing {
			o.giveUp(j, &entry, req.Rule, "there is no action "+entry.Action+" any more that only tells")
			return
		}
		a.text.Line = req.Text
		a.dec.Record = record.Decision{
			Choice: record.ChoseAct, Why: fmt.Sprintf("attempt %d: it was not delivered before", entry.Attempts+1),
			Step: req.Step, Action: entry.Action, Touches: string(policy.TouchesNothing), RunnersUp: []record.Suspect{},
		}
		j.queueTelling(a)
		return
	}
}
