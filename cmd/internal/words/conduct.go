package words

import (
	"fmt"
	"strings"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxStatusKeys bounds the keys that a status shows of a rule.
const maxStatusKeys = 3

// Conduct says what rules fire, and what stands against acting.
func Conduct(doc *api.Status, columns int, paint layout.Painter) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	if doc.Stop != nil {
		say(paint.Style("STOPPED", layout.Bad) + ", nothing is touched: " + prose.Escape(*doc.Stop))
	}
	if doc.Pause != nil {
		say(paint.Style("PAUSED", layout.Warn) + strings.TrimPrefix(Pause(doc.Pause), "paused"))
	}
	if l := doc.Memory.Lease; l != nil {
		say(fmt.Sprintf("%s: tcp_mem is raised until %s, from %d %d %d pages; %s full without it", paint.Style("lease", layout.Warn),
			prose.Time(l.ExpiresAt), l.BaseMinPages, l.BasePressurePages, l.BaseMaxPages, prose.Fill(doc.Memory.Fill)))
	}
	for i := range doc.Rules {
		out = append(out, ruleLines(&doc.Rules[i], columns, paint)...)
	}
	for _, b := range doc.Blind {
		say(paint.Style(prose.Escape(b.ID), layout.Warn) + ": " + Sentence(b.Text) + ", since " + prose.Time(b.Since))
	}
	for _, r := range doc.RightsMissing {
		s := paint.Style("rights missing", layout.Warn) + ": " + prose.Escape(r.Action) + " cannot work here: " + Sentence(r.Missing)
		if len(r.Rules) > 0 {
			s += "; so these only observe: " + prose.Escape(strings.Join(r.Rules, ", "))
		}
		if r.Fix != "" {
			s += "; " + Sentence(r.Fix)
		}
		say(s)
	}
	if j := doc.Journal; j != nil && (j.Waiting > 0 || j.Lost > 0) {
		say(paint.Style("journal", layout.Warn) + fmt.Sprintf(": it has not taken %s yet, %d lost since the daemon started", prose.Plural(int64(j.Waiting), "message"), j.Lost))
	}
	return out
}

func ruleLines(r *api.RuleState, columns int, paint layout.Painter) []string {
	var states []string
	of := func(n int) string {
		if r.ForEach == "host" {
			return ""
		}
		return " for " + prose.Plural(int64(n), "key")
	}
	if r.Firing > 0 {
		states = append(states, paint.Style("fires"+of(r.Firing), SeverityStyle(r.Severity)))
	}
	if r.Pending > 0 {
		states = append(states, "pending"+of(r.Pending))
	}
	if r.Held {
		states = append(states, paint.Style("held", layout.Warn))
	}
	out := layout.Wrap(fmt.Sprintf("rule %s: %s; mode %s: %s", prose.Escape(r.Name), strings.Join(states, ", "), prose.Escape(r.Mode), prose.Escape(r.ModeWhy)), columns, "  ")
	for i := range r.Keys {
		if i == maxStatusKeys {
			break
		}
		out = append(out, layout.Wrap("  "+RuleKey(&r.Keys[i]), columns, "    ")...)
	}
	if n := int64(len(r.Keys)+r.KeysLeftOut) - maxStatusKeys; n > 0 {
		out = append(out, fmt.Sprintf("  and %d more", n))
	} else if r.KeysLeftOut > 0 {
		out = append(out, fmt.Sprintf("  and %d more", r.KeysLeftOut))
	}
	for _, b := range r.Budgets {
		if b.Left <= 0 {
			s := fmt.Sprintf("  budget spent: %s: %d per %s", prose.Escape(b.Of), b.Count, prose.Seconds(b.PerSeconds))
			if b.NextAt != nil {
				s += ", one more at " + prose.Time(*b.NextAt)
			}
			out = append(out, layout.Wrap(s, columns, "    ")...)
		}
	}
	return out
}

// RuleKey says where a key of a rule stands.
func RuleKey(k *api.RuleKey) string {
	s := prose.Escape(k.Name)
	if k.Bytes != nil {
		s += " (" + prose.Bytes(*k.Bytes) + ")"
	}
	s += " " + string(k.Phase) + " since " + k.Since.UTC().Format("15:04:05")
	switch {
	case k.Acting:
		s += fmt.Sprintf(", step %d of %d under way: %s", k.Step, k.Steps, prose.Escape(k.Action))
	case k.Phase == record.Pending:
		s += in(", fires in ", k.NextIn)
	case k.Action == "" && k.Steps > 0:
		s += ", every step is taken"
	case k.Action != "":
		s += fmt.Sprintf(", step %d of %d%s: %s", k.Step, k.Steps, in(" in ", k.NextIn), prose.Escape(k.Action))
	}
	// That it was taken says the step already.
	if k.Choice != "" && k.Choice != record.ChoseAct {
		s += ": " + string(k.Choice)
		if k.Guard != "" {
			s += " by " + prose.Escape(k.Guard)
		}
		if k.Why != "" {
			s += ": " + prose.Escape(k.Why)
		}
	}
	if k.CooldownLeft != nil {
		s += ", cools down for " + prose.Seconds(*k.CooldownLeft)
	}
	if k.Incident != "" {
		s += "; tcpmemctl explain " + prose.Escape(k.Incident)
	}
	return s
}

// in says when something is due, "" where it is already, or that is not known.
func in(before string, seconds *float64) string {
	if seconds == nil || *seconds < 1 {
		return ""
	}
	return before + prose.Seconds(*seconds)
}

// SeverityStyle colours what a rule of this severity says.
func SeverityStyle(s string) layout.Style {
	switch s {
	case "critical":
		return layout.Bad
	case "warning":
		return layout.Warn
	}
	return layout.Plain
}

// Pause says since and until when nothing is touched, and why.
func Pause(p *api.Pause) string {
	s := "paused"
	if p.Until != nil {
		s += " until " + prose.Time(*p.Until)
	}
	s += ": " + prose.Escape(p.Why)
	if p.By != nil {
		s += fmt.Sprintf(" (by uid %d)", p.By.UID)
	}
	return s
}
