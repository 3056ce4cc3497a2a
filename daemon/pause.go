package daemon

import (
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// pause is the file that stops all touching: made by `tcpmemctl pause`, with an
// end, or by hand, as the emergency stop that not even a person acts against.
type pause struct {
	at    record.Stamp // of the last look
	state PauseState
}

// PauseState is what the pause file says; the zero state is none.
type PauseState struct {
	Why   string
	Since record.Stamp
	Until *record.Stamp // nil: until somebody ends it
	By    *record.Caller
}

// look reads the file, once in a turn.
func (p *pause) look(j *judge, now record.Stamp) {
	was := p.state
	p.at, p.state = now, j.cfg.Paused()
	stopped := func(s *PauseState) bool { return s.Why != "" && s.Until == nil }
	switch {
	case stopped(&p.state) && !stopped(&was):
		j.event("emergency-stop", "warning", "everything is stopped: "+p.state.Why, nil)
	case p.state.Why != "" && (was.Why == "" || stopped(&was) && !stopped(&p.state)):
		j.event("paused", "warning", "touching is paused: "+p.state.Why, nil)
	case was.Why != "" && p.state.Why == "":
		j.event("resumed", "info", "the pause is over", nil)
	default:
		return
	}
	j.restate()
}

func (p *pause) why(now record.Stamp) string {
	if p.state.Until != nil && past(now, *p.state.Until) {
		return ""
	}
	return p.state.Why
}
