package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// judge decides by the rules of a policy and sees each decision through. All
// its methods are called by the loop; what takes time runs apart and comes
// back through post.
type judge struct {
	cfg    *Config
	log    *slog.Logger
	engine *policy.Engine
	policy Policy
	window policy.Window
	book   *book

	started   record.Stamp
	sampledAt record.Stamp // when the last sample was taken
	readAt    record.Stamp // when the last full reading was taken
	began     record.Stamp // when the scan behind it began
	now       *Snapshot    // the loop's
	touched   record.Stamp // when the last action that touched something ended
	forced    string       // why the daemon may only observe, found while it runs
	lacks     []string     // which rights, as told

	acting  *action   // the one that touches something
	telling []*action // the first is under way
	outbox  outbox
	alerts  alerts
	lease   *lease
	blind   blindness
	outlets outlets
	pause   pause
	counts  counts

	post     func(func()) // brings a function into the loop
	apart    func(func()) // runs one outside of it
	wantScan func()       // a full reading of every process, soon
	restate  func()       // what the daemon may do has changed
	sockets  lister
	life     context.Context // of what runs apart: outlives the loop's own a little
	stopping bool            // nothing new is begun
	running  bool            // past the start: there is a first sample
}

func newJudge(cfg *Config, now *Snapshot, started record.Stamp) *judge {
	j := &judge{cfg: cfg, log: cfg.Log.With("part", "policy"), policy: cfg.Policy, now: now, started: started, restate: func() {}}
	j.engine = policy.New(j.policy.Config, cfg.Memory)
	j.book = newBook(cfg.Hostname, j.newID, func(i *record.Incident) { cfg.Store.SaveIncident(i, j.recorded("incident")) })
	j.lease = newLease(j)
	j.counts = newCounts(&j.policy.Config)
	j.blind.open = make(map[string]trouble)
	return j
}

// start takes up what earlier runs left: the intents without a result, which
// are given one and not repeated, a lease, and what was not delivered.
func (j *judge) start() {
	now := j.cfg.Clock()
	j.running, j.sampledAt = true, now
	for i := range j.cfg.Unfinished {
		intent := &j.cfg.Unfinished[i]
		j.engine.Interrupted(intent)
		interrupted := record.Result{
			Outcome: record.Interrupted, Code: "daemon-ended",
			Message: "the daemon ended before it knew the result; the action is not repeated",
		}
		j.append(&record.Record{
			ID: j.newID("r"), Stamp: now, Kind: record.KindResult, Incident: intent.Incident, Rule: intent.Rule, Key: intent.Key,
			Action: intent.Action, Result: &interrupted,
		}, nil)
		j.counts.result(intent.Intent.Decision.Action, &interrupted)
		if d := &intent.Intent.Decision; d.Touches != string(policy.TouchesNothing) {
			j.event("repaired", "warning", fmt.Sprintf("%s of %s for %s had no result, it counts as interrupted: %s", d.Action, intent.Rule, intent.Key, intent.Action), nil)
		}
	}
	j.closeOld(now)
	j.lease.adopt(j.cfg.Leases, j.now.Sample.Mem)
	j.outbox.waiting = j.cfg.Outbox
	text := fmt.Sprintf("tcpmemd %s started: %d rules, mode %s", j.cfg.Version, len(j.policy.Rules), j.policy.Mode)
	if why := j.why(); why != "" {
		text += ", only observing: " + why
	}
	j.event("daemon-started", "info", text, nil)
	for _, what := range j.policy.Broken {
		j.event("policy-broken", "critical", "left out, and everything only observes: "+what, nil)
	}
	if j.cfg.Memory.Distrusted != nil {
		j.event("budgets-lost", "warning", "what was spent from budgets is lost: all count as spent for as long as they last", nil)
	}
	if why := j.cfg.Stop(); why != "" && j.cfg.Paused().Why == "" {
		j.event("emergency-stop", "warning", "everything is stopped: "+why, nil)
	}
	j.rightsMissing()
	j.cfg.Store.SaveBudgets(j.engine.Memory(), j.recorded("budgets"))
}

// enforcing names the rules that may act and have the action.
func (j *judge) enforcing(action string) (rules []string) {
	if j.policy.Mode != policy.Enforce {
		return nil
	}
	for _, r := range j.policy.Rules {
		if r.Mode == policy.Enforce && slices.ContainsFunc(r.Steps, func(s policy.Step) bool { return s.Action == action }) {
			rules = append(rules, r.Name)
		}
	}
	return rules
}

