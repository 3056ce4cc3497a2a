package daemon

import (
	"maps"
	"slices"

	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/metrics"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// counts counts what is recorded, for whoever asks for metrics. It costs a look
// through a short list for each record, of which there are some in a minute, so
// it counts always.
type counts struct {
	metrics.Counts
	guards []string
}

func newCounts(p *policy.Config) counts {
	c := counts{guards: policy.GuardNames()}
	c.Decisions = make(map[record.Choice]int64)
	c.expect(p)
	return c
}

// expect says which results may come of a policy: a series that is there from 0
// shows the first of them as a rise.
func (c *counts) expect(p *policy.Config) {
	for _, r := range p.Rules {
		for i := range r.Steps {
			name := r.Steps[i].Action
			well, badly := record.Done, record.Failed
			if p.Actions[name].Touches == policy.TouchesNothing {
				well, badly = record.Delivered, record.Undelivered
			}
			c.Actions = metrics.Add(c.Actions, name, string(well), 0)
			c.Actions = metrics.Add(c.Actions, name, string(badly), 0)
		}
	}
}

// decision counts one that is recorded.
func (c *counts) decision(d *record.Decision) {
	c.Decisions[d.Choice]++
	if d.Choice == record.ChoseRefuse {
		c.refused(d.Guard)
	}
}

func (c *counts) refused(guard string) { c.Refusals = metrics.Add(c.Refusals, guard, "", 1) }

// result counts what came of an action. One that a guard refused right before
// acting has its name for a code.
func (c *counts) result(action string, r *record.Result) {
	c.Actions = metrics.Add(c.Actions, action, string(r.Outcome), 1)
	if r.Outcome == record.Refused && slices.Contains(c.guards, r.Code) {
		c.refused(r.Code)
	}
}

func (c *counts) effect(action string, v record.Verdict) {
	c.Effects = metrics.Add(c.Effects, action, string(v), 1)
}

// now gives the counts as they are, to be read outside of the loop.
func (c *counts) now() metrics.Counts {
	return metrics.Counts{
		Decisions: maps.Clone(c.Decisions), Refusals: slices.Clone(c.Refusals),
		Actions: slices.Clone(c.Actions), Effects: slices.Clone(c.Effects), Incidents: c.Incidents,
	}
}
