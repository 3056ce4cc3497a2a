package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// completionTime is how long the shell waits for the daemon's names.
const completionTime = 500 * time.Millisecond

func completeBy(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	var words []string
	for _, by := range api.Bys() {
		words = append(words, string(by))
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeFilter proposes what may come next in a filter: after a field its
// values, otherwise fields and the words between terms.
func (c *command) completeFilter(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	next := c.nextWords(cmd.Context(), args)
	next = slices.DeleteFunc(next, func(word string) bool { return !strings.HasPrefix(word, begun) })
	return next, cobra.ShellCompDirectiveNoFileComp
}

func (c *command) nextWords(ctx context.Context, args []string) []string {
	words := args
	if n := len(words); n > 0 && slices.Contains([]string{"=", "!="}, words[n-1]) {
		words = words[:n-1]
	}
	if n := len(words); n > 0 && isField(words[n-1]) && (n == 1 || !isField(words[n-2])) {
		return c.completeValue(ctx, words[n-1])
	}
	var out []string
	for _, name := range filter.Fields() {
		out = append(out, cobra.CompletionWithDesc(name, filter.About(name)))
	}
	if len(args) == 0 {
		return append(out, "not")
	}
	return append(out, filter.Keywords()...)
}

func isField(word string) bool { return filter.About(word) != "" }

// completeValue proposes values of a field: its words, or names that the
// daemon knows now, if one runs.
func (c *command) completeValue(ctx context.Context, field string) []string {
	if words := filter.Values(field); words != nil {
		return words
	}
	if !slices.Contains([]string{"owner", "unit", "container", "pod", "comm"}, field) {
		return nil
	}
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	if c.direct {
		return nil // a scan is too much for a word
	}
	src, err := c.open(ctx)
	if err != nil {
		return nil
	}
	defer src.Close()
	doc, err := src.Owners(ctx, false)
	if err != nil {
		return nil // a shell has no use for the reason
	}
	var names []string
	for i := range doc.Owners {
		if name := valueOf(field, &doc.Owners[i]); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
		if len(names) == 100 {
			break
		}
	}
	return names
}

// valueOf is the owner's value of a field as a shell can take it: names with
// blanks or invisible characters are left out, a person has to quote those.
func valueOf(field string, o *api.Owner) string {
	var name string
	switch {
	case field == "owner":
		name = o.Name
	case field == "unit" && o.Unit != nil:
		name = *o.Unit
	case field == "comm" && o.Command != nil:
		name = *o.Command
	case field == "container" && o.Container != nil:
		name = o.Container.ID
	case field == "pod" && o.Pod != nil && o.Pod.Name != nil:
		name = *o.Pod.Name
	}
	if strings.ContainsAny(name, " \t'\"()&|!<>=$`;*?[]{}~#") || prose.Escape(name) != name {
		return ""
	}
	return name
}

// completeIncident proposes the ids of the latest incidents.
func (c *command) completeIncident(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.names(cmd, begun, func(ctx context.Context, t teller) (names []string, err error) {
		doc, err := t.Incidents(ctx)
		if err != nil {
			return nil, err
		}
		for i := range doc.Incidents {
			names = append(names, cobra.CompletionWithDesc(doc.Incidents[i].ID, prose.Escape(doc.Incidents[i].Rule+" "+doc.Incidents[i].Name)))
		}
		return names, nil
	})
}

// completeRule proposes the names of rules.
func (c *command) completeRule(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.names(cmd, begun, func(ctx context.Context, t teller) (names []string, err error) {
		doc, err := t.Rules(ctx)
		if err != nil {
			return nil, err
		}
		for i := range doc.Rules {
			names = append(names, cobra.CompletionWithDesc(doc.Rules[i].Name, prose.Escape(doc.Rules[i].About)))
		}
		return names, nil
	})
}

// completeFlags lets the shell ask for the values of --incident and --rule.
func (c *command) completeFlags(cmd *cobra.Command) {
	complete := func(flag string, of cobra.CompletionFunc) {
		if cmd.Flags().Lookup(flag) != nil {
			// The only error is that of a flag that is not there.
			_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
				return of(cmd, nil, begun)
			})
		}
	}
	complete("incident", c.completeIncident)
	complete("rule", c.completeRule)
}

// names asks the daemon for names that begin so, if one runs.
func (c *command) names(cmd *cobra.Command, begun string, get func(context.Context, teller) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	t, err := c.record()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	defer t.Close()
	all, err := get(ctx, t)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // a shell has no use for the reason
	}
	all = slices.DeleteFunc(all, func(name string) bool { return !strings.HasPrefix(name, begun) })
	return all[:min(len(all), 100)], cobra.ShellCompDirectiveNoFileComp
}
