package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func (c *command) explain() *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Why something was done, or was not",
		Long: `Explain a decision, an action or an incident: the rule with its condition and the
values it saw, the mode and why it is in force, the guard that refused, the
owner and by which evidence it is known, the runners-up, what came of it and
what was measured afterwards.`,
		Args:              oneArg("ID", "that of an incident, an action or a decision"),
		ValidArgsFunction: c.completeIncident,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) {
				return c.explanation(ctx, t, args[0])
			})
		},
	}
}

// explanation finds out what an id is of.
func (c *command) explanation(ctx context.Context, t teller, id string) (any, page, error) {
	incident, err := t.Incident(ctx, id)
	if err == nil {
		return incident, func(columns int, paint layout.Painter) []string {
			return appendBlock(storyPage(incident, c.now(), columns, paint), moreOf(incident, columns))
		}, nil
	}
	if refusal, ok := errors.AsType[interface {
		error
		NotFound() bool
	}](err); !ok || !refusal.NotFound() {
		return nil, nil, err
	}
	records, err := collect(ctx, t, api.RecordQuery{ID: id})
	if err != nil {
		return nil, nil, err
	}
	action := id
	if len(records) > 0 {
		action = records[0].Action
	}
	if action != "" {
		more, err := collect(ctx, t, api.RecordQuery{Action: action})
		if err != nil {
			return nil, nil, err
		}
		if len(more) > 0 {
			records = more
		}
	}
	if len(records) == 0 {
		return nil, nil, fmt.Errorf("explain %s: the record has no incident, action or decision of that id", prose.Escape(id))
	}
	doc := &api.Records{Version: api.Version, Records: records}
	return doc, func(columns int, paint layout.Painter) []string { return recordsPage(doc, columns, paint) }, nil
}

func collect(ctx context.Context, t teller, q api.RecordQuery) ([]record.Record, error) {
	var all []record.Record
	for r, err := range t.Records(ctx, q) {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// recordsPage tells records in the order of time, each with all it knows.
func recordsPage(doc *api.Records, columns int, paint layout.Painter) []string {
	var out []string
	var decided *record.Decision
	for i := len(doc.Records) - 1; i >= 0; i-- {
		r := &doc.Records[i]
		if len(out) > 0 {
			out = append(out, "")
		}
		if r.Intent != nil && decided != nil {
			out = append(out, layout.Wrap(stamped(r, paint)+"begins", columns, "  ")...) // the decision is told already
			continue
		}
		t := tell(r, decided)
		if r.Decision != nil {
			decided = r.Decision
		} else if r.Intent != nil {
			decided = &r.Intent.Decision
		}
		out = append(out, layout.Wrap(stamped(r, paint)+t.Line, columns, "  ")...)
		for _, line := range t.More {
			out = append(out, layout.Wrap("  "+line, columns, "    ")...)
		}
		if r.Incident != "" && r.Result == nil && r.Effect == nil {
			out = append(out, layout.Wrap("  incident: "+prose.Escape(r.Incident), columns, "    ")...)
		}
		if in := r.Intent; in != nil && len(in.Budget) > 0 {
			keys := slices.Clone(in.Budget)
			for i := range keys {
				keys[i] = prose.Escape(keys[i])
			}
			out = append(out, layout.Wrap("  paid from: "+strings.Join(keys, ", "), columns, "    ")...)
		}
	}
	return out
}

func stamped(r *record.Record, paint layout.Painter) string {
	return paint.Style(prose.Time(r.At), layout.Bold) + "  "
}

// tell writes what a record says. Where to find more is left out: this is it.
func tell(r *record.Record, decided *record.Decision) event.Text {
	c := event.CaseOf(r)
	c.See, c.Incident = "", ""
	switch {
	case r.Decision != nil:
		return event.Decided(c, r.Decision)
	case r.Intent != nil:
		return event.Decided(c, &r.Intent.Decision)
	case r.Result != nil:
		return event.Resulted(c, decided, r.Result)
	case r.Effect != nil:
		return event.Measured(c, decided, r.Effect)
	case r.Event != nil:
		return event.Told(r.Event)
	case r.State != nil && r.State.Phase == record.Ended:
		return event.Ended(c, r.State)
	case r.State != nil:
		t := event.Firing(c)
		t.Line = string(r.State.Phase) + ": " + t.Line
		return t
	}
	return event.Text{Line: prose.Escape(string(r.Kind))}
}

// moreOf names what can be explained of an incident.
func moreOf(in *record.Incident, columns int) []string {
	var out []string
	for _, id := range actionsOf(in) {
		out = append(out, layout.Wrap("more: tcpmemctl explain "+prose.Escape(id), columns, "  ")...)
	}
	return out
}
