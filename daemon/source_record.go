package daemon

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/engine/policy"
	"github.com/tcpmemd/tcpmemd/daemon/record"
	"github.com/tcpmemd/tcpmemd/daemon/store/actions"
	"github.com/tcpmemd/tcpmemd/daemon/store/history"
)

// Records gives the selected records of the action log, the newest first.
func (s *source) Records(ctx context.Context, q api.RecordQuery) iter.Seq2[record.Record, error] {
	if s.d.cfg.Archive == nil {
		return func(yield func(record.Record, error) bool) { yield(record.Record{}, errNothingRecorded) }
	}
	return s.d.cfg.Archive.Records(ctx, actions.Query{
		Since: q.Since, Incident: q.Incident, Action: q.Action, Rule: q.Rule, Kind: q.Kind, ID: q.ID, Limit: q.Limit, NewestFirst: true,
	})
}

// History gives the segments with what was recorded since then: who asks
// decodes them, so that the daemon has next to nothing to do.
func (s *source) History(ctx context.Context, since time.Time) iter.Seq2[api.Segment, error] {
	return func(yield func(api.Segment, error) bool) {
		if s.d.cfg.History == "" {
			yield(api.Segment{}, errNothingRecorded)
			return
		}
		for segment, err := range history.Copy(history.Dir(s.d.cfg.History), since) {
			if ctx.Err() != nil {
				yield(api.Segment{}, context.Cause(ctx))
				return
			}
			if err != nil {
				s.d.log.Warn("copy history", "err", err)
				continue // one segment is lost, what follows is not
			}
			if !yield(api.Segment(segment), nil) {
				return
			}
		}
	}
}

// Incidents lists incidents, the newest first.
func (s *source) Incidents(ctx context.Context) ([]api.IncidentSummary, error) {
	if s.d.cfg.Archive == nil {
		return nil, errNothingRecorded
	}
	var list []api.IncidentSummary
	for _, sum := range s.d.cfg.Archive.Incidents() {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		in, err := s.Incident(ctx, sum.ID)
		if err != nil || in == nil {
			continue // it made room for a newer one meanwhile
		}
		list = append(list, api.SummaryOf(in))
	}
	slices.SortStableFunc(list, func(a, b api.IncidentSummary) int { return b.Began.Compare(a.Began) })
	return list, nil
}

// Incident gives one, as it is now where it is open; nil where there is none.
func (s *source) Incident(ctx context.Context, id string) (*record.Incident, error) {
	var open *record.Incident
	err := s.d.inLoop(ctx, func() {
		if p := s.d.judge.book.find(id); p != nil {
			in := p.Incident
			in.Keys, in.Readings, in.Records = slices.Clone(in.Keys), slices.Clone(in.Readings), slices.Clone(in.Records)
			open = &in
		}
	})
	if err != nil || open != nil {
		return open, err
	}
	if s.d.cfg.Archive == nil {
		return nil, errNothingRecorded
	}
	in, err := s.d.cfg.Archive.Incident(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // as Record says: there is none
	}
	return in, err
}

// Rules says where each rule stands.
func (s *source) Rules(ctx context.Context) (list []api.RuleState, err error) {
	err = s.d.inLoop(ctx, func() { list = s.d.judge.rules() })
	return list, err
}

// maxRuleKeys bounds the keys that are told of one rule.
const maxRuleKeys = 20

func (j *judge) rules() []api.RuleState {
	now := j.cfg.Clock()
	in := j.input(now, false)
	var list []api.RuleState
	for _, st := range j.engine.Status(&in) {
		r := st.Rule
		out := api.RuleState{
			Name: r.Name, About: r.About, Severity: string(r.Severity), Mode: string(st.Mode), ModeWhy: st.ModeWhy,
			ForEach: string(r.ForEach), When: r.When.String(), Hash: r.Hash, CooldownSeconds: r.Cooldown.Seconds(),
			Keys: []api.RuleKey{}, Budgets: []api.Budget{},
		}
		if j.policy.Origin != nil {
			out.Origin = j.policy.Origin(r.Name)
		}
		for _, k := range st.Keys {
			if k.Phase == record.Firing {
				out.Firing++
			} else {
				out.Pending++
			}
			out.Held = out.Held || k.Choice == record.ChoseHold && k.Guard == "budget"
			if len(out.Keys) == maxRuleKeys {
				out.KeysLeftOut++
				continue
			}
			out.Keys = append(out.Keys, j.ruleKey(r, &k))
		}
		for _, b := range st.Budgets {
			one := api.Budget{Of: b.Of, Count: b.Budget.Count, PerSeconds: b.Budget.Per.Seconds(), Left: b.Left}
			if b.Next > 0 {
				at := now.At.Add(b.Next).UTC()
				one.NextAt = &at
			}
			out.Budgets = append(out.Budgets, one)
		}
		list = append(list, out)
	}
	return list
}

