package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/record"
)

func (c *command) act() *cobra.Command {
	request, yes := api.ActRequest{}, false
	cmd := &cobra.Command{
		Use:   "act INCIDENT",
		Short: "Take a step of a rule by hand",
		Long: `Take a step of the rule that fires, also where it only observes: the same guards
look at it, it is paid from the same budgets, and it is recorded with who asked.
First it says what it will do; on a terminal it asks. Only root may.`,
		Args:              oneArg("INCIDENT", "tcpmemctl incidents lists them"),
		ValidArgsFunction: c.completeIncident,
		RunE: func(cmd *cobra.Command, args []string) error {
			if request.Step < 0 {
				return usagef("--step %d: want a step of the rule, from 1", request.Step)
			}
			request.Incident = args[0]
			return c.actOn(cmd.Context(), request, yes)
		},
	}
	cmd.Flags().IntVar(&request.Step, "step", 0, "the step `N` of the rule, from 1 (left out: the one that is next)")
	cmd.Flags().StringVar(&request.Key, "key", "", "on the `KEY` of the incident (left out: the one with the most bytes)")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "let the action look, and say what it would do")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// paused is the document of "tcpmemctl pause --json".
type paused struct {
	Version int `json:"version"`
	*api.Pause
}

// acting is the document of "tcpmemctl act --json": what was decided, and the
// records of the action, the newest first.
type acting struct {
	Version int             `json:"version"`
	Acted   *api.Acted      `json:"acted"`
	Records []record.Record `json:"records"`
}

func (c *command) actOn(ctx context.Context, request api.ActRequest, yes bool) error {
	client, err := c.dial()
	if err != nil {
		return err
	}
	defer client.Close()
	if !yes && !request.DryRun && !c.Interactive {
		return usagef("act: there is nobody to ask: add --yes, or look first with --dry-run")
	}
	preview := request
	preview.Preview = true
	plan, err := client.Act(ctx, preview)
	if err != nil {
		return err
	}
	columns, _ := c.size()
	if !c.json {
		if err := c.print(planLines(plan, request.DryRun, columns)); err != nil {
			return err
		}
	}
	if plan.Decision.Choice != record.ChoseAct {
		if c.json {
			if err := c.encode(acting{api.Version, plan, []record.Record{}}); err != nil {
				return err
			}
		}
		return fmt.Errorf("act: refused by the guard %q: %s", plan.Decision.Guard, plan.Decision.Why)
	}
	if !yes && !request.DryRun && !c.confirm("Do it? [y/N] ") {
		return fmt.Errorf("act: not done")
	}
	// What was shown is what is asked for, whoever holds the most by now.
	request.Key, request.Step = plan.Key, plan.Decision.Step
	acted, err := client.Act(ctx, request)
	if err != nil {
		return err
	}
	return c.follow(ctx, client, acted, columns)
}

func planLines(plan *api.Acted, dry bool, columns int) []string {
	d := &plan.Decision
	t := event.Decided(event.Case{Rule: plan.Rule, Key: plan.Key}, d)
	if dry && d.Choice == record.ChoseAct {
		t.Line += " (dry run: it only looks)"
	}
	out := layout.Wrap(t.Line, columns, "  ")
	for _, line := range t.More {
		out = append(out, layout.Wrap("  "+line, columns, "    ")...)
	}
	return out
}

