package cli

import (
	"fmt"
	"strings"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// maxStatusKeys bounds the keys that a status shows of a rule.
const maxStatusKeys = 3

// conductLines say what rules fire, and what stands against acting.
func conductLines(doc *api.Status, columns int, paint painter) []string {
	var out []string
	say := func(s string) { out = append(out, wrap(s, columns, "  ")...) }
	if doc.Stop != nil {
		say(paint.style("STOPPED", bad) + ", nothing is touched: " + prose.Escape(*doc.Stop))
	}
	if doc.Pause != nil {
		say(paint.style("PAUSED", warn) + strings.TrimPrefix(pauseWords(doc.Pause), "paused"))
	}
	if l := doc.Memory.Lease; l != nil {
		say(fmt.Sprintf("%s: tcp_mem is raised until %s, from %d %d %d pages; %s full without it", paint.style("lease", warn),
			prose.Time(l.ExpiresAt), l.BaseMinPages, l.BasePressurePages, l.BaseMaxPages, prose.Fill(doc.Memory.Fill)))
	}
	for i := range doc.Rules {
		out = append(out, ruleLines(&doc.Rules[i], columns, paint)...)
	}
	for _, b := range doc.Blind {
		say(paint.style(prose.Escape(b.ID), warn) + ": " + sentence(b.Text) + ", since " + prose.Time(b.Since))
	}
	for _, r := range doc.RightsMissing {
		s := paint.style("rights missing", warn) + ": " + prose.Escape(r.Action) + " cannot work here: " + sentence(r.Missing)
		if len(r.Rules) > 0 {
			s += "; so these only observe: " + prose.Escape(strings.Join(r.Rules, ", "))
		}
		if r.Fix != "" {
			s += "; " + sentence(r.Fix)
		}
		say(s)
	}
	if j := doc.Journal; j != nil && (j.Waiting > 0 || j.Lost > 0) {
		say(paint.style("journal", warn) + fmt.Sprintf(": it has not taken %s yet, %d lost since the daemon started", prose.Plural(int64(j.Waiting), "message"), j.Lost))
	}
	return out
}

func ruleLines(r *api.RuleState, columns int, paint painter) []string {
	var states []string
	of := func(n int) string {
		if r.ForEach == "host" {
			return ""
		}
		return " for " + prose.Plural(int64(n), "key")
	}
	if r.Firing > 0 {
		states = append(states, paint.style("fires"+of(r.Firing), severityStyle(r.Severity)))
	}
	if r.Pending > 0 {
		states = append(states, "pending"+of(r.Pending))
	}
	if r.Held {
		states = append(states, paint.style("held", warn))
	}
	out := wrap(fmt.Sprintf("rule %s: %s; mode %s: %s", prose.Escape(r.Name), strings.Join(states, ", "), prose.Escape(r.Mode), prose.Escape(r.ModeWhy)), columns, "  ")
	for i := range r.Keys {
		if i == maxStatusKeys {
			break
		}
		out = append(out, wrap("  "+keyWords(&r.Keys[i]), columns, "    ")...)
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
			out = append(out, wrap(s, columns, "    ")...)
		}
	}
	return out
}

// keyWords say where a key of a rule stands.
func keyWords(k *api.RuleKey) string {
	s := prose.Escape(k.Name)
	if k.Bytes != nil {
		s += " (" + prose.Bytes(*k.Bytes) + ")"
	}
	s += " " + string(k.Phase) + " since " + k.Since.UTC().Format("15:04:05")
	switch {
	case k.Acting:
		s += fmt.Sprintf(", step %d of %d under way: %s", k.Step, k.Steps, prose.Escape(k.Action))
	case k.Phase == record.Pending:
	case k.Action == "" && k.Steps > 0:
		s += ", every step is taken"
	case k.Action != "":
		s += fmt.Sprintf(", step %d of %d: %s", k.Step, k.Steps, prose.Escape(k.Action))
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
