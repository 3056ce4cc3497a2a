package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) incidents() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "incidents",
		Short: "What happened, from the first pending to the all-clear",
		Long: `List incidents, the newest first. Each is one rule's episode; "incidents show ID"
tells its story.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) {
				doc, err := t.Incidents(ctx)
				if err != nil {
					return nil, nil, err
				}
				if n := c.rows(); n > 0 && len(doc.Incidents) > n {
					doc.Truncated += len(doc.Incidents) - n
					doc.Incidents = doc.Incidents[:n]
				}
				return doc, func(columns int, paint layout.Painter) []string { return incidentsPage(doc, c.now(), columns, paint) }, nil
			})
		},
	}
	cmd.Flags().IntVar(&c.limit, "limit", 0, fmt.Sprintf("print the newest `N` rows (table: %d; JSON: all)", defaultLimit))
	cmd.Flags().BoolVar(&c.all, "all", false, "print all rows")
	cmd.MarkFlagsMutuallyExclusive("limit", "all")
	show := &cobra.Command{
		Use:   "show ID",
		Short: "The story of an incident",
		Long: `Tell an incident: who it was about, the ledger at its worst, what was decided by
which numbers, what was done, what it brought, and sockets of the target as they
were before the first action. With --html it is a page for a browser, with the
pool and its owners in a picture: one file, which needs no network.`,
		Args:              oneArg("ID", "tcpmemctl incidents lists them"),
		ValidArgsFunction: c.completeIncident,
		RunE: func(cmd *cobra.Command, args []string) error {
			if html, err := c.wantsHTML(); err != nil {
				return err
			} else if html {
				return c.incidentHTML(cmd.Context(), args[0])
			}
			return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) {
				doc, err := t.Incident(ctx, args[0])
				if err != nil {
					return nil, nil, err
				}
				return doc, func(columns int, paint layout.Painter) []string { return storyPage(doc, c.now(), columns, paint) }, nil
			})
		},
	}
	c.htmlFlags(show)
	cmd.AddCommand(readsExport(show))
	return cmd
}

func incidentsPage(doc *api.Incidents, now time.Time, columns int, paint layout.Painter) []string {
	if len(doc.Incidents) == 0 {
		return []string{"No incident."}
	}
	t := layout.Table{Columns: []layout.Column{
		{Title: "STARTED"},
		{Title: "RULE", Least: 12, Middle: true},
		{Title: "SEVERITY", Rank: 3},
		{Title: "WHO", Least: 18, Middle: true},
		{Title: "LASTED", Right: true},
		{Title: "WORST", Right: true, Rank: 1},
		{Title: "OUTCOME", Rank: 2},
	}}
	for i := range doc.Incidents {
		in := &doc.Incidents[i]
		lasted, style := "open", layout.Warn
		if in.Ended != nil {
			lasted, style = prose.Duration(in.Ended.Sub(in.Began)), layout.Plain
		} else if d := now.Sub(in.Began); d > 0 {
			lasted = "> " + prose.Duration(d)
		}
		worst := "-"
		if in.WorstFill != nil {
			worst = prose.Fill(*in.WorstFill)
		}
		who := in.Name
		if in.Keys > 1 {
			who += fmt.Sprintf(" and %d more", in.Keys-1)
		}
		outcome := string(in.Choice)
		if in.Outcome != nil {
			outcome = string(*in.Outcome)
		}
		if in.Effect != nil {
			outcome += ", " + string(*in.Effect)
		}
		r := t.Add(in.Began.UTC().Format("2006-01-02 15:04"), prose.Escape(in.Rule), prose.Escape(in.Severity), prose.Escape(who), lasted, worst, outcome)
		r.Cells[2].Style, r.Cells[4].Style = words.SeverityStyle(in.Severity), style
		r.Under = []string{prose.Escape(in.ID)}
	}
	out := t.Lines(columns, paint)
	if doc.Truncated > 0 {
		out = append(out, fmt.Sprintf("and %s (shown by --all)", prose.Plural(int64(doc.Truncated), "older one")))
	}
	return out
}
