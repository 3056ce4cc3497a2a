package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// alone is a judge without a loop, and what it had stored.
func alone() (*judge, *outboxed) {
	kept := &outboxed{}
	at := record.Stamp{BootID: "boot", BootSeconds: 1000}
	cfg := Config{
		Log: slog.New(slog.DiscardHandler), Store: kept, Clock: func() record.Stamp { return at },
		Say: func(event.Text) {}, Stop: func() string { return "" }, Runner: idle{},
	}
	cfg.Policy.Actions = map[string]policy.ActionInfo{"notify": {Name: "notify", Touches: policy.TouchesNothing}}
	j := newJudge(&cfg, &Snapshot{}, at)
	j.post = func(func()) {}
	return j, kept
}

type outboxed struct {
	unrecorded
	put, removed []string
	events       []string
}

func (o *outboxed) PutOutbox(e store.Outbox, _ func(error)) { o.put = append(o.put, e.ID) }
func (o *outboxed) RemoveOutbox(id string, _ func(error))   { o.removed = append(o.removed, id) }
func (o *outboxed) Append(rec record.Record, done func(error)) {
	if rec.Event != nil {
		o.events = append(o.events, rec.Event.ID)
	}
	o.unrecorded.Append(rec, done)
}

func telling1(j *judge, redo *store.Outbox) *action {
	a := &action{
		id: j.newID("a"), stage: runs, redo: redo, request: &remediate.Request{Rule: "leak"}, text: event.Text{Line: "text"},
		dec: policy.Decision{Rule: &policy.Rule{Name: "leak"}, Keys: []string{"host"}, Info: j.policy.Actions["notify"]},
	}
	j.telling = append(j.telling, a)
	return a
}

// What is refused again is not tried each second for ever.
func TestRefusedRetryIsGivenUp(t *testing.T) {
	j, kept := alone()
	entry := store.Outbox{ID: "a1", Action: "notify", Attempts: 2}
	j.outbox.waiting = []store.Outbox{entry}
	j.told(telling1(j, &entry), record.Result{Outcome: record.Refused, Message: "the checksum is wrong"}, nil)
	if len(j.outbox.waiting) != 0 || !slices.Equal(kept.removed, []string{"a1"}) || !slices.Contains(kept.events, "undelivered") {
		t.Errorf("%d wait, removed %q, events %q", len(j.outbox.waiting), kept.removed, kept.events)
	}
}

// What its plugin cannot tell any more leaves the disk, too, and somebody learns
// of it.
func TestRetryWithoutPlugin(t *testing.T) {
	j, kept := alone()
	j.outbox.waiting = []store.Outbox{{ID: "a1", Action: "pager", Request: []byte(`{"Rule":"leak"}`)}}
	j.outbox.turn(j, j.cfg.Clock())
	if len(j.outbox.waiting) != 0 || !slices.Equal(kept.removed, []string{"a1"}) || !slices.Contains(kept.events, "undelivered") {
		t.Errorf("%d wait, removed %q, events %q", len(j.outbox.waiting), kept.removed, kept.events)
	}
}

// A dry run of a telling tells nobody, now or later.
func TestDryTelling(t *testing.T) {
	j, kept := alone()
	a := telling1(j, nil)
	a.request, a.dry = nil, true
	j.word(a)
	if !a.request.DryRun {
		t.Error("it is told in earnest")
	}
	j.told(a, record.Result{Outcome: record.DryRun}, nil)
	if len(kept.put) != 0 {
		t.Error("it is told again later")
	}
}

// A plugin that does not end when the daemon does may have told nobody.
func TestAbandonedTellingIsKept(t *testing.T) {
	j, kept := alone()
	a := telling1(j, nil)
	j.abandon()
	if !slices.Equal(kept.put, []string{a.id}) {
		t.Errorf("kept %q, want %s", kept.put, a.id)
	}
}

// Nothing is begun by hand once the daemon ends: nobody would wait for it.
func TestByHandAtTheEnd(t *testing.T) {
	j, _ := alone()
	j.stopping = true
	if _, err := j.byHand(api.ActRequest{Incident: "i1"}, record.Caller{}); !errors.Is(err, errStopping) {
		t.Errorf("error %v, want %v", err, errStopping)
	}
}

// A lease that is being given back when the daemon ends is waited for, not given
// back twice at once.
func TestEndOfALeaseIsWaitedFor(t *testing.T) {
	j, _ := alone()
	j.lease.ending = true
	if !j.pending() {
		t.Error("nothing is waited for")
	}
	if j.abandon(); j.pending() {
		t.Error("it is waited for without end")
	}
}

