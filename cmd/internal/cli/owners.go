package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
	"github.com/tcpmemd/tcpmemd/daemon/reading"
)

func (c *command) owners() *cobra.Command {
	by := string(api.ByOwner)
	cmd := &cobra.Command{
		Use:   "owners",
		Short: "Who holds the TCP memory, biggest first",
		Long: `Show who holds the TCP memory, in which class of socket and by which evidence,
and how much of the kernel's count that explains.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			group, err := api.ParseBy(by)
			if err != nil {
				return usagef("--by: %w", err)
			}
			return c.show(cmd.Context(), func(ctx context.Context, src source) (any, page, error) {
				if group == api.ByOwner {
					return c.askOwners(ctx, src)
				}
				return c.askGroups(ctx, src, group)
			})
		},
	}
	cmd.Flags().StringVar(&by, "by", by, "sum by `WHAT`: owner, unit, process, container, pod, cgroup, netns, class or remote")
	_ = cmd.RegisterFlagCompletionFunc("by", completeBy)
	c.listFlags(cmd)
	c.watchFlag(cmd)
	return cmd
}

func (c *command) askOwners(ctx context.Context, src source) (any, page, error) {
	doc, err := src.Owners(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	if c.json {
		doc.Keep(c.rows())
		return doc, nil, nil
	}
	return doc, func(columns int, paint layout.Painter) []string { return ownersPage(doc, c.rows(), columns, paint) }, nil
}

// ownersPage draws the ledger with at most limit owners, 0 for all.
func ownersPage(doc *api.Owners, limit, columns int, paint layout.Painter) []string {
	m := &doc.Memory
	out := head("TCP memory by owner", &doc.Header, m, &doc.Ledger, columns, paint)
	out = append(out, "")
	if s := holderLine(doc, paint); s != "" {
		out = append(append(out, layout.Wrap(s, columns, "  ")...), "")
	}
	shown, rest := firstOwners(doc.Owners, limit)
	if len(shown) > 0 {
		out = append(out, ownersTable(shown, words.Whole(&doc.Ledger, m)).Lines(columns, paint)...)
	} else {
		out = append(out, nobody(&doc.Ledger, m))
	}
	more := len(doc.Owners) - len(shown) + doc.Truncated.Owners
	if s := words.More(int64(more), "owner", rest+doc.Truncated.Bytes); s != "" {
		out = append(out, s)
	}
	return appendBlock(out, words.Rest(&doc.Ledger, m, doc.Gaps, columns, paint))
}

// head is what every page over the whole ledger begins with.
func head(what string, h *api.Header, m *api.Memory, l *api.Ledger, columns int, paint layout.Painter) []string {
	out := layout.Wrap(words.Title(what, h, paint), columns, "  ")
	out = append(out, layout.Wrap(words.Used(m, paint), columns, "  ")...)
	for _, s := range []string{words.Trend(m, paint), words.Coverage(l, m)} {
		if s != "" {
			out = append(out, layout.Wrap(s, columns, "  ")...)
		}
	}
	return out
}

// nobody is the sentence in place of an empty table.
func nobody(l *api.Ledger, m *api.Memory) string {
	if l.UnseenBytes > l.ReserveMaxBytes {
		return fmt.Sprintf("No socket that the scan saw holds TCP memory, but the kernel counts %s.", prose.Bytes(m.UsedBytes))
	}
	return "No socket holds TCP memory."
}

// holderLine is the answer in one sentence: who holds most of it.
func holderLine(doc *api.Owners, paint layout.Painter) string {
	if len(doc.Owners) == 0 || doc.Owners[0].Bytes <= 0 {
		return ""
	}
	o := &doc.Owners[0]
	s := fmt.Sprintf("%s holds %s: %s in %s", paint.Style(words.Owner(o), layout.Bold),
		prose.Share(o.Bytes, words.Whole(&doc.Ledger, &doc.Memory)), prose.Bytes(o.Bytes), prose.Plural(o.Sockets, "socket"))
	if o.Kind == reading.KindUnresolved {
		s = fmt.Sprintf("nobody could be named for most of it: %s in %s", prose.Bytes(o.Bytes), prose.Plural(o.Sockets, "socket"))
	}
	if o.GrowthBytesPerMinute != nil && *o.GrowthBytesPerMinute != 0 {
		s += ", " + prose.Growth(*o.GrowthBytesPerMinute)
	}
	if o.Verdict != nil {
		s += ", " + words.Verdict(&o.Judgement, paint)
	}
	return s
}

// firstOwners are the first limit owners, and the bytes of the others; owners
// without bytes are shown only when all are asked for.
func firstOwners(owners []api.Owner, limit int) (shown []api.Owner, rest int64) {
	if limit <= 0 {
		return owners, 0
	}
	n := 0
	for n < len(owners) && n < limit && owners[n].Bytes > 0 {
		n++
	}
	for i := range owners[n:] {
		rest += owners[n+i].Bytes
	}
	return owners[:n], rest
}

func ownersTable(owners []api.Owner, whole int64) *layout.Table {
	t := &layout.Table{Columns: []layout.Column{
		{Title: "OWNER", Least: 28, Middle: true}, // units of one product differ at their end
		{Title: "KIND", Rank: 9},
		{Title: "SOCKETS", Right: true},
		{Title: "MEMORY", Right: true},
		{Title: "SHARE", Right: true},
		{Title: "RECV", Right: true, Rank: 7},
		{Title: "SEND", Right: true, Rank: 8},
		{Title: "CLASSES", Least: 10, Rank: 2},
		{Title: "EVIDENCE", Least: 9, Rank: 4},
		{Title: "GROWTH", Right: true, Rank: 5},
		{Title: "VERDICT", Rank: 1},
	}}
	for i := range owners {
		o := &owners[i]
		r := t.Add(words.Owner(o), string(o.Kind), fmt.Sprint(o.Sockets), prose.Bytes(o.Bytes), prose.Share(o.Bytes, whole),
			prose.Bytes(o.ReceiveBytes), prose.Bytes(o.SendBytes), words.Classes(&o.Classes), words.Parts(o.Evidence),
			words.Growth(o.GrowthBytesPerMinute), words.VerdictCell(&o.Judgement))
		r.Cells[len(r.Cells)-1].Style = words.VerdictStyle(&o.Judgement)
	}
	return t
}

// appendBlock appends lines after an empty one, if there are any.
func appendBlock(out, lines []string) []string {
	if len(lines) == 0 {
		return out
	}
	return append(append(out, ""), lines...)
}
