package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) plugins() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugins",
		Short: "The actions, and the programs that do them",
		Args:  noArgs,
		RunE:  c.listPlugins,
	}
	cmd.AddCommand(readsExport(&cobra.Command{
		Use:   "list",
		Short: "List actions: what they touch, their rights, and whether they run",
		Args:  noArgs,
		RunE:  c.listPlugins,
	}), &cobra.Command{
		Use:   "verify",
		Short: "Look at each plugin's file, start it, and let it describe itself",
		Long: `Look at each plugin's file, its owner, folders and checksum, start it, and let it
describe itself. The exit code is 1 where one cannot be used. Only root may.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.order(cmd.Context(), func(ctx context.Context, client *api.Client) (any, page, error) {
				return pluginsShown(client.PluginsVerify(ctx))
			})
		},
	})
	return cmd
}

func (c *command) listPlugins(cmd *cobra.Command, _ []string) error {
	return c.ask(cmd.Context(), func(ctx context.Context, t teller) (any, page, error) { return pluginsShown(t.Plugins(ctx)) })
}

// pluginsShown draws the list; that one of them cannot be used is an error.
func pluginsShown(doc *api.Plugins, err error) (any, page, error) {
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
	return doc, func(columns int, paint layout.Painter) []string { return pluginsPage(doc, columns, paint) }, err
}

func pluginsPage(doc *api.Plugins, columns int, paint layout.Painter) []string {
	if len(doc.Plugins) == 0 {
		return []string{"No action can be taken: there is no plugin."}
	}
	t := layout.Table{Columns: []layout.Column{
		{Title: "ACTION"}, {Title: "VERSION", Rank: 2}, {Title: "TOUCHES"}, {Title: "STATE"}, {Title: "RIGHTS", Least: 10}, {Title: "RULES", Least: 8, Rank: 1},
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
		r := t.Add(prose.Escape(p.Name), version, prose.Escape(p.Touches), state, rights, prose.Escape(strings.Join(p.Rules, ", ")))
		r.Cells[3].Style = style
		if !p.BuiltIn {
			r.Under = append(r.Under, prose.Escape(p.Path))
		}
		switch {
		case undescribed(p) && p.Problem == nil:
			r.Under = append(r.Under, paint.Style("problem", layout.Bad)+": "+words.Sentence(strings.Join(p.Missing, ", ")))
		case len(p.Missing) > 0 && !undescribed(p):
			r.Under = append(r.Under, paint.Style("missing", layout.Bad)+": "+prose.Escape(strings.Join(p.Missing, ", ")))
		}
		if p.Problem != nil {
			r.Under = append(r.Under, paint.Style("problem", layout.Bad)+": "+words.Sentence(*p.Problem))
		}
		if p.LastError != nil {
			s := "last error"
			if p.LastErrorAt != nil {
				s += " at " + prose.Time(*p.LastErrorAt)
			}
			r.Under = append(r.Under, s+": "+words.Sentence(*p.LastError))
		}
	}
	return t.Lines(columns, paint)
}

// undescribed: it could not even say which rights it needs.
func undescribed(p *api.Plugin) bool {
	return !p.BuiltIn && p.PluginVersion == nil && len(p.Missing) > 0
}

func pluginState(p *api.Plugin) (string, layout.Style) {
	switch {
	case p.Verified != nil && !*p.Verified:
		return "broken", layout.Bad
	case p.Verified != nil:
		return "verified", layout.Good
	case undescribed(p):
		return "broken", layout.Bad
	case len(p.Missing) > 0:
		return "no rights", layout.Bad
	case p.Running:
		return fmt.Sprintf("pid %d", p.PID), layout.Good
	}
	return "at rest", layout.Plain
}
