package runner

import (
	"cmp"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/remediate"
)

// state is what a slot remembers for a person.
type state struct {
	calls, failures int64
	lastErr         error
	lastErrAt       time.Time
}

// Status is a plugin as it is now.
type Status struct {
	Plugin
	// Description is nil until it was asked for.
	Description     *remediate.Description
	Ready           bool // to be kept started
	PID             int  // of the process that can act, 0 where there is none
	Started         time.Time
	Calls, Failures int64
	LastErr         error
	LastErrAt       time.Time
}

// Status lists all plugins by name.
func (r *Runner) Status() []Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []Status
	for _, s := range r.slots {
		st := Status{
			Plugin: s.plugin, Description: s.described, Ready: s.wanted,
			Calls: s.state.calls, Failures: s.state.failures, LastErr: s.state.lastErr, LastErrAt: s.state.lastErrAt,
		}
		if p := s.acting.Load(); p != nil && p.alive.Err() == nil {
			st.PID, st.Started = p.pid(), p.began
		}
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Verify checks a plugin's file and the folders above it as a start does, and
// notes its checksum.
func (r *Runner) Verify(name string) (File, error) {
	s, err := r.slot(name, PhaseVerify)
	if err != nil {
		return File{}, err
	}
	f, err := r.verify(s)
	if err != nil {
		return File{}, wrap(name, PhaseVerify, err)
	}
	defer f.Close()
	if f.info.SHA256 == "" {
		err = f.sum()
	}
	return f.info, wrap(name, PhaseVerify, err)
}

// note counts a call.
func (r *Runner) note(s *slot, phase Phase, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if phase != PhaseEnd && phase != PhaseStart {
		s.state.calls++
	}
	if err != nil {
		s.state.failures++
		s.state.lastErr, s.state.lastErrAt = err, time.Now()
	}
}
