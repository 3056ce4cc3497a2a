package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/api/filter"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

const aboutSockets = `List sockets by the TCP memory they hold, biggest first.

A filter is written as in ss(8): terms of a field, an operator (= != < <= > >=,
or left out) and a value, joined by "and" (or nothing), "or", "not", "!" and
parentheses. Texts may hold * and ?; sizes end in K, M, G or T.

  unit = x.service and mem > 1M
  state close-wait dport = :443
  '(class orphan or class hidden) and not netns = 4026531840'

Fields:
%s
skmem is written in the letters of ss: r receive queue and rb its limit, t sent
to the device and tb the send limit, f reserved ahead, w send queue, o options,
bl backlog, d packets dropped.`

func (c *command) sockets() *cobra.Command {
	var info bool
	cmd := &cobra.Command{
		Use:               "sockets [FILTER]",
		Short:             "Sockets by the memory they hold, biggest first",
		Long:              fmt.Sprintf(aboutSockets, fieldList()),
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: c.completeFilter,
		RunE: func(cmd *cobra.Command, args []string) error {
			text := strings.Join(args, " ")
			if _, err := filter.Parse(text); err != nil {
				return err
			}
			query := api.SocketQuery{Filter: text, Limit: c.rows(), Info: info}
			if info && c.from != "" {
				return usagef("--from: --info asks the kernel, a file does not have it")
			}
			if info && c.all {
				return usagef("--info asks the kernel for each socket: use --limit, not --all")
			}
			if info {
				query.Limit = cmp.Or(query.Limit, defaultLimit)
			}
			return c.show(cmd.Context(), func(ctx context.Context, src source) (any, page, error) {
				doc, err := src.Sockets(ctx, query)
				if err != nil {
					return nil, nil, err
				}
				return doc, func(columns int, paint layout.Painter) []string { return socketsPage(doc, columns, paint) }, nil
			})
		},
	}
	cmd.Flags().BoolVarP(&info, "info", "i", false, "ask the kernel for TCP_INFO of the sockets listed")
	c.listFlags(cmd)
	c.watchFlag(cmd)
	return cmd
}

func fieldList() string {
	var b strings.Builder
	for _, name := range filter.Fields() {
		fmt.Fprintf(&b, "  %-10s %s\n", name, filter.About(name))
	}
	return b.String()
}

func socketsPage(doc *api.Sockets, columns int, paint layout.Painter) []string {
	out := layout.Wrap(words.Title("TCP sockets by memory", &doc.Header, paint), columns, "  ")
	if doc.Matched.Sockets == 0 {
		return appendBlock(append(out, none(doc.Filter)), words.Gaps(doc.Gaps, columns, paint))
	}
	s := fmt.Sprintf("%s with %s", prose.Plural(doc.Matched.Sockets, "socket"), prose.Bytes(doc.Matched.Bytes))
	if doc.Filter != "" {
		s += " match: " + prose.Escape(doc.Filter)
	}
	out = append(append(out, layout.Wrap(s, columns, "  ")...), "")
	out = append(out, socketsTable(doc.Sockets, columns).Lines(columns, paint)...)
	if s := words.More(doc.Truncated.Sockets, "socket", doc.Truncated.Bytes); s != "" {
		out = append(out, s)
	}
	return appendBlock(out, words.Gaps(doc.Gaps, columns, paint))
}

func none(filter string) string {
	if filter == "" {
		return "There is no TCP socket."
	}
	return "No TCP socket matches: " + prose.Escape(filter)
}

// classColumns is the width from which class and evidence have their own
// columns; below they stand under the socket.
const classColumns = 100

func socketsTable(rows []api.Socket, columns int) *layout.Table {
	t := &layout.Table{Columns: []layout.Column{
		{Title: "MEMORY", Right: true},
		{Title: "STATE"},
		{Title: "RECV-Q", Right: true, Rank: 3},
		{Title: "SEND-Q", Right: true, Rank: 2},
		{Title: "LOCAL", Least: 15, Middle: true},
		{Title: "REMOTE", Least: 15, Middle: true},
		{Title: "OWNER", Least: 12, Middle: true},
	}}
	wide := columns <= 0 || columns >= classColumns
	if wide {
		t.Columns = append(t.Columns, layout.Column{Title: "CLASS"}, layout.Column{Title: "EVIDENCE"})
	}
	for i := range rows {
		s := &rows[i]
		cells := []string{
			prose.Bytes(s.Bytes), s.State, fmt.Sprint(s.RecvQ), fmt.Sprint(s.SendQ),
			words.Optional(s.Local), words.Optional(s.Remote), prose.Escape(s.OwnerName),
		}
		more := s.Class + " by " + s.Evidence + " "
		if wide {
			cells, more = append(cells, s.Class, s.Evidence), ""
		}
		r := t.Add(cells...)
		r.Under = append(r.Under, more+words.Socket(s))
		if s.TCPInfo != nil {
			r.Under = append(r.Under, words.Info(s.TCPInfo))
		}
	}
	return t
}
