package daemon

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/daemon/store/incident"
)

// What TestProperty has found, each by the least that shows it.

// scripted has a daemon live in a world where nothing happens but what the test
// does: one service that holds most, one rule with one step that is due at once.
func scripted(t *testing.T, action string, do func(w *world, l *life)) (log []record.Record) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1)
		w.calmed, w.verdict, w.bad, w.owners = true, nil, runnerHabits{}, w.owners[len(w.owners)-1:]
		o := w.add("unit-a")
		o.heal()
		w.spawn(o, time.Minute)
		w.set(o, 1<<20, 0)
		r := &policy.Rule{
			Name: "rule-0", Mode: policy.Enforce, ForEach: policy.Host, TargetTop: true, Hash: "hash", Cooldown: time.Hour,
			When:   w.compile("tcp.fill > 0.2", policy.Host),
			Budget: policy.Budget{Count: 3, Per: time.Hour},
			Steps:  []policy.Step{{Action: action, Settings: []byte(`{"duration":"1h"}`), Budget: policy.Budget{Count: 3, Per: time.Hour}}},
		}
		w.rules[r.Hash] = &ruleSpec{Rule: r, holds: func(m *moment) bool { return m.fill > 0.2 }, samples: true}
		law := &lawSpec{opted: make(map[string]bool)}
		law.Rules, law.Mode, law.MinCoverage = []*policy.Rule{r}, policy.Enforce, 0.5
		law.HostBudget = policy.Budget{Count: 3, Per: time.Hour}
		law.Sample, law.Pressed, law.Calm = time.Second, 2*time.Second, 4*time.Second
		law.Actions = make(map[string]policy.ActionInfo)
		for name, info := range propertyActions {
			info.Name = name
			law.Actions[name] = info
		}
		l := w.begin(law)
		do(w, l)
		l.end()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.judgeEnd()
		if len(w.wrong) > 0 {
			t.Error(w.wrong)
		}
		log = w.kept.log
	})
	return log
}

// change changes the world.
func (w *world) change(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func outcomes(log []record.Record) (list []string) {
	for i := range log {
		switch r := &log[i]; r.Kind {
		case record.KindResult:
			list = append(list, string(r.Result.Outcome)+" "+r.Result.Code)
		case record.KindEffect:
			list = append(list, string(r.Effect.Verdict))
		}
	}
	return list
}

func wantOutcomes(t *testing.T, log []record.Record, want ...string) {
	t.Helper()
	if got := outcomes(log); !slices.Equal(got, want) {
		t.Errorf("results and effects %q, want %q", got, want)
	}
}

// A plan of a lease may take a while: all is looked at again after it.
func TestLeaseIsCheckedAfterItsPlan(t *testing.T) {
	log := scripted(t, "raise-tcp-mem", func(w *world, _ *life) {
		w.change(func() { w.bad.takes = 30 * time.Second })
		time.Sleep(10 * time.Second)
		w.change(func() { w.verdict = &reading.Verdict{Kind: reading.Leak} })
		time.Sleep(time.Minute)
	})
	wantOutcomes(t, log, "refused leak")
}

// What was done is measured, or it is said that it was not.
func TestStoppedBeforeTheEffect(t *testing.T) {
	log := scripted(t, "restart-unit", func(*world, *life) { time.Sleep(3 * time.Second) })
	wantOutcomes(t, log, "done ", "not-measured")
}

// A lease that waits for the disk when the daemon stops is not taken any more,
// and has its result.
func TestStoppedWhileLending(t *testing.T) {
	log := scripted(t, "raise-tcp-mem", func(w *world, l *life) {
		w.change(func() { w.bad.takes = 500 * time.Millisecond })
		time.Sleep(400 * time.Millisecond)
		l.store.mu.Lock()
		l.store.takes = 1500 * time.Millisecond
		l.store.mu.Unlock()
		time.Sleep(600 * time.Millisecond)
	})
	wantOutcomes(t, log, "interrupted stopping")
}

// After a suspend the last sample is old, though nobody counted the time.
func TestSampleOfBeforeASuspend(t *testing.T) {
	scripted(t, "trim", func(w *world, l *life) {
		time.Sleep(100 * time.Millisecond)
		_ = l.d.inLoop(context.Background(), func() {
			w.change(func() { w.slept += time.Hour; w.sleptEver += time.Hour })
			in := l.d.judge.input(l.d.cfg.Clock(), false)
			if in.Facts.Level != reading.Unknown {
				t.Errorf("level %s by a sample of an hour ago", in.Facts.Level)
			}
		})
	})
}

// What an action spends is durable before it starts: a budget that could not be
// kept is no budget after a restart.
func TestBudgetIsKeptFirst(t *testing.T) {
	log := scripted(t, "trim", func(_ *world, l *life) {
		l.store.mu.Lock()
		l.store.fails[laneSmall] = true
		l.store.mu.Unlock()
		time.Sleep(10 * time.Second)
		l.store.good()
	})
	wantOutcomes(t, log, "refused "+policy.Unrecorded)
}

// What waited to be told when the daemon stopped is told by the next.
func TestStoppedBeforeTelling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := newJudge(&Config{Log: slog.New(slog.DiscardHandler), Clock: func() record.Stamp { return record.Stamp{} }}, &Snapshot{}, record.Stamp{})
		kept := &outboxOnly{}
		j.cfg.Store = kept
		for _, stage := range []stage{intending, intending} {
			a := &action{id: j.newID("a"), stage: stage, dec: policy.Decision{Rule: &policy.Rule{}, Keys: []string{"host"}}}
			a.dec.Info.Touches = policy.TouchesNothing
			j.telling = append(j.telling, a)
		}
		j.cfg.Say = func(event.Text) {}
		j.interrupt()
		if len(kept.ids) != 2 {
			t.Errorf("%d are kept, want both", len(kept.ids))
		}
	})
}

