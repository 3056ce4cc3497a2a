package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func (c *command) actions() *cobra.Command {
	var since, incident, rule string
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "What was done, and what came of it",
		Long: `List actions, the newest first: when, by which rule, on whom, how it came out, and
what the daemon measured afterwards. What a rule would have done while it
observed is listed as dry-run. The line below has the id that explain takes.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, err := parseSince(since, c.now())
			if err != nil {
				return err
			}
			return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) {
				rows := api.ActionRows{All: c.all}
				var failed error
				for r, err := range t.Records(ctx, api.RecordQuery{Since: from, Incident: incident, Rule: rule}) {
					if err != nil {
						failed = err
						break
					}
					rows.Add(&r)
				}
				doc := &api.Actions{Version: api.Version, Actions: rows.Rows()}
				if failed != nil && len(doc.Actions) == 0 {
					return nil, nil, failed
				}
				if n := c.rows(); n > 0 && len(doc.Actions) > n {
					doc.Truncated = len(doc.Actions) - n
					doc.Actions = doc.Actions[:n]
				}
				return doc, func(columns int, paint layout.Painter) []string { return actionsPage(doc, since, columns, paint) }, failed
			})
		},
	}
	sinceFlag(cmd, &since, "7d")
	cmd.Flags().StringVar(&incident, "incident", "", "only those of the incident `ID`")
	cmd.Flags().StringVar(&rule, "rule", "", "only those of the rule `NAME`")
	cmd.Flags().IntVar(&c.limit, "limit", 0, fmt.Sprintf("print the newest `N` rows (table: %d; JSON: all)", defaultLimit))
	cmd.Flags().BoolVar(&c.all, "all", false, "print all rows, also decisions to do nothing")
	cmd.MarkFlagsMutuallyExclusive("limit", "all")
	c.completeFlags(cmd)
	return cmd
}

func sinceFlag(cmd *cobra.Command, since *string, value string) {
	cmd.Flags().StringVar(since, "since", value, "from `WHEN` on: as long ago as 90m, 12h or 7d, or a time such as 2026-11-22 or 2026-11-22T09:00:00Z")
}

// parseSince reads the value of --since; "" is the beginning.
func parseSince(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return parseTime("--since", text, now)
}

// parseTime reads a time, or how long ago it was.
func parseTime(flag, text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	ago, err := parseDuration(text)
	if err != nil {
		return time.Time{}, usagef("%s %.40q: want how long ago, such as 12h or 7d, or a time such as 2026-11-22", flag, text)
	}
	return now.Add(-ago), nil
}

// parseDuration reads what time.ParseDuration does, and whole days.
func parseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		hours, err := time.ParseDuration(days + "h")
		if err == nil && hours >= 0 && hours < 3650*time.Hour && !strings.ContainsAny(days, "hmsuµn") {
			return 24 * hours, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%.40q is no duration such as 90s, 2h or 7d", text)
	}
	return d, nil
}

func actionsPage(doc *api.Actions, since string, columns int, paint layout.Painter) []string {
	if len(doc.Actions) == 0 {
		s := "No action"
		if _, err := parseDuration(since); err == nil {
			s += " in the last " + since
		} else if since != "" {
			s += " since " + prose.Escape(since)
		}
		return []string{s + "."}
	}
	t := layout.Table{Columns: []layout.Column{
		{Title: "WHEN"},
		{Title: "RULE", Least: 12, Middle: true, Rank: 1},
		{Title: "ACTION"},
		{Title: "TARGET", Least: 17, Middle: true},
		{Title: "OUTCOME"},
		{Title: "TOOK", Right: true, Rank: 2},
	}}
	for i := range doc.Actions {
		a := &doc.Actions[i]
		outcome, outcomeStyle := outcomeOf(a)
		took := "-"
		if a.Effect != nil {
			outcome += ", " + string(*a.Effect)
			outcomeStyle = max(outcomeStyle, effectStyle(*a.Effect))
		}
		if a.TookSeconds != nil {
			took = prose.Seconds(*a.TookSeconds)
		}
		target := a.Target
		if a.Touches == "nothing" {
			target = "-"
		}
		r := t.Add(a.At.UTC().Format("2006-01-02 15:04"), prose.Escape(a.Rule), prose.Escape(a.Action), prose.Escape(target), outcome, took)
		r.Cells[4].Style = outcomeStyle
		r.Under = []string{prose.Escape(a.ID) + ": " + actionWords(a)}
	}
	out := t.Lines(columns, paint)
	if doc.Truncated > 0 {
		out = append(out, fmt.Sprintf("and %s (shown by --all)", prose.Plural(int64(doc.Truncated), "older one")))
	}
	return out
}

// outcomeOf is how an action came out, or what was decided instead.
func outcomeOf(a *api.Action) (string, layout.Style) {
	switch {
	case a.Outcome != nil:
		return string(*a.Outcome), styleOf(*a.Outcome)
	case a.Started:
		return "running", layout.Warn
	case a.Choice == record.ChoseNothing:
		return "exhausted", layout.Bad
	case a.Choice == record.ChoseAct:
		return "not started", layout.Warn
	}
	return string(a.Choice), layout.Warn
}

func styleOf(o record.Outcome) layout.Style {
	switch o {
	case record.Done, record.Delivered:
		return layout.Good
	case record.DryRun:
		return layout.Plain
	case record.Refused:
		return layout.Warn
	}
	return layout.Bad
}

func effectStyle(v record.Verdict) layout.Style {
	switch v {
	case record.Helped:
		return layout.Good
	case record.NotMeasured:
		return layout.Plain
	case record.NoEffect:
		return layout.Warn
	}
	return layout.Bad
}

// actionWords says in a line why, or what came of it.
func actionWords(a *api.Action) string {
	words := a.Why
	if a.Message != nil && *a.Message != "" {
		words = *a.Message
	}
	if a.Guard != nil {
		words = *a.Guard + ": " + words
	}
	if a.By != nil {
		words += fmt.Sprintf(" (by hand, uid %d)", a.By.UID)
	}
	return prose.Escape(words)
}
