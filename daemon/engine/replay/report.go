package replay

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Report sums up what would have been decided, so that a person can decide.
type Report struct {
	As       string    `json:"as"` // observe or enforce
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Entries  int       `json:"entries"`
	Readings int       `json:"readings"`
	// Coarse entries are so far apart that rates of counters are unknown.
	Coarse int          `json:"coarse_entries"`
	Gaps   []Gap        `json:"gaps"`
	Rules  []RuleReport `json:"rules"`
}

// Gap is a time without entries.
type Gap struct {
	From    time.Time `json:"from"`
	Seconds float64   `json:"seconds"`
}

// RuleReport is what one rule came to.
type RuleReport struct {
	Rule          string  `json:"rule"`
	Fired         int     `json:"fired"`
	FiringSeconds float64 `json:"firing_seconds"`
	Pended        int     `json:"pended"` // and did not fire
	Exhausted     int     `json:"exhausted"`
	Deeds         []Deed  `json:"deeds"`
}

// Deed is an action on a target, and how often it was come to.
type Deed struct {
	Action  string `json:"action"`
	Touches string `json:"touches"`
	Key     string `json:"key"`
	Target  string `json:"target"` // the name a person knows
	// Times are those at which it would have been taken.
	Times []time.Time `json:"times"`
	// Not counts the times it would not, by guard.
	Not map[string]int `json:"not"`
	Why string         `json:"why"` // the last reason not to
}

// Report gives what was come to so far.
func (p *Player) Report() Report {
	r := p.report
	r.Gaps = slices.Clone(r.Gaps)
	r.Rules = slices.Clone(r.Rules)
	if r.Gaps == nil {
		r.Gaps = []Gap{}
	}
	if r.Rules == nil {
		r.Rules = []RuleReport{}
	}
	for k, since := range p.firing {
		if i := slices.IndexFunc(r.Rules, func(rr RuleReport) bool { return rr.Rule == k[0] }); i >= 0 {
			r.Rules[i].FiringSeconds += r.To.Sub(since.At).Seconds()
		}
	}
	slices.SortFunc(r.Rules, func(a, b RuleReport) int { return cmp.Compare(a.Rule, b.Rule) })
	return r
}

// count adds an event to the report.
func (p *Player) count(e *Event) {
	i := slices.IndexFunc(p.report.Rules, func(r RuleReport) bool { return r.Rule == e.Rule })
	if i < 0 {
		i = len(p.report.Rules)
		p.report.Rules = append(p.report.Rules, RuleReport{Rule: e.Rule, Deeds: []Deed{}})
	}
	r, key := &p.report.Rules[i], [2]string{e.Rule, e.Key}
	switch {
	case e.State != nil && e.State.Phase == record.Firing:
		r.Fired++
		p.firing[key] = e.Stamp
	case e.State != nil && e.State.Phase == record.Ended:
		since, fired := p.firing[key]
		if !fired {
			r.Pended++
			return
		}
		delete(p.firing, key)
		r.FiringSeconds += e.Since(since).Seconds()
	case e.Decision != nil:
		r.decided(e)
	}
}

func (r *RuleReport) decided(e *Event) {
	d := e.Decision
	if d.Choice == record.ChoseNothing {
		r.Exhausted++
		return
	}
	i := slices.IndexFunc(r.Deeds, func(x Deed) bool { return x.Action == d.Action && x.Key == e.Key })
	if i < 0 {
		i = len(r.Deeds)
		target := e.Key
		if target == policy.HostKey {
			target = "the host"
		}
		if d.Owner != nil && d.Owner.Name != "" {
			target = d.Owner.Name
		}
		r.Deeds = append(r.Deeds, Deed{Action: d.Action, Touches: d.Touches, Key: e.Key, Target: target, Times: []time.Time{}, Not: map[string]int{}})
	}
	deed := &r.Deeds[i]
	if d.Choice == record.ChoseAct || d.Choice == record.ChoseDryRun {
		deed.Times = append(deed.Times, e.At.UTC())
		return
	}
	deed.Not[cmp.Or(d.Guard, string(d.Choice))]++
	deed.Why = d.Why
}

// Words tells the report in sentences. Names are as they came: escape them.
func (r *Report) Words() []string {
	var out []string
	for i := range r.Rules {
		rule := &r.Rules[i]
		switch {
		case rule.Fired > 0:
			out = append(out, fmt.Sprintf("%s fired %s, for %s in all", rule.Rule, times(rule.Fired), span(rule.FiringSeconds)))
		case rule.Pended > 0:
			out = append(out, fmt.Sprintf("%s never fired: its condition held %s, and never long enough", rule.Rule, times(rule.Pended)))
		}
		for j := range rule.Deeds {
			out = append(out, rule.Deeds[j].words(rule.Rule)...)
		}
		if rule.Exhausted > 0 {
			out = append(out, fmt.Sprintf("%s came to the end of its steps %s, and still fired", rule.Rule, times(rule.Exhausted)))
		}
	}
	if len(out) == 0 {
		out = append(out, "no rule would have done anything")
	}
	return out
}

func (d *Deed) words(rule string) []string {
	var out []string
	if len(d.Times) > 0 {
		what := "done " + d.Action + " on " + d.Target
		if d.Touches == "nothing" {
			what = "told of " + d.Target + " by " + d.Action
		}
		out = append(out, fmt.Sprintf("%s would have %s %s", rule, what, Often(d.Times)))
	}
	for _, guard := range slices.Sorted(maps.Keys(d.Not)) {
		out = append(out, fmt.Sprintf("%s would not have done %s on %s %s, by the guard %s (%s)", rule, d.Action, d.Target, times(d.Not[guard]), guard, d.Why))
	}
	return out
}

// Often says how many times there are, and when: those of one day or night
// together.
func Often(all []time.Time) string { return times(len(all)) + ": " + when(all) }

// when names the days and nights of times. A night is from 22:00 to 06:00 UTC,
// and has the date of its evening.
func when(all []time.Time) string {
	var names []string
	counts := make(map[string]int)
	for _, t := range all {
		name := "on " + t.Format(time.DateOnly)
		switch {
		case t.Hour() < 6:
			name = "in the night of " + t.AddDate(0, 0, -1).Format(time.DateOnly)
		case t.Hour() >= 22:
			name = "in the night of " + t.Format(time.DateOnly)
		}
		if counts[name]++; counts[name] == 1 {
			names = append(names, name)
		}
	}
	const most = 7
	for i, name := range names {
		if i == most {
			names = append(names[:most], fmt.Sprintf("and on %d more", len(names)-most))
			break
		}
		if n := counts[name]; len(names) > 1 || n > 1 {
			names[i] = fmt.Sprintf("%s %s", times(n), name)
		} else {
			names[i] = "on " + all[0].Format("2006-01-02 at 15:04:05")
		}
	}
	return strings.Join(names, ", ")
}

func times(n int) string {
	switch n {
	case 1:
		return "once"
	case 2:
		return "twice"
	}
	return fmt.Sprintf("%d times", n)
}

// span writes a duration without zeros at its end: 1h, not 1h0m0s.
func span(seconds float64) string {
	s := time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, end) {
			s = s[:len(s)-2]
		}
	}
	return s
}