// lacking lists the actions of enforcing rules that cannot work here.
func (j *judge) lacking() (list []api.MissingRight) {
	for _, name := range slices.Sorted(maps.Keys(j.policy.Actions)) {
		info := j.policy.Actions[name]
		if rules := j.enforcing(name); info.Missing != "" && rules != nil {
			list = append(list, api.MissingRight{Action: name, Missing: info.Missing, Rules: rules, Fix: info.Remedy})
		}
	}
	return list
}

// level is called after each change of it.
func (j *judge) level(from reading.Level) {
	now := &j.now.Level
	j.cfg.Say(event.Level(event.Case{At: now.Since, Level: now.Level.String(), Pool: event.PoolOf(&j.now.Sample)}, from.String(), now.Why))
	if (from > reading.Calm) != (j.now.Level.Level > reading.Calm) {
		j.ready()
	}
}

// doing says for STATUS= what the daemon may do.
func (j *judge) doing() string {
	switch {
	case j.why() != "":
		return "only observing: " + j.why()
	case j.policy.Mode != policy.Enforce:
		return "observing"
	case j.cfg.Stop() != "":
		return "stopped: " + j.cfg.Stop()
	case j.pause.state.Why != "":
		return "paused"
	}
	return "enforcing"
}

// newID makes an identifier that sorts by time: of an incident (i), a decision
// (d), an action (a), or another record (r).
func (j *judge) newID(kind string) string {
	at := j.cfg.Clock().At.UTC()
	return fmt.Sprintf("%s%s-%06x", kind, at.Format("20060102-150405"), rand.Uint32N(1<<24))
}

// recorded gives the callback of a record that nothing waits for: what failed
// is kept and tried again by the store, which also reports it.
func (j *judge) recorded(what string) func(error) {
	return func(err error) {
		if err != nil {
			j.log.Debug("write "+what, "err", err)
		}
	}
}

// sampled is called after each sample.
func (j *judge) sampled() {
	now := j.cfg.Clock()
	j.sampledAt = now
	j.window.Observe(&j.now.Sample)
	j.blind.sample(j)
	j.outlets.look(j)
	j.pause.look(j, now)
	j.book.point(j.now, now, nil)
	if a := j.acting; a != nil && a.stage == settling && now.Since(a.ran) >= effectWait+effectAfter {
		j.measure(now) // there was no reading
	}
	j.turn(now, false)
	j.lease.turn(now)
	j.outbox.turn(j, now)
	j.cfg.Store.AppendHistory(historyOf(j.now, now, nil, j.book.ids()))
	j.book.flush(now, false)
}

// read is called after each full reading, with when its scan began.
func (j *judge) read(r *reading.Reading, began record.Stamp) {
	now := j.cfg.Clock()
	j.readAt, j.began = now, began
	j.blind.reading(j, r, now)
	j.book.point(j.now, now, r)
	j.book.ledger(r, now)
	j.measure(now)
	j.turn(now, true)
	j.fresh(now)
	j.cfg.Store.AppendHistory(historyOf(j.now, now, r, j.book.ids()))
	j.book.flush(now, false)
}

// turn has the rules evaluated, and takes up what they decide.
func (j *judge) turn(now record.Stamp, fresh bool) {
	in := j.input(now, fresh)
	out := j.engine.Turn(&in)
	for i := range out.Changes {
		j.changed(&out.Changes[i], now)
	}
	j.alerts.opened(j, now)
	for i := range out.Decisions {
		j.decided(out.Decisions[i], now)
	}
	if out.WantReading {
		j.wantScan()
	}
}

// input is what the engine is asked with.
func (j *judge) input(now record.Stamp, fresh bool) policy.Input {
	in := policy.Input{
		Now: now, Fresh: fresh, Started: j.started,
		Facts: policy.Facts{
			Sample: &j.now.Sample, Level: j.now.Level.Level, Trend: j.now.Trend, Base: j.lease.base(j.now.Sample.Mem),
			Reading: j.now.Reading, Rates: j.window.Rates(), Blind: j.blind.ids(),
		},
		Paused: j.pause.why(now), Forced: j.why(), Stop: j.cfg.Stop(),
		OptOut: j.policy.OptOut,
	}
	if now.Since(j.sampledAt) > level.StaleAfter {
		in.Facts.Level = reading.Unknown // the host was suspended: the next sample tells
	}
	if j.now.Reading != nil {
		in.Facts.Age = now.Since(j.readAt)
		in.Overtaken = j.touched.BootID != "" && j.began.BootSeconds < j.touched.BootSeconds
	}
	if in.Busy = j.blind.unrecorded; j.acting != nil {
		in.Busy = policy.UnderWay(j.acting.id)
	}
	return in
}