func (j *judge) ruleKey(r *policy.Rule, k *policy.KeyStatus) api.RuleKey {
	out := api.RuleKey{
		Key: k.Key, Name: k.Key, Phase: k.Phase, Since: k.Since.At.UTC(), Step: k.Step, Steps: len(r.Steps), Action: k.Action,
		Acting: k.Acting, Choice: k.Choice, Guard: k.Guard, Why: k.Why,
	}
	if k.Phase == record.Firing {
		out.Incident = j.book.id(r.Name)
	}
	if k.Owner != nil {
		out.Name, out.Bytes = k.Owner.Name, &k.Owner.Bytes
	}
	if k.Next != nil {
		out.NextIn = new(k.Next.Seconds())
	}
	if k.Cooldown > 0 {
		left := k.Cooldown.Seconds()
		out.CooldownLeft = &left
	}
	return out
}

// conduct is what the daemon may do at present, and what stands against it.
func (j *judge) conduct() *api.Conduct {
	c := &api.Conduct{Stop: j.cfg.Stop(), Pause: pauseOf(j.pause.state), Rules: j.rules()}
	if j.cfg.Undelivered != nil {
		waiting, lost := j.cfg.Undelivered()
		c.Journal = &api.Journal{Waiting: waiting, Lost: lost}
	}
	switch why := j.why(); {
	case why != "":
		c.ModeWhy = why
	case j.policy.Mode == policy.Enforce:
		c.ModeWhy = "set in the configuration; a rule acts where its own mode is enforce, too"
	default:
		c.ModeWhy = "set in the configuration"
	}
	if h := j.lease.held; h != nil {
		c.Lease = &api.Lease{
			BaseMinPages: j.lease.plan.Base.Min, BasePressurePages: j.lease.plan.Base.Pressure, BaseMaxPages: j.lease.plan.Base.Max,
			ExpiresAt: h.Expires.At.UTC(),
		}
	}
	for _, id := range j.blind.ids() {
		b := j.blind.open[id]
		c.Blind = append(c.Blind, api.Blindness{ID: id, Text: b.why, Since: b.since.At.UTC()})
	}
	c.Rights = j.lacking()
	return c
}

// Policy is the effective policy.
func (s *source) Policy(ctx context.Context) (p *api.Policy, err error) {
	err = s.d.inLoop(ctx, func() {
		now := &s.d.judge.policy
		p = &api.Policy{Version: api.Version, Text: now.Text, Files: now.Files, Broken: now.Broken}
	})
	return p, err
}

// Plugins lists the actions.
func (s *source) Plugins(ctx context.Context) ([]api.Plugin, error) { return s.plugins(ctx, false) }

// PluginsVerify looks at each plugin's file and lets it describe itself.
func (s *source) PluginsVerify(ctx context.Context, _ record.Caller) ([]api.Plugin, error) {
	return s.plugins(ctx, true)
}

func (s *source) plugins(ctx context.Context, verify bool) ([]api.Plugin, error) {
	if s.d.cfg.Plugins == nil {
		return nil, &api.RequestError{Status: http.StatusNotFound, Message: "this daemon has no actions"}
	}
	list := s.d.cfg.Plugins(ctx, verify)
	err := s.d.inLoop(ctx, func() {
		for i := range list {
			p := &list[i]
			info := s.d.judge.policy.Actions[p.Name]
			p.Touches, p.Rights = string(info.Touches), info.Capabilities
			if info.Missing != "" {
				p.Missing = []string{info.Missing}
			}
			for _, r := range s.d.judge.policy.Rules {
				if slices.ContainsFunc(r.Steps, func(st policy.Step) bool { return st.Action == p.Name }) {
					p.Rules = append(p.Rules, r.Name)
				}
			}
		}
	})
	return list, err
}
