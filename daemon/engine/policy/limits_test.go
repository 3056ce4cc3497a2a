package policy

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// What is kept of a moment keeps no reading: one of 5,000 owners for each key
// that waits would take the memory of the host.
func TestKeepsNoReading(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.owners = []reading.Owner{leaker("queue.service", 5000), leaker("other.service", 4000)}
	h.turns(30 * time.Second)
	acted := weak.Make(&h.in.Facts.Reading.Owners[0])
	h.cover = 0.1
	h.turn() // one is acted on, the other waits for better coverage
	waited := weak.Make(&h.in.Facts.Reading.Owners[0])
	h.owners[1].Sum.Bytes = 700 << 10
	h.turn() // and now its condition does not hold
	quiet := weak.Make(&h.in.Facts.Reading.Owners[0])
	h.turns(4 * step)
	h.last()
	runtime.GC()
	if acted.Value() != nil || waited.Value() != nil || quiet.Value() != nil {
		t.Error("a reading is kept by what waits, or by a decision")
	}
	runtime.KeepAlive(h)
}

// A condition that holds for everybody is followed for the biggest; one that
// grows past them is never left out.
func TestManyKeys(t *testing.T) {
	h := newHost(t, rule(t))
	for i := range maxKeys + 50 {
		h.owners = append(h.owners, leaker(fmt.Sprintf("%d.service", i), 5000-int64(i)))
	}
	h.turn()
	if n := len(h.log); n != maxKeys {
		t.Errorf("%d keys pend, want the %d biggest", n, maxKeys)
	}
	h.log = nil
	h.owners = slices.Insert(h.owners, 0, leaker("new.service", 9000))
	h.turn()
	h.want("system/new.service pending")
}

// Who makes many processes must not be able to have all budgets called spent.
func TestManyAlertsSpendNothing(t *testing.T) {
	h := newHost(t, rule(t))
	for i := range maxTold + 1 {
		note(&h.engine.mem.Told, "leak", fmt.Sprint(i), h.now)
	}
	h.turn()
	if n := h.engine.mem.left("host", DefaultHostBudget, h.now); n != DefaultHostBudget.Count {
		t.Errorf("%d are left of the host's budget, want all", n)
	}
	if n := len(h.engine.mem.Told); n > maxTold {
		t.Errorf("%d alerts are remembered", n)
	}
}

// Exhausted is told once per cooldown, not once for ever.
func TestExhaustedAgain(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(30 * time.Second)
	h.done(record.NoEffect)
	h.log = nil
	h.turn()
	h.want("system/queue.service step 1  nothing")
	h.turns(15 * time.Minute)
	h.want("system/queue.service step 1  nothing")
}

// A later step that tells, of the same action, is another alert.
func TestTellsAtEachStep(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = []Step{{Action: "notify"}, {Action: "notify", After: step}} }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(20 * time.Second)
	h.done("")
	h.log = nil
	h.turn()
	h.want("system/queue.service step 2 notify act")
	h.done("")
	h.owners[0].Sum.Bytes = 1 << 10
	if out := h.turn(); len(out.Changes) != 1 || !slices.Equal(out.Changes[0].Told, []int{1, 2}) {
		t.Errorf("changes %+v, want the end, told of by both steps", out.Changes)
	}
}

// What holds a step for long is no part of the time that it waits for a scan.
func TestHeldThenStale(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.in.Started = h.now
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(2*time.Minute - step)
	h.cover = 0.1
	h.log = nil
	h.turns(2 * step)
	h.cover = 1
	h.turn()
	h.want("system/queue.service step 1 restart-unit waiting coverage", "system/queue.service step 1 restart-unit act")
}

// A step that only time lets go wants no scans meanwhile.
func TestHeldWantsNoReading(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.in.Started = h.now
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(30 * time.Second)
	h.in.Overtaken = true
	if out := h.turn(); out.WantReading {
		t.Error("a scan is wanted by a step that is held")
	}
	if !strings.HasSuffix(h.log[len(h.log)-1], "waiting settle") {
		t.Errorf("log %q", h.log)
	}
}

// Nobody is acted on by a reading of before the last action's end.
func TestOvertaken(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.in.Overtaken = true
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(30 * time.Second)
	h.want("system/queue.service pending", "system/queue.service firing", "system/queue.service step 1 restart-unit waiting stale")
}

// Right before acting it is the step as it is now that counts: a reload may have
// protected more.
func TestRecheckTakesTheStepOfNow(t *testing.T) {
	h := newHost(t, rule(t, func(r *Rule) { r.Steps = r.Steps[1:] }))
	h.owners = []reading.Owner{leaker("queue.service", 5000)}
	h.turns(30 * time.Second)
	d := h.last()
	h.cfg.Rules = []*Rule{rule(t, func(r *Rule) { r.Steps = r.Steps[1:]; r.Steps[0].Settings = []byte(`{"protect":["more"]}`) })}
	h.engine.Reload(h.cfg, h.now)
	h.turn()
	in := h.in
	in.Now = h.now
	if _, guard, why := h.engine.Recheck(d, &in); guard != "" || string(d.Step.Settings) != `{"protect":["more"]}` {
		t.Errorf("refused by %q (%s), settings %s", guard, why, d.Step.Settings)
	}
}
