package daemon

import (
	"cmp"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// alerts decides what of an incident is an alert, a warning or worse: its
// beginning, what was done, what went wrong or was refused, the first time, and
// its end. The rest is told below that, so that the warnings of a long incident
// are a short story.
type alerts struct {
	fresh  []fresh                 // incidents of this turn: all their keys are told of at once
	last   map[string]record.Stamp // alerts of a rule and key
	minute []record.Stamp          // those about owners, of the last minute
}

// fresh is an incident that has just begun.
type fresh struct {
	page *page
	rule *policy.Rule
}

// heard is what was told of an incident already.
type heard struct {
	alert bool // its beginning was an alert: so is its end
	keys  map[string]bool
	facts map[string]bool
}

const (
	maxOwnerAlerts = 10 // a minute
	maxLast        = 1000
	maxDeeds       = 10
)

// open takes an incident that begins.
func (a *alerts) open(p *page, c *policy.Change) { a.fresh = append(a.fresh, fresh{p, c.Rule}) }

// opened tells of what began in this turn.
func (a *alerts) opened(j *judge, now record.Stamp) {
	for _, f := range a.fresh {
		p := f.page
		if len(p.firing) == 0 {
			continue // and ended in it
		}
		p.heard = heard{keys: make(map[string]bool), facts: make(map[string]bool)}
		var keys []string
		for i := range p.Keys { // the biggest first
			if key := p.Keys[i].Key; p.firing[key] {
				keys = append(keys, key)
				p.heard.keys[key] = true
			}
		}
		c := j.caseOf(f.rule, p.ID)
		c.Since, c.Mode, c.Condition = p.Began.At, p.Mode, f.rule.When.String()
		if len(keys) > 0 {
			c.Key = keys[0]
			c.Owner = p.key(c.Key).Owner
			c.others(p, keys[1:])
			c.MoreOthers += len(p.firing) - len(keys) // for which the page has no room
		}
		if r := j.now.Reading; r != nil && c.Owner == nil {
			for i := range r.Owners[:min(len(r.Owners), maxOthers)] {
				c.RunnersUp = append(c.RunnersUp, policy.Suspect(r, &r.Owners[i]))
			}
		}
		in := j.input(now, false)
		for _, st := range j.engine.Status(&in) {
			if st.Rule == f.rule && string(st.Mode) == c.Mode { // else its owner has an own reason
				c.ModeWhy = st.ModeWhy
			}
		}
		for i := range p.Records {
			if s := p.Records[i].State; s != nil && p.Records[i].Incident == p.ID && p.Records[i].Key == c.Key {
				c.Numbers = s.Numbers
			}
		}
		t := event.Firing(c.Case)
		if p.heard.alert = f.rule.Severity != policy.Info && a.allowed(f.rule, c.Key, now); !p.heard.alert {
			t.Severity = event.Info
		}
		j.cfg.Say(t)
	}
	a.fresh = nil
}

// allowed spends one alert. The same one comes once per cooldown, as for those
// who are told by a step, and there are not more about owners than a person can
// read.
func (a *alerts) allowed(r *policy.Rule, key string, now record.Stamp) bool {
	id := r.Name + "\x00" + key
	if at, ok := a.last[id]; ok && now.Since(at) < r.Cooldown {
		return false
	}
	if r.ForEach != policy.Host {
		a.minute = slices.DeleteFunc(a.minute, func(at record.Stamp) bool { return now.Since(at) >= time.Minute })
		if len(a.minute) >= maxOwnerAlerts {
			return false
		}
		a.minute = append(a.minute, now)
	}
	if a.last == nil || len(a.last) >= maxLast {
		a.last = make(map[string]record.Stamp) // rather one alert twice than no end
	}
	a.last[id] = now
	return true
}

// joins tells that an open incident is about one more key.
func (a *alerts) joins(j *judge, p *page, c *policy.Change) {
	if p.heard.keys == nil || p.heard.keys[c.Key] || len(p.heard.keys) >= maxKeys || c.State.Owner == nil {
		return // of this turn: opened tells of all
	}
	p.heard.keys[c.Key] = true
	k := j.caseOf(c.Rule, p.ID)
	k.Key, k.Owner, k.Since, k.Mode = c.Key, c.State.Owner, c.State.Since.At, c.State.Mode
	j.cfg.Say(event.Joined(k.Case))
}

// close tells that an incident is over: as loud as its beginning, so that who
// reads alerts alone learns of it.
func (a *alerts) close(j *judge, p *page, end *record.State, now record.Stamp) {
	t := j.ending(p, end, now)
	if p.heard.alert {
		t.Severity = event.Warning
	}
	j.cfg.Say(t)
}

// loudness of a decision: what would only have been refused or exhausted is no
// alert, and what is one is so once in an incident.
func (a *alerts) loudness(j *judge, rec *record.Record, t event.Text) string {
	d := rec.Decision
	switch {
	case d.Touches == string(policy.TouchesNothing):
		return event.Debug // somebody was told a while ago
	case d.Mode != string(policy.Enforce) && t.Severity != event.Debug:
		return event.Info
	}
	return a.once(j, rec, t, cmp.Or(d.Guard, d.Action))
}

// once gives a text's severity the first time that something is told of an
// incident, later info.
func (a *alerts) once(j *judge, rec *record.Record, t event.Text, what string) string {
	p := j.book.find(rec.Incident)
	if p == nil || p.heard.facts == nil || t.Severity == event.Debug {
		return t.Severity
	}
	id := t.Event + "\x00" + what
	if p.heard.facts[id] {
		return event.Info
	}
	p.heard.facts[id] = true
	return t.Severity
}

// deed keeps what was done, for the word at the end.
func (p *page) deed(rec *record.Record) {
	if in := rec.Intent; in != nil && in.Decision.Touches != string(policy.TouchesNothing) {
		if len(p.deeds) == maxDeeds { // the newest say how it ended
			p.deeds = slices.Delete(p.deeds, 0, 1)
			p.moreDeeds++
		}
		p.deeds = append(p.deeds, event.Deed{ID: rec.Action, Decision: &in.Decision})
	}
	for i := range p.deeds {
		if d := &p.deeds[i]; d.ID == rec.Action {
			d.Result, d.Effect = cmp.Or(rec.Result, d.Result), cmp.Or(rec.Effect, d.Effect)
		}
	}
}