// confirm asks on the terminal.
func (c *command) confirm(question string) bool {
	fmt.Fprint(c.Stderr, question)
	answer, err := bufio.NewReader(c.Input).ReadString('\n')
	if err != nil && answer == "" {
		fmt.Fprintln(c.Stderr)
		return false
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// Waiting for the result of an action.
const (
	lookAgain = 200 * time.Millisecond
	lookLate  = 5 * time.Second // beyond the action's own deadline
)

// follow waits for the result of an action and tells it.
func (c *command) follow(ctx context.Context, client *api.Client, acted *api.Acted, columns int) error {
	if acted.Action == "" {
		if c.json {
			if err := c.encode(acting{api.Version, acted, []record.Record{}}); err != nil {
				return err
			}
		}
		return fmt.Errorf("act: refused by the guard %q: %s", acted.Decision.Guard, acted.Decision.Why)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(acted.DeadlineSeconds*float64(time.Second))+lookLate,
		fmt.Errorf("act: there is no result yet: see tcpmemctl explain %s", prose.Escape(acted.Action)))
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		records, err := collect(ctx, client, api.RecordQuery{Action: acted.Action})
		if err != nil {
			return err
		}
		for i := range records {
			if r := records[i].Result; r != nil {
				return c.toldResult(acted, records, r, columns)
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (c *command) toldResult(acted *api.Acted, records []record.Record, r *record.Result, columns int) error {
	if c.json {
		if err := c.encode(acting{api.Version, acted, records}); err != nil {
			return err
		}
	} else {
		lines := layout.Wrap("result: "+event.ResultWords(r), columns, "  ")
		for _, ch := range r.Changes {
			lines = append(lines, layout.Wrap("  "+event.ChangeWords(ch), columns, "    ")...)
		}
		lines = append(lines, layout.Wrap("what it brings is being measured: tcpmemctl explain "+prose.Escape(acted.Action), columns, "  ")...)
		if r.Outcome != record.Done {
			lines = lines[:len(lines)-1]
		}
		if err := c.print(lines); err != nil {
			return err
		}
	}
	switch r.Outcome {
	case record.Done, record.Delivered, record.DryRun:
		return nil
	}
	return fmt.Errorf("act: %s %s: see tcpmemctl explain %s", prose.Escape(acted.Decision.Action), r.Outcome, prose.Escape(acted.Action))
}

func (c *command) pause() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "pause DURATION --why TEXT",
		Short: "Touch nothing for a while",
		Long: `Touch nothing for so long, such as 30m, 2h or 1d (30 days at most): rules go on to
decide, to record and to tell, and leases end as they would. Only root may.`,
		Args:              oneArg("DURATION", "such as 30m, 2h or 1d"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := parseDuration(args[0])
			switch {
			case err != nil:
				return usagef("pause: %w", err)
			case d < time.Second || d > api.MaxPause:
				return usagef("pause %s: want from 1s to 30d", args[0])
			case strings.TrimSpace(why) == "":
				return usagef("pause: say why, for those who find it: --why TEXT")
			case len(why) > api.MaxWhy:
				return usagef("pause: --why is longer than %d bytes", api.MaxWhy)
			}
			return c.order(cmd.Context(), func(ctx context.Context, client *api.Client) (any, page, error) {
				doc, err := client.Pause(ctx, d, why)
				if err != nil {
					return nil, nil, err
				}
				return paused{api.Version, doc}, oneLine(words.Pause(doc)), nil
			})
		},
	}
	cmd.Flags().StringVar(&why, "why", "", "the reason as `TEXT`, shown by status (needed)")
	return cmd
}

func oneLine(s string) page {
	return func(columns int, _ layout.Painter) []string { return layout.Wrap(s, columns, "  ") }
}

func (c *command) resume() *cobra.Command {
	return &cobra.Command{
		Use:   "resume",
		Short: "End a pause",
		Long:  "End a pause. Only root may.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.done(cmd.Context(), func(ctx context.Context, client *api.Client) (*api.Done, error) { return client.Resume(ctx) })
		},
	}
}

func (c *command) reset() *cobra.Command {
	return &cobra.Command{
		Use:   "reset RULE",
		Short: "Let a rule start anew",
		Long: `End what a rule fires for, and forget its cooldowns and what it spent of its
budgets: the cause is found, it may go on. Only root may.`,
		Args:              oneArg("RULE", "tcpmemctl policy show lists them"),
		ValidArgsFunction: c.completeRule,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.done(cmd.Context(), func(ctx context.Context, client *api.Client) (*api.Done, error) {
				return client.Reset(ctx, args[0])
			})
		},
	}
}

func (c *command) done(ctx context.Context, do func(context.Context, *api.Client) (*api.Done, error)) error {
	return c.order(ctx, func(ctx context.Context, client *api.Client) (any, page, error) {
		doc, err := do(ctx, client)
		if err != nil {
			return nil, nil, err
		}
		return doc, oneLine(prose.Escape(doc.Message)), nil
	})
}

func (c *command) reload() *cobra.Command {
	var wait bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Read configuration and policies again",
		Long: `Have the daemon read its configuration and policies again. With --wait it says
what came of it: where a file is wrong the old configuration stays, and the exit
code is 6. Only root may.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.order(cmd.Context(), func(ctx context.Context, client *api.Client) (any, page, error) {
				doc, err := client.Reload(ctx, wait)
				if err != nil {
					return nil, nil, err
				}
				return doc, func(columns int, _ layout.Painter) []string { return reloadLines(doc, wait, columns) }, nil
			})
		},
	}
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for what comes of it")
	return cmd
}

func reloadLines(doc *api.Reloaded, wait bool, columns int) []string {
	if !wait {
		return layout.Wrap("asked to reload: whether the files are right the daemon's log says, or --wait", columns, "  ")
	}
	parts := []string{prose.Plural(int64(doc.Rules), "rule")}
	for _, p := range []struct {
		what  string
		names []string
	}{{"added", doc.Added}, {"changed", doc.Changed}, {"removed", doc.Removed}} {
		if len(p.names) > 0 {
			parts = append(parts, p.what+" "+prose.Escape(strings.Join(p.names, ", ")))
		}
	}
	out := layout.Wrap("reloaded: "+strings.Join(parts, "; "), columns, "  ")
	for _, note := range doc.Notes {
		out = append(out, layout.Wrap("note: "+prose.Escape(note), columns, "  ")...)
	}
	return out
}
