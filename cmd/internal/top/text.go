package top

import (
	"fmt"

	"github.com/tcpmemd/tcpmemd/cmd/internal/layout"
	"github.com/tcpmemd/tcpmemd/cmd/internal/words"
	"github.com/tcpmemd/tcpmemd/daemon/event/prose"
)

// textPage is a page of text, of which a screen is shown.
func (m *Model) textPage() []string {
	text := m.text()
	room := m.height - 2
	from := max(min(m.scroll, len(text)-room), 0)
	title := map[page]string{
		pageKeys: "Keys", pagePolicy: "What the policy does, and what is not known", pageDetails: "What is under the cursor",
	}[m.page]
	if len(text) > room {
		title += fmt.Sprintf(", %d to %d of %s", from+1, min(from+room, len(text)), prose.Plural(int64(len(text)), "line"))
	}
	out := []string{m.Paint.Style(layout.ShortenEnd(title, m.width), layout.Bold)}
	out = append(out, text[from:min(from+room, len(text))]...)
	for len(out) < m.height-1 {
		out = append(out, "")
	}
	return append(out, layout.ShortenEnd("Esc back  up down PgUp PgDn  q quit", m.width))
}

// text is the whole of the page.
func (m *Model) text() []string {
	switch m.page {
	case pageDetails:
		if m.owners == nil {
			return nil
		}
		return m.details()
	case pageKeys:
		var out []string
		for _, k := range keyHelp {
			out = append(out, layout.Wrap(fmt.Sprintf("%-12s %s", k[0], k[1]), m.width, "             ")...)
		}
		return fitted(out, m.width)
	}
	if m.owners == nil {
		return []string{"reading ..."}
	}
	var out []string
	if m.status != nil {
		out = words.Conduct(m.status, m.width, m.Paint)
		if len(m.status.Rules) == 0 {
			out = append(out, fmt.Sprintf("No rule is pending or fires; %s, mode %s.", prose.Plural(int64(m.status.RulesLoaded), "rule"), prose.Escape(m.status.Mode)))
		}
	} else {
		out = append(out, "There is no daemon behind this view, and no policy.")
	}
	mem := m.memory()
	if rest := words.Rest(&m.owners.Ledger, &mem, m.owners.Gaps, m.width, m.Paint); len(rest) > 0 {
		out = append(append(out, ""), rest...)
	}
	return fitted(out, m.width)
}

// foot is the last line: what is typed, or the keys that there are.
func (m *Model) foot() string {
	if in := m.input; in != nil {
		if in.wrong != "" {
			return m.Paint.Style(layout.ShortenEnd(prose.Escape(in.wrong), m.width), layout.Bad)
		}
		line := "/" + prose.Escape(in.text) + "_"
		if layout.Width(line) > m.width { // its end is where one types
			line = ellipsis + lastColumns(line, m.width-1)
		}
		const help = "  Enter takes it, Esc does not"
		if layout.Width(line+help) <= m.width {
			line += help
		}
		return line
	}
	keys := []string{"q quit", "? keys", "/ filter", "Enter sockets", "m g o h u c sort", "space pause", "p policy", "up down"}
	if m.list != nil {
		keys = []string{"q quit", "Esc back", "/ filter", "space pause", "? keys", "p policy", "up down"}
	}
	line := ""
	for _, k := range keys {
		if layout.Width(line)+2+len(k) > m.width {
			break
		}
		if line != "" {
			line += "  "
		}
		line += k
	}
	return line
}

const ellipsis = "…"

// lastColumns is the end of an escaped line, of at most so many columns.
func lastColumns(line string, width int) string {
	runes := []rune(line)
	n, used := len(runes), 0
	for n > 0 {
		used += layout.Width(string(runes[n-1]))
		if used > width {
			break
		}
		n--
	}
	return string(runes[n:])
}
