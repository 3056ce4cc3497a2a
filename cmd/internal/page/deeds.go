package page

import (
	"cmp"
	"fmt"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// A deed is what was decided about a step, with what came of it. The same
// decision again and again is one deed.
type deed struct {
	rec    *record.Record // the first
	about  *record.Decision
	times  int
	last   time.Time
	result *record.Result
	effect *record.Effect
}

// deedsOf gathers an incident's decisions, in order. of has the deed that each
// record belongs to, by its place.
func deedsOf(in *record.Incident, a axis) (deeds []*deed, of map[int]*deed) {
	of = make(map[int]*deed)
	byAction, bySame := make(map[string]*deed), make(map[string]*deed)
	for i := range in.Records {
		r := &in.Records[i]
		if r.Incident != in.ID {
			continue
		}
		d := r.Decision
		if r.Intent != nil {
			d = &r.Intent.Decision
		}
		switch {
		case d == nil && byAction[r.Action] == nil:
			continue
		case r.Result != nil:
			byAction[r.Action].result = r.Result
		case r.Effect != nil:
			byAction[r.Action].effect = r.Effect
		case d == nil || r.Action != "" && byAction[r.Action] != nil:
		default:
			same := fmt.Sprintf("%s %d %q %q %q", d.Choice, d.Step, d.Action, r.Key, d.Guard)
			if before := bySame[same]; before != nil && r.Action == "" {
				before.times++
				before.last = a.at(r.Stamp)
				of[i] = before
				continue
			}
			made := &deed{rec: r, about: d, times: 1, last: a.at(r.Stamp)}
			deeds = append(deeds, made)
			if of[i] = made; r.Action != "" {
				byAction[r.Action] = made
			} else {
				bySame[same] = made
			}
			continue
		}
		of[i] = byAction[r.Action]
	}
	return deeds, of
}

// touches says whether it is about more than telling.
func (d *deed) touches() bool { return d.about.Touches != "" && d.about.Touches != "nothing" }

// telling says whether the picture should show it by number.
func (d *deed) telling() bool {
	switch d.about.Choice {
	case record.ChoseWait:
		return false
	case record.ChoseNothing:
		return true
	}
	return d.touches()
}

// label is the deed in a few words.
func (d *deed) label() string {
	name := prose.Escape(cut(d.about.Action, 24))
	switch d.about.Choice {
	case record.ChoseAct:
		return name + ": " + d.came()
	case record.ChoseDryRun:
		return "would do " + name
	case record.ChoseRefuse:
		return name + " refused"
	case record.ChoseHold:
		return name + " held"
	case record.ChoseNothing:
		return "every step taken"
	}
	return name + " waits"
}

// short is the label where there is little room.
func (d *deed) short() string {
	switch d.about.Choice {
	case record.ChoseAct:
		return d.came()
	case record.ChoseDryRun:
		return "dry run"
	case record.ChoseRefuse:
		return "refused"
	case record.ChoseHold:
		return "held"
	}
	return "exhausted"
}

// came says how an action came out, as well as is known.
func (d *deed) came() string {
	switch {
	case d.effect != nil && d.effect.Verdict == record.NoEffect:
		return "no effect"
	case d.effect != nil && d.effect.Verdict != record.NotMeasured:
		return prose.Escape(string(d.effect.Verdict))
	case d.result != nil:
		return prose.Escape(string(d.result.Outcome))
	}
	return "under way"
}

// done names an action as something that was done to "it".
func done(action string) string {
	known := map[string]string{
		"restart-unit": "restarted it", "signal-process": "ended its process", "destroy-sockets": "ended connections of it",
		"raise-tcp-mem": "raised the limits for a time", "run-command": "ran a command", "notify": "told somebody",
	}
	return cmp.Or(known[action], "did "+prose.Escape(cut(action, 40)))
}

// sentence says what the deed was, to end a headline.
func (d *deed) sentence() string {
	what := done(d.about.Action)
	switch d.about.Choice {
	case record.ChoseDryRun:
		return "tcpmemd only watched: it would have " + what
	case record.ChoseRefuse:
		return "tcpmemd would have " + what + ", and a guard refused"
	case record.ChoseHold:
		return "tcpmemd would have " + what + " once more, and the budget is spent"
	case record.ChoseNothing:
		return "tcpmemd took every step, and it did not end"
	case record.ChoseWait:
		return "tcpmemd waits to act"
	}
	switch {
	case d.effect != nil && d.effect.Verdict == record.Helped:
		return "tcpmemd " + what + ", which helped"
	case d.effect != nil && d.effect.Verdict == record.NoEffect:
		return "tcpmemd " + what + ", which did not help"
	case d.effect != nil && d.effect.Verdict == record.Worse:
		return "tcpmemd " + what + ", and it became worse"
	case d.result == nil:
		return "tcpmemd began to act (" + prose.Escape(d.about.Action) + "), and its result is not known"
	case d.result.Outcome == record.Done:
		return "tcpmemd " + what
	}
	return "tcpmemd tried " + prose.Escape(d.about.Action) + ": " + prose.Escape(string(d.result.Outcome))
}

// tell is the deed in full.
func (d *deed) tell() decision {
	text := event.Decided(event.CaseOf(d.rec), d.about)
	out := decision{Time: d.rec.At.UTC().Format(time.TimeOnly), Line: fmt.Sprintf("Step %d: %s", d.about.Step, event.DecisionWords(d.about))}
	if d.about.Step == 0 {
		out.Line = event.DecisionWords(d.about)
	}
	if d.times > 1 {
		out.More = append(out.More, pair{"how often", fmt.Sprintf("%d times, until %s", d.times, prose.Time(d.last))})
	}
	if d.about.Why != "" {
		out.More = append(out.More, pair{"why", prose.Escape(d.about.Why)})
	}
	for _, line := range text.More {
		if p := pairOf(line); p.Name != "why" && p.Name != "more" {
			out.More = append(out.More, p)
		}
	}
	if d.result != nil {
		out.More = append(out.More, pair{"result", event.ResultWords(d.result)})
		for _, c := range d.result.Changes {
			out.More = append(out.More, pair{"changed", event.ChangeWords(c)})
		}
	}
	if d.effect != nil {
		words := event.EffectWords(d.effect)
		if why := prose.Escape(d.effect.Why); why != "" && d.effect.TargetBefore != nil {
			words += ": " + why
		}
		out.More = append(out.More, pair{"effect", words})
	}
	return out
}
