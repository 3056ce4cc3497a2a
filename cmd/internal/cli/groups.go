package cli

import (
	"context"
	"fmt"
	"strings"

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
	return doc, func(columns int, paint painter) []string { return groupsPage(doc, c.rows(), columns, paint) }, nil
}

func groupsPage(doc *api.Groups, limit, columns int, paint painter) []string {
	m := &doc.Memory
	out := append(head("TCP memory by "+string(doc.By), &doc.Header, m, &doc.Ledger, columns, paint), "")
	n := 0
	for n < len(doc.Groups) && (limit <= 0 || n < limit && doc.Groups[n].Bytes > 0) {
		n++
	}
	if n > 0 {
		out = append(out, groupsTable(doc.Groups[:n], doc.By, whole(&doc.Ledger, m)).lines(columns, paint)...)
	} else {
		out = append(out, nobody(&doc.Ledger, m))
	}
	more, rest := len(doc.Groups)-n+doc.Truncated.Groups, doc.Truncated.Bytes
	for _, g := range doc.Groups[n:] {
		rest += g.Bytes
	}
	if s := moreLine(int64(more), "group", rest); s != "" {
		out = append(out, s)
	}
	return appendBlock(out, restLines(&doc.Ledger, m, doc.Gaps, columns, paint))
}

func groupsTable(groups []api.Group, by api.By, whole int64) *table {
	t := &table{columns: []column{
		{title: strings.ToUpper(string(by)), least: 18, middle: true},
		{title: "SOCKETS", right: true},
		{title: "MEMORY", right: true},
		{title: "SHARE", right: true},
		{title: "RECV", right: true, rank: 7},
		{title: "SEND", right: true, rank: 8},
		{title: "CLASSES", least: 10, rank: 5},
		{title: "OWNER", least: 12, middle: true, rank: 3},
	}}
	for i := range groups {
		g := &groups[i]
		classes := classWords(&g.Classes)
		if by == api.ByClass {
			classes = "-" // the class itself
		}
		t.add(prose.Escape(g.Name), fmt.Sprint(g.Sockets), prose.Bytes(g.Bytes), prose.Share(g.Bytes, whole),
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