// An action gets no sockets of which only a control group or a namespace says
// whose they are; one that ends connections none that it may not act on.
func TestSocketsOfWeakEvidence(t *testing.T) {
	var all []reading.Socket
	for e := range reading.NumEvidence {
		all = append(all, reading.Socket{Cookie: reading.Cookie(e), Evidence: e})
	}
	for name, tc := range map[string]struct {
		info policy.ActionInfo
		want []reading.Evidence
	}{
		"restart": {policy.ActionInfo{Evidence: []string{"fd"}}, []reading.Evidence{reading.FD, reading.Listener, reading.ClosedBy, reading.LastSeen}},
		"destroy": {policy.ActionInfo{Evidence: []string{"fd", "closed-by", "last-seen"}, Connections: true}, []reading.Evidence{reading.FD, reading.ClosedBy, reading.LastSeen}},
		"silent":  {policy.ActionInfo{Connections: true}, []reading.Evidence{reading.FD}},
	} {
		var got []reading.Evidence
		for _, s := range socketsOf(all, &tc.info) {
			got = append(got, reading.Evidence(s.Cookie))
		}
		got = slices.DeleteFunc(got, func(e reading.Evidence) bool { return e == 0 })
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

// Nobody is told of an address that is not known: a hidden socket has none.
func TestHiddenSocketHasNoAddress(t *testing.T) {
	s := reading.Socket{Class: reading.Hidden, Evidence: reading.FD}
	if got := socketsOf([]reading.Socket{s}, &policy.ActionInfo{})[0]; got.Local != "" || got.Remote != "" {
		t.Errorf("an action is told %q and %q", got.Local, got.Remote)
	}
	if got := lineOf(&s); got.Local != nil || got.Remote != nil {
		t.Errorf("the record says %q and %q", *got.Local, *got.Remote)
	}
	s.Local = netip.MustParseAddrPort("10.0.0.1:80")
	if got := lineOf(&s); got.Local == nil || *got.Local != "10.0.0.1:80" || got.Remote != nil {
		t.Errorf("%+v", got)
	}
}

// A raise that a leak eats is no help, whatever the level.
func TestRaiseForALeakIsNoHelp(t *testing.T) {
	j, _ := alone()
	j.now.Level.Level = reading.Calm
	j.now.Reading = &reading.Reading{}
	a := &action{id: "a1", stage: settling, dec: policy.Decision{
		Rule: &policy.Rule{}, Keys: []string{"host"}, Info: policy.ActionInfo{Lease: true, Touches: policy.TouchesHost}, Step: &policy.Step{},
	}}
	a.ran = record.Stamp{BootID: "boot", BootSeconds: 980}
	j.began = record.Stamp{BootID: "boot", BootSeconds: 990}
	j.acting = a
	j.now.Trend.Verdict = &reading.Verdict{Kind: reading.Leak}
	var said []event.Text
	j.cfg.Say = func(t event.Text) { said = append(said, t) }
	j.measure(j.cfg.Clock())
	if want := (event.Field{Name: "EFFECT", Value: "no-effect"}); len(said) != 1 || !slices.Contains(said[0].Fields, want) {
		t.Errorf("said %+v, want %v", said, want)
	}
}

// The points of an incident of weeks are spread over all of it.
func TestPointsOfALongIncident(t *testing.T) {
	p := &page{stride: 1}
	const weeks = 14 * 24 * 3600
	writes := 0
	for s := range weeks {
		at := record.Point{Stamp: record.Stamp{BootSeconds: float64(s)}, Used: 1}
		if s%5 == 0 {
			at.Owners = []record.OwnerBytes{}
		}
		p.changed = false
		if p.point(at); p.changed {
			writes++
		}
	}
	first, middle := p.Readings[0], p.Readings[len(p.Readings)/2]
	if first.BootSeconds > weeks/100 || middle.BootSeconds < weeks/4 || middle.BootSeconds > 3*weeks/4 {
		t.Errorf("%d points, the first after %.0f s, the middle one after %.0f s of %d", len(p.Readings), first.BootSeconds, middle.BootSeconds, weeks)
	}
	if writes > 20_000 {
		t.Errorf("%d writes in two weeks", writes)
	}
}

// An incident can be read far from its host: it has its name and its page size,
// and what the kernel did to connections meanwhile.
func TestIncidentKnowsItsHost(t *testing.T) {
	b := newBook("n1", func(string) string { return "i-1" }, func(*record.Incident) {})
	s := &Snapshot{Sample: reading.Sample{PageSize: 16384, Used: 7, Kernel: reading.Counters{AbortOnMemory: new(int64(3))}}}
	b.point(s, record.Stamp{BootID: "boot", BootSeconds: 1}, nil)
	*s.Sample.Kernel.AbortOnMemory = 9
	p, opened, _ := b.change(&policy.Change{
		Rule: &policy.Rule{Name: "leak"}, Key: "host", State: record.State{Phase: record.Firing, Since: record.Stamp{BootID: "boot", BootSeconds: 1}},
	}, record.Stamp{BootID: "boot", BootSeconds: 2})
	b.point(s, record.Stamp{BootID: "boot", BootSeconds: 3}, nil)
	if !opened || p.Hostname != "n1" || p.PageSize != 16384 {
		t.Fatalf("opened %v: host %q, page size %d", opened, p.Hostname, p.PageSize)
	}
	if len(p.Readings) != 2 || *p.Readings[0].Aborts != 3 || *p.Readings[1].Aborts != 9 {
		t.Errorf("aborts: %v", p.Readings)
	}
}

// Of two reloads the one that read the files last has the say.
func TestReloadsTakeTurns(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		wait := 10 * time.Second
		texts := []string{"old", "new"}
		r.d.cfg.Load = func(context.Context) (Policy, error) {
			p := Policy{Text: texts[0]}
			texts = texts[1:]
			mine := wait
			wait = 0
			time.Sleep(mine)
			return p, nil
		}
		go func() { _ = r.d.Reload(t.Context()) }()
		synctest.Wait()
		_ = r.d.Reload(t.Context())
		r.after(time.Minute)
		if got := r.d.judge.policy.Text; got != "new" {
			t.Errorf("the policy in force is the %s one", got)
		}
	})
}

