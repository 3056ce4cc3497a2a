package daemon

import (
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxOthers is how many further keys one alert names: five in all.
const maxOthers = 4

// words says what is told of a firing rule.
func (j *judge) words(d *policy.Decision, incident string) event.Text {
	c := j.caseOf(d.Rule, incident).With(&d.Record)
	c.Key = d.Key()
	if p := j.book.find(incident); p != nil {
		c.Since = p.Began.At
		c.others(p, d.Keys[1:])
	}
	return event.Firing(c.Case)
}

// ofRule is a case with what it takes to write of the other keys.
type ofRule struct{ event.Case }

// caseOf begins what is told of an incident of a rule.
func (j *judge) caseOf(r *policy.Rule, incident string) ofRule {
	c := ofRule{event.Case{
		Incident: incident, Rule: r.Name, About: r.About, Severity: string(r.Severity),
		At: j.cfg.Clock().At, Pool: event.PoolOf(&j.now.Sample), Level: j.now.Level.Level.String(),
	}}
	for i := range r.Steps {
		step := &r.Steps[i]
		if j.policy.Actions[step.Action].Touches == policy.TouchesNothing {
			continue
		}
		words := step.Action
		if step.After > 0 {
			words += " after " + prose.Duration(step.After)
		}
		c.Steps = append(c.Steps, words)
	}
	return c
}

// With adds what a decision knows.
func (c ofRule) With(d *record.Decision) ofRule { return ofRule{c.Case.With(d)} }

// others names the further keys of an incident, as far as there is room.
func (c *ofRule) others(p *page, keys []string) {
	for _, key := range keys {
		k := p.key(key)
		switch {
		case k == nil || k.Owner == nil || len(c.Others) == maxOthers:
			c.MoreOthers++
		default:
			c.Others = append(c.Others, *k.Owner)
		}
	}
}

// ending says what is told of an incident that is over.
func (j *judge) ending(p *page, end *record.State, now record.Stamp) event.Text {
	c := ofRule{event.Case{
		Incident: p.ID, Rule: p.Rule, About: p.About, At: now.At, Since: p.Began.At, Mode: p.Mode,
		Pool: event.PoolOf(&j.now.Sample), Level: j.now.Level.Level.String(), Deeds: p.deeds, MoreDeeds: p.moreDeeds,
	}}
	// Those that fired, the biggest first.
	keys := slices.DeleteFunc(slices.Clone(p.Keys), func(k record.KeyState) bool { return k.Phase == record.Pending })
	if len(keys) > 0 {
		c.Key, c.Owner = keys[0].Key, keys[0].Owner
		var rest []string
		for _, k := range keys[1:] {
			rest = append(rest, k.Key)
		}
		c.others(p, rest)
		c.MoreOthers += p.LeftOut.Keys
	}
	if s := &j.now.Sample; p.Worst != nil {
		c.Worst = event.PoolOf(s)
		c.Worst.Used = p.Worst.UsedPages.Bytes(s.PageSize)
	}
	return event.Ended(c.Case, end)
}

// say tells the journal or the terminal of a record.
func (j *judge) say(rec *record.Record, d *record.Decision) {
	c := event.CaseOf(rec)
	if d != nil {
		c = c.With(d)
	}
	c.Pool = event.PoolOf(&j.now.Sample)
	var t event.Text
	switch {
	case rec.Decision != nil:
		t = event.Decided(c, rec.Decision)
		t.Severity = j.alerts.loudness(j, rec, t)
	case rec.Intent != nil:
		t = event.Decided(c, &rec.Intent.Decision)
	case rec.Result != nil:
		t = event.Resulted(c, d, rec.Result)
		if d != nil && d.Touches == string(policy.TouchesNothing) {
			t.Severity = j.alerts.once(j, rec, t, d.Action)
		}
	case rec.Effect != nil:
		t = event.Measured(c, d, rec.Effect)
	case rec.Event != nil:
		t = event.Told(rec.Event)
		t.Severity = event.Louder(rec.Event.ID, t.Severity)
		t.At = rec.At
	}
	j.cfg.Say(t)
}
