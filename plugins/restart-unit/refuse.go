package restartunit

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/reading"
	"github.com/tcpmemd/tcpmemd/daemon/units"
	"github.com/tcpmemd/tcpmemd/plugins/internal/settings"
	"github.com/tcpmemd/tcpmemd/remediate"
)

// owner says what speaks against the owner, by what the request tells.
func (c *choice) owner(o *remediate.Owner) *remediate.Response {
	switch {
	case o == nil, o.Unit == "":
		return refused("no-unit", "the memory belongs to no unit that could be restarted")
	case strings.HasPrefix(o.Manager, "user@"):
		return refused("user-manager", "%s is a unit of a user's manager (%s): these are told of, not touched", o.Unit, o.Manager)
	case !o.UnitVerified, o.Manager != "system":
		return refused("unverified", "PID 1 did not say that the memory is %s's: the name is read from a control group", settings.Quote(o.Unit))
	case path.Ext(o.Unit) == ".scope":
		return refused("scope", "%s is a scope: systemd did not start its processes and cannot restart them", o.Unit)
	case path.Ext(o.Unit) == ".slice":
		return refused("slice", "%s is a slice: it groups units and has no processes of its own", o.Unit)
	case path.Ext(o.Unit) != ".service":
		return refused("no-service", "%s is no service", o.Unit)
	case o.Protected != "":
		return refused("protected", "%s is protected: %s", o.Unit, settings.Quote(o.Protected))
	case o.Shared:
		return refused("shared", "processes of other units hold sockets of %s too", o.Unit)
	case o.Verdict == string(reading.SlowPeer):
		return refused("slow-peer", "%s is the victim of a peer that does not read (%s): a restart would not change that", o.Unit, settings.Quote(o.Culprit))
	case o.InvocationID == "":
		return refused("identity-changed", "which start of %s was measured is not known", o.Unit)
	}
	if why := units.Protected(o.Unit, c.protect); why != "" {
		return refused("protected", "%s", why)
	}
	return nil
}

// check asks PID 1, right before the restart, what speaks against it, and
// finds out what it would take along and free.
func (r *restart) check(ctx context.Context) *remediate.Response {
	unit := r.request.Owner.Unit
	var err error
	if r.before, err = r.systemd.Service(ctx, unit); err != nil {
		return unanswered(err)
	}
	// An alias would slip through the list.
	if why := units.Protected(r.before.Name, r.protect); why != "" {
		return refused("protected", "%s", why)
	}
	if resp := r.service(); resp != nil {
		return resp
	}
	if r.along, err = r.systemd.Closure(ctx, r.before.Name); err != nil {
		if errors.Is(err, units.ErrTooMany) {
			return refused("closure-too-large", "a restart of %s takes %v along", unit, units.ErrTooMany)
		}
		return unanswered(err)
	}
	if resp := r.closure(); resp != nil {
		return resp
	}
	r.predict()
	var sum int64
	for _, n := range r.predicted {
		sum += n
	}
	if sum == 0 {
		return refused("frees-nothing", "a restart of %s would free nothing of what it holds", unit)
	}
	return nil
}

// unanswered is PID 1's silence, or that it knows no such unit.
func unanswered(err error) *remediate.Response {
	if errors.Is(err, units.ErrNoUnit) {
		return refused("unit-gone", "%v", err)
	}
	code := "systemd"
	if errors.Is(err, units.ErrNoBus) {
		code = "no-bus"
	}
	return &remediate.Response{Result: remediate.Failed, Code: code, Message: err.Error()}
}

