package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) orphans() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "Sockets that nobody holds any more, by who left them",
		Long: `Show the orphans: sockets whose last descriptor is closed and which the kernel
still works on, by who left them behind and how that is known, against the limit
net.ipv4.tcp_max_orphans.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.show(cmd.Context(), func(ctx context.Context, src source) (any, page, error) {
				doc, err := src.Orphans(ctx, true)
				if err != nil {
					return nil, nil, err
				}
				doc.Keep(c.rows())
				return doc, func(columns int, paint layout.Painter) []string { return orphansPage(doc, columns, paint) }, nil
			})
		},
	}
	c.listFlags(cmd)
	c.watchFlag(cmd)
	return cmd
}

func orphansPage(doc *api.Orphans, columns int, paint layout.Painter) []string {
	var out []string
	say := func(s string) { out = append(out, layout.Wrap(s, columns, "  ")...) }
	say(words.Title("TCP orphans", &doc.Header, paint))
	count := api.OrphanCount{Count: doc.Count, Seen: doc.Seen, Limit: doc.Limit}
	s := orphanCount(&count)
	if doc.Bytes != 0 {
		s += ", holding " + prose.Bytes(doc.Bytes)
	}
	switch {
	case doc.Count >= doc.LimitHalf:
		s = paint.Style(s, layout.Bad)
	case doc.Count >= doc.LimitQuarter:
		s = paint.Style(s, layout.Warn)
	}
	say(s)
	say(fmt.Sprintf("one that makes no progress counts twice, with an error four times: the kernel may kill from %d or %d on",
		doc.LimitHalf, doc.LimitQuarter))

	if len(doc.Owners) == 0 {
		if doc.Count == 0 {
			say("There is no orphan.")
		} else {
			say("The scan saw none of them: they are in namespaces that were not read, or gone already.")
		}
		return appendBlock(out, words.Gaps(doc.Gaps, columns, paint))
	}
	say("known by " + words.Parts(doc.Evidence))
	out = append(out, "")
	out = append(out, orphansTable(doc.Owners).Lines(columns, paint)...)
	if more := words.More(int64(doc.Truncated.Owners), "owner", doc.Truncated.Bytes); more != "" {
		out = append(out, more)
	}
	return appendBlock(out, words.Gaps(doc.Gaps, columns, paint))
}

func orphansTable(owners []api.OrphanOwner) *layout.Table {
	t := &layout.Table{Columns: []layout.Column{
		{Title: "OWNER", Least: 18, Middle: true},
		{Title: "KIND", Rank: 3},
		{Title: "ORPHANS", Right: true},
		{Title: "MEMORY", Right: true},
		{Title: "SEND", Right: true, Rank: 2},
		{Title: "EVIDENCE", Least: 9},
	}}
	for i := range owners {
		o := &owners[i]
		name := prose.Escape(o.Name)
		if o.CgroupGone {
			name += " (gone)"
		}
		t.Add(name, string(o.Kind), fmt.Sprint(o.Sockets), prose.Bytes(o.Bytes), prose.Bytes(o.SendBytes), words.Parts(o.Evidence))
	}
	return t
}
