package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// inLoop runs f in the loop and waits for it, or for the end of ctx.
func (d *Daemon) inLoop(ctx context.Context, f func()) error {
	done := make(chan struct{})
	select {
	case d.inbox <- func() { defer close(done); f() }:
		<-done // the loop does not wait in what it runs
		return nil
	case <-d.ended:
		return errStopping
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// refuse is an answer to a request that cannot be done as it is.
func refuse(format string, args ...any) error {
	return &api.RequestError{Status: http.StatusConflict, Message: fmt.Sprintf(format, args...)}
}

// Act decides a step that a person asks for, and begins it. The condition is
// asked of a reading that began after the request.
func (s *source) Act(ctx context.Context, r api.ActRequest, by record.Caller) (acted *api.Acted, err error) {
	if _, err := s.Read(ctx, true); err != nil {
		return nil, err
	}
	if lerr := s.d.inLoop(ctx, func() { acted, err = s.d.judge.byHand(r, by) }); lerr != nil {
		return nil, lerr
	}
	return acted, err
}

// byHand decides a step that a person asks for.
func (j *judge) byHand(r api.ActRequest, by record.Caller) (*api.Acted, error) {
	if j.stopping {
		return nil, errStopping
	}
	now := j.cfg.Clock()
	p := j.book.find(r.Incident)
	if p == nil {
		return nil, refuse("no open incident is called %q", r.Incident)
	}
	in := j.input(now, false)
	key := r.Key
	if key == "" {
		for _, k := range p.Keys {
			if k.Phase == record.Firing {
				key = k.Key
				break
			}
		}
	}
	if r.Step == 0 {
		r.Step = j.nextStep(p.Rule, key, &in)
	}
	d, err := j.engine.ByHand(p.Rule, key, r.Step, by, &in)
	if err != nil {
		return nil, refuse("%v", err)
	}
	acted := &api.Acted{Version: api.Version, Incident: p.ID, Rule: p.Rule, Key: key, Decision: d.Record}
	if r.Preview {
		return acted, nil
	}
	rec := record.Record{
		ID: j.newID("d"), Stamp: now, Kind: record.KindDecision, Incident: p.ID, Rule: p.Rule, Key: key, Decision: &d.Record,
	}
	acted.Record = rec.ID
	if d.Record.Choice != record.ChoseAct {
		j.append(&rec, nil)
		j.say(&rec, nil)
		return acted, nil
	}
	if r.DryRun {
		d.Budget = nil // it is paid from none, nor is it if the daemon ends meanwhile
	}
	a := &action{id: j.newID("a"), dec: d, incident: p.ID, began: now, dry: r.DryRun}
	rec.Action, acted.Action = a.id, a.id
	acted.DeadlineSeconds = (intentWait + listWait + freshWait + runWait).Seconds()
	j.append(&rec, nil)
	j.begin(a)
	return acted, nil
}

// nextStep is the one that a key would come to, the first that touches
// something where that only tells.
func (j *judge) nextStep(rule, key string, in *policy.Input) int {
	for _, st := range j.engine.Status(in) {
		if st.Rule.Name != rule {
			continue
		}
		next := 1
		for _, k := range st.Keys {
			if k.Key == key {
				next = k.Step
			}
		}
		for i := next - 1; i < len(st.Rule.Steps); i++ {
			if j.policy.Actions[st.Rule.Steps[i].Action].Touches != policy.TouchesNothing {
				return i + 1
			}
		}
		return min(next, len(st.Rule.Steps))
	}
	return 1
}

// Pause touches nothing for a while.
func (s *source) Pause(ctx context.Context, d time.Duration, why string, by record.Caller) (p *api.Pause, err error) {
	now := s.d.cfg.Clock()
	until := later(now, d)
	state := PauseState{Why: why, Since: now, Until: &until, By: &by}
	if s.d.cfg.SetPause == nil {
		return nil, refuse("this daemon has no place for a pause file")
	}
	if err := s.d.cfg.SetPause(state); err != nil {
		return nil, err
	}
	err = s.d.inLoop(ctx, func() { s.d.judge.pause.look(s.d.judge, s.d.cfg.Clock()) })
	return pauseOf(state), err
}

// Resume ends a pause, also one that a file made by hand.
func (s *source) Resume(ctx context.Context, _ record.Caller) error {
	if s.d.cfg.SetPause == nil {
		return nil
	}
	if err := s.d.cfg.SetPause(PauseState{}); err != nil {
		return err
	}
	return s.d.inLoop(ctx, func() { s.d.judge.pause.look(s.d.judge, s.d.cfg.Clock()) })
}

func pauseOf(p PauseState) *api.Pause {
	if p.Why == "" {
		return nil
	}
	out := &api.Pause{Why: p.Why, Since: p.Since.At.UTC(), By: p.By}
	if p.Until != nil {
		at := p.Until.At.UTC()
		out.Until = &at
	}
	return out
}

// Reset ends a rule's states, and forgets its cooldowns and what it spent.
func (s *source) Reset(ctx context.Context, rule string, by record.Caller) (err error) {
	if lerr := s.d.inLoop(ctx, func() { err = s.d.judge.reset(rule, by) }); lerr != nil {
		return lerr
	}
	return err
}

func (j *judge) reset(rule string, by record.Caller) error {
	now := j.cfg.Clock()
	if a := j.acting; a != nil && a.dec.Rule.Name == rule {
		return refuse("an action of %s is under way: wait for its effect", rule)
	}
	changes, err := j.engine.Reset(rule, now)
	if err != nil {
		return &api.RequestError{Status: http.StatusNotFound, Message: err.Error()}
	}
	for i := range changes {
		j.changed(&changes[i], now)
	}
	j.cfg.Store.SaveBudgets(j.engine.Memory(), j.recorded("budgets"))
	j.event("reset", "info", fmt.Sprintf("the rule %s was reset: its cooldowns and what it has spent are forgotten", rule), &by)
	return nil
}

// Reload reads the configuration again. Where a file is wrong, what was in force
// stays.
func (s *source) Reload(ctx context.Context, wait bool, by record.Caller) (*api.Reloaded, error) {
	if !wait {
		go func() { _, _ = s.d.reload(context.WithoutCancel(ctx), &by) }() // it logs what is wrong
		return nil, nil                                                    //nolint:nilnil // as Steering says: nobody waits for the answer
	}
	return s.d.reload(ctx, &by)
}

// Reload reads the configuration again, as at SIGHUP. What is wrong is logged,
// and what was in force stays.
func (d *Daemon) Reload(ctx context.Context) error {
	_, err := d.reload(ctx, nil)
	return err
}

func (d *Daemon) reload(ctx context.Context, by *record.Caller) (*api.Reloaded, error) {
	if d.cfg.Load == nil {
		return nil, refuse("this daemon has no configuration to read")
	}
	select { // whoever reads last has the say
	case d.reloading <- struct{}{}:
		defer func() { <-d.reloading }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer d.reloads(ctx)()
	p, err := d.cfg.Load(ctx)
	if err != nil {
		_ = d.inLoop(ctx, func() {
			d.judge.event("reload-failed", "warning", "the configuration is wrong, what was in force stays: "+err.Error(), by)
		})
		return nil, &api.ConfigError{Message: err.Error()}
	}
	var out *api.Reloaded
	lerr := d.inLoop(ctx, func() {
		out = d.judge.reload(p, by)
		d.publish() // who asks next is told of the new mode
	})
	return out, lerr
}

// reloads tells the service manager that a reload has begun, and with what it
// gives, that it is over, however it ended. A daemon that is not ready yet does
// not become it by a reload.
func (d *Daemon) reloads(ctx context.Context) (over func()) {
	ctx = context.WithoutCancel(ctx) // whoever asked may be gone by the end
	began := false
	_ = d.inLoop(ctx, func() { // it fails where the daemon ends
		if began = d.ready; began {
			d.told("reloading", d.cfg.Notify.Reloading())
		}
	})
	return func() {
		if began {
			_ = d.inLoop(ctx, func() { d.told("ready", d.cfg.Notify.Ready(d.status())) })
		}
	}
}

// reload takes another policy, and says what that changes.
func (j *judge) reload(p Policy, by *record.Caller) *api.Reloaded {
	now := j.cfg.Clock()
	out := &api.Reloaded{Version: api.Version, Rules: len(p.Rules), Added: []string{}, Changed: []string{}, Removed: []string{}, Notes: []string{}}
	find := func(rules []*policy.Rule, name string) *policy.Rule {
		if i := slices.IndexFunc(rules, func(r *policy.Rule) bool { return r.Name == name }); i >= 0 {
			return rules[i]
		}
		return nil
	}
	for _, r := range p.Rules {
		switch old := find(j.policy.Rules, r.Name); {
		case old == nil:
			out.Added = append(out.Added, r.Name)
		case old.Hash != r.Hash:
			out.Changed = append(out.Changed, r.Name)
		}
	}
	for _, r := range j.policy.Rules {
		if find(p.Rules, r.Name) == nil {
			out.Removed = append(out.Removed, r.Name)
		}
	}
	for _, what := range j.policy.Broken { // a reload takes no file that is wrong
		j.event("policy-broken", "info", "over: "+what, nil)
	}
	j.policy = p
	j.counts.expect(&p.Config)
	for _, c := range j.engine.Reload(p.Config, now) {
		j.changed(&c, now)
	}
	out.Notes = append(append(out.Notes, p.Notes...), j.rightsMissing()...)
	j.ready()
	j.restate()
	j.event("reloaded", "info", fmt.Sprintf("configuration and policy were read again: %d rules, mode %s", len(p.Rules), p.Mode), by)
	return out
}

// rightsMissing says, and records, which enforcing rules cannot act for want of
// rights.
func (j *judge) rightsMissing() (notes []string) {
	for _, r := range j.lacking() {
		note := r.Action + " cannot work here: " + r.Missing
		if r.Fix != "" {
			note += "; " + r.Fix
		}
		notes = append(notes, note+"; these only observe: "+strings.Join(r.Rules, ", "))
	}
	for _, n := range notes {
		if !slices.Contains(j.lacks, n) {
			j.event("rights-missing", "warning", n, nil)
		}
	}
	for _, n := range j.lacks {
		if !slices.Contains(notes, n) {
			j.event("rights-missing", "info", "over: "+n, nil)
		}
	}
	j.lacks = notes
	return notes
}

var errNothingRecorded = errors.New("this daemon records nothing: " + errNoStore.Error())
