package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func (t *telling) facts() []fact {
	return []fact{t.whoFact(), t.sinceFact(), t.badFact(), t.doneFact(), t.overFact()}
}

func (t *telling) whoFact() fact {
	f := fact{Label: "Who", Value: t.who()}
	if n := t.more(); n > 0 {
		f.Value += fmt.Sprintf(" and %d more", n)
	}
	if o := t.suspect(); o != nil {
		f.Note = identity(o)
	}
	return f
}

func (t *telling) sinceFact() fact {
	f := fact{Label: "Since", Value: prose.Time(t.Began.At)}
	switch after := t.Fired.Since(t.Began); {
	case t.Fired.At.IsZero():
	case after < time.Second:
		f.Note = "the rule fired at once"
	default:
		f.Note = "the rule fired " + prose.Duration(after) + " later"
	}
	return f
}

func (t *telling) badFact() fact {
	f := fact{Label: "How bad", Value: "not known"}
	peak := t.within.peak()
	if peak == nil {
		return f
	}
	c := chart{course: t.course}
	f.Value = c.size(peak.used) + " in use"
	if peak.max > 0 {
		f.Value = t.fill() + " full"
		f.Note = c.size(peak.used) + " of " + c.size(peak.max) + " at " + peak.at.UTC().Format(time.TimeOnly)
	}
	lasted := t.within.levels()
	for _, level := range []string{"critical", "pressure", "elevated"} {
		if d := lasted[level]; d > 0 {
			f.Note += "; " + level + " for " + prose.Duration(d)
			break
		}
	}
	if n, known := t.within.aborted(); known && n > 0 {
		f.Note += "; the kernel aborted " + prose.Plural(n, "connection")
	}
	f.Note = strings.TrimPrefix(f.Note, "; ")
	return f
}

func (t *telling) doneFact() fact {
	f := fact{Label: "What was done", Value: "nothing"}
	acted := 0
	for _, d := range t.deeds {
		if d.about.Choice == record.ChoseAct && d.touches() {
			acted++
		}
	}
	if slices.ContainsFunc(t.deeds, func(d *deed) bool { return d.about.Choice == record.ChoseAct }) && acted == 0 {
		f.Value = "told, nothing touched"
	}
	d := t.deed()
	if d == nil {
		return f
	}
	at := "at " + d.rec.At.UTC().Format(time.TimeOnly)
	switch d.about.Choice {
	case record.ChoseAct:
		f.Value, f.Note = done(d.about.Action)+": "+d.came(), at
		if e := d.effect; e != nil && e.PoolBefore != nil && e.PoolAfter != nil {
			f.Note += "; the pool went from " + prose.Bytes(*e.PoolBefore) + " to " + prose.Bytes(*e.PoolAfter)
		} else if d.result != nil {
			f.Note += ": " + prose.Escape(cut(d.result.Message, 120))
		}
	case record.ChoseDryRun:
		f.Value, f.Note = "nothing, it only watched", "it would have "+done(d.about.Action)+"; "+prose.Escape(cut(cmp.Or(d.about.ModeWhy, d.about.Why), 120))
	case record.ChoseRefuse:
		f.Value, f.Note = "nothing: a guard refused", prose.Escape(cut(d.about.Why, 160))
	case record.ChoseHold:
		f.Value, f.Note = "nothing: the budget is spent", prose.Escape(cut(d.about.Why, 160))
	case record.ChoseNothing:
		f.Value, f.Note = "every step, in vain", prose.Escape(cut(d.about.Why, 160))
	default:
		f.Value, f.Note = "nothing yet: it waits", prose.Escape(cut(d.about.Why, 160))
	}
	if acted > 1 {
		f.Note = fmt.Sprintf("the last of %d actions; ", acted) + f.Note
	}
	return f
}

func (t *telling) overFact() fact {
	f := fact{Label: "Is it over"}
	if t.Ended == nil {
		f.Value = "no"
		if d := t.meta.Now.Sub(t.Began.At); d > 0 {
			f.Value = "no, it lasts for " + prose.Duration(d)
		}
		if m := t.course.last(); m != nil && m.max > 0 {
			f.Note = prose.Fill(float64(m.used)/float64(m.max)) + " full at the last reading, " + prose.Time(m.at)
		}
		return f
	}
	f.Value = "yes, after " + prose.Duration(t.Ended.Since(t.Began))
	if t.End == record.EndStopped {
		f.Value = "not known"
	}
	f.Note = endWords(t.End) + ", " + prose.Time(t.Ended.At)
	return f
}

func endWords(e record.End) string {
	switch e {
	case record.EndCleared:
		return "the rule gave the all-clear"
	case record.EndOwnerGone:
		return "the owner is gone"
	case record.EndRuleChanged:
		return "the rule was changed or removed"
	case record.EndReset:
		return "the rule was reset by hand"
	case record.EndStopped:
		return "tcpmemd stopped"
	case record.EndModeChanged:
		return "the mode was changed"
	}
	return prose.Escape(string(e))
}

// identity says in one line who an owner is.
func identity(o *record.Suspect) string {
	line := strings.TrimPrefix(event.OwnerLines(o)[0], "who: "+prose.Escape(cmp.Or(o.Name, o.Key))+", ")
	return cut(line, 200)
}
