package event

import (
	"cmp"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Teller tells records in the order in which they came. It remembers what was
// decided, so that a result can say of what. The zero value is ready.
type Teller struct {
	decided map[string]*record.Decision // by the id of the action
}

// Words tells r in one sentence.
func (t *Teller) Words(r *record.Record) string {
	if t.decided == nil {
		t.decided = make(map[string]*record.Decision)
	}
	switch {
	case r.State != nil:
		s := string(r.State.Phase)
		if r.State.End != "" {
			s += " (" + string(r.State.End) + ")"
		}
		return s + ": " + prose.Escape(cmp.Or(nameOf(r.State.Owner), r.Key)) + ": " + prose.Escape(r.State.Why)
	case r.Decision != nil:
		t.decided[r.Action] = r.Decision
		return DecisionWords(r.Decision)
	case r.Intent != nil && t.decided[r.Action] != nil:
		return "begins: " + prose.Escape(r.Intent.Decision.Action)
	case r.Intent != nil:
		t.decided[r.Action] = &r.Intent.Decision
		return "begins: " + DecisionWords(&r.Intent.Decision)
	case r.Result != nil:
		return "result" + t.of(r) + ": " + ResultWords(r.Result)
	case r.Effect != nil:
		return "effect" + t.of(r) + ": " + EffectWords(r.Effect)
	case r.Event != nil:
		return prose.Escape(r.Event.ID) + ": " + prose.Escape(r.Event.Text)
	}
	return prose.Escape(string(r.Kind))
}

func (t *Teller) of(r *record.Record) string {
	d := t.decided[r.Action]
	if d == nil {
		return ""
	}
	return " of " + prose.Escape(d.Action)
}

func nameOf(o *record.Suspect) string {
	if o == nil {
		return ""
	}
	return o.Name
}