// All who were told of an incident learn of its end, also where the key that
// ends it is not the one that they were told of.
func TestEndIsToldToAllWhoWereTold(t *testing.T) {
	j, kept := alone()
	rule := &policy.Rule{Name: "leak", When: new(policy.Condition), Steps: []policy.Step{
		{Action: "notify"}, {Action: "restart-unit"}, {Action: "notify", Settings: []byte(`{"command":"page"}`)}, {Action: "notify"},
	}}
	change := func(key string, phase record.Phase, told ...int) {
		j.changed(&policy.Change{Rule: rule, Key: key, State: record.State{Phase: phase}, Told: told}, j.cfg.Clock())
	}
	change("a", record.Firing)
	change("b", record.Firing)
	change("a", record.Ended, 1, 3, 4)
	if len(j.telling) != 0 {
		t.Error("its end is told while it goes on")
	}
	change("b", record.Ended)
	var steps []string
	for _, a := range j.telling {
		steps = append(steps, a.dec.Step.Action+string(a.dec.Step.Settings))
	}
	if want := []string{"notify", `notify{"command":"page"}`}; !slices.Equal(steps, want) {
		t.Errorf("the end is told by %q, want %q (kept %q)", steps, want, kept.put)
	}
}

// An incident of many keys, which come and go, goes on for as long as one fires.
func TestIncidentOfManyKeys(t *testing.T) {
	j, _ := alone()
	rule := &policy.Rule{Name: "leak", When: new(policy.Condition)}
	change := func(key int, phase record.Phase) {
		j.changed(&policy.Change{Rule: rule, Key: fmt.Sprint(key), State: record.State{Phase: phase}}, j.cfg.Clock())
	}
	for key := range maxKeys + 5 {
		change(key, record.Firing)
	}
	for key := range maxKeys + 4 {
		change(key, record.Ended)
	}
	p := j.book.open["leak"]
	if p == nil {
		t.Fatal("it is over while a key fires")
	}
	change(1000, record.Firing)
	if len(p.Keys) != maxKeys || p.key("1000") == nil || p.LeftOut.Keys != 6 {
		t.Errorf("%d keys, %d left out, the new one is %v", len(p.Keys), p.LeftOut.Keys, p.key("1000"))
	}
	change(1000, record.Ended)
	change(maxKeys+4, record.Ended)
	if j.book.open["leak"] != nil {
		t.Error("it goes on for ever")
	}
}

// What takes the daemon's hands away at its start is an event, and a stop is
// told apart from a pause.
func TestToldWhatStandsAgainstActing(t *testing.T) {
	j, kept := alone()
	j.policy.Broken = []string{"x.toml:3: no such key"}
	j.cfg.Memory.Distrusted = &j.started
	j.apart = func(func()) {}
	stop := PauseState{Why: "the file is there"}
	j.cfg.Paused = func() PauseState { return stop }
	j.start()
	j.pause.look(j, j.started)
	end := later(j.started, time.Hour)
	stop.Until = &end
	j.pause.look(j, j.started)
	stop = PauseState{}
	j.pause.look(j, j.started)
	want := []string{"daemon-started", "policy-broken", "budgets-lost", "emergency-stop", "paused", "resumed"}
	if !slices.Equal(kept.events, want) {
		t.Errorf("events %q, want %q", kept.events, want)
	}
	for _, id := range append(want, "blind-sample") {
		if event.KindOf(id).ID != id {
			t.Errorf("the catalogue has no %s", id)
		}
	}
}

// Counters that cannot be read are an event, with an end.
func TestBlindSample(t *testing.T) {
	run(t, func(t *testing.T, r *running) {
		r.after(10 * time.Second)
		r.tell(func() { r.failing = errors.New("boom") })
		r.after(10 * time.Second)
		if _, on := r.d.judge.blind.open["blind-sample"]; !on {
			t.Error("it is not said")
		}
		r.tell(func() { r.failing = nil })
		r.after(2 * time.Second)
		if _, on := r.d.judge.blind.open["blind-sample"]; on {
			t.Error("it has no end")
		}
	})
}