// service says what of the unit's state speaks against a restart.
func (r *restart) service() *remediate.Response {
	s, unit := &r.before, r.before.Name
	switch {
	case s.LoadState == "masked", strings.HasPrefix(s.UnitFileState, "masked"):
		return refused("masked", "%s is masked: once stopped it would not start", unit)
	case s.LoadState == "not-found":
		return refused("unit-gone", "the file of %s is gone: once stopped it would not start", unit)
	case s.LoadState != "loaded":
		return refused("not-loaded", "the file of %s cannot be used (%s): once stopped it would not start", unit, s.LoadState)
	case s.SubState == "auto-restart":
		return refused("auto-restart", "systemd is about to restart %s by itself", unit)
	case s.ActiveState != "active":
		return refused("not-active", "%s is not running: it is %s (%s)", unit, s.ActiveState, s.SubState)
	case s.InvocationID != r.request.Owner.InvocationID:
		return refused("identity-changed", "%s was started anew since it was measured: invocation %s, then %s",
			unit, r.request.Owner.InvocationID, s.InvocationID)
	case s.JobID != 0:
		return refused("pending-job", "systemd has another job for %s under way (%d)", unit, s.JobID)
	case s.Type == "oneshot":
		return refused("oneshot", "%s is Type=oneshot: a restart runs a task once more that was meant to run once", unit)
	case s.RemainAfterExit:
		return refused("remain-after-exit", "%s has RemainAfterExit=: what it started is not what a restart would start", unit)
	case s.KillMode == "process", s.KillMode == "none":
		return refused("kill-mode", "%s has KillMode=%s: its processes, and what they hold, would stay", unit, s.KillMode)
	case s.RefuseManualStart, s.RefuseManualStop:
		return refused("refuse-manual", "%s has RefuseManualStart= or RefuseManualStop=", unit)
	}
	return r.startLimit()
}

// startLimit keeps a start for systemd's own use: a service that may not be
// started any more stays down. PID 1 does not tell how many starts it has
// counted, so that all automatic ones count as recent while the last one is.
func (r *restart) startLimit() *remediate.Response {
	s := &r.before
	age := r.uptime() - s.ActiveEnterMonotonic
	if s.StartLimitBurst == 0 || s.StartLimitInterval == 0 || age >= s.StartLimitInterval {
		return nil
	}
	if starts := s.Restarts + 1; starts+1 >= s.StartLimitBurst {
		return refused("start-limit", "%s was started %d times, last %v ago, of %d in %v: one more could be its last",
			s.Name, starts, age.Round(time.Second), s.StartLimitBurst, s.StartLimitInterval)
	}
	return nil
}

// closure says which unit that would be restarted along must not be.
func (r *restart) closure() *remediate.Response {
	var alien []string
	for _, d := range r.along {
		if why := units.Protected(d.Name, r.protect); why != "" {
			return refused("closure-protected", "a restart of %s takes %s along (%s), and %s", r.before.Name, d.Name, d.Via, why)
		}
		if !allowed(d.Name, r.allow) {
			alien = append(alien, fmt.Sprintf("%s (%s)", d.Name, d.Via))
		}
	}
	if alien == nil {
		return nil
	}
	const most = 5
	more := ""
	if len(alien) > most {
		alien, more = alien[:most], fmt.Sprintf(" and %d more", len(alien)-most)
	}
	return refused("closure-not-allowed", "a restart of %s takes %s%s along, which the setting allow does not name",
		r.before.Name, strings.Join(alien, ", "), more)
}

// allowed holds the globs against a name with and without its type.
func allowed(name string, globs []string) bool {
	stem := strings.TrimSuffix(name, path.Ext(name))
	for _, glob := range globs {
		whole, err := path.Match(glob, name)
		short, _ := path.Match(glob, stem)
		if err == nil && (whole || short) {
			return true
		}
	}
	return false
}

// untouched answers for a restart that never began.
func untouched(err error) *remediate.Response {
	switch {
	case err == nil, errors.Is(err, units.ErrUnfinished):
		return nil
	case errors.Is(err, units.ErrRefused):
		return refused("job-refused", "%v", err)
	case errors.Is(err, units.ErrCalledOff):
		return &remediate.Response{Result: remediate.TimedOut, Code: "job-not-begun", Message: err.Error()}
	}
	return unanswered(err)
}
