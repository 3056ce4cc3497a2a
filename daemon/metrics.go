package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/engine/level"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// metricsWait is how long the loop may take to say how it stands. Who scrapes
// gives up after some seconds, and then has nothing at all.
const metricsWait = time.Second

// Metrics gives what the daemon knows at this moment; it causes no scan. Where
// the loop does not answer within a second, what only the loop knows is left
// out, and the age of the sample tells why. An error says that the daemon is
// ending.
func (d *Daemon) Metrics(ctx context.Context) (*metrics.Facts, error) {
	f := &metrics.Facts{
		Version: d.cfg.Version, Started: d.started, Owners: d.cfg.Owners, Process: ownProcess(d.process),
	}
	ctx, cancel := context.WithTimeout(ctx, metricsWait)
	defer cancel()
	suspended := false
	err := d.inLoop(ctx, func() {
		j := d.judge
		if !j.running {
			return // it has not even begun to judge
		}
		now := j.cfg.Clock()
		f.Conduct = j.facts(now)
		// The monotonic clock stands still while the host is suspended.
		suspended = now.Since(j.sampledAt) > level.StaleAfter
	})
	if errors.Is(err, errStopping) {
		return nil, err
	}
	now := d.snapshot.Load()
	if now == nil || now.Sample.At.IsZero() {
		return f, nil
	}
	f.Sample, f.Reading = &now.Sample, now.Reading
	if !suspended && time.Since(now.Sample.At) <= level.StaleAfter {
		f.Level, f.Trend = now.Level.Level, now.Trend
	}
	return f, nil
}

// facts is what only the loop knows.
func (j *judge) facts(now record.Stamp) *metrics.Conduct {
	c := &metrics.Conduct{
		Enforcing: j.policy.Mode == policy.Enforce && j.why() == "",
		Paused:    j.pause.why(now) != "", Stopped: j.cfg.Stop() != "",
		Base:          j.lease.base(j.now.Sample.Mem),
		IncidentsOpen: len(j.book.open),
		Blind:         j.blind.ids(),
		RightsMissing: len(j.lacking()),
		Counts:        j.counts.now(),
	}
	if h := j.lease.held; h != nil {
		at := h.Expires.At
		c.LeaseExpires = &at
	}
	if j.acting != nil {
		c.ActionsInProgress++
	}
	if len(j.telling) > 0 { // one after the other
		c.ActionsInProgress++
	}
	for _, s := range j.engine.Standings() {
		c.Rules = append(c.Rules, metrics.Rule{
			Name: s.Rule.Name, Severity: string(s.Rule.Severity), Pending: s.Pending, Firing: s.Firing, Held: s.Held,
		})
	}
	if j.cfg.Undelivered != nil {
		waiting, lost := j.cfg.Undelivered()
		c.Journal = &metrics.Journal{Waiting: waiting, Lost: lost}
	}
	return c
}
