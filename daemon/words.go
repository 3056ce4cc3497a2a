package daemon

import (
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// words says what is told of a firing rule, or of its end.
func (j *judge) words(d *policy.Decision, incident string, end *record.State) event.Text {
	c := event.Case{
		Incident: incident, Rule: d.Rule.Name, Key: d.Key(), About: d.Rule.About, Severity: string(d.Rule.Severity),
		At: j.cfg.Clock().At, Pool: event.PoolOf(&j.now.Sample), Level: j.now.Level.Level.String(), See: incident,
	}
	c = c.With(&d.Record)
	if p := j.book.find(incident); p != nil {
		c.Since = p.Began.At
		for _, key := range d.Keys[1:] {
			k := p.key(key)
			switch {
			case k == nil || k.Owner == nil || len(c.Others) == maxOthers:
				c.MoreOthers++
			default:
				c.Others = append(c.Others, *k.Owner)
			}
		}
	}
	for i := range d.Rule.Steps {
		if step := &d.Rule.Steps[i]; j.policy.Actions[step.Action].Touches != policy.TouchesNothing {
			c.Steps = append(c.Steps, step.Action)
		}
	}
	if end != nil {
		if c.Since.IsZero() {
			c.Since = end.Since.At
		}
		return event.Ended(c, end)
	}
	return event.Firing(c)
}

// maxOthers is how many further keys one alert names: five in all.
const maxOthers = 4

// say tells the journal or the terminal of a record.
func (j *judge) say(rec *record.Record, d *record.Decision) {
	c := event.CaseOf(rec)
	if d != nil {
		c = c.With(d)
	}
	c.Pool = event.PoolOf(&j.now.Sample)
	switch {
	case rec.Decision != nil:
		j.cfg.Say(event.Decided(c, rec.Decision), rec)
	case rec.Intent != nil:
		j.cfg.Say(event.Decided(c, &rec.Intent.Decision), rec)
	case rec.Result != nil:
		j.cfg.Say(event.Resulted(c, d, rec.Result), rec)
	case rec.Effect != nil:
		j.cfg.Say(event.Measured(c, d, rec.Effect), rec)
	case rec.Event != nil:
		j.cfg.Say(event.Told(rec.Event), rec)
	}
}

// tells reports whether a rule tells somebody of itself.
func (j *judge) tells(r *policy.Rule) bool {
	for i := range r.Steps {
		if j.policy.Actions[r.Steps[i].Action].Touches == policy.TouchesNothing {
			return true
		}
	}
	return false
}