// why says why the daemon may only observe, "" where it may act.
func (j *judge) why() string {
	if j.policy.Forced != "" {
		return j.policy.Forced
	}
	return j.forced
}

// changed records a change of phase, in the log and in its incident.
func (j *judge) changed(c *policy.Change, now record.Stamp) {
	p, opened, closed := j.book.change(c, now)
	rec := record.Record{
		ID: j.newID("r"), Stamp: now, Kind: record.KindState, Rule: c.Rule.Name, Key: c.Key, State: &c.State,
	}
	if p != nil {
		rec.Incident = p.ID
	}
	j.append(&rec, nil)
	if closed {
		p.log(&rec)
		j.book.write(p, now)
		j.tellEnd(c, p, now)
	}
	if opened {
		j.counts.Incidents++
		j.book.write(p, now)
	}
	switch {
	case p == nil:
	case opened:
		j.alerts.open(p, c)
	case closed:
		j.alerts.close(j, p, &c.State, now)
	case c.State.Phase == record.Firing:
		j.alerts.joins(j, p, c)
	}
}

// decided records a decision and, where it is to act, begins to.
func (j *judge) decided(d policy.Decision, now record.Stamp) {
	rec := record.Record{
		ID: j.newID("d"), Stamp: now, Kind: record.KindDecision, Incident: j.book.id(d.Rule.Name),
		Rule: d.Rule.Name, Key: d.Key(), Decision: &d.Record,
	}
	if d.Record.Choice == record.ChoseAct {
		a := &action{id: j.newID("a"), dec: d, incident: rec.Incident, began: now}
		rec.Action = a.id
		j.append(&rec, nil)
		j.begin(a)
		return
	}
	if d.Record.Choice == record.ChoseDryRun {
		rec.Action = j.newID("a")
	}
	j.append(&rec, nil)
	if rec.Action != "" {
		j.dryRun(&d, &rec, now)
	}
	j.say(&rec, nil)
}

// dryRun records what would have been done, as an action that has no intent.
func (j *judge) dryRun(d *policy.Decision, decided *record.Record, now record.Stamp) {
	res := record.Result{
		Outcome: record.DryRun, Code: "observing",
		Message: fmt.Sprintf("would have run %s on %s, but %s", d.Record.Action, d.Key(), d.Record.ModeWhy),
	}
	j.append(&record.Record{
		ID: j.newID("r"), Stamp: now, Kind: record.KindResult, Incident: decided.Incident, Rule: d.Rule.Name, Key: d.Key(),
		Action: decided.Action, Result: &res,
	}, nil)
	j.counts.result(d.Record.Action, &res)
}

// append writes a record to the log, and to the incidents that it concerns.
func (j *judge) append(rec *record.Record, done func(error)) {
	j.book.log(rec)
	if rec.Kind == record.KindDecision {
		j.counts.decision(rec.Decision)
	}
	if done == nil {
		done = j.recorded("record")
	}
	j.cfg.Store.Append(*rec, done)
}

// event records something about the daemon itself, and tells the journal.
func (j *judge) event(id, severity, text string, by *record.Caller) {
	rec := record.Record{
		ID: j.newID("r"), Stamp: j.cfg.Clock(), Kind: record.KindEvent,
		Event: &record.Event{ID: id, Severity: severity, Text: text, By: by},
	}
	j.append(&rec, nil)
	j.say(&rec, nil)
}

// historyOf is what is recorded of this moment; r is set where a full reading
// has just come.
func historyOf(s *Snapshot, now record.Stamp, r *reading.Reading, incidents []string) *history.Entry {
	return &history.Entry{Stamp: now, Events: incidents, Level: s.Level.Level, Sample: s.Sample, Reading: r}
}

// ready has the processes of the actions that may be needed started while the
// host is not calm, and ended when it is.
func (j *judge) ready() {
	var names []string
	if j.now.Level.Level > reading.Calm && j.policy.Mode == policy.Enforce && j.why() == "" {
		seen := make(map[string]bool)
		for _, r := range j.policy.Rules {
			for i := range r.Steps {
				if name := r.Steps[i].Action; r.Mode == policy.Enforce && !seen[name] {
					seen[name] = true
					names = append(names, name)
				}
			}
		}
	}
	j.cfg.Runner.Ready(names...)
}
