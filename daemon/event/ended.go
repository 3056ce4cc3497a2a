package event

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Deed is an action that was to touch something, and what came of it.
type Deed struct {
	ID       string
	Decision *record.Decision
	Result   *record.Result // nil before
	Effect   *record.Effect // nil where none was measured
}

// Ended tells that what fired is over: after how long, what was done, and
// whether it helped.
func Ended(c Case, s *record.State) Text {
	line := c.name() + "over"
	if c.Owner != nil {
		line += " for " + short(c.Owner.Name)
	} else if c.Key != "" && c.Key != "host" {
		line += " for " + short(c.Key)
	}
	if n := len(c.Others) + c.MoreOthers; n > 0 {
		line += fmt.Sprintf(" and %d more", n)
	}
	lasted := time.Duration(0)
	if !c.Since.IsZero() && c.At.After(c.Since) {
		lasted = c.At.Sub(c.Since)
		line += " after " + prose.Duration(lasted)
	}
	why := strings.TrimPrefix(endWords(s), "over: ")
	switch n := len(c.Deeds); {
	case n > 0:
		line += ": " + c.Deeds[n-1].words()
	default:
		line += ": " + why
	}
	t := c.text(RuleEnded, line)
	t.field("END", string(s.End))
	t.field("DURATION_SECONDS", strconv.FormatInt(int64(lasted.Seconds()), 10))
	t.field("KEYS", strconv.Itoa(1+len(c.Others)+c.MoreOthers))
	t.field("ACTIONS", strconv.Itoa(len(c.Deeds)+c.MoreDeeds))
	if n := len(c.Deeds); n > 0 {
		t.outcome(c.Deeds[n-1].Result, c.Deeds[n-1].Effect)
	}
	t.say("rule", c.About)
	t.add("over: " + why)
	if c.Owner != nil {
		t.add("at its worst: " + brief(c.Owner))
	}
	for i := range c.Others {
		t.add("also: " + brief(&c.Others[i]))
	}
	if c.Worst.Max > 0 {
		worst := Case{Pool: c.Worst}
		t.add("at the worst: " + worst.pool())
	}
	for i := range c.Deeds {
		t.add("done: " + c.Deeds[i].story())
	}
	switch {
	case c.MoreDeeds > 0:
		t.add("done: " + prose.Plural(int64(c.MoreDeeds), "action") + " more")
	case len(c.Deeds) == 0:
		t.add("done: nothing was touched")
	}
	if p := c.pool(); p != "" {
		t.add("now: " + p)
	}
	t.show(&c)
	return t
}

// words says in one clause what was done, and whether it helped.
func (d *Deed) words() string {
	s := actionName(d.Decision)
	switch {
	case d.Effect != nil && d.Effect.Verdict == record.Helped:
		return s + " helped"
	case d.Effect != nil && d.Effect.Verdict != record.NotMeasured:
		return s + ": " + string(d.Effect.Verdict)
	case d.Result != nil:
		return s + ": " + string(d.Result.Outcome)
	}
	return s + " has no result yet"
}

// story says all of it.
func (d *Deed) story() string {
	s := actionName(d.Decision)
	if d.Result != nil {
		s += ": " + ResultWords(d.Result)
	}
	if d.Effect != nil {
		s += "; " + EffectWords(d.Effect)
	}
	return s
}

func endWords(s *record.State) string {
	if s.Why != "" {
		return prose.Escape(oneLine(s.Why))
	}
	return string(s.End)
}
