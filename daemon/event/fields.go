package event

import (
	"cmp"
	"strconv"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// field adds a value for programs; "" is none.
func (t *Text) field(name, value string) {
	if value != "" {
		t.Fields = append(t.Fields, Field{name, value})
	}
}

func (t *Text) number(name string, n int64) { t.field(name, strconv.FormatInt(n, 10)) }

// fields adds what a case knows, and no guess: a unit is named as such where
// PID 1 said so.
func (t *Text) fields(c *Case) {
	t.field("RULE", c.Rule)
	t.field("KEY", c.Key)
	t.field("INCIDENT", c.Incident)
	t.field("ACTION", c.Action)
	t.field("RECORD", c.Record)
	t.field("MODE", c.Mode)
	t.field("LEVEL", c.Level)
	if !c.Since.IsZero() {
		t.field("SINCE", c.Since.UTC().Format(time.RFC3339))
	}
	if c.Pool.Max > 0 {
		t.number("USED_BYTES", c.Pool.Used)
		t.number("PRESSURE_BYTES", c.Pool.Pressure)
		t.number("MAX_BYTES", c.Pool.Max)
	}
	o := c.Owner
	if o == nil {
		return
	}
	t.field("OWNER", o.Name)
	t.field("OWNER_KIND", string(o.Kind))
	t.number("OWNER_BYTES", o.Bytes)
	if o.Pod != nil {
		t.field("NAMESPACE", o.Pod.Namespace)
		t.field("POD", cmp.Or(o.Pod.Name, o.Pod.UID))
	}
	if o.Container != nil {
		t.field("CONTAINER", cmp.Or(o.Container.Name, o.Container.ID))
	}
	if o.Verdict != nil {
		t.field("VERDICT", string(o.Verdict.Kind))
	}
	if o.UID != nil {
		t.field("OWNER_UID", strconv.FormatUint(uint64(*o.UID), 10))
	}
	command := o.Command
	if len(o.Holders) > 0 {
		t.Holder = &o.Holders[0]
		t.number("PID", int64(t.Holder.PID))
		command = t.Holder.Command
	}
	t.field("COMMAND", command)
	t.object(o)
	if len(t.Units) > 0 {
		t.field("UNIT", t.Units[0])
	}
	for i := range c.Others {
		t.object(&c.Others[i])
	}
}

// object adds the unit of an owner, where PID 1 itself named it.
func (t *Text) object(o *record.Suspect) {
	if o.UnitVerified && o.Unit != "" && o.Manager == "system" {
		t.Units = append(t.Units, o.Unit)
	}
}

// step adds which of a rule's steps it is about.
func (t *Text) step(d *record.Decision) {
	if d != nil {
		t.field("STEP", strconv.Itoa(d.Step))
		t.field("STEP_ACTION", d.Action)
	}
}

// outcome adds what came of an action, as far as it is known.
func (t *Text) outcome(r *record.Result, e *record.Effect) {
	if r != nil {
		t.field("RESULT", string(r.Outcome))
		t.field("RESULT_CODE", r.Code)
	}
	if e != nil {
		t.field("EFFECT", string(e.Verdict))
	}
}
