package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

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
				return doc, func(columns int, paint painter) []string { return socketsPage(doc, columns, paint) }, nil
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

func socketsPage(doc *api.Sockets, columns int, paint painter) []string {
	out := wrap(title("TCP sockets by memory", &doc.Header, paint), columns, "  ")
	if doc.Matched.Sockets == 0 {
		return appendBlock(append(out, none(doc.Filter)), gapLines(doc.Gaps, columns, paint))
	}
	s := fmt.Sprintf("%s with %s", prose.Plural(doc.Matched.Sockets, "socket"), prose.Bytes(doc.Matched.Bytes))
	if doc.Filter != "" {
		s += " match: " + prose.Escape(doc.Filter)
	}
	out = append(append(out, wrap(s, columns, "  ")...), "")
	out = append(out, socketsTable(doc.Sockets, columns).lines(columns, paint)...)
	if s := moreLine(doc.Truncated.Sockets, "socket", doc.Truncated.Bytes); s != "" {
		out = append(out, s)
	}
	return appendBlock(out, gapLines(doc.Gaps, columns, paint))
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

func socketsTable(rows []api.Socket, columns int) *table {
	t := &table{columns: []column{
		{title: "MEMORY", right: true},
		{title: "STATE"},
		{title: "RECV-Q", right: true, rank: 3},
		{title: "SEND-Q", right: true, rank: 2},
		{title: "LOCAL", least: 15, middle: true},
		{title: "REMOTE", least: 15, middle: true},
		{title: "OWNER", least: 12, middle: true},
	}}
	wide := columns <= 0 || columns >= classColumns
	if wide {
		t.columns = append(t.columns, column{title: "CLASS"}, column{title: "EVIDENCE"})
	}
	for i := range rows {
		s := &rows[i]
		cells := []string{
			prose.Bytes(s.Bytes), s.State, fmt.Sprint(s.RecvQ), fmt.Sprint(s.SendQ),
			optionalText(s.Local), optionalText(s.Remote), prose.Escape(s.OwnerName),
		}
		more := s.Class + " by " + s.Evidence + " "
		if wide {
			cells, more = append(cells, s.Class, s.Evidence), ""
		}
		r := t.add(cells...)
		r.under = append(r.under, more+detail(s))
		if s.TCPInfo != nil {
			r.under = append(r.under, infoWords(s.TCPInfo))
		}
	}
	return t
}

// detail is what ss prints behind a socket: who, where, and its memory.
func detail(s *api.Socket) string {
	parts := []string{skmemWords(&s.SkMem)}
	if h := s.Holder; h != nil {
		parts = append(parts, fmt.Sprintf("users:((%s,pid=%d))", prose.Escape(h.Command), h.PID))
	}
	parts = append(parts, fmt.Sprintf("uid:%d", s.UID), fmt.Sprintf("ino:%d", s.Inode), fmt.Sprintf("sk:%d", s.Cookie),
		fmt.Sprintf("netns:%d", s.Netns.Inode))
	if s.MPTCP {
		parts = append(parts, "mptcp")
	}
	return strings.Join(parts, " ")
}

// skmemWords is skmem as ss(8) prints it with -m.
func skmemWords(m *api.SkMem) string {
	return fmt.Sprintf("skmem:(r%d,rb%d,t%d,tb%d,f%d,w%d,o%d,bl%d,d%d)", m.RmemAlloc, m.Rcvbuf, m.WmemAlloc, m.Sndbuf,
		m.FwdAlloc, m.WmemQueued, m.Optmem, m.Backlog, m.Drops)
}

// infoWords is TCP_INFO in the words of ss(8) with -i.
func infoWords(i *api.TCPInfo) string {
	s := fmt.Sprintf("rtt:%g/%gms rto:%gms cwnd:%d unacked:%d retrans:%d/%d lastsnd:%dms lastrcv:%dms",
		float64(i.RTTMicros)/1000, float64(i.RTTVarMicros)/1000, float64(i.RTOMicros)/1000, i.Cwnd, i.Unacked,
		i.Retrans, i.TotalRetrans, i.LastDataSent, i.LastDataReceived)
	if i.BytesAcked != nil {
		s += fmt.Sprintf(" bytes_acked:%d", *i.BytesAcked)
	}
	if i.BytesReceived != nil {
		s += fmt.Sprintf(" bytes_received:%d", *i.BytesReceived)
	}
	if i.DeliveryRate != nil {
		s += " delivery_rate " + prose.Bytes(int64(min(*i.DeliveryRate, 1<<62))) + "/s"
	}
	return s
}

func optionalText(s *string) string {
	if s == nil {
		return "-"
	}
	return prose.Escape(*s)
}
