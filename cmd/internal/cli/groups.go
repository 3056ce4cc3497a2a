package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/api"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

func (c *command) askGroups(ctx context.Context, src source, by api.By) (any, page, error) {
	doc, err := src.Groups(ctx, by, true)
	if err != nil {
		return nil, nil, err
	}
	if c.json {
		doc.Keep(c.rows())
		return doc, nil, nil
	}
	return doc, func(columns int, paint layout.Painter) []string { return groupsPage(doc, c.rows(), columns, paint) }, nil
}

func groupsPage(doc *api.Groups, limit, columns int, paint layout.Painter) []string {
	m := &doc.Memory
	out := append(head("TCP memory by "+string(doc.By), &doc.Header, m, &doc.Ledger, columns, paint), "")
	n := 0
	for n < len(doc.Groups) && (limit <= 0 || n < limit && doc.Groups[n].Bytes > 0) {
		n++
	}
	if n > 0 {
		out = append(out, groupsTable(doc.Groups[:n], doc.By, words.Whole(&doc.Ledger, m)).Lines(columns, paint)...)
	} else {
		out = append(out, nobody(&doc.Ledger, m))
	}
	more, rest := len(doc.Groups)-n+doc.Truncated.Groups, doc.Truncated.Bytes
	for _, g := range doc.Groups[n:] {
		rest += g.Bytes
	}
	if s := words.More(int64(more), "group", rest); s != "" {
		out = append(out, s)
	}
	return appendBlock(out, words.Rest(&doc.Ledger, m, doc.Gaps, columns, paint))
}

func groupsTable(groups []api.Group, by api.By, whole int64) *layout.Table {
	t := &layout.Table{Columns: []layout.Column{
		{Title: strings.ToUpper(string(by)), Least: 18, Middle: true},
		{Title: "SOCKETS", Right: true},
		{Title: "MEMORY", Right: true},
		{Title: "SHARE", Right: true},
		{Title: "RECV", Right: true, Rank: 7},
		{Title: "SEND", Right: true, Rank: 8},
		{Title: "CLASSES", Least: 10, Rank: 5},
		{Title: "OWNER", Least: 12, Middle: true, Rank: 3},
	}}
	for i := range groups {
		g := &groups[i]
		classes := words.Classes(&g.Classes)
		if by == api.ByClass {
			classes = "-" // the class itself
		}
		t.Add(prose.Escape(g.Name), fmt.Sprint(g.Sockets), prose.Bytes(g.Bytes), prose.Share(g.Bytes, whole),
			optionalBytes(g.ReceiveBytes), optionalBytes(g.SendBytes), classes, ownerCell(g))
	}
	return t
}

// ownerCell names the owner of most bytes and counts the others.
func ownerCell(g *api.Group) string {
	if g.Owner == nil {
		return "-"
	}
	s := prose.Escape(*g.Owner)
	if g.Owners > 1 {
		s += fmt.Sprintf(" +%d", g.Owners-1)
	}
	return s
}

func optionalBytes(n *int64) string {
	if n == nil {
		return "-"
	}
	return prose.Bytes(*n)
}
