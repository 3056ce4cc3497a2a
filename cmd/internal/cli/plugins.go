package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) plugins() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugins",
		Short: "The actions, and the programs that do them",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.showPlugins(cmd.Context(), (*api.Client).Plugins)
		},
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List actions: what they touch, their rights, and whether they run",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.showPlugins(cmd.Context(), (*api.Client).Plugins)
		},
	}, &cobra.Command{
		Use:   "verify",
		Short: "Look at each plugin's file, start it, and let it describe itself",
		Long: `Look at each plugin's file, its owner, folders and checksum, start it, and let it
describe itself. The exit code is 1 where one cannot be used. Only root may.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.showPlugins(cmd.Context(), (*api.Client).PluginsVerify)
		},
	})
	return cmd
}

func (c *command) showPlugins(ctx context.Context, get func(*api.Client, context.Context) (*api.Plugins, error)) error {
	return c.ask(ctx, func(ctx context.Context, client *api.Client) (any, page, error) {
		doc, err := get(client, ctx)
		if err != nil {
			return nil, nil, err
		}
		broken := 0
		for i := range doc.Plugins {
			if v := doc.Plugins[i].Verified; v != nil && !*v {
				broken++
			}
		}
		if broken > 0 {
			err = fmt.Errorf("%d of %s cannot be used", broken, prose.Plural(int64(len(doc.Plugins)), "plugin"))
		}
		return doc, func(columns int, paint painter) []string { return pluginsPage(doc, columns, paint) }, err
	})
}

func pluginsPage(doc *api.Plugins, columns int, paint painter) []string {
	if len(doc.Plugins) == 0 {
		return []string{"No action can be taken: there is no plugin."}
	}
	t := table{columns: []column{
		{title: "ACTION"}, {title: "VERSION", rank: 2}, {title: "TOUCHES"}, {title: "STATE"}, {title: "RIGHTS", least: 10}, {title: "RULES", least: 8, rank: 1},
	}}
	for i := range doc.Plugins {
		p := &doc.Plugins[i]
		version, rights := "-", "-"
		if p.PluginVersion != nil {
			version = prose.Escape(*p.PluginVersion)
		}
		if len(p.Rights) > 0 {
			rights = prose.Escape(strings.Join(p.Rights, " "))
		}
		state, style := pluginState(p)
		r := t.add(prose.Escape(p.Name), version, prose.Escape(p.Touches), state, rights, prose.Escape(strings.Join(p.Rules, ", ")))
		r.cells[3].style = style
		if !p.BuiltIn {
			r.under = append(r.under, prose.Escape(p.Path))
		}
		switch {
		case undescribed(p) && p.Problem == nil:
			r.under = append(r.under, paint.style("problem", bad)+": "+sentence(strings.Join(p.Missing, ", ")))
		case len(p.Missing) > 0 && !undescribed(p):
			r.under = append(r.under, paint.style("missing", bad)+": "+prose.Escape(strings.Join(p.Missing, ", ")))
		}
		if p.Problem != nil {
			r.under = append(r.under, paint.style("problem", bad)+": "+sentence(*p.Problem))
		}
		if p.LastError != nil {
			s := "last error"
			if p.LastErrorAt != nil {
				s += " at " + prose.Time(*p.LastErrorAt)
			}
			r.under = append(r.under, s+": "+sentence(*p.LastError))
		}
	}
	return t.lines(columns, paint)
}

// undescribed: it could not even say which rights it needs.
func undescribed(p *api.Plugin) bool {
	return !p.BuiltIn && p.PluginVersion == nil && len(p.Missing) > 0
}

func pluginState(p *api.Plugin) (string, style) {
	switch {
	case p.Verified != nil && !*p.Verified:
		return "broken", bad
	case p.Verified != nil:
		return "verified", good
	case undescribed(p):
		return "broken", bad
	case len(p.Missing) > 0:
		return "no rights", bad
	case p.Running:
		return fmt.Sprintf("pid %d", p.PID), good
	}
	return "at rest", plain
}