// What has no room in the queue is told later.
func TestManyTellings(t *testing.T) {
	kept := &outboxOnly{}
	j := newJudge(&Config{Log: slog.New(slog.DiscardHandler), Clock: func() record.Stamp { return record.Stamp{} }, Store: kept}, &Snapshot{}, record.Stamp{})
	for range maxTelling + 4 {
		a := &action{id: j.newID("a"), text: event.Text{Line: "text"}, dec: policy.Decision{Rule: &policy.Rule{}, Keys: []string{"host"}}}
		j.telling = append(j.telling, a)
		if len(j.telling) > 1 {
			j.telling = j.telling[:len(j.telling)-1]
			j.queueTelling(a)
		}
	}
	if len(j.telling) != maxTelling+1 || len(kept.ids) != 3 {
		t.Errorf("%d wait and %d are kept, want %d and 3", len(j.telling), len(kept.ids), maxTelling+1)
	}
}

type outboxOnly struct {
	unrecorded
	ids []string
}

func (o *outboxOnly) PutOutbox(e store.Outbox, _ func(error)) { o.ids = append(o.ids, e.ID) }

// One lease at a time, whatever plan an action makes.
func TestLeaseUponLease(t *testing.T) {
	j := &judge{apart: func(f func()) { f() }}
	j.lease = newLease(j)
	j.lease.held = &store.Lease{ActionID: "a1"}
	text := []byte(`{"base":{"min":1,"pressure":2,"max":3},"raised":{"min":2,"pressure":3,"max":4}}`)
	var got error
	j.lease.take(&action{id: "a2", plan: text}, func(err error) { got = err })
	if got == nil || j.lease.held.ActionID != "a1" {
		t.Errorf("error %v, and the lease is %s's", got, j.lease.held.ActionID)
	}
}

// An incident of a daemon that was killed has its end from the next one.
func TestIncidentOfAKilledDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := record.Stamp{BootID: "boot", BootSeconds: 7}
		kept := &incidentsOnly{left: record.Incident{ID: "i1", Keys: []record.KeyState{{Key: "host", Phase: record.Firing}}}}
		var said []event.Text
		say := func(t event.Text) { said = append(said, t) }
		j := newJudge(&Config{Log: slog.New(slog.DiscardHandler), Store: kept, Archive: kept, Say: say, Clock: func() record.Stamp { return at }}, &Snapshot{}, at)
		j.apart, j.post = func(f func()) { f() }, func(f func()) { f() }
		j.closeOld(at)
		if in := kept.saved; in == nil || in.Ended == nil || *in.Ended != at || in.End != record.EndStopped || in.Keys[0].Phase != record.Ended {
			t.Errorf("kept %+v, want it ended", in)
		}
		if len(said) != 1 || said[0].Event != event.RuleEnded || said[0].Severity != event.Warning {
			t.Errorf("said %+v, want its end", said)
		}
	})
}

type incidentsOnly struct {
	unrecorded
	archive
	left  record.Incident
	saved *record.Incident
}

func (o *incidentsOnly) Incidents() []incident.Summary {
	ended := record.Stamp{}
	return []incident.Summary{{ID: "i0", Ended: &ended}, incident.Summarize(&o.left)}
}
func (o *incidentsOnly) Incident(string) (*record.Incident, error)      { return &o.left, nil }
func (o *incidentsOnly) SaveIncident(i *record.Incident, _ func(error)) { o.saved = i }
