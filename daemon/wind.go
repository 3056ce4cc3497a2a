package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// windWait bounds the end: what an action answers to being cancelled, and a
// lease that is given back.
const windWait = 8 * time.Second

// wind ends what is under way when the daemon ends: each action has its result,
// the lease is given back, open incidents are closed.
func (d *Daemon) wind() {
	j := d.judge
	if !j.running {
		return
	}
	deadline := time.After(windWait)
	j.interrupt()
	for j.pending() {
		select {
		case f := <-d.inbox:
			f()
		case <-deadline:
			j.abandon()
		}
	}
	j.unmeasured()
	ctx, cancel := context.WithTimeout(d.life, windWait)
	defer cancel()
	j.lease.stop(ctx)
	now := j.cfg.Clock()
	for _, p := range j.book.endAll(now) {
		j.alerts.close(j, p, &record.State{End: record.EndStopped, Why: "tcpmemd stops; what still fires then is an incident of its own"}, now)
	}
	j.cfg.Store.SaveBudgets(j.engine.Memory(), j.recorded("budgets"))
	j.event("daemon-stopped", "info", "tcpmemd stopped", nil)
}

// interrupt calls off what runs, and forgets what only waits.
func (j *judge) interrupt() {
	j.stopping = true
	for i, a := range j.telling {
		if i > 0 || a.stage == intending { // the next run tells
			j.word(a)
			j.outbox.keep(j, a, j.cfg.Clock())
		}
	}
	j.telling = j.telling[:min(1, len(j.telling))]
	for _, a := range j.underWay() {
		switch {
		case a.cancel != nil:
			a.cancel()
		case a.stage == settling:
		default:
			j.finish(a, stopping())
		}
	}
}

func stopping() record.Result {
	return record.Result{Outcome: record.Interrupted, Code: "stopping", Message: "the daemon is stopping"}
}

// unmeasured ends what was done, for whose effect nobody waits any more.
func (j *judge) unmeasured() {
	if a := j.acting; a != nil && a.stage == settling {
		j.effect(a, record.Effect{Verdict: record.NotMeasured, Why: "the daemon is stopping"}, j.cfg.Clock())
	}
}

// underWay lists the actions that have an intent and no end.
func (j *judge) underWay() []*action {
	var list []*action
	if j.acting != nil {
		list = append(list, j.acting)
	}
	if len(j.telling) > 0 && j.telling[0].stage != over {
		list = append(list, j.telling[0])
	}
	return list
}

// pending: something still runs that will have a result.
func (j *judge) pending() bool {
	for _, a := range j.underWay() {
		if a.stage == runs || a.stage == planning {
			return true
		}
	}
	return j.lease.ending
}

// abandon gives what does not end its result.
func (j *judge) abandon() {
	for _, a := range j.underWay() {
		res := record.Result{Outcome: record.Interrupted, Code: "stopping", Message: "the daemon is stopping, and the action gave no answer"}
		if a.stage == runs && a.dec.Info.Lease && !a.dry {
			j.lease.ran(a, &res) // it may be raised
		}
		j.finish(a, res)
		if !a.touches() {
			j.outbox.keep(j, a, j.cfg.Clock()) // twice rather than never
		}
		a.stage = over
	}
	j.acting, j.telling, j.lease.ending = nil, nil, false
}

// stopped ends an incident that its daemon does not follow any more.
func stopped(in *record.Incident, now record.Stamp) {
	in.Ended, in.End = &now, record.EndStopped
	for i := range in.Keys {
		if k := &in.Keys[i]; k.Phase == record.Firing {
			k.Phase, k.Ended, k.End = record.Ended, &now, record.EndStopped
		}
	}
}

// closeOld closes what an earlier run left open, which was killed. What still
// fires will be an incident of its own.
func (j *judge) closeOld(now record.Stamp) {
	if j.cfg.Archive == nil {
		return
	}
	var old []string
	for _, in := range j.cfg.Archive.Incidents() {
		if in.Ended == nil {
			old = append(old, in.ID)
		}
	}
	if len(old) == 0 {
		return
	}
	j.apart(func() { // it reads the disk
		for _, id := range old {
			in, err := j.cfg.Archive.Incident(id)
			if err != nil {
				j.log.Warn("close incident of an earlier run", "incident", id, "err", err)
				continue
			}
			stopped(in, now)
			j.post(func() {
				j.cfg.Store.SaveIncident(in, j.recorded("incident"))
				j.alerts.close(j, &page{Incident: *in, heard: heard{alert: true}}, &record.State{
					End: record.EndStopped, Why: "tcpmemd was ended and did not see it end; what still fires is an incident of its own",
				}, now)
			})
		}
	})
}

// maxSockets is how many sockets of a target are kept: the biggest.
const maxSockets = 20_000

// ownersSockets lists the sockets of an owner, the biggest first.
func (d *Daemon) ownersSockets(ctx context.Context, owner string) (list []reading.Socket, leftOut int64, err error) {
	top := biggest{room: maxSockets}
	derr := d.reader.do(ctx, func() {
		err = d.reader.host.Sockets(ctx, func(s *reading.Socket) bool { return s.Owner == owner }, func(s *reading.Socket) error {
			top.add(s)
			return ctx.Err()
		})
	})
	return top.sorted(), top.left, errors.Join(derr, err)
}
