package top

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// conduct says in at most room lines, one for each fact, what the policy is
// about to do and what stands against it, the gravest first. words.Conduct has
// the same at length.
func conduct(doc *api.Status, width, room int, paint layout.Painter) []string {
	all := facts(doc, width, paint)
	if len(all) > room {
		more := len(all) - room + 1
		all = append(all[:room-1], paint.Style(layout.ShortenEnd(fmt.Sprintf("and %d more: p", more), width), layout.Warn))
	}
	return all
}

func facts(doc *api.Status, width int, paint layout.Painter) []string {
	var out []string
	say := func(about, text string, style layout.Style) {
		text = layout.ShortenEnd(text, max(width-layout.Width(about), 0))
		out = append(out, paint.Style(layout.ShortenEnd(about, width), style)+text)
	}
	if doc.Stop != nil {
		say("STOPPED", ", nothing is touched: "+words.Sentence(*doc.Stop), layout.Bad)
	}
	if doc.Pause != nil {
		s := ""
		if doc.Pause.Until != nil {
			s = " until " + prose.Time(*doc.Pause.Until)
		}
		say("PAUSED", s+", nothing is touched: "+prose.Escape(doc.Pause.Why), layout.Warn)
	}
	if l := doc.Memory.Lease; l != nil {
		say("lease", fmt.Sprintf(": tcp_mem is raised until %s; %s full without it", prose.Time(l.ExpiresAt), prose.Fill(doc.Memory.Fill)), layout.Warn)
	}
	for i := range doc.Rules {
		r := &doc.Rules[i]
		for k := range r.Keys {
			about, text := ruleLine(r, &r.Keys[k], width)
			say(about, text, words.SeverityStyle(r.Severity))
		}
		if r.KeysLeftOut > 0 {
			say(prose.Escape(r.Name), fmt.Sprintf(": and %d more", r.KeysLeftOut), words.SeverityStyle(r.Severity))
		}
		if r.Held {
			say(prose.Escape(r.Name), " is held: a budget is spent"+nextBudget(r), layout.Warn)
		}
	}
	for _, b := range doc.Blind {
		say(prose.Escape(b.ID), ": "+words.Sentence(b.Text), layout.Warn)
	}
	for _, r := range doc.RightsMissing {
		say("rights missing", ": "+prose.Escape(r.Action)+" cannot work here: "+words.Sentence(r.Missing), layout.Warn)
	}
	if j := doc.Journal; j != nil && (j.Waiting > 0 || j.Lost > 0) {
		say("journal", fmt.Sprintf(": it has not taken %s yet, %d lost", prose.Plural(int64(j.Waiting), "message"), j.Lost), layout.Warn)
	}
	if len(doc.Rules) == 0 {
		say("", fmt.Sprintf("no rule is pending or fires; %s, mode %s", prose.Plural(int64(doc.RulesLoaded), "rule"), prose.Escape(doc.Mode)), layout.Plain)
	}
	return out
}

// leastName is how far a name is shortened to leave room for what is done.
const leastName = 12

// ruleLine is a key of a rule in one line: what is next, and when. The name
// gives way to that.
func ruleLine(r *api.RuleState, k *api.RuleKey, width int) (about, text string) {
	about = prose.Escape(r.Name)
	step := fmt.Sprintf("step %d/%d", k.Step, k.Steps)
	when := ""
	if k.NextIn != nil && *k.NextIn >= 1 {
		when = " in " + prose.Seconds(*k.NextIn)
	}
	next := " fires, " + step + when + ": " + prose.Escape(k.Action)
	switch {
	case k.Phase == record.Pending:
		next = " pending, fires" + when + ", then " + prose.Escape(k.Action)
		if when == "" {
			next = " pending, then " + prose.Escape(k.Action)
		}
	case k.Acting:
		next = " fires, " + step + " under way: " + prose.Escape(k.Action)
	case k.Action == "":
		next = " fires, every step is taken"
	}
	switch {
	case k.Choice == "" || k.Choice == record.ChoseAct:
		if r.Mode == "observe" {
			next += ", only observed"
		}
	case k.Guard != "":
		next += ", " + string(k.Choice) + " (" + prose.Escape(k.Guard) + ")"
	default:
		next += ", " + string(k.Choice)
	}
	if r.ForEach == "host" {
		return about, next
	}
	name := layout.ShortenMiddle(prose.Escape(k.Name), max(leastName, width-layout.Width(about)-layout.Width(next)-len(": ")))
	return about, ": " + name + next
}

// nextBudget says when one more comes free, "" where that is not known.
func nextBudget(r *api.RuleState) string {
	for _, b := range r.Budgets {
		if b.Left <= 0 && b.NextAt != nil {
			return ", one more at " + prose.Time(*b.NextAt)
		}
	}
	return ""
}
