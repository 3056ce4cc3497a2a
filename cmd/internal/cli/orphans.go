package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

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
				return doc, func(columns int, paint painter) []string { return orphansPage(doc, columns, paint) }, nil
			})
		},
	}
	c.listFlags(cmd)
	c.watchFlag(cmd)
	return cmd
}

func orphansPage(doc *api.Orphans, columns int, paint painter) []string {
	var out []string
	say := func(s string) { out = append(out, wrap(s, columns, "  ")...) }
	say(title("TCP orphans", &doc.Header, paint))
	count := api.OrphanCount{Count: doc.Count, Seen: doc.Seen, Limit: doc.Limit}
	s := orphanCount(&count)
	if doc.Bytes != 0 {
		s += ", holding " + prose.Bytes(doc.Bytes)
	}
	switch {
	case doc.Count >= doc.LimitHalf:
		s = paint.style(s, bad)
	case doc.Count >= doc.LimitQuarter:
		s = paint.style(s, warn)
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
		return appendBlock(out, gapLines(doc.Gaps, columns, paint))
	}
	say("known by " + partWords(doc.Evidence))
	out = append(out, "")
	out = append(out, orphansTable(doc.Owners).lines(columns, paint)...)
	if more := moreLine(int64(doc.Truncated.Owners), "owner", doc.Truncated.Bytes); more != "" {
		out = append(out, more)
	}
	return appendBlock(out, gapLines(doc.Gaps, columns, paint))
}

func orphansTable(owners []api.OrphanOwner) *table {
	t := &table{columns: []column{
		{title: "OWNER", least: 18, middle: true},
		{title: "KIND", rank: 3},
		{title: "ORPHANS", right: true},
		{title: "MEMORY", right: true},
		{title: "SEND", right: true, rank: 2},
		{title: "EVIDENCE", least: 9},
	}}
	for i := range owners {
		o := &owners[i]
		name := prose.Escape(o.Name)
		if o.CgroupGone {
			name += " (gone)"
		}
		t.add(name, string(o.Kind), fmt.Sprint(o.Sockets), prose.Bytes(o.Bytes), prose.Bytes(o.SendBytes), partWords(o.Evidence))
	}
	return t
}
