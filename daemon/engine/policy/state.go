package policy

import (
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// state is one rule and key, from the first pending to the end.
type state struct {
	rule  *Rule
	key   string
	phase record.Phase
	began record.Stamp // the first pending
	fired record.Stamp
	turn  record.Stamp  // the last evaluation that saw the key
	quiet *record.Stamp // since when the condition does not hold, while it fires
	gone  *record.Stamp // since when the key has no bytes

	ladder
	mode  Mode  // effective, at the last look
	told  []int // the steps, from 1, by which somebody was
	shown record.State
	// decided is the last decision, as far as people ask for it.
	decided record.Decision
}

// ladder is how far the steps of a firing key have come.
type ladder struct {
	step     int          // index of the next
	clock    record.Stamp // its After counts from here
	acting   bool         // it runs, or its effect is being measured
	helped   bool         // it ran and helped: what fires now is not helped
	waits    *record.Stamp
	last     string       // choice and guard last recorded for it
	free     bool         // the step before would have freed nothing: After does not count
	finished record.Stamp // when being exhausted was last told
}

// wait is how long the next step waits, from the ladder's clock on.
func (l *ladder) wait(step *Step) time.Duration {
	switch {
	case l.helped:
		return max(step.After, grace)
	case l.free:
		return 0
	}
	return step.After
}

// leave is how long a condition without `until` must be gone.
const leave = 30 * time.Second

// see takes an evaluation of the key.
func (s *state) see(when Truth, vars *Vars, sub subject, in *Input, out *Output, e *Engine) {
	s.turn = in.Now
	fresh := s.shown.Phase == ""
	switch s.phase {
	case record.Pending:
		if when != Yes {
			out.Changes = append(out.Changes, s.end(record.EndNotReached, "the condition went away"))
			return
		}
		if fresh {
			out.Changes = append(out.Changes, s.change(record.Pending, "the condition holds", vars, sub, in, e))
		}
		if in.Now.Since(s.began) >= s.rule.For {
			s.phase, s.fired, s.ladder = record.Firing, in.Now, ladder{clock: in.Now}
			why := "the condition has held for " + s.rule.For.String()
			out.Changes = append(out.Changes, s.change(record.Firing, why, vars, sub, in, e))
		}
	case record.Firing:
		if when == Yes {
			s.quiet = nil
		} else if s.quiet == nil && when == No {
			s.quiet = in.moment()
		}
		if s.acting {
			return // its effect is measured first
		}
		switch {
		case s.rule.Until != nil && s.rule.Until.Eval(vars) == Yes:
			out.Changes = append(out.Changes, s.end(record.EndCleared, "over: "+s.rule.Until.String()))
		case s.rule.Until == nil && s.quiet != nil && in.Now.Since(*s.quiet) >= max(s.rule.For, leave):
			out.Changes = append(out.Changes, s.end(record.EndCleared, "the condition does not hold any more"))
		case sub.about != nil && sub.bytes == 0 && s.missing(in, out):
		default:
			if sub.bytes > 0 {
				s.gone = nil
			}
		}
	}
}

// missing takes an evaluation that did not see the key, or saw it hold nothing.
// It reports whether that ended it.
func (s *state) missing(in *Input, out *Output) bool {
	if in.Facts.Reading != nil && in.Facts.Reading.Partial || s.acting {
		return false // it may be there
	}
	if s.gone == nil {
		s.gone = in.moment()
	}
	switch {
	case s.phase == record.Pending:
		out.Changes = append(out.Changes, s.end(record.EndNotReached, "its memory is gone"))
	case in.Now.Since(*s.gone) >= s.rule.For:
		out.Changes = append(out.Changes, s.end(record.EndOwnerGone, "its memory is gone"))
	default:
		return false
	}
	return true
}

// change describes the state as it is now.
func (s *state) change(phase record.Phase, why string, vars *Vars, sub subject, in *Input, e *Engine) Change {
	mode, _ := e.mode(s.rule, sub.target, in)
	s.mode = mode
	s.shown = record.State{
		Phase: phase, Since: s.began, Why: why, Mode: string(mode), Level: in.Facts.Level.String(),
		Numbers: s.rule.When.Numbers(vars),
	}
	about := sub.about
	if about == nil {
		about = sub.target
	}
	if about != nil {
		suspect := Suspect(in.Facts.Reading, about)
		s.shown.Owner = &suspect
	}
	return Change{Rule: s.rule, Key: s.key, State: s.shown, Told: s.told}
}

// end ends the state; whoever calls forgets it.
func (s *state) end(end record.End, why string) Change {
	shown := s.shown
	shown.Phase, shown.Since, shown.End, shown.Why = record.Ended, s.began, end, why
	if s.phase == record.Pending && end != record.EndGap {
		shown.Numbers = nil
	}
	s.phase = record.Ended
	return Change{Rule: s.rule, Key: s.key, State: shown, Told: s.told}
}

func cutPair(k string) (rule, key string, ok bool) { return strings.Cut(k, "\x00") }
