package apitest

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

// Deeds is what a daemon on the host decided and did. Fill it with Acted.
type Deeds struct {
	Log          []record.Record // the newest first
	IncidentList []*record.Incident
	Conduct      *api.Conduct
	PolicyDoc    api.Policy
	PluginList   []api.Plugin
	Segments     []api.Segment // of the history
	// Cut makes Records and History fail after so many, 0 for never.
	Cut int
	// Refusal is what every order fails with.
	Refusal error

	orders []string
}

// Orders lists what was asked for, in words.
func (h *Host) Orders() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.orders)
}

func (h *Host) order(ctx context.Context, format string, args ...any) error {
	if err := h.wait(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orders = append(h.orders, fmt.Sprintf(format, args...))
	return h.Refusal
}

// Records selects from Log.
func (h *Host) Records(ctx context.Context, q api.RecordQuery) iter.Seq2[record.Record, error] {
	var found []record.Record
	for _, r := range h.Log {
		if q.Limit > 0 && len(found) == q.Limit {
			break
		}
		if q.Selects(&r) {
			found = append(found, r)
		}
	}
	return cut(ctx, h, found)
}

// History gives all Segments.
func (h *Host) History(ctx context.Context, _ time.Time) iter.Seq2[api.Segment, error] {
	return cut(ctx, h, h.Segments)
}

func cut[T any](ctx context.Context, h *Host, all []T) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if err := h.wait(ctx); err != nil {
			yield(none, err)
			return
		}
		for i, v := range all {
			if h.Cut > 0 && i == h.Cut {
				yield(none, fmt.Errorf("read action log: %d files are broken", i))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

// Incidents sums IncidentList up.
func (h *Host) Incidents(ctx context.Context) ([]api.IncidentSummary, error) {
	var list []api.IncidentSummary
	for _, i := range h.IncidentList {
		list = append(list, api.SummaryOf(i))
	}
	return list, h.wait(ctx)
}

// Incident is one of IncidentList.
func (h *Host) Incident(ctx context.Context, id string) (*record.Incident, error) {
	for _, i := range h.IncidentList {
		if i.ID == id {
			return i, h.wait(ctx)
		}
	}
	return nil, h.wait(ctx)
}

// Rules are those of Conduct.
func (h *Host) Rules(ctx context.Context) ([]api.RuleState, error) {
	if h.Conduct == nil {
		return nil, h.wait(ctx)
	}
	return h.Conduct.Rules, h.wait(ctx)
}

// Policy is PolicyDoc.
func (h *Host) Policy(ctx context.Context) (*api.Policy, error) { return &h.PolicyDoc, h.wait(ctx) }

// Plugins is PluginList.
func (h *Host) Plugins(ctx context.Context) ([]api.Plugin, error) { return h.PluginList, h.wait(ctx) }

// PluginsVerify finds that the first plugin is as it should be, and the others
// are not.
func (h *Host) PluginsVerify(ctx context.Context, by record.Caller) ([]api.Plugin, error) {
	list := slices.Clone(h.PluginList)
	for i := range list {
		list[i].Verified = new(i == 0)
		if i > 0 {
			list[i].Problem = new("open " + list[i].Path + ": group may write it")
		}
	}
	return list, h.order(ctx, "verify by %d", by.UID)
}

// Act takes the step of the newest action in Log for the incident.
func (h *Host) Act(ctx context.Context, r api.ActRequest, by record.Caller) (*api.Acted, error) {
	if err := h.order(ctx, "act %s step %d key %q dry %v preview %v by %d", r.Incident, r.Step, r.Key, r.DryRun, r.Preview, by.UID); err != nil {
		return nil, err
	}
	for i := range h.Log {
		in := h.Log[i].Intent
		if in == nil || h.Log[i].Incident != r.Incident {
			continue
		}
		acted := &api.Acted{Incident: r.Incident, Rule: h.Log[i].Rule, Key: h.Log[i].Key, Decision: in.Decision, DeadlineSeconds: 30}
		acted.Decision.By, acted.Decision.Why = &by, "asked for by hand"
		if !r.Preview {
			acted.Record, acted.Action = h.Log[i].ID, h.Log[i].Action
		}
		return acted, nil
	}
	return nil, &api.RequestError{Status: http.StatusNotFound, Message: fmt.Sprintf("no incident is called %q", r.Incident)}
}

// Pause tells of a pause from the host's time on.
func (h *Host) Pause(ctx context.Context, d time.Duration, why string, by record.Caller) (*api.Pause, error) {
	return &api.Pause{Why: why, Since: At, Until: new(At.Add(d)), By: &by}, h.order(ctx, "pause %s: %s by %d", d, why, by.UID)
}

// Resume notes that it was asked for.
func (h *Host) Resume(ctx context.Context, by record.Caller) error {
	return h.order(ctx, "resume by %d", by.UID)
}

// Reset knows the rules of Conduct.
func (h *Host) Reset(ctx context.Context, rule string, by record.Caller) error {
	if h.Conduct == nil || !slices.ContainsFunc(h.Conduct.Rules, func(r api.RuleState) bool { return r.Name == rule }) {
		return &api.RequestError{Status: http.StatusNotFound, Message: fmt.Sprintf("no rule is called %q", rule)}
	}
	return h.order(ctx, "reset %s by %d", rule, by.UID)
}

// Reload finds one rule changed.
func (h *Host) Reload(ctx context.Context, wait bool, by record.Caller) (*api.Reloaded, error) {
	if err := h.order(ctx, "reload %v by %d", wait, by.UID); err != nil || !wait {
		return nil, err
	}
	return &api.Reloaded{Rules: 9, Changed: []string{"leaking-service"}}, nil
}
