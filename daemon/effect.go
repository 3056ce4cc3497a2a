package daemon

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// measureNow takes what an effect will be compared with.
func (j *judge) measureNow(target *policy.Target) measure {
	s := &j.now.Sample
	m := measure{
		level: j.now.Level.Level, pool: s.Used.Bytes(s.PageSize), aborts: s.Kernel.AbortOnMemory,
		bound: s.ReserveMax.Bytes(s.PageSize),
	}
	if target != nil && target.Owner != nil {
		bytes := target.Owner.Sum.Bytes
		m.target = &bytes
	}
	return m
}

// measure judges the effect of the action that waits for it, once a full
// reading began late enough after it.
func (j *judge) measure(now record.Stamp) {
	a := j.acting
	if a == nil || a.stage != settling {
		return
	}
	if now.Since(a.ran) >= effectWait+effectAfter {
		j.effect(a, record.Effect{Verdict: record.NotMeasured, Why: "there was no full reading in time"}, now)
		return
	}
	if j.began.Since(a.ran) < effectAfter || j.now.Reading.Partial {
		j.wantScan()
		return
	}
	after := j.measureNow(nil)
	if a.before.target != nil {
		var bytes int64 // who is gone holds nothing
		if o := ownerOf(j.now.Reading, a.dec.Owner.Key); o != nil {
			bytes = o.Sum.Bytes
		}
		after.target = &bytes
	}
	e := judgeEffect(a.before, after, a.predicts)
	if v := j.now.Trend.Verdict; a.dec.Info.Lease && e.Verdict != record.Worse && v != nil && v.Kind == reading.Leak {
		e.Verdict, e.Why = record.NoEffect, "the memory leaks: a raise of the limits is no help"
	}
	e.AfterSeconds = now.Since(a.ran).Seconds()
	j.effect(a, e, now)
}

// judgeEffect says whether an action helped: the target's bytes fell by at
// least twice the reserve's bound and half of what was predicted, and the pool
// by more than the bound.
func judgeEffect(before, after measure, predicted map[string]int64) record.Effect {
	e := record.Effect{
		TargetBefore: before.target, TargetAfter: after.target, PoolBefore: &before.pool, PoolAfter: &after.pool, Bound: before.bound,
	}
	aborts := before.aborts != nil && after.aborts != nil && *after.aborts > *before.aborts
	pool := before.pool - after.pool
	if before.target == nil {
		switch {
		case aborts:
			e.Verdict, e.Why = record.Worse, "connections are still aborted for lack of memory"
		case before.level <= reading.Elevated:
			e.Verdict, e.Why = record.NotMeasured, "the host was "+before.level.String()+" before: nothing tells whether it helped"
		case after.level <= reading.Elevated && after.level != reading.Unknown:
			e.Verdict, e.Why = record.Helped, "the host is "+after.level.String()
		default:
			e.Verdict, e.Why = record.NoEffect, "the host is still at level "+after.level.String()
		}
		return e
	}
	least := 2 * before.bound
	if len(predicted) > 0 {
		var sum int64
		for _, n := range predicted {
			sum += n
		}
		e.Predicted = &sum
		least = max(least, sum/2)
	}
	fell := *before.target - *after.target
	switch {
	case fell >= least && pool > before.bound:
		e.Verdict = record.Helped
	case fell < least && (pool < -before.bound || aborts):
		e.Verdict = record.Worse
	default:
		e.Verdict = record.NoEffect
	}
	e.Why = fmt.Sprintf("the target's memory fell by %d bytes of at least %d, the pool by %d of more than %d", fell, least, pool, before.bound)
	return e
}

func (j *judge) effect(a *action, e record.Effect, now record.Stamp) {
	rec := record.Record{
		ID: j.newID("r"), Stamp: now, Kind: record.KindEffect, Incident: a.incident, Rule: a.dec.Rule.Name, Key: a.dec.Key(),
		Action: a.id, Effect: &e,
	}
	j.append(&rec, nil)
	j.counts.effect(a.dec.Record.Action, e.Verdict)
	j.say(&rec, &a.dec.Record)
	j.engine.Measured(&a.dec, e.Verdict, now)
	j.free(a)
}
